"""What the estimators of manifold capacity return."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class _Capacity(Result):
    @property
    def capacity(self) -> float:
        """Manifolds per dimension that a linear readout can tell apart: 2 for points."""
        return float(self.main)

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of its interval."""
        return float(self.data["low"]), float(self.data["high"])

    def _estimate(self) -> str:
        low, high = self.interval
        level = 100 * self.attributes["level"]
        return f"capacity {self.capacity:.3g} manifolds per dimension ({level:g}% interval {low:.3g} to {high:.3g})"


class ManifoldCapacity(_Capacity):
    """Capacity of manifolds by mean-field theory, with the radius and dimension that limit it.

    ``data`` holds ``capacity`` with ``low`` and ``high``, ``p``, ``radius``, ``dimension`` and ``ball_capacity``; over
    ``manifold``: ``manifold_capacity``, ``manifold_radius``, ``manifold_dimension``, ``centre_norm`` and ``n_points``;
    and over ``permutation``: ``regrouped_capacity``.
    """

    @property
    def radius(self) -> float:
        """Mean radius of the manifolds, in units of the norm of their centres."""
        return float(self.data["radius"])

    @property
    def dimension(self) -> float:
        """Mean dimension of the manifolds, as a readout meets it."""
        return float(self.data["dimension"])

    @property
    def p(self) -> float:
        """The p of a capacity as large, where points are dealt to manifolds at random."""
        return float(self.data["p"])

    def _draw(self, ax: Axes) -> None:
        data = self.data
        points = ax.scatter(
            data["manifold_radius"], data["manifold_dimension"], c=data["manifold_capacity"], s=36, edgecolor="white"
        )
        ax.plot([self.radius], [self.dimension], "+", ms=14, mew=2, color=INK)
        ax.annotate("mean", (self.radius, self.dimension), xytext=(8, 6), textcoords="offset points")
        ax.figure.colorbar(points, ax=ax, label="capacity (manifolds per dimension)")
        ax.set_xlabel("radius (norms of the centre)")
        ax.set_ylabel("dimension")
        ax.margins(0.15)

    def _summary_lines(self) -> list[str]:
        """Return capacity, geometry and null in words."""
        about, data = self.attributes, self.data
        drawn = data["regrouped_capacity"].values
        return [
            self._estimate(),
            f"radius {self.radius:.3g} of the centres' norm, dimension {self.dimension:.3g}: balls of these have a "
            f"capacity of {float(data['ball_capacity']):.3g}",
            f"points dealt to manifolds at random: {np.mean(drawn):.3g} (p = {self.p:.2g}, {len(drawn)} times)",
            f"{data.sizes['manifold']} manifolds of {int(data['n_points'].min())} to {int(data['n_points'].max())} "
            f"points in {about['n_units']} units, without {about['n_shared']} directions that their centres share",
        ]


class SimulatedCapacity(_Capacity):
    """Capacity of manifolds by simulation.

    ``data`` holds ``capacity`` with ``low`` and ``high``, and over ``dimensions``: ``separable``, the share of random
    dichotomies that a hyperplane separates, and ``n_tried``.
    """

    def _draw(self, ax: Axes) -> None:
        from scipy.stats import norm

        sizes, share, count = (self.data[name].values for name in ("dimensions", "separable", "n_tried"))
        at, width = self.attributes["dimensions_at_half"], self.attributes["width"]
        near = np.abs(sizes - at) < 6 * width
        ax.errorbar(
            sizes[near], share[near], np.sqrt(share * (1 - share) / count)[near], fmt="o", color=PALETTE[0], capsize=2
        )
        line = np.linspace(sizes[near].min(), sizes[near].max(), 200)
        ax.plot(line, norm.cdf((line - at) / width), color=PALETTE[0])
        ax.axhline(0.5, color=MUTED_INK, lw=1)
        ax.axvline(at, color=MUTED_INK, lw=1, ls="--")
        ax.set_xlabel(f"random dimensions, of {self.attributes['n_manifolds']} manifolds")
        ax.set_ylabel("share of separable dichotomies")
        ax.set_ylim(-0.03, 1.03)

    def _summary_lines(self) -> list[str]:
        """Return the crossing in words."""
        about = self.attributes
        return [
            self._estimate(),
            f"{about['n_manifolds']} manifolds: half of the random dichotomies are separable in "
            f"{about['dimensions_at_half']:.1f} of {about['n_units']} dimensions",
        ]
