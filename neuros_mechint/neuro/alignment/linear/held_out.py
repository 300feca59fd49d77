"""Cross-validation: which rows to learn from and which to judge on, and scores that use no number of the latter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.joining import codes_of
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.correlations import column_correlations, constant_columns

Indices = npt.NDArray[np.intp]
Splits: TypeAlias = list[tuple[Indices, Indices]]
_FEWEST_FOLDS = 2


def folds(n_samples: int, cv: Any = 5, groups: Sequence[Any] | None = None, seed: SeedLike = 0) -> Splits:
    """Return the rows to learn from and the rows to judge on, once per fold.

    Rows are dealt out at random, since stimuli are mostly listed by category; all rows of a group go to one fold.

    Parameters
    ----------
    n_samples : int
    cv : int, scikit-learn splitter, or iterable of (train, test)
        Number of folds; or ``KFold(5)`` for blocks of successive rows; or the rows themselves, to nest one
        cross-validation in another.
    groups : sequence of length n_samples, optional
        What must not be torn apart (subject, session, movie, repeated stimulus).
    seed : int or numpy.random.Generator
        Deals the rows out.

    Returns
    -------
    list of (train, test)
        Arrays of row numbers, in ascending order.

    Raises
    ------
    InputError
        More folds than samples or groups, fewer than two, groups of another length or with gaps, or rows that are
        both learned from and judged on.

    Examples
    --------
    >>> [test.tolist() for train, test in folds(6, 3, groups=["a", "a", "b", "b", "c", "c"])]
    [[4, 5], [0, 1], [2, 3]]
    """
    names = None if groups is None else _checked_groups(groups, n_samples)
    if isinstance(cv, (bool, float, str)) or cv is None:
        raise InputError(
            "cv is no cross-validation", expected="a number of folds, a splitter or (train, test) rows", got=repr(cv)
        )
    if not isinstance(cv, (int, np.integer)):
        return _given(cv, n_samples, groups)
    units = np.arange(n_samples) if names is None else names
    n_units, what = int(units.max()) + 1, "samples" if names is None else "groups"
    if not _FEWEST_FOLDS <= cv <= n_units:
        raise InputError(
            f"{n_units} {what} cannot be dealt to {cv} folds",
            expected=f"{_FEWEST_FOLDS} to {n_units} folds",
            got=f"cv={cv}",
            fix=f"pass cv={n_units}, which leaves one {what[:-1]} out at a time" if n_units >= _FEWEST_FOLDS else None,
        )
    fold_of = _deal(units, int(cv), seed)
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(int(cv))]


def inner_folds(n_samples: int, cv: int, groups: Sequence[Any] | None, seed: SeedLike) -> Splits:
    """Return folds within training data, fewer where they hold fewer groups or samples than folds.

    Examples
    --------
    >>> len(inner_folds(6, 5, ["a", "a", "b", "b", "c", "c"], seed=0))
    3
    """
    n_units = n_samples if groups is None else len(set(groups))
    return folds(n_samples, max(_FEWEST_FOLDS, min(whole("inner_cv", cv, _FEWEST_FOLDS), n_units)), groups, seed)


def rows_of(groups: Sequence[Any] | None, rows: Indices) -> list[Any] | None:
    """Return the groups of some rows.

    Examples
    --------
    >>> rows_of(["a", "b", "c"], np.array([0, 2]))
    ['a', 'c']
    """
    if groups is None:
        return None
    names = list(groups)  # of a pandas Series by position, not by its index
    return [names[row] for row in rows]


def check_test_rows(splits: Splits, least: int, what: str) -> None:
    """Raise `InputError` where a fold has too few rows to judge on.

    Examples
    --------
    >>> check_test_rows(folds(9, 3), 3, "a correlation")
    """
    fewest = min(len(test) for _, test in splits)
    if fewest < least:
        raise InputError(
            f"a fold has too few samples for {what}",
            expected=f"at least {least} samples in every fold",
            got=f"{fewest}",
            fix="use fewer folds, or larger groups",
        )


def correlations(x: Floats, y: Floats) -> Floats:
    """Return Pearson's correlation of each column of ``x`` with the same column of ``y``.

    A constant column of ``y`` gives NaN: there was nothing to predict. A constant one of ``x`` gives 0: it predicts
    nothing.

    Parameters
    ----------
    x, y : numpy.ndarray of shape (n_samples, n_columns)
        Predictions and data.

    Returns
    -------
    numpy.ndarray of shape (n_columns,)

    Examples
    --------
    >>> correlations(np.array([[1.0, 0], [2, 0], [3, 0]]), np.array([[2.0, 1], [4, 2], [6, 4]])).tolist()
    [1.0, 0.0]
    """
    predicts_nothing = constant_columns(x) & ~constant_columns(y)
    return np.where(predicts_nothing, 0.0, column_correlations(x, y))


def mean_over_folds(values: Sequence[Floats]) -> Floats:
    """Return the mean over folds of what is known; NaN where no fold has a number.

    Examples
    --------
    >>> mean_over_folds([np.array([0.2, np.nan]), np.array([0.4, np.nan])]).tolist()
    [0.3, nan]
    """
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    total, count = np.where(known, stacked, 0.0).sum(0), known.sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _checked_groups(groups: Sequence[Any], n_samples: int) -> Indices:
    """Return a number for the group of each row."""
    names = list(groups)
    if len(names) != n_samples:
        raise InputError("groups do not fit the samples", expected=f"{n_samples} groups", got=f"{len(names)} groups")
    if any(name is None or name != name for name in names):
        raise InputError("some samples have no group", expected="a name or number for each", got="None or NaN")
    return codes_of(names)[1]


def _deal(units: Indices, n_folds: int, seed: SeedLike) -> Indices:
    """Return the fold of each row: units, the largest first, go to the fold that is smallest by then."""
    sizes = np.bincount(units)
    order = generator(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled, fold_of = np.zeros(n_folds, dtype=int), np.zeros(len(sizes), dtype=np.intp)
    for unit in order:
        fold_of[unit] = filled.argmin()
        filled[fold_of[unit]] += sizes[unit]
    return fold_of[units]


def _given(cv: Any, n_samples: int, groups: Sequence[Any] | None) -> Splits:
    """Return the folds of a splitter or of a list, checked."""
    pairs: Iterable[Any] = cv.split(np.zeros((n_samples, 1)), None, groups) if hasattr(cv, "split") else cv
    splits: Splits = []
    try:
        for train, test in pairs:
            splits.append((_row_numbers(train, n_samples), _row_numbers(test, n_samples)))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("cv gives no folds", expected="pairs (train, test) of row numbers", got=error) from error
    if not splits:
        raise InputError("cv gives no folds", expected="at least one pair (train, test)")
    return splits if all(map(_apart, splits)) else _refuse_overlap()


def _row_numbers(rows: Any, n_samples: int) -> Indices:
    numbers = np.asarray(rows)
    if numbers.dtype == bool:
        numbers = np.flatnonzero(numbers)
    if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iu":
        raise InputError("a fold is empty or holds no row numbers", expected="a list of row numbers", got=numbers)
    if numbers.min() < 0 or numbers.max() >= n_samples:
        raise InputError("a fold asks for rows that are not there", expected=f"0 to {n_samples - 1}", got=numbers.max())
    return numbers.astype(np.intp)


def _apart(split: tuple[Indices, Indices]) -> bool:
    return not np.intersect1d(*split).size


def _refuse_overlap() -> Splits:
    raise InputError(
        "rows are both learned from and judged on",
        expected="no row in both parts of a fold",
        fix="for the score on the data that were learned from, call score_in_sample",
    )
