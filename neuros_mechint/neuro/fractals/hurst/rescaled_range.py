"""The rescaled range of signals, corrected by what independent samples would give."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.fractals.signals import varying

SHORTEST_WINDOW = 4
"""The shortest window whose range says anything: with three samples it is nearly always the same."""


def rescaled_range(rows: torch.Tensor, window: int) -> torch.Tensor:
    """Return the mean rescaled range over windows that lie side by side.

    Of each window: the range of the running sum of deviations from its mean, over its standard deviation. Windows in
    which the signal does not change have none and are left out.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_signals, n_samples)
    window : int
        Samples of a window; those left over at the end are not used.

    Returns
    -------
    torch.Tensor of shape (n_signals,)

    Raises
    ------
    InputError
        A signal that changes in none of these windows.

    References
    ----------
    Hurst 1951, Long-term storage capacity of reservoirs, doi:10.1061/TACEAT.0006518

    Examples
    --------
    >>> import torch
    >>> rescaled_range(torch.tensor([[1.0, 1.0, -1.0, -1.0, 5.0, 5.0, 5.0, 5.0]]), 4)  # from 0 to 2, over 1
    tensor([2.])
    """
    n_windows = rows.shape[1] // window
    windows = rows[:, : n_windows * window].unflatten(1, (n_windows, window))
    changes = varying(windows)
    if not changes.any(1).all():
        raise InputError(
            f"no window of {window} samples has a rescaled range",
            expected="signals that change within windows",
            got=f"{int((~changes.any(1)).sum())} of {len(rows)} signals that are constant within each of them",
            fix="begin the fit_range at longer windows",
        )
    deviations = windows - windows.mean(-1, keepdim=True)
    # the last sum is 0, up to rounding: it stands for the empty sum before the first sample
    sums = deviations.cumsum(-1)
    spread = deviations.square().mean(-1)
    ranges = (sums.amax(-1) - sums.amin(-1)) / torch.where(changes, spread, 1.0).sqrt()
    return torch.where(changes, ranges, 0.0).sum(1) / changes.sum(1)


@lru_cache(maxsize=1024)
def expected_rescaled_range(window: int) -> float:
    r"""Return the rescaled range that independent normal samples have on average.

    .. math:: E(n) = \frac{\Gamma((n - 1) / 2)}{\sqrt \pi \, \Gamma(n / 2)} \sum_{i=1}^{n-1} \sqrt{(n - i) / i}

    It is exact where standard deviations divide by :math:`n`. The factor :math:`(n - 1/2) / n`, which Peters found by
    simulation, is what division by :math:`n - 1` makes of it, up to terms in :math:`1 / n^2`.

    Parameters
    ----------
    window : int
        Samples of a window.

    References
    ----------
    Anis and Lloyd 1976, The expected value of the adjusted rescaled Hurst range of independent normal summands,
    doi:10.1093/biomet/63.1.111

    Examples
    --------
    >>> round(expected_rescaled_range(100), 2), round((50 * 3.14159) ** 0.5, 2)  # far below its limit
    (11.45, 12.53)
    """
    from scipy.special import gammaln

    index = np.arange(1, window)
    gammas = np.exp(gammaln((window - 1) / 2) - gammaln(window / 2))
    return float(gammas / np.sqrt(np.pi) * np.sqrt((window - index) / index).sum())
