"""Edits of Brian2 networks against what must come out: closed forms, lesioned networks, Brian2's own runs."""

from __future__ import annotations

import brian2 as b2
import numpy as np
import pytest
import torch
from brian2 import Hz, ms, mV, nA

import neuros_mechint as nm
from neuros_mechint.adapters.batches import Batch
from tests.truth.brian2_networks import (
    DT,
    a_cable,
    everything,
    lif,
    plain_runs_in_numpy,  # noqa: F401 - used by every test
)


def noisy_network(n=1000, connected=True):
    np.random.seed(1)  # noqa: NPY002
    cells = b2.NeuronGroup(
        n,
        "dv/dt = (I - v) / (10*ms) + 0.6*xi*(10*ms)**-0.5 : 1 (unless refractory)\nI : 1",
        threshold="v > 1",
        reset="v = 0",
        refractory=2 * ms,
        method="euler",
        name="E",
    )
    cells.I, cells.v = 1.05, "rand()"
    if not connected:
        return b2.Network(cells)
    synapses = b2.Synapses(cells, cells, "w : 1", on_pre="v_post += w", delay=1 * ms, name="EE")
    synapses.connect(p=0.05)
    synapses.w = 0.01
    return b2.Network(cells, synapses)


def test_fifty_silenced_cells_of_a_thousand_never_spike_and_without_synapses_the_others_do_not_notice():
    silence = nm.Zero("E.spikes[unit=100:150]")
    others = [*range(100), *range(150, 1000)]
    for connected in (False, True):
        model = nm.adapt(noisy_network(connected=connected), duration=50 * ms)
        plain, silenced = model.run(1), model.run(1, silence, capture=["E.v", "E.spikes"])
        before, after = plain.output["E.spikes"][0], silenced.output["E.spikes"][0]
        assert torch.equal(after, silenced.activations["E.spikes"][0])
        assert before[:, 100:150].sum() > 50
        assert after[:, 100:150].sum() == 0
        assert torch.equal(before[:, others], after[:, others]) is not connected
        assert before[:, others].sum() > 1000


def test_cells_are_silenced_only_in_the_window():
    model = nm.adapt(noisy_network(100), duration=60 * ms)
    spikes = model.run(1, nm.Zero("E.spikes[time=200:400]")).output["E.spikes"][0]
    assert spikes[200:400].sum() == 0
    assert torch.equal(spikes[:200], model.run(1).output["E.spikes"][0, :200])
    assert spikes[400:].sum() > 50


@pytest.mark.parametrize("refractory", [0.0, 2.0])
def test_an_added_current_gives_the_closed_form_interval_between_spikes(refractory):
    currents = [1.2, 2.0, 5.0]
    model = nm.adapt(b2.Network(lif(3, refractory=refractory * ms)), duration=100 * ms)
    assert not model.run(1).output["E.spikes"].any()
    spikes = model.run(1, nm.Add("E.I", currents)).output["E.spikes"][0]
    for cell, current in enumerate(currents):
        intervals = DT * torch.diff(torch.nonzero(spikes[:, cell])[:, 0])
        assert len(intervals) > 2
        assert len(set(intervals.tolist())) == 1
        charging = 10 * np.log(current / (current - 1))
        assert abs(intervals[0] - (refractory + charging)) < DT
        # the threshold is seen at the end of a step, and the step of a spike is the first of the refractory ones
        steps = np.ceil(charging / DT) + max(round(refractory / DT) - 1, 0)
        assert round(float(intervals[0] / DT)) == steps


def test_a_pulse_of_current_equals_brian2_told_to_change_the_current():
    cells = lif(3)
    cells.I = [0.5, 0.75, 1.5]
    recorder = b2.StateMonitor(cells, ["v", "I"], record=True)
    network = b2.Network(cells, recorder)
    edit = nm.Add("E.I[time=100:250, unit=0:2]", 1.0)
    run = nm.adapt(network, duration=50 * ms).run(1, edit, capture=["E.v", "E.I"])
    for change, length in ((0, 10), (1, 15), (-1, 25)):
        cells.I[:2] += change
        network.run(length * ms)
    for name in ("v", "I"):
        assert torch.equal(run.activations[f"E.{name}"][0].T, torch.from_numpy(getattr(recorder, name)))


