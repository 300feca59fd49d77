"""What a mean over examples may be taken of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import real_array

FEWEST_EXAMPLES = 2


def examples(values: npt.ArrayLike) -> Floats:
    """Return values as floats, or say why they are no examples along the last axis.

    Raises
    ------
    InputError
        Fewer than two examples, or values that are not finite.

    Examples
    --------
    >>> examples([[1, 2, 3]]).shape
    (1, 3)
    """
    array = real_array(values, "values")
    if not array.ndim or array.shape[-1] < FEWEST_EXAMPLES:
        raise InputError(
            "one example says nothing about the spread",
            expected=f"at least {FEWEST_EXAMPLES} values along the last axis",
            got=f"shape {array.shape}",
            fix="give more inputs, and a metric with one value per sample",
        )
    return array


def mean_of_defined(values: Floats, axis: int) -> Floats:
    """Return means along an axis without what is NaN, NaN where all is.

    Examples
    --------
    >>> mean_of_defined(np.array([[1.0, np.nan], [3.0, np.nan]]), 0).tolist()
    [2.0, nan]
    """
    defined = np.isfinite(values)
    counts, sums = defined.sum(axis), np.where(defined, values, 0.0).sum(axis)
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
