"""From Brian2 to recordings: what a network or its monitors gave, as data that every analysis here takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from neuros_mechint.adapters.brian2.adapter import Brian2Adapter
from neuros_mechint.adapters.brian2.places import Kind, is_monitor, places_of
from neuros_mechint.adapters.brian2.units import positive_seconds
from neuros_mechint.adapters.registry import adapt
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, SiteError
from neuros_mechint.core.recordings.binning import bin_centers, bin_units, count_bins
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.sites import SiteReference

_DIMS = ("sample", "time", "unit")


@dataclass(frozen=True)
class _Course:
    """One variable of one group.

    Parameters
    ----------
    group : str
    cells : array of shape (n_cells,)
        Their numbers in the group.
    values : array of shape (trial, time, cell)
        At the beginnings of time steps, or spikes in them; or counts in bins already.
    dt : float
        From one entry of time to the next, seconds.
    unit : str
        What the values are in.
    start : float
        When the first entry begins, seconds.
    """

    group: str
    cells: Any
    values: Any
    dt: float
    unit: str
    start: float = 0.0

    @property
    def seconds(self) -> float:
        """How long a trial is."""
        return self.values.shape[1] * self.dt

    def binned(self, width: float) -> Any:
        """Return counts of spikes, or means of what is no spike, in bins of so many seconds."""
        n_bins, n_steps = count_bins((0, round(self.seconds, 12)), width), self.values.shape[1]
        if n_steps % n_bins:
            raise InputError(
                f"the bins are no whole number of time steps of {self.group!r}",
                expected=f"a multiple of {self.dt * 1e3:.6g} ms",
                got=f"{width * 1e3:.6g} ms",
            )
        shape = (self.values.shape[0], n_bins, n_steps // n_bins, len(self.cells))
        in_bins = self.values.reshape(shape)
        return in_bins.sum(2, dtype=np.int32) if self.unit == "spikes" else in_bins.mean(2)


def from_brian2(
    source: Any, trials: Any = 1, sites: Any = "*.spikes", bin_width: Any = None, **options: Any
) -> Recording:
    """Return what a Brian2 network does, or what its monitors have recorded, as a recording.

    A recording goes where brain data go: alignment, fractals, dynamics, latent models. For the network itself as a
    model in torch there is `brian2_to_torch`, and for edits `adapt`.

    Parameters
    ----------
    source : brian2.Network, Brian2Adapter, brian2 monitor or sequence of monitors
        A network is run for ``trials`` and handed back as it was. ``SpikeMonitor`` and ``StateMonitor`` after a run
        give one trial, to the end of that run: from where the ``StateMonitor`` begins; from 0 s for a ``SpikeMonitor``,
        which does not tell when it was added. What came before counts as silence.
    trials : int or array of shape (trial, time, unit)
        As for ``adapt(network, ...).capture``: the number of trials, or stimuli where ``input=`` says where they go.
    sites : str or iterable of str
        ``"*.spikes"``, or state variables such as ``"E.v"``; of one unit of measure.
    bin_width : Quantity, optional
        A whole number of time steps that divides the trial: spikes are counted, states averaged. By default a time
        step.
    **options
        Of `Brian2Adapter`: ``duration``, ``input``, ``unit``, ``namespace``, ``seed``.

    Returns
    -------
    Recording
        ``(trial, time, unit)``; times are seconds from the begin of a trial, the middles of the bins. Units are
        labelled ``E[0]``, ..., with ``region`` for the group and ``cell`` for the number in it. Spikes are whole
        numbers, states in base units (volts).

    Raises
    ------
    InputError
        Nothing recorded, several units of measure or lengths at once, bins that do not fit, sources that are neither.
    SiteError
        Sites that the network lacks, or that no monitor has recorded.

    Examples
    --------
    >>> import brian2 as b2
    >>> b2.prefs.codegen.target = "numpy"  # nothing to compile
    >>> cells = b2.NeuronGroup(3, "dv/dt = (1.5 - v) / (10*ms) : 1", threshold="v > 1", reset="v = 0",
    ...                        method="exact", name="E")
    >>> from_brian2(b2.Network(cells), trials=2, duration=50 * b2.ms, bin_width=10 * b2.ms)
    <Recording: 2 trial x 5 time x 3 unit, spikes, 100 Hz, regions E>
    """
    width = None if bin_width is None else positive_seconds(bin_width, "bin_width")
    monitors = _as_monitors(source)
    if monitors is None:
        courses = _of_network(source, trials, sites, options)
    else:
        if options or not (isinstance(trials, int) and trials == 1):
            fix = "give the network itself to have it run"
            raise OptionError("monitors hold the one trial that was run", got=f"trials={trials!r}, {options}", fix=fix)
        courses = _of_monitors(monitors, sites, width)
    return _joined(courses, width)


def _joined(courses: Sequence[_Course], width: float | None) -> Recording:
    """Return the courses of all groups side by side."""
    for what, found in (
        ("units of measure", {one.unit for one in courses}),
        ("lengths", {f"{one.seconds:.6g} s" for one in courses}),
        ("beginnings", {f"{one.start:.6g} s" for one in courses}),
    ):
        if len(found) > 1:
            fix = "choose sites that go together"
            raise InputError(f"the sites have several {what}", expected="one", got=", ".join(sorted(found)), fix=fix)
    steps = {round(one.dt, 12) for one in courses}
    if width is None and len(steps) > 1:
        raise InputError(
            "the groups have several time steps",
            expected="bins that fit all of them",
            got=", ".join(f"{step * 1e3:.6g} ms" for step in sorted(steps)),
            fix="say bin_width=",
        )
    width = steps.pop() if width is None else width
    start, stop = courses[0].start, courses[0].start + courses[0].seconds
    averaged = courses[0].unit != "spikes" and any(width > 1.5 * one.dt for one in courses)
    return Recording(
        np.concatenate([one.binned(width) for one in courses], axis=2),
        ("trial", "time", "unit"),
        {
            "time": bin_centers((round(start, 12), round(stop, 12)), width),
            "unit": [f"{one.group}[{cell}]" for one in courses for cell in one.cells],
            "cell": ("unit", [int(cell) for one in courses for cell in one.cells]),
        },
        sampling_rate=1 / width,
        unit_of_measure=courses[0].unit,
        region=[one.group for one in courses for _ in one.cells],
        attrs={"bin_width": width, "source": "brian2"} | ({"cell_methods": "time: mean"} if averaged else {}),
    )


# -- networks ----------------------------------------------------------------------------------------------------------


def _of_network(source: Any, trials: Any, sites: Any, options: dict[str, Any]) -> list[_Course]:
    from brian2 import Network
    from brian2.units.fundamentalunits import get_unit_for_display

    if not isinstance(source, (Network, Brian2Adapter)):
        raise InputError(
            "nothing that Brian2 has run or could run",
            expected="a brian2.Network, a Brian2Adapter, a SpikeMonitor, a StateMonitor or a list of monitors",
            got=type(source).__name__,
        )
    if isinstance(source, Brian2Adapter) and options:
        raise OptionError("the adapter has its options already", got=", ".join(options))
    model = adapt(source, **options)
    places = {place.name: place for place in places_of(model.network)}
    captured = model.capture(trials, sites)
    courses: list[_Course] = []
    for name in captured:
        reference = SiteReference.parse(name)
        place = places[reference.name]
        if captured.dims(name) != _DIMS or "time" in reference.index or "sample" in reference.index:
            raise InputError(
                f"{name} is no course of cells over whole trials",
                expected="a site (sample, time, unit), or some of its units",
                got=f"axes {place.dims}",
            )
        cells = np.arange(place.size)[_positions(reference.index.get("unit", slice(None)))]
        unit = "spikes" if place.kind is Kind.SPIKES else get_unit_for_display(place.variable.dim)
        dt = float(place.group.clock.dt_)
        courses.append(_Course(place.group.name, cells, captured[name].numpy(), dt, unit))
    return courses


def _positions(index: Any) -> Any:
    return list(index) if isinstance(index, tuple) else index


# -- monitors ----------------------------------------------------------------------------------------------------------


def _as_monitors(source: Any) -> list[Any] | None:
    """Return the monitors of a source, or ``None`` where it is a network."""
    if is_monitor(source):
        return [source]
    if isinstance(source, (list, tuple)):
        wrong = [type(one).__name__ for one in source if not is_monitor(one)]
        if wrong or not source:
            raise InputError("this is no list of monitors", expected="Brian2's monitors", got=", ".join(wrong) or "[]")
        return list(source)
    return None


def _of_monitors(monitors: Sequence[Any], sites: Any, width: float | None) -> list[_Course]:
    """Return what the monitors hold of the sites."""
    held = {name: monitor for monitor in monitors for name in _recorded_by(monitor)}
    chosen: dict[str, None] = {}
    for pattern in [sites] if isinstance(sites, str) else sites:
        matches = [name for name in held if fnmatchcase(name, pattern)]
        if not matches:
            raise SiteError(f"no monitor has recorded {pattern!r}", expected=", ".join(held))
        chosen |= dict.fromkeys(matches)
    if not chosen:
        raise InputError("no site to record", expected=", ".join(held), got=repr(sites))
    return [_spikes_in(held[one], width) if one.endswith(".spikes") else _states_in(held[one], one) for one in chosen]


def _recorded_by(monitor: Any) -> list[str]:
    """Return the sites that a monitor has recorded."""
    from brian2 import SpikeMonitor, StateMonitor

    group = monitor.source.name
    if isinstance(monitor, StateMonitor):
        return [f"{group}.{name}" for name in monitor.record_variables]
    if not isinstance(monitor, SpikeMonitor) or not monitor.record:
        raise InputError(
            f"{monitor.name!r} does not tell single cells apart over time",
            expected="a StateMonitor, or a SpikeMonitor with record=True",
            got=type(monitor).__name__,
        )
    return [f"{group}.spikes"]


def _spikes_in(monitor: Any, width: float | None) -> _Course:
    seconds, n_cells = _seconds_run(monitor), len(monitor.source)
    width = float(monitor.source.clock.dt_) if width is None else width
    order = np.argsort(monitor.i[:], kind="stable")
    ends = np.searchsorted(monitor.i[:][order], np.arange(1, n_cells))
    by_cell = np.split(np.asarray(monitor.t_[:])[order], ends)
    counts = bin_units(by_cell, n_cells, [0.0], (0, round(seconds, 12)), width)
    return _Course(monitor.source.name, np.arange(n_cells), counts, width, "spikes")


def _states_in(monitor: Any, name: str) -> _Course:
    from brian2.units.fundamentalunits import get_unit_for_display

    variable = name.rpartition(".")[2]
    values: Floats = np.asarray(getattr(monitor, f"{variable}_"), dtype=np.float64)
    if not values.size:
        raise _never_run(monitor)
    unit = get_unit_for_display(monitor.variables[variable].dim)
    cells, start = np.asarray(monitor.record), float(monitor.t_[0])
    return _Course(monitor.source.name, cells, values.T[None], float(monitor.clock.dt_), unit, round(start, 12))


def _seconds_run(monitor: Any) -> float:
    """Return the time of the monitor's network; its clock may be shared with networks that ran later."""
    from brian2 import Network

    networks = [reference() for reference in Network.__instances__()]
    seconds = [float(one.t_) for one in networks if one is not None and one.id == monitor._network]
    if not seconds or seconds[0] <= 0:
        raise _never_run(monitor)
    return seconds[0]


def _never_run(monitor: Any) -> InputError:
    return InputError(
        f"{monitor.name!r} has recorded nothing: {monitor.source.name!r} never ran with it, or its network is gone",
        fix="put the monitor into a network, run that and keep it; or give the network itself",
    )
