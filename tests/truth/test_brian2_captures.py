"""Brian2 networks as models: captures equal Brian2's own monitors, and networks are handed back as they were."""

from __future__ import annotations

import brian2 as b2
import numpy as np
import pytest
import torch
from brian2 import ms

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError
from tests.slow import slow_case
from tests.truth.brian2_networks import (
    a_cable,
    everything,
    lif,
    plain_runs_in_numpy,  # noqa: F401 - used by every test
    raster,
)

# -- captures against Brian2 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock_at", [0, 50])
def test_captures_equal_brian2s_own_monitors_bit_for_bit(clock_at):
    other = b2.Network(lif(1))
    other.run(clock_at * ms)  # all networks share the default clock; spike lists look at it
    network = everything()
    model = nm.adapt(network, duration=20 * ms, seed=3)
    captured = model.capture(2, "*")
    assert not torch.equal(captured["E.v"][0], captured["E.v"][1])
    for trial in range(2):
        network.store()
        b2.seed(model.trial_seed(trial))
        network.run(20 * ms)
        states, weights = network["mv"], network["mw"]
        # a step begins with what is due; `drift` is summed later in the step, before the cells read it
        for name in ("v", "g", "I", "K", "noise"):
            assert torch.equal(captured[f"E.{name}"][trial].T, torch.from_numpy(getattr(states, name))), name
        assert torch.equal(captured["E.drift"][trial, :-1].T, torch.from_numpy(states.drift[:, 1:]))
        for name in ("w", "tr"):
            assert torch.equal(captured[f"EE.{name}"][trial].T, torch.from_numpy(getattr(weights, name))), name
        for name in ("E", "P", "G"):
            assert torch.equal(captured[f"{name}.spikes"][trial], raster(network[f"m{name}"], 200)), name
        assert captured["E.spikes"][trial].sum() > 20
        network.restore()


def two_pathways_of_one_synapse():
    cells = lif(3, name="G")
    cells.I = 2
    synapses = b2.Synapses(
        cells,
        cells,
        "w : 1",
        on_pre={"first": "v_post += w", "second": "v_post -= w / 2"},
        on_post="w += 0.1",
        delay={"first": 1 * ms, "second": 2 * ms},
        name="S",
    )
    synapses.connect(condition="i != j")
    synapses.w = 0.01
    return b2.Network(cells, synapses)


def resets_before_integration():
    network = two_pathways_of_one_synapse()
    network.schedule = ["start", "thresholds", "resets", "groups", "synapses", "end"]
    return network


def another_dt_halfway():
    network = two_pathways_of_one_synapse()
    network.run(12 * ms)  # with spikes under way
    network["G"].clock.dt = 0.2 * ms
    return network


@pytest.mark.parametrize("build", [a_cable, two_pathways_of_one_synapse, resets_before_integration, another_dt_halfway])
def test_other_networks_equal_brian2s_own_monitors(build):
    network = build()
    dt = network["G"].clock.dt_
    try:
        captured = nm.adapt(network, duration=20 * ms).capture(1, "*")
        start, cells = network.t_, network["G"]
        states = b2.StateMonitor(cells, "v", record=True, when="before_groups")
        network.add(states)
        if "G.spikes" in captured:
            spikes = b2.SpikeMonitor(cells)
            weights = b2.StateMonitor(network["S"], "w", record=True, when="before_groups")
            network.add(spikes, weights)
        network.run(20 * ms)
        assert torch.equal(captured["G.v"][0].T, torch.from_numpy(states.v_))
        if "G.spikes" in captured:
            assert torch.equal(captured["S.w"][0].T, torch.from_numpy(weights.w))
            steps = np.round((spikes.t_[:] - start) / dt).astype(int)
            assert captured["G.spikes"].sum() == len(steps) > 5
            assert captured["G.spikes"][0, steps, spikes.i[:]].all()
    finally:
        b2.defaultclock.dt = 0.1 * ms