def test_an_edit_of_a_state_is_carried_on_and_nothing_moves_before_it():
    model = nm.adapt(b2.Network(lif(2)), duration=20 * ms)
    pushed = model.capture(1, "E.v")["E.v"][0]
    assert not pushed.any()
    pushed = model.run(1, nm.Add("E.v[time=50, unit=1]", 0.5), capture="E.v").activations["E.v"][0]
    assert not pushed[:, 0].any()
    assert not pushed[:50].any()
    elapsed = DT * torch.arange(150, dtype=torch.float64)
    torch.testing.assert_close(pushed[50:, 1], 0.5 * torch.exp(-elapsed / 10), rtol=1e-12, atol=0)


def test_an_edit_of_a_compartment_spreads_along_the_cable():
    model = nm.adapt(a_cable(), duration=5 * ms)
    plain = model.capture(1, "G.v")["G.v"][0]
    pushed = model.run(1, nm.Add("G.v[time=20, unit=0]", 10 * mV), capture="G.v").activations["G.v"][0] - plain
    assert not pushed[:20].any()
    assert pushed[20].tolist() == pytest.approx([0.01, 0, 0, 0, 0, 0], abs=1e-12)
    assert (pushed[22:, 1:] > 0).all()
    assert (torch.diff(pushed[20:, 0]) < 0).all()
    clamped = model.run(1, nm.Replace("G.v[unit=0]", -70 * mV), capture="G.v").activations["G.v"][0]
    assert (clamped[:, 0] == -0.07).all()
    assert clamped.max() < plain.max()


def test_a_voltage_clamp_holds_and_a_clamped_cell_never_spikes():
    cells = b2.NeuronGroup(
        3,
        "dv/dt = (-70*mV - v + R*I) / (10*ms) : volt\nI : amp\nR : ohm (constant)",
        threshold="v > -50*mV",
        reset="v = -70*mV",
        method="exact",
        name="E",
    )
    cells.v, cells.I, cells.R = -70 * mV, 0.5 * nA, 100e6 * b2.ohm
    model = nm.adapt(b2.Network(cells), duration=50 * ms)
    run = model.run(1, nm.Replace("E.v[unit=1]", -60 * mV), capture="E.v")
    assert (run.activations["E.v"][0, :, 1] == -0.06).all()
    counts = run.output["E.spikes"][0].sum(0)
    assert counts[1] == 0
    assert counts[0] == counts[2] > 5
    limited = model.run(1, nm.Clamp("E.v", maximum=-55 * mV), capture="E.v").activations["E.v"]
    assert limited.max() == -0.055
    doubled = model.run(1, nm.Scale("E.R", 2.0), capture="E.R")
    assert (doubled.activations["E.R"] == 200e6).all()
    assert doubled.output["E.spikes"].sum() > run.output["E.spikes"].sum()


def two_pathways(keep=("AE", "BE")):
    np.random.seed(3)  # noqa: NPY002
    cells = lif(30)
    cells.I, cells.v = 0.8, "rand()"
    sources = [b2.PoissonGroup(20, 100 * Hz, name=name) for name in "AB"]
    synapses = []
    for source in sources:
        one = b2.Synapses(source, cells, "w : 1", on_pre="v_post += w", delay=1 * ms, name=f"{source.name}E")
        one.connect(p=0.3)
        one.w = "0.1 + 0.1*rand()"
        synapses.append(one)
    return b2.Network(cells, *sources, *[one for one in synapses if one.name in keep])


def test_weights_scaled_to_zero_equal_the_network_without_that_pathway():
    whole, without = (nm.adapt(two_pathways(keep), duration=40 * ms) for keep in (("AE", "BE"), ("AE",)))
    lesioned = whole.run(2, nm.Scale("BE.w", 0.0), capture="E.v")
    by_hand = without.run(2, capture="E.v")
    assert torch.equal(lesioned.activations["E.v"], by_hand.activations["E.v"])
    assert not torch.equal(lesioned.output["E.spikes"], whole.run(2).output["E.spikes"])


