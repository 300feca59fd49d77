"""The array types that nearly all numbers of this package have, and the sign of directions that have none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
"""Real numbers in double precision, of any shape."""

Complexes = npt.NDArray[np.complex128]
"""Complex numbers in double precision, of any shape."""

Ints = npt.NDArray[np.int64]
"""Whole numbers, of any shape."""


def with_one_sign(directions: Floats) -> Floats:
    """Return directions ``(n, n_units)``, whose signs are arbitrary, so that the largest entry of each is positive.

    The same data then have the same coordinates in every figure, whoever found the directions.

    Examples
    --------
    >>> with_one_sign(np.array([[0.6, -0.8], [0.8, 0.6]])).tolist()
    [[-0.6, 0.8], [0.8, 0.6]]
    """
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    return directions * np.where(largest < 0, -1.0, 1.0)
