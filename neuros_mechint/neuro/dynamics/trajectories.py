"""What was recorded as trajectories: times by units in each trial, never joined across trials."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.trials import by_trial_and_time

_LARGEST = 1e100


class Trajectories(NamedTuple):
    """Trajectories of one system.

    Parameters
    ----------
    trials : tuple of numpy.ndarray of shape (n_times, n_units)
        float64; trials may differ in length.
    sampling_rate : float or None
        Hz.
    units : tuple or None
        Labels of the units.

    Examples
    --------
    >>> found = trajectories([np.zeros((5, 2)), np.ones((3, 2))])
    >>> found.lengths, found.n_units, found.joined().shape
    ((5, 3), 2, (8, 2))
    """

    trials: tuple[Floats, ...]
    sampling_rate: float | None = None
    units: tuple[Any, ...] | None = None

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.trials[0].shape[1]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of times in each trial."""
        return tuple(len(trial) for trial in self.trials)

    @property
    def dt(self) -> float:
        """Seconds between two times, or 1 where the sampling rate is not known."""
        return 1.0 if self.sampling_rate is None else 1 / self.sampling_rate

    def joined(self) -> Floats:
        """Return all times of all trials ``(sum of n_times, n_units)``, for what does not ask about their order."""
        return np.concatenate(self.trials)

    def pairs(self, lag: int = 1) -> tuple[Floats, Floats]:
        """Return states and those ``lag`` steps later in the same trial, ``(n_pairs, n_units)`` each."""
        before = [trial[: max(len(trial) - lag, 0)] for trial in self.trials]
        return np.concatenate(before), np.concatenate([trial[lag:] for trial in self.trials])


def trajectories(
    x: Any,
    least: int = 2,
    fewest_trials: int = 1,
    name: str = "trajectories",
    why: str | None = None,
) -> Trajectories:
    """Return data as trajectories, or say what is wrong with them.

    Parameters
    ----------
    x : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
        ``(time,)``, ``(time, unit)`` or ``(trial, time, unit)``; a list holds trials ``(time, unit)``, which may
        differ in length. Labelled data need an axis ``time``; units (channels, features) lie along the axes of such
        names, trials along all others.
    least : int
        Fewest times that will do in every trial.
    fewest_trials : int
        Fewest trials that will do.
    name : str
        What to call the data in errors.
    why : str, optional
        What needs so many, for the error.

    Returns
    -------
    Trajectories

    Raises
    ------
    InputError
        No real numbers, values that are missing or infinite, nothing at all, trials of different units, or too few
        times or trials.

    Examples
    --------
    >>> trajectories(np.zeros((4, 10, 3))).lengths
    (10, 10, 10, 10)
    """
    if isinstance(x, Trajectories):
        found = x
    elif is_list_of_trials(x):
        found = _from_list(x, name)
    else:
        found = _from_one(x, name)
    reason = f", {why}" if why else ""
    if len(found.trials) < fewest_trials:
        raise InputError(
            f"too few trials in {name}",
            expected=f"at least {fewest_trials}{reason}",
            got=f"{len(found.trials)}",
            fix="pass a list of trials (time, unit), or an array (trial, time, unit)",
        )
    shortest = min(found.lengths)
    if shortest < least:
        raise InputError(
            f"{name} are too short",
            expected=f"at least {least} times in each trial{reason}",
            got=f"{shortest} in the shortest",
            fix="time is the axis before the last: transpose arrays where it is another",
        )
    return found


def is_list_of_trials(x: Any) -> bool:
    """Return whether a list or tuple holds trials rather than numbers.

    Examples
    --------
    >>> is_list_of_trials([np.zeros((5, 2))]), is_list_of_trials([1.0, 2.0])
    (True, False)
    """
    return isinstance(x, list | tuple) and any(hasattr(trial, "dims") or _n_axes(trial) > 1 for trial in x)


def _n_axes(trial: Any) -> int:
    try:
        return np.ndim(trial)
    except ValueError:  # rows of different lengths, of which the check of trials tells more
        return 2


