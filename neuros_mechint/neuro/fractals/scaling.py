"""Straight lines through log-log plots: exponents, and how straight they are."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch

from neuros_mechint.core.errors import InputError, OptionError

FEWEST_SCALES = 3
"""Fewer points lie on a line whatever they are."""


class LineFit(NamedTuple):
    """Lines fitted by least squares.

    Parameters
    ----------
    slope, intercept : torch.Tensor of shape (...)
    r2 : torch.Tensor of shape (...)
        Share of the variance that the line explains: 1 is a perfect power law; near 0 also where the slope is.
    """

    slope: torch.Tensor
    intercept: torch.Tensor
    r2: torch.Tensor


def line_fit(log_scales: torch.Tensor, log_values: torch.Tensor, weights: torch.Tensor | None = None) -> LineFit:
    """Return the lines through points over shared scales.

    Parameters
    ----------
    log_scales : torch.Tensor of shape (n_scales,)
    log_values : torch.Tensor of shape (..., n_scales)
    weights : torch.Tensor of shape (n_scales,), optional
        How much each point counts; alike without.

    Returns
    -------
    LineFit
        Differentiable in ``log_values``.

    Raises
    ------
    InputError
        Fewer than three scales.

    Examples
    --------
    >>> import torch
    >>> fit = line_fit(torch.arange(4.0), 1 + 2 * torch.arange(4.0))
    >>> fit.slope.item(), fit.intercept.item(), fit.r2.item()
    (2.0, 1.0, 1.0)
    """
    n_scales = log_scales.shape[0]
    if n_scales < FEWEST_SCALES:
        raise InputError(
            "too few scales for a line",
            expected=f"at least {FEWEST_SCALES} scales in the range of the fit",
            got=n_scales,
            fix="widen the range, or give longer signals",
        )
    log_scales = log_scales.to(log_values)
    weights = torch.ones_like(log_scales) if weights is None else weights.to(log_values)
    weights = weights / weights.sum()
    x_mean, y_mean = log_scales @ weights, log_values @ weights
    x, y = log_scales - x_mean, log_values - y_mean[..., None]
    covariance, x_variance, y_variance = y @ (weights * x), x**2 @ weights, y**2 @ weights
    slope = covariance / x_variance
    # no variance at all: 0 rather than 0 / 0
    r2 = covariance**2 / (x_variance * y_variance.clamp_min(torch.finfo(y_variance.dtype).tiny))
    return LineFit(slope, y_mean - slope * x_mean, r2.clamp(max=1.0))


def scale_range(fit_range: Any, least: float = 0, units: str = "samples") -> tuple[float, float] | None:
    """Return the range of a fit as two numbers, or None for None.

    Parameters
    ----------
    fit_range : pair of float or None
    least : float
        The smallest scale that a method can see.
    units : str
        Of the scales, for the error.

    Raises
    ------
    OptionError
        Anything else.

    Examples
    --------
    >>> scale_range([16, 512], least=4)
    (16, 512)
    """
    if fit_range is None:
        return None
    try:
        low, high = cast("tuple[float, float]", fit_range)
        valid = least <= low < high < math.inf and low > 0
    except (TypeError, ValueError):
        low, high, valid = 0, 0, False
    if not valid:
        raise OptionError(
            "fit_range is no range of scales",
            expected=f"(low, high) in {units}, " + (f"from {least:g} up" if least else "above 0"),
            got=repr(fit_range),
        )
    return low, high
