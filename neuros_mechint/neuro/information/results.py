"""What the estimators of information return."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "ksg": "nearest neighbours, KSG 1",
    "ksg2": "nearest neighbours, KSG 2",
    "gaussian": "normal distributions",
    "ross": "nearest neighbours within categories, Ross",
    "binned": "bins",
    "mine": "trained lower bound, MINE",
    "infonce": "trained lower bound, InfoNCE",
}


class MutualInformation(Result):
    """How many nats one variable tells of another, by one estimator.

    ``data`` holds ``information`` with its ``error`` and the interval from ``low`` to ``high``, in nats.
    """

    @property
    def value(self) -> float:
        """The estimate in nats; by chance it may lie below 0, where the truth cannot."""
        return float(self.main)

    @property
    def bits(self) -> float:
        """The estimate in bits."""
        return self.value / float(np.log(2))

    @property
    def error(self) -> float:
        """Its standard error in nats: sampling error only, no bias."""
        return float(self.data["error"])

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of its interval in nats."""
        return float(self.data["low"]), float(self.data["high"])

    def _draw(self, ax: Axes) -> None:
        low, high = self.interval
        ax.errorbar(
            [self.value], [0], xerr=[[self.value - low], [high - self.value]], fmt="o", color=PALETTE[0], capsize=4
        )
        ax.axvline(0, color=MUTED_INK, lw=1)
        limit = self.attributes["most"]
        if limit is not None and self.value > limit / 2:
            ax.axvline(limit, color=MUTED_INK, lw=1.2, ls="--", label=f"the most it can show, {limit:.3g}")
            ax.legend(fontsize=8)
        ax.set_yticks([0], [self.attributes["method"]])
        ax.set_ylim(-1, 1)
        ax.set_xlabel("information (nats)")

    def _summary_lines(self) -> list[str]:
        """Return the estimate in words."""
        about, (low, high) = self.attributes, self.interval
        kind = "at least " if about["method"] in ("mine", "infonce") else ""
        lines = [
            f"{about['name']}: {kind}{self.value:.3g} nats ({self.bits:.3g} bits), "
            f"{100 * about['level']:g}% interval {low:.3g} to {high:.3g}, sampling error only",
            f"by {NAMES[about['method']]}, from {about['n_samples']} samples of {about['sizes']}",
        ]
        lines.append(
            "the interval lies above 0"
            if low > 0
            else "the interval holds 0: these samples do not show that the variables are dependent"
        )
        return lines
