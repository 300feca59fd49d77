"""Responses over time, ready to be compared with a model: averaged in windows, joined by stimulus label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.joining import by_text, codes_of, label_list
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.alignment.samples import SAMPLE_AXES, Labels, label_order


@dataclass(frozen=True)
class TimeCourse:
    """Responses of one subject.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_repetitions, n_times, n_stimuli, n_units)
        Averaged within windows; one repetition where there are none, or not the same number of all stimuli.
    times : numpy.ndarray of shape (n_times,)
        Middles of the windows, in seconds, or numbers of bins where the recording has no times.
    labels : tuple or None
        Of the stimuli.
    in_seconds : bool
    """

    values: Floats
    times: Floats
    labels: Labels | None
    in_seconds: bool

    @property
    def mean(self) -> Floats:
        """Mean over repetitions, ``(n_times, n_stimuli, n_units)``."""
        return self.values.mean(0)


def time_courses(recordings: Any, window: float | None, step: float | None) -> dict[str, TimeCourse]:
    """Return the responses of every subject, with the stimuli in the order of the first.

    Parameters
    ----------
    recordings : Recording, array, or mapping or sequence of these
        See `time_resolved_alignment`.
    window, step : float or None
        Seconds; see there.

    Raises
    ------
    InputError
        No axis of time or stimuli, other axes besides, values that are missing, windows that do not fit, or subjects
        with other stimuli or times.

    Examples
    --------
    >>> counts = Recording(np.zeros((3, 4, 2)), coords={"stimulus": ["a", "b", "c"]}, sampling_rate=10.0)
    >>> course = time_courses(counts, window=0.2, step=0.1)["0"]
    >>> course.mean.shape, course.times.round(3).tolist()
    ((3, 3, 2), [0.05, 0.15, 0.25])
    """
    members = _named(recordings)
    if not members:
        raise InputError("no recordings", expected="at least one")
    found = {name: _windowed(*_laid_out(one, name), window, step) for name, one in members.items()}
    first_name, first = next(iter(found.items()))
    for name, one in found.items():
        if one.times.shape != first.times.shape or not np.allclose(one.times, first.times, atol=1e-6):
            raise InputError(
                f"recordings {first_name} and {name} have other times",
                expected="the same times, relative to the stimulus",
                got=f"{first.times.size} and {one.times.size} windows",
            )
        sizes = (first.values.shape[2], one.values.shape[2])
        order = label_order(first.labels, one.labels, sizes, (f"recording {first_name}", f"recording {name}"))
        if order is not None:
            found[name] = TimeCourse(one.values[:, :, order], one.times, first.labels, one.in_seconds)
    return found


def _named(recordings: Any) -> dict[str, Any]:
    several = isinstance(recordings, Mapping | Sequence)
    return by_text(recordings if several else [recordings], "recordings")


def _laid_out(recording: Any, name: str) -> tuple[xr.DataArray, bool]:
    """Return responses ``(repetition, time, stimulus, unit)``, and whether time is in seconds."""
    recording = recording if isinstance(recording, Recording) else Recording(recording)
    if "trial" in recording.dims and "stimulus" in recording.data.coords:
        counts = np.bincount(codes_of(label_list(recording.data.coords["stimulus"].values, "stimulus"))[1])
        same = counts.min() == counts.max() > 1
        recording = recording.repetitions() if same else recording.average(by="stimulus")
    array = recording.data
    stimulus = next((axis for axis in SAMPLE_AXES if axis in array.dims), None)
    expected = {"time", stimulus, "unit"}
    if stimulus is None or not expected <= set(array.dims) or set(array.dims) - expected - {"repetition"}:
        raise InputError(
            f"recording {name} has other axes than expected",
            expected="stimulus, time and unit, and maybe repetition",
            got=f"axes {tuple(map(str, array.dims))}",
            fix="average over other axes, and give subjects as {name: recording}",
        )
    if np.isnan(array.values.astype(np.float64)).any() and "repetition" in array.dims:
        array = recording.average("repetition").data  # stimuli with fewer repetitions: no split into halves
    array = array if "repetition" in array.dims else array.expand_dims("repetition")
    if not np.isfinite(array.values.astype(np.float64)).all():
        raise InputError(
            f"recording {name} has missing values",
            expected="a response of every unit to every stimulus at every time",
            got=f"{int((~np.isfinite(array.values)).sum())} NaN",
            fix="leave out these units, stimuli or times",
        )
    array = array.transpose("repetition", "time", stimulus, "unit").rename({stimulus: "stimulus"})
    return array, "time" in array.coords


def _windowed(array: xr.DataArray, in_seconds: bool, window: float | None, step: float | None) -> TimeCourse:
    values = array.values.astype(np.float64)
    times = array.coords["time"].values.astype(float) if in_seconds else np.arange(array.sizes["time"], dtype=float)
    labels = tuple(label_list(array.coords["stimulus"].values, "stimulus")) if "stimulus" in array.coords else None
    width, stride = (_in_bins(name, size, times) for name, size in (("window", window), ("step", step)))
    if width > times.size:
        raise InputError("the window is longer than the recording", expected=f"at most {times.size} bins", got=width)
    starts = np.arange(0, times.size - width + 1, stride)
    means = np.stack([values[:, start : start + width].mean(1) for start in starts], axis=1)
    middles = np.array([times[start : start + width].mean() for start in starts])
    return TimeCourse(means, middles, labels, in_seconds)


def _in_bins(name: str, size: float | None, times: Floats) -> int:
    """Return how many bins a time takes; one where it is not given."""
    if size is None:
        return 1
    steps = np.diff(times)
    bin_width = float(np.median(steps)) if steps.size else 1.0
    n_bins = round(size / bin_width) if np.isfinite(size) else 0
    if n_bins < 1 or abs(n_bins * bin_width - size) > 0.01 * bin_width:
        raise InputError(
            f"the {name} is no whole number of bins", expected=f"a multiple of {bin_width:g} s", got=f"{size} s"
        )
    if steps.size and np.ptp(steps) > 0.02 * bin_width:
        raise InputError(
            f"a {name} needs regular times", expected=f"steps of {bin_width:g} s", got=f"up to {steps.max():g} s"
        )
    return n_bins
