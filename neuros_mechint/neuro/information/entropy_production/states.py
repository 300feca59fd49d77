"""Entropy production of processes with few states, from how often each step or word occurs, and its reverse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.entropy_production.stretches import Sums
from neuros_mechint.neuro.information.variables import Whole


def count_steps(stretches: Sequence[Whole], n_states: int) -> Sums:
    """Return how often each state follows each other one in each stretch, and the number of steps.

    Parameters
    ----------
    stretches : sequence of numpy.ndarray of shape (n_times,)
        Numbers of states, from 0.
    n_states : int

    Returns
    -------
    Sums
        ``n_states ** 2 + 1`` sums.

    Examples
    --------
    >>> count_steps([np.array([0, 1, 0])], n_states=2).forward.tolist()
    [[0.0, 1.0, 1.0, 0.0, 2.0]]
    """
    counts, back = _counted(stretches, n_states, 2)
    steps = counts.sum(1, keepdims=True)
    return Sums(np.hstack([counts, steps]), np.hstack([back, steps]))


def count_words(stretches: Sequence[Whole], n_states: int) -> Sums:
    """Return how often each word of three successively visited states occurs, the number of visits, and that of steps.

    Examples
    --------
    >>> count_words([np.array([0, 0, 1, 1, 1, 0])], n_states=2).forward[0, -2:].tolist()  # 0 to 1 to 0 in five steps
    [2.0, 5.0]
    """
    visited = [states[np.append(True, np.diff(states) != 0)] for states in stretches]
    sizes = np.array([[len(visits) - 1, len(states) - 1] for visits, states in zip(visited, stretches, strict=True)])
    counts, back = _counted(visited, n_states, 3)
    return Sums(np.hstack([counts, sizes]), np.hstack([back, sizes]))


def _counted(stretches: Sequence[Whole], n_states: int, length: int) -> tuple[Floats, Floats]:
    """Return how often each word of so many states occurs in each stretch, and how often its reverse does."""
    shape = (n_states,) * length
    found = []
    for states in stretches:
        n_words = max(len(states) - length + 1, 0)
        words = np.ravel_multi_index([states[first : first + n_words] for first in range(length)], shape)
        found.append(np.bincount(words, minlength=n_states**length))
    counts = np.array(found, dtype=float)
    return counts, counts.reshape(-1, *shape).transpose(0, *range(length, 0, -1)).reshape(len(counts), -1)


def steps_divergence(sums: Floats, n_states: int) -> float:
    r"""Return how much likelier steps are than backwards, :math:`\langle \log p_{ij} / p_{ji} \rangle`, in nats.

    Half a count is added to each, so that a step that never runs backwards weighs finitely.

    Parameters
    ----------
    sums : numpy.ndarray of shape (n_states ** 2 + 1,)
        As `count_steps` has them.
    n_states : int

    Examples
    --------
    >>> round(steps_divergence(np.array([0.0, 30, 10, 0, 40]), 2), 3)  # (30 - 10) log(30.5 / 10.5) / 40
    0.533
    """
    return _divergence(sums[:-1].reshape(n_states, n_states)) / float(sums[-1])


def words_divergence(sums: Floats, n_states: int) -> float:
    """Return how much likelier words of three states are than backwards, in nats per step.

    Parameters
    ----------
    sums : numpy.ndarray of shape (n_states ** 3 + 2,)
        As `count_words` has them.
    n_states : int

    Examples
    --------
    >>> balanced = count_words([np.array([0, 1, 0, 1, 0])], 2).forward.sum(0)
    >>> words_divergence(balanced, 2)
    0.0
    """
    counts = sums[:-2].reshape((n_states,) * 3)
    visits, steps = sums[-2:]
    # a word is two visits long, and the last visits of a stretch begin none
    return _divergence(counts) / max(float(counts.sum()), 1.0) / 2 * float(visits / steps)


def _divergence(counts: Floats) -> float:
    back = counts.transpose()
    return float(flow_divergence((counts - back).ravel(), (counts + back).ravel())) / 2  # each pair stands there twice


def flow_divergence(net: Floats, both: Floats) -> Floats:
    r"""Return :math:`\sum (n_{ij} - n_{ji}) \log (n_{ij} / n_{ji})` over pairs, with half a count added to each.

    Parameters
    ----------
    net, both : numpy.ndarray of shape (..., n_pairs)
        Difference and sum of the counts of each pair.

    Examples
    --------
    >>> flow_divergence(np.array([20.0, 0.0]), np.array([40.0, 8.0])).round(2).item()  # (30 - 10) log(30.5 / 10.5)
    21.33
    """
    forth, back = (both + net) / 2 + 0.5, (both - net) / 2 + 0.5
    return (net * np.log(forth / back)).sum(-1)


def pair_sums(stretches: Sequence[Whole], n_states: int) -> Sums:
    """Return counts of steps in two blocks, for even and for odd stretches, each with the number of steps.

    Examples
    --------
    >>> pair_sums([np.array([0, 1]), np.array([1, 0])], 2).forward.shape
    (2, 10)
    """
    return in_halves(count_steps(stretches, n_states))


def in_halves(sums: Sums) -> Sums:
    """Return sums twice as wide, in which even stretches fill the first half and odd ones the second.

    Examples
    --------
    >>> in_halves(Sums(np.ones((2, 1)), np.ones((2, 1)))).forward.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    even = (np.arange(len(sums.forward)) % 2 == 0)[:, None]
    return Sums(*(np.hstack([np.where(even, part, 0), np.where(even, 0, part)]) for part in sums))


def state_current(sums: Floats, n_states: int, dt: float) -> float:
    """Return the bound that the best current of each half of the stretches shows on the other half.

    Parameters
    ----------
    sums : numpy.ndarray
        As `pair_sums` has them.
    n_states : int
    dt : float

    Examples
    --------
    >>> counts = np.array([0, 60.0, 20, 20, 0, 60, 60, 20, 0, 240])
    >>> round(state_current(np.tile(counts, 2), 3, 1.0), 3)
    0.511
    """
    found = []
    halves = np.split(sums, 2)
    for learnt, tested in (halves, halves[::-1]):
        (net, both), (net_tested, both_tested) = (_net_and_both(half, n_states) for half in (learnt, tested))
        weights = np.divide(net, both, out=np.zeros_like(net), where=both > 0)
        n_steps = tested[-1]
        found.append(uncertainty_bound(weights @ net_tested / n_steps, float(weights**2 @ both_tested / n_steps)) / dt)
    return float(np.mean(found))


def _net_and_both(sums: Floats, n_states: int) -> tuple[Floats, Floats]:
    counts = sums[:-1].reshape(n_states, n_states)
    upper = np.triu_indices(n_states, 1)
    return (counts - counts.T)[upper], (counts + counts.T)[upper]


def uncertainty_bound(mean: float, square: float) -> float:
    r"""Return the least entropy production per step that a current of this mean and mean square shows.

    :math:`\log(1 + 2 \langle J \rangle^2 / \mathrm{var} J)`, which holds for steps of any length; of short ones it is
    :math:`2 \langle J \rangle^2 / \mathrm{var} J`. Negative where the current runs against its forecast.

    Examples
    --------
    >>> round(uncertainty_bound(0.1, 1.0), 4)
    0.02
    """
    variance = square - mean**2
    return float(np.sign(mean) * np.log1p(2 * mean**2 / variance)) if variance > 0 else 0.0
