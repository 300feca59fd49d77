"""What `persistent_homology` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HOLES = ("pieces", "rings", "voids")


class PersistentHomology(Result):
    """Holes of a cloud of points, by dimension: pieces (0), rings (1) and voids (2).

    ``data`` holds over ``bar``, by dimension and then the longest first: ``lifetime``, ``birth``, ``death`` (infinite
    for the piece that all others join) and ``p`` against the longest bar of noise, so that it holds for all bars of a
    dimension together; over ``dimension``: ``betti``, ``ratio`` (longest by second longest) and ``null_limit``, with
    ``null_longest`` over ``surrogate``; and over ``distance``: ``betti_curve``.
    """

    @property
    def betti(self) -> tuple[int, ...]:
        """How many holes of each dimension live longer than the longest in noise (p of at most .05)."""
        return tuple(self.data["betti"].values.tolist())

    @property
    def ratios(self) -> tuple[float, ...]:
        """Lifetime of the longest bar by that of the second longest, for each dimension; pieces: of those that end."""
        return tuple(self.data["ratio"].values.tolist())

    @property
    def p(self) -> tuple[float, ...]:
        """The p of the longest bar of each dimension that ends; NaN where there is none."""
        ends = np.isfinite(self.data["death"].values)
        found = []
        for dimension in self.data["dimension"].values:
            values = self.data["p"].values[ends & (self.data["bar_dimension"].values == dimension)]
            found.append(float(values[0]) if len(values) else np.nan)
        return tuple(found)

    def lifetimes(self, dimension: int) -> Floats:
        """Return the lifetimes of the holes of a dimension that end, longest first.

        Parameters
        ----------
        dimension : int

        Returns
        -------
        numpy.ndarray of shape (n_bars,)
        """
        values = self.main.values[self.data["bar_dimension"].values == dimension]
        return values[np.isfinite(values)]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.2, 4.6

    def _draw(self, ax: Axes) -> None:
        birth, death = self.data["birth"].values, self.data["death"].values
        ends = np.isfinite(death)
        last = 1.05 * float(death[ends].max())
        ax.plot([0, last], [0, last], color=MUTED_INK, lw=1)
        for colour, dimension in zip(PALETTE, self.data["dimension"].values, strict=False):
            chosen = ends & (self.data["bar_dimension"].values == dimension)
            strong = chosen & (self.data["p"].values <= 0.05)
            limit = float(self.data["null_limit"][dimension])
            label = f"{HOLES[dimension]}: {self.betti[dimension]}"
            ax.plot([0, last], [limit, last + limit], color=colour, lw=1.2, ls="--")
            ax.plot(birth[chosen], death[chosen], "o", ms=4, color=colour, alpha=0.35, mew=0)
            ax.plot(birth[strong], death[strong], "o", ms=8, color=colour, label=label)
        ax.set_xlim(-0.03 * last, last)
        ax.set_ylim(0, last)
        ax.set_xlabel("distance at which it appears (units of the data)")
        ax.set_ylabel("distance at which it is filled")
        ax.legend(
            fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), title="longer than 95%\nof noise (dashed)",
        )  # fmt: skip

    def _summary_lines(self) -> list[str]:
        """Return how many holes there are, against noise."""
        about, lines = self.attributes, []
        for dimension, name in enumerate(HOLES[: len(self.betti)]):
            lengths = self.lifetimes(dimension)
            if not len(lengths):
                lines.append(f"{name}: none appears")
                continue
            limit = float(self.data["null_limit"][dimension])
            lines.append(
                f"{name}: {self.betti[dimension]} longer than in noise; the longest that ends lives {lengths[0]:.3g}, "
                f"{self.ratios[dimension]:.3g} times as long as the second (p = {self.p[dimension]:.2g}; 95% of noise: "
                f"{limit:.3g})"
            )
        noise = {"gaussian": "normal clouds of the same covariance", "shuffled": "shuffled features"}[about["null"]]
        chosen = f"{about['n_chosen']} of {about['n_points']} points"
        if about["n_chosen"] < about["n_points"]:
            chosen += f" ({about['subsample']}; all others within {about['cover_radius']:.3g} of them)"
        lines.append(f"{chosen}, against {about['n_surrogates']} {noise}")
        if about["n_repeats"]:
            lines.append(f"{about['n_repeats']} points that repeat another one were left out")
        return lines
