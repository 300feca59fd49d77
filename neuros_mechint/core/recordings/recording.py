"""Brain recordings: labelled arrays of spike counts or continuous signals, from arrays, NWB files and Neo."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.recordings.binning import bin_centers, bin_units
from neuros_mechint.core.recordings.labels import check_recording, copy_labelled
from neuros_mechint.core.recordings.verbs import RecordingVerbs

if TYPE_CHECKING:
    import torch


class Recording(RecordingVerbs):
    """A labelled brain recording: spike counts, firing rates, voltages, fluorescence or voxel responses.

    Values are copied and read-only: a recording never changes, nor do the arrays it was made from.

    Parameters
    ----------
    data : array_like, torch.Tensor, xarray.DataArray or pandas.DataFrame
        Real numbers. A DataArray brings its own dims, coordinates and attributes; the index and columns of a DataFrame
        are the labels of its rows and columns.
    dims : sequence of str, optional
        Names of the axes, one of them ``"unit"`` (neurons, channels, voxels). Default: ``("stimulus", "time",
        "unit")``, of a DataFrame ``("stimulus", "unit")``.
    coords : mapping, optional
        Labels: ``{"stimulus": [...]}`` along the axis of that name, ``{"depth": ("unit", [...])}`` along
        another.
    sampling_rate : float, optional
        Hz along ``"time"``. Makes the time labels, in seconds from 0, where there are none.
    unit_of_measure : str, optional
        What one unit of the values is: ``"spikes"``, ``"uV"``, ...
    region : str or sequence of str, optional
        Brain region of every unit, or of all of them; kept as the coordinate ``region`` along ``unit``.
    attrs : mapping, optional
        Anything else worth keeping: subject, session, task.
    allow_missing : bool
        Accept NaN as "not recorded". Otherwise NaN is refused.

    Raises
    ------
    InputError
        If dims, coordinates and data do not fit each other, times do not ascend or contradict
        ``sampling_rate``, or values are not real and finite.

    Examples
    --------
    >>> counts = np.arange(24).reshape(2, 4, 3)
    >>> recording = Recording(counts, sampling_rate=100.0, region=["V1", "V1", "V2"])
    >>> recording
    <Recording: 2 stimulus x 4 time x 3 unit, 100 Hz, regions V1, V2>
    >>> recording.select(region="V1", time=slice(0, 0.01)).matrix().shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        data: Any,
        dims: Sequence[str] | None = None,
        coords: Mapping[str, Any] | None = None,
        *,
        sampling_rate: float | None = None,
        unit_of_measure: str | None = None,
        region: str | Sequence[str] | None = None,
        attrs: Mapping[str, Any] | None = None,
        allow_missing: bool = False,
    ) -> None:
        array = copy_labelled(data, dims, coords, region)
        array.attrs.update(attrs or {})
        facts = {"units": unit_of_measure, "sampling_rate": sampling_rate}
        array.attrs.update({name: value for name, value in facts.items() if value is not None})
        self._data = check_recording(array, allow_missing)
        self._provenance = Provenance.record(arguments={"method": "Recording", "data": self._data.values})

    @classmethod
    def from_spike_times(
        cls,
        spike_times: Sequence[npt.ArrayLike],
        events: npt.ArrayLike,
        window: Sequence[float],
        bin_width: float,
        coords: Mapping[str, Any] | None = None,
        *,
        region: str | Sequence[str] | None = None,
        attrs: Mapping[str, Any] | None = None,
        progress: bool = True,
    ) -> Recording:
        """Count spikes in bins around events.

        Parameters
        ----------
        spike_times : sequence of array_like
            One array of times in seconds per unit, in any order.
        events : array_like
            ``(n_trials,)`` times in seconds that become 0.
        window : (float, float)
            Start and stop in seconds relative to each event; half-open bins, see `bin_spikes`.
        bin_width : float
            Seconds; must divide the window. Time labels are the middles of the bins.
        coords, region, attrs
            As for `Recording`, with axes ``trial``, ``time`` and ``unit``.
        progress : bool
            Show a bar where it takes longer than two seconds.

        Returns
        -------
        Recording
            ``(trial, time, unit)`` spike counts.

        Raises
        ------
        InputError
            If times are not finite or the bins do not fill the window.

        Examples
        --------
        >>> Recording.from_spike_times([[0.1, 1.15], []], events=[0, 1], window=(0, 0.2), bin_width=0.1)
        <Recording: 2 trial x 2 time x 2 unit, spikes, 10 Hz>
        """
        if not len(spike_times) or any(np.ndim(times) == 0 for times in spike_times):
            raise InputError(
                "spike_times is not one array per unit",
                expected="a list of at least one array of seconds",
                got=f"{len(spike_times)} entries",
                fix="for a single unit pass [times]",
            )
        counts = bin_units(spike_times, len(spike_times), events, window, bin_width, progress)
        labels = {"time": bin_centers(window, bin_width), **(coords or {})}
        array = copy_labelled(counts, ("trial", "time", "unit"), labels, region)
        array.attrs |= {"units": "spikes", "sampling_rate": 1 / bin_width, "bin_width": float(bin_width)}
        array.attrs |= attrs or {}
        asked = {"events": events, "window": window, "bin_width": bin_width}
        return cls._from_labelled(array, Provenance.record(arguments={"method": "from_spike_times", **asked}))

    @classmethod
    def from_nwb(
        cls,
        path: str | Path,
        units: Any = None,
        trials: Any = None,
        align: str = "start_time",
        window: Sequence[float] | None = None,
        bin_width: float = 0.01,
        select: Mapping[str, Any] | None = None,
        *,
        series: str | None = None,
        allow_missing: bool = False,
        progress: bool = True,
    ) -> Recording:
        """Read spike counts, or with ``series`` a continuous signal, from an NWB file (extra ``neuro-io``).

        Columns of the trials and units tables with one text, number or boolean per row become coordinates.
        Regions are the units' column ``region``, ``location``, ``brain_area`` or ``brain_region``, else the
        locations of their electrodes. Where the file has ``obs_intervals``, the coordinate
        ``fully_observed`` marks the trials whose window lies in them for every unit chosen; the others are
        kept, with a warning.

        Parameters
        ----------
        path : str or Path
            An NWB 2 file (HDF5).
        units, trials : ids, boolean mask or str, optional
            Rows of the tables: their ids, a mask over all rows, or a query (see `query`) such as
            ``"quality == 'good' and depth < 500"``. Default: all.
        align : str
            Column of the trials table whose time, in seconds, becomes 0.
        window : (float, float), optional
            Seconds relative to ``align``. Default: ``(-0.1, 0.5)``; a series without ``trials`` and
            ``window`` is read whole, on the file's clock.
        bin_width : float
            Seconds, for spikes; see `bin_spikes`.
        select : mapping, optional
            Passed to `select` at the end: ``{"region": "V1"}``.
        series : str
            Name, or path from the file's root, of a TimeSeries. It is scaled to its unit by its conversion,
            channel conversion and offset. Epochs start with the sample nearest to the window's start.
        allow_missing : bool
            Accept NaN in a series, and fill what an epoch wants beyond its ends with NaN.
        progress : bool
            Show a bar where it takes longer than two seconds.

        Returns
        -------
        Recording
            ``(trial, time, unit)``, or ``(time, unit)`` for a whole series.

        Raises
        ------
        StorageError
            If the file is missing or not NWB.
        InputError
            If a table, column, row or series is not there, or times, bins and signal do not fit.
        MissingDependencyError
            If pynwb is not installed.
        """
        from neuros_mechint.core.recordings.nwb import read_series, read_spike_counts

        if series is None:
            array, source = read_spike_counts(path, units, trials, align, window, bin_width, progress)
        elif units is None:
            array, source = read_series(path, series, trials, align, window, allow_missing, progress)
        else:
            raise InputError(
                "units choose rows of the units table, which a series does not have",
                fix="choose channels with select={'unit': [...]} or by a coordinate",
            )
        record = Provenance.record(arguments={"method": "from_nwb", **source})
        recording = cls._from_labelled(array, record, allow_missing)
        return recording.select(**select) if select else recording

    @classmethod
    def from_neo(
        cls,
        source: Any,
        signal: str | int | None = None,
        align: str | npt.ArrayLike | None = None,
        window: Sequence[float] | None = None,
        bin_width: float = 0.01,
        select: Mapping[str, Any] | None = None,
        *,
        unit_of_measure: str | None = None,
        allow_missing: bool = False,
        progress: bool = True,
    ) -> Recording:
        """Read spike counts, or with ``signal`` an AnalogSignal, from Neo (extra ``neuro-io``).

        Times are converted to seconds, rates to Hz, signals to ``unit_of_measure``. Annotations that every
        unit has, and array annotations of a signal, become coordinates along ``unit``.

        Parameters
        ----------
        source : neo.Block, neo.Segment, str or Path
            A file is read by the Neo reader for its format; pickles are refused: they can run code.
        signal : str or int, optional
            Name or position of an AnalogSignal of each segment.
        align : str or array_like, optional
            Name of the Events that become 0, or times in seconds (one segment only). Default: the start of
            each segment, which then is one trial.
        window : (float, float), optional
            Seconds relative to ``align``. Default: with ``align`` ``(-0.1, 0.5)``, without it the whole
            segment (for spikes as many whole bins as fit in the shortest).
        bin_width : float
            Seconds, for spikes; see `bin_spikes`.
        select : mapping, optional
            Passed to `select` at the end.
        unit_of_measure : str, optional
            Unit to convert a signal to, such as ``"uV"``. Default: its own.
        allow_missing : bool
            Accept NaN in a signal, and fill what an epoch wants beyond its ends with NaN.
        progress : bool
            Show a bar where it takes longer than two seconds.

        Returns
        -------
        Recording
            ``(trial, time, unit)``, or ``(time, unit)`` for the whole signal of a single segment, whose times
            then are on the segment's clock.

        Raises
        ------
        StorageError
            If the file is missing, or Neo has no safe reader for it.
        InputError
            If segments do not match each other, or a signal, event or unit is not there.
        MissingDependencyError
            If neo is not installed.
        """
        from neuros_mechint.core.recordings.neo import read_segments, read_signal, read_spike_trains

        segments, facts = read_segments(source)
        if signal is None:
            array = read_spike_trains(segments, align, window, bin_width, progress)
        else:
            array = read_signal(segments, signal, align, window, unit_of_measure, allow_missing, progress)
        facts |= {"signal": signal, "align": align, "window": window, "bin_width": bin_width}
        record = Provenance.record(arguments={"method": "from_neo", **facts})
        recording = cls._from_labelled(array, record, allow_missing)
        return recording.select(**select) if select else recording

    @property
    def data(self) -> xr.DataArray:
        """The labelled array; its values are read-only."""
        return self._data.copy(deep=False)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return tuple(str(name) for name in self._data.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._data.shape

    @property
    def sampling_rate(self) -> float | None:
        """Samples or bins per second, or None where there is no regular time axis."""
        return self._data.attrs.get("sampling_rate")

    @property
    def unit_of_measure(self) -> str | None:
        """What one unit of the values is, or None where nobody said."""
        return self._data.attrs.get("units")

    @property
    def regions(self) -> tuple[str, ...]:
        """The brain regions of the units in order of appearance; empty where none is known."""
        return self._labels("region")

    @property
    def sessions(self) -> tuple[str, ...]:
        """The sessions in order of appearance: labels of the coordinate ``session``; empty where there are none."""
        return self._labels("session")

    def _labels(self, name: str) -> tuple[str, ...]:
        if name not in self._data.coords:
            return ()
        return tuple(dict.fromkeys(str(label) for label in np.atleast_1d(self._data.coords[name].values)))

    @property
    def provenance(self) -> Provenance:
        """Where the recording comes from: file, its sha256, the arguments, and what was selected since."""
        return self._provenance

    def xarray(self) -> xr.DataArray:
        """Return a copy as a labelled array that may be changed."""
        return self._data.copy(deep=True)

    def tensor(self) -> torch.Tensor:
        """Return a copy as a tensor, with axes as in `dims`."""
        import torch

        return torch.tensor(self._data.values)

    def matrix(self) -> torch.Tensor:
        """Return a copy as ``(n_observations, n_units)``: every axis but ``unit``, in order, makes rows.

        Examples
        --------
        >>> Recording(np.zeros((3, 5, 4)), ("unit", "trial", "time")).matrix().shape
        torch.Size([20, 3])
        """
        import torch

        values = self._data.transpose(..., "unit").values
        return torch.tensor(values.reshape(-1, values.shape[-1]))

    def _title(self) -> str:
        size = " x ".join(f"{length} {name}" for name, length in self._data.sizes.items())
        rate = f"{self.sampling_rate:g} Hz" if self.sampling_rate else None
        regions = f"regions {', '.join(self.regions)}" if self.regions else None
        units = self.unit_of_measure
        measured = f"mean {units}" if units and "cell_methods" in self._data.attrs else units
        return "Recording: " + ", ".join(fact for fact in (size, measured, rate, regions) if fact)

    def __repr__(self) -> str:
        return f"<{self._title()}>"

    def _repr_html_(self) -> str:
        return f"<p><b>{html.escape(self._title())}</b></p>{self._data._repr_html_()}"  # pyright: ignore[reportPrivateUsage]
