"""p values: from draws, and adjusted for their number."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import check_option

CORRECTIONS = ("holm", "fdr", "none")
SIGNIFICANT = 0.05
"""The largest p that figures and summaries call significant; 19 draws, the fewest that are allowed, reach it."""
TIE = 1e-9
"""What differs by less than this share of its size is equal: a rearrangement sums up the same numbers in another order,
and rounding must not make it miss the value it equals. Double precision keeps 16 digits, of which such sums lose a few;
that two unlike values are so close has no noticeable chance."""


def share_as_far(observed: Floats, scale: Floats, drawn: Iterable[Floats], exact: bool) -> tuple[Floats, int]:
    """Return two-sided p values, and from how many rearrangements of the data they come.

    Parameters
    ----------
    observed : numpy.ndarray of shape (n_rows,)
        A statistic that is 0 where there is nothing.
    scale : numpy.ndarray of shape (n_rows,)
        The size of the terms it sums up, and so of their rounding.
    drawn : iterable of numpy.ndarray of shape (n_rows, n_rearrangements)
        The same statistic of rearranged data.
    exact : bool
        Whether these are all rearrangements there are. Otherwise the data as they came are counted as one more,
        so that p is never zero.

    Examples
    --------
    >>> p, n_tried = share_as_far(np.array([3.0]), np.array([4.0]), [np.array([[3.0, -1.0, 0.0, 1.0]])], exact=False)
    >>> p.tolist(), n_tried
    ([0.4], 4)
    """
    least = np.abs(observed) - TIE * scale
    as_far, n_tried = np.zeros(len(observed)), 0
    for statistics in drawn:
        as_far += (np.abs(statistics) >= least[:, None]).sum(-1)
        n_tried += statistics.shape[-1]
    return (as_far / n_tried if exact else (as_far + 1) / (n_tried + 1)), n_tried


def p_of_draws(observed: npt.ArrayLike, drawn: npt.ArrayLike, size: npt.ArrayLike | None = None) -> Floats:
    """Return ``(b + 1) / (n + 1)``, where ``b`` of ``n`` draws are as large as what was observed, or larger.

    Parameters
    ----------
    observed : array of shape (...)
        A statistic that is large where there is something; NaN has no p.
    drawn : array of shape (n_draws, ...)
        The same of what was drawn by chance; a draw that is NaN counts as large.
    size : array of shape (...), optional
        The size of the terms the statistic is made of, and so of its rounding; else its own.

    Returns
    -------
    numpy.ndarray of shape (...)

    References
    ----------
    Phipson and Smyth 2010, Permutation P-values should never be zero, doi:10.2202/1544-6115.1585

    Examples
    --------
    >>> p_of_draws(0.1 + 0.2, [0.3, 0.2, 0.1]).item()  # 0.1 + 0.2 is a bit more than 0.3, but by rounding alone
    0.5
    """
    value, draws = np.asarray(observed, dtype=float), np.asarray(drawn, dtype=float)
    # infinity minus infinity would be NaN
    least = value * (1 - TIE * np.sign(value)) if size is None else value - TIE * np.asarray(size, dtype=float)
    as_large = (~(draws < least)).sum(0)
    return np.where(np.isnan(value), np.nan, (as_large + 1) / (len(draws) + 1))


def adjust_p(p: npt.ArrayLike, method: str = "holm") -> Floats:
    """Return p values adjusted for their number.

    Parameters
    ----------
    p : array of any shape
        All are taken as one family; NaN (nothing was tested) stays NaN and is not counted.
    method : {"holm", "fdr", "none"}
        ``holm`` bounds the chance of any false positive, ``fdr`` (Benjamini and Hochberg) their expected share.

    Returns
    -------
    numpy.ndarray
        Of the same shape.

    Raises
    ------
    OptionError
        Unknown method.

    References
    ----------
    Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 65;
    Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> adjust_p([0.01, 0.04, 0.03], method="holm").tolist()
    [0.03, 0.06, 0.06]
    """
    check_option("correction", method, CORRECTIONS)
    adjusted = np.array(p, dtype=float)
    tested = ~np.isnan(adjusted)
    family = adjusted[tested]
    if method == "fdr" and family.size:
        from scipy.stats import false_discovery_control

        adjusted[tested] = false_discovery_control(family)
    elif method == "holm":
        order = np.argsort(family)
        scaled = np.maximum.accumulate(family[order] * np.arange(family.size, 0, -1))
        family[order] = np.minimum(scaled, 1)
        adjusted[tested] = family
    return adjusted
