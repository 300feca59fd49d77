"""Stretches of trajectories that are longer than their memory, from which errors come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.permutation import permutation_test
from neuros_mechint.core.statistics.sign_flips import sign_flip_p
from neuros_mechint.neuro.dynamics.embedding.mutual_information import autocorrelation

Whole = npt.NDArray[np.intp]
FEWEST, MOST = 10, 40
"""How many blocks there are: fewer tell nothing of errors, more cost time."""
_MEMORIES = 3.0  # errors from blocks of so many are 9% too small where correlations fall exponentially
_WINDOW = 5.0
_FEWEST_DRAWS, _DRAWS_PER_TEST = 999, 100
_MANY_TRIALS = 8


class Blocks(NamedTuple):
    """Samples of all trials, end to end, cut into stretches of one length."""

    of_sample: Whole
    """Which block each sample belongs to, ``(n_samples,)``."""
    n_blocks: int
    memory: float
    """Integrated correlation time, in samples: so many count as one."""

    @property
    def long_enough(self) -> bool:
        """Whether blocks are longer than the memory, several times over."""
        return len(self.of_sample) >= self.n_blocks * _MEMORIES * self.memory


def make_blocks(trials: Sequence[Floats]) -> Blocks:
    """Cut trials into blocks of three times their memory, if that leaves 10 at least and 40 at most.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, n_dimensions)

    Examples
    --------
    >>> blocks = make_blocks([np.random.default_rng(0).normal(size=(1000, 1))])
    >>> blocks.n_blocks, blocks.long_enough, blocks.memory < 1.5
    (40, True, True)
    """
    n_samples = sum(len(trial) for trial in trials)
    memory = integrated_correlation_time(trials)
    n_blocks = min(int(np.clip(n_samples / (_MEMORIES * memory), FEWEST, MOST)), n_samples)
    return Blocks(np.arange(n_samples) * n_blocks // n_samples, n_blocks, memory)


def integrated_correlation_time(trials: Sequence[Floats]) -> float:
    """Return how many samples count as one independent one: 1 + 2 sum of the autocorrelation, of the slowest column.

    The sum ends where the lag is five times what it has come to, as in Sokal's rule.

    Examples
    --------
    >>> held = np.repeat(np.random.default_rng(0).normal(size=2000), 10)  # each value ten times
    >>> round(integrated_correlation_time([held[:, None]]))
    10
    """
    n_lags = max(len(trial) for trial in trials) - 1
    slowest = 1.0
    for column in range(trials[0].shape[1]):
        found = autocorrelation([trial[:, [column]] for trial in trials], n_lags)
        summed = 2 * np.cumsum(found) - 1
        far = np.flatnonzero(np.arange(len(summed)) >= _WINDOW * summed)
        slowest = max(slowest, float(summed[far[0] if len(far) else -1]))
    return slowest


def drifts(trials: Sequence[Floats], blocks: Blocks) -> float:
    """Return the p of trajectories that stay as they are: no trend over blocks, none within many trials.

    The smaller of two p values is doubled where there are enough trials for the second: that they begin and end alike.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(1000, 1))
    >>> drifts([noise], make_blocks([noise])) > 0.05
    True
    >>> wandering = noise + np.linspace(0, 1, 1000)[:, None]
    >>> drifts([wandering], make_blocks([wandering])) < 0.05
    True
    """
    joined = np.concatenate(trials)
    count, order = np.bincount(blocks.of_sample), np.arange(blocks.n_blocks, dtype=float)
    moments = (
        [joined] if np.isin(np.abs(joined), 1).all() else [joined, (joined - joined.mean(0)) ** 2]
    )  # spins have one
    columns = [column for moment in moments for column in moment.T]
    n_resamples = max(_FEWEST_DRAWS, _DRAWS_PER_TEST * len(columns))
    found = []
    for column in columns:
        means = np.bincount(blocks.of_sample, column) / count
        if np.ptp(means) > 0:
            found.append(float(permutation_test(means, order, kind="correlation", n_resamples=n_resamples).p))
    if len(trials) >= _MANY_TRIALS:
        halves = [(trial[: len(trial) // 2].mean(0) - trial[len(trial) // 2 :].mean(0)) for trial in trials]
        found += sign_flip_p(np.transpose(halves), n_resamples=n_resamples).tolist()
    return min(1.0, len(found) * min(found, default=1.0))
