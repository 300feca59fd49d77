"""Sizes of fluctuations around trends, window by window, for multifractal detrended fluctuation analysis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from neuros_mechint.neuro.fractals.fluctuations.windows import polynomials

# In units of the rounding of the largest value of a running sum: smaller fluctuations are none.
_ROUNDINGS = 64


def log_fluctuations(rows: torch.Tensor, windows: Sequence[int], order: int) -> list[torch.Tensor]:
    """Return logarithms of the fluctuations of the running sum of signals around a polynomial in each window.

    Windows are laid side by side twice, from the beginning and from the end, so that no sample is left out.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_signals, n_samples)
    windows : sequence of int
        Samples per window.
    order : int
        Of the polynomials.

    Returns
    -------
    list of torch.Tensor of shape (n_signals, 2 * (n_samples // window))
        Minus infinity where nothing but rounding is left.

    References
    ----------
    Kantelhardt et al. 2002, Multifractal detrended fluctuation analysis of nonstationary time series,
    doi:10.1016/S0378-4371(02)01383-3

    Examples
    --------
    >>> import torch
    >>> noise = torch.tensor([[1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0]])  # running sum: 1 0 1 0 -1 0 -1 0
    >>> log_fluctuations(noise, [4], order=0)[0].exp()
    tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    walk, rounding = running_sum(rows)
    return [_of_windows(walk, rounding, window, order).to(rows) for window in windows]


def running_sum(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the running sum of deviations from the mean, and below what size its fluctuations are rounding.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_signals, n_samples)

    Returns
    -------
    walk : torch.Tensor of shape (n_signals, n_samples)
        In float64: it may be far from zero, and the windows are short.
    rounding : torch.Tensor of shape (n_signals, 1)

    Examples
    --------
    >>> import torch
    >>> running_sum(torch.tensor([[1.0, 2.0, 6.0]]))[0].tolist()
    [[-2.0, -3.0, 0.0]]
    """
    rows = rows.double()
    walk = (rows - rows.mean(1, keepdim=True)).cumsum(1)
    return walk, _ROUNDINGS * torch.finfo(walk.dtype).eps * walk.detach().abs().amax(1, keepdim=True)


def _of_windows(walk: torch.Tensor, rounding: torch.Tensor, window: int, order: int) -> torch.Tensor:
    used = walk.shape[1] // window * window
    both = torch.cat([walk[:, :used], walk[:, walk.shape[1] - used :]], 1).unflatten(1, (-1, window))
    # a running sum may be far from zero: its own size would cost digits
    both = both - both[..., window // 2, None].detach()
    trends = _trends(window, order).to(both)
    squares = (both - (both @ trends) @ trends.T).square().mean(-1)
    nothing = squares.detach() <= rounding**2
    return torch.where(nothing, -torch.inf, torch.where(nothing, 1.0, squares).log() / 2)


@lru_cache(maxsize=1024)
def _trends(window: int, order: int) -> torch.Tensor:
    return torch.from_numpy(polynomials(window, order))
