"""Reading spike counts and continuous series from NWB files (extra ``neuro-io``)."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, StorageError, near_names
from neuros_mechint.core.optional import soft_import
from neuros_mechint.core.recordings.binning import bin_centers, bin_units, check_times, count_bins
from neuros_mechint.core.recordings.io import (
    DEFAULT_WINDOW,
    Clock,
    cut_epochs,
    describe_file,
    find_observed,
    label_units,
    mark_observed,
)
from neuros_mechint.core.recordings.tables import Rows, select_rows

REGION_COLUMNS = ("region", "location", "brain_area", "brain_region")
"""Columns that hold the brain region of a unit or channel, the first one present counts."""


@contextmanager
def open_nwb(path: Path) -> Generator[Any]:
    """Open an NWB file for reading and close it again.

    Parameters
    ----------
    path : Path
        An NWB 2 file (HDF5).

    Yields
    ------
    pynwb.NWBFile

    Raises
    ------
    StorageError
        If it is not a readable NWB file.
    """
    pynwb = soft_import("pynwb", purpose="reading NWB files", extra="neuro-io")
    handle = None
    try:
        try:
            with warnings.catch_warnings():
                # Files carry the schema they were written with; that pynwb uses its own newer one is no news.
                warnings.filterwarnings("ignore", message="Ignoring (the following )?cached namespace")
                handle = pynwb.NWBHDF5IO(str(path), "r")
                file = handle.read()
        except (OSError, TypeError, ValueError, KeyError) as error:
            raise StorageError(
                f"{path} cannot be read as an NWB file",
                expected="a complete NWB 2 file (HDF5)",
                got=f"{type(error).__name__}: {error}",
                fix="check the download; older files need conversion to NWB 2",
            ) from error
        yield file
    finally:
        if handle is not None:
            handle.close()


def read_spike_counts(
    path: str | Path,
    units: Any,
    trials: Any,
    align: str,
    window: Sequence[float] | None,
    bin_width: float,
    progress: bool,
) -> tuple[xr.DataArray, dict[str, Any]]:
    """Return spike counts ``(trial, time, unit)`` and where they come from; see `Recording.from_nwb`.

    Raises
    ------
    StorageError, InputError, MissingDependencyError
        As `Recording.from_nwb`.
    """
    window = DEFAULT_WINDOW if window is None else window
    count_bins(window, bin_width)
    source = describe_file(Path(path))
    with open_nwb(Path(path)) as file:
        table = _table(file, "units")
        if "spike_times" not in table.colnames:
            raise InputError("the units of this file have no spike times", got=f"columns {list(table.colnames)}")
        resolution = _resolution(table, bin_width)
        chosen = select_rows(table, units, "units")
        trial_rows = select_rows(_table(file, "trials"), trials, "trials")
        events = _event_times(trial_rows, align)
        spikes = (table.get_unit_spike_times(int(row)) for row in chosen.positions)
        counts = bin_units(spikes, len(chosen.positions), events, window, bin_width, progress)
        facts = {
            "units": "spikes",
            "sampling_rate": 1 / bin_width,
            "bin_width": float(bin_width),
            **resolution,
        }
        array = xr.DataArray(counts, dims=("trial", "time", "unit"), attrs=facts)
        array = array.assign_coords({"time": bin_centers(window, bin_width)} | _unit_labels(table, chosen))
        array = _with_trial_labels(array, trial_rows)
        if "obs_intervals" in table.colnames:
            intervals = [np.asarray(table.get_unit_obs_intervals(int(row))) for row in chosen.positions]
            array = mark_observed(array, find_observed(events, window, intervals))
        asked = {"units": units, "trials": trials, "align": align, "window": window, "bin_width": bin_width}
        return array, {**source, "identifier": file.identifier, **asked}


def read_series(
    path: str | Path,
    name: str,
    trials: Any,
    align: str,
    window: Sequence[float] | None,
    allow_missing: bool,
    progress: bool,
) -> tuple[xr.DataArray, dict[str, Any]]:
    """Return a continuous series, whole or in epochs, and where it comes from; see `Recording.from_nwb`.

    Raises
    ------
    StorageError, InputError, MissingDependencyError
        As `Recording.from_nwb`.
    """
    source = describe_file(Path(path))
    rows = None
    with open_nwb(Path(path)) as file:
        series = find_series(file, name)
        clock = _clock(series)
        if trials is None and window is None:
            facts = {} if clock.regular_rate() is None else {"sampling_rate": clock.regular_rate()}
            values = _scaled(series, 0, clock.n_samples)
            array = xr.DataArray(values, dims=("time", "unit"), coords={"time": clock.times()}, attrs=facts)
        else:
            window = DEFAULT_WINDOW if window is None else window
            rows = select_rows(_table(file, "trials"), trials, "trials")
            events = _event_times(rows, align)
            array = cut_epochs(
                lambda first, last: _scaled(series, first, last),
                clock,
                events,
                window,
                allow_missing,
                progress,
            )
        array.attrs |= {"units": series.unit, "series": series.name}
        if series.resolution and series.resolution > 0:
            array.attrs["resolution"] = float(series.resolution)
        array = array.assign_coords(_channel_labels(series, array.sizes["unit"]))
        array = array if rows is None else _with_trial_labels(array, rows)
        asked = {"series": name, "trials": trials, "align": align, "window": window}
        return array, {**source, "identifier": file.identifier, **asked}


def _table(file: Any, name: str) -> Any:
    table = getattr(file, name)
    if table is None or not len(table):
        raise InputError(
            f"this file has no {name}",
            expected=f"a table of {name}",
            fix="read a continuous signal with series=, or bin spike times with Recording.from_spike_times",
        )
    return table


def _event_times(rows: Rows, align: str) -> Floats:
    times = {str(name): rows.columns[name] for name in rows.columns if rows.columns[name].dtype.kind == "f"}
    if align not in times:
        near = near_names(align, times)
        raise InputError(
            f"the trials have no times {align!r}",
            expected="one of " + ", ".join(times),
            fix=f"did you mean {near[0]!r}?" if near else None,
        )
    events = times[align].to_numpy(dtype=np.float64)
    if np.isnan(events).any():
        raise InputError(
            f"{int(np.isnan(events).sum())} of {events.size} trials have no {align!r}",
            got=f"NaN for trial ids {rows.columns['id'][np.isnan(events)].tolist()[:8]}",
            fix=f'leave them out: trials="{align} == {align}"',
        )
    return check_times(align, events)


def _with_trial_labels(array: xr.DataArray, rows: Rows) -> xr.DataArray:
    labels = rows.labels()
    named = {"trial": labels.pop("id")}
    named |= {f"trial_{n}" if n in array.coords or n in array.dims else n: v for n, v in labels.items()}
    return array.assign_coords({name: ("trial", values) for name, values in named.items()})


def _resolution(table: Any, bin_width: float) -> dict[str, float]:
    resolution = table.resolution
    if resolution is None or not resolution > 0:
        return {}
    if bin_width < resolution:
        raise InputError(
            "the bins are narrower than the spike times are exact",
            expected=f"at least the file's resolution, {resolution:g} s",
            got=f"bin_width={bin_width:g}",
        )
    return {"spike_time_resolution": float(resolution)}


def _unit_labels(table: Any, chosen: Rows) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    labels = chosen.labels()
    labels["unit"] = labels.pop("id")
    regions = _named_region(labels)
    if regions is None:
        regions = _electrode_regions(table, chosen.positions)
    if regions is not None:
        labels["region"] = regions
    return label_units(labels, chosen.positions.size)


def _named_region(labels: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
    found = (labels[name] for name in REGION_COLUMNS if name in labels and labels[name].dtype.kind == "U")
    return next(found, None)


def _electrode_regions(table: Any, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any] | None:
    """Return the locations of each unit's electrodes, joined by "/" where they differ."""
    if "electrodes" not in table.colnames or type(table["electrodes"]).__name__ != "VectorIndex":
        return None
    index = table["electrodes"]
    electrodes = np.asarray(index.target.data[:])
    if "location" not in index.target.table.colnames:
        return None
    locations = np.asarray(index.target.table["location"][:]).astype(str)
    stops = np.asarray(index.data[:]).astype(np.int64)
    starts = np.r_[0, stops[:-1]]
    return np.array(["/".join(dict.fromkeys(locations[electrodes[starts[p] : stops[p]]])) for p in positions])


