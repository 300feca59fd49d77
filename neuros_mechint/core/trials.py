"""Labelled activity as trials of units over time, whatever its axes are called."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.labels import counts_observations


def by_trial_and_time(array: xr.DataArray, name: str) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Return labelled activity as an array of trials, times and units.

    Parameters
    ----------
    array : xarray.DataArray
        Needs an axis ``time``. Units (channels, features) lie along the axes of such names, trials along all others.
    name : str
        What to call it in errors.

    Returns
    -------
    values : numpy.ndarray of shape (n_trials, n_times, n_units)
    axes : tuple of str
        The axes of units.

    Raises
    ------
    InputError
        If there is no axis ``time``.

    Examples
    --------
    >>> array = xr.DataArray(np.zeros((3, 5, 2)), dims=("unit", "time", "trial"))
    >>> values, axes = by_trial_and_time(array, "the activity")
    >>> values.shape, axes
    ((2, 5, 3), ('unit',))
    """
    dims = [str(axis) for axis in array.dims]
    if "time" not in dims:
        raise InputError(f"{name} has no axis of time", expected="an axis named 'time'", got=f"axes {dims}")
    others = [axis for axis in dims if axis != "time"]
    trials = [axis for axis in others if counts_observations(axis)]
    units = [axis for axis in others if axis not in trials]
    ordered = array.transpose(*trials, "time", *units)
    n_trials, n_units = (int(np.prod([array.sizes[axis] for axis in axes])) for axes in (trials, units))
    return ordered.values.reshape(n_trials, array.sizes["time"], n_units), tuple(units)
