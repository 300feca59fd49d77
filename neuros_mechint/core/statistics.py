"""Uncertainty of means over examples: bootstrap intervals and how far to trust them, sign-flip tests, many tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.random import SeedLike, generator

_FEWEST_SAMPLES = 2
_PATTERNS_AT_ONCE = 2048
CORRECTIONS = ("holm", "fdr", "none")
SIGNIFICANT = 0.05
"""The largest p that figures and summaries call significant; 19 draws, the fewest that are allowed, reach it."""
TIE = 1e-9
"""What differs by less than this share of its size is equal: a rearrangement sums up the same numbers in another order,
and rounding must not make it miss the value it equals. Double precision keeps 16 digits, of which such sums lose a few;
that two unlike values are so close has no noticeable chance."""
_MOST_TYPE_ONE_ERROR = 0.065
# Of 20,000 normal samples each, the share whose 95% interval left out the true mean (method card: resampling tests).
_TYPE_ONE_ERROR = {
    "percentile": {
        2: 0.496, 3: 0.248, 4: 0.199, 5: 0.164, 6: 0.141, 7: 0.126, 8: 0.113,
        10: 0.102, 12: 0.093, 16: 0.078, 20: 0.072, 25: 0.067, 30: 0.064, 50: 0.058,
    },
    "expanded": {2: 0.496, 3: 0.248, 4: 0.123, 5: 0.081, 6: 0.067, 7: 0.061, 8: 0.057, 12: 0.056, 20: 0.05},
    "t": {2: 0.05},
}  # fmt: skip


def bootstrap_ci(
    values: npt.ArrayLike, level: float = 0.95, n_resamples: int = 2000, seed: SeedLike = 0
) -> tuple[Floats, Floats]:
    """Return the expanded percentile bootstrap interval of the mean over the last axis.

    The same examples are drawn for every row, so that rows can be compared. Plain percentiles are too narrow for few
    examples (of six, they cover the mean in 83% of the cases instead of 95%); here they lie further out, as far as a t
    interval does beyond a normal one. To test something, `permutation_test` is exact; `interval_warning` says where
    intervals are still too narrow.

    Parameters
    ----------
    values : array of shape (..., n_samples)
        One value per example.
    level : float
        Coverage, between 0 and 1.
    n_resamples : int
        How often the examples are drawn anew.
    seed : int or numpy.random.Generator

    Returns
    -------
    low, high : numpy.ndarray of shape (...)

    Raises
    ------
    InputError
        Fewer than two examples, or values that are not finite.

    References
    ----------
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, doi:10.1201/9780429246593; Hesterberg 2015, What
    Teachers Should Know About the Bootstrap, doi:10.1080/00031305.2015.1089789

    Examples
    --------
    >>> low, high = bootstrap_ci([0.0, 1.0, 2.0, 3.0, 4.0])
    >>> bool(low < 2.0 < high)
    True
    """
    array = examples(values)
    level, n_resamples = coverage(level), whole("n_resamples", n_resamples)
    n_samples = array.shape[-1]
    # one matrix product gives all resampled means
    means = array @ times_drawn(n_samples, n_resamples, generator(seed)).T / n_samples
    return expanded_percentiles(means, level, n_samples)


def times_drawn(n_samples: int, n_resamples: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return how often each sample is drawn when all are drawn anew with replacement, ``(n_resamples, n_samples)``.

    Examples
    --------
    >>> times_drawn(4, 2, np.random.default_rng(0)).sum(1).tolist()
    [4, 4]
    """
    return random.multinomial(n_samples, np.full(n_samples, 1 / n_samples), size=n_resamples)


def expanded_percentiles(drawn: Floats, level: float, n_samples: int) -> tuple[Floats, Floats]:
    """Return percentiles of what was drawn anew, over the last axis, as far out as `bootstrap_ci` takes them.

    Examples
    --------
    >>> low, high = expanded_percentiles(np.arange(101.0), 0.9, n_samples=8)
    >>> bool(low < 5), bool(high > 95)
    (True, True)
    """
    from scipy.stats import norm, t

    reach = t.ppf((1 + level) / 2, n_samples - 1) * np.sqrt(n_samples / (n_samples - 1))
    low, high = np.quantile(drawn, [norm.cdf(-reach), norm.cdf(reach)], axis=-1)
    return low, high


def coverage(level: float) -> float:
    """Return how often an interval is to hold the truth.

    Raises
    ------
    OptionError
        Anything but a number between 0 and 1.

    Examples
    --------
    >>> coverage(0.95)
    0.95
    """
    if number("level", level, 0, 1) == 1:
        raise OptionError("level is no coverage", expected="a number between 0 and 1", got=level)
    return level


