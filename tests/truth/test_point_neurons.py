"""Point neurons: closed forms of theory, numbers of the papers, and the same neurons in Brian2."""

from __future__ import annotations

import math
from typing import Any

import brian2
import numpy as np
import pytest
import torch

from neuros_mechint.adapters.brian2.factories import neuron_group
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.biophysics.neurons.adex import AdEx
from neuros_mechint.neuro.biophysics.neurons.base import PointNeuron
from neuros_mechint.neuro.biophysics.neurons.hodgkin_huxley import HodgkinHuxley
from neuros_mechint.neuro.biophysics.neurons.izhikevich import CELL_TYPES, Izhikevich
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.neurons.simulate import simulate_neurons
from neuros_mechint.neuro.biophysics.synapses import AMPA, GABA, NMDA, ConductanceSynapse, CurrentSynapse, Synapse


@pytest.fixture(autouse=True)
def numpy_target() -> None:
    brian2.prefs.codegen.target = "numpy"


def _held(currents: Any, duration: float, dt: float) -> torch.Tensor:
    """Return currents held for a duration in ms: one sample, one neuron per current."""
    values = torch.as_tensor(np.asarray(currents, dtype=float))
    return values.expand(1, round(duration / dt), len(values))


def _spikes_in_brian2(neuron: PointNeuron, currents: np.ndarray, duration: float, dt: float) -> set[tuple[int, int]]:
    brian2.defaultclock.dt = dt * brian2.ms
    group = neuron_group(neuron, len(currents))
    group.I = currents * brian2.pA
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, monitor).run(duration * brian2.ms)
    steps = np.round(np.asarray(monitor.t / brian2.ms) / dt).astype(int)
    return set(zip(steps.tolist(), np.asarray(monitor.i).tolist(), strict=True))


def _spikes_here(neuron: PointNeuron, currents: np.ndarray, duration: float, dt: float) -> set[tuple[int, int]]:
    spikes = simulate_neurons(neuron, _held(currents, duration, dt), dt, record=())["spikes"]
    return {(int(time), int(unit)) for time, unit in spikes[0].nonzero()}


def _steps(neuron: PointNeuron, current: float, duration: float, dt: float) -> torch.Tensor:
    """Return at which steps one neuron fires."""
    return simulate_neurons(neuron, _held([current], duration, dt), dt, record=())["spikes"][0, :, 0].nonzero()[:, 0]


def _first_spike(neuron: PointNeuron, ramp: torch.Tensor) -> float:
    """Return the current at which a neuron first fires on a ramp in steps of .1 ms."""
    spikes = simulate_neurons(neuron, ramp[None, :, None], 0.1, record=())["spikes"][0, :, 0]
    return float(ramp[spikes][0]) if spikes.any() else math.inf


# -- the same spikes as Brian2 -----------------------------------------------------------------------------------------

_CASES = {
    "lif": (LIF(20.0, -65.0, -50.0, -60.0, 0.1, refractory=2.0), np.linspace(100, 600, 200), 300.0, 0.1),
    "lif, a refractory time between steps": (LIF(tau=10.0, refractory=1.05), np.linspace(1.5, 6, 50), 100.0, 0.1),
    "lif, no refractory time": (LIF(), np.linspace(0.5, 4, 100), 200.0, 0.1),
    "squid": (HodgkinHuxley(), np.linspace(5, 40, 30), 40.0, 0.05),
    "traub_miles": (HodgkinHuxley.traub_miles(), np.linspace(50, 700, 30), 40.0, 0.05),
}


@pytest.mark.parametrize("case", _CASES)
def test_spikes_are_those_of_brian2(case: str) -> None:
    neuron, currents, duration, dt = _CASES[case]
    ours = _spikes_here(neuron, currents, duration, dt)
    assert len(ours) > 50
    assert ours == _spikes_in_brian2(neuron, currents, duration, dt)


@pytest.mark.parametrize(
    "neuron", [AdEx(), AdEx(a=0.0, b=0.0, refractory=3.0), *(Izhikevich.of_type(name) for name in CELL_TYPES)]
)
def test_intervals_are_those_of_brian2(neuron: PointNeuron) -> None:
    currents = np.linspace(400, 1500, 12) if isinstance(neuron, AdEx) else np.linspace(0, 20, 12)
    ours, theirs = (run(neuron, currents, 150.0, 0.1) for run in (_spikes_here, _spikes_in_brian2))
    for unit in range(len(currents)):
        mine, other = (np.sort([time for time, of in spikes if of == unit]) for spikes in (ours, theirs))
        assert len(mine) == len(other)
        assert len(mine) == 0 or np.abs(mine - other).max() <= 1  # rounding may move a spike by one step
    assert len(ours) > 10


