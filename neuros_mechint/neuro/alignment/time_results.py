"""A time course of alignment: its clusters, its figure and its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MILLISECONDS_BELOW = 10.0
_FAINT = "#c9d1d9"


class TimeResolvedAlignment(Result):
    """How well a model explains responses at each time from the stimulus.

    ``data`` holds over ``(time,)`` the ``score``; ``threshold``, which one of twenty rearrangements exceeds at that
    time alone; ``p`` of the cluster a time belongs to, missing outside of clusters. Clusters themselves, over
    ``(cluster,)``: ``onset`` and ``offset`` (middles of the first and the last window), ``mass`` and ``cluster_p``;
    absent where there are none. ``subject_score`` over ``(subject, time)``; ``ceiling`` over ``(bound, time)`` where it
    is known.
    """

    @property
    def values(self) -> np.ndarray:
        """Score at each time."""
        return self.main.values

    @property
    def clusters(self) -> pd.DataFrame:
        """One row for each cluster in order of time: onset, offset, mass, p."""
        columns = ("onset", "offset", "mass", "cluster_p")
        found = {name: self.data[name].values if "cluster" in self.data.sizes else [] for name in columns}
        return pd.DataFrame(found, dtype=float).rename(columns={"cluster_p": "p"})

    @property
    def significant(self) -> np.ndarray:
        """Which times are in a cluster whose p is at most 0.05."""
        return self.data["p"].values <= SIGNIFICANT

    def _summary_lines(self) -> list[str]:
        """Return peak and clusters in words."""
        times, units = self._times()
        peak = int(np.argmax(self.values))
        lines = [
            f"peak {self.values[peak]:.3f} at {times[peak]:g} {units}",
            f"{self.attributes['n_arrangements']} arrangements, over {self.attributes['over']}",
        ]
        scale = 1000 if units == "ms" else 1
        for onset, offset, mass, p in self.clusters.to_numpy(dtype=float).tolist():
            lines.append(f"cluster {scale * onset:g} to {scale * offset:g} {units}: mass {mass:.1f}, p = {p:.2g}")
        if self.clusters.empty:
            lines.append("no cluster")
        return lines

    def _times(self) -> tuple[np.ndarray, str]:
        """Return times as they are best read, and their unit."""
        times, units = self.data["time"].values, self.data["time"].attrs["units"]
        if units == "s" and np.abs(times).max() < _MILLISECONDS_BELOW:
            return np.round(times * 1000, 6), "ms"
        return times, units

    def _draw(self, ax: Axes) -> None:
        times, units = self._times()
        self._draw_ceiling(ax, times)
        for row in self.data["subject_score"].values if self.data.sizes.get("subject", 1) > 1 else ():
            ax.plot(times, row, color=PALETTE[0], alpha=0.3, linewidth=0.8, zorder=1)
        ax.plot(times, self.data["threshold"].values, color=MUTED_INK, linestyle="--", linewidth=1)
        ax.lines[-1].set_label("95% of rearranged data, each time alone")
        ax.plot(times, self.values, color=PALETTE[0], label="score", zorder=3)
        ax.axhline(0, color=MUTED_INK, linewidth=0.8)
        if times[0] < 0 < times[-1]:
            ax.axvline(0, color=MUTED_INK, linewidth=0.8, linestyle=":")
        self._draw_clusters(ax, times)
        ax.set_xlabel(f"time from the stimulus ({units})")
        ax.set_ylabel(axis_label(self.main))
        ax.grid(axis="y")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)

    def _draw_ceiling(self, ax: Axes, times: np.ndarray) -> None:
        if "ceiling" not in self.data:
            return
        ceilings = self.data["ceiling"].values
        if len(ceilings) == 2:
            ax.fill_between(times, *ceilings, color=MUTED_INK, alpha=0.2, linewidth=0, label="noise ceiling")
        else:
            ax.plot(times, ceilings[0], color=MUTED_INK, linewidth=1, label="noise ceiling")

    def _draw_clusters(self, ax: Axes, times: np.ndarray) -> None:
        """Mark clusters by bars below the curve, each as long as its windows and with its p."""
        low, high = ax.get_ylim()
        place, half_step = low - 0.06 * (high - low), (times[1] - times[0]) / 2 if times.size > 1 else 0.5
        scale = 1000 if self._times()[1] == "ms" else 1
        named = False
        for onset, offset, _, p in self.clusters.to_numpy(dtype=float).tolist():
            ends = [scale * onset - half_step, scale * offset + half_step]
            found = p <= SIGNIFICANT
            (bar,) = ax.plot(ends, [place, place], color=PALETTE[1] if found else _FAINT, linewidth=4)
            bar.set_solid_capstyle("butt")
            if not found:
                continue
            bar.set_label(None if named else "cluster, p ≤ 0.05")
            named = True
            below: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 8}
            ax.annotate(f"p = {p:.2g}", (sum(ends) / 2, place), (0, -5), color=MUTED_INK, **below)
        ax.set_ylim(low - 0.18 * (high - low), high)
