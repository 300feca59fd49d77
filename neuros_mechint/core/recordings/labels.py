"""The labels of a recording: copied with its values, checked against them, and used to select."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.errors import InputError, near_names
from neuros_mechint.core.numbers import as_array, refuse_masked
from neuros_mechint.core.recordings.frames import FRAME_DIMS, is_frame, labelled_frame

DEFAULT_DIMS = ("stimulus", "time", "unit")

_NUMBERS = (int, float, np.integer, np.floating)

RATE_TOLERANCE = 0.01
"""Part of a sampling interval by which time labels may stray and still count as regular."""


def copy_labelled(
    data: Any, dims: Sequence[str] | None, coords: Mapping[str, Any] | None, region: Any = None
) -> xr.DataArray:
    """Return a deep copy of the data with its labels.

    Parameters
    ----------
    data : array_like, torch.Tensor, xarray.DataArray or pandas.DataFrame
        Real numbers.
    dims : sequence of str or None
        Names of the axes; None: those of the DataArray, of a DataFrame `FRAME_DIMS`, or `DEFAULT_DIMS`.
    coords : mapping or None
        ``{name: labels along the axis of that name}`` or ``{name: (axis, labels)}``.
    region : str or sequence of str, optional
        The coordinate ``region`` along ``unit``.

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    InputError
        If dims or labels do not fit the data, or the data are not real numbers.

    Examples
    --------
    >>> copy_labelled([[1, 2]], ("stimulus", "unit"), {"depth": ("unit", [0.1, 0.2])}).depth.values.tolist()
    [0.1, 0.2]
    """
    if is_frame(data):
        data = labelled_frame(data, dims or FRAME_DIMS)
    own = tuple(str(name) for name in data.dims) if isinstance(data, xr.DataArray) else None
    values = _copy_values(data.values if isinstance(data, xr.DataArray) else data)
    names = _check_dims(dims, own, values.shape)
    array = xr.DataArray(values, dims=names)
    labels = dict(coords or {})
    if region is not None:
        labels["region"] = ("unit", [region] * array.sizes["unit"] if isinstance(region, str) else region)
    if isinstance(data, xr.DataArray):
        array = array.assign_coords(data.coords.copy(deep=True)).assign_attrs(data.attrs)
    return array.assign_coords({name: _label(array, name, label) for name, label in labels.items()})


def _copy_values(data: Any) -> npt.NDArray[Any]:
    refuse_masked(data, "data")
    try:
        values = np.array(as_array(data, "data"))
    except InputError:
        if not isinstance(data, list | tuple):
            raise
        # rows of different lengths, for which a recording has an answer of its own
        values = np.empty(0, dtype=object)
    if values.dtype.kind not in "biuf":
        raise InputError(
            "the data are not real numbers",
            expected="an array of integers, floats or booleans",
            got=f"dtype {values.dtype}",
            fix="take abs() or angle() of complex signals; pad unequal rows with NaN and allow_missing=True",
        )
    # Some files are big-endian, which torch cannot hold.
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _check_dims(dims: Sequence[str] | None, own: tuple[str, ...] | None, shape: tuple[int, ...]) -> tuple[str, ...]:
    names = dims if dims is not None else own or DEFAULT_DIMS
    if own is not None and tuple(names) != own:
        raise InputError(
            "dims contradict those of the DataArray",
            expected=own,
            got=repr(names),
            fix="leave dims out, or use its .rename or .transpose first",
        )
    if isinstance(names, str) or len(names) != len(shape) or len(set(names)) != len(names):
        raise InputError(
            "dims do not fit the data",
            expected=f"{len(shape)} different names for shape {shape}",
            got=repr(names),
            fix='name each axis, e.g. dims=("stimulus", "unit")',
        )
    if "unit" not in names:
        raise InputError(
            "no axis of the data is called 'unit'",
            expected="one axis of neurons, channels or voxels, named 'unit'",
            got=repr(names),
            fix="rename that axis, or add one of length 1",
        )
    if 0 in shape:
        raise InputError("the recording is empty", expected="at least 1 entry on each axis", got=f"shape {shape}")
    return tuple(names)


def _label(array: xr.DataArray, name: str, label: Any) -> tuple[str, npt.NDArray[Any]]:
    """Return one coordinate as ``(axis, labels)``, checked against the axis."""
    explicit = isinstance(label, tuple) and len(label) == 2 and isinstance(label[0], str) and np.ndim(label[1]) == 1
    axis, values = label if explicit else (name, label)
    values = np.array(values)
    if axis not in array.dims:
        raise InputError(
            f"the coordinate {name!r} lies along no axis of the recording",
            expected=f"one of the axes {array.dims}",
            got=repr(axis),
            fix=f"say which axis it labels: {{{name!r}: ('unit', [...])}}",
        )
    if values.shape != (array.sizes[axis],):
        raise InputError(
            f"the coordinate {name!r} does not fit its axis {axis!r}",
            expected=f"{array.sizes[axis]} labels",
            got=f"shape {values.shape}",
        )
    return axis, values


def check_recording(array: xr.DataArray, allow_missing: bool) -> xr.DataArray:
    """Return a recording's array with time labels and read-only values, or say what is wrong with it.

    Parameters
    ----------
    array : xarray.DataArray
        With its ``sampling_rate`` in Hz, if any, among the attributes.
    allow_missing : bool
        Accept NaN.

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    InputError
        If values are not finite, times do not ascend, or they contradict the sampling rate.

    Examples
    --------
    >>> array = xr.DataArray(np.zeros((3, 1)), dims=("time", "unit"), attrs={"sampling_rate": 100.0})
    >>> check_recording(array, allow_missing=False).time.values.tolist()
    [0.0, 0.01, 0.02]
    """
    _check_finite(array, allow_missing)
    rate = array.attrs.get("sampling_rate")
    if rate is not None and not (isinstance(rate, _NUMBERS) and math.isfinite(rate) and rate > 0):
        raise InputError("the sampling rate is not usable", expected="a positive number of Hz", got=repr(rate))
    if "time" in array.dims:
        array = _check_time(array, None if rate is None else float(rate))
    array.values.flags.writeable = False
    return array


def _check_finite(array: xr.DataArray, allow_missing: bool) -> None:
    values = array.values
    if values.dtype.kind != "f":
        return
    bad = np.isinf(values) if allow_missing else ~np.isfinite(values)
    if not bad.any():
        return
    where = np.unravel_index(int(bad.argmax()), values.shape)
    place = ", ".join(f"{name}={int(entry)}" for name, entry in zip(array.dims, where, strict=True))
    raise InputError(
        "the recording is not finite everywhere",
        expected="finite numbers" + (" or NaN" if allow_missing else ""),
        got=f"{values[where]} at position {place}, {int(bad.sum())} such in all",
        fix="leave these entries out, or pass allow_missing=True if NaN means 'not recorded'",
    )


def _check_time(array: xr.DataArray, rate: float | None) -> xr.DataArray:
    if "time" not in array.coords:
        if rate is None:
            return array
        array = array.assign_coords(time=np.arange(array.sizes["time"]) / rate)
    times = array.coords["time"].values
    if times.dtype.kind not in "iuf" or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise InputError(
            "the time labels are not ascending seconds",
            expected="finite numbers, each above the one before",
            got=f"dtype {times.dtype}, starting {times[:3].tolist()}",
        )
    if rate is not None and not is_regular(times, rate):
        raise InputError(
            f"the time labels contradict the sampling rate of {rate:g} Hz",
            expected=f"steps of {1 / rate:g} s",
            got=f"steps of {np.diff(times).min():g} to {np.diff(times).max():g} s",
            fix="time is in seconds and the rate in Hz; leave sampling_rate out where sampling is irregular",
        )
    array.coords["time"].attrs["units"] = "s"
    return array


def is_regular(times: npt.NDArray[Any], rate: float) -> bool:
    """Return whether times in seconds are steps of ``1 / rate``, to `RATE_TOLERANCE` of one.

    Examples
    --------
    >>> is_regular(np.array([0.0, 0.1, 0.2]), 10.0), is_regular(np.array([0.0, 0.1, 0.3]), 10.0)
    (True, False)
    """
    return bool((np.abs(np.diff(times) * rate - 1) <= RATE_TOLERANCE).all())


def select_labels(array: xr.DataArray, name: str, label: Any) -> xr.DataArray:
    """Return the part of a recording's array that carries a label; see `Recording.select`.

    Parameters
    ----------
    array : xarray.DataArray
        The recording.
    name : str
        An axis, or a coordinate along one.
    label : label, list of labels or slice
        What to keep.

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    InputError
        If there is no such coordinate or label, or nothing is left.

    Examples
    --------
    >>> array = xr.DataArray(np.arange(3), dims="unit", coords={"region": ("unit", ["V1", "V2", "V1"])})
    >>> select_labels(array, "region", "V1").values.tolist()
    [0, 2]
    """
    if name not in array.dims and (name not in array.coords or array.coords[name].ndim != 1):
        raise no_such_labels(array, name)
    single = np.ndim(label) == 0 and not isinstance(label, slice)
    wanted: Any = [label] if single and name == "unit" else list(label) if isinstance(label, tuple) else label
    # xarray looks up no lists among repeated labels, and nothing in coordinates that are no index.
    if name in array.dims and (np.ndim(wanted) == 0 or _is_unique(array, name)):
        try:
            chosen = array.sel({name: wanted})
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise _no_match(array, name, label) from error
    else:
        axis = array.coords[name].dims[0]
        chosen = array.isel({axis: np.flatnonzero(_matches(array, name, wanted))})
    if 0 in chosen.shape:
        raise _no_match(array, name, label)
    return without_false_rate(chosen)


def _is_unique(array: xr.DataArray, name: str) -> bool:
    return name not in array.indexes or array.indexes[name].is_unique


def _matches(array: xr.DataArray, name: str, label: Any) -> npt.NDArray[np.bool_]:
    values = array.coords[name].values
    if not isinstance(label, slice):
        wanted = np.atleast_1d(np.asarray(label))
        if not np.isin(wanted, values).all():
            raise _no_match(array, name, label)
        return np.isin(values, wanted)
    if label.step is not None:
        raise InputError(f"a slice of {name!r} takes no step", expected="slice(first, last)", got=label)
    keep = np.ones(values.shape, dtype=bool)
    try:
        if label.start is not None:
            keep &= values >= label.start
        if label.stop is not None:
            keep &= values <= label.stop
    except TypeError as error:
        raise _no_match(array, name, label) from error
    return keep


def without_false_rate(array: xr.DataArray) -> xr.DataArray:
    """Return the array without its sampling rate where the times left are no longer those of that rate.

    Examples
    --------
    >>> times = xr.DataArray([0, 0], dims="time", coords={"time": [0.0, 0.3]}, attrs={"sampling_rate": 10.0})
    >>> without_false_rate(times).attrs
    {}
    """
    rate = array.attrs.get("sampling_rate")
    if rate is None or ("time" in array.dims and is_regular(array.coords["time"].values, rate)):
        return array
    array = array.copy(deep=False)
    del array.attrs["sampling_rate"]
    return array


def no_such_labels(array: xr.DataArray, name: str) -> InputError:
    """Return the error for labels that a recording does not have.

    Examples
    --------
    >>> print(no_such_labels(xr.DataArray([0], dims="unit", coords={"depth": ("unit", [1.0])}), "dept"))
    the recording has no labels 'dept'
      expected: one of depth, unit
      to fix:   did you mean 'depth'?
    """
    known = [str(key) for key in array.coords if array.coords[key].ndim == 1]
    known += [str(axis) for axis in array.dims if str(axis) not in known]
    near = near_names(name, known)
    return InputError(
        f"the recording has no labels {name!r}",
        expected="one of " + ", ".join(known),
        fix=f"did you mean {near[0]!r}?" if near else None,
    )


def _no_match(array: xr.DataArray, name: str, label: Any) -> InputError:
    values = array.coords[name].values if name in array.coords else np.arange(array.sizes[name])
    some = list(dict.fromkeys(values.tolist()))
    shown = ", ".join(repr(value) for value in some[:8]) + (", ..." if len(some) > 8 else "")
    return InputError(f"no {name} matches {label!r}", expected=f"among {shown}", got=repr(label))