def test_single_synapses_are_cut_by_their_number():
    network = two_pathways()
    synapses = network["AE"]
    onto = np.flatnonzero(np.asarray(synapses.j[:]) == 7).tolist()
    run = nm.adapt(network, duration=5 * ms).run(1, nm.Zero(f"AE.w[synapse={onto}]"), capture="AE.w")
    weights = run.activations["AE.w"][0]
    assert torch.equal(torch.nonzero(weights == 0)[:, 0], torch.tensor(onto))
    assert torch.equal(weights[weights != 0], torch.from_numpy(synapses.w_[np.setdiff1d(range(len(synapses)), onto)]))


def test_plastic_weights_have_a_course_and_can_be_frozen():
    model = nm.adapt(everything(), duration=30 * ms)
    assert model.sites()["EE.w"].dims == ("sample", "time", "synapse")
    assert model.sites()["EE.s"].dims == ("sample", "synapse")
    free = model.capture(1, "EE.w")["EE.w"][0]
    assert not torch.equal(free[0], free[-1])
    frozen = model.run(1, nm.Replace("EE.w", free[0]), capture="EE.w").activations["EE.w"][0]
    assert torch.equal(frozen, free[0].expand_as(frozen))


PAIRS = [
    (nm.Zero, (), torch.zeros_like),
    (nm.Replace, (0.25,), lambda x: torch.full_like(x, 0.25)),
    (nm.Add, (0.3, 0.5), lambda x: x + 0.5 * 0.3),
    (nm.Scale, (0.7,), lambda x: x * 0.7),
    (nm.Clamp, (None, 0.4), lambda x: x.clamp(None, 0.4)),
    (nm.Clamp, (0.1, 0.4), lambda x: x.clamp(0.1, 0.4)),
]
"""An edit of each kind, and the function that does the same through `nm.Apply`, step by step."""


TIMED = ["E.v", "E.I", "E.noise", "E.drift", "EE.w"]
PLACES = [*((site, window) for site in TIMED for window in ("", "time=10:25, ")), ("PE.w", ""), ("E.tau_k", "")]


@pytest.fixture(scope="module")
def edited_and_applied():
    """What is seen without edits, then under the edits of each place and under their functions: one generated code."""
    model = nm.adapt(everything(), duration=3 * ms)
    interventions = [[]]
    for site, window in PLACES:
        entries = ("0", "1:3", "[5, 3]", "6", "7", "8:12:2")
        parts = [f"{site}[{window}{model.sites()[site].dims[-1]}={one}]" for one in entries]
        interventions.append([kind(part, *arguments) for part, (kind, arguments, _) in zip(parts, PAIRS, strict=True)])
        interventions.append([nm.Apply(part, function) for part, (*_, function) in zip(parts, PAIRS, strict=True)])
    names = [*TIMED, "PE.w", "E.tau_k", "E.spikes"]
    _, found = model.observe_copies(Batch.of((np.arange(2),), {}), interventions, names)
    copies = {name: values.unflatten(0, (-1, 2)) for name, values in found.items()}
    return (
        model,
        interventions,
        [{name: values[copy] for name, values in copies.items()} for copy in range(len(interventions))],
    )


@pytest.mark.parametrize("place", PLACES)
def test_every_edit_does_what_its_function_does(place, edited_and_applied):
    first = 1 + 2 * PLACES.index(place)
    plain, edited, applied = (edited_and_applied[2][copy] for copy in (0, first, first + 1))
    for name in plain:
        assert torch.equal(edited[name], applied[name]), name
    assert not torch.equal(edited[place[0]], plain[place[0]])


def test_interventions_in_one_lent_network_equal_runs_of_their_own(edited_and_applied):
    model, interventions, found = edited_and_applied
    for copy in (0, 7):
        alone = model.run(2, interventions[copy], capture=["E.v", "EE.w"])
        for name in alone.activations:
            assert torch.equal(alone.activations[name], found[copy][name])


