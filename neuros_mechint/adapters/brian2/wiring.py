"""Synapses from a matrix of weights, as torch has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.numbers import real_array

if TYPE_CHECKING:
    from brian2 import Synapses


def connect(synapses: Synapses, weights: Floats, unit: Any = 1) -> None:
    """Connect two groups by a matrix of weights, in place; zeros are not connected, unless there is nothing else.

    Parameters
    ----------
    synapses : brian2.Synapses
        Not connected yet, with a variable ``weight``.
    weights : numpy.ndarray of shape (n_target, n_source)
    unit : brian2 Unit, optional
        Of the weights.
    """
    to, of = np.nonzero(weights) if weights.any() else np.nonzero(np.ones_like(weights))
    synapses.connect(i=of, j=to)
    synapses.weight = weights[to, of] * unit


def numbers_of(weights: torch.Tensor, name: str) -> Floats:
    """Return what a parameter holds, in double precision; raise `InputError` where it is not finite."""
    return real_array(weights.detach().double().cpu(), name)
