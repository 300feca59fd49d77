"""What searches for transition paths return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class _TransitionPath(Result):
    """A way from one state to another."""

    @property
    def points(self) -> Floats:
        """Points of the way, ``(n_points, n_dimensions)``, evenly spaced."""
        return self.data["position"].values

    @property
    def converged(self) -> bool:
        """Whether the search ended because nothing moved any more."""
        return bool(self.attributes["converged"])

    @property
    def _along(self) -> Floats:
        """Length of the way up to each point."""
        return np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])

    def _ways(self) -> Iterator[str]:
        yield f"{len(self.points)} points from ({_shown(self.points[0])}) to ({_shown(self.points[-1])})"
        if not self.converged:
            yield "the search did not come to rest: give it more rounds or points, or a better first guess"


class EnergyPath(_TransitionPath):
    """The way over the lowest pass between two minima.

    ``data`` holds the ``energy`` and the ``position`` of each ``point``, the position of the ``saddle``, found by
    Newton's method from the highest point of the path, and the ``barrier`` from the start to the saddle.
    """

    @property
    def energies(self) -> Floats:
        """Energies of the points."""
        return self.data["energy"].values

    @property
    def saddle(self) -> Floats:
        """Position of the pass, ``(n_dimensions,)``."""
        return self.data["saddle"].values

    @property
    def barrier(self) -> float:
        """Energy of the saddle above the start."""
        return float(self.data["barrier"])

    def _draw(self, ax: Axes) -> None:
        from neuros_mechint.core.figures.plotting import PALETTE

        along = self._along
        ax.plot(along, self.energies, color=PALETTE[0], label="path")
        nearest = along[np.linalg.norm(self.points - self.saddle, axis=1).argmin()]
        ax.plot([nearest], [self.energies[0] + self.barrier], "^", color=PALETTE[1], label="pass")
        ax.set_xlabel("length of the way")
        ax.set_ylabel("energy")
        ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)

    def _summary_lines(self) -> Iterator[str]:
        yield (
            f"pass at ({_shown(self.saddle)}), barrier {self.barrier:.4g} from the start and "
            f"{self.barrier + self.energies[0] - self.energies[-1]:.4g} from the end"
        )
        yield from self._ways()


class ActionPath(_TransitionPath):
    """The likeliest way against a drift, at small noise.

    ``data`` holds for each ``point`` the ``action`` of the way up to there, and its ``position``.
    """

    @property
    def action(self) -> float:
        """Of the whole way: its probability falls as exp(-action / noise variance per unit of time)."""
        return float(self.main[-1])

    def _draw(self, ax: Axes) -> None:
        from neuros_mechint.core.figures.plotting import PALETTE

        ax.plot(self._along, self.main.values, color=PALETTE[0])
        ax.set_xlabel("length of the way")
        ax.set_ylabel("action up to there")

    def _summary_lines(self) -> Iterator[str]:
        yield f"action {self.action:.4g}: the way is as likely as exp(-action / noise variance per unit of time)"
        yield from self._ways()


def _shown(point: Floats) -> str:
    return ", ".join(f"{value + 0.0:.3g}" for value in np.round(point, 10))
