"""A dose-response curve: how it is summed up, drawn and told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.core.figures.colours import PALE
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label
from neuros_mechint.core.random import generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import bootstrap_ci, times_drawn
from neuros_mechint.core.statistics.certainty import ROUNDING, without_rounding
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.core.statistics.sign_flips import sign_flip_p

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_N_RESAMPLES = 2000
_FEWEST_DEFINED = 0.9
"""An interval of the midpoint is given where at least this part of the resamples has one."""


class DoseResponse(Result):
    """The metric at every dose of an intervention.

    ``data`` holds ``response`` over ``(dose,)`` with its interval ``low`` and ``high``; ``p`` and ``p_adjusted``, the
    sign-flip test of the change from the untouched model; ``per_sample`` over ``(dose, sample)``; ``baseline`` over
    ``(sample,)``. With controls, ``control`` over ``(control, dose)`` and ``p_control`` over ``(dose,)``: the share of
    controls that change the metric as much, counting the intervention itself.

    ``attributes`` sum it up: ``monotonicity`` (Spearman's rank correlation of mean response and dose), ``slope`` (of
    the best straight line; ``slope_low``, ``slope_high``, ``slope_p`` over samples) and ``midpoint`` (the dose at which
    the mean first crosses the middle between its two ends; ``midpoint_low``, ``midpoint_high``). With controls,
    ``p_control`` compares the largest change at any dose with the largest change of each control.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean response at each dose, ``(dose,)``."""
        return self.data["response"]

    def change(self) -> xr.DataArray:
        """Return the mean difference from the untouched model at each dose, ``(dose,)``."""
        return self.values - float(self.data["baseline"].mean())

    def _draw(self, ax: Axes) -> None:
        dose = self.data["dose"].values
        marker = "o" if dose.size <= 24 else None
        if "control" in self.data:
            for index, row in enumerate(self.data["control"].values):
                label = None if index else f"{self.data.sizes['control']} random controls"
                ax.plot(dose, row, color=PALE, linewidth=1, label=label, zorder=1)
        if self.data["low"].notnull().all():
            ax.fill_between(dose, self.data["low"], self.data["high"], color=PALETTE[0], alpha=0.2, linewidth=0)
        ax.plot(dose, self.values, color=PALETTE[0], marker=marker, label="this intervention", zorder=3)
        ax.axhline(float(self.data["baseline"].mean()), color=MUTED_INK, linestyle=":", linewidth=1, label="untouched")
        midpoint = self.attributes["midpoint"]
        if midpoint is not None:
            ax.axvline(midpoint, color=PALETTE[1], linestyle="--", linewidth=1, label=f"midpoint {midpoint:.3g}")
        ax.set_xlabel(axis_label(self.data["dose"]))
        ax.set_ylabel(axis_label(self.main))
        ax.grid(axis="y")
        # below, because curves of either direction may fill every corner
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)

    def _summary_lines(self) -> list[str]:
        """Return the curve, its trend and how it compares with the controls."""
        found, units = self.attributes, self.main.attrs.get("units", "")
        baseline = float(self.data["baseline"].mean())
        ends = f"{self.main.values[0]:.4g} at {self.data['dose'].values[0]:.4g}"
        ends += f", {self.main.values[-1]:.4g} at {self.data['dose'].values[-1]:.4g}"
        lines = [
            f"response{f' ({units})' if units else ''}: {ends}; {baseline:.4g} untouched",
            f"monotonicity: {_number(found['monotonicity'])} (Spearman's rank correlation with the dose)",
            f"slope: {found['slope']:+.4g} per unit of dose" + _interval(found, "slope") + _p(found["slope_p"]),
            f"midpoint: {_number(found['midpoint'])}" + _interval(found, "midpoint"),
        ]
        if "control" in self.data:
            largest = np.abs(self.data["control"].values - baseline).max(1)
            lines.append(
                f"largest change at any dose: {float(abs(self.change()).max()):.4g}, of {largest.size} random controls "
                f"{largest.min():.4g} to {largest.max():.4g}, p = {found['p_control']:.2g}"
            )
        return lines

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.8


def curve_summary(doses: np.ndarray, per_sample: np.ndarray, seed: int) -> dict[str, float | None]:
    """Return what sums up a curve, as `DoseResponse` describes it; ``None`` for what is not defined.

    Parameters
    ----------
    doses : numpy.ndarray of shape (n_doses,)
        Ascending.
    per_sample : numpy.ndarray of shape (n_doses, n_samples)
    seed : int

    Examples
    --------
    >>> doses = np.linspace(0, 4, 5)
    >>> found = curve_summary(doses, 2 * doses[:, None] + np.zeros(6), seed=0)
    >>> round(found["slope"], 6), found["midpoint"], found["monotonicity"]
    (2.0, 2.0, 1.0)
    """
    mean = per_sample.mean(1)
    size = float(np.abs(per_sample).max())
    slopes = slopes_of(doses, per_sample)
    slopes = without_rounding(slopes * np.ptp(doses), size) / np.ptp(doses)
    found: dict[str, float | None] = {"monotonicity": monotonicity(doses, mean), "slope": float(slopes.mean())}
    found |= dict.fromkeys(("slope_low", "slope_high", "slope_p", "midpoint", "midpoint_low", "midpoint_high"))
    if per_sample.shape[1] < 2:
        return found | {"midpoint": midpoint(doses, mean)}
    low, high = bootstrap_ci(slopes, seed=seed)
    found |= {"slope_low": float(low), "slope_high": float(high), "slope_p": float(sign_flip_p(slopes, seed=seed))}
    if float(sign_flip_p(without_rounding(per_sample[-1] - per_sample[0], size), seed=seed)) <= SIGNIFICANT:
        found |= _midpoint_with_interval(doses, per_sample, seed)
    return found


def slopes_of(doses: np.ndarray, per_sample: np.ndarray) -> np.ndarray:
    """Return the slope of the straight line of least squares through each sample's curve, ``(n_samples,)``."""
    centred = doses - doses.mean()
    return centred @ per_sample / (centred @ centred)