def test_edits_by_direction_by_sample_and_from_other_runs():
    model = nm.adapt(everything(), duration=5 * ms)
    names = ["E.v", "E.spikes"]
    plain = model.capture(3, names)
    direction = torch.ones(20, dtype=torch.float64)
    flat = model.run(3, nm.Project("E.v[time=20]", direction), capture="E.v").activations["E.v"]
    assert flat[:, 20].mean(-1).abs().max() < 1e-12
    one = model.run(3, nm.Replace("E.v[sample=1]", plain["E.v"][0]), capture=names)
    assert torch.equal(one.activations["E.v"][1], plain["E.v"][0])
    for sample in (0, 2):
        assert torch.equal(one.activations["E.v"][sample], plain["E.v"][sample])
    mean = model.run(3, nm.Mean("E.v", plain), capture="E.v").activations["E.v"]
    torch.testing.assert_close(mean, plain["E.v"].mean((0, 1), keepdim=True).expand_as(mean))
    cycle = model.run(3, nm.Resample("E.spikes", plain, seed=0), capture="E.spikes").activations["E.spikes"]
    assert all(not torch.equal(cycle[k], plain["E.spikes"][k]) for k in range(3))
    assert sorted(cycle.sum((1, 2)).tolist()) == sorted(plain["E.spikes"].sum((1, 2)).tolist())


def test_a_spike_given_resets_and_is_refractory_one_taken_away_is_neither():
    cells = lif(2, refractory=5 * ms)
    cells.I = [0.5, 2.0]
    model = nm.adapt(b2.Network(cells), duration=30 * ms)
    plain = model.run(1, capture="E.v")
    given = model.run(1, nm.Replace("E.spikes[time=100, unit=0]", 1), capture="E.v")
    assert torch.nonzero(given.output["E.spikes"][0, :, 0]).flatten().tolist() == [100]
    v = given.activations["E.v"][0, :, 0]
    assert v[100] > 0.2
    assert not v[101:151].any()  # reset, then refractory for 5 ms
    assert v[152] > 0
    first = int(torch.nonzero(plain.output["E.spikes"][0, :, 1])[0])
    taken = model.run(1, nm.Zero(f"E.spikes[time={first}, unit=1]"), capture="E.v")
    v = taken.activations["E.v"][0, :, 1]
    assert v[first + 1] > 1  # not reset, and not refractory: it spikes in the next step
    assert torch.nonzero(taken.output["E.spikes"][0, :, 1])[0] == first + 1


def test_generated_and_poisson_spikes_are_edited_like_those_of_cells():
    model = nm.adapt(everything(), duration=10 * ms)
    run = model.run(1, [nm.Zero("G.spikes"), nm.Replace("P.spikes[time=5]", 1)], capture=["G.spikes", "P.spikes"])
    assert not run.activations["G.spikes"].any()
    assert run.activations["P.spikes"][0, 5].all()
    assert not torch.equal(run.output["E.spikes"], model.run(1).output["E.spikes"])


def test_what_python_code_sets_is_edited_for_the_step_and_closed_loops_stay_closed():
    cells = lif(2)
    counter = b2.SpikeMonitor(cells, name="counter")
    seen = []

    @b2.network_operation
    def controller():
        seen.append(cells.I_[0])
        cells.I_[1] = 3.0 if len(counter.i) else 0.0

    model = nm.adapt(b2.Network(cells, controller, counter), duration=30 * ms)
    run = model.run(1, nm.Add("E.I[time=0:100, unit=0]", 2.0), capture="E.I")
    current = run.activations["E.I"][0]
    assert (current[:100, 0] == 2).all()
    assert not current[100:, 0].any()
    assert not any(seen)  # between steps the variable is what the network made it
    spikes = run.output["E.spikes"][0]
    first = int(torch.nonzero(spikes[:, 0])[0])
    assert torch.equal(current[:, 1] == 3, torch.arange(300) > first)
    assert spikes[:, 1].any()


def test_patching_takes_a_brian2_network_like_any_model():
    def drive(strength):
        stimulus = np.zeros((2, 200, 4))
        stimulus[:, :, 1] = strength
        return stimulus

    cells = lif(4)
    model = nm.adapt(b2.Network(cells), input="E.I")
    patcher = nm.ActivationPatcher(model, lambda output: output["E.spikes"][:, :, 1].sum(1).double())
    effects = patcher.sweep(drive(3.0), drive(0.0), sites=["E.spikes", "E.I"], by=("unit",)).normalized()
    assert np.allclose(effects.sel(site="E.I"), [0, 1, 0, 0])
    assert np.allclose(effects.sel(site="E.spikes"), [0, 1, 0, 0])
