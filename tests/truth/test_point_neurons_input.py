"""Point neurons: what is refused, and numbers of any kind that are taken."""

from __future__ import annotations

import math
from typing import Any

import brian2
import numpy as np
import pytest
import torch

from neuros_mechint.adapters.brian2.factories import neuron_group
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.biophysics.neurons.adex import AdEx
from neuros_mechint.neuro.biophysics.neurons.base import PointNeuron
from neuros_mechint.neuro.biophysics.neurons.hodgkin_huxley import HodgkinHuxley
from neuros_mechint.neuro.biophysics.neurons.izhikevich import Izhikevich
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.neurons.simulate import simulate_neurons
from neuros_mechint.neuro.biophysics.synapses import AMPA, NMDA


@pytest.fixture(autouse=True)
def numpy_target() -> None:
    brian2.prefs.codegen.target = "numpy"


def _held(currents: Any, duration: float, dt: float) -> torch.Tensor:
    """Return currents held for a duration in ms: one sample, one neuron per current."""
    values = torch.as_tensor(np.asarray(currents, dtype=float))
    return values.expand(1, round(duration / dt), len(values))


def test_parameters_that_are_not_physical() -> None:
    for wrong in (
        lambda: LIF(tau=-20.0),
        lambda: LIF(threshold=0.0, reset=0.0),
        lambda: LIF(refractory=-1.0),
        lambda: AdEx(slope=0.0),
        lambda: AdEx(peak=-60.0),
        lambda: Izhikevich(a=-0.1),
        lambda: Izhikevich(c=31.0),
        lambda: HodgkinHuxley(leak=0.0),
        lambda: HodgkinHuxley(kinetics="sqid"),
        lambda: NMDA(magnesium=-1.0),
        lambda: AMPA(tau=0.0),
    ):
        with pytest.raises(OptionError):
            wrong()
    with pytest.raises(InputError, match="tau of LIF: some values are not finite"):
        LIF(tau=math.nan)
    with pytest.raises(InputError, match="tau of LIF: these are no real numbers"):
        LIF(tau="20 ms")
    with pytest.raises(OptionError, match="did you mean 'RS'"):
        Izhikevich.of_type("RSX")


_NO_NUMBERS = {
    "text": "a",
    "None": None,
    "a truth value": True,
    "complex": 1j,
    "a mask": np.ma.masked_array([10.0, 20.0], [0, 1]),
    "uneven": [[10.0], [10.0, 20.0]],
    "sparse": torch.ones(2).to_sparse(),
    "a matrix": torch.full((2, 1), 10.0),
    "nothing": torch.zeros(0),
}


@pytest.mark.parametrize("what", _NO_NUMBERS)
def test_parameters_are_one_number_or_one_for_each_neuron(what: str) -> None:
    """A column (n, 1) would otherwise give samples, not neurons, parameters of their own."""
    for neuron, name in ((LIF, "tau"), (AdEx, "a"), (Izhikevich, "b"), (HodgkinHuxley, "leak")):
        with pytest.raises(InputError, match=f"{name} of {neuron.__name__}"):
            neuron(**{name: _NO_NUMBERS[what]})


def test_parameters_are_those_of_one_number_of_neurons() -> None:
    for wrong in (
        lambda: LIF(tau=[10.0, 20.0], resistance=[1.0, 2.0, 3.0]),
        lambda: LIF(threshold=[1.0, 2.0], reset=[0.0, 0.0, 0.0]),
        lambda: AdEx(peak=[-40.0, -41.0], threshold=[-50.0] * 3),
    ):
        with pytest.raises(InputError, match=r"several numbers of neurons(.|\n)*: 2, \w+: 3|: 3, \w+: 2"):
            wrong()
    assert LIF(tau=[10.0], resistance=[1.0, 2.0]).initial_state(2)["v"].shape == (2,)


def test_a_refractory_time_is_that_of_all_neurons() -> None:
    for neuron in (LIF, AdEx):
        with pytest.raises(InputError, match=r"refractory(.|\n)*one number for all neurons"):
            neuron(refractory=torch.tensor([1.0, 2.0]))
    assert LIF(refractory=torch.tensor(2.0)) == LIF(refractory=np.float64(2.0)) == LIF(refractory=2.0)


@pytest.mark.parametrize(
    "kind", [list, np.array, lambda x: np.array(x, np.float32), torch.tensor, torch.BFloat16Tensor]
)
def test_parameters_of_any_kind_are_the_same_numbers(kind: Any) -> None:
    currents = _held([2.0, 2.0], 60.0, 0.1)
    expected = simulate_neurons(LIF(tau=torch.tensor([8.0, 16.0])), currents, 0.1)["spikes"]
    neuron = LIF(tau=kind([8.0, 16.0]))
    assert torch.equal(simulate_neurons(neuron, currents, np.float64(0.1))["spikes"], expected)
    assert np.array(neuron_group(neuron, 2).tau) == pytest.approx([0.008, 0.016])
    assert int(expected.sum(1).diff()) < 0  # the slower one fires less


