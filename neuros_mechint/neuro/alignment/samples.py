"""What alignment computes with: one row per stimulus, joined by label, never by position in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.joining import label_list, label_places
from neuros_mechint.core.labels import HALF_PRECISION, counts_observations
from neuros_mechint.core.numbers import plain_numbers
from neuros_mechint.core.recordings.recording import Recording

Labels = tuple[Any, ...]

SAMPLE_AXES = ("stimulus", "condition", "sample", "trial")
"""Axes whose entries are the rows to compare, the first that is there."""


@dataclass(frozen=True)
class Samples:
    """Numbers with one row per sample, and the labels of the rows.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_samples, n_features)
        In float64.
    labels : tuple or None
        One per row where they are known.
    """

    values: Floats
    labels: Labels | None


def samples(x: Any, name: str = "X") -> Samples:
    """Return data as a matrix with one row per sample.

    Parameters
    ----------
    x : array_like, torch.Tensor, xarray.DataArray or Recording
        The first axis counts samples, of labelled data that of `SAMPLE_AXES`; all others are flattened to features.
        One axis alone becomes one column.
    name : str
        What to call the data in errors.

    Returns
    -------
    Samples

    Raises
    ------
    InputError
        Data that are no real numbers, not finite or empty, or labelled data with two axes of observations.

    Examples
    --------
    >>> images = xr.DataArray(np.zeros((2, 3)), dims=("unit", "stimulus"), coords={"stimulus": ["a", "b", "c"]})
    >>> samples(images).values.shape, samples(images).labels
    ((3, 2), ('a', 'b', 'c'))
    """
    array = x.data if isinstance(x, Recording) else x
    labels = None
    if isinstance(array, xr.DataArray):
        array = _rows_first(array, name)
        axis = array.dims[0]
        labels = _row_labels(array, str(axis))
        array = array.values
    return Samples(_matrix(array, name), labels)


def paired(x: Any, y: Any, names: tuple[str, str] = ("X", "Y")) -> tuple[Floats, Floats, Labels | None]:
    """Return two sets of data with one row per shared sample, in the order of the first.

    Parameters
    ----------
    x, y : array_like, torch.Tensor, xarray.DataArray or Recording
        See `samples`. Where both have labels the rows of ``y`` are put in the order of ``x``; where neither has any,
        rows of the same position belong together.
    names : (str, str)
        What to call them in errors.

    Returns
    -------
    x, y : numpy.ndarray of shape (n_samples, n_features)
    labels : tuple or None

    Raises
    ------
    InputError
        Labels on one side only, repeated, or not the same on both; or different numbers of rows.

    Examples
    --------
    >>> first = xr.DataArray([1.0, 2.0], dims="stimulus", coords={"stimulus": ["a", "b"]})
    >>> x, y, labels = paired(first, first[::-1])
    >>> x.ravel().tolist(), y.ravel().tolist(), labels
    ([1.0, 2.0], [1.0, 2.0], ('a', 'b'))
    """
    one, other = samples(x, names[0]), samples(y, names[1])
    order = label_order(one.labels, other.labels, (len(one.values), len(other.values)), names)
    return one.values, other.values if order is None else other.values[order], one.labels


def joined(named: Sequence[tuple[str, Any]]) -> list[Floats]:
    """Return several sets of data with one row per shared sample, in the order of the first.

    Parameters
    ----------
    named : sequence of (str, data)
        See `paired`; the text is what each is called in errors.

    Examples
    --------
    >>> [values.shape for values in joined([("one", np.ones((4, 2))), ("other", np.ones((4, 3)))])]
    [(4, 2), (4, 3)]
    """
    (first, data), *others = named
    one = samples(data, first)
    found = [one.values]
    for name, more in others:
        other = samples(more, name)
        order = label_order(one.labels, other.labels, (len(one.values), len(other.values)), (first, name))
        found.append(other.values if order is None else other.values[order])
    return found


def label_order(
    first: Labels | None, second: Labels | None, sizes: tuple[int, int], names: tuple[str, str] = ("X", "Y")
) -> list[int] | None:
    """Return where each label of ``first`` stands in ``second``; None where there are no labels to go by.

    Raises
    ------
    InputError
        As for `paired`.

    Examples
    --------
    >>> label_order(("a", "b", "c"), ("b", "c", "a"), (3, 3))
    [2, 0, 1]
    """
    if first is None and second is None:
        if sizes[0] != sizes[1]:
            raise InputError(
                f"{names[0]} and {names[1]} have different numbers of samples",
                expected=f"{sizes[0]} rows in both",
                got=f"{sizes[0]} and {sizes[1]}",
                fix="give the same stimuli in the same order, or labelled arrays, which are joined by label",
            )
        return None
    if first is None or second is None:
        bare, labelled = names if first is None else names[::-1]
        raise InputError(
            f"{labelled} has labels and {bare} has none",
            expected="labels on both, to join by, or on neither",
            got=f"{bare} without labels",
            fix=f"label {bare} (xarray.DataArray with a 'stimulus' coordinate), or go by position with "
            f"{labelled}.values (of a Recording: .matrix())",
        )
    return label_places(first, second, names, "samples")


def same_kind(values: npt.ArrayLike, like: Any) -> Any:
    """Return numbers as a tensor where ``like`` is one, otherwise as an array; in the floating dtype of ``like``.

    Examples
    --------
    >>> same_kind(np.ones(2), torch.zeros(3)).dtype
    torch.float32
    >>> same_kind(np.ones(2), [1, 2]).dtype
    dtype('float64')
    """
    if isinstance(like, torch.Tensor):
        dtype = torch.float32 if like.dtype in HALF_PRECISION else like.dtype
        dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
        return torch.as_tensor(np.array(values), dtype=dtype, device=like.device)
    dtype = getattr(like, "dtype", None) or getattr(getattr(like, "data", None), "dtype", None)
    single = isinstance(dtype, np.dtype) and dtype == np.float32
    return np.asarray(values, dtype=np.float32 if single else np.float64)


def _rows_first(array: xr.DataArray, name: str) -> xr.DataArray:
    """Return labelled data with the axis of samples first, or say which axis has to go."""
    observed = [str(axis) for axis in array.dims if counts_observations(str(axis))]
    axis = next((axis for axis in SAMPLE_AXES if axis in observed), observed[0] if observed else None)
    others = [other for other in observed if other != axis]
    if axis is None or others:
        raise InputError(
            f"{name} has no single axis of samples",
            expected=f"one of {', '.join(SAMPLE_AXES)}; other axes hold features (unit, channel, ...)",
            got=f"axes {tuple(map(str, array.dims))}",
            fix=_one_entry(others[0]) if others else None,
        )
    return array.transpose(axis, ...)


def _row_labels(array: xr.DataArray, axis: str) -> Labels | None:
    """Return the labels of an axis: its own, or of trials the stimuli that they show."""
    along = [name for name in SAMPLE_AXES if name in array.coords and array[name].dims == (axis,)]
    name = along[0] if along else None
    return None if name is None else tuple(label_list(array[name].values, str(name)))


def _one_entry(axis: str) -> str:
    how = " ('site[position=-1]')" if axis == "position" else ""
    flat = "; of a Recording, .matrix() has all trials and times below each other" if axis == "time" else ""
    return f"choose an entry of {axis!r}{how}, or average over it{flat}"


def _matrix(array: Any, name: str) -> Floats:
    values = plain_numbers(array, name)
    if not values.ndim or not values.size:
        raise InputError(f"{name} is empty", expected="(n_samples, n_features)", got=f"shape {values.shape}")
    values = values.reshape(len(values), -1).astype(np.float64, copy=False).view()
    values.flags.writeable = False  # they may be the caller's
    bad = ~np.isfinite(values)
    if bad.any():
        raise InputError(
            f"{name} is not finite everywhere",
            expected="finite numbers",
            got=f"{int(bad.sum())} NaN or infinite, the first in row {int(bad.any(1).argmax())}",
            fix="leave these samples or features out, or fill them in a way you can defend",
        )
    return values
