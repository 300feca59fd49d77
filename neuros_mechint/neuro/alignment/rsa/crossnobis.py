"""Crossnobis: cross-validated Mahalanobis distances, which noise does not bias."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.joining import codes_of
from neuros_mechint.neuro.alignment.rsa.noise import Weigh
from neuros_mechint.neuro.alignment.rsa.observations import Observations
from neuros_mechint.neuro.alignment.rsa.stack import vectors
from neuros_mechint.neuro.alignment.samples import Labels


def crossnobis(seen: Observations, weigh: Weigh) -> tuple[Floats, Labels]:
    """Return cross-validated distances of all pairs of conditions, and the conditions.

    The mean over folds of the product of a fold's difference with that of the mean of the others is the mean product
    over all pairs of different folds: each fold with the sum of those before it, so that none meets itself.

    Parameters
    ----------
    seen : Observations
        With conditions and folds.
    weigh : callable
        See `noise_weighting`.

    Returns
    -------
    numpy.ndarray of shape (n_pairs,)
    tuple

    Raises
    ------
    InputError
        Fewer than two folds or conditions, or a fold that lacks a condition.
    """
    conditions, of_conditions = seen.coded()
    assert seen.folds is not None
    folds, of_folds = codes_of(seen.folds)
    _check_complete(conditions, of_conditions, folds, of_folds)
    n_channels = seen.values.shape[1]
    total = np.zeros((len(conditions), n_channels))
    room, products = np.empty_like(total), np.zeros((len(conditions), len(conditions)))
    for fold in range(len(folds)):
        rows = np.flatnonzero(of_folds == fold)
        patterns = _means(seen.values, rows, of_conditions[rows], len(conditions))
        # differences do not change without the mean, and its square would swallow them
        patterns = np.subtract(patterns, patterns.mean(0), out=room)
        if fold:
            products += total @ weigh(patterns).T
        if fold + 1 < len(folds):
            total += patterns
    products /= len(folds) * (len(folds) - 1) / 2
    return from_products(products, n_channels), conditions


def from_products(products: Floats, n_channels: int) -> Floats:
    """Return the pairs of distances that belong to products of patterns ``(n, n)``, symmetric or not.

    Examples
    --------
    >>> from_products(np.array([[1.0, 0.0], [0.0, 1.0]]), 2).tolist()
    [1.0]
    """
    size = np.diagonal(products)
    return vectors(size[:, None] + size - products - products.T) / n_channels


def _means(values: Floats, rows: npt.NDArray[np.intp], codes: npt.NDArray[np.intp], n_conditions: int) -> Floats:
    """Return the mean of each condition over the rows of one fold."""
    order = rows[np.argsort(codes, kind="stable")]
    if len(rows) == n_conditions:
        neighbours = len(order) == order[-1] - order[0] + 1 and (np.diff(order) == 1).all()
        return values[order[0] : order[-1] + 1] if neighbours else values[order]
    counts = np.bincount(codes, minlength=n_conditions)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.add.reduceat(values[order], starts, axis=0) / counts[:, None]


def _check_complete(
    conditions: Labels, of_conditions: npt.NDArray[np.intp], folds: Labels, of_folds: npt.NDArray[np.intp]
) -> None:
    if len(folds) < 2 or len(conditions) < 2:
        raise InputError(
            "cross-validated distances need several folds and conditions",
            expected="at least two folds (independent measurements) and two conditions",
            got=f"{len(folds)} fold(s), {len(conditions)} condition(s)",
            fix="split the observations into runs, or use mahalanobis, which is biased" if len(folds) < 2 else None,
        )
    counts = np.zeros((len(folds), len(conditions)), dtype=np.int64)
    np.add.at(counts, (of_folds, of_conditions), 1)
    absent = np.argwhere(counts == 0)
    if absent.size:
        shown = "; ".join(f"{conditions[condition]!r} in fold {folds[fold]!r}" for fold, condition in absent[:4])
        raise InputError(
            "conditions are missing in some folds",
            expected="every condition in every fold",
            got=shown + (f"; ... ({len(absent)} in all)" if len(absent) > 4 else ""),
            fix="leave these conditions or folds out, or join folds so that each holds every condition",
        )
