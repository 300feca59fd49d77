"""Smooth functions of one variable, on a circle or on a line, and fits of responses by them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats

_DEGREE = 3
_STEP = 1e-5
_RIDGE = 1e-9
MOST_TERMS = 8


class Basis(NamedTuple):
    """Waves round a circle, or cubic splines along a line.

    Parameters
    ----------
    low, high : float
        Ends of the line; of a circle, 0 and its length.
    circular : bool
    n_terms : int
        Pairs of waves, or pieces of the splines.
    """

    low: float
    high: float
    circular: bool
    n_terms: int

    def __call__(self, at: Floats) -> Floats:
        """Return the functions at values of the variable, ``(n_values, n_functions)``.

        Examples
        --------
        >>> Basis(0.0, 1.0, True, 1)(np.array([0.0])).tolist(), Basis(0.0, 1.0, False, 2)(np.array([0.5])).shape
        ([[1.0, 1.0, 0.0]], (1, 5))
        """
        if self.circular:
            phase = 2 * np.pi * at[:, None] / (self.high - self.low) * np.arange(1, self.n_terms + 1)
            return np.concatenate([np.ones((len(at), 1)), np.cos(phase), np.sin(phase)], axis=1)
        from scipy.interpolate import BSpline

        inner = np.linspace(self.low, self.high, self.n_terms + 1)
        knots = np.concatenate([[self.low] * _DEGREE, inner, [self.high] * _DEGREE])
        return BSpline.design_matrix(np.clip(at, self.low, self.high), knots, _DEGREE).toarray()

    def slopes(self, at: Floats) -> Floats:
        """Return the derivatives of the functions, by differences over a short stretch.

        Examples
        --------
        >>> Basis(0.0, 2 * np.pi, True, 1).slopes(np.array([0.0])).round(6).tolist()
        [[0.0, 0.0, 1.0]]
        """
        step = _STEP * (self.high - self.low)
        if self.circular:
            return (self(at + step) - self(at - step)) / (2 * step)
        above, below = np.minimum(at + step, self.high), np.maximum(at - step, self.low)
        return (self(above) - self(below)) / (above - below)[:, None]

    def grid(self, n_values: int) -> Floats:
        """Return evenly spaced values of the variable.

        Examples
        --------
        >>> Basis(0.0, 1.0, True, 1).grid(4).tolist(), Basis(0.0, 1.0, False, 1).grid(3).tolist()
        ([0.0, 0.25, 0.5, 0.75], [0.0, 0.5, 1.0])
        """
        return np.linspace(self.low, self.high, n_values, endpoint=not self.circular)

    def fit(self, at: Floats, responses: Floats) -> Floats:
        """Return weights of the functions, ``(n_functions, n_units)``, by least squares.

        Examples
        --------
        >>> at = np.linspace(0, 1, 20, endpoint=False)
        >>> Basis(0.0, 1.0, True, 1).fit(at, np.cos(2 * np.pi * at)[:, None]).round(6).ravel().tolist()
        [0.0, 1.0, 0.0]
        """
        design = self(at)
        square = design.T @ design
        # where a stretch of a line has no trial its spline is 0, instead of anything
        square[np.diag_indices(len(square))] += _RIDGE * np.trace(square) / len(square)
        return np.asarray(np.linalg.solve(square, design.T @ responses), dtype=np.float64)


def explained(responses: Floats, predicted: Floats, mean: Floats) -> Floats:
    """Return the share of variance of each unit around a mean that predictions explain; below 0 where they are worse.

    Examples
    --------
    >>> explained(np.array([[1.0], [3.0]]), np.array([[1.0], [3.0]]), np.array([2.0])).tolist()
    [1.0]
    """
    left, there = ((responses - predicted) ** 2).sum(0), ((responses - mean) ** 2).sum(0)
    return 1 - np.divide(left, there, out=np.full(left.shape, np.nan), where=there > 0)


def best_terms(basis: Basis, at: Floats, responses: Floats, fold: npt.NDArray[np.integer]) -> int:
    """Return the number of terms with which trials of other folds are predicted best, all units together.

    Examples
    --------
    >>> at = np.linspace(0, 1, 60, endpoint=False)
    >>> noise = np.random.default_rng(0).normal(size=(60, 20))
    >>> best_terms(Basis(0.0, 1.0, True, 1), at, 3 * np.cos(4 * np.pi * at)[:, None] + noise, np.arange(60) % 3)
    2
    """
    errors = []
    for n_terms in range(1, MOST_TERMS + 1):
        tried, error = basis._replace(n_terms=n_terms), 0.0
        for one in np.unique(fold):
            test = fold == one
            weights = tried.fit(at[~test], responses[~test])
            error += float(((responses[test] - tried(at[test]) @ weights) ** 2).sum())
        errors.append(error)
    return int(np.argmin(errors)) + 1
