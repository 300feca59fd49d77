"""Recordings of several sessions in one array, joined by label along every axis but the one that grows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.joining import label_places
from neuros_mechint.core.recordings.labels import RATE_TOLERANCE


def concatenate(arrays: Sequence[xr.DataArray], names: Sequence[str], along: str) -> xr.DataArray:
    """Return recordings' arrays as one; see `Recording.concatenate`.

    Parameters
    ----------
    arrays : sequence of xarray.DataArray
        At least one.
    names : sequence of str
        What to call each in errors.
    along : str
        The axis that grows.

    Raises
    ------
    InputError
        Arrays that do not fit together.

    Examples
    --------
    >>> first = xr.DataArray([[1, 2]], dims=("unit", "stimulus"), coords={"stimulus": ["a", "b"]})
    >>> concatenate([first, first[:, ::-1]], ["monday", "tuesday"], "unit").values.tolist()
    [[1, 2], [1, 2]]
    """
    first = arrays[0]
    if along not in first.dims:
        raise InputError("the recordings have no such axis", expected=f"one of {first.dims}", got=repr(along))
    joined = [first] + [
        _fitted(first, array, along, (names[0], name)) for array, name in zip(arrays[1:], names[1:], strict=True)
    ]
    values = np.concatenate([array.values for array in joined], axis=first.dims.index(along))
    coords = _labels_elsewhere(joined, along) | _labels_along(joined, along)
    attrs = {key: value for key, value in first.attrs.items() if all(_same(a.attrs.get(key), value) for a in joined)}
    return xr.DataArray(values, dims=first.dims, coords=coords, attrs=attrs)


def _fitted(first: xr.DataArray, array: xr.DataArray, along: str, names: tuple[str, str]) -> xr.DataArray:
    """Return an array with the axes of the first and, along all but one, its labels in its order."""
    if set(array.dims) != set(first.dims):
        raise InputError(
            f"{names[0]} and {names[1]} have different axes", expected=first.dims, got=array.dims, fix="average first"
        )
    units = [one.attrs.get("units") for one in (first, array)]
    if units[0] != units[1]:
        raise InputError(f"{names[0]} and {names[1]} are in different units", got=" and ".join(map(repr, units)))
    array = array.transpose(*first.dims)
    for axis in map(str, first.dims):
        if axis in ("time", "repetition") and axis != along:
            _check_same_steps(first, array, axis, names)
        elif axis != along:
            array = array.isel({axis: _places(first, array, axis, names)})
    return array


def _check_same_steps(first: xr.DataArray, array: xr.DataArray, axis: str, names: tuple[str, str]) -> None:
    """Raise `InputError` unless both have as many repetitions, or the same times."""
    sizes = first.sizes[axis], array.sizes[axis]
    same = sizes[0] == sizes[1]
    if same and axis == "time":
        times = [one.coords["time"].values if "time" in one.coords else None for one in (first, array)]
        if times[0] is not None and times[1] is not None:
            step = float(np.diff(times[0]).min()) if sizes[0] > 1 else 1.0
            same = bool((np.abs(times[0] - times[1]) <= RATE_TOLERANCE * step).all())
        else:
            same = times[0] is None and times[1] is None
    if not same:
        raise InputError(
            f"{names[0]} and {names[1]} do not agree along {axis!r}",
            expected="the same times" if axis == "time" else "as many repetitions",
            got=f"{sizes[0]} and {sizes[1]}" if sizes[0] != sizes[1] else "other times",
            fix=f"select the same {axis}s, or average over them",
        )


def _places(first: xr.DataArray, array: xr.DataArray, axis: str, names: tuple[str, str]) -> list[int]:
    bare = [name for name, one in zip(names, (first, array), strict=True) if axis not in one.coords]
    if bare:
        raise InputError(
            f"{' and '.join(bare)} cannot be joined along {axis!r}",
            expected=f"labels of each {axis}, to join by",
            got="no labels; the same position need not mean the same thing",
            fix=f"make the recordings with coords={{{axis!r}: [...]}}",
        )
    return label_places(first.coords[axis].values.tolist(), array.coords[axis].values.tolist(), names, axis)


def _labels_elsewhere(arrays: Sequence[xr.DataArray], along: str) -> dict[str, Any]:
    """Return those labels of the other axes on which all arrays agree."""
    return {
        str(name): label
        for name, label in arrays[0].coords.items()
        if along not in label.dims
        and all(
            name in array.coords and (name == "time" or np.array_equal(array.coords[name].values, label.values))
            for array in arrays
        )
    }


def _labels_along(arrays: Sequence[xr.DataArray], along: str) -> dict[str, Any]:
    """Return the labels of the axis that grows; warn of those that not all arrays have."""
    names = list(dict.fromkeys(str(name) for array in arrays for name in array.coords if array[name].dims == (along,)))
    found: dict[str, Any] = {}
    dropped: list[str] = []
    for name in names:
        labels = [array.coords[name].values for array in arrays if name in array.coords]
        text = {values.dtype.kind in "UTO" for values in labels}
        if len(labels) == len(arrays) and len(text) == 1:
            found[name] = (along, np.concatenate(labels))
        else:
            dropped.append(name)
    if dropped:
        warnings.warn(
            f"labels of {along!r} that not all recordings have, or of another type, are left out: {', '.join(dropped)}",
            UserWarning,
            stacklevel=4,
        )
    return found


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(np.array_equal(one, other))
