"""What `lyapunov_spectrum` returns: exponents with their errors, what follows from them, and how they converged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.figures.style import drawing
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    Floats = npt.NDArray[np.float64]

_MOST_NAMED = 6
WORDS = {
    "chaotic": "chaotic: nearby states separate exponentially, within bounds",
    "neutral": "no chaos found: the largest exponent cannot be told from 0, as for a limit cycle or a torus",
    "stable": "no chaos: the largest exponent is below 0, perturbations die out",
    "at_rest": "an unstable fixed point: the largest exponent is above 0, but the states do not move",
    "unbounded": "the largest exponent is above 0, but the states outgrow where they were: not called chaotic",
    "undecided": "undecided: the largest exponent is above 0 by its interval, but falls in time or the tangents grew "
    "too little to tell it from slow (polynomial) growth, which regular motion has too; take more steps",
}


class LyapunovSpectrum(Result):
    """Lyapunov exponents, the mean rates at which small perturbations grow along orthogonal directions.

    ``data`` holds over ``exponent``, in descending order: ``exponents``, averaged over trajectories; ``sem``, which
    is ``sem_trajectories`` or ``sem_segments``; ``low`` and ``high``. Further ``by_trajectory`` and, where all come to
    rest, the ``resting_place`` of each, which is the number of a fixed point; over ``time``
    ``running``, the mean so far; and ``kaplan_yorke_dimension`` and ``entropy`` with their standard errors, in both of
    which exponents that cannot be told from 0 count as 0.
    """

    @property
    def exponents(self) -> Floats:
        """Exponents ``(n_exponents,)`` per unit of time, the largest first."""
        return self.main.values

    @property
    def sem(self) -> Floats:
        """Their standard errors ``(n_exponents,)``."""
        return self.data["sem"].values

    @property
    def interval(self) -> tuple[Floats, Floats]:
        """Ends of their intervals, ``(n_exponents,)`` each."""
        return self.data["low"].values, self.data["high"].values

    @property
    def kaplan_yorke_dimension(self) -> float:
        """Dimension of the attractor if the Kaplan-Yorke conjecture holds; NaN where exponents are missing for it."""
        return self.data["kaplan_yorke_dimension"].item()

    @property
    def entropy(self) -> float:
        """Sum of the positive exponents in nats per unit of time: an upper bound of the Kolmogorov-Sinai entropy.

        Pesin's equality holds for attractors with a measure smooth along what expands, Ruelle's inequality always.
        """
        return self.data["entropy"].item()

    @property
    def verdict(self) -> str:
        """``chaotic``, ``neutral``, ``stable``, ``at_rest``, ``unbounded`` or ``undecided``."""
        return self.attributes["verdict"]

    @property
    def chaotic(self) -> bool:
        """Whether the largest exponent is above 0 by its interval, in a motion that is bounded and goes on."""
        return self.verdict == "chaotic"

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.8

    def plot_spectrum(self, ax: Axes | None = None) -> Axes:
        """Draw the exponents over their rank, with intervals.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional

        Returns
        -------
        matplotlib.axes.Axes

        Examples
        --------
        >>> import matplotlib.figure
        >>> import neuros_mechint as nm
        >>> found = nm.lyapunov_spectrum(lambda state: 0.5 * state, [[1.0, 2.0]], 100, warmup=0)
        >>> found.plot_spectrum(matplotlib.figure.Figure().subplots()).get_xlabel()
        'rank of the exponent'
        """
        with drawing(ax, self.figure_size) as axes:
            known = np.isfinite(self.exponents)
            rank = self.data["exponent"].values
            low, high = self.interval
            error = np.nan_to_num(np.stack([self.exponents - low, high - self.exponents])[:, known])
            few = known.sum() <= 4 * _MOST_NAMED
            look = {"fmt": "o" if few else ".", "color": PALETTE[0], "ecolor": MUTED_INK, "capsize": 3 if few else 0}
            axes.errorbar(rank[known], self.exponents[known], error, **look)
            axes.axhline(0, color=MUTED_INK, linewidth=0.8)
            axes.grid(axis="y")
            axes.set_xlabel("rank of the exponent")
            axes.set_ylabel(f"Lyapunov exponent ({self.main.attrs['units']})")
            axes.set_title(self.title)
        return axes

    def _draw(self, ax: Axes) -> None:
        """Draw how the largest exponents converged, and their intervals at the end."""
        time, running = self.data["time"], self.data["running"].values
        low, high = self.interval
        end = float(time[-1]) * 1.03
        for index in np.flatnonzero(np.isfinite(self.exponents))[:_MOST_NAMED]:
            color = PALETTE[index % len(PALETTE)]
            value = self.exponents[index]
            label = f"{value:.4g} ± {self.sem[index]:.1g}"
            ax.plot(time, running[:, index], color=color, label=label)
            error = np.array([[value - low[index]], [high[index] - value]])
            ax.errorbar([end], [value], error, color=color, capsize=3, fmt="o", markersize=3)
        ax.axhline(0, color=MUTED_INK, linewidth=0.8)
        ax.grid(axis="y")
        ax.set_xlabel(f"time after the warm-up ({time.attrs['units']})")
        ax.set_ylabel(f"mean so far ({self.main.attrs['units']})")
        shown = min(_MOST_NAMED, len(self.exponents))
        title = "exponent ± s.e.m." if shown == len(self.exponents) else f"largest {shown} ± s.e.m."
        if np.isfinite(self.exponents).any():
            ax.legend(title=title, loc="upper left", bbox_to_anchor=(1, 1))

    def _at_each_place(self) -> list[str]:
        """Return the largest exponent at each fixed point where trajectories rest at several: means say little then."""
        if "resting_place" not in self.data or (places := self.data["resting_place"].values).max() < 1:
            return []
        largest = self.data["by_trajectory"].values[:, 0]
        told = [
            f"{largest[places == one].mean():.4g} ({int((places == one).sum())})" for one in range(places.max() + 1)
        ]
        more = f" and {len(told) - _MOST_NAMED} more points" if len(told) > _MOST_NAMED else ""
        return [
            f"trajectories rest at {len(told)} fixed points; largest exponent at each, and of how many trajectories: "
            f"{', '.join(told[:_MOST_NAMED])}{more}"
        ]

    def _summary_lines(self) -> list[str]:
        """Say what was found and how sure it is."""
        about, units = self.attributes, self.main.attrs["units"]
        low, high = self.interval
        shown = [
            f"{value:.5g} ± {error:.1g}" if np.isfinite(error) else f"{value:.5g}"
            for value, error in zip(self.exponents[:_MOST_NAMED], self.sem, strict=False)
        ]
        more = f" and {len(self.exponents) - _MOST_NAMED} more" if len(self.exponents) > _MOST_NAMED else ""
        apart = self._at_each_place()
        lines = [
            WORDS[self.verdict],
            *apart,
            f"{'means over these: ' if apart else ''}exponents {', '.join(shown)}{more} ({units}; ± standard error)",
            *([] if apart else [f"largest: {100 * about['level']:g}% interval {low[0]:.4g} to {high[0]:.4g}"]),
            f"{about['n_positive']} above 0, {about['n_zero']} not told from 0, {about['n_negative']} below 0",
        ]
        if np.isfinite(self.kaplan_yorke_dimension) and self.verdict not in ("at_rest", "unbounded"):
            error = self.data["kaplan_yorke_sem"].item()
            certain = f" ± {error:.1g}" if error else ""
            lines.append(f"Kaplan-Yorke dimension {self.kaplan_yorke_dimension:.4g}{certain}")
        if np.isfinite(self.entropy):
            units = self.data["entropy"].attrs["units"]
            lines.append(f"Kolmogorov-Sinai entropy at most {self.entropy:.4g} {units}, the sum of positive exponents")
        trajectories = f"{about['n_trajectories']} trajector{'y' if about['n_trajectories'] == 1 else 'ies'}"
        return [
            *lines,
            f"{trajectories} of {about['n_steps']} steps after {about['warmup']} of warm-up; "
            f"errors by {about['error_rule']}",
        ]
