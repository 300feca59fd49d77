"""From sizes of fluctuations at each scale to a multifractal spectrum: exact derivatives, no differences over q."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.fractals.scaling import line_fit

_ZERO = 1e-9


class Spectrum(NamedTuple):
    r"""Scaling of all moments of signals.

    Parameters
    ----------
    q : torch.Tensor of shape (n_moments,)
    generalized_hurst : torch.Tensor of shape (..., n_moments)
        Exponents :math:`h(q)` of the moments' means.
    tau : torch.Tensor of shape (..., n_moments)
        :math:`q h(q) - 1`.
    alpha : torch.Tensor of shape (..., n_moments)
        Singularity strengths :math:`\tau'(q)`.
    f : torch.Tensor of shape (..., n_moments)
        Their dimensions :math:`q \alpha - \tau`.
    """

    q: torch.Tensor
    generalized_hurst: torch.Tensor
    tau: torch.Tensor
    alpha: torch.Tensor
    f: torch.Tensor


class Moments(NamedTuple):
    """Means over the windows of each scale.

    Parameters
    ----------
    log_means : torch.Tensor of shape (n_signals, n_moments, n_scales)
        Logarithms of the means of sizes to the power of q.
    tilted_logs : torch.Tensor of shape (n_signals, n_moments, n_scales)
        Means of the logarithms of sizes, each window weighted by its size to the power of q: the derivatives of the
        former by q.
    mean_logs, log_variances : torch.Tensor of shape (n_signals, n_scales)
        Means and variances of the logarithms of sizes; NaN where a size is zero.
    """

    log_means: torch.Tensor
    tilted_logs: torch.Tensor
    mean_logs: torch.Tensor
    log_variances: torch.Tensor


def moments(log_sizes: Sequence[torch.Tensor], q: torch.Tensor) -> Moments:
    """Return the moments of sizes at each scale, by their logarithms, which no power overflows.

    Parameters
    ----------
    log_sizes : sequence of torch.Tensor of shape (n_signals, n_windows)
        One for each scale; minus infinity where a size is zero.
    q : torch.Tensor of shape (n_moments,)

    Returns
    -------
    Moments
        Differentiable in ``log_sizes``.

    Raises
    ------
    InputError
        Sizes of zero, and moments of them that are infinite.

    Examples
    --------
    >>> import torch
    >>> found = moments([torch.tensor([[1.0, 3.0]]).log()], torch.tensor([2.0]))
    >>> round(found.log_means.exp().item(), 6)  # (1 + 9) / 2
    5.0
    """
    means, tilted, averages, variances = [], [], [], []
    for logs in log_sizes:
        zero = torch.isneginf(logs.detach())
        _check_moments_exist(zero, q)
        held = torch.where(zero, 0.0, logs)
        powers = torch.where(zero[:, None], -torch.inf, q[:, None] * held[:, None])
        means.append(torch.logsumexp(powers, -1) - math.log(logs.shape[1]))
        tilted.append((torch.softmax(powers, -1) * held[:, None]).sum(-1))
        averages.append(torch.where(zero.any(1), torch.nan, held.mean(1)))
        variances.append(torch.where(zero.any(1), torch.nan, held.var(1, correction=0)))
    return Moments(*(torch.stack(of, -1) for of in (means, tilted, averages, variances)))


def spectrum_of(found: Moments, log_scales: torch.Tensor, q: torch.Tensor) -> Spectrum:
    r"""Return the slopes of moments over scales as a spectrum.

    The line through :math:`\log \langle F^q \rangle` has the slope :math:`q h(q)`. As fitting a line is linear, that
    through its derivative by :math:`q` has the slope :math:`\tau'(q)`, exactly, for any set of moments.

    Parameters
    ----------
    found : Moments
    log_scales : torch.Tensor of shape (n_scales,)
    q : torch.Tensor of shape (n_moments,)

    References
    ----------
    Chhabra and Jensen 1989, Direct determination of the f(alpha) singularity spectrum,
    doi:10.1103/PhysRevLett.62.1327

    Examples
    --------
    >>> import torch
    >>> q = torch.tensor([-1.0, 0.0, 1.0])
    >>> scales = torch.tensor([8.0, 16.0, 32.0, 64.0])
    >>> sizes = [scale**0.7 * torch.ones(1, 5) for scale in scales]
    >>> spectrum_of(moments([size.log() for size in sizes], q), scales.log(), q).generalized_hurst
    tensor([[0.7000, 0.7000, 0.7000]])
    """
    alpha = line_fit(log_scales, found.tilted_logs).slope
    exponents = line_fit(log_scales, found.log_means).slope
    zero = q.abs() < _ZERO
    # the mean of powers of 0 is 1 whatever the sizes: its limit is the mean of logarithms
    hurst = torch.where(zero, alpha, exponents / torch.where(zero, 1.0, q))
    return Spectrum(q, hurst, q * hurst - 1, alpha, 1 + q * (alpha - hurst))


def log_cumulants(found: Moments, log_scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the slopes of mean and variance of logarithms, ``c1`` and ``c2``, each ``(n_signals,)``.

    ``c1`` is the exponent that is found nearly everywhere; ``c2`` is 0 for one exponent and negative for many.
    NaN where sizes are zero.

    Examples
    --------
    >>> import torch
    >>> scales = torch.tensor([8.0, 16.0, 32.0])
    >>> found = moments([scale.log() + torch.zeros(1, 4) for scale in scales], torch.tensor([0.0]))
    >>> [cumulant.item() for cumulant in log_cumulants(found, scales.log())]
    [1.0, 0.0]
    """
    return line_fit(log_scales, found.mean_logs).slope, line_fit(log_scales, found.log_variances).slope


def _check_moments_exist(zero: torch.Tensor, q: torch.Tensor) -> None:
    if not zero.any() or float(q.min()) > 0:
        return
    row = int(zero.any(1).nonzero()[0])
    raise InputError(
        "some windows hold no fluctuation, so that moments of q <= 0 are infinite",
        expected="signals that change in all windows, such as counts in wide bins",
        got=f"{int(zero[row].sum())} of {zero.shape[1]} windows of one scale of signal {row} without any",
        fix="pass only positive q, or a fit_range that begins at longer scales",
    )
