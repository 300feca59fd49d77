"""What is found of fixed and slow points, in numbers, words and a picture."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Complexes, Floats, with_one_sign
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.dynamics.fixed_points.continua import Continuum
from neuros_mechint.neuro.dynamics.fixed_points.linearisation import KINDS_OF_STABILITY, rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIXED, MINIMUM, SLOW = "fixed", "minimum", "slow"
_MOST_CONTINUA_TOLD = 4
_MOST_INPUTS_TOLD = 6


class FixedPoints(Result):
    """Fixed points of a system, and points where it is slow.

    ``data`` holds, over ``point``: ``state``, ``jacobian``, ``kind`` ("fixed"; "minimum", of speed, which is not zero;
    "slow", on a manifold along which the system creeps), ``speed`` per step, ``distance`` (length of Newton's step),
    ``stability``, ``n_unstable``, ``index``, ``n_starts`` (initial states that led there), ``condition`` (which
    inputs were held) and ``continuum`` (which line, ring or surface it lies on, -1 for none); over ``point`` and
    ``mode``, largest eigenvalue first: ``eigenvalue_real``, ``eigenvalue_imag``, ``time_constant`` and ``frequency``;
    and over ``held``, the conditions: ``index_sum`` and, where there are inputs, ``inputs``.

    Fixed points come first, then minima, then slow points; each ordered by ``condition``, then ``n_unstable``, then the
    first, second, ... coordinate: the same points come in the same order, whichever starts led there.

    The properties ``states``, ``jacobians``, ``eigenvalues``, ``n_unstable``, ``speed``, ``stability`` and
    ``time_constants`` are of the fixed points only.
    """

    @property
    def states(self) -> Floats:
        """Fixed points, ``(n_points, n_states)``."""
        return self._of(FIXED, "state")

    @property
    def jacobians(self) -> Floats:
        """Derivative of the next state with respect to the state, ``(n_points, n_states, n_states)``."""
        return self._of(FIXED, "jacobian")

    @property
    def eigenvalues(self) -> Complexes:
        """Eigenvalues of the Jacobians, ``(n_points, n_states)``, largest modulus first."""
        return self._of(FIXED, "eigenvalue_real") + 1j * self._of(FIXED, "eigenvalue_imag")

    @property
    def rates(self) -> Complexes:
        """Eigenvalues as rates of continuous time, ``ln(eigenvalue) / dt``, ``(n_points, n_states)``."""
        return rates(self.eigenvalues, self.attributes["dt"])

    @property
    def time_constants(self) -> Floats:
        """Times in which directions fall by a factor e, negative where they grow, ``(n_points, n_states)``."""
        return self._of(FIXED, "time_constant")

    @property
    def n_unstable(self) -> npt.NDArray[np.int64]:
        """How many directions grow, ``(n_points,)``."""
        return self._of(FIXED, "n_unstable")

    @property
    def stability(self) -> list[str]:
        """Kind of each point: stable, marginal, saddle or unstable."""
        return self._of(FIXED, "stability").tolist()

    @property
    def speed(self) -> Floats:
        """Length of the step that each fixed point makes, ``(n_points,)``: rounding."""
        return self._of(FIXED, "speed")

    @property
    def index_sum(self) -> int | list[int | None] | None:
        """Sum of the signs of det(I - J), one for each condition if there are several; None where one is zero."""
        sums = [int(value) if np.isfinite(value) else None for value in self.data["index_sum"].values]
        return sums[0] if len(sums) == 1 else sums

    @property
    def slow_states(self) -> Floats:
        """Points that move, but slowly, ``(n_points, n_states)``: minima of speed, and points of slow manifolds."""
        return self.data["state"].values[self.data["kind"].values != FIXED]

    @property
    def slow_speed(self) -> Floats:
        """Length of the step that each slow point makes, ``(n_points,)``."""
        return self.data["speed"].values[self.data["kind"].values != FIXED]

    @property
    def continua(self) -> list[Continuum]:
        """Lines, rings and surfaces of fixed or slow points; ``points`` index ``data``."""
        member = self.data["continuum"].values
        told = self.attributes["continua"]
        return [Continuum(points=np.flatnonzero(member == index), **one) for index, one in enumerate(told)]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the drawing."""
        return 6.6, 4.0

    def _of(self, kind: str, name: str) -> Any:
        return self.data[name].values[self.data["kind"].values == kind]

    def _summary_lines(self) -> list[str]:
        about, kinds = self.attributes, Counter(self.data["kind"].values.tolist())
        n_conditions = self.data.sizes["held"]
        under = f" under {n_conditions} inputs" if n_conditions > 1 else ""
        units = _number(self.data.sizes["unit"], "unit")
        lines = [f"{_number(kinds[FIXED], 'fixed point')} of {units}{under}{self._by_kind()}"]
        if about.get("everywhere"):  # not in results that were stored before it was told
            lines.insert(0, about["everywhere"])
        if kinds[FIXED]:
            lines.append(self._index_sums())
        if kinds[MINIMUM]:
            slowest = self._of(MINIMUM, "speed").min()
            lines.append(
                f"{_number(kinds[MINIMUM], 'minimum', 'minima')} of speed that is no fixed point: "
                f"the slowest moves by {slowest:.2g} per step"
            )
        if kinds[SLOW]:
            lines.append(
                f"{_number(kinds[SLOW], 'slow point')}, which move by up to {about['slow_speed']:.2g} per step"
            )
        continua = self.continua
        lines += [one.told() for one in continua[:_MOST_CONTINUA_TOLD]]
        if len(continua) > _MOST_CONTINUA_TOLD:
            lines.append(f"and {len(continua) - _MOST_CONTINUA_TOLD} more lines, rings or surfaces")
        if kinds[FIXED]:
            slowest = np.abs(self.time_constants).max()
            lines.append(
                f"slowest time constant {slowest:.3g} {about['time_unit']}; speed up to {self.speed.max():.1e}"
            )
        return [*lines, self._starts_told(), self._inputs_told()]

    def _starts_told(self) -> str:
        """Return where initial states led."""
        about = self.attributes
        total, arrived = about["n_starts"], about["n_converged"]
        told = f"{arrived:,} of {total:,} states led to fixed points"
        slow = about["n_ended_slow"]
        ends = {"where the system is slow": slow, "where it is not": total - arrived - slow}
        others = [f"{count:,} {where}" for where, count in ends.items() if count]
        return f"{told}; of the others ended {', '.join(others)}" if others else told

    def _inputs_told(self) -> str:
        """Return under which inputs the system was iterated."""
        if "inputs" not in self.data:
            return "no input was held"
        held = self.data["inputs"].values
        if len(held) > 1 or held.shape[1] > _MOST_INPUTS_TOLD:
            return f"inputs held: {len(held)} of {held.shape[1]} numbers, in data['inputs']"
        return f"input held: {', '.join(f'{value:.3g}' for value in held[0])}"

    def _index_sums(self) -> str:
        """Return the index sum, or those under several inputs, in words."""
        if not isinstance(self.index_sum, list):
            return index_told(self.index_sum)
        counts = Counter(self.index_sum)
        if set(counts) == {1}:
            return index_told(1, " under each of the inputs")
        told = ", ".join(
            f"{'none' if total is None else total} under {_number(counts[total], 'input')}"
            for total in sorted(counts, key=lambda total: (total is None, total or 0))
        )
        return f"index sums: {told}; each is 1 if the system sends some ball of states into itself"

    def _by_kind(self) -> str:
        counts = Counter(self.stability)
        told = [f"{counts[kind]} {kind}" for kind in KINDS_OF_STABILITY if counts[kind]]
        growing = sorted(Counter(self.n_unstable[np.array(self.stability) == "saddle"].tolist()).items())
        saddles = ", ".join(f"{count} with {number}" for number, count in growing)
        of_saddles = f" (growing directions: {saddles})" if growing else ""
        return (": " + ", ".join(told) + of_saddles) if told else ""

    def _draw(self, ax: Axes) -> None:
        states, names, explained = _plane(self.data["state"].values, self.data["unit"].values)
        kind, growing = self.data["kind"].values, self.data["n_unstable"].values
        fixed = kind == FIXED
        if (~fixed).any():
            ax.plot(*states[~fixed].T, "x", color=MUTED_INK, markersize=4, label=f"slow ({int((~fixed).sum())})")
        for order, number in enumerate(np.unique(growing[fixed])):
            rows = fixed & (growing == number)
            label = "no direction grows" if number == 0 else f"{number} grow{'s' if number == 1 else ''}"
            colour = PALETTE[order % len(PALETTE)]
            face = colour if number == 0 else "none"
            ax.plot(
                *states[rows].T,
                "o",
                color=colour,
                markerfacecolor=face,
                markersize=6,
                label=f"{label} ({int(rows.sum())})",
            )
        if len(states):
            ax.legend(title="fixed points: directions", loc="center left", bbox_to_anchor=(1, 0.5))
        else:
            ax.text(0.5, 0.5, "no fixed point", transform=ax.transAxes, ha="center")
        for axis, name in zip(("x", "y"), names, strict=True):
            getattr(ax, f"set_{axis}label")(name)
        if explained is not None and len(states):
            ax.set_title(f"{self.title}: {100 * explained:.0f}% of their variance")


def _number(count: int, name: str, plural: str | None = None) -> str:
    return f"{count or 'no'} {name if count == 1 else plural or name + 's'}"


def index_told(total: int | None, where: str = "") -> str:
    """Return what an index sum says of missing fixed points.

    Examples
    --------
    >>> index_told(3)
    'index sum 3: it is 1 if the system sends some ball of states into itself, and then fixed points are missing'
    """
    if total is None:
        return "no index sum: an eigenvalue is 1, so that a fixed point is not isolated or about to split or vanish"
    says = (
        "as it must be if the system sends some ball of states into itself; a pair that is missing would not show"
        if total == 1
        else "it is 1 if the system sends some ball of states into itself, and then fixed points are missing"
    )
    return f"index sum {total}{where}: {says}"


def _plane(states: Floats, units: npt.NDArray[Any]) -> tuple[Floats, tuple[str, str], float | None]:
    """Return states in two dimensions, the names of these, and the share of variance they show."""
    if states.shape[1] == 1:
        return np.stack([states[:, 0], np.zeros(len(states))], 1), (f"unit {units[0]}", ""), None
    if states.shape[1] == 2:
        return states, (f"unit {units[0]}", f"unit {units[1]}"), None
    centred = states - states.mean(0) if len(states) else states
    _, size, axes = np.linalg.svd(centred, full_matrices=False)
    share = float((size[:2] ** 2).sum() / (size**2).sum()) if size.any() else 1.0
    flat = np.zeros((len(states), 2))
    axes = with_one_sign(axes[:2])
    flat[:, : len(axes)] = centred @ axes.T
    return flat, ("first principal component", "second principal component"), share