@pytest.mark.parametrize("neuron", [LIF(20.0, -65.0, -50.0, -60.0, 0.1), HodgkinHuxley.traub_miles(), AdEx()])
@pytest.mark.parametrize("synapse", [CurrentSynapse(4.0), AMPA(), GABA(reversal=-85.0), NMDA()])
def test_synapses_are_those_of_brian2(neuron: PointNeuron, synapse: Synapse) -> None:
    dt, weight, n_times = 0.05, 30.0, 600
    brian2.defaultclock.dt = dt * brian2.ms
    when = [20, 21, 150, 151, 152, 300]
    source = brian2.SpikeGeneratorGroup(1, [0] * len(when), np.array(when) * dt * brian2.ms)
    group = neuron_group(neuron, 1, {"g": synapse})
    unit = brian2.pA if synapse.unit == "pA" else brian2.nS
    synapses = brian2.Synapses(source, group, on_pre="g += weight", namespace={"weight": weight * unit})
    synapses.connect()
    monitor = brian2.StateMonitor(group, "v", record=0, when="end")
    brian2.Network(source, group, synapses, monitor).run(n_times * dt * brian2.ms)

    state, opened = neuron.initial_state(1), torch.zeros(1, dtype=torch.float64)
    potentials = []
    for time in range(n_times):
        current, conductance = synapse.input(opened, state["v"])
        state, _ = neuron.step(state, current, dt, conductance)
        opened = synapse.decayed(opened, dt, neuron.method) + weight * (time in when)
        potentials.append(float(state["v"]))
    assert np.ptp(potentials) > 0.5
    np.testing.assert_allclose(potentials, np.asarray(monitor.v[0] / brian2.mV), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "neuron",
    [
        LIF(torch.tensor([10.0, 20.0, 30.0], dtype=torch.float64), refractory=2.0),
        LIF(),
        AdEx(refractory=3.0),
        Izhikevich(),
        HodgkinHuxley(),
        HodgkinHuxley.traub_miles(),
    ],
)
def test_arrays_run_as_tensors_do(neuron: PointNeuron) -> None:
    strongest = {LIF: 4.0, AdEx: 2000.0, Izhikevich: 20.0, HodgkinHuxley: 40.0 if neuron == HodgkinHuxley() else 700.0}
    currents = _held(np.linspace(0.5, 1, 3) * strongest[type(neuron)], 60.0, 0.1)
    found = simulate_neurons(neuron, currents, 0.1)
    state, spikes, potentials = neuron.initial_state(1, 3), [], []
    for current in currents.unbind(1):
        state, fired = neuron.step(state, current, 0.1)
        spikes.append(fired)
        potentials.append(state["v"])
    assert bool(found["spikes"].any())
    assert torch.equal(found["spikes"], torch.stack(spikes, 1) > 0)
    torch.testing.assert_close(
        found["v"], torch.stack(potentials, 1), rtol=0, atol=1e-7
    )  # last digits of exponentials differ
    single = simulate_neurons(neuron, currents.float(), 0.1)["v"]
    assert single.dtype == torch.float32


# -- integrate and fire ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refractory", [0.0, 2.0])
def test_interval_of_lif(refractory: float) -> None:
    dt, currents = 0.02, [1.05, 1.5, 2.0, 5.0]
    spikes = simulate_neurons(LIF(tau=20.0, refractory=refractory), _held(currents, 200.0, dt), dt)["spikes"][0]
    for unit, current in enumerate(currents):
        intervals = spikes[:, unit].nonzero()[:, 0].double().diff() * dt
        closed = refractory + 20.0 * math.log(current / (current - 1))
        assert len(intervals) >= 2
        assert bool(((intervals - closed).abs() <= dt + 1e-9).all())


def test_lif_below_threshold_is_silent_and_exact() -> None:
    found = simulate_neurons(LIF(tau=20.0), _held([0.99], 200.0, 0.5), 0.5)
    assert not found["spikes"].any()
    times = torch.arange(1, 401, dtype=torch.float64) * 0.5
    torch.testing.assert_close(found["v"][0, :, 0], 0.99 * (1 - torch.exp(-times / 20)), rtol=0, atol=1e-12)


