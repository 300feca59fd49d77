"""Repeated observations: which condition each shows, and which fold it belongs to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, near_names
from neuros_mechint.core.joining import codes_of, label_list
from neuros_mechint.core.labels import as_numpy, counts_observations
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.alignment.samples import SAMPLE_AXES, Labels, samples


@dataclass(frozen=True)
class Observations:
    """Patterns ``(n_observations, n_channels)``, with the condition and the fold of each where they are known."""

    values: Floats
    conditions: Labels | None
    folds: Labels | None = None

    def coded(self) -> tuple[Labels, npt.NDArray[np.intp]]:
        """Return the conditions in order of appearance, and the place among them of each observation."""
        assert self.conditions is not None
        return codes_of(self.conditions)


def observations(x: Any, conditions: Any = None, folds: Any = None, repeated: bool = False) -> Observations:
    """Return data as observations of conditions; see `compute_rdm` for the arguments.

    Parameters
    ----------
    x : array_like, torch.Tensor, xarray.DataArray or Recording
    conditions, folds : str, sequence or None
    repeated : bool
        Whether the labels of the axis of observations may be repeated.

    Raises
    ------
    InputError
        Labels of the wrong number, coordinates that are not there, or labels that are repeated and must not be.

    Examples
    --------
    >>> observations([[1.0], [2.0]], conditions=["a", "a"]).conditions
    ('a', 'a')
    """
    array = x.data if isinstance(x, Recording) else x
    if isinstance(array, xr.DataArray):
        array = _one_axis(array, folds)
    found = samples(array, "x")
    of_conditions = _labels(array, conditions, "conditions", len(found.values))
    if of_conditions is None:
        of_conditions = found.labels
        _check_known(of_conditions, repeated)
    return Observations(found.values, of_conditions, _labels(array, folds, "folds", len(found.values)))


def _one_axis(array: xr.DataArray, folds: Any) -> xr.DataArray:
    """Return labelled data whose axis of folds, if there is one, is part of the axis of samples."""
    if not (isinstance(folds, str) and folds in array.dims):
        return array
    others = [str(axis) for axis in array.dims if counts_observations(str(axis)) and axis != folds]
    axis = next((axis for axis in SAMPLE_AXES if axis in others), None)
    if axis is None or len(others) > 1:
        return array  # `samples` says what is wrong
    array = array.transpose(folds, axis, ...)
    n_folds, n_samples = array.shape[:2]
    along = {
        axis: np.tile(array[axis].values, n_folds) if axis in array.coords else np.tile(range(n_samples), n_folds),
        folds: np.repeat(array[folds].values if folds in array.coords else range(n_folds), n_samples),
    }
    values = array.values.reshape(n_folds * n_samples, *array.shape[2:])
    coords = {axis: along[axis], folds: (axis, along[folds])}
    repeated = {  # what else is known of the samples
        str(name): (axis, np.tile(coordinate.values, n_folds))
        for name, coordinate in array.coords.items()
        if coordinate.dims == (axis,) and name != axis
    }
    return xr.DataArray(values, dims=(axis, *array.dims[2:]), coords={**coords, **repeated})


def _labels(array: Any, given: Any, what: str, n_observations: int) -> Labels | None:
    if given is None:
        return None
    if isinstance(given, str):
        return _coordinate(array, given, what)
    values = as_numpy(given) if isinstance(given, torch.Tensor) else given
    found = tuple(label_list(values, what))
    if len(found) != n_observations:
        raise InputError(
            f"{what} do not fit the observations",
            expected=f"{n_observations} labels, one for each observation",
            got=f"{len(found)}",
        )
    missing = [place for place, label in enumerate(found) if label is None or label != label]
    if missing:
        raise InputError(f"{what} are missing", expected="a label for each", got=f"none for {missing[:5]}")
    return found


def _coordinate(array: Any, name: str, what: str) -> Labels:
    along = {}
    if isinstance(array, xr.DataArray):
        axes = [axis for axis in array.dims if counts_observations(str(axis))]
        along = {str(key): value for key, value in array.coords.items() if value.dims in {(axis,) for axis in axes}}
    if name not in along:
        near = near_names(name, along)
        raise InputError(
            f"{what}: observations have no coordinate {name!r}",
            expected="one of " + ", ".join(along) if along else "labelled data (xarray.DataArray, Recording)",
            fix=f"did you mean {near[0]!r}?" if near else f"pass {what} as a list of labels",
        )
    return tuple(label_list(along[name].values, what))


def _check_known(conditions: Labels | None, repeated: bool) -> None:
    if repeated and conditions is None:
        raise InputError(
            "nobody said which condition each observation shows",
            expected="conditions=(n_observations,) labels, or labelled data",
        )
    if repeated or conditions is None:
        return
    often = [label for label, count in Counter(conditions).items() if count > 1]
    if often:
        raise InputError(
            "conditions are repeated, so that their dissimilarities cannot be told apart",
            expected="one pattern for each condition",
            got=f"{', '.join(map(repr, often[:5]))} more than once",
            fix="pass conditions= (the name of the coordinate, or the labels) to average over repetitions",
        )
