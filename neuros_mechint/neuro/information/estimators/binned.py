"""Information of counts: of categories, or of numbers sorted into bins that hold equally many samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.variables import Whole

_SAMPLES_PER_CELL = 5
_FEWEST_BINS, _MOST_BINS = 4, 64
_NUMBERS_AT_ONCE = 2_000_000


class BinnedInformation(NamedTuple):
    """An estimate from a table of counts.

    Parameters
    ----------
    value : float
        Nats, without its bias.
    error : float
        Its standard error.
    bias : float
        What was taken off.
    """

    value: float
    error: float
    bias: float


def bins_that_fit(n_samples: int, n_others: int | None = None) -> int:
    """Return into how many bins to sort a variable so that a cell of the table holds five samples on average.

    Parameters
    ----------
    n_samples : int
    n_others : int, optional
        Categories of the other variable; without it both are sorted.

    Examples
    --------
    >>> bins_that_fit(3000), bins_that_fit(3000, n_others=10)
    (24, 60)
    """
    cells = n_samples / _SAMPLES_PER_CELL
    return int(np.clip(np.sqrt(cells) if n_others is None else cells / n_others, _FEWEST_BINS, _MOST_BINS))


def bins_by_rank(values: Floats, n_bins: int) -> Whole:
    """Return the bin of each value; equal values share one, so that the order of the samples does not matter.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_samples,)
    n_bins : int

    Examples
    --------
    >>> bins_by_rank(np.array([0.3, 0.1, 0.2, 9.0]), 2).tolist()
    [1, 0, 0, 1]
    """
    from scipy.stats import rankdata

    return np.minimum((rankdata(values, "average") - 0.5) * n_bins / len(values), n_bins - 1).astype(np.intp)


def counts_information(first: Whole, second: Whole) -> BinnedInformation:
    r"""Return the information between two variables of few values, in nats.

    The plug-in estimate less :math:`(C_{xy} - C_x - C_y + 1) / 2N`, with the numbers of values and of pairs of values
    that occur (Miller 1955). It is too low a correction where many pairs are rare.

    Parameters
    ----------
    first, second : numpy.ndarray of shape (n_samples,)
        Whole numbers from 0.

    Returns
    -------
    BinnedInformation

    References
    ----------
    Panzeri et al. 2007, Correcting for the sampling bias problem in spike train information measures,
    doi:10.1152/jn.00559.2007

    Examples
    --------
    >>> round(counts_information(np.arange(1000) % 2, np.arange(1000) % 2).value, 2)  # log 2
    0.69
    """
    n_samples, width = len(first), int(second.max()) + 1
    cells = first * width + second
    joint = np.bincount(cells, minlength=(int(first.max()) + 1) * width).reshape(-1, width)
    pairs, rows, columns = joint[joint > 0], joint.sum(1), joint.sum(0)
    expected = (rows[:, None] * columns)[joint > 0] / n_samples
    pointwise = np.log(pairs / expected)
    value = float((pairs * pointwise).sum()) / n_samples
    bias = (len(pairs) - (rows > 0).sum() - (columns > 0).sum() + 1) / (2 * n_samples)
    spread = float((pairs * pointwise**2).sum()) / n_samples - value**2
    # chance alone spreads the estimate as a chi-square distribution with so many degrees of freedom
    by_chance = max(bias, 0.0) / n_samples
    error = np.sqrt(max(spread / n_samples - 2 * by_chance, 0.0) + by_chance)
    return BinnedInformation(value - float(bias), float(error), float(bias))


def counts_conditional(x: Whole, y: Whole, z: Whole) -> BinnedInformation:
    r"""Return the information between two variables of few values given a third, in nats.

    The plug-in estimate less :math:`(C_{xyz} - C_{xz} - C_{yz} + C_z) / 2N`, with the numbers of combinations that
    occur.

    Parameters
    ----------
    x, y, z : numpy.ndarray of shape (n_samples,)
        Whole numbers from 0.

    Returns
    -------
    BinnedInformation

    References
    ----------
    Panzeri et al. 2007, doi:10.1152/jn.00559.2007

    Examples
    --------
    >>> z, x = np.divmod(np.arange(1000) % 4, 2)
    >>> round(counts_conditional(x, x ^ z, z).value, 2)  # log 2: with z known, each tells the other
    0.69
    """
    n_samples = len(x)
    parts = [_occupied(*columns) for columns in ((z,), (x, z), (y, z), (x, y, z))]
    given, with_x, with_y, joint = (np.log(counts[codes]) for codes, counts in parts)
    pointwise = joint + given - with_x - with_y
    bias = sum(sign * len(counts) for sign, (_, counts) in zip((1, -1, -1, 1), parts, strict=True)) / (2 * n_samples)
    by_chance = max(bias, 0.0) / n_samples
    error = np.sqrt(max(float(pointwise.var()) / n_samples - 2 * by_chance, 0.0) + by_chance)
    return BinnedInformation(float(pointwise.mean()) - bias, float(error), bias)


def counts_conditional_of_draws(x: Whole, y: Whole, z: Whole, draws: Whole) -> Floats:
    """Return the value of `counts_conditional` of ``x[draw], y, z`` for each draw, ``(n_draws, n_samples)``.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> x, y, z = random.integers(3, size=(3, 200))
    >>> draw = random.permutation(200)
    >>> found = counts_conditional_of_draws(x, y, z, draw[None])
    >>> bool(np.isclose(found[0], counts_conditional(x[draw], y, z).value))
    True
    """
    n_samples = len(x)
    sizes = np.arange(n_samples + 1, dtype=float)
    n_log_n: Floats = sizes * np.log(np.maximum(sizes, 1))
    fixed = [_occupied(*columns) for columns in ((z,), (y, z))]
    constant = sum(sign * _total(counts, n_log_n) for sign, (_, counts) in zip((1, -1), fixed, strict=True))
    found = np.full(len(draws), constant)
    for sign, (codes, counts) in zip((-1, 1), fixed, strict=True):
        n_cells = len(counts) * (int(x.max()) + 1)
        at_once = max(1, _NUMBERS_AT_ONCE // (n_samples + n_cells))
        for first in range(0, len(draws), at_once):
            cells = x[draws[first : first + at_once]] * len(counts) + codes
            apart = cells + np.arange(len(cells))[:, None] * n_cells
            tables = np.bincount(apart.ravel(), minlength=len(cells) * n_cells).reshape(len(cells), n_cells)
            found[first : first + at_once] += sign * _total(tables, n_log_n)
    return found / n_samples


def _occupied(*columns: Whole) -> tuple[Whole, Whole]:
    """Return which combination of values each sample has, from 0 without gaps, and how many samples have each."""
    codes = columns[0]
    for column in columns[1:]:
        codes = np.unique(codes, return_inverse=True)[1] * (int(column.max()) + 1) + column
    _, codes, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return codes, counts


def _total(tables: Whole, n_log_n: Floats) -> Floats:
    """Return the sum of n log n over the last axis, less half the number of cells that are occupied."""
    return n_log_n[tables].sum(-1) - np.count_nonzero(tables, axis=-1) / 2