def find_series(file: Any, name: str) -> Any:
    """Return the series of an NWB file with a name, or with a path that ends so.

    Parameters
    ----------
    file : pynwb.NWBFile
        The open file.
    name : str
        ``"lfp"`` or ``"ecephys/LFP/lfp"``.

    Returns
    -------
    pynwb.TimeSeries

    Raises
    ------
    InputError
        If there is none, or several, or its data are no ``(time,)`` or ``(time, channel)`` numbers.
    """
    kind = soft_import("pynwb", purpose="reading NWB files", extra="neuro-io").TimeSeries
    known = {_series_path(item): item for item in file.objects.values() if isinstance(item, kind)}
    found = [path for path in known if path == name or path.endswith(f"/{name}")]
    if len(found) != 1:
        near = near_names(name, known)
        raise InputError(
            f"{'several series are' if found else 'no series is'} called {name!r}",
            expected="one of " + ", ".join(found or known) if known else "a file with continuous series",
            fix="give the path" if found else f"did you mean {near[0]!r}?" if near else None,
        )
    series = known[found[0]]
    if np.ndim(series.data) not in (1, 2) or series.data.dtype.kind not in "biuf":
        raise InputError(
            f"the series {name!r} is not a recording of channels over time",
            expected="numbers of shape (time,) or (time, channel)",
            got=f"a {type(series).__name__} of shape {np.shape(series.data)}",
        )
    return series


