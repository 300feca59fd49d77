"""Recurrent networks of rates in Brian2: the rates of torch, the same edits of weights, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import brian2 as b2
import numpy as np
import pytest
import torch
from torch import nn

from neuros_mechint.adapters.brian2.export import to_brian2
from neuros_mechint.adapters.brian2.imported import brian2_to_torch
from neuros_mechint.adapters.brian2.recorded import from_brian2
from neuros_mechint.adapters.registry import adapt
from neuros_mechint.core.edits import Add, Scale, Zero
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, UnknownModelError
from neuros_mechint.datasets.networks import RecurrentNetwork
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentCell, EIRecurrentNetwork
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork
from tests.truth.brian2_networks import plain_runs_in_numpy  # noqa: F401 - used by every test

N_STEPS = 25


def _stimuli(n_trials: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_trials, N_STEPS, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _drawn(network: Any, seed: int) -> Any:
    """Return the network in double precision with weights and biases that are not small, and of no pattern."""
    random = torch.Generator().manual_seed(seed)
    network = network.double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
            if name.endswith("bias"):
                parameter.copy_(noise)
            elif isinstance(network, (EIRecurrentNetwork, EIRecurrentCell)):  # signs and connections stay
                parameter.mul_(1.5 + 0.3 * noise.clamp(-2, 2))
            else:
                parameter.copy_(noise / 2)
    return network


def _by_hand(cell: nn.RNNCellBase, inputs: torch.Tensor) -> torch.Tensor:
    state, states = None, []
    for now in inputs.unbind(0):
        state = cell(now[None], state)
        states.append(state[0])
    return torch.stack(states)


def _of_rnn(rnn: nn.RNN, inputs: torch.Tensor) -> list[torch.Tensor]:
    """Return the rates of all layers: those of the first ones are what a shorter RNN with the same weights gives."""
    found = []
    for n_layers in range(1, rnn.num_layers + 1):
        shorter = nn.RNN(3, rnn.hidden_size, n_layers, rnn.nonlinearity, rnn.bias).double()
        shorter.load_state_dict({name: rnn.state_dict()[name] for name in shorter.state_dict()})
        found.append(shorter(inputs)[0])
    return found


def _of_network(network: Any, inputs: torch.Tensor) -> list[torch.Tensor]:
    if isinstance(network, EIRecurrentNetwork):
        run = network.run(inputs[None])
        return [run.rates[0], run.outputs[0]]
    if isinstance(network, RecurrentNetwork):
        return [network.rnn(inputs[None])[0][0], network(inputs[None])[0]]
    if isinstance(network, nn.RNN):
        return _of_rnn(network, inputs)
    states = _by_hand(network, inputs)
    return [network.rates(states) if isinstance(network, EIRecurrentCell) else states]


CASES: dict[str, Callable[[], Any]] = {
    "rnn": lambda: nn.RNN(3, 8),
    "relu, without biases": lambda: nn.RNN(3, 8, nonlinearity="relu", bias=False, batch_first=True),
    "three layers, at rest from dropout": lambda: nn.RNN(3, 6, num_layers=3, dropout=0.5).eval(),
    "cell": lambda: nn.RNNCell(3, 8, nonlinearity="relu"),
    "read out": lambda: RecurrentNetwork(3, 8, 2),
    "excitation and inhibition": lambda: EIRecurrentNetwork(3, 20, 2, density=0.3, seed=4),
    "all of it": lambda: EIRecurrentNetwork(
        3, 12, 2, alpha=0.7, nonlinearity="softplus", readout="all", self_connections=True, parametrisation="absolute"
    ),
    "one step": lambda: EIRecurrentCell(3, 10, nonlinearity="softplus", alpha=1.0, seed=2),
}


@pytest.mark.parametrize("case", CASES)
def test_rates_in_brian2_are_those_of_torch(case: str) -> None:
    for seed in (0, 2):
        network, inputs = _drawn(CASES[case](), seed), _stimuli(seed=seed)[0]
        if seed == 2:
            inputs *= 30  # currents beyond 20, where torch's softplus is another function
        wanted = [one.detach() for one in _of_network(network, inputs)]
        copy = to_brian2(network)
        found = copy.run(inputs)
        assert [one.shape[1] for one in found] == list(copy.sizes[1:])
        for ours, theirs in zip(found, wanted, strict=True):
            assert float(theirs.abs().mean()) > 0.05  # something happens
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_single_precision_agrees_as_far_as_it_goes() -> None:
    network, inputs = EIRecurrentNetwork(3, 40, 2, seed=1), _stimuli()
    copy, wanted = to_brian2(network), network(inputs.float())[0].detach()
    for _ in range(2):  # from rest, each time
        torch.testing.assert_close(copy.run(inputs[0])[-1].float(), wanted, rtol=1e-5, atol=1e-5)


def test_one_other_weight_makes_another_network() -> None:
    network, inputs = _drawn(nn.RNN(3, 8, num_layers=2), 0), _stimuli()[0]
    wanted, copy = network(inputs)[0].detach(), to_brian2(network)
    for name in ("weights_0", "recurrent_0", "weights_1", "recurrent_1"):
        for change in (1e-3, -1e-3):  # and back
            copy.network.restore()
            copy.network[name].weight[3] += change
            copy.network.store()
            assert (float((copy.run(inputs)[-1] - wanted).abs().max()) > 1e-6) == (change > 0)
    torch.testing.assert_close(copy.run(inputs)[-1], wanted, rtol=1e-10, atol=1e-10)


def test_pairs_that_a_mask_leaves_out_are_no_synapses_and_signs_are_kept() -> None:
    network = EIRecurrentNetwork(3, 20, 2, density=0.3, seed=4)
    copy, within = to_brian2(network).network, network.cell.recurrent
    synapses = copy["recurrent_0"]
    assert within.mask is not None
    assert {(int(j), int(i)) for i, j in zip(synapses.i, synapses.j, strict=True)} == {
        (int(j), int(i)) for j, i in within.mask.nonzero()
    }
    signs = np.sign(synapses.weight[:])
    np.testing.assert_array_equal(signs, within.signs.numpy()[synapses.i[:]])
    assert len(copy["weights_readout"]) == 2 * int(network.excitatory.sum())
    silent = EIRecurrentCell(3, 4)
    with torch.no_grad():
        silent.recurrent.weight.zero_()
    assert not to_brian2(silent).network["recurrent_0"].weight[:].any()


def test_time_constants_are_steps_over_alpha() -> None:
    copy = to_brian2(EIRecurrentNetwork(3, 20, 1, alpha=0.2), dt=20.0)
    assert copy.network["layer_0"].tau[0] / b2.ms == pytest.approx(100)
    assert copy.network["layer_0"].clock.dt / b2.ms == pytest.approx(20)
    inputs = _stimuli()[0]
    once = to_brian2(_drawn(nn.RNN(3, 4), 0))
    torch.testing.assert_close(to_brian2(_drawn(nn.RNN(3, 4), 0), dt=0.1).run(inputs)[0], once.run(inputs)[0])
    assert once.network["layer_0"].tau[0] / b2.ms == pytest.approx(1)


# -- under adapt -------------------------------------------------------------------------------------------------------


def _edited(network: EIRecurrentNetwork, change: Callable[[EIRecurrentNetwork], None]) -> EIRecurrentNetwork:
    edited = deepcopy(network)
    with torch.no_grad():
        change(edited)
    return edited


def _half_within(network: EIRecurrentNetwork) -> None:
    network.cell.recurrent.weight[:, 5:9] *= 0.5


def _no_input(network: EIRecurrentNetwork) -> None:
    network.cell.weight_ih[:, 1] = 0


def _no_readout(network: EIRecurrentNetwork) -> None:
    network.readout.weight[0, 2] = 0


def _slower(network: EIRecurrentNetwork) -> None:
    network.cell.alpha /= 2


@pytest.mark.parametrize(
    ("site", "sources", "edit", "change"),
    [
        ("recurrent_0.weight", (5, 6, 7, 8), lambda site: Scale(site, 0.5), _half_within),
        ("weights_0.weight", (1,), Zero, _no_input),
        ("weights_readout.weight", ((2, 0),), Zero, _no_readout),
        ("layer_0.tau", None, lambda site: Scale(site, 2.0), _slower),
    ],
)
def test_edits_in_brian2_do_what_they_do_in_torch(
    site: str, sources: Any, edit: Callable[[str], Any], change: Callable[[EIRecurrentNetwork], None]
) -> None:
    network, stimuli = _drawn(EIRecurrentNetwork(3, 20, 2, density=0.5, seed=3), 1), _stimuli(2)
    copy = to_brian2(network).network
    model = adapt(copy, input="stimulus")
    if sources is not None:
        ends = copy[site.partition(".")[0]]
        chosen = [
            number
            for number, (i, j) in enumerate(zip(ends.i[:], ends.j[:], strict=True))
            if int(i) in sources or (int(i), int(j)) in sources
        ]
        assert chosen
        site += f"[synapse={tuple(chosen)}]" if len(chosen) > 1 else f"[synapse={chosen[0]}]"
    after = model.run(stimuli, edit(site), capture=["readout.output", "layer_0.x"]).activations
    with torch.no_grad():
        wanted, plain = _edited(network, change).run(stimuli), network.run(stimuli)
    # what a step finds is what the step before has left
    found = torch.as_tensor(after["readout.output"])[:, 1:]
    torch.testing.assert_close(found, wanted.outputs[:, :-1], rtol=1e-10, atol=1e-10)
    rates = torch.as_tensor(after["layer_0.x"])[:, 1:].relu()
    torch.testing.assert_close(rates, wanted.rates[:, :-1], rtol=1e-10, atol=1e-10)
    assert float((found - plain.outputs[:, :-1]).abs().max()) > 1e-3  # the control: the edit matters
    untouched = torch.as_tensor(model.capture(stimuli, "readout.output")["readout.output"])[:, 1:]
    torch.testing.assert_close(untouched, plain.outputs[:, :-1], rtol=1e-10, atol=1e-10)


def test_currents_inputs_and_states_can_be_edited_in_time() -> None:
    network, stimuli = _drawn(EIRecurrentNetwork(3, 20, 2, seed=3), 1), _stimuli(2)
    hidden = adapt(network)
    model = adapt(to_brian2(network).network, input="stimulus", output="readout.output")
    without = stimuli.clone()
    without[:, 10:15, 1] = 0
    found = model.run(stimuli, Zero("inputs.rate[time=10:15,unit=1]")).output["readout.output"][:, 1:]
    torch.testing.assert_close(found, network(without)[:, :-1].detach(), rtol=1e-10, atol=1e-10)
    # a current of 1 enters in torch as alpha times 1; a state that is set is read from the next step on
    for ours, theirs in (
        (Add("layer_0.I[time=4,unit=2]", 1.0), Add("hidden[time=4,unit=2]", network.cell.alpha)),
        (Add("layer_0.x[time=9,unit=3]", 2.0), Add("hidden[time=8,unit=3]", 2.0)),
    ):
        mine = model.run(stimuli, ours, capture="layer_0.x").activations["layer_0.x"][:, 10:]
        other = hidden.run(stimuli, theirs, capture="hidden").activations["hidden"][:, 9:-1]
        torch.testing.assert_close(mine, other.detach(), rtol=1e-10, atol=1e-10)


# -- recorded ----------------------------------------------------------------------------------------------------------


def test_recordings_are_labelled_in_trials_times_and_units() -> None:
    network, stimuli = _drawn(RecurrentNetwork(3, 8, 2), 0), _stimuli(2)
    copy = to_brian2(network, dt=10.0)
    (_, outputs), recorded = copy.run(stimuli[0]), from_brian2(copy.network["outputs"], sites="readout.output")
    assert recorded.data.dims == ("trial", "time", "unit")
    assert recorded.data.shape == (1, N_STEPS, 2)
    np.testing.assert_array_equal(np.asarray(recorded.data)[0], outputs.numpy())
    copy.network.restore()
    both = from_brian2(copy.network, stimuli, sites="layer_0.rate", input="stimulus")
    assert both.data.shape == (2, N_STEPS, 8)
    assert both.sampling_rate == pytest.approx(100)
    wanted = network.rnn(stimuli)[0].detach().numpy()
    np.testing.assert_allclose(np.asarray(both.data)[:, 1:], wanted[:, :-1], rtol=1e-10, atol=1e-10)


# -- bad input ---------------------------------------------------------------------------------------------------------


class _Derived(nn.RNN):
    pass


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: nn.GRU(3, 4), UnknownModelError, "(?s)EIRecurrentNetwork, .*RNNCell.*GRU"),
        (lambda: nn.LSTM(3, 4), UnknownModelError, "LSTM"),
        (lambda: RecurrentNetwork(3, 4, 1, cell="gru"), UnknownModelError, "got: +GRU"),
        (lambda: nn.Linear(3, 4), UnknownModelError, "Linear"),
        (lambda: _Derived(3, 4), UnknownModelError, "_Derived, derived from RNN"),
        (lambda: nn.RNN(3, 4, bidirectional=True), CapabilityError, "from the end"),
        (lambda: nn.RNN(3, 4, num_layers=2, dropout=0.1), CapabilityError, "(?s)dropout=0.1.*|module.eval()"),
    ],
)
def test_other_networks_are_refused_by_what_they_are(
    build: Callable[[], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        to_brian2(build())


def test_weights_inputs_and_steps_that_are_none() -> None:
    broken = nn.RNN(3, 4)
    with torch.no_grad():
        broken.get_parameter("weight_hh_l0")[0, 0] = float("nan")
    with pytest.raises(InputError, match="weight_hh_l0"):
        to_brian2(broken)
    copy = to_brian2(nn.RNN(3, 4))
    for wrong in (torch.zeros(5, 2), torch.zeros(1, 5, 3), torch.zeros(0, 3)):
        with pytest.raises(InputError, match="do not fit"):
            copy.run(wrong)
    with pytest.raises(InputError, match="inputs"):
        copy.run(torch.full((5, 3), float("nan")))
    with pytest.raises(OptionError, match="dt"):
        to_brian2(nn.RNN(3, 4), dt=0.0)
    with pytest.raises(OptionError, match="its own time step"):
        to_brian2(SpikingNeuralNetwork([3, 4]), dt=1.0)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="no network in torch"):
        brian2_to_torch(copy.network)
