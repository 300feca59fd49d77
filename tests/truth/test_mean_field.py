"""Mean-field theory of spiking neurons: limits that are known, single neurons in noise, and a balanced network."""

from __future__ import annotations

import math
from typing import Any

import brian2
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.datasets.spiking_networks import BalancedNetwork
from neuros_mechint.neuro.biophysics.mean_field import lif_interval_cv, lif_rate, mean_field_rates
from neuros_mechint.neuro.biophysics.spike_trains import firing_rates, inter_spike_intervals, interval_cv

_NEURON = {"tau": 20.0, "threshold": 20.0, "reset": 10.0}


# -- one neuron --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "sd"), [(12.0, 2.0), (18.0, 2.0), (19.0, 5.0), (28.0, 5.0)])
def test_rate_is_the_integral_as_it_is_written(mean: float, sd: float) -> None:
    low, high = (10.0 - mean) / sd, (20.0 - mean) / sd
    integral = quad(lambda u: math.exp(u * u) * (1 + erf(u)), low, high, epsabs=0, epsrel=1e-10)[0]
    expected = 1 / (2.0 + 20.0 * math.sqrt(math.pi) * integral)
    assert lif_rate(mean, sd, refractory=2.0, **_NEURON) == pytest.approx(expected, rel=1e-7)


def test_rate_without_noise_is_that_of_a_clock() -> None:
    clock = 1 / (2.0 + 20.0 * math.log((30 - 10) / (30 - 20)))
    assert lif_rate(30.0, 0.0, refractory=2.0, **_NEURON) == pytest.approx(clock, rel=1e-12)
    assert lif_rate(30.0, 0.01, refractory=2.0, **_NEURON) == pytest.approx(clock, rel=1e-5)
    assert lif_rate(19.9, 0.0, **_NEURON) == 0
    assert lif_interval_cv(30.0, 0.0, **_NEURON) == 0


def test_far_below_threshold_spikes_are_a_poisson_process() -> None:
    high = 5.0  # standard deviations: Kramers' rate, up to terms of order 1 / high^2
    mean = 20.0 - high * 2.0
    kramers = high * math.exp(-(high**2)) / (20.0 * math.sqrt(math.pi))
    assert lif_rate(mean, 2.0, **_NEURON) == pytest.approx(kramers, rel=0.04)
    assert lif_interval_cv(mean, 2.0, **_NEURON) == pytest.approx(1.0, abs=0.01)
    assert lif_rate(-1000.0, 2.0, **_NEURON) == 0
    assert math.isnan(lif_interval_cv(-1000.0, 2.0, **_NEURON))


@pytest.mark.parametrize("mean", [1e3, 1e5, 1e7, 1e9, 1e150])
def test_far_above_threshold_intervals_are_those_of_a_drift_to_it(mean: float) -> None:
    """With the drift m the interval is (1 - 1 / 2m) / m, and its standard deviation by its mean 1 / sqrt(m)."""
    neuron = {"tau": 1.0, "threshold": 1.0}
    for sd in (0.0, 1.0):
        assert lif_rate(mean, sd, **neuron) == pytest.approx(mean - 0.5, rel=1e-3 / mean + 1e-15)
    assert lif_interval_cv(mean, 1.0, **neuron) == pytest.approx(mean**-0.5, rel=1 / mean)
    assert lif_interval_cv(mean, 0.0, **neuron) == 0


