"""Reading spike trains and analog signals from Neo (extra ``neuro-io``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, StorageError, near_names
from neuros_mechint.core.optional import soft_import
from neuros_mechint.core.recordings.binning import EDGE_TOLERANCE, bin_centers, bin_units, check_times, count_bins
from neuros_mechint.core.recordings.io import (
    DEFAULT_WINDOW,
    Clock,
    cut_epochs,
    describe_file,
    find_observed,
    label_units,
    mark_observed,
)


def read_segments(source: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the segments of a Neo block, segment or file, and where they come from.

    Parameters
    ----------
    source : neo.Block, neo.Segment, str or Path
        What to read.

    Returns
    -------
    segments : list of neo.Segment
    facts : dict
        ``source``, and for a file its size and sha256.

    Raises
    ------
    StorageError, InputError, MissingDependencyError
        As `Recording.from_neo`.
    """
    neo = soft_import("neo", purpose="reading Neo recordings", extra="neuro-io")
    facts: dict[str, Any] = {}
    if isinstance(source, (str, Path)):
        facts = describe_file(Path(source))
        source = _read_block(neo, Path(source))
    if isinstance(source, neo.Segment):
        segments = [source]
    elif isinstance(source, neo.Block):
        segments = list(source.segments)
    else:
        raise InputError(
            "this is no Neo recording",
            expected="a neo.Block, a neo.Segment or a file",
            got=type(source).__name__,
        )
    if not segments:
        raise InputError("the block has no segments", expected="at least 1 neo.Segment")
    return segments, {"source": f"neo.{type(source).__name__} {source.name or ''}".strip()} | facts


def _read_block(neo: Any, path: Path) -> Any:
    try:
        readers = neo.io.list_candidate_ios(path)
    except ValueError:
        readers = []
    safe = [reader for reader in readers if reader.__name__ != "PickleIO"]
    if not safe:
        raise StorageError(
            f"Neo has no safe reader for {path}",
            expected="a format Neo knows, other than pickle, which can run code",
            fix="open it with the reader of your choice and pass the neo.Block",
        )
    failures = []
    for reader in safe:
        try:
            blocks = reader(str(path)).read()
        # Readers guess by extension and fail in ways of their own; the next one may know the format.
        except Exception as error:
            failures.append(f"{reader.__name__}: {error}")
            continue
        if len(blocks) == 1:
            return blocks[0]
        raise InputError(
            f"{path} holds {len(blocks)} blocks",
            expected="one",
            fix="read it with neo.io and pass one neo.Block",
        )
    raise StorageError(f"none of Neo's readers can read {path}", got="; ".join(failures))


def read_spike_trains(
    segments: Sequence[Any],
    align: str | npt.ArrayLike | None,
    window: Sequence[float] | None,
    bin_width: float,
    progress: bool,
) -> xr.DataArray:
    """Return spike counts ``(trial, time, unit)``; see `Recording.from_neo`.

    Raises
    ------
    InputError
        As `Recording.from_neo`.
    """
    trains = [list(segment.spiketrains) for segment in segments]
    _check_same_units(trains)
    spans = [[_span(train) for train in segment] for segment in trains]
    starts = [float(min(span[0, 0] for span in segment)) for segment in spans]
    events, labels = _events(segments, align, starts)
    if window is None and align is None:
        stops = [float(min(span[0, 1] for span in segment)) for segment in spans]
        window = _whole_bins(float(np.min(np.subtract(stops, starts))), bin_width)
    window = DEFAULT_WINDOW if window is None else window
    counts, observed = [], []
    for segment, span, times in zip(trains, spans, events, strict=True):
        if times.size:
            spikes = (train.times.rescale("s").magnitude for train in segment)
            counts.append(bin_units(spikes, len(segment), times, window, bin_width, progress))
            observed.append(find_observed(times, window, span))
    facts = {"units": "spikes", "sampling_rate": 1 / bin_width, "bin_width": float(bin_width)}
    array = xr.DataArray(np.concatenate(counts), dims=("trial", "time", "unit"), attrs=facts)
    array = array.assign_coords({"time": bin_centers(window, bin_width)} | labels | _train_labels(trains[0]))
    return mark_observed(array, np.concatenate(observed))


