"""Brian2 networks and monitors as recordings: the same numbers as Brian2's own, and through every kind of analysis."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import brian2
import numpy as np
import pytest
import torch
from brian2 import Hz, amp, ms, mV

import neuros_mechint as nm
from neuros_mechint.adapters.brian2.recorded import from_brian2
from neuros_mechint.core.errors import InputError, OptionError, SiteError

b2: Any = brian2
"""Brian2 states types that are narrower than what it takes."""

FIELD = "dv/dt = (I - v) / (10*ms) : volt (unless refractory)\nI : volt"


@pytest.fixture(scope="module")
def two_populations() -> Any:
    """Three excitatory and two inhibitory cells with all monitors, before and after a run of 40 ms."""
    b2.prefs.codegen.target = "numpy"
    excitatory, inhibitory = (
        b2.NeuronGroup(n, FIELD, threshold="v > 10*mV", reset="v = 0*mV", refractory=1 * ms, method="exact", name=name)
        for n, name in ((3, "E"), (2, "I"))
    )
    excitatory.I, inhibitory.I = [12, 20, 40] * mV, [15, 90] * mV
    synapses = b2.Synapses(inhibitory, excitatory, "w : volt", on_pre="v_post -= w", delay=1 * ms, name="IE")
    synapses.connect()
    synapses.w = 0.5 * mV
    monitors = [b2.SpikeMonitor(one) for one in (excitatory, inhibitory)]
    states = b2.StateMonitor(excitatory, ["v", "I"], record=[0, 2], when="before_groups")
    silent, rates = b2.SpikeMonitor(inhibitory, record=False), b2.PopulationRateMonitor(inhibitory)
    network = b2.Network(excitatory, inhibitory, synapses, *monitors, states, silent, rates)
    before = from_brian2(network, duration=40 * ms, bin_width=5 * ms)
    volts = from_brian2(network, sites="E.v[unit=[0, 2]]", duration=40 * ms)
    assert network.t_ == 0
    assert not len(monitors[0].t)
    network.run(40 * ms)
    b2.Network(b2.NeuronGroup(1, "x : 1")).run(30 * ms)  # all networks share the default clock
    return SimpleNamespace(
        network=network, spikes=monitors, states=states, silent=silent, rates=rates, before=before, volts=volts
    )


def test_counts_are_those_of_brian2s_own_monitors(two_populations: Any) -> None:
    after = from_brian2(two_populations.spikes, bin_width=5 * ms)
    for recording in (two_populations.before, after):
        assert recording.dims == ("trial", "time", "unit")
        assert recording.shape == (1, 8, 5)
        assert recording.data.dtype == np.int32
        assert recording.unit_of_measure == "spikes"
        assert recording.sampling_rate == 200
        assert recording.regions == ("E", "I")
        assert recording.data.unit.values.tolist() == ["E[0]", "E[1]", "E[2]", "I[0]", "I[1]"]
        assert recording.data.cell.values.tolist() == [0, 1, 2, 0, 1]
        np.testing.assert_allclose(recording.data.time, 2.5e-3 + 5e-3 * np.arange(8))
    assert np.array_equal(after.data, two_populations.before.data)
    for monitor, group in zip(two_populations.spikes, "EI", strict=True):
        of_group = after.select(region=group).data.values
        assert of_group.sum((0, 1)).tolist() == monitor.count[:].tolist()
        counted = np.histogram2d(
            monitor.t_[:] + 1e-9, monitor.i[:], [np.arange(9) * 5e-3, np.arange(of_group.shape[2] + 1)]
        )
        assert np.array_equal(of_group[0], counted[0])
    assert after.data.sum() > 20


def test_a_monitor_that_was_added_late_keeps_its_times() -> None:
    cells = b2.NeuronGroup(2, "dv/dt = (1.5 - v) / (10*ms) : 1", threshold="v > 1", reset="v = 0", method="exact")
    network = b2.Network(cells)
    network.run(20 * b2.ms)
    spikes, states = b2.SpikeMonitor(cells), b2.StateMonitor(cells, "v", record=True)
    network.add(spikes, states)
    network.run(20 * b2.ms)
    group = cells.name
    late = from_brian2(states, sites=f"{group}.v").xarray()
    np.testing.assert_allclose(late["time"], states.t_[:] + 0.5e-4, atol=1e-9)
    assert from_brian2(spikes, sites=f"{group}.spikes").xarray().sizes["time"] == 400


def test_states_are_those_of_brian2s_own_monitors(two_populations: Any) -> None:
    after = from_brian2(two_populations.states, sites="E.v")
    for recording in (two_populations.volts, after):
        assert (recording.shape, recording.unit_of_measure) == ((1, 400, 2), "V")
        assert recording.data.unit.values.tolist() == ["E[0]", "E[2]"]
        assert np.array_equal(recording.data.values[0].T, two_populations.states.v_)
    means = from_brian2([*two_populations.spikes, two_populations.states], sites="E.v", bin_width=2 * ms)
    np.testing.assert_allclose(means.data[0], after.data.values.reshape(20, 20, 2).mean(1), rtol=1e-12)
    assert means.data.attrs["cell_methods"] == "time: mean"


def test_trials_stimuli_and_adapters_with_options() -> None:
    b2.prefs.codegen.target = "numpy"
    cells = b2.NeuronGroup(
        2, FIELD, threshold="v > 10*mV", reset="v = 0*mV", refractory=1 * ms, method="exact", name="E"
    )
    network = b2.Network(cells, b2.PoissonGroup(2, 300 * Hz, name="P"))
    noisy = from_brian2(network, 3, "P.spikes", duration=50 * ms, seed=1)
    assert noisy.shape == (3, 500, 2)
    assert not np.array_equal(noisy.data[0], noisy.data[1])
    captured = nm.adapt(network, duration=50 * ms, seed=1).capture(3, "P.spikes")["P.spikes"]
    assert np.array_equal(noisy.data, captured)
    stimuli = np.zeros((2, 300, 2))
    stimuli[1, :, 0] = 30
    model = nm.adapt(network, input="E.I", unit=mV)
    for driven in (
        from_brian2(model, stimuli, "E.spikes"),
        from_brian2(network, stimuli, "E.*s", input="E.I", unit=mV),
    ):
        assert driven.data.sum("time").values.tolist() == [[0, 0], [int(driven.data[1, :, 0].sum()), 0]]
        assert driven.data[1, :, 0].sum() > 3
    with pytest.raises(OptionError, match="has its options already"):
        from_brian2(model, stimuli, duration=3 * ms)


def test_groups_of_several_time_steps_are_counted_in_common_bins() -> None:
    b2.prefs.codegen.target = "numpy"
    fast, slow = (b2.PoissonGroup(1, 1000 * Hz, dt=dt * ms, name=name) for dt, name in ((0.5, "fast"), (1, "slow")))
    network = b2.Network(fast, slow)
    counts = from_brian2(network, duration=20 * ms, bin_width=2 * ms)
    assert (counts.data.sel(unit="slow[0]") == 2).all()  # a spike in every step
    with pytest.raises(InputError, match=r"several time steps(.|\n)*0.5 ms, 1 ms(.|\n)*bin_width="):
        from_brian2(network, duration=20 * ms)
    with pytest.raises(InputError, match="no whole number of time steps of 'slow'"):
        from_brian2(network, sites="slow.spikes", duration=20 * ms, bin_width=2.5 * ms)


def test_what_is_no_recording_is_refused(two_populations: Any) -> None:
    network, spikes, states = two_populations.network, two_populations.spikes, two_populations.states
    never = b2.SpikeMonitor(network["E"], name="never")
    for call, kind, words in (
        (lambda: from_brian2(never), InputError, r"'never' has recorded nothing: 'E' never ran with it"),
        (
            lambda: from_brian2(b2.StateMonitor(network["E"], "v", record=True), sites="E.v"),
            InputError,
            "recorded nothing",
        ),
        (
            lambda: from_brian2(spikes, sites="IE.w"),
            SiteError,
            r"no monitor has recorded 'IE.w'(.|\n)*E.spikes, I.spikes",
        ),
        (lambda: from_brian2(network, sites="X.spikes", duration=1 * ms), SiteError, "no group 'X'"),
        (lambda: from_brian2(network, sites="IE.w", duration=1 * ms), InputError, "no course of cells"),
        (lambda: from_brian2(network, sites="E.v[time=3:5]", duration=1 * ms), InputError, "no course of cells"),
        (
            lambda: from_brian2(network, sites=["E.v", "E.spikes"], duration=1 * ms),
            InputError,
            "several units of measure",
        ),
        (lambda: from_brian2(network, duration=1 * ms, bin_width=0.3 * ms), InputError, "do not fill a window"),
        (lambda: from_brian2(network, duration=1 * ms, bin_width=0.5), InputError, "bin_width has other units"),
        (lambda: from_brian2(network, duration=1 * ms, bin_width=1 * amp), InputError, "bin_width has other units"),
        (lambda: from_brian2(network), InputError, "how long is a trial"),
        (lambda: from_brian2(network, duration=1 * ms, durations=2), OptionError, "did you mean 'duration'"),
        (lambda: from_brian2(states, trials=2, sites="E.v"), OptionError, "the one trial that was run"),
        (lambda: from_brian2(spikes, duration=1 * ms), OptionError, "the one trial that was run"),
        (lambda: from_brian2(two_populations.rates), InputError, "does not tell single cells apart"),
        (lambda: from_brian2(two_populations.silent), InputError, "record=True"),
        (lambda: from_brian2([]), InputError, "no list of monitors"),
        (lambda: from_brian2([spikes[0], 3]), InputError, "no list of monitors"),
        (lambda: from_brian2("network"), InputError, r"a brian2.Network(.|\n)*str"),
        (lambda: from_brian2(network, sites=[], duration=1 * ms), InputError, "no sites to capture"),
        (lambda: from_brian2(spikes, sites=[]), InputError, "no site to record"),
    ):
        with pytest.raises(kind, match=words):
            call()
    assert network.t_ == pytest.approx(0.04)


# -- onwards -----------------------------------------------------------------------------------------------------------


def poisson(rates: Any, n_units: int, bin_width: Any = 1 * ms) -> nm.Recording:
    """Poisson cells whose rates in Hz are given per trial and millisecond."""
    b2.prefs.codegen.target = "numpy"
    stim = b2.TimedArray(np.zeros((1, n_units)) * Hz, dt=1 * ms)
    network = b2.Network(b2.PoissonGroup(n_units, "stim(t, i)", dt=1 * ms, name="P"))
    return from_brian2(network, rates, bin_width=bin_width, input="stim", unit=Hz, namespace={"stim": stim})


def test_to_alignment_two_populations_that_see_the_same_are_alike() -> None:
    tuned = 100 + 500 * np.random.default_rng(0).random((60, 1, 12)).repeat(200, 1)
    seen = poisson(tuned, 12).data.sum("time").values
    again = poisson(tuned[..., ::-1], 12).data.sum("time").values
    cka = nm.CKA(debiased=True)
    assert cka.score(seen, again) > 0.8
    assert abs(cka.score(seen, again[::-1])) < 0.2  # other stimuli
    averaged = poisson(tuned, 12).average("time")
    assert cka.score(averaged, averaged) == pytest.approx(1)


def test_to_fractals_rates_with_memory_give_counts_with_memory() -> None:
    memory = nm.fractional_gaussian_noise(0.9, 4096, 3, seed=0).T.numpy()
    rates = np.stack([np.full((4096, 3), 400.0), 400 * np.exp(0.8 * memory).clip(max=2)])
    found = nm.HurstExponent()(poisson(rates, 3))
    assert found.shape == (2, 3)
    assert (found[0] - 0.5).abs().max() < 0.1
    assert found[1].min() > 0.65


def test_to_dunl_a_planted_kernel_is_found() -> None:
    random = np.random.default_rng(0)
    kernel = np.exp(-((np.arange(30) - 10.0) ** 2) / 40)
    events = np.zeros((40, 200))
    events[np.arange(40), random.integers(10, 150, 40)] = 1
    drive = np.stack([np.convolve(one, kernel)[:200] for one in events])
    counts = poisson(150 * np.exp(1.8 * drive)[..., None], 1)
    found = nm.DUNL(1, 30).fit(counts, events.astype(bool))
    shape = np.asarray(found.kernels_).squeeze()
    assert shape @ kernel / np.linalg.norm(shape) / np.linalg.norm(kernel) > 0.95


def test_to_koopman_a_linear_network_has_the_eigenvalues_of_its_equations() -> None:
    b2.prefs.codegen.target = "numpy"
    cells = b2.NeuronGroup(
        1, "dx/dt = (-x/20 - y/2)/ms : 1\ndy/dt = (x/2 - y/20)/ms : 1", method="euler", dt=1 * ms, name="osc"
    )
    cells.x = 1
    recording = from_brian2(b2.Network(cells), sites=["osc.x", "osc.y"], duration=50 * ms)
    assert recording.unit_of_measure == "1"
    found = torch.as_tensor(nm.KoopmanOperator("dmd", rank=2).fit(recording).eigenvalues_)
    expected = 1 - 0.05 + 0.5j * np.array([1, -1])  # of Euler's steps
    np.testing.assert_allclose(sorted(found.tolist(), key=np.imag), sorted(expected, key=np.imag), atol=1e-9)
