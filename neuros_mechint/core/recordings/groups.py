"""Entries of a recording grouped by a label: averaged, laid out as repetitions, or chosen by a condition."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.joining import codes_of, label_array, label_list
from neuros_mechint.core.recordings.conditions import fulfils, parse
from neuros_mechint.core.recordings.labels import no_such_labels, without_false_rate
from neuros_mechint.core.statistics.means import mean_of_defined


def query_labels(array: xr.DataArray, condition: str) -> xr.DataArray:
    """Return the part of a recording's array whose labels fulfil a condition; see `Recording.query`.

    Parameters
    ----------
    array : xarray.DataArray
    condition : str
        See `fulfils`. What is joined by ``and`` at the top may be about different axes, each part about one.

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    InputError
        A condition that cannot be read, is about several axes at once, or leaves nothing.

    Examples
    --------
    >>> array = xr.DataArray(np.arange(3), dims="unit", coords={"depth": ("unit", [0.1, 0.5, 0.9])})
    >>> query_labels(array, "depth > 0.2").values.tolist()
    [1, 2]
    """
    labels = _all_labels(array)
    whole = parse(condition)
    parts = whole.values if isinstance(whole, ast.BoolOp) and isinstance(whole.op, ast.And) else [whole]
    keep = {str(axis): np.ones(size, dtype=bool) for axis, size in array.sizes.items()}
    for part in parts:
        text = ast.unparse(part)
        axes = {str(labels[name].dims[0]) for name in _names(part) if name in labels}
        if len(axes) > 1:
            raise InputError(
                f"{text!r} is about {' and '.join(sorted(axes))} at once, which leaves no rectangular array",
                expected="parts about one axis each, joined by 'and'",
                got=condition,
                fix="query twice, or concatenate the results",
            )
        held = fulfils(
            text, {name: label.values for name, label in labels.items() if not axes or label.dims[0] in axes}
        )
        keep[axes.pop()] &= held
    empty = [axis for axis, kept in keep.items() if not kept.any()]
    if empty:
        known = {name: list(dict.fromkeys(labels[name].values.tolist()))[:8] for name in _names(whole)}
        raise InputError(
            f"no {empty[0]} fulfils {condition!r}", expected=f"labels among {known}", got=f"0 of {keep[empty[0]].size}"
        )
    return without_false_rate(array.isel({axis: np.flatnonzero(kept) for axis, kept in keep.items()}))


def average(array: xr.DataArray, axis: str | None, by: str | None) -> xr.DataArray:
    """Return means of a recording's array; see `Recording.average`.

    Examples
    --------
    >>> array = xr.DataArray([[1, 2], [3, 5]], dims=("trial", "unit"))
    >>> average(array, "trial", None).values.tolist()
    [2.0, 3.5]
    """
    axis = check_axis(array, axis, by)
    values = array.transpose(axis, ...).values.astype(float)
    if by is None:
        kept = array.isel({axis: 0}, drop=True)
        return _described(without_false_rate(kept.copy(data=mean_of_defined(values, 0))), f"{axis}: mean")
    groups, members = label_groups(array, axis, by)
    means = np.stack([mean_of_defined(values[rows], 0) for rows in members])
    found = _relabelled(array, axis, by, groups, means, members)
    counts = [len(rows) for rows in members]
    found = found.assign_coords(n_averaged=(by, counts, {"long_name": f"entries of {axis} averaged"}))
    return _described(found.transpose(*_replaced(array, axis, by)), f"{axis}: mean (by {by})")


def repetitions(array: xr.DataArray, by: str, allow_missing: bool) -> xr.DataArray:
    """Return a recording's array with the axis ``repetition`` first; see `Recording.repetitions`.

    Examples
    --------
    >>> array = xr.DataArray([1, 2, 3], dims="trial", coords={"stimulus": ("trial", ["a", "b", "a"])})
    >>> repetitions(array, "stimulus", allow_missing=True).values.tolist()
    [[1.0, 2.0], [3.0, nan]]
    """
    axis = check_axis(array, None, by)
    if "repetition" in array.dims:
        raise InputError("the recording has an axis 'repetition' already", got=f"axes {array.dims}")
    groups, members = label_groups(array, axis, by)
    counts = np.array([len(rows) for rows in members])
    if counts.min() != counts.max() and not allow_missing:
        few, many = groups[int(counts.argmin())], groups[int(counts.argmax())]
        raise InputError(
            f"not every {by} was repeated as often",
            expected="the same number of repetitions of each",
            got=f"{counts.min()} of {few!r}, {counts.max()} of {many!r}",
            fix="pass allow_missing=True to fill up with NaN, or query the ones with enough",
        )
    values = array.transpose(axis, ...).values
    full = counts.min() == counts.max()
    shape = (int(counts.max()), len(groups), *values.shape[1:])
    laid = np.empty(shape, values.dtype) if full else np.full(shape, np.nan)
    for column, rows in enumerate(members):
        laid[: len(rows), column] = values[rows]
    found = _relabelled(array, axis, by, groups, laid, members, lead=("repetition",))
    found = found.assign_coords(repetition=np.arange(len(laid)))
    return found.transpose("repetition", *_replaced(array, axis, by))


def check_axis(array: xr.DataArray, axis: str | None, by: str | None) -> str:
    """Return the axis to go along, which ``by`` implies; raise `InputError` where there is none, or it is ``unit``.

    Examples
    --------
    >>> array = xr.DataArray([0, 0], dims="trial", coords={"stimulus": ("trial", ["a", "b"])})
    >>> check_axis(array, None, "stimulus")
    'trial'
    """
    if by is not None and (by not in array.coords or array.coords[by].ndim != 1):
        raise no_such_labels(array, by)
    implied = str(array.coords[by].dims[0]) if by is not None else None
    axis = implied if axis is None else axis
    others = [str(name) for name in array.dims if name != "unit"]
    if axis not in others:
        raise InputError(
            "this is no axis to average over",
            expected=" or ".join(map(repr, others)) + "; units are kept apart",
            got=repr(axis),
        )
    if implied is not None and implied != axis:
        raise InputError(
            f"{by!r} does not label {axis!r}", expected=f"a label along {axis!r}", got=f"it lies along {implied!r}"
        )
    return axis


def label_groups(array: xr.DataArray, axis: str, by: str) -> tuple[list[Any], list[npt.NDArray[np.intp]]]:
    """Return the labels in order of appearance, and where along the axis each stands.

    Raises
    ------
    InputError
        The new axis would have the name of another.

    Examples
    --------
    >>> array = xr.DataArray([0, 0, 0], dims="trial", coords={"stimulus": ("trial", ["b", "a", "b"])})
    >>> groups, members = label_groups(array, "trial", "stimulus")
    >>> groups, [rows.tolist() for rows in members]
    (['b', 'a'], [[0, 2], [1]])
    """
    if by in array.dims and by != axis:
        raise InputError(f"the recording has an axis {by!r} already", got=f"axes {array.dims}")
    names, codes = codes_of(label_list(array.coords[by].values, by))
    return list(names), [np.flatnonzero(codes == group) for group in range(len(names))]


def _relabelled(
    array: xr.DataArray,
    axis: str,
    by: str,
    groups: list[Any],
    values: npt.NDArray[Any],
    members: list[npt.NDArray[np.intp]],
    lead: tuple[str, ...] = (),
) -> xr.DataArray:
    """Return values with the axis ``by`` in place of ``axis``, and those labels that are the same within groups."""
    others = [str(name) for name in array.dims if name != axis]
    kept = {name: label for name, label in array.coords.items() if axis not in label.dims}
    found = xr.DataArray(values, dims=(*lead, by, *others), coords=kept, attrs=array.attrs)
    found = found.assign_coords({by: label_array(groups)})
    for name, label in array.coords.items():
        along = label.dims == (axis,) and name not in (by, axis)
        if along and all((label.values[rows] == label.values[rows[0]]).all() for rows in members):
            found = found.assign_coords({name: (by, label.values[[rows[0] for rows in members]])})
    return found


def _replaced(array: xr.DataArray, axis: str, by: str) -> list[str]:
    return [by if name == axis else str(name) for name in array.dims]


def _described(array: xr.DataArray, method: str) -> xr.DataArray:
    """Note what was done to the values in the words of the CF conventions, ``time: mean``."""
    before = array.attrs.get("cell_methods")
    return array.assign_attrs(cell_methods=f"{before} {method}" if before else method)


def _all_labels(array: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return every label along one axis; positions where an axis has none."""
    labels = {str(name): label for name, label in array.coords.items() if label.ndim == 1}
    positions = {str(axis): xr.DataArray(np.arange(size), dims=(axis,)) for axis, size in array.sizes.items()}
    return {**positions, **labels}


def _names(node: ast.expr) -> list[str]:
    return [name.id for name in ast.walk(node) if isinstance(name, ast.Name)]
