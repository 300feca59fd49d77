"""How many samples a state needs, so that states that look alike are alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.dynamics.embedding.delays import ALIKE, embed
from neuros_mechint.neuro.dynamics.embedding.neighbours import nearest

_MOST_DIMENSIONS = 10
_TIMES_AS_FAR = 15.0
_TIMES_SPREAD = 2.0
_FEW = 0.01
_MOST_ROWS = 4000
_FEWEST_STATES = 50


class DimensionChoice(NamedTuple):
    """A dimension, why it was chosen, and the curve it was read from.

    Parameters
    ----------
    dimension : int
    why : str
    false_neighbours : numpy.ndarray of shape (n_dimensions,)
        Share of nearest neighbours that are false at dimensions of 1, 2, ...
    unfolded : bool
        Whether few enough were false at the dimension chosen.
    """

    dimension: int
    why: str
    false_neighbours: Floats
    unfolded: bool


def choose_dimension(trials: Sequence[Floats], delay: int, theiler: int, progress: bool = False) -> DimensionChoice:
    """Return the smallest dimension at which less than 1% of nearest neighbours are false.

    A neighbour is false if one sample more takes it away: to 15 times its distance or more, or to a distance of more
    than two standard deviations of the data. The second counts noise, whose neighbours are far already.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, n_units)
    delay, theiler : int
        Samples.
    progress : bool

    Returns
    -------
    DimensionChoice
        At most 10 samples; the dimension with fewest false neighbours where there are never less than 1%.

    Raises
    ------
    InputError
        Too few samples for two dimensions.

    References
    ----------
    Kennel, Brown and Abarbanel 1992, Determining embedding dimension for phase-space reconstruction using a geometrical
    construction, doi:10.1103/PhysRevA.45.3403

    Examples
    --------
    >>> wave = np.sin(2 * np.pi * np.arange(800) / 40.3)[:, None]
    >>> choose_dimension([wave], delay=10, theiler=40).dimension
    2
    """
    spread = float(np.sqrt(np.concatenate(trials).var(0).sum()))
    most = _most_dimensions(trials, delay)
    shares: list[float] = []
    for dimension in progress_bar(range(1, most + 1), most, "false neighbours", progress):
        shares.append(_share_false(trials, delay, dimension, theiler, spread))
        if shares[-1] < _FEW:
            why = f"{100 * shares[-1]:.2g}% of nearest neighbours are false, the first below 1%"
            return DimensionChoice(dimension, why, np.array(shares), True)
    found = np.array(shares)
    best = int(found.argmin()) + 1
    why = f"{100 * found[best - 1]:.2g}% of nearest neighbours are false, the fewest of all up to {most} dimensions"
    return DimensionChoice(best, why, found, False)


def _most_dimensions(trials: Sequence[Floats], delay: int) -> int:
    """Return how many dimensions can be tried: half of all samples, and some of each trial, must remain."""
    lengths = np.array([len(trial) for trial in trials])
    for dimension in range(_MOST_DIMENSIONS, 0, -1):
        left = lengths - dimension * delay
        if left.min() > 0 and left.sum() >= max(_FEWEST_STATES, lengths.sum() / 2):
            return dimension
    raise InputError(
        "too few samples for the embedding",
        expected=f"at least {_FEWEST_STATES} pairs of samples that lie {delay} apart, and some in each trial",
        got=f"{lengths.sum()} samples in {len(lengths)} trials, the shortest of {lengths.min()}",
        fix="record for longer, leave out short trials, or pass delay and dimension",
    )


def _share_false(trials: Sequence[Floats], delay: int, dimension: int, theiler: int, spread: float) -> float:
    states = embed(trials, delay, dimension + 1)
    n_units = trials[0].shape[1]
    known = states._replace(points=states.points[:, :-n_units])
    every = np.arange(len(states.points))
    rows = np.unique(np.linspace(0, len(every) - 1, min(_MOST_ROWS, len(every))).astype(np.int64))
    neighbours, distances = nearest(known, rows, every, theiler)
    found = neighbours >= 0
    rows, distances, neighbours = rows[found], distances[found], neighbours[found]
    if not len(rows):
        raise InputError(
            "too few samples for the embedding",
            expected=f"states that are more than {theiler} samples apart",
            got=f"{len(every)} states",
            fix="record for longer",
        )
    added = np.linalg.norm(states.points[rows, -n_units:] - states.points[neighbours, -n_units:], axis=1)
    # states that are alike to rounding are alike
    apart = np.maximum(distances, ALIKE * spread)
    false = (added > _TIMES_AS_FAR * apart) | (np.hypot(added, distances) > _TIMES_SPREAD * spread)
    return float(false.mean())
