"""What `biological_training` finds: the network with all constraints beside those with one less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neuros_mechint.core.composite import CompositeResult
from neuros_mechint.core.figures.colours import MUTED_INK, PALETTE
from neuros_mechint.core.result import Result
from neuros_mechint.workflows.runs.in_short import InShort, told_in_short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FULL, WITHOUT_PRIOR, WITHOUT_LAW = "law and prior", "without prior", "without law"
"""The network with all constraints, and its two controls: same start, same trials, one constraint less."""

CAPTIONS = {
    "dynamics": "What the activity is like during training, with all constraints and with one less, on trials that "
    "choose when each network is best. The numbers at the end are of other trials, and differ a little.",
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
    ``final_dimension``, ``final_rate``, ``final_explained`` (of the variance of each output about its mean over trials
    at the same time), ``final_least_explained`` (of the output that does worst) and ``compliance``, the share of
    weights with the sign of their source; over ``part`` what each found first; and the data of all parts, their names
    preceded by that of the part. `parts` gives these as results of their own.
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


def in_short(result: BiologicalTraining, fingerprint: str) -> InShort:
    """Return what constraints did, in words and as fractions of a whole."""
    ends, target = result.data, float(result.attributes["target_slope"])

    def of(name: str, network: str) -> float:
        return float(ends[name].sel(network=network))

    sentences = [
        f"With all constraints {100 * of('compliance', FULL):.4g}% of the weights keep the sign of their source, "
        f"trained without the law {100 * of('compliance', WITHOUT_LAW):.4g}%.",
        f"The spectral slope of its rates is {of('final_slope', FULL):.2f} where {target:g} was asked for, and "
        f"{of('final_slope', WITHOUT_PRIOR):.2f} without the prior.",
        f"It explains {of('final_explained', FULL):.2f} of the variance of the answers; without the prior "
        f"{of('final_explained', WITHOUT_PRIOR):.2f}, without the law {of('final_explained', WITHOUT_LAW):.2f}.",
        *(f"But {text}." for text in result.warnings),
    ]
    fractions = {
        f"{what}, {name}": of(key, name)
        for what, key in (("answers explained", "final_explained"), ("signs kept", "compliance"))
        for name in (FULL, WITHOUT_PRIOR, WITHOUT_LAW)
    }
    about = {"long_name": "fraction", "units": ""}
    return told_in_short("fraction", fractions, about, sentences, fingerprint, result.citations)


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
