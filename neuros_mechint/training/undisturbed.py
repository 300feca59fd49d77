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
def undisturbed(module: nn.Module) -> Generator[None]:
    """Run in eval mode, and put back whatever a look may have moved.

    Random states (torch on every device that holds weights, NumPy, Python), train and eval flags, ``.grad`` and
    buffers are afterwards what they were.

    Parameters
    ----------
    module : torch.nn.Module

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
    gradients = [parameter.grad for parameter in parameters]
    versions = [parameter._version for parameter in parameters]
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in module.buffers()]
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
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, version, copy in buffers:
                if buffer._version != version:
                    buffer.copy_(copy)
    if versions != [parameter._version for parameter in parameters]:
        raise InputError(
            "a metric changed the weights of the model while it was training",
            expected="metrics that only look",
            fix="work on copy.deepcopy of the module inside the metric",
        )
