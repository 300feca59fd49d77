"""Results of the guided tours, each with a drawing of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.plotting import INK, PALETTE, SEQUENTIAL
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEADS_PER_ROW = 4
_GAP = 3


class AttentionPatterns(Result):
    """Attention of every head on one sequence: ``pattern`` over ``(layer, head, query, key)``."""

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 1.0 + 1.7 * self.main.sizes["layer"] * -(-self.main.sizes["head"] // _HEADS_PER_ROW)

    def _draw(self, ax: Axes) -> None:
        values = self.main.values
        n_layers, n_heads, n_queries, n_keys = values.shape
        columns = min(n_heads, _HEADS_PER_ROW)
        rows_per_layer = -(-n_heads // columns)
        height, width = n_queries + _GAP + 3, n_keys + _GAP
        canvas = np.full((n_layers * rows_per_layer * height, columns * width - _GAP), np.nan)
        for layer in range(n_layers):
            for head in range(n_heads):
                top = (layer * rows_per_layer + head // columns) * height + 3
                left = (head % columns) * width
                canvas[top : top + n_queries, left : left + n_keys] = values[layer, head]
                ax.text(left, top - 1, f"layer {layer}, head {head}", fontsize=8, va="bottom")
        colours = SEQUENTIAL.with_extremes(bad="none")  # the gaps between heads are no data
        image = ax.imshow(canvas, cmap=colours, vmin=0, vmax=1, aspect="equal")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel("attends to (position) →")
        ax.set_ylabel("← from (position)")
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.figure.colorbar(image, ax=ax, label="attention weight", fraction=0.03, pad=0.02)


class StateTrajectories(Result):
    """States of a recurrent network in the plane of most variance: ``state`` over ``(trial, time, component)``.

    ``memory`` over ``(trial, time)`` numbers what the network should remember; it gives the colour.
    """

    def _draw(self, ax: Axes) -> None:
        states, memory = self.main.values, self.data["memory"].values
        for trial in states:
            ax.plot(trial[:, 0], trial[:, 1], color="0.8", linewidth=0.5, zorder=1)
        for value in np.unique(memory):
            chosen = memory == value
            colour = (*PALETTE, INK)[int(value) % 8]
            label = str(self.data["memory_name"].values[int(value)])
            ax.scatter(*states[chosen][:, :2].T, s=7, color=colour, label=label, linewidths=0, zorder=2)
        variance = self.data["explained_variance"].values
        ax.set_xlabel(f"principal component 1 ({variance[0]:.0%} of variance)")
        ax.set_ylabel(f"principal component 2 ({variance[1]:.0%} of variance)")
        ax.set_aspect("equal", adjustable="datalim")
        ax.legend(title="bits to remember", ncols=2, markerscale=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
