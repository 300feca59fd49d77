"""Births and deaths of holes, from ripser, and what is counted of them."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.optional import soft_import


def bars(distances: Floats, max_dimension: int) -> list[Floats]:
    """Return at which distances holes appear and are filled, as points are joined that are nearer than that.

    Parameters
    ----------
    distances : numpy.ndarray of shape (n_points, n_points)
    max_dimension : int

    Returns
    -------
    list of numpy.ndarray of shape (n_bars, 2)
        Birth and death, the longest first, of each dimension from 0 on.

    Raises
    ------
    MissingDependencyError
        Without ripser.

    Examples
    --------
    >>> square = np.array([[0, 1, 2**0.5, 1], [1, 0, 1, 2**0.5], [2**0.5, 1, 0, 1], [1, 2**0.5, 1, 0]])
    >>> bars(square, 1)[1].round(2).tolist()  # the square is a ring until its diagonals fill it
    [[1.0, 1.41]]
    """
    ripser = soft_import("ripser", "persistent homology", extra="topology")
    # ripser computes in single precision, in which it must neither overflow nor underflow
    scale = distances.max()
    found = ripser.ripser(distances / scale, distance_matrix=True, maxdim=max_dimension)["dgms"]
    diagrams = [np.asarray(diagram, dtype=np.float64) * scale for diagram in found]
    return [diagram[np.argsort(diagram[:, 0] - diagram[:, 1], kind="stable")] for diagram in diagrams]


def finite_lifetimes(diagram: Floats) -> Floats:
    """Return how long bars live, without the one component that never dies.

    Examples
    --------
    >>> finite_lifetimes(np.array([[0.0, np.inf], [0.0, 2.0]])).tolist()
    [2.0]
    """
    lifetimes = diagram[:, 1] - diagram[:, 0]
    return lifetimes[np.isfinite(lifetimes)]


def betti_curves(diagrams: list[Floats], distances: Floats) -> Floats:
    """Return how many holes there are at each distance, ``(n_dimensions, n_distances)``.

    Examples
    --------
    >>> betti_curves([np.array([[0.0, np.inf], [0.0, 2.0]])], np.array([1.0, 3.0])).tolist()
    [[2.0, 1.0]]
    """
    at = distances[:, None]
    return np.array([((each[:, 0] <= at) & (at < each[:, 1])).sum(1) for each in diagrams], dtype=np.float64)
