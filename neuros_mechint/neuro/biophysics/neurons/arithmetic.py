"""The few functions that the equations need, of numbers, arrays and tensors alike: one text for both worlds.

Gradients need tensors. Where none are wanted, arrays are several times as fast for the small operations of a time step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch


def exp(x: Any) -> Any:
    """Return :math:`e^x`.

    Examples
    --------
    >>> exp(0.0), exp(np.zeros(1)), exp(torch.zeros(1))
    (1.0, array([1.]), tensor([1.]))
    """
    if isinstance(x, torch.Tensor):
        return torch.exp(x)
    return np.exp(x) if isinstance(x, np.ndarray) else math.exp(x)


def exprel(x: Any) -> Any:
    """Return :math:`(e^x - 1) / x` of an array or tensor, which is 1 where x is 0.

    Examples
    --------
    >>> exprel(torch.tensor([0.0, 1.0]))
    tensor([1.0000, 1.7183])
    """
    near = abs(x) < 1e-12
    grown = torch.expm1(x) if isinstance(x, torch.Tensor) else np.expm1(x)
    return where(near, 1.0, grown / where(near, 1.0, x))


def sigmoid(x: Any) -> Any:
    """Return :math:`1 / (1 + e^{-x})` of an array or tensor.

    Examples
    --------
    >>> sigmoid(np.zeros(1))
    array([0.5])
    """
    return torch.sigmoid(x) if isinstance(x, torch.Tensor) else np.divide(1, 1 + np.exp(-x))


def where(condition: Any, one: Any, other: Any) -> Any:
    """Return one value where a condition holds, the other elsewhere.

    Examples
    --------
    >>> where(np.array([True, False]), 1.0, np.zeros(2))
    array([1., 0.])
    """
    return (torch if isinstance(condition, torch.Tensor) else np).where(condition, one, other)


def not_negative(x: Any) -> Any:
    """Return x, or 0 where that is negative.

    Examples
    --------
    >>> not_negative(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return x.clamp(min=0) if isinstance(x, torch.Tensor) else np.maximum(x, 0)


def like(values: Any, other: Any) -> Any:
    """Return values in the type and precision of others.

    Examples
    --------
    >>> like(np.array([True]), np.zeros(1))
    array([1.])
    """
    return values.to(other.dtype) if isinstance(values, torch.Tensor) else values.astype(other.dtype)
