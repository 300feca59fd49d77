"""What the readers of recordings share: clocks, epochs of signals, unobserved trials, file hashes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.recordings.binning import EDGE_TOLERANCE, check_window
from neuros_mechint.core.recordings.labels import is_regular

DEFAULT_WINDOW = (-0.1, 0.5)
"""Seconds around each event."""

LARGEST_HASHED_FILE = 256 * 2**20
"""Bytes. Hashing more would take longer than reading the few trials that were asked for."""


@dataclass(frozen=True)
class Clock:
    """When the samples of a continuous signal were taken.

    Parameters
    ----------
    n_samples : int
        How many there are.
    start : float
        Seconds of the first one.
    rate : float or None
        Hz; None where sampling is irregular.
    timestamps : numpy.ndarray, optional
        ``(n_samples,)`` seconds, where the file says when each sample was taken.

    Examples
    --------
    >>> Clock(n_samples=3, start=0.5, rate=10.0).times().tolist()
    [0.5, 0.6, 0.7]
    """

    n_samples: int
    start: float
    rate: float | None
    timestamps: Floats | None = None

    @classmethod
    def from_timestamps(cls, timestamps: Floats) -> Clock:
        """Return the clock of measured times, with their median rate if 90% of steps are within 10% of it."""
        steps = np.diff(timestamps)
        rate = 1 / float(np.median(steps)) if steps.size and np.median(steps) > 0 else None
        if rate is not None and np.mean(np.abs(steps * rate - 1) > 0.1) > 0.1:
            rate = None
        return cls(len(timestamps), float(timestamps[0]), rate, timestamps)

    def times(self) -> Floats:
        """Return the seconds of all samples, ``(n_samples,)``."""
        if self.timestamps is not None:
            return self.timestamps
        assert self.rate is not None
        # Time labels are typed by people: 0.3 must find the sample at 0.30000000000000004.
        return (self.start + np.arange(self.n_samples) / self.rate).round(12)

    def regular_rate(self) -> float | None:
        """Return the rate if every step keeps to it, else None."""
        if self.rate is None or self.timestamps is None:
            return self.rate
        return self.rate if is_regular(self.timestamps, self.rate) else None

    def nearest(self, times: Floats) -> npt.NDArray[np.int64]:
        """Return the sample nearest to each time, ``(n_times,)``; beyond the ends the count goes on."""
        assert self.rate is not None
        if self.timestamps is None:
            return np.rint((times - self.start) * self.rate).astype(np.int64)
        stamps = self.timestamps
        after = np.clip(np.searchsorted(stamps, times), 1, len(stamps) - 1)
        closest = np.where(times - stamps[after - 1] <= stamps[after] - times, after - 1, after)
        beyond = np.rint((times - stamps[closest]) * self.rate).astype(np.int64)
        outside = (times < stamps[0]) | (times > stamps[-1])
        return np.where(outside, closest + beyond, closest)


def cut_epochs(
    read: Callable[[int, int], Floats],
    clock: Clock,
    events: Floats,
    window: Sequence[float],
    allow_missing: bool,
    progress: bool = True,
) -> xr.DataArray:
    """Cut a continuous signal into epochs around events, reading no more than they need.

    Each epoch starts with the sample nearest to its window's start: time labels are right to half a sample.

    Parameters
    ----------
    read : callable
        ``read(first, last)`` returns samples ``(last - first, n_units)``.
    clock : Clock
        When the samples were taken.
    events : numpy.ndarray
        ``(n_trials,)`` seconds that become 0.
    window : (float, float)
        Seconds relative to each event; the stop is excluded.
    allow_missing : bool
        Fill what lies beyond the signal's ends with NaN instead of refusing.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    xarray.DataArray
        ``(trial, time, unit)``.

    Raises
    ------
    InputError
        If sampling is irregular, a window is shorter than a sample, reaches beyond the signal or spans a gap.

    Examples
    --------
    >>> signal = np.arange(10.0)[:, None]
    >>> clock = Clock(n_samples=10, start=0.0, rate=10.0)
    >>> epochs = cut_epochs(lambda a, b: signal[a:b], clock, np.array([0.5]), (-0.1, 0.2), False)
    >>> epochs.values.ravel().tolist()
    [4.0, 5.0, 6.0]
    """
    start, stop = check_window(window)
    if clock.rate is None:
        raise InputError(
            "an irregularly sampled signal cannot be cut into epochs that share one time axis",
            fix="read it whole (no trials, no window) and interpolate it to a regular rate first",
        )
    n_steps = round((stop - start) * clock.rate)
    if not n_steps:
        raise InputError("the window is shorter than a sample", expected=f"at least {1 / clock.rate:g} s")
    first = clock.nearest(events + start)
    _check_epochs(clock, clock.rate, events + start, first, n_steps, allow_missing)
    signal: Floats | None = None
    for trial, begin in enumerate(progress_bar(first.tolist(), description="reading epochs", enabled=progress)):
        low, high = max(begin, 0), max(min(begin + n_steps, clock.n_samples), 0)
        piece = read(min(low, high), high)
        if signal is None:
            signal = np.full((events.size, n_steps, piece.shape[1]), np.nan)
        signal[trial, min(low - begin, n_steps) : high - begin] = piece
    times = (start + np.arange(n_steps) / clock.rate).round(12)
    labels = {"trial": np.arange(events.size), "time": times}
    attributes = {"sampling_rate": clock.rate}
    return xr.DataArray(signal, dims=("trial", "time", "unit"), coords=labels, attrs=attributes)


def _check_epochs(
    clock: Clock,
    rate: float,
    wanted: Floats,
    first: npt.NDArray[np.int64],
    n_steps: int,
    allow_missing: bool,
) -> None:
    beyond = np.flatnonzero((first < 0) | (first + n_steps > clock.n_samples))
    if beyond.size and not allow_missing:
        end = clock.times()[-1]
        raise InputError(
            f"{beyond.size} of {first.size} epochs reach beyond the signal",
            expected=f"windows within the samples, from {clock.start:.9g} to {end:.9g} s",
            got=f"trials at positions {beyond[:8].tolist()}" + (" and more" if beyond.size > 8 else ""),
            fix="leave these trials out, shorten the window, or pass allow_missing=True to fill with NaN",
        )
    if clock.timestamps is None:
        return
    for trial, (begin, time) in enumerate(zip(first.tolist(), wanted, strict=True)):
        stamps = clock.timestamps[max(begin, 0) : max(begin + n_steps, 0)]
        expected = time + (max(begin, 0) - begin + np.arange(stamps.size)) / rate
        if (np.abs(stamps - expected) * rate > 1 + 1e-6).any():
            raise InputError(
                f"the epoch of the trial at position {trial} spans a gap in the signal",
                expected=f"timestamps every {1 / rate:g} s, to within one sample",
                fix="leave this trial out, or choose a window that avoids the gap",
            )


def find_observed(events: Floats, window: Sequence[float], intervals: Sequence[Floats]) -> npt.NDArray[np.bool_]:
    """Return which trials lie in an interval of observation of every unit, or in several that touch.

    Parameters
    ----------
    events : numpy.ndarray
        ``(n_trials,)`` seconds.
    window : (float, float)
        Seconds relative to each event.
    intervals : sequence of numpy.ndarray
        For each unit ``(n_intervals, 2)`` start and stop seconds; nothing is concluded from an empty one.

    Returns
    -------
    numpy.ndarray of bool
        ``(n_trials,)``.

    Examples
    --------
    >>> find_observed(np.array([1.0, 2.5]), (0, 1), [np.array([[0.0, 1.5], [1.5, 3.0]])]).tolist()
    [True, False]
    """
    start, stop = check_window(window)
    observed = np.ones(events.size, dtype=bool)
    for unit_intervals in intervals:
        if len(unit_intervals):
            observed &= _within_one(events + start, events + stop, unit_intervals)
    return observed


def mark_observed(array: xr.DataArray, observed: npt.NDArray[np.bool_]) -> xr.DataArray:
    """Return counts with the coordinate ``fully_observed`` along ``trial``.

    Warns
    -----
    UserWarning
        With the number of trials for which it is False.

    Examples
    --------
    >>> counts = xr.DataArray(np.zeros((2, 1, 1)), dims=("trial", "time", "unit"))
    >>> mark_observed(counts, np.array([True, True])).fully_observed.values.tolist()
    [True, True]
    """
    if not observed.all():
        warnings.warn(
            f"{int((~observed).sum())} of {observed.size} trials reach beyond what was observed of a unit; "
            "their missing spikes count as none. Drop them with recording.select(fully_observed=True).",
            UserWarning,
            stacklevel=4,
        )
    return array.assign_coords(fully_observed=("trial", observed))


def _within_one(starts: Floats, stops: Floats, intervals: Floats) -> npt.NDArray[np.bool_]:
    """Return which spans lie in one of the intervals, after joining those that touch or overlap."""
    intervals = intervals[np.argsort(intervals[:, 0])]
    furthest = np.maximum.accumulate(intervals[:, 1])
    opens = np.r_[True, intervals[1:, 0] > furthest[:-1] + EDGE_TOLERANCE]
    begins, ends = intervals[opens, 0], furthest[np.r_[opens[1:], True]]
    which = np.searchsorted(begins, starts + EDGE_TOLERANCE, side="right") - 1
    return (which >= 0) & (stops <= ends[which] + EDGE_TOLERANCE)


def describe_file(path: Path) -> dict[str, Any]:
    """Return path, size and sha256 of a file; the hash is None for folders and above `LARGEST_HASHED_FILE`.

    Raises
    ------
    StorageError
        If there is nothing at ``path``.

    Examples
    --------
    >>> sorted(describe_file(Path(__file__)))
    ['bytes', 'sha256', 'source']
    """
    if not path.exists():
        raise StorageError(f"there is no file {path}", expected="an existing recording", fix="check the path")
    facts: dict[str, Any] = {"source": str(path), "bytes": path.stat().st_size, "sha256": None}
    if path.is_file() and facts["bytes"] <= LARGEST_HASHED_FILE:
        with path.open("rb") as file:
            facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return facts


def label_units(labels: Mapping[str, npt.NDArray[Any]], n_units: int) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    """Return coordinates along ``unit``: those of the right length, under names that clash with no axis.

    Examples
    --------
    >>> label_units({"time": np.array([1, 2]), "unit": np.array([7, 8])}, 2)
    {'unit_time': ('unit', array([1, 2])), 'unit': ('unit', array([7, 8]))}
    """
    fitting = {name: values for name, values in labels.items() if len(values) == n_units}
    return {f"unit_{name}" if name in ("trial", "time") else name: ("unit", v) for name, v in fitting.items()}
