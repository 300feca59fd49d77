"""Results of the guided tours, each with a drawing of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.colours import SEQUENTIAL
from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE, line
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEADS_PER_ROW = 4
_GAP = 3
_VIEW_AZIMUTH, _VIEW_ELEVATION = np.deg2rad(28), np.deg2rad(18)


class AccuracyByLag(Result):
    """Accuracy over ``(lag,)``, with ``chance`` among the attributes."""

    def _draw(self, ax: Axes) -> None:
        line(self.main, ax)
        ax.axhline(self.attributes["chance"], color=MUTED_INK, linestyle="--", linewidth=1)
        ax.text(self.main["lag"].values[-1], self.attributes["chance"] + 0.02, "chance", ha="right", fontsize=9)
        ax.set_ylim(0, 1.05)


class AttentionPatterns(Result):
    """Attention of every head on one sequence: ``pattern`` over ``(layer, head, query, key)``."""

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 0.9 + 1.35 * self.main.sizes["layer"] * -(-self.main.sizes["head"] // _HEADS_PER_ROW)

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
        ax.set_xlabel("row: the position that looks; column: the position it looks at")
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.figure.colorbar(image, ax=ax, label="attention weight", fraction=0.03, pad=0.02)

    def _summary_lines(self) -> Iterator[str]:
        yield f"heads: {self.main.sizes['layer']} layers of {self.main.sizes['head']}"
        yield f"positions: {self.main.sizes['query']}"


class StateTrajectories(Result):
    """States of a recurrent network along what its outputs read: ``state`` over ``(trial, time, component)``.

    ``memory`` over ``(trial, time)`` numbers what the network should remember, ``memory_name`` names it, and
    ``settled`` says where no pulse has just arrived.
    """

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 4.2

    def _draw(self, ax: Axes) -> None:
        states, memory = _view(self.main.values), self.data["memory"].values
        settled = self.data["settled"].values
        for trial in states:
            ax.plot(*trial.T, color="0.85", linewidth=0.5, zorder=1)
        for value in np.unique(memory):
            colour = (*PALETTE, INK)[int(value) % 8]
            name = str(self.data["memory_name"].values[int(value)]).replace("-", "−")
            ax.scatter(*states[(memory == value) & settled].T, s=8, color=colour, label=name, linewidths=0, zorder=2)
        variance = float(self.data["explained_variance"].sum())
        ax.set_xlabel(f"the three read-out directions ({variance:.0%} of variance), seen at an angle")
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.set_aspect("equal", adjustable="datalim")
        ax.legend(title="bits to remember", ncols=2, markerscale=2, loc="center left", bbox_to_anchor=(1.0, 0.5))

    def _summary_lines(self) -> Iterator[str]:
        yield f"sign correct while remembering: {self.attributes['accuracy_while_remembering']:.2%}"
        yield f"variance along the read-outs: {float(self.data['explained_variance'].sum()):.0%}"
        yield f"states: {self.main.sizes['trial']} trials of {self.main.sizes['time']} time steps"


def _view(states: np.ndarray) -> np.ndarray:
    """Project three components onto the plane of a fixed oblique view, so that no corner of a cube hides another."""
    x, y, z = np.moveaxis(states, -1, 0)
    across = x * np.cos(_VIEW_AZIMUTH) - y * np.sin(_VIEW_AZIMUTH)
    depth = x * np.sin(_VIEW_AZIMUTH) + y * np.cos(_VIEW_AZIMUTH)
    return np.stack([across, z * np.cos(_VIEW_ELEVATION) + depth * np.sin(_VIEW_ELEVATION)], axis=-1)
