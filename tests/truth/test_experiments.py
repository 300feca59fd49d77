"""In-silico experiments: the same function on Brian2, spiking and rate networks, against closed forms."""

from __future__ import annotations

import brian2 as b2
import numpy as np
import pytest
import torch
from brian2 import ms, mV, nA, pA

import neuros_mechint as nm
from neuros_mechint.adapters.brian2.factories import neuron_group
from neuros_mechint.causal.experiments.connections import lesion_connections
from neuros_mechint.causal.experiments.f_i import f_i_curve
from neuros_mechint.causal.experiments.phase_response import phase_response_curve
from neuros_mechint.causal.experiments.populations import drive, silence
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, SiteError
from neuros_mechint.neuro.biophysics.neurons.hodgkin_huxley import HodgkinHuxley
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork
from tests.truth.brian2_networks import lif, plain_runs_in_numpy  # noqa: F401

CURRENTS = np.array([0.5, 0.9, 1.1, 2.0, 4.0])
DT = 0.1  # ms


def in_brian2(neuron, n=1, duration=200):
    return nm.adapt(b2.Network(neuron_group(neuron, n, name="cells")), duration=duration * ms)


def in_torch(neuron, n=1):
    """Unconnected cells: no weight does anything, current comes from the experiment."""
    network = SpikingNeuralNetwork([1, n], neuron, dt=DT).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    return nm.adapt(network)


def nothing(duration, n=1):
    return torch.zeros(n, round(duration / DT), 1, dtype=torch.float64)


# -- f-I curves --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curves():
    neuron = LIF(tau=10.0, refractory=2.0)
    return {
        "brian2": f_i_curve(in_brian2(neuron, duration=80), 1, CURRENTS * pA, "cells.I", "cells.spikes"),
        "torch": f_i_curve(in_torch(neuron), nothing(80), CURRENTS, "layers.0.synapses", "layers.0.spikes", dt=1e-4),
    }


@pytest.mark.parametrize("world", ["brian2", "torch"])
def test_the_intervals_of_lif_cells_are_those_of_theory(curves, world):
    rates = curves[world].data["interval_rate"].values[:, 0]
    above = CURRENTS > 1
    truth = 2.0 + 10.0 * np.log(CURRENTS[above] / (CURRENTS[above] - 1))
    assert np.isnan(rates[~above]).all()
    assert (np.abs(1e3 / rates[above] - truth) <= DT + 1e-9).all()
    assert (curves[world].data["rheobase_low"].item(), curves[world].data["rheobase_high"].item()) == (0.9, 1.1)
    assert curves[world].values.values[:2].tolist() == [0, 0]


def test_brian2_and_torch_give_the_same_curve(curves):
    for name in ("rate", "interval_rate", "n_spikes"):
        assert np.array_equal(curves["brian2"].data[name], curves["torch"].data[name], equal_nan=True)
    assert curves["brian2"].data["current"].attrs["units"] == "pA"
    assert curves["torch"].main.attrs["units"] == "spikes/s"


def test_a_curve_is_told_drawn_and_kept(curves, tmp_path):
    curve = curves["brian2"]
    summary = curve.summary()
    assert "rheobase: between 0.9 and 1.1 pA (1 of 1 cells)" in summary
    assert curve.plot().get_xlabel() == "injected current (pA)"
    assert nm.load_result(curve.save(tmp_path / "curve.nc")) == curve


def test_cells_that_never_fire_have_no_rheobase():
    curve = f_i_curve(in_torch(LIF()), nothing(20), [0.1, 0.5], "layers.0.synapses", "layers.0.spikes")
    assert np.isnan(curve.rheobase)
    assert "1 of 1 cells never fire" in curve.warnings[0]
    assert curve.main.attrs["units"] == "spikes/s"  # a spiking network knows its time step


