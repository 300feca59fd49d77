"""Spiking networks: loops over single steps, formulas of the surrogates, finite differences, planted time constants."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.biophysics.neurons.adex import AdEx
from neuros_mechint.neuro.biophysics.neurons.hodgkin_huxley import HodgkinHuxley
from neuros_mechint.neuro.biophysics.neurons.izhikevich import Izhikevich
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.spiking.layer import SpikingLayer
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork
from neuros_mechint.neuro.biophysics.spiking.surrogate import (
    Arctan,
    FastSigmoid,
    StraightThrough,
    Surrogate,
    as_surrogate,
)
from neuros_mechint.neuro.biophysics.synapses import AMPA, CurrentSynapse, PulseSynapse
from tests.slow import slow_case

MILLIVOLTS = LIF(20.0, -65.0, -50.0, -60.0, 0.1)
_SIZES: dict[str, Any] = {"sizes": [5, 6, 4]}


def _spikes(n_samples: int, n_times: int, n_units: int, rate: float = 0.3, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return (torch.rand(n_samples, n_times, n_units, generator=random) < rate).double()


def _network(**options: Any) -> SpikingNeuralNetwork:
    network = SpikingNeuralNetwork(**(_SIZES | options)).double()
    with torch.no_grad():
        for layer in network.spiking_layers:
            if layer.bias is not None:
                layer.bias.copy_(torch.linspace(0, 0.5, layer.n_units))
    return network


def _by_hand(network: SpikingNeuralNetwork, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Return the spikes of each layer: all layers step by step, spikes kept until they arrive."""
    layers = network.spiking_layers
    states = [layer.current_neuron().initial_state(len(inputs), layer.n_units) for layer in layers]
    opened = [torch.zeros(len(inputs), layer.n_units).double() for layer in layers]
    fired: list[list[torch.Tensor]] = [[] for _ in layers]
    for time in range(inputs.shape[1]):
        for index, layer in enumerate(layers):
            below = list(inputs.unbind(1)) if index == 0 else fired[index - 1]
            neuron, arriving = layer.current_neuron(), torch.zeros_like(opened[index])
            if time >= layer.delay:
                arriving = arriving + below[time - layer.delay] @ layer.weight.T
            if layer.recurrent_weight is not None and time >= max(1, layer.delay):
                arriving = arriving + fired[index][time - max(1, layer.delay)] @ layer.recurrent_weight.T
            kept = layer.synapse.decayed(opened[index], network.dt, neuron.method)
            opened[index] = kept + arriving
            current, conductance = layer.synapse.input(opened[index], states[index]["v"])
            if layer.bias is not None:
                current = current + layer.bias
            states[index], spikes = neuron.step(states[index], current, network.dt, conductance)
            fired[index].append(spikes)
    return [torch.stack(each, 1) for each in fired]


_CASES: dict[str, dict[str, Any]] = {
    "pulses": {},
    "recurrent": {"recurrent": True},
    "decaying, delayed, biased": {
        "synapse": CurrentSynapse(4.0),
        "recurrent": True,
        "delay": [0.0, 3.0],
        "bias": True,
        "learn": ["tau"],
    },
    "neurons that differ": {
        "neuron": [replace(MILLIVOLTS, tau=torch.linspace(5, 20, 6)), MILLIVOLTS],
        "recurrent": True,
    },
    "refractory": {"neuron": replace(MILLIVOLTS, refractory=2.0), "delay": 0.0},
    "conductances": {"neuron": MILLIVOLTS, "synapse": AMPA()},
    "izhikevich": {"neuron": Izhikevich(), "synapse": CurrentSynapse(5.0), "dt": 0.5},
    "adex": {"neuron": AdEx(), "synapse": CurrentSynapse(5.0), "dt": 0.5},
    "hodgkin and huxley": {"neuron": HodgkinHuxley(), "synapse": CurrentSynapse(3.0), "dt": 0.05},
}


@pytest.mark.parametrize("case", _CASES)
def test_spikes_are_those_of_single_steps(case: str) -> None:
    network, inputs = _network(**_CASES[case]), _spikes(3, 200, 5)
    found = network.run(inputs)
    assert all(int(spikes.count_nonzero()) > 5 for spikes in found)
    for ours, by_hand in zip(found, _by_hand(network, inputs), strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=0, atol=0)
    torch.testing.assert_close(network(inputs), found[-1], rtol=0, atol=0)