def interval_warning(n_samples: int, method: str = "percentile") -> str | None:
    """Return what to warn of where a 95% interval for a mean of so few samples is too narrow to be a test.

    Parameters
    ----------
    n_samples : int
        Subjects, sessions or examples that were drawn anew.
    method : {"percentile", "expanded", "t"}
        Plain percentiles of the bootstrap, those of `bootstrap_ci`, or the t interval.

    Returns
    -------
    str or None
        None where intervals of normal samples leave out the true mean in at most 6.5% of the cases. Skewed samples
        need more; see the method card on resampling tests.

    Raises
    ------
    OptionError
        Unknown method.
    InputError
        Fewer than two samples.

    Examples
    --------
    >>> interval_warning(40, "percentile") is None, interval_warning(8, "expanded") is None
    (True, True)
    >>> print(interval_warning(4, "percentile"))
    95% intervals from the percentile bootstrap of 4 samples leave out the true mean in about 20% of the cases (more
    where they are skewed), not 5%: to test, use permutation_test, which is exact (with 4 samples its p is at least
    0.12)
    """
    check_option("method", method, tuple(_TYPE_ONE_ERROR))
    if n_samples < _FEWEST_SAMPLES:
        raise InputError("one sample has no interval", expected="at least 2 samples", got=n_samples)
    measured = _TYPE_ONE_ERROR[method]
    sizes = np.array(list(measured))
    # close to a straight line in 1 / n
    error = float(np.interp(-1 / n_samples, -1 / sizes, list(measured.values())))
    if error <= _MOST_TYPE_ONE_ERROR:
        return None
    names = {"percentile": "the percentile bootstrap", "expanded": "the expanded percentile bootstrap"}
    return (
        f"95% intervals from {names[method]} of {n_samples} samples leave out the true mean in about "
        f"{100 * error:.2g}% of the cases (more where they are skewed), not 5%: to test, use permutation_test, "
        f"which is exact (with {n_samples} samples its p is at least {smallest_sign_flip_p(n_samples, 10_000):.2g})"
    )


def sign_flip_p(values: npt.ArrayLike, n_resamples: int = 2000, seed: SeedLike = 0) -> Floats:
    """Return two-sided p values of the hypothesis that values are symmetric around zero, over the last axis.

    Every pattern of signs is tried where there are no more than ``n_resamples`` of them; otherwise that many are
    drawn, and p is ``(b + 1) / (n + 1)``, which is never zero.

    Parameters
    ----------
    values : array of shape (..., n_samples)
        One difference per example.
    n_resamples : int
        Most patterns of signs to try.
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (...)

    Raises
    ------
    InputError
        Fewer than two examples, or values that are not finite.

    References
    ----------
    Phipson and Smyth 2010, Permutation P-values should never be zero, doi:10.2202/1544-6115.1585

    Examples
    --------
    >>> sign_flip_p([1.0, 1.0, 1.0]).item()  # two of eight patterns are as far from zero
    0.25
    """
    array = examples(values)
    rows = array.reshape(-1, array.shape[-1])
    sums = (rows @ signs.T for signs in sign_patterns(array.shape[-1], n_resamples, seed))
    exact = _all_patterns(array.shape[-1], n_resamples)
    return share_as_far(rows.sum(-1), np.abs(rows).sum(-1), sums, exact)[0].reshape(array.shape[:-1])


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


def smallest_sign_flip_p(n_samples: int, n_resamples: int = 2000) -> float:
    """Return the smallest p that `sign_flip_p` can give for so many examples.

    Examples
    --------
    >>> smallest_sign_flip_p(3), smallest_sign_flip_p(30, n_resamples=999)
    (0.25, 0.001)
    """
    return 2 / 2**n_samples if _all_patterns(n_samples, n_resamples) else 1 / (n_resamples + 1)


def _all_patterns(n_samples: int, n_resamples: int) -> bool:
    return n_samples < 63 and 2**n_samples <= n_resamples


def sign_patterns(n_samples: int, n_resamples: int, seed: SeedLike) -> Iterator[Floats]:
    """Yield patterns of signs ``(n, n_samples)``, a few thousand at a time: all there are, or so many drawn ones.

    All there are begin with the one that changes nothing, which need not be among drawn ones.

    Examples
    --------
    >>> next(sign_patterns(2, 10, seed=0)).tolist()
    [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
    """
    exact, random = _all_patterns(n_samples, n_resamples), generator(seed)
    total = 2**n_samples if exact else n_resamples
    for first in range(0, total, _PATTERNS_AT_ONCE):
        numbers = np.arange(first, min(first + _PATTERNS_AT_ONCE, total))[:, None]
        negative = numbers >> np.arange(n_samples) & 1 if exact else random.integers(2, size=(len(numbers), n_samples))
        yield np.where(negative, -1.0, 1.0)


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


def examples(values: npt.ArrayLike) -> Floats:
    """Return values as floats, or say why they are no examples along the last axis.

    Raises
    ------
    InputError
        Fewer than two examples, or values that are not finite.

    Examples
    --------
    >>> examples([[1, 2, 3]]).shape
    (1, 3)
    """
    array = real_array(values, "values")
    if not array.ndim or array.shape[-1] < _FEWEST_SAMPLES:
        raise InputError(
            "one example says nothing about the spread",
            expected=f"at least {_FEWEST_SAMPLES} values along the last axis",
            got=f"shape {array.shape}",
            fix="give more inputs, and a metric with one value per sample",
        )
    return array


def mean_of_defined(values: Floats, axis: int) -> Floats:
    """Return means along an axis without what is NaN, NaN where all is.

    Examples
    --------
    >>> mean_of_defined(np.array([[1.0, np.nan], [3.0, np.nan]]), 0).tolist()
    [2.0, nan]
    """
    defined = np.isfinite(values)
    counts, sums = defined.sum(axis), np.where(defined, values, 0.0).sum(axis)
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
