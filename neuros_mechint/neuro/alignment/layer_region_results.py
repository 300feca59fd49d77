"""Every layer of a model against every region of a brain, as a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label, heat_map, line
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LINES = 5


class LayerRegionMap(Result):
    """How well each layer explains each region, and which layer is best without having been judged on the same data.

    ``data`` holds ``score`` over ``(site, region)``; ``fold_score`` over ``(site, region, fold)``, on the stimuli that
    were held out in each fold, and ``choice_score``, on those that were not; ``chosen`` over ``(region, fold)``, the
    layer that is best by the latter; ``nested_score`` over ``(region,)``, what the chosen layers reach on the stimuli
    held out; ``naive_score``, the best of the means over folds; ``ceiling`` over ``(bound, region)``, NaN where it is
    not known.
    """

    @property
    def choices(self) -> xr.DataArray:
        """Share of the folds in which each layer was chosen, ``(region, site)``."""
        sites = self.data["site"].values
        shares = (self.data["chosen"].values[:, :, None] == sites).mean(1)
        coords = {"region": self.data["region"].values, "site": sites}
        return xr.DataArray(shares, coords, ("region", "site"), name="choices", attrs={"long_name": "share of folds"})

    def best_layer(self) -> pd.DataFrame:
        """Return one row per region: the layer chosen most often, in which share of folds, scores and ceilings.

        Report ``nested_score``: ``naive_score`` is the highest of many scores, and so too high.
        """
        choices, scores = self.choices.values, self.main.values.T
        # of layers that were chosen as often, the one of the higher score
        best = [np.lexsort((score, share))[-1] for score, share in zip(scores, choices, strict=True)]
        rows = np.arange(len(best))
        return pd.DataFrame(
            {
                "region": self.data["region"].values,
                "layer": self.data["site"].values[best],
                "share": choices[rows, best],
                "nested_score": self.data["nested_score"].values,
                "naive_score": self.data["naive_score"].values,
                "lower": self.data["ceiling"].sel(bound="lower").values,
                "upper": self.data["ceiling"].sel(bound="upper").values,
            }
        )

    def _summary_lines(self) -> list[str]:
        """Return the best layer of each region in words."""
        n_folds = self.data.sizes["fold"]
        lines = [f"{self.attributes['method']}, {self.attributes['n_stimuli']} stimuli, {n_folds} folds"]
        table = self.best_layer()
        ceilings = table[["lower", "upper"]].to_numpy(dtype=float)
        for number, (region, layer, share, score) in enumerate(
            zip(*(table[name].tolist() for name in ("region", "layer", "share", "nested_score")), strict=True)
        ):
            text = f"{region}: {layer} ({round(share * n_folds)} of {n_folds} folds), held out {score:.3f}"
            low, high = ceilings[number].tolist()
            lines.append(text + (f", ceiling {low:.3f} to {high:.3f}" if np.isfinite(ceilings[number]).all() else ""))
        return lines

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        width = float(np.clip(2.5 + 0.3 * self.data.sizes["site"], 6.0, 14.0))
        if self.data.sizes["region"] <= _MOST_LINES:
            return width, 3.8
        return width, float(np.clip(1.5 + 0.3 * self.data.sizes["region"], 3.0, 12.0))

    def _draw(self, ax: Axes) -> None:
        best = [int(np.flatnonzero(self.data["site"].values == layer)[0]) for layer in self.best_layer()["layer"]]
        if self.data.sizes["region"] <= _MOST_LINES:
            self._draw_lines(ax, best)
            return
        heat_map(self.main.transpose("region", "site"), ax, units=self.main.attrs.get("units"))
        ax.plot(best, range(len(best)), linestyle="none", marker="o", markersize=4, color="white", markeredgecolor="k")
        ax.set_title(f"{self.title} (dots: chosen most often)")

    def _draw_lines(self, ax: Axes, best: list[int]) -> None:
        scores, ceilings = self.main.transpose("region", "site"), self.data["ceiling"]
        drawn = line(scores, ax, along="site")
        several = len(drawn) > 1
        for number, (curve, place) in enumerate(zip(drawn, best, strict=True)):
            colour = PALETTE[number % len(PALETTE)]
            curve.set(color=colour, marker="o", markersize=4, label=str(scores["region"].values[number]))
            ax.plot(place, scores.values[number, place], "*", color=colour, markersize=13, markeredgecolor="white")
            low, high = ceilings.sel(bound="lower").values[number], ceilings.sel(bound="upper").values[number]
            shade = colour if several else MUTED_INK
            if np.isfinite([low, high]).all():
                ax.axhspan(low, high, color=shade, alpha=0.10 if several else 0.2, linewidth=0, zorder=0)
            for bound, style in ((low, ":"), (high, "--")):
                if np.isfinite(bound):
                    ax.axhline(bound, color=shade, linewidth=1, linestyle=style, zorder=1)
        ax.axhline(0, color=MUTED_INK, linewidth=0.8)
        ax.plot([], [], "*", color=MUTED_INK, markersize=10, label="chosen most often")
        if np.isfinite(ceilings.values).any():
            ax.plot([], [], color=MUTED_INK, linewidth=1, linestyle="--", label="upper ceiling")
            ax.plot([], [], color=MUTED_INK, linewidth=1, linestyle=":", label="lower ceiling")
        ax.set_ylabel(axis_label(self.main))
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
