"""What a comparison of complexity found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, interval_bars
from neuros_mechint.core.formatting import format_value
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_N_BINS = 20


class ComplexityComparison(Result):
    """A metric over the units of a model beside that over the units of a recording.

    ``data`` holds, over ``site``: ``hedges_g``, ``cliffs_delta`` and ``difference`` (model minus recording), each with
    ``_low`` and ``_high``, and ``_surrogate`` for signals of the same spectra with random phases; the permutation ``p``
    and ``p_adjusted``; and the distributions ``model`` over ``(site, model_unit)`` and ``recording`` over
    ``(site, recording_unit)``, NaN where a unit has no value.
    """

    @property
    def values(self) -> xr.DataArray:
        """Hedges' g of each site, ``(site,)``."""
        return self.data["hedges_g"]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.6 if self.values.size == 1 else round(float(np.clip(1.4 + 0.3 * self.values.size, 2.6, 8)), 1)

    def _draw(self, ax: Axes) -> None:
        data = self.data
        if self.values.size > 1:
            significant = (data["p_adjusted"] <= SIGNIFICANT).to_numpy()
            table = {"value": self.values, "low": data["hedges_g_low"], "high": data["hedges_g_high"]}
            interval_bars(list(map(str, data["site"].values)), table, significant, ax)
            ax.set_xlabel("Hedges' g, model minus recording (dark: p <= 0.05 after correction)")
            return
        sides = {side: data[side].values[0] for side in ("model", "recording")}
        sides = {side: values[np.isfinite(values)] for side, values in sides.items()}
        bins = np.histogram_bin_edges(np.concatenate(list(sides.values())), bins=_N_BINS).tolist()
        for color, (side, values) in zip(PALETTE, sides.items(), strict=False):
            label = f"{side}, {values.size} units"
            ax.hist(values, bins=bins, density=True, color=color, alpha=0.45, label=label)
            ax.axvline(float(values.mean()), color=color, linestyle="--", linewidth=1.4)
        ax.set_xlabel(str(data["model"].attrs["long_name"]).rpartition(", ")[0])
        ax.set_ylabel("density of units")
        g, low, high = (float(data[f"hedges_g{end}"][0]) for end in ("", "_low", "_high"))
        note = f"Hedges' g {g:.2f} [{low:.2f}, {high:.2f}], p = {float(data['p'][0]):.2g}"
        ax.legend(title=note, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2).get_title().set_color(MUTED_INK)

    def _summary_lines(self) -> list[str]:
        """Return both means, effect sizes with intervals and p of each site."""
        data, about = self.data, self.attributes
        lines = [f"matched in {about['match']}; intervals and tests {about['inference']}"]
        for index, site in enumerate(data["site"].values):
            one = data.isel(site=index)
            means = [float(one[side].mean()) for side in ("model", "recording")]
            rate = about["sampling_rate"][index]
            at = f" at {rate:g} Hz" if rate else ""
            lines.append(
                f"{site}: model {means[0]:.4g}, recording {means[1]:.4g}; {format_value(about['n_windows'][index])} "
                f"windows of {format_value(about['n_samples'][index])} samples{at}"
            )
            parts = []
            for name, text in (("hedges_g", "Hedges' g"), ("cliffs_delta", "Cliff's delta")):
                value, low, high = (float(one[f"{name}{end}"]) for end in ("", "_low", "_high"))
                parts.append(f"{text} {value:.3g} [{low:.3g}, {high:.3g}]")
            surrogate = float(one["hedges_g_surrogate"])
            parts.append(f"p = {float(one['p_adjusted']):.2g}")
            if np.isfinite(surrogate):
                parts.append(f"g of surrogates {surrogate:.3g}")
            lines.append("  " + ", ".join(parts))
        return lines