@pytest.mark.slow
def test_a_squid_axon_has_the_same_curve_in_both_worlds():
    """Steps of 1 uA/cm2: single spikes below repetitive firing, which begins between 6 and 7 (Rinzel 1978)."""
    neuron, currents, dt = HodgkinHuxley(), np.arange(5.0, 9.0), 0.02
    b2.defaultclock.dt = dt * ms
    found = f_i_curve(in_brian2(neuron, duration=120), 1, currents * pA, "cells.I", "cells.spikes", settle=40 * ms)
    network = SpikingNeuralNetwork([1, 1], neuron, dt=dt).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    other = f_i_curve(
        nm.adapt(network),
        torch.zeros(1, 6000, 1, dtype=torch.float64),
        currents,
        "layers.0.synapses",
        "layers.0.spikes",
        settle=0.04,
        dt=dt / 1e3,
    )
    assert np.array_equal(found.data["n_spikes"], other.data["n_spikes"])
    assert (found.data["repetitive_low"].item(), found.data["repetitive_high"].item()) == (6.0, 7.0)
    assert 50 < found.data["interval_rate"].values[-1, 0] < 75


@pytest.mark.slow
def test_a_squid_axon_is_advanced_or_delayed_by_the_phase_of_the_kick():
    """Hodgkin-Huxley cells begin to fire by a Hopf bifurcation: type II (Ermentrout 1996)."""
    b2.defaultclock.dt = 0.02 * ms
    cells = neuron_group(HodgkinHuxley(), 1, name="cells")
    cells.I = 10 * pA
    model = nm.adapt(b2.Network(cells), duration=100 * ms)
    found = phase_response_curve(model, 1, 100 * pA, "cells.I", "cells.spikes", n_phases=10, settle=35 * ms)
    phase, advance = found.data["phase"].values, found.values.values
    assert found.kind == "II"
    assert np.abs(advance[phase < 0.2]).max() < 2 * found.attributes["resolution"]  # refractory
    assert phase[advance.argmin()] < phase[advance.argmax()]  # late kicks advance, those before them delay


@pytest.mark.parametrize(
    ("currents", "options", "message"),
    [
        ([1.0], {}, "makes no curve"),
        ([100, 200] * pA, {}, "has a unit"),
        ([0, 1], {"dt": DT}, "dt is not that of the model(.|\n)*0.0001 s"),
        ([1.0, 1.0], {}, "do not rise"),
        ([1.0, np.nan], {}, "finite"),
        (["a", "b"], {}, "no real numbers"),
        (np.ma.array([0, 1, 2], mask=[0, 1, 0]), {}, "mask"),
        ([0, 1], {"spikes": "layers.0.membrane"}, "holds no spikes"),
        ([0, 1], {"settle": 900.0}, "within the trial"),
        ([0, 1], {"settle": "soon"}, "out of range"),
        ([0, 1], {"dt": -1.0}, "out of range"),
        ([0, 1], {"site": "layers.3.synapses"}, "no site"),
    ],
)
def test_bad_curves_are_refused(currents, options, message):
    arguments = {"site": "layers.0.synapses", "spikes": "layers.0.spikes"} | options
    with pytest.raises((InputError, OptionError, SiteError), match=message):
        f_i_curve(in_torch(LIF()), nothing(20), currents, **arguments)


def test_groups_with_clocks_of_their_own_keep_their_time():
    groups = [
        b2.NeuronGroup(1, "dv/dt = (I - v) / (10*ms) : 1\nI : 1", threshold="v > 1", reset="v = 0", method="exact",
                       name=name, dt=dt * ms)
        for name, dt in (("A", 0.1), ("B", 0.2))
    ]  # fmt: skip
    groups[1].I = 2.0
    curve = f_i_curve(nm.adapt(b2.Network(*groups), duration=100 * ms), 1, [0, 1], "A.I", "B.spikes", settle=0.02)
    assert curve.main.attrs["units"] == "spikes/s"
    assert curve.data["interval_rate"].values == pytest.approx(1e3 / 7.0, rel=0.02)


def test_readouts_of_one_name_are_refused():
    with pytest.raises(InputError, match="two readouts have one name"):
        silence(unconnected(), 1, "E.spikes[unit=0:5]", [lambda x: x.sum(), lambda x: x.mean()], n_controls=0)


def test_units_are_asked_for_by_brian2():
    with pytest.raises(InputError, match=r"unit|dimension"):
        f_i_curve(in_brian2(LIF()), 1, CURRENTS * mV, "cells.I", "cells.spikes")
    with pytest.raises(InputError, match="different kinds"):
        f_i_curve(in_brian2(LIF()), 1, [1 * pA, 2 * mV], "cells.I", "cells.spikes")


# -- phase responses ---------------------------------------------------------------------------------------------------

TAU, DRIVE, KICK = 10.0, 1.5, 0.1


