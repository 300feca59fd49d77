"""Activation functions written out in many elementwise steps, and the single kernels that compute the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

Function = Callable[[torch.Tensor], torch.Tensor]

_KERNELS: tuple[Function, ...] = (partial(F.gelu, approximate="tanh"), F.gelu, F.silu, F.relu)
_BUILT_IN = (nn.GELU, nn.SiLU, nn.ReLU)
_PROBE = torch.cat([torch.linspace(-12, 12, 481), torch.tensor([-100.0, 0.0, 100.0])])


def fused_activations(module: nn.Module, paths: Sequence[str]) -> Mapping[str, Function]:
    """Return, for modules below ``paths`` that are an activation function in disguise, the kernel that computes it.

    A module qualifies by what it returns: it holds no numbers and no other modules, and agrees with the kernel on a
    grid of values to rounding.

    Parameters
    ----------
    module : torch.nn.Module
        The model.
    paths : sequence of str
        Where to look.

    Examples
    --------
    >>> class Swish(nn.Module):
    ...     def forward(self, x):
    ...         return x * torch.sigmoid(x)
    >>> list(fused_activations(nn.Sequential(Swish(), nn.Tanh()), ["0", "1"]))
    ['0']
    """
    found: dict[str, Function] = {}
    for path in paths:
        for name, part in module.get_submodule(path).named_modules():
            kernel = None if isinstance(part, _BUILT_IN) or _holds_anything(part) else _kernel_of(part)
            if kernel is not None:
                found[f"{path}.{name}".rstrip(".")] = kernel
    return found


def _holds_anything(part: nn.Module) -> bool:
    return any(True for held in (part.children, part.parameters, part.buffers) for _ in held())


def _kernel_of(part: nn.Module) -> Function | None:
    values = _PROBE.reshape(2, 2, -1)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            own: Any = part.forward(values.clone())
    except Exception:  # no function of one tensor
        return None
    if not isinstance(own, torch.Tensor) or own.shape != values.shape:
        return None
    return next((kernel for kernel in _KERNELS if torch.allclose(kernel(values), own, rtol=2e-6, atol=2e-6)), None)
