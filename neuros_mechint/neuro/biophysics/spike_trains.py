"""Spike trains on a grid of time steps: rates, inter-spike intervals, and how irregular they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.numbers import as_array

Trains = npt.NDArray[np.bool_]


def firing_rates(spikes: Any, dt: float = 1.0) -> Floats:
    """Return the number of spikes per time of each train.

    Parameters
    ----------
    spikes : array of shape (..., time, unit)
        0 or 1 in every time step, as ``model.capture(inputs, "cells.spikes")["cells.spikes"]`` has them.
    dt : float
        Length of a time step: in s for rates in Hz.

    Returns
    -------
    numpy.ndarray of shape (..., unit)

    Raises
    ------
    InputError
        Something else than 0 and 1, or no axis of time.
    OptionError
        A time step that is not positive.

    Examples
    --------
    >>> firing_rates([[1, 0], [0, 0], [1, 0], [0, 1]], dt=0.5).tolist()
    [1.0, 0.5]
    """
    return spike_array(spikes).mean(-2) / _checked_step(dt)


def inter_spike_intervals(spikes: Any, dt: float = 1.0) -> list[Floats]:
    """Return the intervals between successive spikes of each train.

    Parameters
    ----------
    spikes : array of shape (..., time, unit)
        0 or 1 in every time step.
    dt : float
        Length of a time step.

    Returns
    -------
    list of numpy.ndarray
        One array for each train, in the order of ``spikes`` without its time; empty for fewer than two spikes.

    Raises
    ------
    InputError, OptionError
        As for `firing_rates`.

    Examples
    --------
    >>> [one.tolist() for one in inter_spike_intervals([[1, 0], [0, 0], [1, 0], [1, 1]], dt=0.5)]
    [[1.0, 0.5], []]
    """
    dt = _checked_step(dt)
    trains = np.moveaxis(spike_array(spikes), -2, -1)
    return [np.diff(np.flatnonzero(train)) * dt for train in trains.reshape(-1, trains.shape[-1])]


def interval_cv(spikes: Any, fewest: int = 3) -> Floats:
    r"""Return the coefficient of variation of the intervals of each train: their standard deviation by their mean.

    0 for a clock and 1 for a Poisson process. Trains that are observed for a time :math:`T` miss long intervals: of few
    spikes it is too low (by about a tenth for a Poisson train of twenty).

    Parameters
    ----------
    spikes : array of shape (..., time, unit)
        0 or 1 in every time step.
    fewest : int
        Trains with fewer intervals have none: NaN.

    Returns
    -------
    numpy.ndarray of shape (..., unit)

    Raises
    ------
    InputError
        As for `firing_rates`.
    OptionError
        ``fewest`` below 2.

    Examples
    --------
    >>> import numpy as np
    >>> poisson = np.random.default_rng(0).random((100_000, 3)) < 0.02
    >>> interval_cv(poisson).round(1).tolist()
    [1.0, 1.0, 1.0]
    """
    fewest = whole("fewest", fewest, least=2)
    array = spike_array(spikes)
    intervals = inter_spike_intervals(array)
    found = [one.std() / one.mean() if one.size >= fewest else math.nan for one in intervals]
    return np.array(found).reshape(*array.shape[:-2], array.shape[-1])


def spike_array(spikes: Any) -> Trains:
    """Return spikes as booleans ``(..., time, unit)``.

    Raises
    ------
    InputError
        Something else than 0 and 1, or fewer than two axes.

    Examples
    --------
    >>> spike_array([[0, 1.0]]).tolist()
    [[False, True]]
    """
    array = as_array(spikes, "spikes")
    if array.ndim < 2 or not array.size:
        raise InputError("these are no spike trains", expected="shape (..., time, unit)", got=f"shape {array.shape}")
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "iuf" or not np.isin(array, (0, 1)).all():
        raise InputError(
            "these are no spikes",
            expected="0 or 1 in every time step",
            got=f"dtype {array.dtype}"
            + (f", from {array.min()} to {array.max()}" if array.dtype.kind in "iuf" else ""),
            fix="name a site of spikes; bins that hold several spikes are counts",
        )
    return array != 0


def _checked_step(dt: float) -> float:
    return number("dt", dt, 0, math.inf, closed="neither")
