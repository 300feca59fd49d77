"""Pearson's correlation of columns with columns, with one rule for what does not vary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats

_ROUNDING = 1e-12
"""What varies by less than this share of its largest value is constant: its mean is not taken off without rounding."""


def column_correlations(x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
    """Return Pearson's correlation over the first axis of each column of one array with the same column of another.

    Where one of the two is constant, by its own size, there is no correlation: NaN. Who knows what else it should be
    (a constant prediction explains nothing) says so with `constant_columns`.

    Parameters
    ----------
    x, y : array of shape (n_samples, ...)

    Returns
    -------
    numpy.ndarray of shape (...)

    Examples
    --------
    >>> column_correlations([[1.0, 0.1], [2.0, 0.1], [3.0, 0.1]], [[2.0, 1.0], [4.0, 2.0], [6.0, 4.0]]).tolist()
    [1.0, nan]
    """
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    varies = ~(constant_columns(first) | constant_columns(second))
    first, second = (values - values.mean(0) for values in (first, second))
    norms = np.linalg.norm(first, axis=0) * np.linalg.norm(second, axis=0)
    return np.divide((first * second).sum(0), norms, out=np.full(norms.shape, np.nan), where=varies)


def constant_columns(values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which columns vary by no more than rounding, over the first axis.

    Examples
    --------
    >>> constant_columns([[0.3, 1.0], [0.1 + 0.2, 2.0]]).tolist()
    [True, False]
    """
    array = np.asarray(values, dtype=float)
    return np.ptp(array, axis=0) <= _ROUNDING * np.abs(array).max(0)
