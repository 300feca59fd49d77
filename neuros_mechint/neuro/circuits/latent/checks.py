"""Arrays from what a caller passed, with nothing dropped on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.labels import as_numpy, refuse_masked


def real_numbers(values: Any, name: str) -> Floats:
    """Return a copy of real numbers as an array, or say why they are none; nothing is dropped silently.

    Raises
    ------
    InputError
        A mask, complex numbers, or no numbers at all.

    Examples
    --------
    >>> real_numbers([[1, 2], [3, 4]], "sizes").tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    array = as_array(values, name)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} are no real numbers", expected="an array of numbers", got=f"dtype {array.dtype}")
    return np.array(array, dtype=np.float64)


def as_array(values: Any, name: str) -> npt.NDArray[Any]:
    """Return values as an array, or say why they are none: a mask, or rows of different lengths.

    Examples
    --------
    >>> as_array(["left", "right"], "conditions").shape
    (2,)
    """
    refuse_masked(values, name)
    try:
        return as_numpy(values) if isinstance(values, torch.Tensor) else np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name} are no array", expected="rows of equal length", got=str(error)) from error
