"""How well a shared space holds, as a result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.colours import PALE
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class SharedSpaceScores(Result):
    """Agreement of recordings in a shared space, for stimuli that it was not made from.

    ``data`` holds ``correlation`` over ``(pair, component)`` and ``prediction`` over ``(source, target)``: the mean
    correlation of the responses of the target with those that the source lets expect.
    """

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.2

    def _summary_lines(self) -> Iterator[str]:
        agreement, prediction = self.data["correlation"], self.data["prediction"]
        yield f"held-out correlation: {float(agreement.mean()):.3f} on average over pairs and components"
        for component in agreement["component"].values:
            values = agreement.sel(component=component)
            spread = f" ({float(values.min()):.3f} to {float(values.max()):.3f})" if values.size > 1 else ""
            yield f"component {component}: {float(values.mean()):.3f}{spread}"
        for source in prediction["source"].values:
            for target in prediction["target"].values:
                if source != target:
                    yield f"{source} predicts {target}: {float(prediction.sel(source=source, target=target)):.3f}"

    def _draw(self, ax: Axes) -> None:
        agreement = self.data["correlation"]
        component = agreement["component"].values
        for row in agreement.values:
            ax.plot(component, row, color=PALE, linewidth=1, marker=".")
        ax.plot(component, agreement.mean("pair"), color=PALETTE[0], marker="o", label="mean of pairs")
        ax.axhline(0, color=MUTED_INK, linewidth=0.8)
        ax.set_xticks(component if component.size <= 20 else np.linspace(1, component.size, 8).astype(int))
        ax.set_xlabel(axis_label(agreement["component"]))
        ax.set_ylabel(axis_label(agreement))
        ax.legend()
