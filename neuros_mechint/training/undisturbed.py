"""Looking at a network in the middle of its training, and leaving no trace of it."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from neuros_mechint.adapters.running import evaluating
from neuros_mechint.core.errors import InputError


@contextmanager
def undisturbed(module: nn.Module, strangers: bool = False) -> Generator[None]:
    """Run in eval mode, and put back whatever a look may have moved.

    Random states (torch on every device that holds weights, NumPy, Python), train and eval flags, ``.grad``,
    ``.requires_grad`` and buffers are afterwards what they were.

    Parameters
    ----------
    module : torch.nn.Module
    strangers : bool
        Whether functions of others run inside, which may change weights through ``.data``: weights are compared by
        value then, and not by version alone.

    Raises
    ------
    InputError
        The weights were changed inside: there is no copy to put back.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> before = torch.random.get_rng_state()
    >>> with undisturbed(model):
    ...     model(torch.rand(3, 2)).sum().backward()
    >>> model.weight.grad is None, torch.equal(before, torch.random.get_rng_state()), model.training
    (True, True, True)
    """
    parameters = list(module.parameters())
    gradients = [(parameter.grad, parameter.requires_grad) for parameter in parameters]
    weights = _marks(parameters, strangers)
    buffers = [
        (part, name, buffer, None if buffer is None else buffer.clone())
        for part in module.modules()
        for name, buffer in part._buffers.items()
    ]
    devices = sorted({parameter.device.index for parameter in parameters if parameter.device.type == "cuda"})
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - others may draw from it
    for parameter in parameters:
        parameter.grad = None  # what is accumulated inside stays apart from the caller's
    try:
        with torch.random.fork_rng(devices), evaluating(module):
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
        for parameter, (gradient, trained) in zip(parameters, gradients, strict=True):
            parameter.requires_grad = trained
            parameter.grad = gradient
        with torch.no_grad():
            for part, name, buffer, copy in buffers:
                part._buffers[name] = buffer  # a module with a state may have put another in its place
                # by value: batch normalisation moves its statistics without a new version
                if buffer is not None and copy is not None and not torch.equal(buffer, copy):
                    buffer.copy_(copy)
    if weights != _marks(parameters, strangers):
        raise InputError(
            "a metric changed the weights of the model while it was training",
            expected="metrics that only look",
            fix="work on copy.deepcopy of the module inside the metric",
        )


def _marks(parameters: list[nn.Parameter], by_value: bool) -> list[tuple[int, int, str]]:
    """Return what shows that weights were changed, by value also through ``.data``, which counts no version."""
    # as text, in which NaN is NaN
    return [(one._version, one.data_ptr(), repr(one.detach().sum().item()) if by_value else "") for one in parameters]
