"""What the ablation of time scales found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, axis_label, interval_bars
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


class ScaleAblation(Result):
    """How the metric changes when a band of time scales is taken out of an activation.

    ``data`` holds, over ``band``: ``effect``, the mean change of the metric, with its bootstrap interval over samples
    ``low`` and ``high``, its sign-flip ``p`` and ``p_adjusted``; ``energy``, the part of the activation's sum of
    squares that was removed; ``shortest`` and ``longest``, the periods. ``per_sample`` is over ``(band, sample)``,
    ``baseline`` over ``(sample,)``. With controls, ``control`` over ``(control, band)`` and ``p_control``: the share of
    controls that change the metric as much, counting the ablation itself.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean change of the metric, ``(band,)``."""
        return self.data["effect"]

    @property
    def beyond_controls(self) -> np.ndarray:
        """Which bands change the metric surely, and by more than controls of the same energy where there are any."""
        sure = (self.data["p_adjusted"] <= SIGNIFICANT).to_numpy()
        if "p_control" not in self.data:
            return sure
        return sure & (self.data["p_control"] <= self._level_of_controls).to_numpy()

    @property
    def _level_of_controls(self) -> float:
        return max(SIGNIFICANT, 1 / (self.data.sizes["control"] + 1))

    @property
    def _criterion(self) -> str:
        corrected = f"p <= {SIGNIFICANT} after correction"
        return corrected + (", and beyond controls" if "p_control" in self.data else "")

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, round(float(np.clip(1.6 + 0.36 * self.values.size, 2.6, 8)), 1)

    def _draw(self, ax: Axes) -> None:
        data = self.data
        names = [f"{band}\n{share:.0%} of energy" for band, share in self._shares()]
        significant = self.beyond_controls
        interval_bars(names, {"value": data["effect"], "low": data["low"], "high": data["high"]}, significant, ax)
        ax.tick_params(axis="y", labelsize=8)
        if "control" in data:
            rows = np.broadcast_to(np.arange(data.sizes["band"]), data["control"].shape)
            label = f"{data.sizes['control']} controls of the same energy"
            ax.scatter(
                data["control"], rows, s=12, facecolor="white", edgecolor=MUTED_INK, lw=0.8, label=label, zorder=3
            )
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))
        ax.set_xlabel(axis_label(self.values))
        ax.set_ylabel(axis_label(data["band"]))
        ax.set_title(f"dark: {self._criterion}", loc="right", fontsize=8, fontweight="normal", color=MUTED_INK)
        ax.set_title(self.title, loc="left", wrap=True)

    def _shares(self) -> list[tuple[str, float]]:
        return list(zip(self.data["band"].values.tolist(), self.data["energy"].values.tolist(), strict=True))

    def _summary_lines(self) -> list[str]:
        """Return the effect of each band with its interval, its energy and how controls compare."""
        data, about = self.data, self.attributes
        units = self.values.attrs.get("units", "")
        lines = [
            f"baseline: {float(data['baseline'].mean()):.4g} {units}".rstrip(),
            f"{about['method']} bands along {about['axis']} ({data['band'].attrs['long_name']}), 95% interval over "
            f"{data.sizes['sample']} samples, p after correction ({about['correction']}):",
        ]
        for index, (band, share) in enumerate(self._shares()):
            row = {name: float(data[name][index]) for name in ("effect", "low", "high", "p_adjusted")}
            line = (
                f"  {band}: {row['effect']:+.4g} [{row['low']:+.4g}, {row['high']:+.4g}], p = {row['p_adjusted']:.2g}"
            )
            line += f", {share:.1%} of energy"
            if "p_control" in data:
                line += f", against controls p = {float(data['p_control'][index]):.2g}"
            lines.append(line)
        mattering = self.data["band"].values[self.beyond_controls].tolist()
        return [*lines, f"bands that matter ({self._criterion}): {', '.join(mattering) or 'none'}"]
