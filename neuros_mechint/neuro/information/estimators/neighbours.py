"""How far the nearest neighbours are where all variables count, and how many are as near in some of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.variables import Whole

INSIDE = 1 - 1e-10
"""Of a distance: the neighbour itself lies on the edge, give or take its rounding."""


def distances_to_neighbour(values: Floats, n_neighbors: int) -> Floats:
    """Return how far the nth nearest other sample is, by the largest difference of any column.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_samples, n_features)
    n_neighbors : int

    Returns
    -------
    numpy.ndarray of shape (n_samples,)

    Examples
    --------
    >>> distances_to_neighbour(np.array([[0.0], [1.0], [3.0]]), 1).tolist()
    [1.0, 1.0, 2.0]
    """
    from scipy.spatial import KDTree

    # the trees that are quickest to build are as quick to ask for samples of continuous variables
    tree = KDTree(values, balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(values, [n_neighbors + 1], p=np.inf)[0])[:, 0]  # pyright: ignore[reportArgumentType]


def neighbours_of(values: Floats, n_neighbors: int) -> Whole:
    """Return which are the nearest other samples, ``(n_samples, n_neighbors)``, by the largest difference.

    Examples
    --------
    >>> neighbours_of(np.array([[0.0], [1.0], [3.0]]), 1).ravel().tolist()
    [1, 0, 1]
    """
    from scipy.spatial import KDTree

    tree = KDTree(values, balanced_tree=False, compact_nodes=False)
    found = np.asarray(tree.query(values, n_neighbors + 1, p=np.inf)[1])
    # a sample that others repeat need not come first among its own neighbours
    itself = found == np.arange(len(values))[:, None]
    itself[~itself.any(1), -1] = True
    return found[~itself].reshape(len(values), n_neighbors)


def counts_within(values: Floats, reach: Floats, edge: bool = False) -> Whole:
    """Return how many samples are nearer than a distance of each sample's own, the sample itself among them.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_samples, n_features)
    reach : numpy.ndarray of shape (n_samples,)
    edge : bool
        Count those at that very distance too.

    Returns
    -------
    numpy.ndarray of shape (n_samples,)

    Examples
    --------
    >>> counts_within(np.array([[0.0], [1.0], [3.0]]), np.array([1.0, 1.5, 9.0])).tolist()
    [1, 2, 3]
    >>> counts_within(np.array([[0.0], [1.0], [3.0]]), np.array([1.0, 1.5, 9.0]), edge=True).tolist()
    [2, 2, 3]
    """
    reach = reach * (2 - INSIDE if edge else INSIDE)
    if values.shape[1] == 1:
        return _along_a_line(values[:, 0], reach)
    return tree_of_counts(values).query_radius(values, reach, count_only=True)


def tree_of_counts(values: Floats) -> Any:
    """Return a tree whose ``query_radius`` counts how many samples are near, by the largest difference of any column.

    Examples
    --------
    >>> tree_of_counts(np.zeros((5, 2))).query_radius(np.zeros((1, 2)), 1.0, count_only=True).tolist()
    [5]
    """
    from sklearn.neighbors import KDTree as BallsOfATree

    return BallsOfATree(values, metric="chebyshev")


def _along_a_line(values: Floats, reach: Floats) -> Whole:
    order = np.argsort(values)
    line, reach = values[order], reach[order]
    counts = np.empty(len(values), dtype=np.intp)
    counts[order] = np.searchsorted(line, line + reach, "right") - np.searchsorted(line, line - reach, "left")
    return counts
