"""What `biological_training` finds: the network with all constraints beside those with one less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neuros_mechint.core.composite import CompositeResult
from neuros_mechint.core.figures.colours import MUTED_INK, PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FULL, WITHOUT_PRIOR, WITHOUT_LAW = "law and prior", "without prior", "without law"
"""The network with all constraints, and its two controls: same start, same trials, one constraint less."""

CAPTIONS = {
    "dynamics": "What the activity on test trials is like during training, with all constraints and with one less.",
    "training": "Losses and costs of the network with all constraints.",
    "signs": "Weights of the network with all constraints keep the signs of their sources.",
    "signs without law": "Weights of the same network, trained without the law, as a control.",
}
MEASURES = {
    "slope": "spectral slope of the rates",
    "dimension": "participation ratio of the rates",
    "rate": "mean rate",
}
"""What is measured of activity, and how it is called in figures."""


class BiologicalTraining(CompositeResult):
    """What constraints did to a network during its training, beside the same training with one constraint less.

    ``data`` holds over ``network`` (all constraints, and the two controls) the values at the end: ``final_slope``,
    ``final_dimension``, ``final_rate``, ``final_explained`` and ``compliance``, the share of weights with the sign of
    their source; over ``part`` what each found first; and the data of all parts, their names preceded by that of the
    part. `parts` gives these as results of their own.
    """

    drawn = "dynamics"
    captions = CAPTIONS

    def _summary_lines(self) -> Iterator[str]:
        for name in self.data["network"].values:
            one = self.data.sel(network=name)
            yield (
                f"{name}: {100 * float(one['compliance']):.4g}% of weights keep their source's sign, slope "
                f"{float(one['final_slope']):.2f} (target {self.attributes['target_slope']:g}), explained variance of "
                f"answers {float(one['final_explained']):.2f}, mean rate {float(one['final_rate']):.3g}"
            )


class TrackedDynamics(Result):
    """Activity on the same test trials again and again during training.

    ``data`` holds over ``(network, step)``: the spectral ``slope`` of the rates, their ``dimension`` (participation
    ratio), and the mean ``rate``. Step 0 is the start.
    """

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.8

    def _draw(self, ax: Axes) -> None:
        for name, colour in zip(self.data["network"].values, PALETTE, strict=False):
            one = self.data["slope"].sel(network=name)
            ax.plot(self.data["step"].values, one.values, color=colour, marker="o", markersize=4, label=str(name))
        ax.axhline(self.attributes["target_slope"], color=MUTED_INK, linestyle="--", linewidth=1, label="target")
        ax.set(xlabel="step of training", ylabel=MEASURES["slope"])
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    def _summary_lines(self) -> Iterator[str]:
        for name in self.data["network"].values:
            one = self.data.sel(network=name)
            told = [
                f"{key} {float(one[key][0]):.3g} to {float(one[key][-1]):.3g}" for key in ("slope", "dimension", "rate")
            ]
            yield f"{name}: {', '.join(told)}"
