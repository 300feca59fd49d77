"""What an estimate of entropy production returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.neuro.information.estimate import InformationEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "markov": "steps between states",
    "words": "words of three visited states",
    "linear": "linear drift and diffusion",
    "gaussian": "normal pairs of successive states",
    "tur": "uncertainty relation of the best current",
    "neural": "trained lower bound",
}
BOUNDS = ("words", "tur", "neural")


class EntropyProduction(InformationEstimate):
    """How fast a process produces entropy, in nats per unit of time: 0 if and only if it looks the same backwards.

    ``data`` holds ``production`` with its ``error`` and the interval from ``low`` to ``high``, and, where
    the test was made, ``reversed`` ``(draw,)``: estimates, with their bias, from stretches of which a random half was
    run backwards.
    """

    @property
    def p(self) -> float | None:
        """P of the hypothesis of equilibrium, that the process is as likely backwards as forwards; None: not tested."""
        return self.attributes["p"]

    def _draw(self, ax: Axes) -> None:
        low, high = self.interval
        if self.p is not None:
            ends = np.quantile(self.data["reversed"], [0.025, 0.975])
            ax.axvspan(*ends, color=MUTED_INK, alpha=0.2, lw=0, label="half of the stretches reversed, 95%")
            ax.legend(fontsize=8)
        ax.axvline(0, color=MUTED_INK, lw=0.8)
        reach = [[self.value - low], [high - self.value]]
        ax.errorbar([self.value], [0], xerr=reach, fmt="o", color=PALETTE[0], capsize=4)
        ax.set_yticks([0], [NAMES[self.attributes["method"]]])
        ax.set_ylim(-1, 1)
        ax.set_xlabel("entropy production (nats per unit of time)")

    def _summary_lines(self) -> list[str]:
        """Return the estimate in words."""
        about, (low, high) = self.attributes, self.interval
        least = "at least " if about["method"] in BOUNDS else ""
        if about["method"] == "neural" and not self.error:
            return ["entropy production: the network learnt nothing that holds on other stretches", self._verdict()]
        return [
            f"entropy production: {least}{self.value:.3g} nats per unit of time, {100 * about['level']:g}% interval "
            f"{low:.3g} to {high:.3g}",
            f"by {NAMES[about['method']]}, from {about['n_steps']} steps of {about['dt']:g} in {about['n_stretches']} "
            f"stretches of {about['sizes']}",
            self._verdict(),
        ]

    def _verdict(self) -> str:
        """Return what the test says."""
        if self.p is None:
            return "not tested: n_permutations=0"
        verdict = (
            "the process is not at equilibrium"
            if self.p <= SIGNIFICANT
            else "these data do not show that it is not at equilibrium"
        )
        return f"p = {self.p:.3g} against stretches run backwards at random: {verdict}"
