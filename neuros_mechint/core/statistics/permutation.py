"""Permutation tests of a mean, of two groups and of a correlation: exact where there are few arrangements."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice, permutations
from math import comb, factorial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.correlations import constant_columns
from neuros_mechint.core.statistics.means import examples
from neuros_mechint.core.statistics.p_values import share_as_far
from neuros_mechint.core.statistics.sign_flips import sign_flip_p

_KINDS = ("paired", "independent", "correlation")
_NUMBERS_AT_ONCE = 4_000_000
_FEWEST_PAIRS = 3


class PermutationTest(NamedTuple):
    """What a permutation test found.

    Parameters
    ----------
    statistic : numpy.ndarray
        Mean difference, or correlation.
    p : numpy.ndarray
        Two-sided; of the same shape.
    n_permutations : int
        Arrangements that were tried.
    exact : bool
        Whether these are all there are.
    """

    statistic: Floats
    p: Floats
    n_permutations: int
    exact: bool


def permutation_test(
    x: npt.ArrayLike,
    y: npt.ArrayLike | None = None,
    kind: str | None = None,
    n_resamples: int = 10_000,
    seed: SeedLike = 0,
) -> PermutationTest:
    """Test a mean, a difference of means or a correlation by rearranging the data, along the last axis.

    Every arrangement is tried where there are no more than ``n_resamples`` of them; otherwise that many are drawn, and
    p is ``(b + 1) / (n + 1)``. What is tested is that the data could as well have come in any other arrangement: for
    two groups that they have the same distribution, not only the same mean.

    Parameters
    ----------
    x : array of shape (..., n_samples)
        One value per subject, session or example; without ``y``, one difference each.
    y : array of shape (..., n_samples), optional
        The other condition, group or variable; of independent groups the number of samples may differ.
    kind : {"paired", "independent", "correlation"}, optional
        Needed with ``y``. ``paired``: the mean of ``x - y`` (or of ``x``), by flipping signs. ``independent``: the
        difference of the means of two groups, by regrouping. ``correlation``: Pearson's correlation, by reordering
        ``y``.
    n_resamples : int
        Most arrangements to try.
    seed : int or numpy.random.Generator

    Returns
    -------
    PermutationTest
        ``statistic`` and ``p`` of shape (...), ``n_permutations``, ``exact``. A correlation with a constant is NaN.

    Raises
    ------
    InputError
        Too few values, values that are not finite, shapes that do not fit, or no ``kind`` for two sets of values.

    References
    ----------
    Phipson and Smyth 2010, Permutation P-values should never be zero, doi:10.2202/1544-6115.1585;
    Ernst 2004, Permutation Methods: A Basis for Exact Inference, doi:10.1214/088342304000000396

    Examples
    --------
    >>> permutation_test([0.9, 1.4, 0.7, 1.1, 0.8, 1.2]).p.item()  # 2 of 64 patterns of signs are as far from zero
    0.03125
    >>> test = permutation_test([5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0], kind="independent")
    >>> test.statistic.item(), test.n_permutations, test.exact
    (4.0, 70, True)
    """
    first = examples(x)
    n_resamples = whole("n_resamples", n_resamples)
    if y is None:
        if kind not in (None, "paired"):
            raise InputError(f"kind {kind!r} compares two sets of values", expected="y", got="x only")
        return _signs(first, n_resamples, seed)
    if kind is None:
        raise OptionError(
            "two sets of values can be compared in several ways",
            expected="kind='paired', 'independent' or 'correlation'",
            got=None,
            fix="say whether x[i] and y[i] are of the same subject, of different ones, or two variables",
        )
    check_option("kind", kind, _KINDS)
    second = examples(y)
    fits = first.shape == second.shape if kind != "independent" else first.shape[:-1] == second.shape[:-1]
    if not fits:
        raise InputError(
            "x and y do not fit each other",
            expected="the same shape" + (", but for the last axis" if kind == "independent" else ""),
            got=f"{first.shape} and {second.shape}",
        )
    if kind == "paired":
        return _signs(first - second, n_resamples, seed)
    return (_groups if kind == "independent" else _correlation)(first, second, n_resamples, seed)


def _signs(differences: Floats, n_resamples: int, seed: SeedLike) -> PermutationTest:
    n_patterns = 2 ** differences.shape[-1]
    p = sign_flip_p(differences, n_resamples, seed)
    return PermutationTest(differences.mean(-1), p, min(n_patterns, n_resamples), n_patterns <= n_resamples)


def _groups(first: Floats, second: Floats, n_resamples: int, seed: SeedLike) -> PermutationTest:
    sizes = (first.shape[-1], second.shape[-1])
    pooled = np.concatenate([first, second], axis=-1).reshape(-1, sum(sizes))
    pooled = pooled - pooled.mean(-1, keepdims=True)  # then the sum of a group tells the difference of both
    exact = comb(sum(sizes), sizes[0]) <= n_resamples
    at_once = max(1, _NUMBERS_AT_ONCE // max(pooled.shape))
    sums = (pooled @ members.T for members in _memberships(*sizes, n_resamples, exact, at_once, seed))
    observed = pooled[:, : sizes[0]].sum(-1)
    p, n_tried = share_as_far(observed, np.abs(pooled).sum(-1), sums, exact)
    return PermutationTest(first.mean(-1) - second.mean(-1), p.reshape(first.shape[:-1]), n_tried, exact)


def _memberships(
    n_first: int, n_second: int, n_resamples: int, exact: bool, at_once: int, seed: SeedLike
) -> Iterator[Floats]:
    """Yield which samples are in the first group, ``(n, n_first + n_second)`` of 0 and 1."""
    n_samples = n_first + n_second
    if exact:
        for chosen in _batches(combinations(range(n_samples), n_first), at_once):
            members = np.zeros((len(chosen), n_samples))
            np.put_along_axis(members, chosen, 1.0, axis=1)
            yield members
        return
    random, grouped = generator(seed), np.repeat([1.0, 0.0], [n_first, n_second])
    for first in range(0, n_resamples, at_once):
        yield random.permuted(np.tile(grouped, (min(at_once, n_resamples - first), 1)), axis=1)


def _correlation(first: Floats, second: Floats, n_resamples: int, seed: SeedLike) -> PermutationTest:
    n_samples = first.shape[-1]
    if n_samples < _FEWEST_PAIRS:
        raise InputError("two pairs always lie on a line", expected=f"at least {_FEWEST_PAIRS} pairs", got=n_samples)
    x, y = (_centred(values.reshape(-1, n_samples)) for values in (first, second))
    exact = factorial(n_samples) <= n_resamples
    at_once = max(1, _NUMBERS_AT_ONCE // x.size)
    orders = _orders(n_samples, n_resamples, exact, at_once, seed)
    sums = (np.einsum("rn,rpn->rp", x, y[:, order]) for order in orders)
    observed, scale = (x * y).sum(-1), np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    p, n_tried = share_as_far(observed, scale, sums, exact)
    defined = scale > 0
    correlation = np.divide(observed, scale, out=np.full(scale.shape, np.nan), where=defined)
    shape = first.shape[:-1]
    return PermutationTest(correlation.reshape(shape), np.where(defined, p, np.nan).reshape(shape), n_tried, exact)


def _centred(values: Floats) -> Floats:
    """Return deviations from the mean; what differs by rounding alone is constant."""
    deviations = values - values.mean(-1, keepdims=True)
    return np.where(constant_columns(values.T)[:, None], 0.0, deviations)


def _orders(
    n_samples: int, n_resamples: int, exact: bool, at_once: int, seed: SeedLike
) -> Iterator[npt.NDArray[np.intp]]:
    if exact:
        yield from _batches(permutations(range(n_samples)), at_once)
        return
    random = generator(seed)
    for first in range(0, n_resamples, at_once):
        rows = np.tile(np.arange(n_samples), (min(at_once, n_resamples - first), 1))
        yield random.permuted(rows, axis=1)


def _batches(arrangements: Iterator[Any], at_once: int) -> Iterator[npt.NDArray[np.intp]]:
    while batch := list(islice(arrangements, at_once)):
        yield np.array(batch, dtype=np.intp)