@pytest.mark.parametrize(("mean", "sd"), [(25.0, 5.0), (30.0, 8.0)])
def test_rate_and_irregularity_of_a_neuron_in_noise(mean: float, sd: float) -> None:
    random, dt, n_cells = np.random.default_rng(0), 0.01, 400
    v, last, intervals = np.full(n_cells, 10.0), np.full(n_cells, np.nan), []
    for step in range(20000):
        v += dt / 20 * (mean - v) + sd * math.sqrt(dt / 20) * random.normal(size=n_cells)
        fired = np.flatnonzero(v > 20)
        intervals.append(step * dt - last[fired])
        last[fired], v[fired] = step * dt, 10.0
    gaps = np.concatenate(intervals)
    gaps = gaps[~np.isnan(gaps)]
    # steps of finite length miss crossings, and a window of 200 ms misses long intervals: 2% and 3%
    assert 1 / gaps.mean() == pytest.approx(lif_rate(mean, sd, **_NEURON), rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(lif_interval_cv(mean, sd, **_NEURON), rel=0.05)


# -- networks ----------------------------------------------------------------------------------------------------------


def _theory(network: BalancedNetwork) -> Any:
    return mean_field_rates(
        network.in_degrees,
        network.efficacies,
        external_mean=[network.external_mean] * 2,
        external_sd=[network.external_sd] * 2,
        tau=network.tau,
        threshold=network.threshold,
        reset=network.reset,
        refractory=network.refractory,
    )


def test_rates_agree_with_the_input_they_give() -> None:
    network = BalancedNetwork(jump=0.3, inhibition=6.0, drive=1.0)
    found = _theory(network)
    inside = network.in_degrees * network.efficacies
    np.testing.assert_allclose(found.mean, network.external_mean + 20 * inside @ found.rates, rtol=1e-6)
    for rate, mean, sd in zip(found.rates, found.mean, found.sd, strict=True):
        assert rate == pytest.approx(lif_rate(mean, sd, refractory=2.0, **_NEURON), rel=1e-6)
    unconnected = mean_field_rates([[0]], [[0.0]], external_mean=[25.0], external_sd=[5.0], **_NEURON)
    assert unconnected.rates[0] == pytest.approx(lif_rate(25.0, 5.0, **_NEURON), rel=1e-6)


def _spikes(network: BalancedNetwork, duration: float, seed: int) -> np.ndarray:
    """Run the network in Brian2; return its spikes after 200 ms, (time, cell)."""
    brian2.prefs.codegen.target = "numpy"
    brian2.defaultclock.dt = 0.05 * brian2.ms
    brian2.seed(seed)
    mv, ms = brian2.mV, brian2.ms
    cells = brian2.NeuronGroup(
        network.n_cells,
        "dv/dt = -v / tau : volt (unless refractory)",
        threshold="v > threshold",
        reset="v = reset",
        refractory=network.refractory * ms,  # pyright: ignore[reportArgumentType]
        method="exact",
        namespace={"tau": network.tau * ms, "threshold": network.threshold * mv, "reset": network.reset * mv},
    )
    cells.v = np.random.default_rng(seed).uniform(0, network.threshold, network.n_cells) * mv
    synapses = brian2.Synapses(cells, cells, "w : volt", on_pre="v_post += w", delay=network.delay * ms)
    source, target = network.connections(seed)
    synapses.connect(i=source, j=target)
    synapses.w = network.weights(source) * mv
    outside = brian2.PoissonInput(cells, "v", 1000, network.external_rate / 1000 / ms, network.jump * mv)
    monitor = brian2.SpikeMonitor(cells)
    brian2.Network(cells, synapses, outside, monitor).run((200 + duration) * ms)
    spikes = np.zeros((round(duration / 0.05), network.n_cells), dtype=bool)
    steps = np.round(np.asarray(monitor.t / ms) / 0.05).astype(int) - 4000
    late = steps >= 0
    spikes[steps[late], np.asarray(monitor.i)[late]] = True
    return spikes


@pytest.mark.parametrize(
    ("seed", "duration"), [(0, 500.0), *(pytest.param(seed, 4000.0, marks=pytest.mark.slow) for seed in (1, 2, 3))]
)
def test_a_balanced_network_fires_irregularly_at_the_rate_of_theory(seed: int, duration: float) -> None:
    network = BalancedNetwork(n_excitatory=4000, n_inhibitory=1000, jump=0.3, inhibition=6.0, drive=1.0)
    theory, spikes = _theory(network), _spikes(network, duration, seed)
    rates = firing_rates(spikes, dt=0.05)
    assert float(rates.mean()) == pytest.approx(float(theory.rates[0]), rel=0.15)  # 7.8 Hz
    together = spikes.reshape(-1, 20, network.n_cells).any(1).sum(1)  # in bins of 1 ms
    # what is left of asynchrony: the mean correlation of two cells
    assert (together.var() / together.mean() - 1) / network.n_cells < 0.02
    if duration >= 4000:
        assert float(theory.interval_cv[0]) == pytest.approx(0.97, abs=0.01)
        assert 0.8 < np.nanmean(interval_cv(spikes, fewest=10)) < 1.2


def test_connections_are_drawn_as_they_are_counted() -> None:
    network = BalancedNetwork(n_excitatory=80, n_inhibitory=20)
    source, target = network.connections(seed=3)
    assert not (source == target).any()
    assert len(set(zip(source.tolist(), target.tolist(), strict=True))) == len(source)
    for cell in range(network.n_cells):
        mine = source[target == cell]
        assert ((mine < 80).sum(), (mine >= 80).sum()) == (8, 2)
    assert np.bincount(source, minlength=100).std() > 1  # out-degrees vary
    np.testing.assert_array_equal(source, network.connections(seed=3)[0])


# -- spike trains ------------------------------------------------------------------------------------------------------


def test_trains_by_hand() -> None:
    spikes = np.zeros((10, 3), dtype=int)
    spikes[[0, 2, 5], 0] = 1
    spikes[4, 1] = 1
    assert firing_rates(spikes, dt=0.1).tolist() == pytest.approx([3.0, 1.0, 0.0])
    assert [gaps.tolist() for gaps in inter_spike_intervals(spikes, dt=2.0)] == [[4.0, 6.0], [], []]
    assert interval_cv(spikes, fewest=2)[0] == pytest.approx(0.5 / 2.5)
    assert np.isnan(interval_cv(spikes, fewest=2)[1:]).all()
    assert firing_rates(np.stack([spikes, spikes])).shape == (2, 3)


def test_irregularity_of_clocks_and_of_poisson_processes() -> None:
    clock = (np.arange(1000) % 10 == 0)[:, None]
    assert interval_cv(clock)[0] == 0
    chance = np.random.default_rng(0).random((50000, 20)) < 0.02
    # intervals in steps are geometric: CV^2 = 1 - p
    assert float(interval_cv(chance).mean()) == pytest.approx(math.sqrt(1 - 0.02), abs=0.02)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_what_is_no_neuron_no_network_and_no_train() -> None:
    for wrong in ({"tau": -1.0}, {"reset": 20.0}, {"refractory": -1.0}, {"threshold": math.nan}):
        with pytest.raises(OptionError):
            lif_rate(25.0, 5.0, **{**_NEURON, **wrong})
    with pytest.raises(OptionError, match="sd"):
        lif_rate(25.0, -5.0, **_NEURON)
    for wrong in ("25", [25.0, 25.0], None, 1j):
        with pytest.raises(OptionError, match="mean is out of range"):
            lif_rate(wrong, 5.0, **_NEURON)  # pyright: ignore[reportArgumentType]
    with pytest.raises(OptionError, match="without a pause"):
        lif_rate(1e308, 1.0, tau=1.0, threshold=1.0)
    square = {"external_mean": [25.0], "external_sd": [5.0], **_NEURON}
    with pytest.raises(InputError, match="do not fit"):
        mean_field_rates([[1, 1], [1, 1]], [[0.1, 0.1]] * 2, **square)
    with pytest.raises(InputError, match="no square matrix"):
        mean_field_rates([1], [[0.1]], **square)
    for wrong in ("a", None, np.array([20.0])):
        with pytest.raises(OptionError, match="tau"):
            mean_field_rates([[1]], [[0.1]], **{**square, "tau": wrong})
    with pytest.raises(InputError, match="external_sd"):
        mean_field_rates([[1]], [[0.1]], **{**square, "external_sd": [-1.0]})
    with pytest.raises(InputError, match=r"grow without bounds(.|\n)*refractory"):
        mean_field_rates([[1000]], [[1.0]], **{**square, "refractory": 0.0})
    with pytest.raises(InputError, match="as many cells"):
        BalancedNetwork(n_excitatory=5, n_inhibitory=2)
    with pytest.raises(InputError, match="these are no spikes"):
        firing_rates(np.full((4, 2), 2))
    with pytest.raises(InputError, match="no spike trains"):
        firing_rates(np.zeros(4))
    with pytest.raises(OptionError, match="dt"):
        firing_rates(np.zeros((4, 2)), dt=0.0)
