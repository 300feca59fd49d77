"""What an ablation study found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from neuros_mechint.core.figures.colours import PALE
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label, draw, interval_bars
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BARS = 40


class AblationEffects(Result):
    """How the metric changes when each part is ablated.

    ``data`` holds ``effect`` over ``(site, ...)``: the mean change of the metric; its bootstrap interval ``low`` and
    ``high``, its sign-flip ``p`` and ``p_adjusted``; ``per_sample`` over ``(site, ..., sample)`` and ``baseline`` over
    ``(sample,)``.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean change of the metric, ``(site, ...)``."""
        return self.data["effect"]

    def ranked(self) -> pd.DataFrame:
        """Return a table of the parts, the largest absolute effect first."""
        table = self.to_dataframe().dropna(subset=["effect"])
        return table.sort_values("effect", key=abs, ascending=False, ignore_index=True)

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        shown = self.values.squeeze()
        if shown.size <= _MOST_BARS or shown.ndim < 2:
            return 6.6, round(float(np.clip(1.2 + 0.24 * min(shown.size, _MOST_BARS), 2.4, 8)), 1)
        return super().figure_size

    def _draw(self, ax: Axes) -> None:
        shown = self.values.squeeze()
        if shown.ndim > 1 and shown.size > _MOST_BARS:  # too many for bars with intervals
            draw(shown.to_dataset(name="effect"), ax)
            return
        table = self.ranked().head(_MOST_BARS)
        names = self._names(table)
        significant = (table["p_adjusted"] <= SIGNIFICANT).to_numpy()
        interval_bars(names, {"value": table["effect"], "low": table["low"], "high": table["high"]}, significant, ax)
        ax.set_xlabel(axis_label(self.values))
        if not significant.all():
            note = "dark: p <= 0.05 after correction" if significant.any() else "none has p <= 0.05 after correction"
            ax.set_title(note, loc="right", fontsize=8, fontweight="normal", color=MUTED_INK)

    def _names(self, table: pd.DataFrame) -> list[str]:
        """Return a name for each row: its site and entries, as far as they tell rows apart."""
        axes = [str(dim) for dim in self.values.dims if self.values.sizes[dim] > 1] or ["site"]
        labels = [table[axis].astype(str) if axis == "site" else f"{axis} " + table[axis].astype(str) for axis in axes]
        return [", ".join(parts) for parts in zip(*labels, strict=True)]

    def _summary_lines(self) -> list[str]:
        """Return the largest effects with their intervals."""
        table = self.ranked()
        lines = [
            f"baseline: {float(self.data['baseline'].mean()):.4g} {self.values.attrs.get('units', '')}",
            f"largest of {len(table)} effects, 95% interval, p after correction ({self.attributes['correction']}):",
        ]
        rows = table.head(8).to_dict("records")
        for name, row in zip(self._names(table), rows, strict=False):
            interval = f"[{row['low']:+.4g}, {row['high']:+.4g}]"
            lines.append(f"  {name}: {row['effect']:+.4g} {interval}, p = {row['p_adjusted']:.2g}")
        return lines


class AblationCurve(Result):
    """The metric as more and more parts are ablated together.

    ``data`` holds ``metric`` over ``(n_ablated,)`` with ``low`` and ``high``; ``random`` over ``(order, n_ablated)``,
    the same for parts in random order; ``per_sample`` over ``(n_ablated, sample)``; and ``part`` over ``(n_ablated,)``,
    what was ablated at each step (nothing at the first).
    """

    def _draw(self, ax: Axes) -> None:
        count = self.data["n_ablated"].values
        for index, row in enumerate(self.data["random"].values):
            ax.plot(count, row, color=PALE, linewidth=1, label=None if index else "random order")
        if self.data["low"].notnull().all():
            ax.fill_between(count, self.data["low"], self.data["high"], color=PALETTE[0], alpha=0.2, linewidth=0)
        ax.plot(
            count, self.main.values, color=PALETTE[0], marker="o" if count.size <= 24 else None, label="in this order"
        )
        ax.set_xlabel(axis_label(self.data["n_ablated"]))
        ax.set_ylabel(axis_label(self.main))
        ax.grid(axis="y")
        ax.legend()
