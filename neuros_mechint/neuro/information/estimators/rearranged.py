"""Conditional information by nearest neighbours for many rearrangements of one variable, much faster than one by one.

What the rearrangement leaves alone, the other two variables, is sorted once: near samples of both are listed, and of
each rearrangement only the listed ones are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.information.estimators.neighbours import (
    INSIDE,
    counts_within,
    distances_to_neighbour,
    neighbours_of,
    tree_of_counts,
)
from neuros_mechint.neuro.information.estimators.rectangles import counts_in_rectangles
from neuros_mechint.neuro.information.estimators.sorted_line import SortedLine
from neuros_mechint.neuro.information.variables import Whole

_NUMBERS_AT_ONCE = 30_000  # of listed neighbours: what a processor keeps close by
_DRAWS_AT_ONCE = 50
_LONGER, _MOST_LISTED = 4, 20_000_000
_ENOUGH = 0.85
_EIGHT = 8  # truth values are counted eight at once


def frenzel_pompe_of_draws(
    x: Floats, y: Floats, z: Floats, n_neighbors: int, draws: Whole, progress: bool = False
) -> Floats:
    """Return `frenzel_pompe` of ``x[draw], y, z`` for each draw.

    Parameters
    ----------
    x, y, z : numpy.ndarray of shape (n_samples, n_features)
        All of like scale.
    n_neighbors : int
    draws : numpy.ndarray of shape (n_draws, n_samples)
        Which sample of ``x`` takes the place of each.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    numpy.ndarray of shape (n_draws,)
        Nats.

    Examples
    --------
    >>> from neuros_mechint.neuro.information.estimators.nearest import frenzel_pompe
    >>> random = np.random.default_rng(0)
    >>> x, y, z = random.normal(size=(3, 200, 1))
    >>> draw = random.permutation(200)
    >>> found = frenzel_pompe_of_draws(x, y, z, 3, draw[None])
    >>> bool(np.isclose(found[0], frenzel_pompe(x[draw], y, z, 3)))
    True
    """
    from scipy.special import digamma

    if z.shape[1] == 1:  # then its ranks are places
        order = np.argsort(z[:, 0], kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        x, y, z, draws = x[order], y[order], z[order], place[draws[:, order]]
    fixed = np.hstack([y, z])
    lists, enough = _lists(x, fixed, n_neighbors, draws[0])
    counts = _on_lines(z) if x.shape[1] == z.shape[1] == 1 else _in_trees(z)
    of_count = digamma(np.arange(len(x) + 1))
    found: list[float] = []
    batches = [draws[first : first + _DRAWS_AT_ONCE] for first in range(0, len(draws), _DRAWS_AT_ONCE)]
    for batch in progress_bar(batches, description="rearranged samples", enabled=progress):
        moved = x[batch]
        reaches, of_both = _reaches(moved, fixed, lists, enough, n_neighbors)
        for one, reach, both in zip(moved, reaches, of_both, strict=True):
            given, with_x = counts(one, reach * INSIDE)
            found.append(float(np.mean(of_count[given] - of_count[with_x] - of_count[both])))
    return of_count[n_neighbors] + np.array(found)


class _Lists(NamedTuple):
    """The samples nearest to some in what is not rearranged, nearest first, and how far they are."""

    rows: Whole
    indices: Whole
    distances: Floats

    def of(self, rows: Whole | slice, length: int | None = None) -> _Lists:
        """Return the lists of some rows, maybe only their beginnings."""
        whole = (rows, slice(length))
        return _Lists(
            self.rows[rows], np.ascontiguousarray(self.indices[whole]), np.ascontiguousarray(self.distances[whole])
        )


def _lists(x: Floats, fixed: Floats, n_neighbors: int, draw: Whole) -> tuple[_Lists, int]:
    """Return lists long enough for nearly all samples, and how much of them most need, as one draw shows."""
    reach = distances_to_neighbour(np.hstack([x[draw], fixed]), n_neighbors)
    enough = int(np.quantile(counts_within(fixed, reach), _ENOUGH)) + n_neighbors
    enough = -(-enough // _EIGHT) * _EIGHT
    length = max(enough, min(_LONGER * enough, _MOST_LISTED // len(fixed)))
    indices = neighbours_of(fixed, min(length, len(fixed) - 1))
    distances = np.abs(fixed[indices, 0] - fixed[:, :1])
    for column in range(1, fixed.shape[1]):
        np.maximum(distances, np.abs(fixed[indices, column] - fixed[:, column, None]), out=distances)
    return _Lists(np.arange(len(fixed)), indices, distances), min(enough, len(fixed) - 1)


def _reaches(moved: Floats, fixed: Floats, lists: _Lists, enough: int, n_neighbors: int) -> tuple[Floats, Whole]:
    """Return how far the nth neighbour is in all variables, and how many samples are nearer in those left alone.

    Both ``(n_draws, n_samples)``, of moved values ``(n_draws, n_samples, n_features)``.
    """
    reaches = np.empty(moved.shape[:2])
    of_both = np.empty(moved.shape[:2], dtype=np.intp)
    rows_at_once = max(1, _NUMBERS_AT_ONCE // enough)
    for start in range(0, len(fixed), rows_at_once):
        rows = slice(start, start + rows_at_once)
        part = lists.of(rows, enough)
        for one, reach, both in zip(moved, reaches, of_both, strict=True):
            reach[rows], both[rows] = _nearest_listed(one, part, n_neighbors)
    for one, reach, both in zip(moved, reaches, of_both, strict=True):
        beyond = np.flatnonzero(reach > lists.distances[:, enough - 1])
        reach[beyond], both[beyond] = _nearest_listed(one, lists.of(beyond), n_neighbors)
        beyond = beyond[reach[beyond] > lists.distances[beyond, -1]]
        reach[beyond], both[beyond] = _nearest_of_all(one, fixed, beyond, n_neighbors)
    return reaches, of_both


def _nearest_listed(moved: Floats, near: _Lists, n_neighbors: int) -> tuple[Floats, Whole]:
    """Return how far the nth neighbour among listed ones is, and how many of those are nearer in what is left alone."""
    distances = near.distances
    for column in range(moved.shape[1]):
        of_column = moved[:, column].take(near.indices)
        of_column -= moved[near.rows, column, None]
        np.abs(of_column, out=of_column)
        distances = np.maximum(distances, of_column, out=of_column)
    distances.partition(n_neighbors - 1, axis=1)
    reach = distances[:, n_neighbors - 1].copy()
    return reach, _n_true(near.distances <= reach[:, None] * INSIDE) + 1


def _n_true(found: npt.NDArray[np.bool_]) -> Whole:
    """Return how many entries of each row are true."""
    if found.shape[1] % _EIGHT:
        return np.count_nonzero(found, axis=1)
    return np.bitwise_count(found.view(np.uint64)).sum(1, dtype=np.intp)


def _nearest_of_all(moved: Floats, fixed: Floats, rows: Whole, n_neighbors: int) -> tuple[Floats, Whole]:
    """Return the same by looking at all samples, for the few whose neighbours lie beyond the lists."""
    reach, both = np.empty(len(rows)), np.empty(len(rows), dtype=np.intp)
    at_once = max(1, _NUMBERS_AT_ONCE // len(moved))
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        apart = _largest_difference(fixed, rows[part])
        distances = np.maximum(apart, _largest_difference(moved, rows[part]))
        distances.partition(n_neighbors, axis=1)  # the sample itself is the nearest
        reach[part] = distances[:, n_neighbors]
        both[part] = np.count_nonzero(apart <= reach[part, None] * INSIDE, axis=1)
    return reach, both


def _largest_difference(values: Floats, rows: Whole) -> Floats:
    found = np.abs(values[:, 0] - values[rows, :1])
    for column in range(1, values.shape[1]):
        np.maximum(found, np.abs(values[:, column] - values[rows, column, None]), out=found)
    return found


def _on_lines(z: Floats) -> Callable[[Floats, Floats], tuple[Whole, Whole]]:
    """Return what counts samples near in z, and in x and z, where both are numbers and z is sorted."""
    place = z[:, 0]
    line = SortedLine(place)

    def counts(moved: Floats, reach: Floats) -> tuple[Whole, Whole]:
        across = moved[:, 0]
        order = np.argsort(across)
        other = SortedLine(across)
        rows = other.below(across - reach), other.up_to(across + reach)
        columns = line.below(place - reach), line.up_to(place + reach)
        return columns[1] - columns[0], counts_in_rectangles(order, rows, columns)

    return counts


def _in_trees(z: Floats) -> Callable[[Floats, Floats], tuple[Whole, Whole]]:
    """Return what counts samples near in z, and in x and z, of any number of columns."""
    tree = tree_of_counts(z)

    def counts(moved: Floats, reach: Floats) -> tuple[Whole, Whole]:
        both = np.hstack([moved, z])
        given = tree.query_radius(z, reach, count_only=True)
        return given, tree_of_counts(both).query_radius(both, reach, count_only=True)

    return counts