def lif_advance(phase, period):
    """By how many cycles a jump of the potential brings the next spike of a LIF cell forward."""
    v = DRIVE * (1 - np.exp(-phase * period / TAU))
    left = np.where(v + KICK >= 1, 0.0, TAU * np.log((DRIVE - v - KICK) / (DRIVE - 1)))
    return (1 - phase) - left / period


def test_the_phase_response_of_a_lif_cell_is_that_of_theory():
    constant = nothing(60)
    model = in_torch(LIF(tau=TAU))
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.fill_(DRIVE)
    found = phase_response_curve(
        model, constant + 1, KICK, "layers.0.membrane", "layers.0.spikes", n_phases=10, dt=DT / 1e3
    )
    period = TAU * np.log(DRIVE / (DRIVE - 1))
    assert found.attributes["period"] == pytest.approx(period / 1e3, abs=DT / 1e3)
    phase = found.data["phase"].values
    # one step for the spike, and 0.14 for the period of 109.86
    assert np.abs(found.values.values - lif_advance(phase, period)).max() < 1.15 * DT / period
    assert found.data["later"].values == pytest.approx(found.values.values, abs=1.5 * DT / period)  # the reset keeps it
    assert found.kind == "I"


def lif_that_fires():
    text = "dv/dt = (1.5 - v) / (10*ms) : 1"
    return b2.NeuronGroup(1, text, threshold="v > 1", reset="v = 0", name="cell", method="exact")


def test_brian2_gives_the_same_phase_response():
    model = nm.adapt(b2.Network(lif_that_fires()), duration=60 * ms)
    found = phase_response_curve(model, 1, KICK, "cell.v", "cell.spikes")
    period = TAU * np.log(DRIVE / (DRIVE - 1))
    assert np.abs(found.values.values - lif_advance(found.data["phase"].values, period)).max() < 1.15 * DT / period


def test_quadratic_cells_respond_as_one_minus_cosine():
    """Near its saddle-node dv/dt = v^2 + I has the response of type I, (1 - cos 2 pi phase) (Ermentrout 1996)."""
    current, kick, dt = 0.25, 0.02, 0.01
    cell = b2.NeuronGroup(
        1, "dv/dt = (v**2 + 0.25) / ms : 1", threshold="v > 40", reset="v = -40", method="rk4", name="cell",
        dt=dt * ms,
    )  # fmt: skip
    cell.v = -40
    model = nm.adapt(b2.Network(cell), duration=26 * ms)
    found = phase_response_curve(model, 1, kick, "cell.v", "cell.spikes", n_phases=8)
    period, phase = np.pi / np.sqrt(current), found.data["phase"].values
    assert found.attributes["period"] * 1e3 == pytest.approx(period, rel=0.01)
    wanted = kick * (1 - np.cos(2 * np.pi * phase)) / (2 * current) / period
    assert np.abs(found.values.values - wanted).max() < 0.1 * wanted.max() + dt / period


def test_a_kick_that_reaches_nothing_moves_no_spike():
    cells = b2.NeuronGroup(
        1, "dv/dt = (1.5 - v) / (10*ms) : 1\nother : 1", threshold="v > 1", reset="v = 0", name="cell", method="exact"
    )
    found = phase_response_curve(
        nm.adapt(b2.Network(cells), duration=60 * ms), 1, 5.0, "cell.other", "cell.spikes", n_phases=5
    )
    assert np.abs(found.values.values).max() < 1e-2
    assert found.kind == "none"
    assert "no kick moves the spike" in found.summary()
    assert found.plot().get_ylabel() == "advance (cycles)"


def test_a_kick_after_which_nothing_fires_is_told():
    found = phase_response_curve(
        nm.adapt(b2.Network(lif_that_fires()), duration=60 * ms), 1, -1e6, "cell.v", "cell.spikes", n_phases=3
    )
    assert found.values.isnull().all()
    assert "no spike follows 3 of 3 kicks" in found.warnings[0]
    assert "no spike follows any kick" in found.summary()


