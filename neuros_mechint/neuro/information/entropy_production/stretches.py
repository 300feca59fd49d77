"""Stretches of trajectories: what is summed over them forwards and backwards, and what chance makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.core.statistics.standard_errors import jackknife_error

N_STRETCHES = 40


class Sums(NamedTuple):
    """Numbers that are sums over the steps of each stretch.

    Parameters
    ----------
    forward, backward : numpy.ndarray of shape (n_stretches, n_sums)
        As the stretches ran, and as if each had run backwards.
    """

    forward: Floats
    backward: Floats


class Judged(NamedTuple):
    """An estimate with its chance.

    Parameters
    ----------
    value : float
        Without its bias.
    bias : float
        What the jackknife found and was taken off.
    error : float
        Standard error, from leaving out each stretch in turn.
    p : float or None
        Of the hypothesis that each stretch is as likely backwards; None without surrogates.
    drawn : numpy.ndarray of shape (n_permutations,)
        Estimates, with their bias, from stretches of which a random half is reversed.
    """

    value: float
    bias: float
    error: float
    p: float | None
    drawn: Floats


def cut(trials: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Cut trials into about 40 stretches; each begins with the sample with which the one before ends.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, ...)

    Examples
    --------
    >>> pieces = cut([np.arange(401)])
    >>> len(pieces), pieces[0][-1] == pieces[1][0], sum(len(piece) - 1 for piece in pieces)
    (40, np.True_, 400)
    """
    steps = np.array([len(trial) - 1 for trial in trials])
    pieces = np.maximum(np.round(N_STRETCHES * steps / steps.sum()).astype(int), 1)
    found = []
    for trial, n_steps, n_pieces in zip(trials, steps, pieces, strict=True):
        borders = np.linspace(0, n_steps, n_pieces + 1).astype(int)
        found += [trial[first : last + 1] for first, last in pairwise(borders)]
    return found


def judge(sums: Sums, estimate: Callable[[Floats], float], n_permutations: int, random: np.random.Generator) -> Judged:
    """Return an estimate from sums over all stretches, without bias, with its error and its p.

    At equilibrium a stretch that is longer than the memory of the process is as likely backwards as forwards.

    Parameters
    ----------
    sums : Sums
    estimate : callable
        Takes ``(n_sums,)``, returns a number.
    n_permutations : int
    random : numpy.random.Generator

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> flow, times = random.normal(1.0, 1.0, size=40), np.full(40, 5.0)
    >>> sums = Sums(np.stack([flow, times], 1), np.stack([-flow, times], 1))
    >>> found = judge(sums, lambda total: float(5 * total[0] / total[1]), 99, random)
    >>> 0.5 < found.value < 1.5, round(found.p, 2)
    (True, 0.01)
    """
    n_stretches = len(sums.forward)
    total = sums.forward.sum(0)
    together = estimate(total)
    without = np.array([estimate(total - one) for one in sums.forward])
    bias = (n_stretches - 1) * float(without.mean() - together)
    signs = random.choice([-1.0, 1.0], size=(n_permutations, n_stretches))
    middle = (total + sums.backward.sum(0)) / 2
    drawn = np.array([estimate(middle + one) for one in signs @ (sums.forward - sums.backward) / 2])
    p = float(p_of_draws(together, drawn)) if n_permutations else None
    return Judged(together - bias, bias, float(jackknife_error(without)), p, drawn)
