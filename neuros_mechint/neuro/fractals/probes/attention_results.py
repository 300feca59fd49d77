"""The box dimensions of attention graphs, by layer and head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import INK, heat_map
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_MOST_LINES = 12


class AttentionFractality(Result):
    """Box dimension of the attention graph of each head.

    ``data`` holds, over ``(site, head)``: ``dimension``, the mean over samples, with its bootstrap interval ``low`` and
    ``high``; ``power_law``, in which share of the samples a power law describes the number of boxes better than an
    exponential one; ``diameter`` of the graph, on average; and ``per_sample`` over ``(site, head, sample)``. With
    controls, ``control`` is the mean dimension of random patterns, and ``p`` and ``p_adjusted`` the sign-flip test of
    the difference over samples.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean dimension, ``(site, head)``."""
        return self.data["dimension"]

    def _draw(self, ax: Axes) -> None:
        heat_map(self.values, ax)
        if "p_adjusted" not in self.data:
            return
        for site, head in np.argwhere((self.data["p_adjusted"] <= SIGNIFICANT).values):
            ax.plot(head, site, "o", markersize=7, markerfacecolor="white", markeredgecolor=INK)
        ax.set_xlabel("head\n(dots: differs from random patterns, p <= 0.05 after correction)")

    def _summary_lines(self) -> list[str]:
        """Return the heads whose dimension is farthest from that of random patterns."""
        data = self.data
        dimension = data["dimension"].values
        lines = [
            f"mean dimension {np.nanmean(dimension):.3f} over {int(np.isfinite(dimension).sum())} heads that have one"
            if np.isfinite(dimension).any()
            else "no head has a dimension",
            f"mean diameter {float(data['diameter'].mean()):.3g}; boxes follow a power law rather than an "
            f"exponential in {float(data['power_law'].mean()):.0%} of the graphs",
        ]
        distance = np.abs(dimension - data["control"].values) if "control" in data else dimension
        if "control" in data:
            n_different = int((data["p_adjusted"] <= SIGNIFICANT).sum())
            lines.append(
                f"{n_different} heads differ from random patterns (p <= 0.05 after correction); farthest first:"
            )
        ordered = np.argsort(np.where(np.isfinite(distance), -distance, np.inf), axis=None)
        for place in ordered[: min(_MOST_LINES, int(np.isfinite(distance).sum()))]:
            lines.append(self._line(*np.unravel_index(place, dimension.shape)))
        return lines

    def _line(self, site: np.intp, head: np.intp) -> str:
        one = self.data.isel(site=int(site), head=int(head))
        value, low, high = (float(one[name]) for name in ("dimension", "low", "high"))
        text = f"  {one['site'].item()}, head {one['head'].item()}: {value:.3f} [{low:.3f}, {high:.3f}]"
        if "control" in one:
            text += f", random {float(one['control']):.3f}, p = {float(one['p_adjusted']):.2g}"
        return text
