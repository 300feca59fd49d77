"""How distances between neighbouring states grow with time, by Rosenstein's and by Kantz's average."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.dynamics.embedding.delays import ALIKE, States, Whole
from neuros_mechint.neuro.dynamics.embedding.neighbours import moments, nearest

METHODS = ("rosenstein", "kantz")
_MOST_BLOCKS = 50
_MOST_KANTZ_REFERENCES = 2000
_HAVE_A_NEIGHBOUR = 0.75
_MOST_PAIRS = 2_000_000
_DISTANCES_AT_ONCE = 16_384
_RANDOM_PAIRS = 20_000
FEWEST_REFERENCES = 30


class Divergence(NamedTuple):
    """Logarithms of distances, summed up over blocks of reference states that follow each other.

    Parameters
    ----------
    sums : numpy.ndarray of shape (n_blocks, n_steps)
        Of logarithms of distances, 0, 1, ... samples later.
    counts : numpy.ndarray of shape (n_blocks, n_steps)
        Of how many.
    n_references : int
        States that have a neighbour.
    n_pairs : int
        Pairs of neighbours.
    radius : float
        How far neighbours may be; infinite for Rosenstein's.
    """

    sums: Floats
    counts: Floats
    n_references: int
    n_pairs: int
    radius: float

    def curve(self) -> Floats:
        """Return the mean logarithm at each step; NaN where all distances are zero."""
        return _ratio(self.sums.sum(0), self.counts.sum(0))

    def resampled(self, times: Whole) -> Floats:
        """Return curves of blocks drawn so many times, ``(n_resamples, n_blocks)``, as rows."""
        return _ratio(times @ self.sums, times @ self.counts)


def _ratio(sums: Floats, counts: Floats) -> Floats:
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def rosenstein_divergence(
    states: States, horizon: int, theiler: int, n_references: int | None = None, progress: bool = False
) -> Divergence:
    """Return how each state parts from its one nearest neighbour.

    Parameters
    ----------
    states : States
    horizon : int
        Steps to follow; only states that can be followed so long within their trial are compared.
    theiler : int
        Samples within which states of one trial are no neighbours.
    n_references : int, optional
        Follow so many states only, evenly spread.
    progress : bool

    Returns
    -------
    Divergence
        Distances of zero but for rounding, which have no logarithm that tells, are left out.

    Raises
    ------
    InputError
        Too few states can be followed, or have a neighbour.

    References
    ----------
    Rosenstein, Collins and De Luca 1993, A practical method for calculating largest Lyapunov exponents from small data
    sets, doi:10.1016/0167-2789(93)90009-P

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.embedding.delays import embed
    >>> values = np.empty((500, 1))
    >>> values[0] = 0.3
    >>> for step in range(499):
    ...     values[step + 1] = 4 * values[step] * (1 - values[step])
    >>> curve = rosenstein_divergence(embed([values], 1, 1), horizon=4, theiler=1).curve()
    >>> bool(abs(np.diff(curve).mean() - np.log(2)) < 0.05)
    True
    """
    followed = states.followed(horizon)
    rows = _spread_out(followed, n_references)
    neighbours, _ = nearest(states, rows, followed, theiler)
    rows, neighbours = rows[neighbours >= 0], neighbours[neighbours >= 0]
    _check_references(len(rows), states, horizon, theiler)
    starts, sums, counts = _blocks(states, rows, theiler), [], []
    least = ALIKE * _spread(states.points)
    several = max(_DISTANCES_AT_ONCE // len(rows), 1)
    firsts = range(0, horizon + 1, several)
    for first in progress_bar(firsts, len(firsts), "following neighbours", progress):
        steps = np.arange(first, min(first + several, horizon + 1))[:, None]
        squares = _squared_distances(states.points, rows + steps, neighbours + steps)
        apart = squares > least**2
        logarithms = np.log(squares, out=np.zeros(squares.shape), where=apart) / 2
        sums.append(np.add.reduceat(logarithms, starts, axis=1))
        counts.append(np.add.reduceat(apart.astype(np.float64), starts, axis=1))
    return Divergence(np.concatenate(sums).T, np.concatenate(counts).T, len(rows), len(rows), np.inf)


def kantz_divergence(
    states: States, horizon: int, theiler: int, radius: float | None = None, progress: bool = False
) -> Divergence:
    """Return how states part from all that are within a radius: the mean distance first, its logarithm then.

    Parameters
    ----------
    states : States
    horizon, theiler : int
        See `rosenstein_divergence`.
    radius : float, optional
        In units of the data. By default three out of four states have a neighbour that near.
    progress : bool

    Returns
    -------
    Divergence
        Of at most 2,000 states, evenly spread.

    Raises
    ------
    InputError
        Too few states can be followed, or have a neighbour.

    References
    ----------
    Kantz 1994, A robust method to estimate the maximal Lyapunov exponent of a time series,
    doi:10.1016/0375-9601(94)90991-1

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.embedding.delays import embed
    >>> states = embed([np.sin(np.arange(500.0))[:, None]], 1, 2)
    >>> bool(abs(np.diff(kantz_divergence(states, horizon=5, theiler=6).curve())).max() < 0.1)
    True
    """
    followed = states.followed(horizon)
    rows = _spread_out(followed, _MOST_KANTZ_REFERENCES)
    _check_references(len(rows), states, horizon, theiler)
    if radius is None:
        distances = nearest(states, rows, followed, theiler)[1]
        _check_references(int(np.isfinite(distances).sum()), states, horizon, theiler)
        radius = float(np.quantile(distances[np.isfinite(distances)], _HAVE_A_NEIGHBOUR))
    references, neighbours = _within(states, rows, followed, theiler, radius)
    rows, owner, n_each = np.unique(references, return_inverse=True, return_counts=True)
    _check_references(len(rows), states, horizon, theiler, f"a neighbour within {radius:.3g} (in units of the data)")
    starts, sums, counts = _blocks(states, rows, theiler), [], []
    least = ALIKE * _spread(states.points)
    for step in progress_bar(range(horizon + 1), horizon + 1, "following neighbours", progress):
        distances = np.sqrt(_squared_distances(states.points, references + step, neighbours + step))
        mean = np.bincount(owner, distances, len(rows)) / n_each
        apart = mean > least
        sums.append(np.add.reduceat(np.log(mean, out=np.zeros(len(rows)), where=apart), starts))
        counts.append(np.add.reduceat(apart.astype(np.float64), starts))
    return Divergence(np.stack(sums, 1), np.stack(counts, 1), len(rows), len(references), radius)


def _within(states: States, rows: Whole, followed: Whole, theiler: int, radius: float) -> tuple[Whole, Whole]:
    """Return pairs of states within a radius, so many at most that they fit the memory."""
    from scipy.spatial import KDTree

    clock = moments(states, theiler)
    tree = KDTree(states.points[followed])
    n_each = tree.query_ball_point(states.points[rows], radius, return_length=True)
    keep = max(1, int(len(rows) * min(1.0, _MOST_PAIRS / max(1, int(n_each.sum())))))
    rows = _spread_out(rows, keep)
    found = tree.query_ball_point(states.points[rows], radius)
    references = np.repeat(rows, [len(one) for one in found])
    neighbours = followed[np.concatenate([np.asarray(one, dtype=np.int64) for one in found])]
    far = np.abs(clock[references] - clock[neighbours]) > theiler
    return references[far], neighbours[far]


def random_log_distance(states: States, random: np.random.Generator) -> float:
    """Return the mean logarithm of the distance of two states drawn at random, where distances stop to grow.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.embedding.delays import embed
    >>> noise = np.random.default_rng(0).uniform(size=(2000, 1))  # the mean of log|x - y| is -3/2
    >>> round(random_log_distance(embed([noise], 1, 1), np.random.default_rng(1)), 1)
    -1.5
    """
    first, second = random.integers(len(states.points), size=(2, _RANDOM_PAIRS))
    squares = _squared_distances(states.points, first, second)
    return float(np.log(squares[squares > 0]).mean() / 2)


def _spread(points: Floats) -> float:
    return float(np.sqrt(points.var(0).sum()))


def _squared_distances(points: Floats, first: Whole, second: Whole) -> Floats:
    difference = points.take(first, axis=0) - points.take(second, axis=0)
    return np.einsum("...i,...i->...", difference, difference)


def _spread_out(rows: Whole, n_rows: int | None) -> Whole:
    if n_rows is None or len(rows) <= n_rows:
        return rows
    return rows[np.linspace(0, len(rows) - 1, n_rows).astype(np.int64)]


def _blocks(states: States, rows: Whole, theiler: int) -> Whole:
    """Return where blocks of rows begin: of a Theiler window or longer, of one trial each."""
    trial, position = states.trial[rows], states.position[rows]
    length = max(theiler, len(states.points) // _MOST_BLOCKS, 1)
    block = position // length
    new = (np.diff(trial) > 0) | (np.diff(block) > 0)
    return np.concatenate([[0], np.flatnonzero(new) + 1])


def _check_references(n_found: int, states: States, horizon: int, theiler: int, need: str | None = None) -> None:
    if n_found >= FEWEST_REFERENCES:
        return
    need = need or f"a neighbour more than {theiler} samples away"
    raise InputError(
        "too few samples to follow neighbours",
        expected=f"at least {FEWEST_REFERENCES} states that can be followed for {horizon} samples within their trial "
        f"and have {need}",
        got=f"{n_found}, of {len(states.points)} states in {len(np.unique(states.trial))} trials",
        fix="record for longer, shorten the horizon, or embed in fewer dimensions",
    )


def longest_horizon(states: States, most: int) -> int:
    """Return for how many samples, up to ``most``, half of all states can be followed within their trial.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.embedding.delays import embed
    >>> longest_horizon(embed([np.zeros((100, 1))], 1, 1), 1000)
    50
    """
    later = np.sort(states.later)[::-1]
    return int(min(most, later[(len(later) - 1) // 2]))


def horizon_until(states: States, level: float, most: int, theiler: int, fewest: int, n_references: int = 300) -> int:
    """Return for how many samples to follow, so that distances reach a level (of logarithms), or as many as there are.

    Parameters
    ----------
    states : States
    level : float
    most, fewest : int
        Bounds in samples.
    theiler : int
    n_references : int
        How many states to try.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.embedding.delays import embed
    >>> noise = np.random.default_rng(0).normal(size=(500, 1))
    >>> horizon_until(embed([noise], 1, 1), level=-1.0, most=100, theiler=1, fewest=10)
    10
    """
    curve = rosenstein_divergence(states, most, theiler, n_references).curve()
    reached = np.flatnonzero(curve >= level)
    if not len(reached):
        return most
    return int(np.clip(reached[0] * 5 // 4 + 2, fewest, most))