def test_lif_under_a_conductance_is_exact() -> None:
    neuron, dt = LIF(tau=20.0, rest=-65.0, threshold=0.0, reset=-65.0, resistance=0.1), 0.5
    state, synapse = neuron.initial_state(1), ConductanceSynapse(reversal=-10.0)
    for _ in range(40):
        current, conductance = synapse.input(torch.tensor([10.0], dtype=torch.float64), state["v"])
        state, _ = neuron.step(state, current, dt, conductance)
    gain = 1 + 0.1 * 10
    towards = (-65 + 0.1 * 10 * -10) / gain
    assert float(state["v"]) == pytest.approx(towards + (-65 - towards) * math.exp(-20 * gain / 20), abs=1e-12)


def test_neurons_may_differ() -> None:
    taus = torch.tensor([10.0, 20.0, 40.0], dtype=torch.float64)
    together = simulate_neurons(LIF(tau=taus), _held([2.0] * 3, 200.0, 0.1), 0.1)["spikes"][0]
    for unit, tau in enumerate(taus):
        assert together[:, unit].nonzero()[:, 0].tolist() == _steps(LIF(tau=float(tau)), 2.0, 200.0, 0.1).tolist()
    assert np.array(neuron_group(LIF(tau=taus), 3).tau) == pytest.approx([0.01, 0.02, 0.04])
    with pytest.raises(InputError, match="tau of LIF is that of another number of neurons"):
        neuron_group(LIF(tau=taus), 4)


@pytest.mark.parametrize(("a", "tau_w"), [(4.0, 144.0), (0.0, 144.0), (2.0, 20.0), (30.0, 50.0)])
def test_rheobase_of_adex(a: float, tau_w: float) -> None:
    """A slow ramp from 0: the first spike comes just after the bifurcation, later where that is passed with delay."""
    neuron = AdEx(a=a, tau_w=tau_w)
    expected = neuron.rheobase()
    ramp = torch.linspace(0, 1.05, 20000, dtype=torch.float64) * expected
    assert 0.995 < _first_spike(neuron, ramp) / expected < 1.04


def test_adaptation_of_adex_lengthens_intervals() -> None:
    adapting, plain = (_steps(AdEx(a=a, b=b), 900.0, 600.0, 0.05).diff() for a, b in ((4.0, 80.5), (0.0, 0.0)))
    assert adapting[-1] > 2 * adapting[0]
    assert int(plain[2:].max() - plain[2:].min()) <= 1


# -- Izhikevich --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cell_intervals() -> dict[str, np.ndarray]:
    """Intervals between the spikes of each type within 1 s at an input of 10, ms; all types in one run."""
    parameters = (torch.tensor(values, dtype=torch.float64) for values in zip(*CELL_TYPES.values(), strict=True))
    spikes = simulate_neurons(Izhikevich(*parameters), _held([10.0] * len(CELL_TYPES), 1000.0, 0.1), 0.1)["spikes"][0]
    return {name: spikes[:, unit].nonzero()[:, 0].diff().numpy() * 0.1 for unit, name in enumerate(CELL_TYPES)}


