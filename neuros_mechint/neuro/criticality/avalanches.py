"""Avalanches: runs of activity above a threshold, with silence before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.figures.plotting import PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.criticality.population import population
from neuros_mechint.neuro.criticality.rules import (
    binned,
    describe_bins,
    describe_threshold,
    resolve_bins,
    resolve_threshold,
    upward_crossings,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW = 100


class Avalanches(Result):
    """Avalanches in the order of their trials and starts.

    ``data`` holds, over ``avalanche``: ``size``, the activity above the threshold summed up; ``duration`` in bins;
    ``start``, the first bin within its ``trial``; ``first_step``, where its shape begins; and over ``step`` the
    ``profile``: the activity above the threshold in each bin of one avalanche after the other.
    """

    @property
    def sizes(self) -> np.ndarray:
        """Size of each avalanche."""
        return self.main.values

    @property
    def durations(self) -> np.ndarray:
        """Duration of each avalanche, in bins."""
        return self.data["duration"].values

    @property
    def shapes(self) -> list[np.ndarray]:
        """Activity above the threshold in every bin of each avalanche."""
        return np.split(self.data["profile"].values, self.data["first_step"].values[1:])

    def _draw(self, ax: Axes) -> None:
        for index, (name, units) in enumerate((("size", self.main.attrs["units"]), ("duration", "bins"))):
            values = np.sort(self.data[name].values)
            found, first = np.unique(values, return_index=True)
            ax.plot(found, 1 - first / values.size, "o", color=PALETTE[index], label=f"{name} ({units})")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("size or duration")
        ax.set_ylabel("share at least as large")
        ax.grid()
        ax.legend()

    def _summary_lines(self) -> list[str]:
        """Return how many avalanches there are, how large, and by which rules."""
        about = self.attributes
        seconds = "" if about["bin_seconds"] is None else f" = {about['bin_seconds']:g} s"
        return [
            f"{self.sizes.size} avalanches in {about['n_trials']} trials of {about['n_bins']} bins, "
            f"{about['n_cut_off']} more left out because a border cuts them off",
            f"size: median {np.median(self.sizes):g}, largest {self.sizes.max():g} {self.main.attrs['units']}; "
            f"duration: median {np.median(self.durations):g}, longest {self.durations.max()} bins",
            f"threshold: {about['threshold_rule']}; bins: {about['bin_rule']}, {about['bin_width']} samples{seconds}",
        ]


class _Runs(NamedTuple):
    """Complete runs above the threshold: their trials, first bins, lengths, and the activity in them."""

    trial: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    duration: npt.NDArray[np.int64]
    profile: Floats
    n_cut_off: int


def detect_avalanches(
    activity: Any,
    threshold: float | tuple[str, float] = 0.0,
    bin_width: int | str = 1,
    threshold_on: str = "population",
) -> Avalanches:
    r"""Return the avalanches of a population: runs of bins above a threshold, between bins that are not above it.

    The activity :math:`a_t` of all units is summed up in each bin. A run of :math:`T` bins with
    :math:`a_t > \theta`, with a bin at or below :math:`\theta` of the same trial on either side, is an avalanche of
    duration :math:`T` and size :math:`\sum (a_t - \theta)`. Runs that touch the first or last bin of a trial are left
    out, because their sizes are not known, and counted.

    Parameters
    ----------
    activity : array_like, torch.Tensor, xarray.DataArray or Recording
        Spike counts or a continuous signal: ``(time,)`` of the population, ``(unit, time)``, or labelled with an axis
        ``time``, where all axes but those of units are trials. Avalanches never cross borders of trials.
    threshold : float or (str, float)
        A number; ``("quantile", q)``; ``("median", f)``, f times the median; ``("sd", k)``, k standard deviations
        above the mean; of the binned population, over all trials.
    bin_width : int or "mean_interval"
        Samples per bin, or the mean interval between successive samples with events in the population, rounded
        (at least 1). Samples that do not fill a last bin are left out.
    threshold_on : {"population", "units"}
        ``"units"``: the threshold, found for each unit by itself, turns a continuous signal into events, one wherever
        the unit rises above it; avalanches are then runs of bins with any event, and sizes numbers of events.

    Returns
    -------
    Avalanches

    Raises
    ------
    InputError
        Negative counts, values that are missing, activity that does not vary, is never above the threshold or never
        at rest, no complete avalanche, or trials shorter than three bins.
    OptionError
        An unknown rule.

    References
    ----------
    Beggs and Plenz 2003, Neuronal Avalanches in Neocortical Circuits, doi:10.1523/JNEUROSCI.23-35-11167.2003;
    Villegas, di Santo, Burioni and Munoz 2019, Time-series thresholding and the definition of avalanche size,
    doi:10.1103/PhysRevE.100.012133

    Examples
    --------
    >>> found = detect_avalanches([0, 1, 2, 0, 0, 3, 0, 1])
    >>> found.sizes.tolist(), found.durations.tolist(), found.attributes["n_cut_off"]
    ([3, 3], [2, 1], 1)
    """
    check_option("threshold_on", threshold_on, ("population", "units"))
    given = population(activity)
    if threshold_on == "units":
        summed, counts = upward_crossings(given.values, threshold).sum(axis=1, dtype=np.float64), True
        if not summed.any():
            raise InputError(
                "no unit ever rises above its threshold", got=describe_threshold(threshold), fix="lower the threshold"
            )
    else:
        summed, counts = given.summed(), given.counts
    width = resolve_bins(bin_width, summed, counts)
    in_bins = binned(summed, width)
    theta = 0.0 if threshold_on == "units" else resolve_threshold(threshold, in_bins)
    runs = _runs(in_bins, theta)
    rule = "at least one event of a unit, " if threshold_on == "units" else ""
    attributes = {
        "threshold": theta,
        "threshold_rule": rule + describe_threshold(threshold),
        "threshold_on": threshold_on,
        "bin_width": width,
        "bin_rule": describe_bins(bin_width),
        "bin_seconds": None if given.sampling_rate is None else width / given.sampling_rate,
        "n_trials": in_bins.shape[0],
        "n_bins": in_bins.shape[1],
        "n_cut_off": runs.n_cut_off,
        "n_samples_left_out": summed.size - in_bins.size * width,
    }
    few = (f"only {runs.start.size} avalanches: too few for exponents",) if runs.start.size < _FEW else ()
    return Avalanches(
        _dataset(runs, "events" if counts else "units of the signal x bins", counts and theta == round(theta)),
        "Avalanches",
        attributes=attributes,
        provenance=Provenance.record(
            arguments={
                "activity": given.values,
                "threshold": threshold,
                "bin_width": bin_width,
                "threshold_on": threshold_on,
            }
        ),
        citations=("beggs2003", "villegas2019"),
        warnings=few,
    )


def _runs(values: Floats, theta: float) -> _Runs:
    """Return the runs above a threshold that no border cuts off."""
    above = values > theta
    if not above.any():
        raise InputError(
            "the activity is never above the threshold", got=f"threshold {theta:g}, highest activity {values.max():g}"
        )
    if above.all():
        raise InputError(
            "the activity is never at rest",
            expected="bins at or below the threshold, which part avalanches",
            got=f"threshold {theta:g}, lowest activity {values.min():g}",
            fix="use smaller bins or a higher threshold, such as ('quantile', 0.35)",
        )
    edge = np.zeros((len(above), 1), dtype=bool)
    change = np.diff(np.concatenate([edge, above, edge], axis=1).astype(np.int8), axis=1)
    trial, start = np.nonzero(change == 1)
    end = np.nonzero(change == -1)[1]  # of the same runs: both are in the order of trials and bins
    complete = (start > 0) & (end < values.shape[1])
    if not complete.any():
        raise InputError(
            "there is no complete avalanche",
            expected="activity with bins at rest before and after it",
            got=f"{start.size} runs above the threshold, all cut off by the borders of trials",
        )
    trial, start, end = trial[complete], start[complete], end[complete]
    inside = np.zeros((values.shape[0], values.shape[1] + 1), dtype=np.int8)
    inside[trial, start] = 1
    inside[trial, end] -= 1
    profile = values[np.cumsum(inside, axis=1)[:, :-1] > 0] - theta
    return _Runs(trial, start, end - start, profile, int((~complete).sum()))


def _dataset(runs: _Runs, units: str, whole_numbers: bool) -> xr.Dataset:
    first = np.cumsum(runs.duration) - runs.duration
    sizes, profile = np.add.reduceat(runs.profile, first), runs.profile
    if whole_numbers:
        sizes, profile = (np.round(values).astype(np.int64) for values in (sizes, profile))
    return xr.Dataset(
        {
            "size": ("avalanche", sizes, {"long_name": "size", "units": units}),
            "duration": ("avalanche", runs.duration, {"long_name": "duration", "units": "bins"}),
            "start": ("avalanche", runs.start, {"long_name": "first bin", "units": "bins"}),
            "trial": ("avalanche", runs.trial, {"long_name": "trial", "units": "1"}),
            "first_step": ("avalanche", first, {"long_name": "first step of the profile", "units": "bins"}),
            "profile": ("step", profile, {"long_name": "activity above the threshold", "units": units}),
        }
    )
