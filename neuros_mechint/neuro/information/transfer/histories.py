"""Time series as what transfer entropy is estimated from: the next value of one, and what has been of others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.labels import counts_observations
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.dynamics.trajectories import Trajectories, trajectories
from neuros_mechint.neuro.information.variables import Whole


def series(x: Any, name: str) -> Trajectories:
    """Return time series as trials of times by units.

    Parameters
    ----------
    x : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of trials
        ``(time,)``, ``(time, 1)``, ``(trial, time)`` or ``(trial, time, unit)``; a list holds trials ``(time,)`` or
        ``(time, unit)``. Labelled data need an axis ``time``.
    name : str
        What to call it in errors.

    Examples
    --------
    >>> series(np.zeros((3, 100)), "source").lengths
    (100, 100, 100)
    """
    if isinstance(x, Trajectories | Recording) or hasattr(x, "dims"):
        return trajectories(x, name=name)
    if isinstance(x, list | tuple) and any(_n_axes(trial) for trial in x):
        return trajectories([trial if hasattr(trial, "dims") else _in_columns(trial, name) for trial in x], name=name)
    array = as_array(x, name)
    if array.ndim == 2 and array.shape[1] != 1:  # trials of one time would tell nothing: that is one trial (time, unit)
        array = array[:, :, None]
    return trajectories(array, name=name)


def _n_axes(trial: Any) -> int:
    return 1 if hasattr(trial, "dims") else np.ndim(trial)


def _in_columns(trial: Any, name: str) -> Any:
    array = as_array(trial, name)
    return array[:, None] if array.ndim == 1 else array


def same_times(named: Sequence[tuple[str, Trajectories]]) -> None:
    """Raise `InputError` unless several series have the same trials of the same lengths.

    Examples
    --------
    >>> same_times([("source", series(np.zeros(9), "source")), ("target", series(np.ones(9), "target"))])
    """
    (first, one), *others = named
    for name, other in others:
        if other.lengths != one.lengths:
            raise InputError(
                f"{first} and {name} were not recorded at the same times",
                expected=f"the same trials: {_described(one)}",
                got=_described(other),
            )
        rates = {found.sampling_rate for found in (one, other) if found.sampling_rate is not None}
        if len(rates) > 1:
            raise InputError(f"{first} and {name} differ in their sampling rate", got=f"{sorted(rates)} Hz")


def same_labels(named: Sequence[tuple[str, Any]]) -> None:
    """Raise `InputError` where labelled series name their times or trials differently: rows are paired by position.

    Examples
    --------
    >>> import xarray as xr
    >>> first, later = (xr.DataArray(np.zeros(3), coords={"time": start + np.arange(3)}) for start in (0, 1))
    >>> same_labels([("source", first), ("target", first)])
    >>> same_labels([("source", first), ("target", later)])
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: source and target label their time differently
      to fix:   bring them in one order: target.sel(time=source['time'])
    """
    arrays = [(name, x.data if isinstance(x, Recording) else x) for name, x in named]
    labelled = [(name, array) for name, array in arrays if isinstance(array, xr.DataArray)]
    for (first, one), (name, other) in pairwise(labelled):
        for axis in set(one.dims) & set(other.dims) & set(one.coords) & set(other.coords):
            if counts_observations(str(axis)) and not np.array_equal(one[axis].values, other[axis].values):
                raise InputError(
                    f"{first} and {name} label their {axis} differently",
                    fix=f"bring them in one order: {name}.sel({axis}={first}['{axis}'])",
                )


def _described(found: Trajectories) -> str:
    lengths = sorted(set(found.lengths))
    times = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    return f"{len(found.lengths)} trials of {times} times"


def past(trials: Sequence[Any], delay: int, length: int, first: int) -> Any:
    """Return what has been, for each time from the one numbered ``first`` on; trials are never joined.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, n_units)
    delay : int
        Samples between a time and the last of its past; 0 with a length of 1 is the time itself.
    length : int
        Samples of the past, one after the other.
    first : int
        First time of each trial that has the whole past of all series.

    Returns
    -------
    numpy.ndarray of shape (n_rows, length * n_units)
        The latest sample first, trials one after the other.

    Examples
    --------
    >>> past([np.arange(5)[:, None]], delay=1, length=2, first=2).tolist()
    [[1, 0], [2, 1], [3, 2]]
    """
    rows = [
        np.hstack([trial[first - delay - step : len(trial) - delay - step] for step in range(length)])
        for trial in trials
    ]
    return np.concatenate(rows)


def circular_shifts(lengths: Sequence[int], least: int, n_draws: int, random: np.random.Generator) -> Whole:
    """Return rows of trials shifted around a circle, each trial by an amount of its own.

    Parameters
    ----------
    lengths : sequence of int
        Rows of each trial.
    least : int
        Nothing comes to lie nearer than so many rows to where it was; in trials too short for that, than their half.
    n_draws : int
    random : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (n_draws, n_rows)

    Examples
    --------
    >>> circular_shifts([5], 2, 1, np.random.default_rng(1))[0].tolist()
    [2, 3, 4, 0, 1]
    """
    draws = []
    start = 0
    for length in lengths:
        apart = min(least, length // 2)
        shift = random.integers(apart, length - apart, size=(n_draws, 1), endpoint=True)
        draws.append(start + (np.arange(length) + shift) % length)
        start += length
    return np.concatenate(draws, axis=1)
