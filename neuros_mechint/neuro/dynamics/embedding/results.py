"""What `delay_embedding` returns: states of each trial, and why they are made of so many samples so far apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.figures.plotting import PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_DRAWN = 5000


class DelayEmbedding(Result):
    """Trajectories rebuilt from delayed copies of what was recorded.

    ``data`` holds ``states`` over ``sample`` and ``coordinate``; ``trial`` and ``time`` (of the earliest of its
    samples) of each sample, ``unit`` and ``delay`` of each coordinate; ``mutual_information`` over ``lag`` where the
    delay was chosen, and ``false_neighbours`` over ``tried_dimension`` where the dimension was.
    """

    @property
    def trials(self) -> tuple[npt.NDArray[np.float64], ...]:
        """States of each trial, ``(n_times, n_coordinates)``; none holds samples of two trials."""
        ends = np.flatnonzero(np.diff(self.data["trial"].values)) + 1
        return tuple(np.split(self.main.values, ends))

    @property
    def delay(self) -> int:
        """Samples between those that make a state."""
        return self.attributes["delay"]

    @property
    def dimension(self) -> int:
        """Samples per state, of each unit."""
        return self.attributes["dimension"]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 5.2, 4.6

    def _draw(self, ax: Axes) -> None:
        states = self.main.values[:_MOST_DRAWN]
        trial = self.data["trial"].values[: len(states)]
        n_units = self.attributes["n_units"]
        second = min(n_units if self.dimension > 1 else 1, states.shape[1] - 1)
        ends = np.flatnonzero(np.diff(trial)) + 1
        for index, part in enumerate(np.split(states, ends)):
            ax.plot(part[:, 0], part[:, second], color=PALETTE[index % len(PALETTE)], linewidth=0.6)
        delays, names = self.data["delay"].values, self.data["unit"].values
        unit = self.data["delay"].attrs["units"]
        if self.dimension > 1:
            ax.set_xlabel(f"{names[0]} at time t")
            ax.set_ylabel(f"{names[0]} at time t + {delays[second]:.3g} {unit}")
        else:
            ax.set_xlabel(f"{names[0]}")
            ax.set_ylabel(f"{names[second]}")
        ax.grid()

    def _summary_lines(self) -> list[str]:
        """Return what was chosen, and why."""
        about, unit = self.attributes, self.data["delay"].attrs["units"]
        seconds = f" = {about['delay'] * about['dt']:.3g} s" if unit == "s" else ""
        return [
            f"delay {about['delay']} samples{seconds}: {about['delay_rule']}",
            f"dimension {about['dimension']}: {about['dimension_rule']}",
            f"{self.main.sizes['sample']} states of {self.main.sizes['coordinate']} coordinates in "
            f"{about['n_trials']} trials, of {about['n_units']} units",
        ]
