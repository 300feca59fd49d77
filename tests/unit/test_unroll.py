from __future__ import annotations

import pytest
import torch
from torch import nn

from neuros_mechint.adapters.unroll import cell_step, initial_state, reason_not_unrollable, unrolled_forward
from neuros_mechint.core.errors import CapabilityError, InputError

BATCH, TIME, INPUTS, UNITS = 3, 6, 4, 5


def untouched(_side, _layer, _time, state):
    return state


def build(kind, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(INPUTS, UNITS, **options).double()


@pytest.fixture
def inputs():
    return torch.randn(BATCH, TIME, INPUTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def leaves(state):
    return state if isinstance(state, tuple) else (state,)


OPTIONS = [{}, {"num_layers": 3}, {"bias": False}, {"batch_first": True, "num_layers": 2}]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, options) for kind in (nn.RNN, nn.GRU, nn.LSTM) for options in OPTIONS),
        (nn.RNN, {"nonlinearity": "relu"}),
    ],
)
@pytest.mark.parametrize("with_state", [False, True])
def test_unrolled_equals_fused(kind, options, with_state, inputs):
    module = build(kind, **options)
    given = inputs if module.batch_first else inputs.transpose(0, 1)
    state = None
    if with_state:
        start = torch.randn(
            module.num_layers, BATCH, UNITS, generator=torch.Generator().manual_seed(2), dtype=torch.float64
        )
        state = (start, -start) if kind is nn.LSTM else start
    outputs, final = unrolled_forward(module, given, state, untouched)
    expected_outputs, expected_final = module(given, state)
    torch.testing.assert_close(outputs, expected_outputs)
    for one, other in zip(leaves(final), leaves(expected_final), strict=True):
        torch.testing.assert_close(one, other)
    assert isinstance(final, tuple) == (kind is nn.LSTM)


def test_every_state_is_shown_once_in_order(inputs):
    seen = []

    def visit(side, layer, time, state):
        assert state.shape == (BATCH, UNITS)
        seen.append((side, layer, time))
        return state

    unrolled_forward(build(nn.LSTM, num_layers=2, batch_first=True), inputs, None, visit)
    assert seen == [(side, layer, time) for layer in range(2) for time in range(TIME) for side in ("hidden", "cell")]


def test_an_edited_state_goes_on_to_the_next_step_the_next_layer_and_the_output(inputs):
    module = build(nn.GRU, num_layers=2, batch_first=True)

    def silence(side, layer, time, state):
        return torch.zeros_like(state) if (layer, time) == (0, 2) else state

    outputs, final = unrolled_forward(module, inputs, None, silence)
    own, own_final = module(inputs)
    torch.testing.assert_close(outputs[:, :2], own[:, :2])
    assert not torch.allclose(outputs[:, 2:], own[:, 2:])
    assert not torch.allclose(final[0], own_final[0])
    restarted, _ = module(inputs[:, 3:], torch.stack([torch.zeros(BATCH, UNITS).double(), outputs[:, 2]]))
    torch.testing.assert_close(outputs[:, 3:], restarted)


def test_gradients_equal_those_of_the_fused_kernel(inputs):
    module = build(nn.LSTM, batch_first=True)
    ours, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    (unrolled_forward(module, ours, None, untouched)[0] ** 2).sum().backward()
    (module(theirs)[0] ** 2).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_one_step_is_the_cell():
    module, x = build(nn.GRU), torch.ones(BATCH, INPUTS).double()
    (start,) = initial_state(module, BATCH, x)
    (stepped,) = cell_step(module, 0, x, (start[0],))
    torch.testing.assert_close(stepped, module(x.unsqueeze(0))[0][0])


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"proj_size": 2}])
def test_what_cannot_be_unrolled_says_why(options, inputs):
    module = build(nn.LSTM, batch_first=True, **options)
    reason = reason_not_unrollable(module)
    assert reason
    with pytest.raises(CapabilityError, match=reason[:10]):
        unrolled_forward(module, inputs, None, untouched)


def test_inputs_without_a_batch_and_packed_sequences_are_refused(inputs):
    module = build(nn.GRU, batch_first=True)
    packed = nn.utils.rnn.pack_padded_sequence(inputs, [6, 5, 3], batch_first=True)
    for bad in (inputs[0], packed):
        with pytest.raises(InputError, match="padded batch"):
            unrolled_forward(module, bad, None, untouched)
