"""Where a trajectory comes back to where it was: on a Poincare section of a flow, or after whole steps of a map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.dynamics.limit_cycles.shooting import lagrange_weights, spread

_NODES = 4
_MOST_RETURNS = 32
_NEAR = 0.02
_NEAR_START = 0.3
_MOST_CANDIDATES = 4


class Guess(NamedTuple):
    """A state, and how long it takes until the trajectory is near it again."""

    start: Floats
    period: float


class Crossings(NamedTuple):
    """Where and when a trajectory goes through a plane, all times in one direction.

    ``states`` is ``(n_crossings, n_states)``; ``times`` are in steps.
    """

    states: Floats
    times: Floats


def crossings(states: Floats, point: Floats, normal: Floats) -> Crossings:
    """Return the crossings of a plane from its negative to its positive side, between steps by cubic polynomials.

    Parameters
    ----------
    states : numpy.ndarray of shape (n_steps, n_states)
    point, normal : numpy.ndarray of shape (n_states,)
        A point of the plane, and a vector that stands on it.

    Returns
    -------
    Crossings

    Examples
    --------
    >>> angle = 0.1 * np.arange(200)
    >>> circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> crossings(circle, np.zeros(2), np.array([0.0, 1.0])).times.round(3).tolist()
    [62.832, 125.664, 188.496]
    """
    heights = (states - point) @ normal
    found, times = [], []
    for before in np.flatnonzero((heights[:-1] < 0) & (heights[1:] >= 0)):
        first = int(np.clip(before - 1, 0, max(len(states) - _NODES, 0)))
        nodes = slice(first, first + _NODES)
        position = before - first + heights[before] / (heights[before] - heights[before + 1])
        for _ in range(3):
            weights, slopes = lagrange_weights(position, len(heights[nodes]))
            rise = slopes @ heights[nodes]
            if rise > 0:
                position -= np.clip(weights @ heights[nodes] / rise, -0.5, 0.5)
        found.append(lagrange_weights(position, len(heights[nodes]))[0] @ states[nodes])
        times.append(first + position)
    return Crossings(np.array(found).reshape(-1, states.shape[1]), np.array(times))


def returns_of_flow(states: Floats, dt: float) -> list[Guess]:
    """Return guesses of the cycle that a flow has settled on, those of the fewest crossings first.

    The section stands on the direction of the largest variance and goes through the mean.

    Examples
    --------
    >>> angle = 0.1 * np.arange(400)
    >>> guesses = returns_of_flow(np.stack([np.cos(angle), np.sin(angle)], axis=1), dt=0.1)
    >>> round(guesses[0].period, 4)
    6.2832
    """
    middle = states.mean(0)
    normal = np.linalg.svd(states - middle, full_matrices=False)[2][0]
    crossed = crossings(states, middle, normal)
    most = min(_MOST_RETURNS, len(crossed.times) - 1)
    distances = [np.linalg.norm(crossed.states[-1] - crossed.states[-1 - back]) for back in range(1, most + 1)]
    near = np.flatnonzero(np.array(distances) <= _NEAR * spread(states))[:_MOST_CANDIDATES] + 1
    return [Guess(crossed.states[-1], dt * float(crossed.times[-1] - crossed.times[-1 - back])) for back in near]


def returns_of_map(states: Floats, most_steps: int) -> list[Guess]:
    """Return guesses of the periodic orbit that a map has settled on, the shortest first.

    Examples
    --------
    >>> [guess.period for guess in returns_of_map(np.array([[0.0], [1.0]] * 10), most_steps=5)]
    [2.0, 4.0]
    """
    most = min(most_steps + 1, len(states) // 2)
    distances = np.array([np.linalg.norm(states[-1] - states[-1 - back]) for back in range(1, most + 1)])
    # a map of short steps is near itself after one step and several more: of these, the nearest
    walls = np.concatenate([[np.inf], distances, [np.inf]])
    nearest = (distances <= walls[:-2]) & (distances <= walls[2:]) & (distances <= _NEAR * spread(states))
    near = np.flatnonzero(nearest)[:_MOST_CANDIDATES] + 1
    return [Guess(states[-1], float(back)) for back in near if back <= most_steps]


def returns_to_start(states: Floats, dt: float | None, most_steps: int) -> list[Guess]:
    """Return guesses of the closed orbit near the first state, which need not attract the trajectory.

    The section of a flow goes through the first state and stands on the flow there.

    Examples
    --------
    >>> angle = 0.1 * np.arange(400)
    >>> round(returns_to_start(np.stack([np.cos(angle), np.sin(angle)], axis=1), 0.1, 64)[0].period, 2)
    6.28
    """
    if dt is None:
        after, times = states[1 : most_steps + 1], np.arange(1.0, min(most_steps, len(states) - 1) + 1)
    else:
        crossed = crossings(states[1:], states[0], states[1] - states[0])
        after, times = crossed.states[:_MOST_RETURNS], dt * (crossed.times[:_MOST_RETURNS] + 1)
    distances = np.linalg.norm(after - states[0], axis=1)
    size = spread(states[: int(times[0] / (dt or 1)) + 1]) if times.size else 0.0
    near = np.flatnonzero(distances <= _NEAR_START * max(size, np.finfo(float).tiny))
    return [Guess(states[0], float(times[index])) for index in near[:_MOST_CANDIDATES]]