def as_given(trials: list[Any], x: Any, tensors: bool = True) -> Any:
    """Return one array per trial in the form in which the trials came: a list, one trial, or one array of them.

    With ``tensors``, arrays become tensors where trials came as one.

    Examples
    --------
    >>> as_given([np.zeros((5, 2))], np.zeros((5, 3))).shape
    (5, 2)
    """
    if isinstance(x, Trajectories) or is_list_of_trials(x):
        return trials
    one_trial = len(trials) == 1 and np.ndim(x.data if isinstance(x, Recording) else x) < 3
    array = trials[0] if one_trial else np.stack(trials)
    return torch.from_numpy(array) if tensors and isinstance(x, torch.Tensor) else array


def _from_list(trials: Any, name: str) -> Trajectories:
    found = [_from_one(trial, f"trial {index} of {name}") for index, trial in enumerate(trials)]
    widths = sorted({one.n_units for one in found})
    if len(widths) > 1:
        raise InputError(f"trials of {name} differ in their units", expected="equal numbers", got=f"{widths} units")
    rates = {one.sampling_rate for one in found}
    if len(rates) > 1:
        raise InputError(f"trials of {name} differ in their sampling rate", got=f"{sorted(map(str, rates))} Hz")
    labels = {one.units for one in found}
    if len(labels) > 1:
        raise InputError(
            f"trials of {name} label their units differently",
            expected="the same labels in the same order",
            got=" and ".join(str(list(units or ())[:4]) for units in list(labels)[:2]),
            fix="bring them in one order: trial.sel(unit=labels)",
        )
    return Trajectories(tuple(trial for one in found for trial in one.trials), rates.pop(), found[0].units)


def _from_one(x: Any, name: str) -> Trajectories:
    labelled = x.data if isinstance(x, Recording) else x
    if not isinstance(labelled, xr.DataArray):
        return Trajectories(_checked(_by_position(labelled, name), name))
    values, axes = by_trial_and_time(labelled, name)
    units = tuple(labelled[axes[0]].values.tolist()) if len(axes) == 1 and axes[0] in labelled.coords else None
    rate = labelled.attrs.get("sampling_rate")
    rate = None if rate is None else number("sampling_rate", rate, 0, float("inf"))
    return Trajectories(_checked(values, name), rate, units)


def _by_position(array: Any, name: str) -> npt.NDArray[Any]:
    values = as_array(array, name)
    if values.ndim not in (1, 2, 3):
        raise InputError(
            f"it is not clear which axis of {name} is which",
            expected="(time,), (time, unit), (trial, time, unit) or a list of trials (time, unit)",
            got=f"shape {values.shape}",
            fix="name the axes: Recording(values, dims=('trial', 'time', 'unit'))",
        )
    if values.ndim == 1:
        values = values[:, None]
    return values[None] if values.ndim == 2 else values


def _checked(values: npt.NDArray[Any], name: str) -> tuple[Floats, ...]:
    if values.dtype.kind not in "biuf":
        raise InputError(f"{name} are no real numbers", got=f"dtype {values.dtype}")
    if not values.size:
        raise InputError(f"{name} are empty", expected="at least one time of one unit", got=f"shape {values.shape[1:]}")
    missing = int((~np.isfinite(values)).sum())
    if missing:
        raise InputError(
            f"{name} have NaN or infinite values",
            expected="finite numbers",
            got=f"{missing} of {values.size}",
            fix="trials that end early: pass a list of trials (time, unit), each as long as it is",
        )
    largest = float(np.abs(values.astype(np.float64)).max())
    if largest and not 1 / _LARGEST < largest < _LARGEST:
        raise InputError(
            f"{name} are too {'large' if largest > 1 else 'small'} for their squares to be numbers",
            expected=f"a largest absolute value between {1 / _LARGEST:g} and {_LARGEST:g}",
            got=f"{largest:.3g}",
            fix="take other units",
        )
    return tuple(np.array(trial, dtype=np.float64) for trial in values)
