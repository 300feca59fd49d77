"""What a partial information decomposition returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.errors import check_option
from neuros_mechint.core.figures.plotting import interval_bars
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WORDS = {
    "redundancy": "redundant",
    "unique_1": "unique to source 1",
    "unique_2": "unique to source 2",
    "synergy": "synergistic",
    "total": "total",
}
_NAMES = {"broja": "BROJA", "i_min": "I_min"}


class PartialInformation(Result):
    """What two sources tell of a target, by who tells it.

    ``data`` holds for each ``part`` its ``information`` with its ``error``, the interval from ``low`` to ``high`` and
    the ``bias`` that was taken off, in nats.
    """

    @property
    def redundancy(self) -> float:
        """Nats that either source tells."""
        return self._part("redundancy")

    @property
    def unique_1(self) -> float:
        """Nats that only the first source tells."""
        return self._part("unique_1")

    @property
    def unique_2(self) -> float:
        """Nats that only the second source tells."""
        return self._part("unique_2")

    @property
    def synergy(self) -> float:
        """Nats that only both sources together tell."""
        return self._part("synergy")

    @property
    def total(self) -> float:
        """Nats that both sources tell, the sum of the four parts; by chance any of these may lie below 0."""
        return self._part("total")

    @property
    def bits(self) -> dict[str, float]:
        """Every part in bits."""
        return {part: self._part(part) / float(np.log(2)) for part in _WORDS}

    @property
    def p_total(self) -> float:
        """P of the hypothesis that the target is independent of both sources."""
        return float(self.attributes["p_total"])

    @property
    def p_synergy(self) -> float:
        """P of the hypothesis that both sources together tell no more than their pairs with the target imply."""
        return float(self.attributes["p_synergy"])

    def interval(self, part: str) -> tuple[float, float]:
        """Return the ends of the interval of a part in nats.

        Parameters
        ----------
        part : {"redundancy", "unique_1", "unique_2", "synergy", "total"}

        Raises
        ------
        OptionError
            Another part.
        """
        check_option("part", part, tuple(_WORDS))
        found = self.data.sel(part=part)
        return float(found["low"]), float(found["high"])

    def _part(self, name: str) -> float:
        return float(self.data["information"].sel(part=name))

    def _draw(self, ax: Axes) -> None:
        table = {
            name: self.data[source].values
            for name, source in (("value", "information"), ("low", "low"), ("high", "high"))
        }
        interval_bars(list(_WORDS.values()), table, table["low"] > 0, ax)
        ax.set_xlabel("information (nats)")
        bits = ax.secondary_xaxis("top", functions=(lambda nats: nats / np.log(2), lambda bits: bits * np.log(2)))
        bits.set_xlabel("information (bits)")
        ax.set_title(f"{self.title}, {_NAMES[self.attributes['method']]}")

    def _summary_lines(self) -> list[str]:
        """Return the parts in words."""
        about, bits = self.attributes, self.bits
        lines = []
        for part, words in _WORDS.items():
            low, high = self.interval(part)
            lines.append(
                f"{words}: {_shown(self._part(part))} nats ({_shown(bits[part])} bits), "
                f"{100 * about['level']:g}% interval {_shown(low)} to {_shown(high)}"
            )
        sizes = " x ".join(map(str, about["sizes"]))
        lines += [
            f"by {_NAMES[about['method']]}, from {about['n_samples']} samples of a table of {sizes} values",
            f"{_tested(self.p_total, 'information')} and {_tested(self.p_synergy, 'synergy')}, "
            f"by {about['n_resamples']} draws each",
        ]
        return lines


def _tested(p: float, part: str) -> str:
    return f"{part if p <= SIGNIFICANT else f'no {part}'} is shown (p = {p:.3g})"


def _shown(value: float) -> str:
    """Return a number for people: what is within the solver's precision of 0 is 0."""
    return f"{round(value, 8) + 0.0:.3g}"
