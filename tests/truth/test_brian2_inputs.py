"""Stimuli for Brian2 networks, units, and input that is refused."""

from __future__ import annotations

import brian2 as b2
import numpy as np
import pytest
import torch
import xarray as xr
from brian2 import Hz, amp, ms, mV, nA, second, volt

import neuros_mechint as nm
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, SiteError, SiteWithheldError
from tests.truth.brian2_networks import (
    everything,
    lif,
    plain_runs_in_numpy,  # noqa: F401 - used by every test
)


@pytest.fixture(scope="module")
def everything_once():
    return nm.adapt(everything(), duration=3 * ms)


# -- stimuli ---------------------------------------------------------------------------------------------------------


def with_units():
    cells = b2.NeuronGroup(
        2,
        "dv/dt = (-70*mV - v + 100*Mohm*(I + extra(t, i))) / (10*ms) : volt\nI : amp",
        threshold="v > -50*mV",
        reset="v = -70*mV",
        method="euler",
        name="E",
    )
    cells.v = -70 * mV
    return cells


def test_a_stimulus_is_the_same_through_a_variable_a_timed_array_and_brian2_itself():
    rng = np.random.default_rng(0)
    stimulus = rng.uniform(0, 0.5, (2, 300, 2))
    extra = b2.TimedArray(np.zeros((1, 2)) * nA, dt=0.1 * ms)
    network = b2.Network(with_units())
    by_variable = nm.adapt(network, input="E.I").run(stimulus * nA, capture="E.v")
    in_numbers = nm.adapt(network, input="E.I", unit=nA).capture(torch.from_numpy(stimulus), "E.v")
    by_array = nm.adapt(network, input="extra").capture(stimulus * nA, "E.v")
    assert by_variable.output["E.spikes"].sum() > 3
    torch.testing.assert_close(in_numbers["E.v"], by_variable.activations["E.v"], rtol=1e-12, atol=0)
    torch.testing.assert_close(by_array["E.v"], by_variable.activations["E.v"], rtol=1e-12, atol=0)
    for trial in range(2):
        cells = with_units()
        recorder = b2.StateMonitor(cells, "v", record=True)
        played = b2.TimedArray(stimulus[trial] * nA, dt=0.1 * ms)
        b2.Network(cells, recorder).run(30 * ms, namespace={"extra": played})
        assert torch.equal(by_array["E.v"][trial].T, torch.from_numpy(recorder.v_))
    assert extra.values.shape == (1, 2)
    timed = nm.adapt(network, input="E.I").run(stimulus * nA, nm.Zero("E.I[time=100:]"), capture="E.I")
    expected = torch.from_numpy(stimulus * 1e-9)
    expected[:, 100:] = 0
    torch.testing.assert_close(timed.activations["E.I"], expected, rtol=1e-15, atol=0)


def test_a_timed_array_in_a_group_s_own_namespace_is_played_from_the_trial_s_begin():
    plays = b2.TimedArray([0.0, 1.0], dt=1 * ms)
    cells = b2.NeuronGroup(1, "x = plays(t) : 1 (constant over dt)", namespace={"plays": plays}, name="H")
    network = b2.Network(cells)
    network.run(5 * ms)
    model = nm.adapt(network, input="plays", output="H.x")
    assert model.run(np.array([[3.0, 4.0], [5.0, 6.0]])).output["H.x"][:, ::10, 0].tolist() == [[3, 4], [5, 6]]
    assert cells.namespace["plays"] is plays


def test_rates_of_poisson_cells_are_a_stimulus():
    stim = b2.TimedArray(np.zeros((2, 3)) * Hz, dt=5 * ms)
    model = nm.adapt(b2.Network(b2.PoissonGroup(3, "stim(t, i)", name="P")), input="stim", unit=Hz)
    rates = np.zeros((2, 3, 3))
    rates[0, :, 1] = rates[1, 2, 0] = 1e4  # a spike in every step
    assert model.run(rates).output["P.spikes"].sum(1).tolist() == [[0, 150, 0], [50, 0, 0]]
    assert stim.values.shape == (2, 3)


