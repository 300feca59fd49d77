"""Numbers as a reader wants them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import xarray as xr


def format_value(value: object) -> str:
    """Return a number with four significant digits, anything else as text.

    Examples
    --------
    >>> format_value(0.123456), format_value(3), format_value(["a", 0.5])
    ('0.1235', '3', 'a, 0.5')
    """
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    if isinstance(value, (complex, np.complexfloating)):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {format_value(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(item) for item in value)
    return str(value)


def shapes_repr(value: Any) -> str:
    """Return the repr of a dataclass or named tuple of arrays: their types and shapes instead of their numbers.

    Examples
    --------
    >>> from collections import namedtuple
    >>> shapes_repr(namedtuple("Trials", "inputs dt")(np.zeros((5, 20)), 0.1))
    'Trials(inputs: float64 (5, 20), dt=0.1)'
    """
    names = getattr(value, "_fields", None) or [one.name for one in fields(value)]
    return f"{type(value).__name__}({', '.join(_field_repr(name, getattr(value, name)) for name in names)})"


def _field_repr(name: str, value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{name}: {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return f"{name}: {', '.join(value)}" if isinstance(value, Mapping) else f"{name}={value!r}"


def describe_array(array: xr.DataArray) -> str:
    """Return the size and range of an array, or its value where it is one number.

    Examples
    --------
    >>> describe_array(xr.DataArray([0.0, 1.0, 4.0], dims="layer", attrs={"units": "nats"}))
    '3 layer, from 0 to 4 nats (median 1)'
    """
    units = f" {array.attrs['units']}" if array.attrs.get("units") else ""
    if not array.dims:
        return format_value(array.values.item()) + units
    sizes = " x ".join(f"{size} {dimension}" for dimension, size in array.sizes.items())
    if array.dtype.kind not in "iuf" or not array.size or not np.isfinite(array.values).any():
        return sizes
    finite = array.values[np.isfinite(array.values)]
    low, middle, high = (format_value(float(f(finite))) for f in (np.min, np.median, np.max))
    missing = f", {array.size - finite.size} not finite" if finite.size < array.size else ""
    return f"{sizes}, from {low} to {high}{units} (median {middle}{missing})"