def monotonicity(doses: np.ndarray, mean: np.ndarray) -> float | None:
    """Return Spearman's rank correlation, or ``None`` for a flat curve.

    Examples
    --------
    >>> monotonicity(np.arange(3.0), np.array([5.0, 2.0, 1.0]))
    -1.0
    """
    from scipy.stats import rankdata

    ranks = rankdata(mean)
    if np.ptp(ranks) == 0:
        return None
    return round(float(np.corrcoef(ranks, rankdata(doses))[0, 1]), 12)


def midpoint(doses: np.ndarray, mean: np.ndarray) -> float | None:
    """Return the first dose at which the curve, interpolated, is half way between its ends; ``None`` if they agree.

    Examples
    --------
    >>> midpoint(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.0, 4.0]))
    1.5
    """
    if abs(mean[-1] - mean[0]) <= ROUNDING * np.abs(mean).max():
        return None
    progress = (mean - mean[0]) / (mean[-1] - mean[0])
    after = int((progress >= 0.5).argmax())  # the last dose reaches 1, so there is one; the first stands at 0
    share = (0.5 - progress[after - 1]) / (progress[after] - progress[after - 1])
    return float(doses[after - 1] + share * (doses[after] - doses[after - 1]))


def _midpoint_with_interval(doses: np.ndarray, per_sample: np.ndarray, seed: int) -> dict[str, float | None]:
    n_samples = per_sample.shape[1]
    counts = times_drawn(n_samples, _N_RESAMPLES, generator(seed))
    drawn = [midpoint(doses, mean) for mean in (per_sample @ counts.T / n_samples).T]
    defined = [one for one in drawn if one is not None]
    found: dict[str, float | None] = {"midpoint": midpoint(doses, per_sample.mean(1))}
    if len(defined) >= _FEWEST_DEFINED * _N_RESAMPLES:
        low, high = np.quantile(defined, [0.025, 0.975])
        found |= {"midpoint_low": float(low), "midpoint_high": float(high)}
    return found


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _interval(found: Any, name: str) -> str:
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    return "" if low is None else f", 95% interval [{low:.4g}, {high:.4g}]"


def _p(p: float | None) -> str:
    return "" if p is None else f", p = {p:.2g}"
