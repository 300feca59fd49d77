"""What the measurements of a network in training return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Estimated(Result):
    """A number with its standard error and interval: ``data`` holds the value, ``error``, ``low`` and ``high``."""

    @property
    def value(self) -> float:
        """The estimate."""
        return float(self.main)

    @property
    def error(self) -> float:
        """Its standard error."""
        return float(self.data["error"])

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of its interval."""
        return float(self.data["low"]), float(self.data["high"])

    def _draw(self, ax: Axes) -> None:
        if np.isfinite(self.value):
            reach = np.abs(np.subtract(self.interval, self.value))[:, None]
            ax.errorbar([self.value], [0], xerr=reach, fmt="o", color=PALETTE[0], capsize=4)
        else:
            text = "undefined" if np.isnan(self.value) else "infinite"
            ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=MUTED_INK)
        ax.axvline(0, color=MUTED_INK, lw=1)
        ax.set_yticks([])
        units = self.main.attrs.get("units")
        ax.set_xlabel(str(self.main.attrs["long_name"]) + (f" ({units})" if units else ""))

    def _interval_in_words(self) -> str:
        low, high = self.interval
        return f"{self.value:.4g}, {100 * self.attributes['level']:g}% interval {low:.4g} to {high:.4g}"


class NoiseScale(Estimated):
    """How large a batch must be for signal and noise of its gradient to be equal, in samples."""

    def _summary_lines(self) -> Iterator[str]:
        about = self.attributes
        if np.isfinite(self.value):
            yield f"noise scale: {self._interval_in_words()}"
        else:
            lost, none = "infinite, the gradient is lost in its noise", "undefined, there is no gradient"
            yield f"noise scale: {none if np.isnan(self.value) else lost}"
        yield f"from {about['n_samples']} samples in {about['n_parts']} parts, at a loss of {about['loss']:.4g}"


class Sharpness(Result):
    """The largest eigenvalue of the Hessian of a loss, and its residual."""

    @property
    def value(self) -> float:
        """The eigenvalue."""
        return float(self.main)

    @property
    def residual(self) -> float:
        """There is an eigenvalue within so much of the value."""
        return float(self.data["residual"])

    @property
    def largest_rate(self) -> float:
        """Beyond this learning rate gradient descent would not settle here: 2 by the sharpness; infinite if flat."""
        return 2 / self.value if self.value > 0 else float("inf")

    def _summary_lines(self) -> Iterator[str]:
        about = self.attributes
        yield f"largest eigenvalue of the Hessian: {self.value:.5g}, residual {self.residual:.2g}"
        yield f"gradient descent settles below a rate of {self.largest_rate:.3g}"
        yield f"{about['n_weights']:,} weights, {about['n_samples']} samples, {about['n_products']} products"


class LearningCoefficient(Estimated):
    """The local learning coefficient: half the number of weights that the loss holds, in effect."""

    @property
    def held(self) -> float:
        """Half the number of weights that only the localisation holds, in effect."""
        return float(self.data["held"])

    @property
    def chains(self) -> list[float]:
        """The estimate of each chain."""
        return self.data["chain_value"].values.tolist()

    def _draw(self, ax: Axes) -> None:
        super()._draw(ax)
        ax.plot(self.chains, [0.3] * len(self.chains), "|", color=MUTED_INK, ms=10)
        ax.set_ylim(-1, 1)

    def _summary_lines(self) -> Iterator[str]:
        about = self.attributes
        yield f"local learning coefficient: {self._interval_in_words()}"
        yield (
            f"{about['n_weights']:,} weights, of which the localisation alone holds {2 * self.held:.3g} in effect; "
            f"n = {about['n_samples']:,}"
        )
        yield (
            f"{len(self.chains)} chains of {about['n_steps']:,} steps of {about['step_size']:.2g}, "
            f"{100 * about['acceptance']:.0f}% accepted"
        )
