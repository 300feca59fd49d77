"""What `biological_training` finds: the network with all constraints beside those with one less."""

from __future__ import annotations

import math
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
    "dynamics": "Slope of the spectrum of the rates, with all constraints and with one less, measured again and again "
    "on trials that are drawn apart from those of the training. Ring: the weights that are kept, those that did best "
    "on yet other trials; what is told of a network after training is measured there, on the same trials. The slope is "
    "that of the line that fits the logarithms of power and frequency best, which any spectrum has, whether it is a "
    "power law or not.",
    "training": "Losses and costs of the network with all constraints. The fractal loss is the squared distance of "
    "each unit's slope from the target, which is more than that of the mean slope; the lowest validation loss, on "
    "trials that are drawn apart, says which weights are kept.",
    "signs": "Weights of the network with all constraints keep the signs of their sources.",
    "signs without law": "Weights of the same network, trained without the law, as a control.",
}
MEASURES = {
    "slope": "spectral slope of the rates",
    "dimension": "participation ratio of the rates",
    "rate": "mean rate",
}
"""What is measured of activity, and how it is called in figures."""

_BY_LAW = " (as the law lets no weight change its sign: a check of the training, and no finding)"
_ERRORS = 2.0  # standard errors from the target that are told


class BiologicalTraining(CompositeResult):
    """What constraints did to a network during its training, beside the same training with one constraint less.

    ``data`` holds over ``network`` (all constraints, and the two controls) the values after training, of the weights
    that are kept: ``final_slope`` and its standard error ``final_slope_error``, ``final_dimension``, ``final_rate``,
    ``final_explained`` (of the variance of each output about its mean over trials at the same time),
    ``final_least_explained`` (of the output that does worst) and ``compliance``, the share of weights with the sign of
    their source; over ``part`` what each found first; and the data of all parts, their names preceded by that of the
    part. `parts` gives these as results of their own. ``attributes["new_trials"]`` says whether these are values on
    trials that no network was trained on; where ``draw`` always returns the same trials they are not, and the
    error of the slope is NaN.
    """

    drawn = "dynamics"
    captions = CAPTIONS

    @property
    def trials_told(self) -> str:
        """What the trials are that values after training are measured on, in words."""
        return "new trials" if self.attributes.get("new_trials", True) else "the trials of the training"

    def slope_of(self, network: str) -> str:
        """Return the slope of a network after training, with its standard error where there is one."""
        one = self.data.sel(network=network)
        error = float(one["final_slope_error"])
        return f"{float(one['final_slope']):.2f}" + (f" ± {error:.2f}" if math.isfinite(error) else "")

    def _summary_lines(self) -> Iterator[str]:
        for name in self.data["network"].values:
            one = self.data.sel(network=name)
            yield (
                f"{name}: {100 * float(one['compliance']):.4g}% of weights keep their source's sign, slope after "
                f"training {self.slope_of(str(name))} (target {self.attributes['target_slope']:g}), explained variance "
                f"of answers {float(one['final_explained']):.0%} on {self.trials_told}, "
                f"mean rate {float(one['final_rate']):.3g}"
            )


def in_short(result: BiologicalTraining, fingerprint: str) -> InShort:
    """Return what constraints did, in words and as fractions of a whole."""
    ends, target = result.data, float(result.attributes["target_slope"])

    def of(name: str, network: str) -> float:
        return float(ends[name].sel(network=network))

    new = result.attributes["new_trials"]
    measured = f"mean over {result.trials_told}" + (", and standard error" if new else "")
    explained = [f"{of('final_explained', name):.0%}" for name in (FULL, WITHOUT_PRIOR, WITHOUT_LAW)]
    before = float(result.parts["dynamics"].data["slope"].sel(network=FULL, step=0))
    sentences = [
        f"With all constraints {100 * of('compliance', FULL):.4g}% of the weights keep the sign of their source"
        f"{_BY_LAW if of('compliance', FULL) == 1 else ''}, trained without the law "
        f"{100 * of('compliance', WITHOUT_LAW):.4g}%.",
        f"Before training the spectral slope of its rates is {before:.2f}, after training {result.slope_of(FULL)} "
        f"({measured}) where {target:g} was asked for, and {result.slope_of(WITHOUT_PRIOR)} after training without the "
        f"prior.{_on_target(of('final_slope', FULL) - target, of('final_slope_error', FULL))}",
        f"It explains {explained[0]} of the variance of the answers on {result.trials_told}; without the prior "
        f"{explained[1]}, without the law {explained[2]}.",
        f"Each of the three is one network, trained once{': standard errors are over trials alone' if new else ''}. "
        f"Whether a difference between them, such as {explained[0]} and {explained[1]} of the variance, would come "
        "again from other starts and trials cannot be told from one network each: train with several seeds.",
        *(f"But {text}." for text in result.warnings),
    ]
    fractions = {
        f"{what}, {name}": of(key, name)
        for what, key in (("answers explained", "final_explained"), ("signs kept", "compliance"))
        for name in (FULL, WITHOUT_PRIOR, WITHOUT_LAW)
    }
    about = {"long_name": "fraction", "units": ""}
    return told_in_short("fraction", fractions, about, sentences, fingerprint, result.citations)


def _on_target(off: float, error: float) -> str:
    """Return how far a slope is from its target, if that is more than trials explain."""
    if not (error > 0 and abs(off) > _ERRORS * error):
        return ""
    return (
        f" With the prior it misses the target by {abs(off):.2g}, {abs(off) / error:.2g} standard errors: more than "
        "the choice of trials explains."
    )


class TrackedDynamics(Result):
    """Activity on the same test trials again and again during training.

    ``data`` holds over ``(network, step)``: the spectral ``slope`` of the rates, their ``dimension`` (participation
    ratio), and the mean ``rate``, means over several draws of trials. Step 0 is the start. ``kept`` over
    ``(network,)`` is the step whose weights are kept.
    """

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.8

    def _draw(self, ax: Axes) -> None:
        for name, colour in zip(self.data["network"].values, PALETTE, strict=False):
            one = self.data["slope"].sel(network=name)
            ax.plot(self.data["step"].values, one.values, color=colour, marker="o", markersize=4, label=str(name))
            kept = int(self.data["kept"].sel(network=name))
            ax.plot(kept, one.sel(step=kept), "o", color=colour, markersize=11, markerfacecolor="none")
        ax.plot([], [], "o", color=MUTED_INK, markersize=11, markerfacecolor="none", label="weights kept")
        ax.axhline(self.attributes["target_slope"], color=MUTED_INK, linestyle="--", linewidth=1, label="target")
        ax.set(xlabel="step of training", ylabel=MEASURES["slope"])
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    def _summary_lines(self) -> Iterator[str]:
        for name in self.data["network"].values:
            one = self.data.sel(network=name)
            kept = int(one["kept"])
            told = [
                f"{key} {float(one[key][0]):.3g} to {float(one[key].sel(step=kept)):.3g}"
                for key in ("slope", "dimension", "rate")
            ]
            yield f"{name}: from the start to step {kept}, whose weights are kept: {', '.join(told)}"
