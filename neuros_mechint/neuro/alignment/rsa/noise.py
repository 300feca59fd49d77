"""Noise over channels: patterns weighted by its precision, given or estimated from residuals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.neuro.alignment.samples import samples

Weigh: TypeAlias = Callable[[Floats], Floats]
"""Patterns ``(n, n_channels)`` times the precision of the noise."""

_SYMMETRIC = 1e-8


def noise_weighting(noise: Any, residuals: Any, n_channels: int) -> Weigh:
    """Return what multiplies patterns by the precision of the noise; without noise they stay as they are.

    Parameters
    ----------
    noise : array_like, torch.Tensor of shape (n_channels, n_channels), or None
    residuals : array_like, torch.Tensor of shape (n_residuals, n_channels), or None
    n_channels : int

    Raises
    ------
    InputError
        A precision that is not symmetric, not positive or of another size, or residuals that allow no estimate.

    Examples
    --------
    >>> noise_weighting(np.diag([1.0, 4.0]), None, 2)(np.array([[3.0, 5.0]])).tolist()
    [[3.0, 20.0]]
    """
    if residuals is not None:
        return _estimated(samples(residuals, "residuals").values, n_channels)
    if noise is None:
        return lambda patterns: patterns
    precision = _checked(noise, n_channels)
    return lambda patterns: patterns @ precision


def _checked(noise: Any, n_channels: int) -> Floats:
    precision = np.asarray(as_numpy(noise) if isinstance(noise, torch.Tensor) else noise, dtype=np.float64)
    problem = None
    if precision.shape != (n_channels, n_channels):
        problem = f"shape {precision.shape}"
    elif not np.isfinite(precision).all():
        problem = "values that are not finite"
    elif not np.allclose(precision, precision.T, rtol=0, atol=_SYMMETRIC * np.abs(precision).max()):
        problem = f"differences from the transpose up to {np.abs(precision - precision.T).max():g}"
    elif (np.diagonal(precision) <= 0).any():
        problem = "a diagonal that is not positive"
    if problem:
        raise InputError(
            "noise is not the precision of the channels",
            expected=f"a symmetric matrix ({n_channels}, {n_channels}), the inverse of a covariance",
            got=problem,
            fix="pass residuals=(n_residuals, n_channels) to have it estimated",
        )
    return precision


def _estimated(residuals: Floats, n_channels: int) -> Weigh:
    """Return what multiplies by the precision of Schäfer and Strimmer's estimate, as rsatoolbox computes it."""
    n_residuals = len(residuals)
    _check_residuals(residuals, n_channels)
    centred = residuals - residuals.mean(0)
    variances = np.einsum("ij,ij->j", centred, centred) / (n_residuals - 1)
    shrinkage = _shrinkage(centred / np.sqrt(variances))
    scale = np.sqrt((1 - shrinkage) / (n_residuals - 1))
    diagonal = shrinkage * variances
    if n_residuals >= n_channels:
        covariance = scale**2 * (centred.T @ centred)
        covariance[np.diag_indices(n_channels)] += diagonal
        return lambda patterns: np.linalg.solve(covariance, patterns.T).T
    if shrinkage <= 0:
        raise InputError(
            "residuals allow no estimate of the noise: its covariance has no inverse",
            expected=f"more residuals than the {n_channels} channels, or residuals that need shrinkage",
            got=f"{n_residuals} residuals",
        )
    # Woodbury: the covariance is a diagonal and a few products, so that it is inverted among the residuals
    factor = scale * centred
    weighted = factor / diagonal
    small = np.eye(n_residuals) + weighted @ factor.T

    def weigh(patterns: Floats) -> Floats:
        return patterns / diagonal - np.linalg.solve(small, weighted @ patterns.T).T @ weighted

    return weigh


def _shrinkage(standard: Floats) -> float:
    """Return how far correlations are moved towards zero, from standardised residuals ``(n_residuals, n_channels)``.

    Sums over pairs of channels are had from the products of residuals, which are fewer.
    """
    n_residuals, n_channels = standard.shape
    dof = n_residuals - 1
    few = standard @ standard.T if n_residuals < n_channels else standard.T @ standard
    # of correlations r and of the mean squared products: sums over all pairs, less the n_channels on the diagonal
    squared = (few**2).sum() / dof**2 - n_channels
    fourth = np.einsum("ij,ij->i", standard, standard)
    products = ((fourth**2).sum() - (standard**4).sum()) / dof
    variance = n_residuals / dof**2 * (products - squared)
    return float(np.clip(variance / squared, 0, 1)) if squared > 0 else 1.0


def _check_residuals(residuals: Floats, n_channels: int) -> None:
    if residuals.shape[1] != n_channels or len(residuals) < 3:
        raise InputError(
            "residuals do not fit the patterns",
            expected=f"at least three residuals of {n_channels} channels",
            got=f"shape {residuals.shape}",
        )
    silent = np.flatnonzero(np.ptp(residuals, axis=0) == 0)
    if silent.size:
        raise InputError(
            "channels have no noise, so that distances in units of it are infinite",
            expected="residuals that vary in every channel",
            got=f"constant residuals in channels {silent[:5].tolist()} ({silent.size} in all)",
            fix="leave these channels out",
        )