def test_cells_without_a_phase_are_refused():
    quiet, busy = nm.adapt(b2.Network(lif(1)), duration=60 * ms), nm.adapt(b2.Network(lif(2)), duration=60 * ms)
    with pytest.raises(InputError, match="too rarely"):
        phase_response_curve(quiet, 1, 0.1, "E.v", "E.spikes")
    with pytest.raises(InputError, match="more than one train"):
        phase_response_curve(busy, 1, 0.1, "E.v", "E.spikes")
    with pytest.raises(OptionError, match="kick of 0"):
        phase_response_curve(quiet, 1, 0.0, "E.v", "E.spikes")
    regular = nm.adapt(b2.Network(lif_that_fires()), duration=60 * ms)
    with pytest.raises(InputError, match="time of its own"):
        phase_response_curve(regular, 1, 0.1, "cell.v[time=3]", "cell.spikes")


# -- populations -------------------------------------------------------------------------------------------------------


def unconnected(n=100, duration=30):
    cells = lif(n)
    cells.I = np.linspace(1.1, 3, n)
    return nm.adapt(b2.Network(cells), duration=duration * ms)


def test_silenced_cells_are_silent_and_cells_that_they_do_not_reach_are_unchanged():
    model = unconnected(1000, duration=30)
    before = model.capture(1, "E.spikes")["E.spikes"]
    effects = silence(model, 1, "E.spikes[unit=0:50]", {"rest": "E.spikes[unit=400:1000]"}, n_controls=2)
    assert effects.values.item() == 0
    assert effects.data["baseline"].item() > 50
    assert np.abs(effects.data["control"].values).max() == 0
    during = model.observe(1, nm.Zero("E.spikes[unit=0:50]"), ["E.spikes"]).activations["E.spikes"]
    assert before[..., :50].sum() >= 50
    assert during[..., :50].sum() == 0
    assert torch.equal(during[..., 50:], before[..., 50:])
    assert torch.equal(model.capture(1, "E.spikes")["E.spikes"], before)
    with pytest.raises(InputError, match="overlaps"):
        silence(model, 1, "E.spikes[unit=0:20]", "E.spikes[unit=10:30]", n_controls=0)
    with pytest.raises(InputError, match="not the activity"):
        silence(model, 1, "E.v[unit=0:20]", "E.spikes[unit=50:60]", n_controls=0)


def test_readouts_of_different_lengths_are_refused():
    model, trials = nm.adapt(torch.nn.RNN(2, 6, batch_first=True)), torch.ones(8, 20, 2)
    with pytest.raises(InputError, match="as many values"):
        silence(model, trials, "hidden[unit=0:2]", [lambda out: out[0].mean(), "hidden[unit=5]"], n_controls=0)
    with pytest.raises(InputError, match="one value per sample"):
        silence(model, trials, "hidden[unit=0:2]", lambda out: out[0].mean((0, 2)), n_controls=0)


def chain(weight=0.5):
    """Two cells: the first drives the second, which does not fire alone."""
    cells = lif(2)
    cells.I = [2.0, 0.0]
    synapses = b2.Synapses(cells, cells, "w : 1", on_pre="v_post += w", name="S")
    synapses.connect(i=0, j=1)
    synapses.w = weight
    return nm.adapt(b2.Network(cells, synapses), duration=150 * ms)


def test_what_a_silenced_cell_drives_falls_silent_in_the_window_only():
    model = chain(weight=1.5)
    during = silence(model, 1, "E.spikes[unit=0]", "E.spikes[unit=1]", window=(0.05, 0.15), n_controls=0)
    after = silence(
        model, 1, "E.spikes[unit=0]", "E.spikes[unit=1]", window=(0.05, 0.15), readout_window=(0, 0.05), n_controls=0
    )
    assert during.values.item() == -during.data["baseline"].item() < -50
    assert after.values.item() == 0
    assert "spikes/s" in during.summary()
    assert "(spikes/s)" in during.plot().get_xlabel()
    both = silence(model, 1, "E.spikes[unit=0]", ["E.spikes[unit=1]", "E.v[unit=1]"], n_controls=0)
    assert len(both.plot().patches) == 1  # potentials would not be seen beside rates
    assert "other units" in both.plot().get_title(loc="left")


def test_driving_a_population_follows_its_f_i_curve():
    neuron = LIF(tau=10.0, refractory=2.0)
    model = in_torch(neuron, n=6)
    strengths = [0.0, 1.5, 4.0]
    curve = drive(
        model, nothing(30), "layers.0.synapses[unit=0:3]", strengths, "layers.0.spikes[unit=0:3]", dt=1e-4,
        n_controls=0,
    )  # fmt: skip
    alone = f_i_curve(model, nothing(30), strengths, "layers.0.synapses", "layers.0.spikes", dt=1e-4)
    assert curve.values.values == pytest.approx(alone.values.values, abs=1e-9)
    assert np.ptp(alone.values.values) > 50


