"""Resamples as counts: how often each subject and each condition is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.bootstrap import times_drawn

Counts = npt.NDArray[np.int64]

FEWEST_DIFFERENT = 3
"""Different conditions that a draw needs: two have one pair, and one pair correlates with nothing."""


@dataclass(frozen=True)
class Draws:
    """How often each condition ``(n_resamples, n_conditions)`` and subject ``(n_resamples, n_subjects)`` is drawn.

    What is not resampled has one row of ones.
    """

    conditions: Counts
    subjects: Counts

    @property
    def n_resamples(self) -> int:
        """Number of resamples."""
        return max(len(self.conditions), len(self.subjects))

    @property
    def enough(self) -> npt.NDArray[np.bool_]:
        """Which rows of ``conditions`` hold enough different ones."""
        return (self.conditions > 0).sum(1) >= FEWEST_DIFFERENT


def draw(over: str, n_resamples: int, n_conditions: int, n_subjects: int, random: np.random.Generator) -> Draws:
    """Draw with replacement, as many as there are, the conditions, the subjects, or both.

    Examples
    --------
    >>> drawn = draw("subjects", 5, 92, 4, np.random.default_rng(0))
    >>> drawn.subjects.sum(1).tolist(), drawn.conditions.shape
    ([4, 4, 4, 4, 4], (1, 92))
    """
    sizes = {"conditions": n_conditions, "subjects": n_subjects}
    resampled = sizes if over == "both" else (over,)
    counts = {
        name: times_drawn(size, n_resamples, random) if name in resampled else np.ones((1, size), dtype=np.int64)
        for name, size in sizes.items()
    }
    return Draws(**counts)


def pair_weights(counts: Counts, block_size: int) -> Iterator[tuple[slice, Floats]]:
    """Yield how often each pair of conditions is drawn ``(n_pairs_of_the_block, n_resamples)``, block by block.

    A pair of two draws of one condition has no dissimilarity and is in no block.
    """
    first, second = np.triu_indices(counts.shape[1], 1)
    times = np.ascontiguousarray(counts.T, dtype=np.float64)
    for start in range(0, len(first), block_size):
        block = slice(start, start + block_size)
        yield block, times[first[block]] * times[second[block]]