def test_shared_numbers_whole_numbers_truth_values_and_links():
    source = b2.NeuronGroup(3, "x : 1", name="H")
    cells = b2.NeuronGroup(
        3,
        """dv/dt = (scale*count + link - v) / (5*ms) : 1
        scale : 1 (shared)
        count : integer
        flag : boolean
        link : 1 (linked)""",
        method="euler",
        name="G",
    )
    cells.scale, cells.count, cells.link, source.x = 2, [1, 2, 3], b2.linked_var(source, "x"), 5
    model = nm.adapt(b2.Network(cells, source), duration=1 * ms)
    assert "H.x" in model.sites().withheld["G.link"]
    edits = [nm.Scale("G.scale[time=0:5]", 0.5), nm.Replace("G.count[unit=1]", 7), nm.Replace("G.flag[time=3]", True)]
    seen = model.run(2, [*edits, nm.Zero("H.x[sample=1]")], capture="*").activations
    assert seen["G.scale"].tolist() == [[1] * 5 + [2] * 5] * 2
    assert seen["G.count"][0, 0].tolist() == [1, 7, 3]
    assert torch.nonzero(seen["G.flag"][0])[:, 0].unique().tolist() == [3]
    assert seen["G.v"][0, 1].tolist() == [0.02 * (k + 5) for k in (1, 7, 3)]
    assert seen["G.v"][1, 1].tolist() == [0.02 * k for k in (1, 7, 3)]
    with pytest.raises(InputError, match="fractions into whole numbers"):
        model.run(1, nm.Add("G.count", 0.5))
    driven = nm.adapt(model.network, input="G.scale").capture(np.arange(10.0).reshape(2, 5), "G.scale")
    assert driven["G.scale"].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_trials_are_apart_repeatable_and_independent_of_the_batch():
    model = nm.adapt(everything(), duration=10 * ms, seed=1)
    whole = model.capture(3, ["E.v", "P.spikes"])
    again = model.capture(3, ["E.v", "P.spikes"], batch_size=1)
    for name in whole:
        assert torch.equal(whole[name], again[name])
    other = nm.adapt(model.network, duration=10 * ms, seed=2).capture(1, "E.v")
    assert not torch.equal(other["E.v"][0], whole["E.v"][0])
    assert not torch.equal(whole["E.v"][0], whole["E.v"][1])


def test_labels_are_times_in_seconds_and_the_two_ends_of_synapses():
    network = everything()
    network.run(1 * ms)
    model = nm.adapt(network, duration=2 * ms)
    captured = model.capture(1, ["E.v[time=5:8]", "EE.w[time=5:8, synapse=[3, 0]]"])
    assert np.allclose(captured.xarray("E.v[time=5:8]").time, [1.5e-3, 1.6e-3, 1.7e-3])
    synapses = network["EE"]
    ends = [f"{synapses.i[k]}->{synapses.j[k]}" for k in (3, 0)]
    assert captured.xarray("EE.w[time=5:8, synapse=[3, 0]]").synapse.values.tolist() == ends
    # synapses onto a subgroup are labelled by the cells' numbers in the whole group, as sites count them
    labels = model.capture(1, "PE.w").xarray("PE.w").synapse.values
    assert labels[0] == f"{network['PE'].i[0]}->{network['PE'].j[0] + 5}"
    run = model.run(1, capture=["E.v", "E.spikes"])
    assert run.activations.xarray("E.spikes").dims == ("sample", "time", "unit")
    assert run.activations.provenance is not None


# -- the network is handed back as it was ------------------------------------------------------------------------------


def everything_about(network):
    """All that could tell that somebody has used a network."""
    plain = {one.name: one.name.rstrip("_0123456789") for one in network}  # names that Brian2 gave are numbered on
    objects = sorted(network, key=lambda one: one.name)
    state = network._full_state()
    numbers = {
        (owner.rstrip("_0123456789"), name): np.array(value[0])
        for owner, variables in state.items()
        if isinstance(variables, dict)
        for name, value in variables.items()
        if isinstance(value, tuple) and name != "_spikequeue"
    }
    queues = {one.name: repr(one.queue._full_state()) for one in objects if hasattr(one, "queue")}
    attributes = {plain[one.name]: (one.active, tuple(sorted(vars(one)))) for one in objects}
    return numbers, (queues, attributes, network.t_, b2.prefs.as_file, b2.defaultclock.dt_, sorted(vars(network)))


