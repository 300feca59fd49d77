"""Runs of torch modules with changed recurrent weights, on copies."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.core.numbers import real_array

if TYPE_CHECKING:
    import torch


def recurrent_weights(module: Any, weight: str | None) -> tuple[str, torch.Tensor]:
    """Return the name and the values of the only square recurrent weights of a module, or of those of a name.

    Raises
    ------
    CapabilityError
        No module, or one without recurrent weights that are one square matrix.

    Examples
    --------
    >>> import torch
    >>> name, values = recurrent_weights(torch.nn.RNN(2, 5), None)
    >>> name, tuple(values.shape)
    ('weight_hh_l0', (5, 5))
    """
    import torch

    parameters = dict(module.named_parameters()) if isinstance(module, torch.nn.Module) else {}
    if weight is None:
        names = [name for name in parameters if name.rpartition(".")[2].startswith("weight_hh")]
    else:
        names = [name for name in parameters if name == weight]
    found = [(name, parameters[name].detach()) for name in names]
    if len(found) != 1 or found[0][1].ndim != 2 or len(set(found[0][1].shape)) != 1:
        told = ", ".join(f"{name} {tuple(values.shape)}" for name, values in found) or ", ".join(parameters)
        raise CapabilityError(
            "the recurrent weights of this module are not one square matrix",
            expected="one simple recurrent layer (nn.RNN, nn.RNNCell), or the name of a square parameter as weight=",
            got=told or f"a {type(module).__name__} without parameters",
            fix="write a function of your own: change -> outputs",
        )
    return found[0]


def run_copy(module: torch.nn.Module, name: str, change: torch.Tensor, inputs: torch.Tensor) -> Floats:
    """Return the outputs ``(n_trials, n_times, n_outputs)`` of a copy of a module with changed weights.

    The copy is in evaluation mode and thrown away, and global random numbers are drawn from a copy of their state: a
    batch norm, a dropout or a state that a module keeps changes neither the module nor the next run.

    Raises
    ------
    InputError
        If the module does not take these inputs, or returns something else.

    Examples
    --------
    >>> import torch
    >>> run_copy(torch.nn.RNN(2, 5, batch_first=True), "weight_hh_l0", torch.zeros(5, 5), torch.ones(3, 4, 2)).shape
    (3, 4, 5)
    """
    import torch

    changed = copy.deepcopy(module).eval()
    devices = [inputs.device] if inputs.is_cuda else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        changed.get_parameter(name).add_(change)
        try:
            output = changed(inputs)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise InputError(
                "the module does not take these inputs",
                expected="a module that takes (n_trials, n_times, n_inputs)",
                got=f"shape {tuple(inputs.shape)}; {type(error).__name__}: {error}",
                fix="pass the inputs of the module, or write a function of your own: change -> outputs",
            ) from error
    found = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(found, torch.Tensor) or found.ndim != 3 or found.shape[:2] != inputs.shape[:2]:
        raise InputError(
            "the module does not return outputs of each trial and time",
            expected=f"({inputs.shape[0]}, {inputs.shape[1]}, n_outputs), or a tuple that begins with it",
            got=f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__,
            fix="write a function of your own: change -> outputs",
        )
    return real_array(as_numpy(found), "outputs of the module", finite=False)


def check_trials_apart(module: torch.nn.Module, name: str, weights: torch.Tensor, inputs: torch.Tensor) -> None:
    """Raise `InputError` where a trial has an effect on the next, as in layers that take times first.

    Examples
    --------
    >>> import torch
    >>> rnn = torch.nn.RNN(2, 5, batch_first=True)
    >>> check_trials_apart(rnn, "weight_hh_l0", rnn.weight_hh_l0, torch.ones(3, 4, 2))
    """
    twice = run_copy(module, name, weights.new_zeros(weights.shape), inputs[-1:].repeat(2, 1, 1))
    if abs(twice[0] - twice[1]).max() > 1e-4 * abs(twice).max():
        raise InputError(
            "trials are not independent of each other in this module",
            expected="the same outputs for the same inputs, whatever trial comes before",
            got="other outputs for a repeated trial",
            fix="nn.RNN takes times first unless it has batch_first=True",
        )
