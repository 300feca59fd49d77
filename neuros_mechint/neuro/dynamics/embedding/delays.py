"""States rebuilt from delayed copies of a signal, trial by trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError

Whole = npt.NDArray[np.int64]
ALIKE = 1e-9
"""States nearer than this share of the spread of the data are alike but for rounding."""


class States(NamedTuple):
    """States of all trials, one below the other, and where each comes from.

    Parameters
    ----------
    points : numpy.ndarray of shape (n_states, n_coordinates)
    trial : numpy.ndarray of shape (n_states,)
        Which trial a state is of.
    position : numpy.ndarray of shape (n_states,)
        Samples since the first state of the trial.
    later : numpy.ndarray of shape (n_states,)
        How many states of the same trial follow.
    """

    points: Floats
    trial: Whole
    position: Whole
    later: Whole

    def followed(self, n_steps: int) -> Whole:
        """Return the rows of states that can be followed for ``n_steps`` within their trial."""
        return np.flatnonzero(self.later >= n_steps)


def embed(trials: Sequence[Floats], delay: int, dimension: int) -> States:
    """Return states of ``dimension`` samples that lie ``delay`` apart, none across the end of a trial.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, n_units)
    delay : int
        Samples.
    dimension : int
        Samples per state; a state has ``dimension * n_units`` coordinates, the earliest sample's first.

    Raises
    ------
    InputError
        A trial is too short for a single state.

    Examples
    --------
    >>> states = embed([np.arange(5.0)[:, None], np.arange(4.0)[:, None]], delay=2, dimension=2)
    >>> states.points.tolist()
    [[0.0, 2.0], [1.0, 3.0], [2.0, 4.0], [0.0, 2.0], [1.0, 3.0]]
    >>> states.trial.tolist(), states.later.tolist()
    ([0, 0, 0, 1, 1], [2, 1, 0, 1, 0])
    """
    span = (dimension - 1) * delay
    shortest = min(map(len, trials))
    if shortest <= span:
        raise InputError(
            "too few samples for the embedding",
            expected=f"more than {span} samples in each trial, for {dimension} samples that lie {delay} apart",
            got=f"{shortest} in the shortest",
            fix="take a shorter delay or a smaller dimension, or leave out the short trials",
        )
    counts = np.array([len(trial) - span for trial in trials])
    points = [delay_vectors(trial, dimension, delay) for trial in trials]
    position = np.concatenate([np.arange(count) for count in counts])
    trial = np.repeat(np.arange(len(counts)), counts)
    return States(np.concatenate(points), trial, position, counts[trial] - 1 - position)


def delay_vectors(trial: Floats, dimension: int, delay: int = 1) -> Floats:
    """Return stretches of ``dimension`` samples that lie ``delay`` apart, the earliest first, one sample after another.

    Parameters
    ----------
    trial : numpy.ndarray of shape (n_times, n_units)
    dimension, delay : int

    Returns
    -------
    numpy.ndarray of shape (n_times - (dimension - 1) * delay, dimension * n_units)

    Examples
    --------
    >>> delay_vectors(np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]), 2).tolist()
    [[1.0, 10.0, 2.0, 20.0], [2.0, 20.0, 3.0, 30.0]]
    """
    count = len(trial) - (dimension - 1) * delay
    return np.concatenate([trial[step * delay : step * delay + count] for step in range(dimension)], axis=1)