def test_a_stimulus_lasts_for_its_own_time_on_a_slower_clock():
    slow = b2.NeuronGroup(2, "dv/dt = (I - v) / (10*ms) : 1\nI : 1", dt=0.5 * ms, method="exact", name="slow")
    fast = lif(1, name="fast")
    model = nm.adapt(b2.Network(slow, fast), input="slow.I")
    captured = model.capture(np.ones((1, 20, 2)), ["slow.v", "fast.v"])
    assert captured["slow.v"].shape == (1, 20, 2)
    assert captured["fast.v"].shape == (1, 100, 1)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ("E.vv", "did you mean 'E.v'"),
        ("Ee.v", "no group 'Ee'"),
        ("never_recorded.spikes", "no group 'never_recorded'"),
        ("E.v[time=1000]", "out of range"),
        ("E.v[cell=3]", "no axis 'cell'"),
        ("PE.w[time=3]", "no axis 'time'"),
        ("E.tau_k[time=3]", "no axis 'time'"),
    ],
)
def test_unknown_sites_are_named_with_near_ones(everything_once, site, words):
    for attempt in (everything_once.capture, lambda trials, where: everything_once.run(trials, nm.Zero(where))):
        with pytest.raises(SiteError, match=words.replace("'", ".")):
            attempt(1, site)


@pytest.mark.parametrize(
    ("site", "words"),
    [
        ("E.J", "subexpression"),
        ("EE.late", "event-driven"),
        ("E.i", "read-only"),
        ("EE.N", "read-only"),
        ("E.lastspike", "edit the spikes"),
        ("E.t", "belongs to defaultclock"),
        ("EE.v_post", "ask for 'E.v'"),
    ],
)
def test_what_is_no_site_says_why(everything_once, site, words):
    with pytest.raises(SiteWithheldError, match=words):
        everything_once.run(1, nm.Zero(site))


def test_a_subgroup_is_named_as_a_part_of_its_group(everything_once):
    name = everything_once.network["PE"].target.name
    with pytest.raises(SiteWithheldError, match=r"a subgroup; name that part of its group: 'E.VARIABLE\[unit=5:20\]'"):
        everything_once.capture(1, f"{name}.v")


@pytest.mark.parametrize("edit", [nm.Scale("E.spikes", 0.5), nm.Add("E.spikes", 1), nm.Replace("E.spikes", -1)])
def test_a_cell_spikes_or_it_does_not(everything_once, edit):
    with pytest.raises(InputError, match=r"something else than spikes(.|\n)*0 or 1"):
        everything_once.run(1, edit)


def test_units_of_edits_and_stimuli_are_checked_and_brian2s_text_is_kept():
    extra = b2.TimedArray(np.zeros((1, 2)) * nA, dt=0.1 * ms)
    network = b2.Network(with_units())
    model = nm.adapt(network, duration=5 * ms)
    for edit in (nm.Replace("E.v", 3 * nA), nm.Add("E.I", [1, 2] * mV), nm.Add("E.I", [1 * mV, 2 * mV])):
        with pytest.raises(InputError, match=r"has other units than needed(.|\n)*unit"):
            model.run(1, edit)
    with pytest.raises(InputError, match="factor of Scale"):
        model.run(1, nm.Scale("E.v", 2 * mV))
    added = model.run(1, nm.Add("E.I", [0.1, 0.2] * nA), capture="E.I").activations["E.I"][0, 0]
    torch.testing.assert_close(added, torch.tensor([1e-10, 2e-10], dtype=torch.float64))
    driven = nm.adapt(network, input="E.I")
    with pytest.raises(InputError, match=r"other units(.|\n)*unit="):
        driven.run(np.ones((1, 20, 2)))
    with pytest.raises(InputError, match="other units"):
        driven.run(np.ones((1, 20, 2)) * volt)
    with pytest.raises(InputError, match="duration has other units"):
        nm.adapt(network, duration=5)
    wrong = b2.Network(b2.NeuronGroup(1, "dv/dt = -v / tau : 1", name="E", method="euler"))
    with pytest.raises(InputError, match=r"the units do not fit in 'E"):
        nm.adapt(wrong, duration=1 * ms, namespace={"tau": 3 * amp}).run(1)
    with pytest.raises(InputError, match=r"not defined in 'E(.|\n)*tau(.|\n)*namespace="):
        nm.adapt(wrong, duration=1 * ms, namespace={}).run(1)
    tau = 3 * ms  # found where the adapter is made
    assert nm.adapt(wrong, duration=tau).capture(1, "E.v")["E.v"].shape == (1, 30, 1)
    assert extra is not None