# -- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("surrogate", [FastSigmoid(3.0), Arctan(1.5), StraightThrough(0.5)])
def test_surrogates_follow_their_formulas(surrogate: Surrogate) -> None:
    above = torch.tensor([-2.0, -0.1, 0.0, 0.3, 5.0], dtype=torch.float64, requires_grad=True)
    spikes = surrogate(above)
    assert spikes.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    spikes.sum().backward()
    k = surrogate.slope
    formula = {
        FastSigmoid: lambda x: 1 / (1 + k * abs(x)) ** 2,
        Arctan: lambda x: k / 2 / (1 + (math.pi / 2 * k * x) ** 2),
        StraightThrough: lambda x: k,
    }[type(surrogate)]
    assert above.grad is not None
    torch.testing.assert_close(above.grad, torch.tensor([formula(x) for x in above.tolist()], dtype=torch.float64))
    smooth = above.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(replace(surrogate, graded=True), (smooth[[0, 1, 3, 4]],))


def _loss_gradients(network: SpikingNeuralNetwork, inputs: torch.Tensor) -> list[torch.Tensor]:
    network.zero_grad()
    given = inputs.clone().requires_grad_()
    random = torch.Generator().manual_seed(3)
    loss = torch.zeros(()).double()
    for spikes in network.run(given):
        loss = loss + (spikes * torch.randn(spikes.shape, generator=random, dtype=torch.float64)).sum()
    loss.backward()
    assert given.grad is not None
    return [given.grad, *(one.grad.clone() for one in network.parameters() if one.grad is not None)]


