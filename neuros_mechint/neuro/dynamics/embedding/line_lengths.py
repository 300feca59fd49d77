"""Diagonal and vertical lines of recurrence plots, from the list of recurrent pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.dynamics.embedding.delays import Whole


class Lines(NamedTuple):
    """How many lines there are of each length.

    Parameters
    ----------
    counts : numpy.ndarray of shape (longest + 1,)
        Number of lines of 0, 1, 2, ... points.
    """

    counts: Whole

    @property
    def n_points(self) -> int:
        """Points of all lines."""
        return int((np.arange(len(self.counts)) * self.counts).sum())

    @property
    def longest(self) -> int:
        """Points of the longest line."""
        return len(self.counts) - 1

    def share(self, shortest: int) -> float:
        """Return the share of points that lie on lines of ``shortest`` or more; NaN without points.

        Examples
        --------
        >>> Lines(np.array([0, 2, 1])).share(2)
        0.5
        """
        lengths = np.arange(len(self.counts))
        return float((lengths * self.counts)[shortest:].sum() / self.n_points) if self.n_points else float("nan")

    def mean(self, shortest: int) -> float:
        """Return the mean length of lines of ``shortest`` or more; NaN without any.

        Examples
        --------
        >>> Lines(np.array([0, 2, 1, 1])).mean(2)
        2.5
        """
        kept = self.counts[shortest:]
        lengths = np.arange(len(self.counts))[shortest:]
        return float((lengths * kept).sum() / kept.sum()) if kept.sum() else float("nan")

    def entropy(self, shortest: int) -> float:
        """Return the Shannon entropy in nats of the lengths of lines of ``shortest`` or more; NaN without any.

        Examples
        --------
        >>> round(Lines(np.array([0, 2, 1, 1])).entropy(2), 4)
        0.6931
        """
        kept: Floats = self.counts[shortest:].astype(np.float64)
        if not kept.sum():
            return float("nan")
        p = kept[kept > 0] / kept.sum()
        return float(-(p * np.log(p)).sum()) + 0.0


def diagonal_lines(first: Whole, second: Whole, clock: Whole) -> Lines:
    """Return lines of pairs that go on together: (i, j), (i + 1, j + 1), ...

    Parameters
    ----------
    first, second : numpy.ndarray of shape (n_pairs,)
        Rows of the two states of each pair; each pair once.
    clock : numpy.ndarray of shape (n_states,)
        A time of each state that jumps between trials, so that no line goes from one to the next.

    Examples
    --------
    >>> first, second = np.array([0, 1, 2, 5]), np.array([3, 4, 5, 7])
    >>> diagonal_lines(first, second, np.arange(8)).counts.tolist()
    [0, 1, 0, 1]
    """
    apart, along = clock[second] - clock[first], clock[first]
    order = np.lexsort((along, apart))
    return _runs(apart[order], along[order])


def vertical_lines(first: Whole, second: Whole, clock: Whole) -> Lines:
    """Return lines of pairs of which one state stays: (i, j), (i, j + 1), ...; each pair counts both ways.

    Examples
    --------
    >>> vertical_lines(np.array([0, 0, 0]), np.array([2, 3, 5]), np.arange(6)).counts.tolist()
    [0, 4, 1]
    """
    column = np.concatenate([first, second])
    along = clock[np.concatenate([second, first])]
    order = np.lexsort((along, column))
    return _runs(column[order], along[order])


def _runs(line: Whole, along: Whole) -> Lines:
    """Return the lengths of runs of consecutive times on the same line."""
    if not len(line):
        return Lines(np.zeros(1, dtype=np.int64))
    ends = np.flatnonzero((np.diff(line) != 0) | (np.diff(along) != 1))
    lengths = np.diff(np.concatenate([[-1], ends, [len(line) - 1]]))
    return Lines(np.bincount(lengths))
