"""Activity of a population as trials of units over time, from arrays and labelled data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.trials import by_trial_and_time


class Population(NamedTuple):
    """Activity of units in trials.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_trials, n_units, n_samples)
        Of the type they came in: counts of many units take less memory as they are.
    sampling_rate : float or None
        Hz.
    counts : bool
        Whether all values are whole numbers, and none is negative.
    """

    values: npt.NDArray[Any]
    sampling_rate: float | None
    counts: bool

    def summed(self) -> Floats:
        """Return the sum over units ``(n_trials, n_samples)``."""
        return self.values.sum(axis=1, dtype=np.float64)


def population(activity: Any) -> Population:
    """Return activity as trials of units over time, or say what is wrong with it.

    Parameters
    ----------
    activity : array_like, torch.Tensor, xarray.DataArray or Recording
        ``(time,)`` or ``(unit, time)``; labelled data need an axis ``time``, have units (channels, features) along
        the axes of such names, and trials along all others.

    Returns
    -------
    Population

    Raises
    ------
    InputError
        No real numbers, values that are missing or infinite, nothing at all, one value throughout, negative counts,
        or axes without names that are none of these.

    Examples
    --------
    >>> population([[0, 1, 2, 0], [0, 0, 1, 0]]).values.shape
    (1, 2, 4)
    """
    labelled = activity.data if isinstance(activity, Recording) else activity
    if isinstance(labelled, xr.DataArray):
        values = by_trial_and_time(labelled, "the activity")[0].swapaxes(1, 2)
        rate = labelled.attrs.get("sampling_rate")
    else:
        values, rate = _by_position(labelled), None
    _check(values)
    integers = values.dtype.kind != "f"
    if integers and values.min() < 0:
        raise InputError(
            "negative counts",
            expected="integers of 0 and more",
            got=f"{int((values < 0).sum())} negative values, the lowest {values.min()}",
            fix="pass floating-point numbers where this is a signal and no counts",
        )
    counts = integers or bool((values >= 0).all() and (values == np.round(values)).all())
    return Population(values, None if rate is None else float(rate), counts)


def _by_position(array: Any) -> npt.NDArray[Any]:
    values = as_array(array, "the activity")
    if values.ndim not in (1, 2):
        raise InputError(
            "it is not clear which axis of the activity is which",
            expected="(time,) or (unit, time)",
            got=f"shape {values.shape}",
            fix="name the axes: Recording(values, dims=('trial', 'time', 'unit'))",
        )
    return values.reshape(1, -1, values.shape[-1]) if values.size else values


def _check(values: npt.NDArray[Any]) -> None:
    if values.dtype.kind not in "biuf":
        raise InputError("the activity is no real numbers", got=f"dtype {values.dtype}")
    if not values.size:
        raise InputError("there is no activity", expected="at least one sample", got=f"shape {values.shape}")
    missing = int((~np.isfinite(values)).sum())
    if missing:
        raise InputError("the activity has NaN or infinite values", expected="finite numbers", got=f"{missing} of them")
    if values.min() == values.max():
        raise InputError("the activity does not vary", got=f"{values.flat[0]:g} throughout")