@pytest.mark.parametrize("truncate", [None, 7])
@pytest.mark.parametrize("case", ["pulses", "recurrent", "decaying, delayed, biased", "neurons that differ"])
def test_gradients_written_out_are_those_of_autograd(
    case: str, truncate: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, inputs = _network(**_CASES[case], truncate=truncate), _spikes(3, 40, 5)
    assert all(layer._plain() for layer in network.spiking_layers)
    ours = _loss_gradients(network, inputs)
    monkeypatch.setattr(SpikingLayer, "_plain", lambda layer: False)
    theirs = _loss_gradients(network, inputs)
    assert len(ours) == len(theirs) == 1 + len(list(network.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        assert float(other.abs().max()) > 0
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10 * float(other.abs().max()))


@pytest.mark.parametrize("in_steps", [False, True])
def test_gradients_of_graded_spikes_are_derivatives(in_steps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if in_steps:
        monkeypatch.setattr(SpikingLayer, "_plain", lambda layer: False)
    options = _CASES["decaying, delayed, biased"]
    network = _network(**options, surrogate=Arctan(graded=True), sizes=[3, 4, 2])
    inputs = _spikes(2, 12, 3).requires_grad_()
    weights = [layer.weight for layer in network.spiking_layers]
    taus = [layer.logarithms["tau"] for layer in network.spiking_layers]
    assert torch.autograd.gradcheck(lambda given, *_: network(given), (inputs, *weights, *taus))


def test_truncation_cuts_gradients_and_nothing_else() -> None:
    inputs = _spikes(2, 30, 5)
    options: dict[str, Any] = {"recurrent": True, "synapse": CurrentSynapse(4.0)}
    full, as_long, short = (_network(**options, truncate=steps) for steps in (None, 30, 5))
    torch.testing.assert_close(full(inputs), short(inputs), rtol=0, atol=0)
    gradients = [_loss_gradients(network, inputs) for network in (full, as_long, short)]
    for one, other in zip(*gradients[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.allclose(gradients[0][0], gradients[2][0])
    assert not torch.allclose(gradients[0][1], gradients[2][1])
    given = inputs.clone().requires_grad_()
    short(given)[:, 12].sum().backward()
    assert given.grad is not None
    reached = given.grad.abs().sum((0, 2)).nonzero()[:, 0].tolist()
    assert reached
    assert min(reached) >= 10  # the border before step 12


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
def test_planted_time_constants_are_learned(seed: int) -> None:
    planted, inputs = 12.0, _spikes(16, 100, 8, rate=0.3, seed=seed)
    teacher = SpikingNeuralNetwork([8, 6], LIF(tau=planted), surrogate="arctan", seed=seed).double()
    student = SpikingNeuralNetwork([8, 6], LIF(tau=20.0), surrogate="arctan", learn=["tau"], seed=seed).double()
    layer = student.spiking_layers[0]
    with torch.no_grad():
        layer.weight.copy_(teacher.spiking_layers[0].weight)
    targets = teacher(inputs).detach()
    optimizer = torch.optim.Adam([layer.logarithms["tau"]], 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        (student(inputs).cumsum(1) - targets.cumsum(1)).square().mean().backward()
        optimizer.step()
    tau = layer.logarithms["tau"].detach().exp()
    fires = targets.sum((0, 1)) > 20  # the others say nothing about their time constant
    assert int(fires.sum()) >= 3
    assert float((tau[fires] / planted - 1).abs().max()) < 0.05


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_surrogates_by_name() -> None:
    assert as_surrogate("straight_through") == StraightThrough()
    with pytest.raises(OptionError, match="did you mean 'fast_sigmoid'"):
        as_surrogate("fast-sigmoid")
    with pytest.raises(InputError, match="no surrogate"):
        as_surrogate(3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="slope"):
        FastSigmoid(-1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"neuron": LIF, "sizes": [2, 3]}, "neuron of a layer is of the wrong kind"),
        ({"dt": 30.0}, "dt is too long for LIF"),
        ({"dt": -1.0}, "dt is out of range"),
        ({"delay": 0.3}, "delay is no multiple of dt"),
        ({"delay": -1.0}, "delay is out of range"),
        ({"sizes": [3]}, "a network needs inputs and a layer"),
        ({"sizes": 3}, "sizes are no list"),
        ({"sizes": [3, 0]}, "a size of the network is out of range"),
        ({"recurrent": [True]}, "recurrent does not fit the layers"),
        ({"learn": ["tua"]}, "did you mean 'tau'"),
        ({"learn": "tau"}, "learn is a list of names"),
        ({"learn": None}, "learn is a list of names"),
        ({"learn": [torch.ones(2)]}, "learn is a list of names"),
        ({"learn": ["refractory"]}, "unknown parameter to learn"),
        ({"learn": ["rest"]}, "rest cannot be learned"),
        ({"truncate": 0}, "truncate is out of range"),
        ({"surrogate": "arctn"}, "did you mean 'arctan'"),
        ({"scale": 0.0}, "scale is out of range"),
        ({"neuron": LIF(tau=torch.ones(3))}, "tau of LIF is that of another number of neurons"),
        ({"synapse": 5.0}, "synapse of a layer is of the wrong kind"),
    ],
)
def test_bad_networks_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SpikingNeuralNetwork(**(_SIZES | options))


def test_negative_time_constants_are_refused() -> None:
    with pytest.raises(OptionError, match="tau of LIF is not physical"):
        SpikingNeuralNetwork([2, 3], LIF(tau=-5.0))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (torch.zeros(2, 10, 4), "do not fit"),
        (torch.zeros(10, 5), "do not fit"),
        (torch.full((2, 10, 5), math.nan), "not finite"),
        (torch.zeros(0, 10, 5), "empty"),
        (torch.zeros(2, 10, 5) * 1j, "complex"),
        (torch.zeros(2, 10, 5).to_sparse(), "sparse"),
        ([[1.0]], "do not fit"),
    ],
)
def test_bad_inputs_are_refused(inputs: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _network()(inputs)


@pytest.mark.parametrize("neuron", [LIF(), LIF(refractory=2.0)])  # over all steps at once, and step by step
@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_weights_that_training_has_ruined_do_not_look_like_silence(neuron: LIF, weight: float) -> None:
    network = SpikingNeuralNetwork([5, 4], neuron)
    with torch.no_grad():
        network.spiking_layers[0].weight.fill_(weight)
    with pytest.raises(InputError, match="LIF leaves all bounds"):
        network(torch.zeros(1, 10, 5))


def test_seeds_say_what_the_weights_are_and_leave_torch_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (SpikingNeuralNetwork([5, 4], seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.spiking_layers[0].weight, same.spiking_layers[0].weight)
    assert not torch.equal(one.spiking_layers[0].weight, other.spiking_layers[0].weight)


@pytest.mark.parametrize("synapse", [PulseSynapse(), CurrentSynapse(4.0)])
def test_initial_weights_move_potentials_by_the_scale(synapse: Any) -> None:
    network = SpikingNeuralNetwork([400, 300], synapse=synapse, scale=0.25, seed=0).double()
    layer = network.spiking_layers[0]
    once = torch.zeros(1, 60, 400).double()
    once[:, 0] = 1
    state, opened, largest = layer.neuron.initial_state(1, 300), torch.zeros(1, 300).double(), torch.zeros(300)
    for now in once.unbind(1):
        opened = synapse.decayed(opened, 1.0, "exponential_euler") + now @ layer.weight.T
        state, _ = layer.neuron.step(state, synapse.input(opened, state["v"])[0], 1.0)
        largest = torch.maximum(largest, state["v"][0].abs().detach())
    assert float(largest.square().mean().sqrt()) == pytest.approx(0.25, rel=0.15)
