"""Nearest neighbours of points, without those that are near only because they come next in time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.geometry.points import Points

_NUMBERS_AT_ONCE = 4_000_000
_MANY_FEATURES = 15
_NEAR = 1e-3


class Neighbours(NamedTuple):
    """The nearest neighbours of each point, nearest first.

    Parameters
    ----------
    distances : numpy.ndarray of shape (n_points, n_neighbors)
    indices : numpy.ndarray of shape (n_points, n_neighbors)
    """

    distances: Floats
    indices: npt.NDArray[np.intp]


def nearest(data: Points, n_neighbors: int, progress: bool = False) -> Neighbours:
    """Return the nearest neighbours of each of a set of distinct points.

    Parameters
    ----------
    data : Points
        Points of one trial that are not more than ``data.window`` samples apart do not count.
    n_neighbors : int
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    Neighbours

    Raises
    ------
    InputError
        Fewer neighbours than that lie outside the window.

    Examples
    --------
    >>> nearest(Points(np.array([[0.0], [1.0], [3.0]]), 1.0), 2).distances.tolist()
    [[1.0, 3.0], [1.0, 2.0], [2.0, 3.0]]
    """
    from sklearn.neighbors import NearestNeighbors

    n_points, n_features = data.values.shape
    asked = min(n_neighbors + 1 + 2 * data.window * data.ordered, n_points)
    search = NearestNeighbors(n_neighbors=asked).fit(data.values)
    at_once = max(1, _NUMBERS_AT_ONCE // max(asked, n_neighbors * n_features))
    starts = range(0, n_points, at_once)
    found = [
        _of_rows(data, search.kneighbors(data.values[start : start + at_once]), start, n_neighbors)
        for start in progress_bar(starts, description="neighbours", enabled=progress)
    ]
    distances, indices = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Neighbours(distances, indices)


def _of_rows(
    data: Points, found: tuple[Floats, npt.NDArray[np.intp]], start: int, n_neighbors: int
) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return distances and indices of the neighbours of the points from ``start`` on, among the candidates."""
    distances, candidates = found
    rows = np.arange(start, start + len(candidates))[:, None]
    left_out = candidates == rows
    if data.trial is not None and data.time is not None:
        near = np.abs(data.time[candidates] - data.time[rows]) <= data.window
        left_out = left_out | (near & (data.trial[candidates] == data.trial[rows]))
    order = np.argsort(left_out, axis=1, kind="stable")[:, :n_neighbors]
    if order.shape[1] < n_neighbors or np.take_along_axis(left_out, order, axis=1).any():
        raise InputError(
            "too few points are no neighbours in time",
            expected=f"at least {n_neighbors} outside the window of {data.window} samples, for every point",
            got=f"{len(data.values)} points",
            fix="pass longer trajectories, fewer neighbours or a smaller theiler",
        )
    distances = np.take_along_axis(distances, order, axis=1)
    indices = np.take_along_axis(candidates, order, axis=1)
    _measure_again(distances, data.values[rows[:, 0]], data.values, indices)
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1)


def pairwise(first: Floats, second: Floats) -> Floats:
    """Return the distances of each point to each of others, small ones as exactly as large ones.

    Examples
    --------
    >>> pairwise(np.zeros((1, 20)), np.full((1, 20), 1e-9)).round(12).item()
    4.472e-09
    """
    from scipy.spatial.distance import cdist
    from sklearn.metrics.pairwise import euclidean_distances

    if first.shape[1] <= _MANY_FEATURES:
        return np.asarray(cdist(first, second), dtype=np.float64)
    distances = np.asarray(euclidean_distances(first, second), dtype=np.float64)
    columns = np.broadcast_to(np.arange(len(second)), distances.shape)
    _measure_again(distances, first, second, columns)
    return distances


def _measure_again(distances: Floats, first: Floats, second: Floats, indices: npt.NDArray[np.intp]) -> None:
    """Replace small distances, in place: products of matrices find them as differences of large squares."""
    rows, places = np.nonzero(distances < _NEAR * first.shape[1] ** 0.5)
    at_once = max(1, _NUMBERS_AT_ONCE // first.shape[1])
    for start in range(0, len(rows), at_once):
        chosen = rows[start : start + at_once], places[start : start + at_once]
        distances[chosen] = np.linalg.norm(first[chosen[0]] - second[indices[chosen]], axis=1)
