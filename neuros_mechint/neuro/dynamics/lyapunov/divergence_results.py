"""What `largest_lyapunov_exponent` returns: the exponent, its region, and what noise of the same spectrum does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VERDICTS = {
    "chaotic": "chaotic: neighbours part exponentially, and stay closer than in linear noise of the same spectrum",
    "like noise": "no chaos claimed: linear noise of the same spectrum keeps its neighbours as close",
    "not compared": "no chaos claimed: no surrogates were compared, which noise would have to be told from",
    "undecided": "no chaos claimed: the interval of the exponent holds 0",
    "unbounded": "no chaos claimed: states end trials twice as widely spread as they begin them, or more: they outgrow "
    "where they were, which parts neighbours as well",
    "slow": "no chaos claimed: distances grow less than 2.5 times, or less than fourfold and do not saturate; "
    "the wandering phase of a rhythm does that too",
    "neutral": "no chaos seen: distances of neighbours do not even double as long as they were followed",
    "contracting": "no chaos: neighbours come closer",
    "no region": "no exponent: no part of the divergence curve is straight",
}


class LargestLyapunovExponent(Result):
    """The rate at which neighbouring states part, and whether it is one.

    ``data`` holds ``exponent`` with ``low`` and ``high``, NaN where no part of the divergence curve is straight; over
    ``time`` (since two states were neighbours) ``divergence``, the mean logarithm of distances, and ``fitted``, the
    line in its region; ``saturation``, the mean logarithm of the distance of states drawn at random; and, where there
    was a region to compare, over ``surrogate`` and ``compared_time`` the divergence of ``surrogates`` and that of the
    data, ``compared``, both less their saturation, and ``p_surrogates``.
    """

    @property
    def exponent(self) -> float:
        """The largest Lyapunov exponent in nats per unit of time; NaN where there is none to be read."""
        return self.main.item()

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval of the exponent."""
        return self.data["low"].item(), self.data["high"].item()

    @property
    def region(self) -> tuple[int, int] | None:
        """First and last step of the straight part, both inclusive; None where there is none."""
        return None if np.isnan(self.exponent) else (self.attributes["first_step"], self.attributes["last_step"])

    @property
    def p_surrogates(self) -> float:
        """Share of surrogates that keep neighbours as close, the data counted as one; NaN if none were compared."""
        return self.data["p_surrogates"].item()

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`, ``chaotic`` among them."""
        return self.attributes["verdict"]

    @property
    def chaotic(self) -> bool:
        """Whether chaos is claimed."""
        return self.verdict == "chaotic"

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 4.0

    def _draw(self, ax: Axes) -> None:
        time, curve = self.data["time"].values, self.data["divergence"].values
        saturation = self.data["saturation"].item()
        if "surrogates" in self.data:
            for index, row in enumerate(self.data["surrogates"].values):
                label = "phase-randomised surrogates" if index == 0 else None
                ax.plot(self.data["compared_time"], row + saturation, color=PALETTE[5], linewidth=0.7, label=label)
        ax.plot(time, curve, color=PALETTE[0], label=f"data, {self.attributes['method'].capitalize()}'s average")
        if self.region:
            label = f"slope {self.exponent:.3g} {self.main.attrs['units']}"
            ax.plot(time, self.data["fitted"], color=PALETTE[1], linewidth=2.6, label=label)
        ax.axhline(saturation, color=MUTED_INK, linestyle="--", linewidth=1, label="states drawn at random")
        unit = self.data["time"].attrs["units"]
        ax.set_xlabel(f"time since states were neighbours ({unit})")
        ax.set_ylabel("mean logarithm of distance")
        ax.grid(axis="y")
        ax.legend(loc="lower right")

    def _summary_lines(self) -> list[str]:
        """Return what was found, from what, in words."""
        about, units = self.attributes, self.main.attrs["units"]
        low, high = self.interval
        level = f"{100 * about['level']:g}%"
        found = (
            f"largest Lyapunov exponent {self.exponent:.4g} {units}, {level} interval {low:.4g} to {high:.4g}, "
            "of chance alone: that neighbours are at finite distances biases the exponent by several percent more"
        )
        # where there is no region, the warning has said so, and why
        lines = [found, VERDICTS[self.verdict]] if self.region else []
        if self.region:
            first, last = self.region
            lines.append(
                f"straight from step {first} to {last}, {about['region_rule']}; distances grow there by a factor of "
                f"{np.exp(about['grown']):.3g}"
            )
        if np.isfinite(self.p_surrogates):
            n = about["n_surrogates"]
            lines.append(f"{n} phase-randomised surrogates: p = {self.p_surrogates:.3g} that neighbours stay as close")
        lines.append(
            f"{about['method']}, {about['n_references']} states of {about['n_trials']} trials, delay {about['delay']} "
            f"samples ({about['delay_rule']}), dimension {about['dimension']} ({about['dimension_rule']}), neighbours "
            f"more than {about['theiler']} samples apart"
        )
        return lines
