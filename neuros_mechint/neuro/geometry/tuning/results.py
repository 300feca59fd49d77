"""What `tuning_manifold` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.plotting import PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class TuningManifold(Result):
    """How mean responses follow a variable.

    ``data`` holds over ``unit``: ``r2``; ``mean_r2`` with ``low`` and ``high`` and its ``p``, ``shuffled_r2`` over
    ``permutation``; over ``value`` of the variable: ``curve`` (and ``unit``) and ``speed``; over ``axis``:
    ``spectrum``; ``dimension``; over ``trial``: ``stimulus`` and ``decoded``; ``decoding_error`` and ``chance_error``.
    """

    @property
    def r2(self) -> Floats:
        """Share of each unit's variance over held-out trials that its tuning explains; up to 0 where there is none."""
        return self.main.values

    @property
    def mean_r2(self) -> float:
        """Mean over units."""
        return float(self.data["mean_r2"])

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval of the mean, over trials."""
        return float(self.data["low"]), float(self.data["high"])

    @property
    def p(self) -> float:
        """The p of a mean as large where the variable is shuffled over trials."""
        return float(self.data["p"])

    @property
    def curves(self) -> Floats:
        """Tuning curves, ``(n_values, n_units)``, of all trials; the values are ``data["value"]``."""
        return self.data["curve"].values

    @property
    def speed(self) -> Floats:
        """How fast responses move with the variable, in standard deviations of noise: root of Fisher information."""
        return self.data["speed"].values

    @property
    def dimension(self) -> float:
        """Participation ratio of the variances of the curve that halves of the trials share."""
        return float(self.data["dimension"])

    @property
    def decoding_error(self) -> float:
        """Median error of the variable read out of held-out trials."""
        return float(self.data["decoding_error"])

    def _draw(self, ax: Axes) -> None:
        value, low = self.data["value"].values, np.zeros(self.data.sizes["value"])
        ax.fill_between(value, low, self.speed, color=PALETTE[0], alpha=0.15, lw=0)
        ax.plot(value, self.speed, color=PALETTE[0], lw=2)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("stimulus")
        ax.set_ylabel("speed (noise sd per unit of stimulus)")

    def _summary_lines(self) -> list[str]:
        """Return fit, geometry and readout in words."""
        about, (low, high) = self.attributes, self.interval
        kind = "pairs of waves round a circle" if about["circular"] else "pieces of cubic splines on a line"
        interval = f"{100 * about['level']:g}% interval {low:.3g} to {high:.3g}"
        return [
            f"tuning explains {self.mean_r2:.3g} of the variance of held-out trials ({interval}; shuffled "
            f"{float(self.data['shuffled_r2'].mean()):.2g}, p = {self.p:.2g})",
            f"the curve fills {self.dimension:.3g} dimensions; its speed is {self.speed.min():.3g} to "
            f"{self.speed.max():.3g} noise sd per unit of stimulus",
            f"read out of held-out trials with a median error of {self.decoding_error:.3g}; shuffled "
            f"{float(self.data['chance_error']):.3g}",
            f"{about['n_trials']} trials of {about['n_units']} units, {about['n_terms']} {kind}",
        ]
