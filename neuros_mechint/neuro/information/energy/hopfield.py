"""The energy of symmetric recurrent networks, which their dynamics only lower."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.numbers import real_array

_ROUNDING, _MOST = 1e-6, 0.1
BINARY = "sign"


def _log_cosh(u: Floats) -> Floats:
    return np.logaddexp(u, -u) - np.log(2)


def _sigmoid(u: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -u))


_RATES: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "tanh": (np.tanh, _log_cosh),
    "sigmoid": (_sigmoid, lambda u: np.logaddexp(0, u) - np.log(2)),
    "relu": (lambda u: np.maximum(u, 0), lambda u: np.maximum(u, 0) ** 2 / 2),
    "linear": (lambda u: u, lambda u: u**2 / 2),
}
"""Each activation, and its integral from 0."""


def asymmetry(weights: Any) -> float:
    r"""Return how far a matrix is from symmetric: :math:`|W - W^T| / |W + W^T|`, 0 to infinite, 1 for random weights.

    Parameters
    ----------
    weights : array_like or torch.Tensor of shape (n_units, n_units)

    Raises
    ------
    InputError
        No square matrix of finite numbers.

    Examples
    --------
    >>> asymmetry([[0.0, 1.0], [1.0, 0.0]]), asymmetry([[1.0, 1.0], [-1.0, 1.0]])
    (0.0, 1.0)
    """
    W = real_array(weights, "weights")
    if W.ndim != 2 or W.shape[0] != W.shape[1] or not W.size:
        raise InputError("weights are no square matrix", expected="(n_units, n_units)", got=f"shape {W.shape}")
    odd, even = float(np.linalg.norm(W - W.T)), float(np.linalg.norm(W + W.T))
    return odd / even if even else (float("inf") if odd else 0.0)


def hopfield_energy(weights: Any, states: Any, bias: Any = None, activation: str = BINARY) -> Floats:
    r"""Return the energy of states of a symmetric recurrent network.

    Of binary states s, :math:`-\tfrac12 s^T W s - b^T s`, which asynchronous updates :math:`s_i = \mathrm{sign}(W s +
    b)_i` never raise. Of potentials u with rates r = g(u) that follow :math:`\tau\,du/dt = -u + W r + b`, the energy
    is :math:`-\tfrac12 r^T W r - b^T r + \sum_i \int_0^{r_i} g^{-1}(v)\,dv`, which never rises. Updates of all units at
    once, as in a discrete-time network, may raise both.

    Parameters
    ----------
    weights : array_like or torch.Tensor of shape (n_units, n_units)
        From column to row; symmetric.
    states : array_like or torch.Tensor of shape (..., n_units)
        -1 and 1, or potentials u (not rates) with an activation.
    bias : array_like or torch.Tensor of shape (n_units,), optional
        And constant input.
    activation : {"sign", "tanh", "sigmoid", "relu", "linear"}
        ``sign`` for binary states.

    Returns
    -------
    numpy.ndarray of shape (...)

    Raises
    ------
    InputError
        Weights whose asymmetry exceeds 0.1: their dynamics may circle, and have no energy. States of another size, or
        that are not -1 and 1. Self-connections below 0 of binary states, whose updates may raise the energy.
    OptionError
        Unknown activation.

    Warns
    -----
    UserWarning
        Where weights are nearly symmetric: the energy is that of their symmetric part, and may rise a bit.

    References
    ----------
    Hopfield 1982, doi:10.1073/pnas.79.8.2554; Hopfield 1984, doi:10.1073/pnas.81.10.3088; Cohen and Grossberg 1983,
    Absolute stability of global pattern formation and parallel memory storage by competitive neural networks,
    doi:10.1109/TSMC.1983.6313075

    Examples
    --------
    >>> pattern = np.array([1.0, -1.0, 1.0, -1.0])
    >>> weights = np.outer(pattern, pattern) / 4 - np.eye(4) / 4
    >>> hopfield_energy(weights, [pattern, [1.0, 1.0, 1.0, -1.0]]).tolist()
    [-1.5, 0.0]
    """
    check_option("activation", activation, (BINARY, *_RATES))
    W, x = _symmetric(weights), real_array(states, "states")
    if not x.ndim or x.shape[-1] != len(W):
        raise InputError("states do not fit the weights", expected=f"(..., {len(W)})", got=f"shape {x.shape}")
    b = np.zeros(len(W)) if bias is None else real_array(bias, "bias")
    if b.shape != (len(W),):
        raise InputError("the bias does not fit the weights", expected=f"({len(W)},)", got=f"shape {b.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        if activation == BINARY:
            _check_binary(W, x)
            energy = -0.5 * ((x @ W) * x).sum(-1) - x @ b
        else:
            rate, integral = _RATES[activation]
            r = rate(x)
            # by parts, in terms of u: a saturated rate has no inverse that double precision can hold
            energy = -0.5 * ((r @ W) * r).sum(-1) - r @ b + (x * r - integral(x)).sum(-1)
    if not np.isfinite(energy).all():
        raise InputError(
            "states or weights are too large for their products to be numbers",
            got=f"states up to {np.abs(x).max():.3g}, weights up to {np.abs(W).max():.3g}",
            fix="take other units",
        )
    return energy


def _symmetric(weights: Any) -> Floats:
    found = asymmetry(weights)
    if found > _MOST:
        raise InputError(
            "weights are not symmetric: their dynamics may circle, and have no energy",
            expected=f"an asymmetry |W - W'| / |W + W'| of at most {_MOST}",
            got=f"{found:.3g}",
            fix='record trajectories and fit EnergyLandscape(method="density"), which tests detailed balance',
        )
    if found > _ROUNDING:
        warnings.warn(
            f"weights have an asymmetry of {found:.2g}: the energy is that of their symmetric part, and may rise a bit",
            UserWarning,
            stacklevel=3,
        )
    W = real_array(weights, "weights")
    return (W + W.T) / 2


def _check_binary(W: Floats, x: Floats) -> None:
    if not (np.abs(x) == 1).all():
        raise InputError(
            "binary states are -1 and 1",
            got=f"values such as {x[np.abs(x) != 1][:3].tolist()}",
            fix="of 0 and 1 take 2 x - 1; of potentials name the activation",
        )
    if (np.diag(W) < 0).any():
        raise InputError(
            "self-connections below 0 let updates raise the energy",
            expected="a diagonal of at least 0",
            got=f"{int((np.diag(W) < 0).sum())} negative ones, the lowest {np.diag(W).min():.3g}",
        )
