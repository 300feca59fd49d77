"""How many of many sorted numbers lie below others: a table of cells finds the place, a few steps make it exact."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.variables import Whole

_CELLS_PER_NUMBER = 4
_MOST_STEPS = 10


class SortedLine:
    """Numbers in order, which are asked often.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_values,)
        In any order.

    Examples
    --------
    >>> line = SortedLine(np.array([3.0, 1.0, 1.0, 2.0]))
    >>> line.below(np.array([1.0, 2.5])).tolist(), line.up_to(np.array([1.0, 2.5])).tolist()
    ([0, 3], [2, 3])
    """

    def __init__(self, values: Floats) -> None:
        self.values = np.sort(values)
        self._padded = np.append(self.values, np.nan)  # comes before nothing
        self._n_cells = _CELLS_PER_NUMBER * len(values)
        self._low = self.values[0]
        self._scale = (self._n_cells - 1) / max(self.values[-1] - self._low, np.finfo(float).tiny * self._n_cells)
        occupied = np.bincount(self._cells(self.values), minlength=self._n_cells)
        self._before = np.concatenate([[0], occupied.cumsum()[:-1]])
        self._steps = int(occupied.max())

    def below(self, numbers: Floats) -> Whole:
        """Return how many values are less than each number."""
        return self._places(numbers, np.less, "left")

    def up_to(self, numbers: Floats) -> Whole:
        """Return how many values are less than each number, or equal."""
        return self._places(numbers, np.less_equal, "right")

    def _cells(self, numbers: Floats) -> npt.NDArray[np.intp]:
        cells = (numbers - self._low) * self._scale
        return np.clip(cells, 0, self._n_cells - 1, out=cells).astype(np.intp)

    def _places(self, numbers: Floats, before: np.ufunc, side: Literal["left", "right"]) -> Whole:
        if self._steps > _MOST_STEPS:  # values far apart: most others share a cell
            return self.values.searchsorted(numbers, side)
        places = self._before.take(self._cells(numbers))
        for _ in range(self._steps):
            places += before(self._padded.take(places), numbers)
        return places