def assert_same(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    for key in one[0]:
        np.testing.assert_array_equal(one[0][key], other[0][key], err_msg=str(key))


class OnPurposeError(Exception):
    pass


def fail(_):
    raise OnPurposeError


@pytest.mark.parametrize(("how", "already"), [("plain", 0), slow_case("edited", 0), ("edited", 7), ("raising", 7)])
def test_a_network_is_handed_back_as_it_was(how, already):
    network, twin = everything(), everything()
    for one in (network, twin):
        b2.seed(4)
        if already:
            one.run(already * ms)
    b2.prefs.codegen.target = "auto"
    b2.seed(9)
    before, random = everything_about(network), np.random.get_state()  # noqa: NPY002
    model = nm.adapt(network, duration=5 * ms)
    if how == "plain":
        model.run(2, capture="*")
    elif how == "edited":
        edits = [nm.Add("E.I", 0.5), nm.Zero("E.spikes[unit=0:5]"), nm.Scale("PE.w", 0.0), nm.Clamp("E.v", maximum=0.5)]
        model.run(2, [*edits, nm.Add("EE.w", 0.1), nm.Add("E.drift", 0.1), nm.Scale("E.tau_k", 2.0)])
    else:
        for site in ("E.v", "E.I", "E.noise", "E.spikes", "PE.w"):
            with pytest.raises(OnPurposeError):
                model.run(1, nm.Apply(f"{site}[time=9]" if "PE" not in site else site, fail))
    assert_same(everything_about(network), before)
    assert b2.prefs.codegen.target == "auto"
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), random, strict=True))  # noqa: NPY002
    b2.prefs.codegen.target = "numpy"
    for one in (network, twin):
        b2.seed(5)
        one.run(10 * ms)
    assert_same(everything_about(network), everything_about(twin))


def test_recordings_of_the_user_survive():
    cells = lif(3)
    cells.I = 2
    recorder = b2.StateMonitor(cells, "v", record=True)
    network = b2.Network(cells, recorder)
    network.run(2 * ms)
    recorded = recorder.v.copy()
    nm.adapt(network, duration=30 * ms).capture(2, "E.v")
    assert np.array_equal(recorder.v, recorded)
    assert cells._network == network.id  # Brian2 warns of objects that belong to none when they are deleted


def test_brian2s_magic_network_goes_on_undisturbed():
    b2.start_scope()
    magic = lif(1, name="magic")
    magic.I = 2
    b2.run(1 * ms)
    voltage = magic.v_[0]
    nm.adapt(b2.Network(lif(2)), duration=3 * ms).run(2, nm.Add("E.I", 1.0))
    b2.run(1 * ms)
    assert b2.magic_network.t_ == pytest.approx(2e-3)
    assert magic.v_[0] == pytest.approx(2 - (2 - voltage) * np.exp(-0.1))


def test_code_is_generated_for_numpy_unless_asked_otherwise():
    seen = []

    @b2.network_operation
    def look():
        seen.append(b2.prefs.codegen.target)

    network = b2.Network(lif(2), look)
    b2.prefs.codegen.target = "auto"
    nm.adapt(network, duration=0.1 * ms).run(1)
    assert (seen, b2.prefs.codegen.target) == (["numpy"], "auto")
    b2.prefs.codegen.target = "numpy"


def test_the_fingerprint_tells_networks_states_and_options_apart():
    network = everything()
    model = nm.adapt(network, duration=5 * ms)
    prints = {model.fingerprint()}
    model.run(1)
    assert model.fingerprint() in prints
    prints |= {
        nm.adapt(network, duration=6 * ms).fingerprint(),
        nm.adapt(network, duration=5 * ms, seed=1).fingerprint(),
    }
    network["E"].I = 0
    prints.add(model.fingerprint())
    network["PE"].w = 0
    prints.add(model.fingerprint())
    assert len(prints) == 5


def test_captures_stream_to_disk_and_are_continued(tmp_path):
    model = nm.adapt(everything(), duration=5 * ms)
    store = model.capture(3, ["E.v", "E.spikes"], batch_size=2, to=tmp_path / "store.zarr")
    memory = model.capture(3, ["E.v", "E.spikes"])
    for name in memory:
        assert torch.equal(store[name], memory[name])


@pytest.mark.parametrize("later", [[], [1, 3], [1, 3, 5]])
def test_stored_input_spikes_are_sent_after_others_were_set_and_the_network_was_restored(later):
    """Brian2's restore() forgets when they were: its own run() then sends them at the times of the later ones."""
    source = b2.SpikeGeneratorGroup(1, [0, 0], [2, 7] * ms, dt=1 * ms, name="source")
    network = b2.Network(source)
    network.store()
    source.set_spikes([0] * len(later), later * ms)
    network.run(10 * ms)
    network.restore()
    captured = nm.adapt(network, duration=10 * ms).capture(1, "source.spikes")["source.spikes"]
    assert captured[0, :, 0].nonzero()[:, 0].tolist() == [2, 7]