def read_signal(
    segments: Sequence[Any],
    signal: str | int,
    align: str | npt.ArrayLike | None,
    window: Sequence[float] | None,
    unit_of_measure: str | None,
    allow_missing: bool,
    progress: bool,
) -> xr.DataArray:
    """Return an analog signal, whole or in epochs; see `Recording.from_neo`.

    Raises
    ------
    InputError
        As `Recording.from_neo`.
    """
    signals = [_rescaled(_find_signal(segment, signal), unit_of_measure) for segment in segments]
    _check_same_channels(signals)
    clocks = [Clock(len(s), _seconds(s.t_start), float(s.sampling_rate.rescale("Hz"))) for s in signals]
    unit = unit_of_measure or signals[0].units.dimensionality.string
    labels = _channel_labels(signals[0])
    if align is None and window is None and len(signals) == 1:
        values = np.array(signals[0].magnitude, dtype=np.float64)
        facts = {"units": unit, "sampling_rate": clocks[0].rate}
        array = xr.DataArray(values, dims=("time", "unit"), coords={"time": clocks[0].times()}, attrs=facts)
        return array.assign_coords(labels)
    events, trial_labels = _events(segments, align, [clock.start for clock in clocks])
    if window is None:
        window = (0.0, _common_duration(clocks)) if align is None else DEFAULT_WINDOW
    pieces = [
        cut_epochs(partial(_samples, s), clock, times, window, allow_missing, progress)
        for s, clock, times in zip(signals, clocks, events, strict=True)
        if times.size
    ]
    array = xr.concat([piece.drop_vars("trial") for piece in pieces], dim="trial")
    array.attrs["units"] = unit
    return array.assign_coords(labels).assign_coords(trial_labels)


def _seconds(time: Any) -> float:
    return float(time.rescale("s").magnitude)


def _span(train: Any) -> Floats:
    """Return start and stop of a spike train as one interval, ``(1, 2)``."""
    return np.array([[_seconds(train.t_start), _seconds(train.t_stop)]])


def _whole_bins(duration: float, bin_width: float) -> tuple[float, float]:
    """Return the longest window from 0 that whole bins of this width fill, at least one bin."""
    count_bins((0, bin_width), bin_width)
    return 0.0, max(1, math.floor((duration + EDGE_TOLERANCE) / bin_width)) * bin_width


def _common_duration(clocks: Sequence[Clock]) -> float:
    lengths = {clock.n_samples for clock in clocks}
    if len(lengths) > 1:
        raise InputError(
            "the segments' signals differ in length",
            expected="as many samples in each",
            got=f"{min(lengths)} to {max(lengths)} samples",
            fix="pass window=(0, seconds) to cut them to one length",
        )
    assert clocks[0].rate is not None
    return clocks[0].n_samples / clocks[0].rate


def _events(
    segments: Sequence[Any], align: Any, starts: Sequence[float]
) -> tuple[list[Floats], dict[str, tuple[str, npt.NDArray[Any]]]]:
    """Return the events of each segment in seconds, and the labels of the trials they make."""
    names: list[str] = []
    if align is None:
        events = [np.array([start]) for start in starts]
    elif isinstance(align, str):
        found = [[event for event in segment.events if event.name == align] for segment in segments]
        if not any(len(event) for event in chain.from_iterable(found)):
            raise _no_such(align, "event", [e.name for segment in segments for e in segment.events])
        events = [
            check_times(f"events {align!r}", np.concatenate([e.times.rescale("s").magnitude for e in one] or [[]]))
            for one in found
        ]
        names = [str(label) for event in chain.from_iterable(found) for label in event.labels]
    elif len(segments) == 1:
        events = [check_times("align", align)]
    else:
        raise InputError(
            f"times to align to are ambiguous in {len(segments)} segments",
            expected="the name of an event, or one segment",
            fix="pass block.segments[i], or align='name of the event'",
        )
    sizes = [times.size for times in events]
    labels = {"trial": np.arange(sum(sizes)), "segment": np.repeat(np.arange(len(sizes)), sizes)}
    if names and len(names) == sum(sizes):
        labels["event_label"] = np.array(names)
    return events, {name: ("trial", values) for name, values in labels.items()}


