"""An f-I curve: how it is drawn and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.colours import PALE
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_MOST_CELLS_DRAWN = 50


class FICurve(Result):
    """Rates against injected current.

    ``data`` holds over ``(current,)`` the mean ``rate`` (number of spikes by time) with its interval ``low`` and
    ``high`` over trials, or over cells where there is one trial; NaN for one cell in one trial. Over
    ``(current, unit)``: ``unit_rate``, each cell's own; ``interval_rate``, one by its mean interval, exact to a time
    step for regular cells and NaN below two spikes; and ``n_spikes`` of the whole trial, before ``settle`` too. Over
    ``(unit,)`` the currents between which a cell begins to fire at all, ``rheobase_low`` and ``rheobase_high``, and to
    fire twice or more after ``settle``, ``repetitive_low`` and ``repetitive_high``; NaN where the currents do not tell.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean rate at each current, ``(current,)``."""
        return self.data["rate"]

    @property
    def rheobase(self) -> float:
        """Middle of the two currents between which a cell begins to fire, averaged over cells; NaN if not known."""
        middle = (self.data["rheobase_low"] + self.data["rheobase_high"]) / 2
        return float(middle.mean()) if bool(middle.notnull().any()) else float("nan")

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.8

    @property
    def _by_intervals(self) -> Floats:
        """Mean over the cells that fire twice or more of one by the mean interval; NaN where none does."""
        each = self.data["interval_rate"].values
        firing = np.isfinite(each)
        total = np.where(firing, each, 0).sum(1)
        return np.where(firing.any(1), total / np.maximum(firing.sum(1), 1), np.nan)

    def _draw(self, ax: Axes) -> None:
        currents, rates = self.data["current"].values, self.data["unit_rate"].values
        if rates.shape[1] > 1:
            shown = rates[:, :_MOST_CELLS_DRAWN]
            for number, column in enumerate(shown.T):
                ax.plot(currents, column, color=PALE, linewidth=0.8, label=None if number else "single cells")
        if self.data["low"].notnull().all():
            ax.fill_between(currents, self.data["low"], self.data["high"], color=PALETTE[0], alpha=0.2, linewidth=0)
        ax.plot(currents, self.values, color=PALETTE[0], marker="o" if currents.size <= 24 else None, label="rate")
        if np.isfinite(self._by_intervals).any():
            ax.plot(currents, self._by_intervals, color=PALETTE[1], linestyle="--", label="1 / mean interval")
        ends = (float(self.data[f"rheobase_{end}"].mean()) for end in ("low", "high"))
        low, high = ends
        if np.isfinite([low, high]).all():
            ax.axvspan(low, high, color=MUTED_INK, alpha=0.2, linewidth=0, label="rheobase")
        ax.set_xlabel(axis_label(self.data["current"]))
        ax.set_ylabel(axis_label(self.main))
        ax.grid(axis="y")
        ax.legend(loc="upper left")

    def _summary_lines(self) -> list[str]:
        """Return rates at both ends, and where firing begins."""
        unit, current = self.main.attrs["units"], f" {self.attributes['current_unit']}".rstrip()
        currents, rates = self.data["current"].values, self.values.values
        lines = [f"rate: {rates[0]:.4g} at {currents[0]:.4g}, {rates[-1]:.4g} {unit} at {currents[-1]:.4g}{current}"]
        if np.isfinite(self._by_intervals[-1]):
            lines[0] += f" ({self._by_intervals[-1]:.4g} by the mean interval)"
        for kind, text in (("rheobase", "rheobase"), ("repetitive", "repetitive firing")):
            low, high = (self.data[f"{kind}_{end}"].values for end in ("low", "high"))
            known = np.isfinite(low) & np.isfinite(high)
            between = (
                f"between {low[known].min():.4g} and {high[known].max():.4g}{current}" if known.any() else "not found"
            )
            lines.append(f"{text}: {between} ({known.sum()} of {known.size} cells)")
        return lines