def test_driven_cells_of_brian2_follow_their_f_i_curve_and_the_others_do_nothing():
    model, strengths = nm.adapt(b2.Network(lif(6)), duration=30 * ms), [0.0, 1.5, 4.0]
    alone = f_i_curve(model, 1, strengths, "E.I[unit=0:2]", "E.spikes[unit=0:2]")
    driven = drive(model, 1, "E.I[unit=0:2]", strengths, "E.spikes[unit=0:2]", n_controls=0)
    assert np.array_equal(driven.values.values, alone.values.values)
    others = drive(model, 1, "E.I[unit=0:2]", strengths, "E.spikes[unit=2:6]", n_controls=0)
    assert not others.values.values.any()


def test_silenced_units_of_a_spiking_network_leave_their_targets_without_input():
    network = SpikingNeuralNetwork([1, 2, 2], LIF(tau=10.0), dt=DT).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        network.layers[0].weight.fill_(3.0)
        network.layers[1].weight[0, 0] = 150.0  # one cell reads one: a spike is a jump of 150 dt / tau = 1.5
    inputs = torch.ones(2, 300, 1, dtype=torch.float64)
    read = {"reads it": "layers.1.spikes[unit=0]", "beside it": "layers.0.spikes[unit=1]"}
    effects = silence(nm.adapt(network), inputs, "layers.0.spikes[unit=0]", read, n_controls=0, dt=DT / 1e3)
    assert effects.data["baseline"].values.min() > 50
    assert effects.values.values == pytest.approx([-effects.data["baseline"][0].mean().item(), 0.0])
    with pytest.raises(InputError, match="not the activity"):
        silence(nm.adapt(network), inputs, "layers.0.membrane[unit=0]", "layers.1.spikes", n_controls=0)


def test_rate_networks_are_silenced_and_driven_by_the_same_functions():
    rnn = torch.nn.RNN(1, 4, batch_first=True).double()
    with torch.no_grad():
        for weight in rnn.parameters():
            weight.zero_()
        rnn.weight_ih_l0[0] = 1.0
        rnn.weight_hh_l0[1, 0] = 2.0  # the second unit reads the first
    inputs = torch.ones(5, 10, 1, dtype=torch.float64)
    model = nm.adapt(rnn)
    effects = silence(
        model, inputs, "hidden[unit=0]", {"reads it": "hidden[unit=1]", "does not": "hidden[unit=3]"}, window=(2, 8),
        n_controls=1,
    )  # fmt: skip
    # silenced at steps 2 to 7, the second unit is silent one step later, up to the end of the window
    assert effects.values.values == pytest.approx([-np.tanh(2 * np.tanh(1)) * 5 / 6, 0.0])
    curve = drive(model, inputs, "hidden[unit=0]", [-1.0, 0.0, 1.0], "hidden[unit=1]", n_controls=2)
    assert (np.diff(curve.values.values) > 0).all()
    assert np.ptp(curve.data["control"].values, axis=-1).max() == 0  # whom the second unit does not read


# -- connections -------------------------------------------------------------------------------------------------------


def test_weaker_connections_drive_less_and_the_network_is_left_as_it_was():
    model = chain(weight=1.5)
    before = model.capture(1, "E.spikes")["E.spikes"]
    curve = lesion_connections(model, 1, "S.w", "E.spikes[unit=1]", factors=[0.0, 0.5, 1.0], n_controls=0)
    rates = curve.values.values
    assert rates[0] == 0
    assert (np.diff(rates) >= 0).all()
    assert rates[-1] > 50
    assert curve.attributes["n_connections"] == 1
    assert torch.equal(model.capture(1, "E.spikes")["E.spikes"], before)