@pytest.mark.parametrize(
    ("stimulus", "words"),
    [
        (np.ones((1, 20, 3)), "trial, time, unit=2"),
        (np.ones((20, 2)), "trial, time, unit=2"),
        (np.full((1, 20, 2), np.nan), "not finite"),
        (np.ones((0, 20, 2)), "at least one sample"),
        (
            xr.DataArray(np.ones((1, 3, 2)), dims=("trial", "time", "unit"), coords={"time": [0, 0.001, 0.002]}),
            "0.0001 s",
        ),
        (
            xr.DataArray(np.ones((1, 2, 2)), dims=("trial", "time", "unit"), coords={"time": ["a", "b"]}),
            "times of the stimulus",
        ),
        (4, "trial, time, unit=2"),
        ([[["a", "b"]]], "no real numbers"),
        ([[[1.0, 2.0], [1.0]]], "rows of one length"),
        (np.ma.masked_array(np.ones((1, 20, 2)), np.eye(20, 2)[None]), "mask"),
        (np.full((1, 20, 2), 1j), "no real numbers"),
        (torch.ones(1, 20, 2).to_sparse(), "no array"),
        (np.ones((1, 20, 2)) * mV, r"other units(.|\n)*plain numbers, without a unit"),
        ([[[1 * mV, 2 * mV]]], r"the stimulus for 'E.I' has other units(.|\n)*plain numbers"),
        ([[[1 * mV, 2 * nA]]], "the stimulus for 'E.I': Mixing"),
        ([[[1 * mV, 2.0]]], "no array of quantities"),
    ],
)
def test_stimuli_that_do_not_fit_are_refused(stimulus, words):
    with pytest.raises(InputError, match=words):
        nm.adapt(b2.Network(lif(2)), input="E.I").run(stimulus)


