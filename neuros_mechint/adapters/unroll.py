"""Run ``nn.RNN``, ``nn.GRU`` and ``nn.LSTM`` one time step at a time, so that every state can be read and edited.

torch's fused kernels hide the states between the steps. The unrolled pass uses the module's own weights and gives
the same outputs to float rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from neuros_mechint.core.errors import CapabilityError, InputError

Visit = Callable[[str, int, int, torch.Tensor], torch.Tensor]
"""``visit(side, layer, time, state) -> state``: sees, and may change, each new state ``(batch, unit)``."""
State = tuple[torch.Tensor, ...]
"""``(hidden,)`` of an RNN or GRU, ``(hidden, cell)`` of an LSTM, each ``(layer, batch, unit)``."""


def reason_not_unrollable(module: nn.RNNBase) -> str:
    """Return why the hidden states of ``module`` cannot be offered, or an empty string.

    Examples
    --------
    >>> reason_not_unrollable(nn.GRU(2, 3, bidirectional=True))
    'bidirectional: the states of the two directions have no common time order'
    """
    if module.bidirectional:
        return "bidirectional: the states of the two directions have no common time order"
    return "projected hidden states (proj_size > 0) are not supported" if module.proj_size else ""


def cell_step(module: nn.RNNBase, layer: int, inputs: torch.Tensor, state: State) -> State:
    """Advance one layer by one time step.

    Parameters
    ----------
    module : torch.nn.RNN, GRU or LSTM
        Its weights are used as they are.
    layer : int
        Which layer.
    inputs : torch.Tensor of shape (batch, n_inputs)
        Input of this layer.
    state : tuple of torch.Tensor of shape (batch, n_units)
        ``(hidden,)`` or ``(hidden, cell)``.

    Returns
    -------
    tuple of torch.Tensor of shape (batch, n_units)
    """
    weights = [getattr(module, f"weight_{kind}_l{layer}") for kind in ("ih", "hh")]
    biases = [getattr(module, f"bias_{kind}_l{layer}") for kind in ("ih", "hh")] if module.bias else [None, None]
    if isinstance(module, nn.LSTM):
        hidden, cell = torch.lstm_cell(inputs, [state[0], state[1]], *weights, *biases)
        return hidden, cell
    if isinstance(module, nn.GRU):
        return (torch.gru_cell(inputs, state[0], *weights, *biases),)
    cell_function = torch.rnn_relu_cell if module.mode == "RNN_RELU" else torch.rnn_tanh_cell
    return (cell_function(inputs, state[0], *weights, *biases),)


def initial_state(module: nn.RNNBase, batch: int, like: torch.Tensor) -> State:
    """Return the zero state ``(layer, batch, unit)`` that torch starts from."""
    zeros = like.new_zeros(module.num_layers, batch, module.hidden_size)
    return (zeros, zeros) if isinstance(module, nn.LSTM) else (zeros,)


def unrolled_forward(
    module: nn.RNNBase,
    inputs: torch.Tensor,
    state: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None,
    visit: Visit,
) -> tuple[torch.Tensor, torch.Tensor | State]:
    """Do what ``module(inputs, state)`` does, showing every new state to ``visit``.

    Parameters
    ----------
    module : torch.nn.RNN, GRU or LSTM
        One direction, no projection.
    inputs : torch.Tensor of shape (batch, time, n_inputs) or (time, batch, n_inputs)
        As ``module.batch_first`` says.
    state : torch.Tensor or tuple, optional
        Initial state, as for the module.
    visit : callable
        Called as ``visit("hidden" or "cell", layer, time, state)``.

    Returns
    -------
    outputs, final_state
        As the module returns them.

    Raises
    ------
    InputError
        Packed sequences or inputs without a batch axis.
    CapabilityError
        Bidirectional or projected modules.
    """
    if reason := reason_not_unrollable(module):
        raise CapabilityError(f"hidden states of this {type(module).__name__} cannot be edited: {reason}")
    if not isinstance(inputs, torch.Tensor) or inputs.ndim != 3:
        raise InputError(
            "recurrent inputs must be a padded batch",
            expected="a tensor (batch, time, n_inputs), or (time, batch, n_inputs) without batch_first",
            got=tuple(inputs.shape) if isinstance(inputs, torch.Tensor) else type(inputs).__name__,
            fix="unsqueeze a batch axis, or pad packed sequences with torch.nn.utils.rnn.pad_packed_sequence",
        )
    steps = list(inputs.transpose(0, 1) if module.batch_first else inputs)
    if state is None:
        start = initial_state(module, steps[0].shape[0], inputs)
    else:
        start = (state,) if isinstance(state, torch.Tensor) else tuple(state)
    sides = ("hidden", "cell")[: len(start)]
    final: list[State] = []
    for layer in range(module.num_layers):
        now = tuple(part[layer] for part in start)
        for time, step_inputs in enumerate(steps):
            new = cell_step(module, layer, step_inputs, now)
            now = tuple(visit(side, layer, time, part) for side, part in zip(sides, new, strict=True))
            steps[time] = now[0]
        final.append(now)
    outputs = torch.stack(steps, dim=1 if module.batch_first else 0)
    last = tuple(torch.stack([layer_state[part] for layer_state in final]) for part in range(len(sides)))
    return outputs, last if isinstance(module, nn.LSTM) else last[0]
