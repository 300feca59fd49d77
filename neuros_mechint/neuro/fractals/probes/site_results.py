"""What probes of complexity found, by site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, line
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_MOST_LINES = 16


class SiteComplexity(Result):
    """A metric of the signals at each site.

    ``data`` holds, over ``site``: ``value``, the mean; its bootstrap interval ``low`` and ``high``; ``n_constant``, how
    many signals are constant, and ``n_dead``, how many units are constant in every sample: both are left out. The
    distributions are ``per_sample`` over ``(site, sample)``, means over units, and ``per_unit`` over ``(site, unit)``,
    means over samples; sites with fewer units than others end in NaN. With controls, ``control`` is the mean of the
    same metric of the same values in random order, and ``p`` and ``p_adjusted`` the sign-flip test of the difference.

    ``attributes["inference"]`` says what was drawn anew: samples or units.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean at each site, ``(site,)``."""
        return self.data["value"]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 4.0

    def _draw(self, ax: Axes) -> None:
        data, x = self.data, np.arange(self.data.sizes["site"])
        if data.sizes["unit"] > 1:
            rows = [row[np.isfinite(row)] for row in data["per_unit"].values]
            low, high = np.array([np.quantile(row, [0.05, 0.95]) if row.size else [np.nan] * 2 for row in rows]).T
            ax.fill_between(x, low, high, color=PALETTE[0], alpha=0.12, linewidth=0, label="90% of the units")
        line(self.values, ax)
        ax.lines[-1].set_label("mean")
        if data["low"].notnull().any():
            error = np.stack([self.values - data["low"], data["high"] - self.values]).clip(0)
            label = f"{100 * self.attributes['level']:g}% interval {self.attributes['inference']}"
            ax.errorbar(x, self.values, error, fmt="none", ecolor=MUTED_INK, capsize=3, label=label)
        if "control" in data:
            ax.plot(x, data["control"], color=PALETTE[1], linestyle="--", linewidth=1.2, label="in random order")
        ax.set_xlim(-0.5, len(x) - 0.5)
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))

    def _summary_lines(self) -> list[str]:
        """Return the value of each site with its interval and control."""
        data, about = self.data, self.attributes
        lines = [f"mean, {100 * about['level']:g}% interval {about['inference']}:"]
        for index, site in enumerate(data["site"].values[:_MOST_LINES]):
            value, low, high = (float(data[name][index]) for name in ("value", "low", "high"))
            text = f"  {site}: {value:.4g}" + (f" [{low:.4g}, {high:.4g}]" if np.isfinite(low) else "")
            if "control" in data:
                p = float(data["p_adjusted"][index])
                text += f"; in random order {float(data['control'][index]):.4g}"
                text += f", p = {p:.2g}" if np.isfinite(p) else ""
            lines.append(text)
        more = data.sizes["site"] - _MOST_LINES
        if more > 0:
            lines.append(f"  and {more} more sites")
        if "control" in data and data["p_adjusted"].notnull().any():
            n_different = int((data["p_adjusted"] <= SIGNIFICANT).sum())
            lines.append(f"{n_different} of {data.sizes['site']} sites differ from their values in random order")
        return lines
