"""What was found about fixed points over a parameter."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.plotting import INK, PALETTE
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.dynamics.bifurcation.critical import Bifurcation
from neuros_mechint.neuro.dynamics.fixed_points.results import index_told

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TURNS = ("Hopf", "Neimark-Sacker")
_MOST_TOLD = 12
_LEAST_HEIGHT = 1e-6


class BifurcationScan(Result):
    """Branches of fixed points over one parameter, and the bifurcations on them.

    ``data`` holds over ``branch`` and ``parameter``, NaN where a branch is not: ``state`` (over ``unit``),
    ``n_unstable``, and over ``mode``, by falling modulus, ``eigenvalue_real`` and ``eigenvalue_imag`` of the step. Over
    ``bifurcation``, in the order of the parameter: ``kind``, ``value``, ``place`` (over ``unit``), ``critical_real``
    and ``critical_imag`` of the eigenvalue that crosses the unit circle, ``frequency``, and ``concerns``, which
    branches meet there. Over ``parameter``: ``index_sum``, NaN where points are not isolated. The
    parameter is a thousandth of a step off the value asked for where that is a bifurcation.
    """

    @property
    def n_branches(self) -> int:
        """How many branches there are."""
        return self.data.sizes["branch"]

    @property
    def values(self) -> Floats:
        """Values of the parameter, ``(n_values,)``."""
        return self.data["parameter"].values

    @property
    def states(self) -> Floats:
        """Fixed points, ``(n_branches, n_values, n_states)``, NaN where a branch is not."""
        return self.data["state"].values

    @property
    def eigenvalues(self) -> npt.NDArray[np.complex128]:
        """Eigenvalues of the step, ``(n_branches, n_values, n_states)``, by falling modulus."""
        return self.data["eigenvalue_real"].values + 1j * self.data["eigenvalue_imag"].values

    @property
    def n_unstable(self) -> Floats:
        """How many directions grow, ``(n_branches, n_values)``, NaN where a branch is not."""
        return self.data["n_unstable"].values

    @property
    def index_sum(self) -> Floats:
        """Sum of the signs of det(I - J) over the fixed points at each value, ``(n_values,)``; NaN where one is 0.

        It is 1 if the system sends some ball of states into itself, and changes only where points are missing or leave
        all bounds.
        """
        return self.data["index_sum"].values

    @property
    def bifurcations(self) -> list[Bifurcation]:
        """All bifurcations in the order of the parameter: kind, value, state, eigenvalue and branches of each."""
        data = self.data
        critical = data["critical_real"].values + 1j * data["critical_imag"].values
        return [
            Bifurcation(
                str(data["kind"].values[row]),
                float(data["value"].values[row]),
                data["place"].values[row],
                complex(critical[row]),
                tuple(np.flatnonzero(data["concerns"].values[row]).tolist()),
            )
            for row in range(data.sizes["bifurcation"])
        ]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches of the diagram."""
        return 6.6, 4.0

    def _draw(self, ax: Axes) -> None:
        """Draw the state that changes most over the parameter: stable branches solid, unstable ones dashed."""
        told, unit = self.bifurcations, self._drawn_unit()
        for number in range(self.n_branches):
            for x, y, stable in self._pieces(number, unit):
                ax.plot(x, y, "-" if stable else "--", color=INK, linewidth=1.8 if stable else 1.2)
        names = [ax.plot([], [], "-", color=INK, label="stable")[0]]
        names += [ax.plot([], [], "--", color=INK, linewidth=1.2, label="unstable")[0]]
        kinds = dict.fromkeys(one.kind for one in told)
        for colour, kind in zip(itertools.cycle(PALETTE), kinds, strict=False):
            points = [(one.value, one.state[unit]) for one in told if one.kind == kind]
            names += ax.plot(*np.transpose(points), "o", color=colour, markersize=7, label=kind, zorder=3)
        low, high = ax.get_ylim()
        if high - low < _LEAST_HEIGHT:  # rounding is nothing to look at
            ax.set_ylim(low - 1, high + 1)
        ax.set(xlabel="parameter", ylabel=f"state {unit} of the fixed points")
        ax.grid()
        ax.legend(handles=names, loc="upper left", bbox_to_anchor=(1.0, 1.0))

    def _drawn_unit(self) -> int:
        """Return the state that changes most along a branch, or, where all are constant, between branches."""
        states = np.nan_to_num(self.states, nan=np.inf)
        finite = np.isfinite(states).all(2)
        along = [np.ptp(branch[here], axis=0) for branch, here in zip(states, finite, strict=True)]  # pyright: ignore[reportArgumentType]
        ranges = np.max(along, axis=0) if along else np.zeros(states.shape[2])
        if finite.any() and ranges.max() < _LEAST_HEIGHT:
            ranges = np.ptp(states[finite], axis=0)
        return int(np.argmax(ranges))

    def _pieces(self, number: int, unit: int) -> list[tuple[Floats, Floats, bool]]:
        """Return the parts of a branch, each of one stability, which meet in the bifurcations on it."""
        here = np.flatnonzero(np.isfinite(self.n_unstable[number]))
        points = [(self.values[at], self.states[number, at, unit], self.n_unstable[number, at] == 0) for at in here]
        points += [(one.value, one.state[unit], None) for one in self.bifurcations if number in one.branches]
        points.sort(key=lambda point: point[0])
        pieces: list[tuple[Floats, Floats, bool]] = []
        for first, second in itertools.pairwise(points):
            stable = bool(first[2] if first[2] is not None else second[2])
            if pieces and pieces[-1][2] == stable:
                x, y, _ = pieces.pop()
                pieces.append((np.append(x, second[0]), np.append(y, second[1]), stable))
            else:
                pieces.append((np.array([first[0], second[0]]), np.array([first[1], second[1]]), stable))
        return pieces

    def _summary_lines(self) -> list[str]:
        """Return how many branches there are, and where they change, in words."""
        told = self.bifurcations
        plural = "branch" if self.n_branches == 1 else "branches"
        lines = [
            f"{self.n_branches} {plural} of fixed points at {len(self.values)} values of the parameter, "
            f"{self.values[0]:.6g} to {self.values[-1]:.6g}"
        ]
        if self.n_branches:
            lines.append(self._completeness())
        lines += [self._line(row, one) for row, one in enumerate(told[:_MOST_TOLD])]
        if len(told) > _MOST_TOLD:
            lines.append(f"and {len(told) - _MOST_TOLD} more")
        return lines if told else [*lines, "no bifurcation was found: no branch begins, ends or changes its stability"]

    def _completeness(self) -> str:
        known = self.index_sum[np.isfinite(self.index_sum)].astype(int)
        if not known.size:
            return index_told(None)
        if (known == known[0]).all():
            return index_told(
                int(known[0]), " at each value" if known.size == self.index_sum.size else " where there is one"
            )
        at = int(np.flatnonzero(np.diff(known))[0])
        values = self.values[np.isfinite(self.index_sum)]
        return (
            f"index sums from {known.min()} to {known.max()}: where it changes, as between {values[at]:.4g} and "
            f"{values[at + 1]:.4g}, fixed points are missing or leave all bounds"
        )

    def _line(self, row: int, one: Bifurcation) -> str:
        frequency = self.data["frequency"]
        turning = f", {float(frequency[row]):.6g} {frequency.attrs['units']}" if one.kind in _TURNS else ""
        names = ", ".join(map(str, one.branches))
        return f"{one.kind} at {one.value:.8g}{turning} (branch{'es' if len(one.branches) > 1 else ''} {names})"