def test_inhibition_that_is_cut_lets_its_targets_fire_and_nothing_else_does():
    cells = lif(3)
    cells.I = [3.0, 1.3, 1.3]
    synapses = b2.Synapses(cells, cells, "w : 1", on_pre="v_post += w", name="S")
    synapses.connect(i=[0, 2], j=[1, 0])
    synapses.w = [-0.6, 0.0]  # the second connection carries nothing
    model = nm.adapt(b2.Network(cells, synapses), duration=100 * ms)
    cut = lesion_connections(model, 1, "S.w", "E.spikes[unit=1]", sources=[0], factors=[0.0, 1.0], n_controls=0)
    assert cut.values.values[0] > cut.values.values[1] + 20
    none = lesion_connections(model, 1, "S.w", "E.spikes[unit=1]", sources=[2], factors=[0.0, 1.0], n_controls=0)
    assert none.values.values[0] == none.values.values[1]
    with pytest.raises(InputError, match="no such connection"):
        lesion_connections(model, 1, "S.w", "E.spikes[unit=1]", sources=[1], n_controls=0)
    some = lesion_connections(model, 1, "S.w", "E.spikes[unit=1]", sources=[0, 99], factors=[0.0, 1.0], n_controls=0)
    assert "1 of 2 sources have no connection at 'S.w': [99]" in some.warnings
    for sources in ([True, False, False], [0.0], "all", np.ma.array([0, 2], mask=[False, True])):
        with pytest.raises(InputError, match=r"no numbers of cells|mask"):
            lesion_connections(model, 1, "S.w", "E.spikes[unit=1]", sources=sources, n_controls=0)
    with pytest.raises(CapabilityError, match="no connections"):
        lesion_connections(model, 1, "E.v", "E.spikes[unit=1]", n_controls=0)


def test_random_connections_that_carry_nothing_are_told_from_those_that_drive():
    """Of ten connections two carry all; those of the controls that miss both leave the rate as it is."""
    cells = lif(20)
    cells.I = np.repeat([3.0, 0.0], 10)
    synapses = b2.Synapses(cells, cells, "w : 1", on_pre="v_post += w", name="S")
    synapses.connect(i=np.arange(10), j=np.arange(10, 20))
    synapses.w = np.repeat([1.5, 0.0], [2, 8])
    model = nm.adapt(b2.Network(cells, synapses), duration=30 * ms)
    curve = lesion_connections(
        model, 1, "S.w", "E.spikes[unit=10:20]", sources=[0, 1], factors=[0.0, 1.0], n_controls=9
    )
    assert curve.values.values[0] == 0 < curve.values.values[1]
    controls, whole = curve.data["control"].values, curve.values.values[1]
    assert set(np.round(controls[:, 0] / whole, 6)) <= {0.0, 0.5, 1.0}  # both, one or none of the two were cut
    assert (controls[:, 0] == whole).any()
    assert np.array_equal(controls[:, 1], np.full(9, whole))
    assert curve.attributes["connections"] == [0, 1]


def test_a_warning_of_too_few_samples_counts_all_readouts():
    model = nm.adapt(torch.nn.RNN(1, 4, batch_first=True))
    inputs = torch.arange(12.0).reshape(4, 3, 1)
    effects = silence(model, inputs, "hidden[unit=0]", ["hidden[unit=1]", "hidden[unit=2]"], n_controls=0)
    told = [one for one in effects.warnings if "no adjusted p" in one]
    assert len(told) == 1
    assert "2 tests" in told[0]


@pytest.mark.parametrize(
    ("site", "readout", "options", "error"),
    [
        ("E.spikes[unit=(0, 900)]", "E.spikes[unit=90]", {}, SiteError),
        ("F.spikes", "E.spikes[unit=90]", {}, SiteError),
        ("E.spikes[unit=0:5]", [], {}, InputError),
        ("E.spikes[unit=0:5]", "E.spikes[unit=90]", {"window": (0.05, 0.02)}, InputError),
        ("E.spikes[unit=0:5]", "E.spikes[unit=90]", {"window": (0, 9)}, InputError),
        ("E.spikes[unit=0:5]", "E.spikes[unit=90]", {"window": 3}, InputError),
        ("E.spikes[unit=0:5]", "E.spikes[unit=90]", {"window": (0, 1 * nA)}, InputError),
        ("E.spikes[unit=0:5]", "E.spikes[unit=90]", {"n_controls": -1}, OptionError),
    ],
)
def test_bad_populations_and_windows_are_refused(site, readout, options, error):
    with pytest.raises(error):
        silence(unconnected(), 1, site, readout, **({"n_controls": 0} | options))
