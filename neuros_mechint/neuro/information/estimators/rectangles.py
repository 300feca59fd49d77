"""How many points of a plane lie in rectangles, when each point has a rank along both axes."""

from __future__ import annotations

import numpy as np

from neuros_mechint.neuro.information.variables import Whole

_ROWS = 3  # binary digits: eight ranks of the first axis share a row of the tables
_BITS = 6  # and 64 of the second a word
_FIRST_OF_EIGHT = np.tri(8, 8, -1, dtype=bool).view(np.uint64)[:, 0]


def counts_in_rectangles(second: Whole, rows: tuple[Whole, Whole], columns: tuple[Whole, Whole]) -> Whole:
    """Return how many points lie in each rectangle of ranks.

    Two small tables, of sums and of bits, hold what lies below and left of a corner; no rectangle is searched.

    Parameters
    ----------
    second : numpy.ndarray of shape (n_points,)
        Rank along the second axis of the point with each rank along the first; every rank occurs once.
    rows, columns : (numpy.ndarray, numpy.ndarray) of shape (n_rectangles,)
        First rank along each axis that belongs to the rectangle, and first one that no longer does.

    Returns
    -------
    numpy.ndarray of shape (n_rectangles,)

    Examples
    --------
    >>> second = np.array([2, 0, 3, 1])  # points (0, 2), (1, 0), (2, 3) and (3, 1)
    >>> whole, none = (np.array([0]), np.array([4])), (np.array([1]), np.array([1]))
    >>> counts_in_rectangles(second, whole, whole).tolist(), counts_in_rectangles(second, whole, none).tolist()
    ([4], [0])
    >>> counts_in_rectangles(second, (np.array([1]), np.array([4])), (np.array([1]), np.array([4]))).tolist()
    [2]
    """
    sums, bits, remainder = _tables(second)
    (first_row, last_row), (left, right) = rows, columns
    return (
        _left_over(remainder, last_row, left, right)
        - _left_over(remainder, first_row, left, right)
        + (
            _below(sums, bits, last_row, right)
            - _below(sums, bits, last_row, left)
            - _below(sums, bits, first_row, right)
            + _below(sums, bits, first_row, left)
        )
    )


def _tables(second: Whole) -> tuple[Whole, np.ndarray, np.ndarray]:
    """Return sums of points in whole rows and whole words, the bits of each word over whole rows, and ranks by row."""
    n_points = len(second)
    n_rows, n_words = (n_points >> _ROWS) + 1, (n_points >> _BITS) + 1
    row, word = (np.arange(n_points) >> _ROWS) + 1, second >> _BITS
    sums = np.bincount(row * (n_words + 1) + word + 1, minlength=(n_rows + 1) * (n_words + 1))
    sums = sums.reshape(n_rows + 1, n_words + 1).cumsum(0).cumsum(1)
    bits = np.zeros((n_rows + 1) * n_words, dtype=np.uint64)
    np.bitwise_or.at(bits, row * n_words + word, np.uint64(1) << (second & (1 << _BITS) - 1).astype(np.uint64))
    bits = np.bitwise_or.accumulate(bits.reshape(n_rows + 1, n_words), axis=0)
    remainder = np.full(n_rows << _ROWS, n_points, dtype=np.int32)
    remainder[:n_points] = second
    return sums, bits, remainder.reshape(n_rows, 1 << _ROWS)


def _below(sums: Whole, bits: np.ndarray, row: Whole, column: Whole) -> Whole:
    """Return how many points of the whole rows below a rank lie left of a column."""
    row, word = row >> _ROWS, column >> _BITS
    left = (np.uint64(1) << (column & (1 << _BITS) - 1).astype(np.uint64)) - np.uint64(1)
    return sums[row, word] + np.bitwise_count(bits[row, word] & left)


def _left_over(remainder: np.ndarray, row: Whole, left: Whole, right: Whole) -> Whole:
    """Return how many points of the row that a rank cuts lie below it, and between two columns."""
    # below the left edge the difference wraps around to a large number
    inside = (remainder[row >> _ROWS] - left[:, None].astype(np.int32)).view(np.uint32)
    inside = inside < (right - left)[:, None].astype(np.uint32)
    # eight truth values are the bytes of one number
    return np.bitwise_count(inside.view(np.uint64)[:, 0] & _FIRST_OF_EIGHT[row & (1 << _ROWS) - 1]).astype(np.intp)
