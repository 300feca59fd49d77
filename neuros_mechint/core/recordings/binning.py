"""Spike times to spike counts, exactly: floating-point noise never moves a spike to another bin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar

EDGE_TOLERANCE = 1e-9
"""Seconds. A spike this close before an edge counts as on it: ``0.3`` lies just below ``3 * 0.1``."""

NARROWEST_BIN = 1e-6
"""Seconds. A narrower bin would not be wide against `EDGE_TOLERANCE`, and no spike sorter resolves it."""


def check_window(window: Sequence[float]) -> tuple[float, float]:
    """Return ``(start, stop)`` as floats; raise unless both are finite and ``start < stop``.

    Parameters
    ----------
    window : sequence of two floats
        Start and stop in seconds, relative to the event.

    Returns
    -------
    tuple of float

    Raises
    ------
    InputError
        If there are not two finite numbers in ascending order.

    Examples
    --------
    >>> check_window((-0.1, 0.5))
    (-0.1, 0.5)
    """
    try:
        start, stop = (float(bound) for bound in window)
    except (TypeError, ValueError):
        start, stop = math.nan, math.nan
    if not (math.isfinite(start) and math.isfinite(stop) and start < stop):
        raise InputError(
            "the window is not an interval",
            expected="(start, stop) in seconds relative to the event, start < stop",
            got=window,
            fix="pass window=(-0.1, 0.5) for 100 ms before to 500 ms after it",
        )
    return start, stop


def count_bins(window: Sequence[float], bin_width: float) -> int:
    """Return how many bins of ``bin_width`` seconds fill ``window``.

    Parameters
    ----------
    window : sequence of two floats
        Start and stop in seconds.
    bin_width : float
        Seconds, at least `NARROWEST_BIN`.

    Returns
    -------
    int

    Raises
    ------
    InputError
        If the window is not a whole number of bins (the nearest widths that fit are named), or the width is
        not a number from a microsecond up.

    Examples
    --------
    >>> count_bins((-0.1, 0.5), 0.01)
    60
    >>> count_bins((0, 1), 0.3)
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: bins of 0.3 s do not fill a window of 1.0 s
      expected: a width that divides the window
      got:      3.33333 bins
      to fix:   bin_width=0.333333333333 (3 bins) or bin_width=0.25 (4 bins)
    """
    start, stop = check_window(window)
    duration = stop - start
    if not (isinstance(bin_width, Real) and math.isfinite(bin_width) and bin_width >= NARROWEST_BIN):
        raise InputError(
            "the bin width is not usable", expected=f"at least {NARROWEST_BIN} seconds", got=repr(bin_width)
        )
    n_bins = round(duration / bin_width)
    if n_bins >= 1 and abs(n_bins * bin_width - duration) <= EDGE_TOLERANCE:
        return n_bins
    below = math.floor(duration / bin_width)
    fitting = [f"bin_width={duration / n:.12g} ({n} bins)" for n in (below, below + 1) if n]
    raise InputError(
        f"bins of {bin_width} s do not fill a window of {duration:.12} s",
        expected="a width that divides the window",
        got=f"{duration / bin_width:.6g} bins",
        fix=" or ".join(fitting),
    )


def bin_centers(window: Sequence[float], bin_width: float) -> npt.NDArray[np.float64]:
    """Return the middle of each bin, in seconds relative to the event, shape ``(n_bins,)``.

    Raises
    ------
    InputError
        As `count_bins`.

    Examples
    --------
    >>> bin_centers((-0.1, 0.1), 0.05).tolist()
    [-0.075, -0.025, 0.025, 0.075]
    """
    n_bins = count_bins(window, bin_width)
    start, stop = check_window(window)
    centers = start + (np.arange(n_bins, dtype=np.float64) + 0.5) * ((stop - start) / n_bins)
    # Labels are typed by people: 0.005 must find the bin whose computed middle is 0.0050000000000000044.
    return centers.round(12)


def check_times(name: str, times: Any) -> npt.NDArray[np.float64]:
    """Return ``times`` as a new float64 array ``(n_times,)`` in seconds; raise unless finite, real and flat.

    Parameters
    ----------
    name : str
        What the times are, for the message.
    times : array_like
        Seconds. May be empty.

    Raises
    ------
    InputError
        If the array is not one-dimensional, not real, carries units of its own, or holds NaN or infinity.

    Examples
    --------
    >>> check_times("events", [0, 1]).tolist()
    [0.0, 1.0]
    """
    if hasattr(times, "dimensionality"):
        raise InputError(
            f"{name} carry units that a plain array would lose",
            expected="plain numbers in seconds",
            got=f"an array in {times.dimensionality}",
            fix="pass times.rescale('s').magnitude, or the whole Neo object to Recording.from_neo",
        )
    try:
        array = np.asarray(times)
    except ValueError:  # NumPy's word for rows of different lengths
        array = np.empty((0, 0), dtype=object)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iuf"):
        raise InputError(
            f"{name} are not a flat array of times",
            expected="shape (n_times,), real numbers in seconds",
            got=f"shape {array.shape}, dtype {array.dtype}",
        )
    array = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise InputError(
            f"{name} are not all finite",
            expected="finite seconds",
            got=f"{array[bad[0]]} at position {bad[0]}, {bad.size} such in all",
            fix="drop them first, e.g. times[np.isfinite(times)], and know why they were there",
        )
    return array


def bin_spikes(
    spike_times: npt.ArrayLike, align_times: npt.ArrayLike, window: Sequence[float], bin_width: float
) -> npt.NDArray[np.int32]:
    """Count the spikes of one unit in bins around each event.

    Bin ``k`` is ``[start + k * bin_width, start + (k + 1) * bin_width)``: a spike on an edge belongs to the
    bin that starts there, so one at the window's start counts and one at its stop does not. On an edge means
    less than `EDGE_TOLERANCE` (1 ns) before it or, where times beyond about 2e6 s are too coarse for that,
    four units in their last place. Bins are found by index, never by comparing with accumulated edges.

    Parameters
    ----------
    spike_times : array_like
        ``(n_spikes,)`` in seconds, in any order; may be empty.
    align_times : array_like
        ``(n_events,)`` in seconds, on the same clock. Windows may overlap: a spike counts once in each.
    window : sequence of two floats
        Start and stop in seconds relative to each event.
    bin_width : float
        Seconds; must divide the window.

    Returns
    -------
    numpy.ndarray of int32
        ``(n_events, n_bins)``.

    Raises
    ------
    InputError
        If times are not finite, there is no event, or the bins do not fill the window.

    Examples
    --------
    >>> bin_spikes([0.1, 0.3, 0.35, 0.5], align_times=[0.0], window=(0.1, 0.5), bin_width=0.1).tolist()
    [[1, 0, 2, 0]]
    """
    n_bins = count_bins(window, bin_width)
    start, stop = check_window(window)
    spikes = np.sort(check_times("spike times", spike_times))
    events = check_times("event times", align_times)
    if not events.size:
        raise InputError("there is no event to align to", expected="at least 1 event time", got="none")
    largest = max(np.abs(events).max() + max(abs(start), abs(stop)), np.abs(spikes).max(initial=0.0))
    tolerance = max(EDGE_TOLERANCE, 4 * float(np.spacing(largest)))
    # A generous slice of the sorted spikes per event; the index computed below decides.
    first = np.searchsorted(spikes, events + start - 2 * tolerance)
    last = np.searchsorted(spikes, events + stop + 2 * tolerance)
    per_event = last - first
    event = np.repeat(np.arange(events.size), per_event)
    rank = np.arange(event.size) - np.repeat(np.cumsum(per_event) - per_event, per_event)
    elapsed = spikes[first[event] + rank] - events[event] - start
    index = np.floor((elapsed + tolerance) / ((stop - start) / n_bins)).astype(np.int64)
    inside = (index >= 0) & (index < n_bins)
    counts = np.bincount(event[inside] * n_bins + index[inside], minlength=events.size * n_bins)
    return counts.reshape(events.size, n_bins).astype(np.int32)


def bin_units(
    spike_times: Iterable[npt.ArrayLike],
    n_units: int,
    align_times: npt.ArrayLike,
    window: Sequence[float],
    bin_width: float,
    progress: bool = True,
) -> npt.NDArray[np.int32]:
    """Count the spikes of several units in bins around each event; see `bin_spikes`.

    Parameters
    ----------
    spike_times : iterable of array_like
        One array of seconds per unit; may be a generator, so that only one unit is in memory at a time.
    n_units : int
        How many there are.
    align_times, window, bin_width
        As for `bin_spikes`.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    numpy.ndarray of int32
        ``(n_events, n_bins, n_units)``.

    Raises
    ------
    InputError
        As `bin_spikes`, naming the unit.

    Examples
    --------
    >>> bin_units([[0.05], []], 2, align_times=[0.0], window=(0, 0.2), bin_width=0.1)[0].tolist()
    [[1, 0], [0, 0]]
    """
    events = check_times("event times", align_times)
    counts = np.zeros((events.size, count_bins(window, bin_width), n_units), dtype=np.int32)
    bar = progress_bar(spike_times, total=n_units, description="binning spikes", enabled=progress)
    for unit, times in enumerate(bar):
        spikes = check_times(f"spike times of unit {unit}", times)
        counts[:, :, unit] = bin_spikes(spikes, events, window, bin_width)
    return counts
