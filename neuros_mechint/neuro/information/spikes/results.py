"""What the entropies of spike trains return."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.neuro.information.estimate import InformationEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "plug_in": "plug-in, biased",
    "panzeri_treves": "Panzeri and Treves",
    "nsb": "Nemenman, Shafee and Bialek",
    "decoder": "a decoder of held-out samples",
}


class SpikeEntropy(InformationEstimate):
    """How many nats of entropy words of spikes have, by one estimator.

    ``data`` holds the estimate with its ``error``, the interval from ``low`` to ``high`` and the ``plug_in`` value.
    """

    @property
    def plug_in(self) -> float:
        """What the shares themselves would give, in nats."""
        return float(self.data["plug_in"])

    def _draw(self, ax: Axes) -> None:
        low, high = self.interval
        reach = [[self.value - low], [high - self.value]]
        ax.errorbar([self.value], [0], xerr=reach, fmt="o", color=PALETTE[0], capsize=4)
        names = [NAMES[self.attributes["method"]]]
        if self.attributes["method"] != "plug_in":
            ax.plot([self.plug_in], [1], "o", color=MUTED_INK)
            names.append("plug-in")
        self._draw_reference(ax)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlabel(f"{self.attributes['quantity']} (nats)")
        bits = ax.secondary_xaxis("top", functions=(lambda nats: nats / np.log(2), lambda bits: bits * np.log(2)))
        bits.set_xlabel(f"{self.attributes['quantity']} (bits)")

    def _draw_reference(self, ax: Axes) -> None:
        most = np.log(self.attributes["n_possible"]) if self.attributes["n_possible"] else np.inf
        if most < 2 * max(self.value, self.plug_in):
            ax.axvline(most, color=MUTED_INK, lw=1.2, ls="--", label=f"all words equally likely, {most:.3g}")
            ax.legend(fontsize=8)

    def _summary_lines(self) -> list[str]:
        """Return the estimate in words."""
        about, (low, high) = self.attributes, self.interval
        least = "at least " if about["method"] == "decoder" and self.value > 0 else ""
        biased = ", which does not hold the bias that is warned of" if self.warnings else ""
        return [
            f"{about['quantity']}: {least}{self.value:.3g} nats ({self.bits:.3g} bits), "
            f"{100 * about['level']:g}% interval {low:.3g} to {high:.3g}{biased}",
            f"by {NAMES[about['method']]}; the plug-in is {self.plug_in:.3g} nats",
            self._sizes(),
        ]

    def _sizes(self) -> str:
        about = self.attributes
        possible = f" of {about['n_possible']:.4g} possible ones" if about["n_possible"] else ""
        return f"from {about['n_samples']} samples, in which {about['n_words']} words{possible} occur"


class SpikeInformation(SpikeEntropy):
    """How many nats words of spikes tell of the stimulus, by one estimator.

    ``data`` also holds ``shuffled`` ``(draw,)``, where the test was made: the estimates with the stimuli of the samples
    rearranged.
    """

    @property
    def p(self) -> float | None:
        """P of the hypothesis that responses do not depend on the stimulus; None where nothing was rearranged."""
        return self.attributes["p"]

    def _draw_reference(self, ax: Axes) -> None:
        ax.axvline(0, color=MUTED_INK, lw=0.8)
        if self.p is None:
            return
        low, high = np.quantile(self.data["shuffled"], [0.025, 0.975])
        ax.axvspan(low, high, color=MUTED_INK, alpha=0.15, lw=0, label="stimuli rearranged, 95%")
        ax.legend(fontsize=8)

    def _summary_lines(self) -> list[str]:
        """Return the estimate in words."""
        if self.p is None:
            return [*super()._summary_lines(), "not tested: n_permutations=0"]
        shuffled = self.data["shuffled"]
        told = "responses depend on the stimulus" if self.p <= SIGNIFICANT else "no dependence on the stimulus is shown"
        return [
            *super()._summary_lines(),
            f"with the stimuli rearranged {float(shuffled.mean()):.3g} nats on average ({shuffled.size} draws): "
            f"{told} (p = {self.p:.3g})",
        ]

    def _sizes(self) -> str:
        return f"{super()._sizes()}, and {self.attributes['n_stimuli']} stimuli"
