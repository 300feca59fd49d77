"""What was found about closed orbits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from neuros_mechint.core.figures.plotting import INK, PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW_POINTS = 40
_MOST_NAMED = 4


class LimitCycle(Result):
    """The closed orbit that a system settles on, or what it does instead.

    ``data`` holds ``orbit`` over ``time`` and ``unit``: one turn, or, where there is no closed orbit, the end of the
    trajectory; ``period``, NaN where there is none; and over ``mode``, sorted by modulus behind the one along the
    orbit of a flow: ``multiplier_real``, ``multiplier_imag``, ``exponent_real``, ``exponent_imag`` and
    ``along_orbit``. ``attributes["kind"]`` is one of "limit cycle" (of a flow), "periodic orbit" (of a map),
    "continuum of closed orbits", "fixed point" and "none".
    """

    @property
    def kind(self) -> str:
        """What the system settles on."""
        return str(self.attributes["kind"])

    @property
    def found(self) -> bool:
        """Whether there is a closed orbit that is no fixed point."""
        return bool(np.isfinite(self.period))

    @property
    def stable(self) -> bool:
        """Whether the orbit is isolated and attracts its neighbourhood."""
        return bool(self.attributes["stable"])

    @property
    def period(self) -> float:
        """Time of one turn, in units of ``dt``; of a map, a whole number of steps."""
        return float(self.data["period"])

    @property
    def frequency(self) -> float:
        """Turns per unit of time."""
        return 1 / self.period

    @property
    def angular_frequency(self) -> float:
        """Radians per unit of time."""
        return 2 * np.pi / self.period

    @property
    def orbit(self) -> npt.NDArray[np.float64]:
        """States of one turn, ``(n_times, n_states)``."""
        return self.data["orbit"].values

    @property
    def multipliers(self) -> npt.NDArray[np.complex128]:
        """Floquet multipliers, ``(n_states,)``: what a small deviation is multiplied by in one turn."""
        return self.data["multiplier_real"].values + 1j * self.data["multiplier_imag"].values

    @property
    def exponents(self) -> npt.NDArray[np.complex128]:
        """Floquet exponents, ``(n_states,)``, per unit of time: logarithms of the multipliers over the period."""
        return self.data["exponent_real"].values + 1j * self.data["exponent_imag"].values

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches of a plane of two states, or of one state over time."""
        return (5.2, 4.4) if self.orbit.shape[1] > 1 else (6.6, 3.0)

    def _draw(self, ax: Axes) -> None:
        """Draw the orbit in the plane of the two states that change most, or a single state over time."""
        orbit, is_map, units = self.orbit, self.attributes["dt"] is None, self.data["unit"].values
        if orbit.shape[1] == 1:
            ax.plot(self.data["time"], orbit[:, 0], "o-" if is_map else "-", color=PALETTE[0])
            ax.set(xlabel=f"time ({self.data['time'].attrs['units']})", ylabel=f"state {units[0]}")
            ax.xaxis.set_major_locator(MaxNLocator(integer=is_map))
        else:
            first, second = np.sort(np.argsort(-np.ptp(orbit, axis=0), kind="stable")[:2])
            x, y = orbit[:, first], orbit[:, second]
            closed = self.found and not is_map
            x, y = (np.append(values, values[0]) if closed else values for values in (x, y))
            ax.plot(x, y, "o" if is_map else "-", color=PALETTE[0], markersize=4)
            if closed:
                _draw_direction(ax, x, y)
            ax.set(xlabel=f"state {units[first]}", ylabel=f"state {units[second]}")
        ax.grid()
        ax.set_title(self._headline())

    def _headline(self) -> str:
        units = self.data["period"].attrs["units"]
        if not self.found:
            return "no closed orbit: end of the trajectory" if self.kind == "none" else "a fixed point, no cycle"
        stability = "" if self.kind == "continuum of closed orbits" else "stable " if self.stable else "unstable "
        kind = "one of a continuum of closed orbits" if self.kind == "continuum of closed orbits" else self.kind
        return f"{stability}{kind}, period {self.period:.6g}{' steps' if units == 'steps' else ''}"

    def _summary_lines(self) -> list[str]:
        """Return what the system settles on, in words."""
        about = self.attributes
        lines = [str(about["verdict"])]
        if self.found:
            across = ~self.data["along_orbit"].values
            shown = [_complex_text(value) for value in self.multipliers[across][:_MOST_NAMED]]
            rest = " and smaller ones" if across.sum() > _MOST_NAMED else ""
            slowest = self.exponents[across].real.max() if across.any() else np.nan
            lines += [
                f"period {self.period:.8g} {self.data['period'].attrs['units']}, "
                f"{self.angular_frequency:.6g} rad per unit of time; it closes to {about['closure']:.1e} of its size",
                f"Floquet multipliers across the orbit: {', '.join(shown) or 'none'}{rest}; deviations change by "
                f"exp({slowest:.5g} t) at the slowest",
            ]
        lines.append(f"after {about['n_steps']} steps from the state given")
        return lines


def _draw_direction(ax: Axes, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> None:
    middle = len(x) // 2
    ax.annotate(
        "",
        xy=(x[middle + 1], y[middle + 1]),
        xytext=(x[middle], y[middle]),
        arrowprops={"arrowstyle": "-|>", "color": INK, "mutation_scale": 16},
    )


def _complex_text(value: complex) -> str:
    return f"{value.real:.4g}" if abs(value.imag) < 1e-12 else f"{value.real:.4g}{value.imag:+.4g}i"