def test_interval_of_a_regular_spiking_cell(cell_intervals: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(cell_intervals["RS"][-5:], 45.1, atol=0.051)


@pytest.mark.parametrize(("cell", "rate"), [("RS", 23), ("FS", 131), ("CH", 87)])
def test_rates_of_cell_types(cell: str, rate: float, cell_intervals: dict[str, np.ndarray]) -> None:
    assert len(cell_intervals[cell]) + 1 == pytest.approx(rate, abs=1.5)


def test_patterns_of_cell_types(cell_intervals: dict[str, np.ndarray]) -> None:
    spread = {name: gaps[3:].std() / gaps[3:].mean() for name, gaps in cell_intervals.items()}
    assert spread["RS"] < 0.05
    assert spread["FS"] < 0.05
    assert spread["CH"] > 0.5  # bursts
    assert cell_intervals["IB"][0] < 0.5 * cell_intervals["IB"][-1]  # a burst, then single spikes
    assert cell_intervals["LTS"][0] < cell_intervals["LTS"][-1]  # adapts


@pytest.mark.parametrize("cell", ["RS", "RZ"])
def test_rheobase_of_izhikevich(cell: str) -> None:
    """A slow ramp: the first spike comes just after the bifurcation."""
    neuron = Izhikevich.of_type(cell)
    rheobase = neuron.rheobase()
    ramp = torch.linspace(min(0.0, rheobase - 1), rheobase + 0.4, 20000, dtype=torch.float64)
    assert rheobase - 0.02 < _first_spike(neuron, ramp) < rheobase + 0.35


# -- Hodgkin and Huxley ------------------------------------------------------------------------------------------------


def test_rest_of_the_squid_axon_holds() -> None:
    neuron = HodgkinHuxley()
    rest = neuron.initial_state(1)
    assert float(rest["v"]) == pytest.approx(-65.0, abs=0.01)
    np.testing.assert_allclose([float(rest[gate]) for gate in "mhn"], [0.053, 0.596, 0.318], atol=5e-4)
    state = rest
    for _ in range(1000):
        state, spikes = neuron.step(state, torch.zeros(1).double(), 0.02)
        assert not spikes.any()
    assert float((state["v"] - rest["v"]).abs()) < 1e-6


def test_rates_are_smooth_where_the_textbook_form_divides_by_zero() -> None:
    neuron = HodgkinHuxley()
    at, near = (neuron._gates(torch.tensor([v], dtype=torch.float64)) for v in (-40.0, -40.0 + 1e-7))
    assert float(at["m"][0]) == pytest.approx(1.0, abs=1e-12)
    assert float(near["m"][0]) == pytest.approx(1.0, abs=1e-6)
    assert float(neuron._gates(torch.tensor([-55.0]).double())["n"][0]) == pytest.approx(0.1, abs=1e-12)


def test_f_i_curve_of_the_squid_axon() -> None:
    """In steps of 1 uA/cm2: one spike from 3 on, a train from 7 on, that jumps to some 60 Hz and rises to 100."""
    dt, currents = 0.04, np.arange(0, 31)
    spikes = simulate_neurons(HodgkinHuxley(), _held(currents, 300.0, dt), dt, record=())["spikes"][0]
    n_spikes, late = spikes.sum(0), spikes[round(100 / dt) :].sum(0) / 0.2
    assert (n_spikes[:2] == 0).all()
    assert (n_spikes[3:6] >= 1).all()
    assert (late[:6] == 0).all()
    assert (late[7:] > 50).all()
    assert (late[7:].diff() >= -5.1).all()  # one spike more or less within the window
    assert 60 <= float(late[10]) <= 75


def test_squid_axon_is_refractory() -> None:
    """Two pulses of 1 ms: the second makes no spike 4 ms after the first, and one 20 ms after it."""
    dt, neuron = 0.02, HodgkinHuxley()
    for gap, expected in ((4.0, 1), (20.0, 2)):
        current = torch.zeros(1, 2500, 1, dtype=torch.float64)
        for start in (5.0, 5.0 + gap):
            current[:, round(start / dt) : round((start + 1) / dt)] = 15.0
        assert int(simulate_neurons(neuron, current, dt)["spikes"].sum()) == expected


def test_traub_miles_fires_at_the_measured_rate() -> None:
    spikes = simulate_neurons(HodgkinHuxley.traub_miles(), _held([0.0, 700.0], 250.0, 0.04), 0.04)["spikes"][0].sum(0)
    assert int(spikes[0]) == 0
    assert int(spikes[1]) == pytest.approx(25, abs=2)  # 100 Hz at .7 nA


def test_membrane_equation_by_an_independent_solver() -> None:
    from scipy.integrate import solve_ivp

    def flow(_: float, y: np.ndarray) -> list[float]:
        v, m, h, n = y
        a_m, b_m = 0.1 * (v + 40) / (1 - math.exp(-(v + 40) / 10)), 4 * math.exp(-(v + 65) / 18)
        a_h, b_h = 0.07 * math.exp(-(v + 65) / 20), 1 / (1 + math.exp(-(v + 35) / 10))
        a_n, b_n = 0.01 * (v + 55) / (1 - math.exp(-(v + 55) / 10)), 0.125 * math.exp(-(v + 65) / 80)
        current = 10 - 120 * m**3 * h * (v - 50) - 36 * n**4 * (v + 77) - 0.3 * (v + 54.387)
        return [current, a_m * (1 - m) - b_m * m, a_h * (1 - h) - b_h * h, a_n * (1 - n) - b_n * n]

    rest = HodgkinHuxley().initial_state(1)
    start = [float(rest[name]) for name in ("v", "m", "h", "n")]
    exact = solve_ivp(flow, (0, 80), start, rtol=1e-8, atol=1e-8, max_step=0.2)
    crossings = exact.t[np.flatnonzero(np.diff(np.sign(exact.y[0] + 20)) > 0)]
    periods = [float(_steps(HodgkinHuxley(), 10.0, 80.0, dt)[1:].double().diff().mean()) * dt for dt in (0.04, 0.02)]
    errors = np.array(periods) / np.diff(crossings[1:]).mean() - 1
    assert 0 < errors[1] < 0.012
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.4)  # a method of first order
