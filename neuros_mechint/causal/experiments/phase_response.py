"""Phase response curves: by how much a kick brings the next spike of a regular cell forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.causal.experiments.readouts import Observation, observe_each, spike_trains
from neuros_mechint.causal.experiments.times import TimeAxis, amounts, seconds
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.edits import Add
from neuros_mechint.core.errors import InputError, OptionError, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.core.sites import SiteReference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CITATIONS = ("ermentrout1996",)
_FEWEST_SPIKES = 4
_REGULAR = 0.05
_CYCLES_AFTER = 3


class PhaseResponse(Result):
    """By how much a kick brings the next spike forward, at each phase between two spikes; NaN where none follows.

    ``data`` holds over ``(phase,)``: the ``advance`` in cycles, negative where the spike comes later; and ``later``,
    that of the spike after it, by which a cell that is reset by its spikes keeps what was gained.
    """

    @property
    def values(self) -> xr.DataArray:
        """Advance of the next spike in cycles, ``(phase,)``."""
        return self.data["advance"]

    @property
    def kind(self) -> str:
        """``I`` where kicks only advance or only delay, ``II`` where they do both, ``none`` where they do neither."""
        least = 1.5 * float(self.attributes["resolution"])
        ahead, behind = bool((self.values > least).any()), bool((self.values < -least).any())
        return "II" if ahead and behind else "I" if ahead or behind else "none"

    def _draw(self, ax: Axes) -> None:
        phase, error = self.data["phase"].values, float(self.attributes["resolution"])
        ax.axhline(0, color=MUTED_INK, lw=1)
        ax.fill_between(phase, self.values - error, self.values + error, color=PALETTE[0], alpha=0.2, lw=0)
        ax.plot(phase, self.values, "o-", color=PALETTE[0], ms=3, label="next spike (band: one time step)")
        ax.plot(phase, self.data["later"], color=PALETTE[1], lw=1, label="the spike after it")
        ax.set_xlabel("phase of the kick (cycles after a spike)")
        ax.set_ylabel("advance (cycles)")
        ax.legend(fontsize=8)

    def _summary_lines(self) -> list[str]:
        """Return what kicks do, and how exactly that is known."""
        about, values = self.attributes, self.values.values
        told = {
            "I": "all kicks that matter move the spike the same way (type I)",
            "II": "kicks advance or delay the spike, by their phase (type II)",
            "none": "no kick moves the spike by more than the time step allows to see",
        }
        if np.isnan(values).all():
            lines = ["no spike follows any kick"]
        else:
            lines = [f"{told[self.kind]}: {np.nanmin(values):+.3g} to {np.nanmax(values):+.3g} cycles"]
        if self.kind != "none":
            at = float(self.data["phase"][int(np.nanargmax(np.abs(values)))])
            lines.append(f"largest {at:.2g} cycles after a spike")
        kick = f"{about['amount']:.4g} {about['amount_unit']}".rstrip()
        lines.append(
            f"kick of {kick} for one time step at {about['site']}; period {about['period']:.5g} {about['unit']}, "
            f"one time step is {about['resolution']:.2g} cycles"
        )
        return lines


class _Cycle(NamedTuple):
    """One cycle of the untouched cell: the steps of its first spike, and its period in steps."""

    start: int
    period: float


def phase_response_curve(
    model: Adapter,
    inputs: Any,
    kick: Any,
    site: str,
    spikes: str,
    *,
    n_phases: int = 20,
    settle: Any = 0.0,
    dt: Any = None,
) -> PhaseResponse:
    r"""Kick a cell that fires regularly, at one phase after another, and see when it fires next.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``: a Brian2 network, a spiking network.
    inputs : inputs of the model
        One trial, in which the cell fires regularly, long enough for three cycles after ``settle``.
    kick : float or Brian2 quantity
        What is added for one time step. A plain number is in the unit of the site (Brian2: base units such as volt).
    site : str
        Where: the potential, ``"cells.v"``, which jumps; or a current, ``"cells.I"``, whose charge is ``kick`` times
        the time step. With an index where there are several cells.
    spikes : str
        Spikes of the same cell, ``"cells.spikes"``.
    n_phases : int
        How many phases to try, evenly over the cycle.
    settle : float
        How long to wait from the beginning of the trial, in s (in steps where ``dt`` is not known).
    dt : float, optional
        Length of a time step in s, for models that do not know it.

    Returns
    -------
    PhaseResponse
        Exact to about one time step, which the summary tells in cycles.

    Raises
    ------
    InputError
        Several trials or cells, a cell that does not fire regularly, or too few spikes.
    SiteError, CapabilityError
        A site that does not exist, a model without time or one that cannot be edited.

    References
    ----------
    Ermentrout 1996, Type I membranes, phase resetting curves, and synchrony, doi:10.1162/neco.1996.8.5.979

    Examples
    --------
    >>> import brian2 as b2, neuros_mechint as nm
    >>> cell = b2.NeuronGroup(1, "dv/dt = (1.5 - v) / (10*ms) : 1", threshold="v > 1", reset="v = 0", method="exact",
    ...                       name="cell")
    >>> model = nm.adapt(b2.Network(cell), duration=60 * b2.ms)
    >>> found = phase_response_curve(model, 1, 0.1, "cell.v", "cell.spikes", n_phases=5)
    >>> found.kind, bool((found.values[1:].diff("phase") > 0).all())  # late kicks do more: it leaks away less
    ('I', True)
    """
    n_phases, added = whole("n_phases", n_phases, 2), amounts([kick], "kick")
    if added.numbers[0] == 0:
        raise OptionError("a kick of 0 is none", expected="another number", got=repr(kick))
    found = Observation.of(model, inputs, [site, spikes])
    trains, axis = spike_trains(found, spikes, dt)
    begin = axis.after(settle)
    untouched = _one_cell(trains(None, found.tensors).numpy(), spikes)
    cycle = _regular_cycle(untouched, begin, spikes)
    steps = cycle.start + 1 + np.unique(np.floor(np.arange(n_phases) / n_phases * cycle.period).astype(int))
    interventions = [[Add(_at(site, int(step)), float(added.numbers[0]) * added.unit)] for step in steps]
    kicked = observe_each(found, interventions, trains, "phase response").numpy()
    advance, later = np.array(
        [_advances(_one_cell(train, spikes), int(step), cycle) for train, step in zip(kicked, steps, strict=True)]
    ).T
    resolution = 1 / cycle.period
    cycles = {"units": "cycles"}
    data = xr.Dataset(
        {
            "advance": ("phase", advance, cycles | {"long_name": "advance of the next spike"}),
            "later": ("phase", later, cycles | {"long_name": "advance of the spike after it"}),
        },
        {"phase": ("phase", (steps - cycle.start) * resolution, cycles | {"long_name": "phase of the kick"})},
    )
    about = {
        "site": site,
        "spikes": spikes,
        "amount": float(added.numbers[0]),
        "amount_unit": added.name or found.units_of(site),
        "period": cycle.period * axis.dt,
        "unit": axis.unit,
        "resolution": resolution,
    }
    arguments = {**about, "n_phases": n_phases, "settle": seconds(settle, "settle")}
    provenance = Provenance.record(model=model.fingerprint(), arguments=arguments)
    return PhaseResponse(
        data, f"Phase response of {spikes}", about, provenance, CITATIONS, _doubts(untouched, begin, axis, advance)
    )


def _at(site: str, step: int) -> str:
    reference = SiteReference.parse(site)
    if "time" in reference.index:
        raise InputError(f"{site!r} has a time of its own", expected="a site without, which is kicked at every phase")
    return str(SiteReference(reference.name, {**reference.index, "time": (step,)}))


def _one_cell(fired: np.ndarray, spikes: str) -> np.ndarray:
    """Return the train of the only cell in the only trial, from ``(trial, time, unit)``."""
    if fired.shape[0] != 1 or fired.shape[2] != 1:
        raise InputError(
            f"{spikes!r} holds more than one train of spikes",
            expected="one cell in one trial",
            got=f"{fired.shape[2]} cells in {fired.shape[0]} trials",
            fix=f"give one trial, and one cell: '{SiteReference.parse(spikes).name}[unit=0]'",
        )
    return fired[0, :, 0] != 0


def _regular_cycle(train: np.ndarray, begin: slice, spikes: str) -> _Cycle:
    """Return the first whole cycle after the beginning, or say why there is none."""
    fired = begin.start + np.flatnonzero(train[begin])
    if len(fired) < _FEWEST_SPIKES:
        raise InputError(
            f"{spikes!r} fires too rarely for a phase",
            expected=f"at least {_FEWEST_SPIKES} spikes after settle",
            got=f"{len(fired)}",
            fix="give more current, or a longer trial",
        )
    intervals = np.diff(fired)
    if np.ptp(intervals) > max(2, _REGULAR * intervals.mean()):
        raise InputError(
            f"{spikes!r} does not fire regularly: it has no phase",
            expected=f"intervals within {100 * _REGULAR:g}% of their mean",
            got=f"intervals of {intervals.min()} to {intervals.max()} steps",
            fix="settle longer, or take away noise and other inputs",
        )
    return _Cycle(int(fired[0]), float(intervals[:_CYCLES_AFTER].mean()))


def _advances(train: np.ndarray, kicked: int, cycle: _Cycle) -> tuple[float, float]:
    """Return by how many cycles the next spike and the one after it come early; NaN where there is none."""
    fired = np.flatnonzero(train)
    fired = fired[fired >= kicked]
    early = [1 + place - (step - cycle.start) / cycle.period for place, step in enumerate(fired[:2])]
    return tuple((early + [float("nan")] * 2)[:2])  # pyright: ignore[reportReturnType]


def _doubts(train: np.ndarray, begin: slice, axis: TimeAxis, advance: np.ndarray) -> tuple[str, ...]:
    intervals, silent = np.diff(np.flatnonzero(train[begin])), int(np.isnan(advance).sum())
    stopped = (f"no spike follows {silent} of {advance.size} kicks within the trial",) if silent else ()
    if np.ptp(intervals) <= 1:
        return stopped
    return (
        *stopped,
        f"intervals differ by up to {np.ptp(intervals)} time steps ({np.ptp(intervals) * axis.dt:.3g} {axis.unit}): "
        "the cell may not have settled, and advances are off by as much",
    )