def _no_such(name: object, kind: str, known: Sequence[str | None]) -> InputError:
    names = list(dict.fromkeys(str(other) for other in known if other))
    near = near_names(str(name), names)
    return InputError(
        f"there is no {kind} {name!r}",
        expected="one of " + ", ".join(names) if names else f"a recording with named {kind}s",
        fix=f"did you mean {near[0]!r}?" if near else None,
    )


def _check_same_units(trains: Sequence[Sequence[Any]]) -> None:
    identities = [[train.name for train in segment] for segment in trains]
    if not all(identities) or any(names != identities[0] for names in identities):
        raise InputError(
            "the segments do not hold the same units",
            expected="at least 1 spike train, and the same names in the same order in each segment",
            got=f"{[len(names) for names in identities[:8]]} spike trains",
            fix="sort the spike trains, or pass one neo.Segment; for analog signals pass signal=",
        )


def _check_same_channels(signals: Sequence[Any]) -> None:
    kinds = {(s.shape[1], float(s.sampling_rate.rescale("Hz")), s.units.dimensionality.string) for s in signals}
    if len(kinds) > 1:
        raise InputError(
            "the segments' signals differ in kind",
            expected="as many channels, the same sampling rate and the same unit",
            got="; ".join(f"{channels} channels, {rate:g} Hz, {unit}" for channels, rate, unit in sorted(kinds)),
            fix="pass unit_of_measure= to convert units, or read the segments one by one",
        )


def _find_signal(segment: Any, signal: str | int) -> Any:
    if isinstance(signal, str):
        found = [item for item in segment.analogsignals if item.name == signal]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{len(found)} signals are called {signal!r}", fix="choose one by its position")
        raise _no_such(signal, "analog signal", [item.name for item in segment.analogsignals])
    if not 0 <= signal < len(segment.analogsignals):
        raise InputError(
            f"there is no signal at position {signal}",
            expected=f"0 to {len(segment.analogsignals) - 1}" if segment.analogsignals else "analog signals",
        )
    return segment.analogsignals[signal]


def _rescaled(signal: Any, unit_of_measure: str | None) -> Any:
    if unit_of_measure is None:
        return signal
    try:
        return signal.rescale(unit_of_measure)
    except (ValueError, LookupError) as error:
        raise OptionError(
            f"the signal cannot be converted to {unit_of_measure!r}",
            expected=f"a unit like {signal.units.dimensionality.string!r}",
            got=str(error),
        ) from error


def _samples(signal: Any, first: int, last: int) -> Floats:
    return np.asarray(signal.magnitude[first:last], dtype=np.float64)


def _train_labels(trains: Sequence[Any]) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    """Return names, and the annotations every unit has, as labels."""
    shared = set.intersection(*(set(train.annotations) for train in trains))
    labels = {name: np.array([train.annotations[name] for train in trains]) for name in sorted(shared)}
    return _unit_labels(labels, [train.name for train in trains])


def _channel_labels(signal: Any) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    labels = {str(name): np.asarray(values) for name, values in signal.array_annotations.items()}
    names = labels["channel_names"] if "channel_names" in labels else np.arange(signal.shape[1])
    return _unit_labels(labels, names.tolist())


def _unit_labels(labels: dict[str, npt.NDArray[Any]], names: Sequence[Any]) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    """Return labels along ``unit``, which itself is labelled by names where these tell the units apart."""
    kept = {name: values for name, values in labels.items() if values.ndim == 1 and values.dtype.kind in "biufU"}
    distinct = all(names) and len(set(names)) == len(names)
    kept["unit"] = np.array(names) if distinct else np.arange(len(names))
    return label_units(kept, len(names))
