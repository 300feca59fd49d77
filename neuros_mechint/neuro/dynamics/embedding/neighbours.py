"""Nearest states that are no neighbours in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.dynamics.embedding.delays import States, Whole

# Whoever has no neighbour among so many is compared with all.
_NEIGHBOURS_ASKED = (8, 32, 128)
_DISTANCES_AT_ONCE = 2**22
# From so many coordinates on a tree has to look at nearly every state.
_MOST_COORDINATES_OF_A_TREE = 20


def moments(states: States, theiler: int) -> Whole:
    """Return a clock for all states, on which those of different trials lie more than ``theiler`` samples apart."""
    gap = int(states.position.max()) + theiler + 1
    return states.position + states.trial * (gap + 1)


def nearest(states: States, rows: Whole, candidates: Whole, theiler: int) -> tuple[Whole, Floats]:
    """Return for each of ``rows`` the nearest of ``candidates``, of any trial, and how far it is.

    Parameters
    ----------
    states : States
    rows, candidates : numpy.ndarray of int
        Rows of ``states``.
    theiler : int
        Candidates of the same trial within so many samples do not count: they are near because little time has
        passed.

    Returns
    -------
    neighbours : numpy.ndarray of shape (len(rows),)
        Rows of ``states``; -1 where there is no candidate.
    distances : numpy.ndarray of shape (len(rows),)
        Euclidean.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.embedding.delays import embed
    >>> states = embed([np.array([[0.0], [1.0], [0.3]]), np.array([[0.1], [5.0]])], 1, 1)
    >>> every = np.arange(5)
    >>> nearest(states, every, every, theiler=1)[0].tolist()
    [3, 3, 3, 0, 1]
    """
    clock = moments(states, theiler)
    neighbours = np.full(len(rows), -1)
    distances = np.full(len(rows), np.inf)
    left = np.arange(len(rows))
    if states.points.shape[1] <= _MOST_COORDINATES_OF_A_TREE:
        left = _by_tree(states.points, rows, candidates, clock, theiler, neighbours, distances)
    _by_all(states.points, rows, candidates, clock, theiler, neighbours, distances, left)
    return neighbours, distances


def _by_tree(
    points: Floats,
    rows: Whole,
    candidates: Whole,
    clock: Whole,
    theiler: int,
    neighbours: Whole,
    distances: Floats,
) -> Whole:
    """Ask for more and more neighbours of those that have found none far enough in time; return who still has none."""
    from scipy.spatial import KDTree

    tree = KDTree(points[candidates])
    left = np.arange(len(rows))
    for asked in _NEIGHBOURS_ASKED:
        if not len(left) or asked > len(candidates):
            break
        distance, index = tree.query(points[rows[left]], asked)
        found = candidates[index]
        far = np.abs(clock[found] - clock[rows[left], None]) > theiler
        any_far, first, one = far.any(1), far.argmax(1), np.arange(len(left))
        neighbours[left[any_far]] = found[one, first][any_far]
        distances[left[any_far]] = distance[one, first][any_far]
        left = left[~any_far]
    return left


def _by_all(
    points: Floats,
    rows: Whole,
    candidates: Whole,
    clock: Whole,
    theiler: int,
    neighbours: Whole,
    distances: Floats,
    left: Whole,
) -> None:
    """Compare what is left of the rows with every candidate."""
    from scipy.spatial.distance import cdist

    for part in np.array_split(left, max(1, -(-len(left) * len(candidates) // _DISTANCES_AT_ONCE))):
        distance = cdist(points[rows[part]], points[candidates])
        distance[np.abs(clock[candidates] - clock[rows[part], None]) <= theiler] = np.inf
        first = distance.argmin(1)
        nearest_distance = distance[np.arange(len(part)), first]
        there = np.isfinite(nearest_distance)
        neighbours[part[there]] = candidates[first[there]]
        distances[part[there]] = nearest_distance[there]


def theiler_window(trials: Sequence[Floats]) -> int:
    """Return the mean period of the data in samples, within which states are near because little time has passed.

    One over the mean frequency, which is weighted by power; at most a tenth of the longest trial.

    References
    ----------
    Theiler 1986, Spurious dimension from correlation algorithms applied to limited time-series data,
    doi:10.1103/PhysRevA.34.2427; Rosenstein, Collins and De Luca 1993, A practical method for calculating largest
    Lyapunov exponents from small data sets, doi:10.1016/0167-2789(93)90009-P

    Examples
    --------
    >>> theiler_window([np.sin(2 * np.pi * np.arange(2000) / 40)[:, None]])
    40
    """
    mean = np.concatenate(trials).mean(0)
    power, weighted = 0.0, 0.0
    for trial in trials:
        energy = (np.abs(np.fft.rfft(trial - mean, axis=0)) ** 2).sum(1)[1:]
        power += energy.sum()
        weighted += (energy * np.fft.rfftfreq(len(trial))[1:]).sum()
    most = max(1, max(map(len, trials)) // 10)
    return min(most, int(np.ceil(power / weighted - 1e-9))) if weighted > 0 else most
