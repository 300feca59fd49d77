"""Sampling errors of dimensions, from what each point contributes, where points are neighbours of each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.geometry.points import Points


class Estimate(NamedTuple):
    """A dimension and its sampling error.

    Parameters
    ----------
    value : float
    error : float
        Standard error, NaN where it is not known.
    degrees : float
        Of freedom of the standard error.
    """

    value: float
    error: float = np.nan
    degrees: float = np.inf

    def interval(self, level: float) -> tuple[float, float]:
        """Return the ends of the t interval, never below 0.

        Examples
        --------
        >>> low, high = Estimate(2.0, 0.1).interval(0.95)
        >>> round(low, 2), round(high, 2)
        (1.8, 2.2)
        """
        reach = t_reach(self.error, self.degrees, level)
        return float(np.maximum(0.0, self.value - reach)), self.value + reach


def with_error(
    value: float, contributions: Floats, data: Points, neighbours: npt.NDArray[np.intp] | None = None
) -> Estimate:
    """Return an estimate with the error that follows from what each point contributes to it.

    Parameters
    ----------
    value : float
    contributions : numpy.ndarray of shape (n_points,)
        How much the estimate moves with each point (its influence divided by the number of points); they sum to 0.
    data : Points
        Of trajectories, the contributions are summed up over long stretches, which hardly depend on each other.
    neighbours : numpy.ndarray of shape (n_points, n_neighbors), optional
        Which points share a neighbourhood, and so part of what they contribute.

    Examples
    --------
    >>> given = np.random.default_rng(0).normal(size=400)
    >>> found = with_error(1.0, (given - given.mean()) / 400, Points(given[:, None], 1.0))
    >>> round(found.error, 2)
    0.05
    """
    alone = float(contributions @ contributions)
    variance = alone if neighbours is None else max(alone, _shared(contributions, neighbours))
    degrees = np.inf
    if data.ordered:
        sums = np.array([contributions[rows].sum() for rows in data.blocks()])
        degrees = len(sums) - 1
        if degrees < 1:
            return Estimate(value)
        between = float(((sums - sums.mean()) ** 2).sum()) * len(sums) / degrees
        variance += max(0.0, between - alone)
    return Estimate(value, variance**0.5, degrees)


def _shared(contributions: Floats, neighbours: npt.NDArray[np.intp]) -> float:
    """Return the variance of the sum, with the covariance of points of which one is a neighbour of the other."""
    from scipy.sparse import csr_array, eye_array

    n_points, n_neighbors = neighbours.shape
    rows = np.repeat(np.arange(n_points), n_neighbors)
    near = csr_array((np.ones(rows.size), (rows, neighbours.ravel())), shape=(n_points, n_points))
    either = csr_array(near + near.T + eye_array(n_points))
    either.data[:] = 1.0
    return float(contributions @ (either @ contributions))