def test_stimuli_of_torch_are_taken_without_their_graph():
    model = nm.adapt(b2.Network(lif(2)), input="E.I")
    exact = torch.full((1, 200, 2), 2.5, dtype=torch.float64)
    spikes = model.run(exact).output["E.spikes"]
    assert spikes.any()
    for stimulus in (exact.clone().requires_grad_(), exact.bfloat16(), exact.tolist()):
        assert torch.equal(model.run(stimulus).output["E.spikes"], spikes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input": "E.v"}, "the network changes it itself"),
        ({"input": "E.spikes"}, "come out of the network"),
        ({"input": "PE.w"}, "stays fixed"),
        ({"input": "nothing"}, "TimedArray"),
        ({"input": "E.X"}, "no site"),
        ({"input": 3}, "input has no name"),
        ({"input": ["E.I"]}, "input has no name"),
        ({"namespace": "tau"}, "namespace is no dict"),
        ({"input": "E.count"}, "no real numbers(.|\n)*int32"),
        ({"input": "E.I", "unit": "nA"}, "no unit of Brian2"),
        ({"output": "E.v[unit=3]"}, "whole sites"),
        ({"duration": -1 * ms}, "positive time"),
        ({"duration": [1, 2] * ms}, "positive time"),
        ({"durations": 1 * ms}, "did you mean 'duration'"),
        ({"output": "E.nothing"}, "no site"),
        ({"seed": -1}, "negative"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words, everything_once):
    with pytest.raises((OptionError, SiteError, InputError), match=words):
        nm.adapt(everything_once.network, **options)


def test_trials_are_counted_and_need_a_duration():
    network = b2.Network(lif(1))
    with pytest.raises(InputError, match="duration"):
        nm.adapt(network).run(1)
    model = nm.adapt(network, duration=1 * ms)
    for wrong in (0, -1, 1.5, True, None):
        with pytest.raises(OptionError, match="number of trials"):
            model.run(wrong)
    with pytest.raises(InputError, match="driven from inside"):
        model.run(np.ones((1, 10, 1)))
    with pytest.raises(InputError, match="not as long as a trial"):
        nm.adapt(network, input="E.I", duration=3 * ms).run(np.ones((1, 10, 1)))
    with pytest.raises(InputError, match="no time step"):
        nm.adapt(network, duration=1e-9 * second).run(1)


def test_a_time_step_that_is_too_large_is_refused():
    for dt, method, refused in ((15, "euler", False), (25, "euler", True), (25, "exact", False)):
        cells = b2.NeuronGroup(2, "dv/dt = (1 - v) / (10*ms) : 1", dt=dt * ms, method=method, name="E")
        model = nm.adapt(b2.Network(cells), duration=dt * 10 * ms)
        if refused:
            with pytest.raises(InputError, match=r"dt is too large: 25 ms (.|\n)*E.v into -1.5 times"):
                model.run(1)
        else:
            model.run(1)


def test_a_simulation_that_diverges_is_reported():
    cells = b2.NeuronGroup(1, "dv/dt = v**3 / ms : 1", method="euler", name="E")
    cells.v = 0.5
    with pytest.raises(InputError, match=r"diverged: E.v is not finite(.|\n)*smaller dt"):
        nm.adapt(b2.Network(cells), duration=50 * ms).run(1)


def test_networks_that_cannot_be_adapted_are_refused():
    with pytest.raises(InputError, match=r"collect\(\)"):
        nm.adapt(b2.magic_network)
    with pytest.raises(InputError, match="no variables"):
        nm.adapt(b2.Network())

    @b2.network_operation
    def stop():
        b2.stop()

    with pytest.raises(InputError, match="stopped itself"):
        nm.adapt(b2.Network(lif(1), stop), duration=1 * ms).run(1)


def test_two_groups_of_one_name_are_refused():
    with pytest.raises(InputError, match=r"same name(.|\n)*E, E_stateupdater"):
        nm.adapt(b2.Network(lif(1), lif(1)), duration=1 * ms)


def test_synapses_that_were_never_connected_are_refused():
    cells = lif(1)
    synapses = b2.Synapses(cells, cells, on_pre="v += 1", name="EE")
    with pytest.raises(InputError, match=r"cannot run(.|\n)*EE(.|\n)*connect"):
        nm.adapt(b2.Network(cells, synapses), duration=1 * ms).run(1)


def test_errors_of_code_in_the_network_say_where_they_come_from_and_all_is_put_back():
    cells = lif(2)

    @b2.network_operation(dt=0.5 * ms, name="meddling")
    def raises(t):
        if t > 1 * ms:
            raise ZeroDivisionError("of the user")

    network = b2.Network(cells, raises)
    cells.v = 0.25
    with pytest.raises(InputError, match="'meddling' raised ZeroDivisionError in the network: of the user"):
        nm.adapt(network, duration=2 * ms).run(1)
    assert float(network.t) == 0
    assert np.asarray(cells.v).tolist() == [0.25, 0.25]
    cells = lif(1)
    cells.run_regularly("v = 1 / nothing", name="divides")
    with pytest.raises(InputError, match="'divides' raised ZeroDivisionError"):
        nm.adapt(b2.Network(cells, *cells.contained_objects), duration=1 * ms, namespace={"nothing": 0}).run(1)


def test_gradients_are_refused_with_the_way_out(everything_once):
    assert everything_once.capabilities == {"capture", "intervene", "time"}
    with pytest.raises(CapabilityError, match="to_brian2"):
        everything_once.gradients(1, "E.v", lambda output: output["E.spikes"].sum())
