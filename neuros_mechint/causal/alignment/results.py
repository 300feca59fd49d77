"""How the alignment with brain regions changes when parts of a model are taken out, as a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from neuros_mechint.core.figures.plotting import PALETTE, axis_label, heat_map, interval_bars
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class CausalAlignment(Result):
    """The change in alignment with each region when each component is taken out.

    ``data`` holds ``effect`` over ``(component, region)``: alignment without the component minus alignment with it; its
    jackknife interval over stimuli ``low`` and ``high``; ``p`` against no change, and ``p_adjusted``; ``p_controls``,
    the share of random components of the same size that change as much, and ``p_controls_adjusted``; ``alignment``
    without the component; ``control`` over ``(component, region, control)``, the change by each random component (NaN
    where there are fewer); and over ``(region,)`` the ``baseline`` with ``baseline_low`` and ``baseline_high``.
    """

    @property
    def values(self) -> xr.DataArray:
        """Change in alignment, ``(component, region)``."""
        return self.data["effect"]

    def ranked(self) -> pd.DataFrame:
        """Return a table of components, the largest absolute change first."""
        return self.to_dataframe().sort_values("effect", key=abs, ascending=False, ignore_index=True)

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 7.0, float(np.clip(1.4 + 0.3 * self.data.sizes["component"], 2.6, 10))

    def _draw(self, ax: Axes) -> None:
        if self.data.sizes["region"] > 1:
            heat_map(self.values, ax, center=0)
            return
        one = self.data.isel(region=0)
        significant = one["p_adjusted"].values <= SIGNIFICANT
        bars = {"value": one["effect"], "low": one["low"], "high": one["high"]}
        interval_bars(one["component"].values.tolist(), bars, significant, ax)
        for row, controls in enumerate(np.atleast_2d(one["control"].values)):
            label = "random components of the same size" if row == 0 else None
            heights = (
                row + np.linspace(-0.25, 0.25, len(controls)) if len(controls) > 1 else np.full(len(controls), row)
            )
            ax.plot(controls, heights, "o", color=PALETTE[1], markersize=2.5, alpha=0.7, label=label, zorder=3)
        note = "dark: p <= 0.05 after correction" if significant.any() else "none has p <= 0.05 after correction"
        ax.set_xlabel(f"{axis_label(self.values)}\n{note}")
        if np.isfinite(one["control"].values).any():
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), frameon=False)

    def _summary_lines(self) -> list[str]:
        """Return the alignment and the largest changes."""
        lines = [
            f"{region}: alignment {float(base):.3f} [{float(low):.3f}, {float(high):.3f}]"
            for region, base, low, high in zip(
                self.data["region"].values,
                self.data["baseline"].values,
                self.data["baseline_low"].values,
                self.data["baseline_high"].values,
                strict=True,
            )
        ]
        for row in self.ranked().head(8).to_dict("records"):
            interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
            against = f"p = {row['p_adjusted']:.2g}, against random components {row['p_controls']:.2g}"
            lines.append(f"  {row['component']} on {row['region']}: {row['effect']:+.3f} {interval}, {against}")
        return lines
