"""What callers pass: axes of labelled data by name, never by position in silence, and numbers of usual size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.recordings.recording import Recording

_LARGEST = 1e50
UNITS = ("unit", "feature", "channel", "neuron")
REPEATS = ("repetition", "repeat", "trial", "sample")
CONDITIONS = ("condition", "stimulus")


def by_axes(values: Any, axes: Sequence[Sequence[str]], name: str) -> Floats:
    """Return numbers with their axes in order; of labelled data, by name.

    Parameters
    ----------
    values : array_like, torch.Tensor, xarray.DataArray or Recording
        Without names, the axes are taken for what the caller says.
    axes : sequence of sequence of str
        Names that each axis may have, in the order that is asked for.
    name : str
        What to call the values in errors.

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    InputError
        What `real_array` and `refuse_extremes` refuse; or an axis of another name.

    Examples
    --------
    >>> responses = xr.DataArray([[1.0, 2.0, 3.0]], dims=("neuron", "trial"))
    >>> by_axes(responses, (REPEATS, UNITS), "the responses").tolist()
    [[1.0], [2.0], [3.0]]
    """
    array = values.data if isinstance(values, Recording) else values
    if not isinstance(array, xr.DataArray):
        return refuse_extremes(real_array(array, name), name)
    dims = [str(axis) for axis in array.dims]
    found = [[axis for axis in dims if axis in known] for known in axes]
    if len(dims) != len(axes) or any(len(one) != 1 for one in found):
        x = "x.data" if isinstance(values, Recording) else "x"
        raise InputError(
            f"it is not clear which axis of {name} is which",
            expected="axes named " + ", ".join(" or ".join(known) for known in axes),
            got=f"axes {dims}",
            fix=f"rename them: {x}.rename(old='new'), or pass {x}.values with axes in this order",
        )
    ordered = array.transpose(*(one[0] for one in found)).values
    return refuse_extremes(np.ascontiguousarray(real_array(ordered, name)), name)


def refuse_extremes(values: Floats, name: str) -> Floats:
    """Return values, or raise where their fourth powers would be too large or too small to be numbers.

    Raises
    ------
    InputError

    Examples
    --------
    >>> refuse_extremes(np.array([1e-12, 0.0]), "currents").tolist()
    [1e-12, 0.0]
    """
    largest = float(np.abs(values).max(initial=0.0))
    if largest and not 1 / _LARGEST < largest < _LARGEST:
        raise InputError(
            f"{name}: these are too {'large' if largest > 1 else 'small'} for powers of them to be numbers",
            expected=f"a largest absolute value between {1 / _LARGEST:g} and {_LARGEST:g}",
            got=f"{largest:.3g}",
            fix="take other units",
        )
    return values
