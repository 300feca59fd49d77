"""What `representation_drift` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = ("total", "translation", "rotation", "scaling", "residual")
_MOST_PAIRS_TOLD = 4


class RepresentationDrift(Result):
    """How far sessions are apart, in units of the variance of responses over conditions.

    ``data`` holds over ``pair`` of sessions: ``total`` and its parts ``translation``, ``rotation``, ``scaling`` and
    ``residual``, each with ``_low`` and ``_high``; ``p`` (of no change), ``p_residual`` (of one geometry) and ``lag``;
    over ``part``: ``rate`` with ``rate_low`` and ``rate_high``; and over ``session``: ``signal`` and ``noise``.
    """

    @property
    def total(self) -> Floats:
        """Squared distance of each pair of sessions, without noise: 0 for the same responses, 2 for unlike ones."""
        return self.data["total"].values

    @property
    def residual(self) -> Floats:
        """What alignment leaves of it: change of the geometry itself."""
        return self.data["residual"].values

    @property
    def shares(self) -> dict[str, Floats]:
        """Shares of each part in the total, for each pair."""
        return {name: self.data[name].values / self.total for name in PARTS[1:]}

    @property
    def p(self) -> Floats:
        """The p of a distance as large, where repeats are dealt to both sessions at random; for each pair."""
        return self.data["p"].values

    @property
    def p_residual(self) -> Floats:
        """The p of a residual as large, where both sessions have one geometry; for each pair."""
        return self.data["p_residual"].values

    @property
    def rate(self) -> dict[str, float]:
        """Growth per unit of time of the total and of each part, that of a random walk."""
        return dict(zip(PARTS, self.data["rate"].values.tolist(), strict=True))

    @property
    def rate_interval(self) -> dict[str, tuple[float, float]]:
        """Ends of the intervals of the rates."""
        ends = zip(self.data["rate_low"].values.tolist(), self.data["rate_high"].values.tolist(), strict=True)
        return dict(zip(PARTS, ends, strict=True))

    def _draw(self, ax: Axes) -> None:
        data, same = self.data, self.attributes["same_units"]
        if data.sizes["pair"] == 1:
            shown = PARTS if same else PARTS[-1:]
            values, low, high = (
                np.array([float(data[name + end][0]) for name in shown]) for end in ("", "_low", "_high")
            )
            ax.bar(shown, values, yerr=[values - low, high - values], color=PALETTE[0], capsize=3)
            ax.axhline(0, color=INK, lw=1)
            ax.set_ylabel("squared distance (signal variances)")
            return
        lags = data["lag"].values
        line = np.array([0, lags.max()])
        for colour, name in zip(PALETTE, ("total", "residual") if same else ("residual",), strict=False):
            values = data[name].values
            reach = [values - data[f"{name}_low"].values, data[f"{name}_high"].values - values]
            ax.errorbar(lags, values, reach, fmt="o", color=colour, capsize=2, label=name)
            ax.plot(line, self.rate[name] * line, color=colour, lw=1)
        ax.axhline(0, color=MUTED_INK, lw=1)
        ax.set_xlim(left=0)
        ax.set_xlabel("time between sessions")
        ax.set_ylabel("squared distance (signal variances)")
        ax.legend(fontsize=8)

    def _summary_lines(self) -> list[str]:
        """Return distances, parts and rates in words."""
        about, data = self.attributes, self.data
        lines = []
        for index, pair in enumerate(data["pair"].values[:_MOST_PAIRS_TOLD]):
            left = f"{self.residual[index]:.3g} left after alignment (p = {self.p_residual[index]:.2g})"
            if not about["same_units"]:
                lines.append(f"session {pair}: {left}")
                continue
            of_which = ", ".join(f"{name} {float(data[name][index]):.3g}" for name in PARTS[1:4])
            apart = f"{self.total[index]:.3g} signal variances apart (p = {self.p[index]:.2g})"
            lines.append(f"session {pair}: {apart}: {of_which}; {left}")
        if data.sizes["pair"] > _MOST_PAIRS_TOLD:
            lines.append(f"and {data.sizes['pair'] - _MOST_PAIRS_TOLD} more pairs")
        for name in ("total", "residual") if about["same_units"] else ("residual",):
            low, high = self.rate_interval[name]
            ends = f"{low:.3g} to {high:.3g}" if np.isfinite(high - low) else "unknown"
            interval = f"{100 * about['level']:g}% interval {ends}"
            lines.append(f"{name} grows by {self.rate[name]:.3g} per unit of time ({interval})")
        lines.append(
            f"{about['n_sessions']} sessions of {about['n_conditions']} conditions, {about['n_units']} units, at least "
            f"{about['fewest_repeats']} repeats"
        )
        return lines