@pytest.mark.parametrize("dt", [1, np.int64(1), np.float32(1), np.float64(1)])
def test_steps_may_be_numbers_of_numpy(dt: Any) -> None:
    found = simulate_neurons(LIF(), _held([2.0], 60.0, 1.0), dt)
    assert found["spikes"].any()
    assert found.xarray("v").time.values[1] == 1.0


@pytest.mark.parametrize(("neuron", "dt"), [(LIF(), 25.0), (AdEx(), 3.0), (Izhikevich(), 2.0), (HodgkinHuxley(), 0.2)])
def test_steps_that_are_too_long(neuron: PointNeuron, dt: float) -> None:
    with pytest.raises(OptionError, match="dt is too long"):
        simulate_neurons(neuron, torch.zeros(1, 10, 1), dt)
    with pytest.raises(OptionError, match="dt is out of range"):
        neuron.check_step(-0.1)


@pytest.mark.parametrize(
    "current",
    [
        np.ma.masked_array(np.ones((1, 10, 1)), np.eye(10)[None, :, :1]),
        [[["a"]]],
        [[[1.0], [1.0, 2.0]]],
        torch.ones(1, 10, 1).to_sparse(),
        np.full((1, 10, 1), 1j),
        torch.full((1, 10, 1), math.inf),
        np.zeros((1, 0, 1)),
        None,
    ],
)
def test_currents_that_are_no_numbers(current: Any) -> None:
    with pytest.raises(InputError, match="currents"):
        simulate_neurons(LIF(), current, 0.1)


def test_half_precision_and_gradients_of_currents_are_let_go() -> None:
    exact = torch.full((1, 600, 1), 2.0, dtype=torch.float64)
    expected = simulate_neurons(LIF(), exact, 0.1)["v"]
    for current in (exact.bfloat16(), exact.requires_grad_()):
        assert torch.equal(simulate_neurons(LIF(), current, 0.1)["v"], expected)


def test_currents_and_groups_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="wrong shape"):
        simulate_neurons(LIF(), torch.zeros(10, 1), 0.1)
    with pytest.raises(InputError, match="not finite"):
        simulate_neurons(LIF(), torch.full((1, 10, 1), math.nan), 0.1)
    with pytest.raises(OptionError, match="variable to record 'V'"):
        simulate_neurons(LIF(), torch.zeros(1, 10, 1), 0.1, record=("V",))
    for wrong in (None, "v", 1):
        with pytest.raises(InputError, match="list of names"):
            simulate_neurons(LIF(), torch.zeros(1, 10, 1), 0.1, record=wrong)  # pyright: ignore[reportArgumentType]
    for n_neurons in (2, 4):
        with pytest.raises(InputError, match=rf"tau of LIF is that of another number(.|\n)*\({n_neurons},\)"):
            simulate_neurons(LIF(tau=[10.0, 20.0, 30.0]), torch.zeros(3, 10, n_neurons), 0.1)
    for neuron in (LIF, AdEx, Izhikevich, HodgkinHuxley):
        name = {"LIF": "rest", "AdEx": "rest", "Izhikevich": "b", "HodgkinHuxley": "leak_reversal"}[neuron.__name__]
        several = neuron(**{name: [0.1, 0.2] if name == "b" else [-70.0, -69.0]})
        with pytest.raises(InputError, match=f"{name} of {neuron.__name__} is that of another number"):
            several.initial_state(4, 3)
        assert several.initial_state(4, 2)["v"].shape == (4, 2)
    with pytest.raises(InputError, match="no neuron"):
        simulate_neurons("LIF", torch.zeros(1, 10, 1), 0.1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="leaves all bounds"):
        simulate_neurons(HodgkinHuxley(), torch.full((1, 50, 1), -1e30, dtype=torch.float64), 0.05)
    with pytest.raises(OptionError, match="cannot be called 'v'"):
        neuron_group(LIF(), 1, {"v": AMPA()})
    with pytest.raises(OptionError, match="n is out of range"):
        neuron_group(LIF(), 0)
    for name in (1, "I_synapses", "t", "lambda", "exp", "mV", "lastspike", "_x", "a b"):
        with pytest.raises(OptionError, match="cannot be called"):
            neuron_group(LIF(), 1, {name: AMPA()})  # pyright: ignore[reportArgumentType]
    for synapses in ("ampa", {"ampa": None}, {"ampa": "AMPA"}):
        with pytest.raises(InputError, match="no synapses"):
            neuron_group(LIF(), 1, synapses)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="no neuron"):
        neuron_group(None, 1)  # pyright: ignore[reportArgumentType]
    for name in ("a b", "", "1a", None):
        with pytest.raises(OptionError, match="no such name"):
            neuron_group(LIF(), 1, name=name)  # pyright: ignore[reportArgumentType]


def test_a_group_on_the_default_clock_is_checked_against_it() -> None:
    brian2.defaultclock.dt = 0.1 * brian2.ms
    neuron_group(HodgkinHuxley(), 1)  # whose longest step that is
    HodgkinHuxley().check_step(np.float32(0.1))
    with pytest.raises(OptionError, match=r"dt is too long for LIF(.|\n)*0.1 ms"):
        neuron_group(LIF(tau=0.05), 1)