def _series_path(series: Any) -> str:
    names = [series.name]
    parent = series.parent
    while parent is not None and parent.parent is not None:
        names.append(parent.name)
        parent = parent.parent
    return "/".join(reversed(names))


def _clock(series: Any) -> Clock:
    n_samples = len(series.data)
    if not n_samples:
        raise InputError(f"the series {series.name!r} is empty", expected="at least 1 sample")
    if series.timestamps is None:
        return Clock(n_samples, float(series.starting_time), float(series.rate))
    stamps = check_times(f"timestamps of {series.name!r}", series.timestamps[:])
    if stamps.size != n_samples:
        raise InputError(
            f"the series {series.name!r} has not one timestamp per sample",
            expected=n_samples,
            got=stamps.size,
        )
    return Clock.from_timestamps(stamps)


def _scaled(series: Any, first: int, last: int) -> Floats:
    """Return samples in the series' unit, ``(last - first, n_channels)``."""
    raw = np.asarray(series.data[first:last], dtype=np.float64)
    channels = series.fields.get("channel_conversion")
    factor = series.conversion if channels is None else series.conversion * np.asarray(channels[:])
    scaled = raw * factor + series.offset
    return scaled[:, None] if scaled.ndim == 1 else scaled


def _channel_labels(series: Any, n_channels: int) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    """Return the columns of the electrodes or regions of interest a series was recorded from."""
    labels: dict[str, npt.NDArray[Any]] = {"unit": np.arange(n_channels)}
    region = series.fields.get("electrodes", series.fields.get("rois"))
    if region is not None and len(region.data) == n_channels:
        labels = select_rows(region.table, None, "channels").labels()
        labels = {name: values[np.asarray(region.data[:])] for name, values in labels.items()}
        labels["unit"] = labels.pop("id")
    regions = _named_region(labels)
    return label_units(labels if regions is None else {**labels, "region": regions}, n_channels)
