"""Spiking networks under nm.adapt, and their copies in Brian2: the same numbers, edits in every time step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import brian2
import pytest
import torch

from neuros_mechint.adapters.brian2.export import to_brian2
from neuros_mechint.adapters.brian2.imported import brian2_to_torch
from neuros_mechint.adapters.conformance import check_adapter
from neuros_mechint.adapters.registry import adapt
from neuros_mechint.adapters.spiking import SpikingAdapter
from neuros_mechint.core.edits import Add, Clamp, Zero
from neuros_mechint.core.errors import InputError, SiteError
from neuros_mechint.neuro.biophysics.neurons.adex import AdEx
from neuros_mechint.neuro.biophysics.neurons.hodgkin_huxley import HodgkinHuxley
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork
from neuros_mechint.neuro.biophysics.spiking.surrogate import Arctan
from neuros_mechint.neuro.biophysics.synapses import AMPA, NMDA, CurrentSynapse

MILLIVOLTS = LIF(20.0, -65.0, -50.0, -60.0, 0.1, refractory=2.0)
_SIZES: dict[str, Any] = {"sizes": [4, 5, 3]}


@pytest.fixture(autouse=True)
def numpy_target() -> None:
    brian2.prefs.codegen.target = "numpy"


def _spikes(*shape: int, rate: float = 0.3, seed: int = 0) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).double()


def _network(**options: Any) -> SpikingNeuralNetwork:
    return SpikingNeuralNetwork(**(_SIZES | options)).double()


# -- sites -------------------------------------------------------------------------------------------------------------


def test_adapter_conforms() -> None:
    network = _network(
        recurrent=[True, False],
        synapse=CurrentSynapse(3.0),
        delay=[0.0, 1.0],
        surrogate=Arctan(graded=True),
        scale=3.0,
    )
    adapter = adapt(network)
    assert isinstance(adapter, SpikingAdapter)
    report = check_adapter(adapter, _spikes(3, 6, 4, rate=0.5))
    report.assert_passed()
    assert next(one for one in report.outcomes if one.check == "gradients are derivatives").passed


def test_only_gradients_of_hard_spikes_are_no_derivatives() -> None:
    network = _network(recurrent=True, synapse=CurrentSynapse(3.0), scale=3.0)
    report = check_adapter(adapt(network), _spikes(3, 6, 4, rate=0.5))
    assert [one.check for one in report.outcomes if one.passed is False] == ["gradients are derivatives"]


def test_captures_are_the_states() -> None:
    network, inputs = _network(recurrent=True, synapse=CurrentSynapse(4.0)), _spikes(2, 40, 4)
    acts = adapt(network).capture(inputs, "*")
    for index, spikes in enumerate(network.run(inputs)):
        torch.testing.assert_close(acts[f"layers.{index}.spikes"], spikes.detach(), rtol=0, atol=0)
    layer = network.spiking_layers[1]
    opened, state = torch.zeros(2, 3).double(), layer.neuron.initial_state(2, 3)
    fired = torch.zeros(2, 3).double()
    assert layer.recurrent_weight is not None
    for time in range(40):
        below = acts["layers.0.spikes"][:, time - 1] if time else torch.zeros(2, 5).double()
        arriving = below @ layer.weight.T + fired @ layer.recurrent_weight.T
        opened = (layer.synapse.decayed(opened, 1.0, "exponential_euler") + arriving).detach()
        state, fired = layer.neuron.step(state, opened, 1.0)
        torch.testing.assert_close(acts["layers.1.synapses"][:, time], opened)
        torch.testing.assert_close(acts["layers.1.membrane"][:, time], state["v"])


def test_zero_on_spikes_silences_exactly() -> None:
    network, inputs = _network(sizes=[4, 40, 10]), _spikes(2, 60, 4)
    adapter = adapt(network)
    plain = adapter.capture(inputs, "*")
    assert bool((plain["layers.0.spikes"][..., :20].sum((0, 1)) > 0).any())
    some = adapter.run(inputs, Zero("layers.0.spikes[unit=0:20]"), capture="layers.0.spikes").activations
    assert not some["layers.0.spikes"][..., :20].any()
    torch.testing.assert_close(some["layers.0.spikes"][..., 20:], plain["layers.0.spikes"][..., 20:], rtol=0, atol=0)
    silent = adapter.run(inputs, Zero("layers.0.spikes"))
    assert not silent.output.any()
    late = adapter.run(inputs, Zero("layers.0.spikes[time=30:]"), capture="*").activations
    torch.testing.assert_close(late["layers.1.spikes"][:, :30], plain["layers.1.spikes"][:, :30], rtol=0, atol=0)
    assert not late["layers.0.spikes"][:, 30:].any()


def test_currents_drive_and_clamps_hold() -> None:
    adapter, inputs = adapt(_network()), torch.zeros(1, 80, 4).double()
    driven = adapter.run(inputs, Add("layers.0.synapses[unit=2]", 2.0), capture="layers.0.spikes").activations
    counts = driven["layers.0.spikes"][0].sum(0)
    interval = 14  # 20 ln 2 = 13.9 steps
    assert counts.tolist() == [0, 0, 80 // interval, 0, 0]
    held = adapter.run(inputs, Clamp("layers.0.membrane", 0.5, 0.6), capture="layers.0.membrane").activations
    assert float(held["layers.0.membrane"].min()) == 0.5


def test_gradients_go_through_the_surrogate() -> None:
    network, inputs = _network(surrogate="arctan"), _spikes(2, 30, 4)
    found = adapt(network).gradients(inputs, "layers.0.spikes", lambda output: output.sum((1, 2)))
    assert found["layers.0.spikes"].shape == (2, 30, 5)
    assert float(found["layers.0.spikes"].abs().max()) > 0


def test_refusals_of_the_adapter() -> None:
    adapter = adapt(_network())
    with pytest.raises(SiteError, match=r"layers.0.spikes"):
        adapter.capture(_spikes(1, 5, 4), "layers.0.spike")
    with pytest.raises(InputError, match="do not fit the network"):
        adapter.capture(_spikes(1, 5, 3), "layers.0.spikes")
    with pytest.raises(InputError, match="not finite"):
        adapter.capture(torch.full((1, 5, 4), float("nan")), "layers.0.spikes")


# -- Brian2 ------------------------------------------------------------------------------------------------------------

_CASES: dict[str, dict[str, Any]] = {
    "layers": {},
    "recurrent": {"recurrent": True},
    "decaying, delayed": {"synapse": CurrentSynapse(4.0), "recurrent": True, "delay": [2.0, 3.0]},
    "at once": {"delay": 0.0},
    "at once and later": {"delay": [0.0, 1.0], "recurrent": True, "synapse": CurrentSynapse(4.0)},
    "millivolts": {"neuron": MILLIVOLTS, "recurrent": True, "dt": 0.5},
    "conductances": {"neuron": replace(MILLIVOLTS, refractory=0.0), "synapse": [AMPA(), NMDA()], "dt": 0.5},
    "adex": {"neuron": AdEx(), "synapse": CurrentSynapse(5.0), "dt": 0.5},
    "hodgkin and huxley": {"neuron": HodgkinHuxley.traub_miles(), "synapse": AMPA(), "dt": 0.05},
}


@pytest.mark.parametrize("case", _CASES)
def test_brian2_fires_the_same_spikes(case: str) -> None:
    network = _network(sizes=[6, 20, 10], **_CASES[case])
    with torch.no_grad():
        for layer in network.spiking_layers:
            layer.weight.mul_(1.5)
    copy = to_brian2(network)
    for seed in (0, 1):
        inputs = _spikes(1, 150, 6, rate=0.2, seed=seed)
        for ours, theirs in zip(network.run(inputs), copy.run(inputs[0]), strict=True):
            assert int(ours.count_nonzero()) > 10
            assert torch.equal(ours[0].detach().bool(), theirs.bool())


def test_a_copy_whose_layers_act_at_once_can_be_adapted() -> None:
    network, inputs = _network(sizes=[6, 20, 10], delay=0.0, scale=3.0), _spikes(1, 50, 6)
    copy = to_brian2(network).network
    times, units = inputs[0].numpy().nonzero()[:2]
    copy["inputs"].set_spikes(units, times * brian2.ms)
    model, wanted = adapt(copy, duration=50 * brian2.ms), network.run(inputs)
    found = model.capture(1, "*.spikes")
    for layer, spikes in enumerate(wanted):
        assert spikes.any()
        assert torch.equal(found[f"layer_{layer}.spikes"], spikes.detach().bool())
    silent = model.run(1, Zero("layer_0.spikes[unit=0:10]"), capture="*.spikes").activations
    assert not silent["layer_0.spikes"][..., :10].any()
    assert torch.equal(silent["layer_0.spikes"][..., 10:], found["layer_0.spikes"][..., 10:])


def test_what_was_learned_goes_along() -> None:
    network = _network(sizes=[6, 12], bias=True, learn=["tau"])
    with torch.no_grad():
        layer = network.spiking_layers[0]
        layer.logarithms["tau"].fill_(7.0).log_()
        assert layer.bias is not None
        layer.bias.copy_(torch.linspace(0, 1.5, 12))
    inputs = _spikes(1, 100, 6)
    assert torch.equal(network(inputs)[0].detach().bool(), to_brian2(network).run(inputs[0])[0].bool())
    with torch.no_grad():
        layer.weight.mul_(1.01)  # the control: another network fires otherwise
    assert not torch.equal(
        network(inputs)[0].detach().bool(), to_brian2(_network(sizes=[6, 12])).run(inputs[0])[0].bool()
    )


def test_refusals_of_the_export() -> None:
    copy = to_brian2(_network())
    with pytest.raises(InputError, match="something else than spikes"):
        copy.run(torch.full((5, 4), 0.5))
    with pytest.raises(InputError, match="do not fit"):
        copy.run(torch.zeros(5, 3))
    with pytest.raises(InputError, match="graded spikes"):
        to_brian2(_network(surrogate=Arctan(graded=True)))


def test_learned_parameters_are_each_neurons_own_in_brian2() -> None:
    network = _network(sizes=[4, 6, 3], neuron=LIF(tau=10.0), learn=("tau", "threshold"), recurrent=[True, False])
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 0.3 * torch.rand(parameter.shape, generator=random, dtype=torch.float64))
    inputs = _spikes(1, 200, 4, rate=0.5)
    copy, fired = to_brian2(network), [spikes[0].detach().bool() for spikes in network.run(inputs)]
    for found, wanted in zip(copy.run(inputs[0]), fired, strict=True):
        assert wanted.any()
        assert torch.equal(found.bool(), wanted)
    copy.network.restore()
    assert torch.equal(brian2_to_torch(copy.network)(inputs)[0].bool(), fired[-1])
