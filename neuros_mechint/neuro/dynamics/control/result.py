"""What can be said about the control of a system: Gramians, energies, and the part of single units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.plotting import bars, heat_map
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.dynamics.control.energy import Steering, cheapest, cheapest_ever
from neuros_mechint.neuro.dynamics.control.gramians import Reach, reach, stable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TWO_DECADES = 100


class Controllability(Result):
    """How well inputs steer a linear or linearised system, and how well outputs show its state.

    ``data`` holds ``average_controllability`` of each unit, the ``controllability_gramian`` and
    ``observability_gramian`` ``(unit, other_unit)``, and the ``controllable_dimensions`` and ``observable_dimensions``
    (beside ``controllable_at_any_cost`` and ``observable_at_any_cost``, which also count what is lost in rounding), and
    the energies ``easiest_energy`` and ``hardest_energy`` that it takes to move by one along the directions of the
    largest and smallest Gramian, each over ``point`` (one for a matrix; one for each state; or over ``start``, for each
    window of a trajectory); ``modal_controllability`` of each unit, ``spectral_radius``, ``state``, ``jacobian``,
    ``input_matrix`` and ``drift``, how far the state moves in one step by itself, over ``point`` (or over ``time``,
    along a trajectory); and the ``output_matrix``.
    """

    @property
    def gramian(self) -> Floats:
        """Controllability Gramian, ``(unit, unit)`` of a matrix, ``(point, unit, unit)`` of states."""
        return self._values("controllability_gramian")

    @property
    def observability(self) -> Floats:
        """Observability Gramian, ``(unit, unit)`` of a matrix, ``(point, unit, unit)`` of states."""
        return self._values("observability_gramian")

    @property
    def average(self) -> Floats:
        """Average controllability of each unit driven alone, ``(unit,)`` of a matrix, ``(point, unit)`` of states.

        As in Gu et al. 2015, B has no part in it; that of the inputs given is the trace of `gramian`.
        """
        return self._values("average_controllability")

    @property
    def modal(self) -> Floats:
        """Modal controllability, ``(unit,)`` of a matrix, ``(point, unit)`` of states; NaN at unstable ones."""
        return self._values("modal_controllability")

    @property
    def rank(self) -> npt.NDArray[np.int64]:
        """Number of dimensions that inputs reach within the horizon, ``()`` or ``(point,)``.

        Those along which a unit of energy moves the state at least ``attributes["tolerance"]`` times as far as along
        the easiest: `minimum_energy` is finite there, and nowhere else.
        """
        return self._values("controllable_dimensions")

    def minimum_energy(self, target: Any, start: Any = None, point: int = 0) -> float:
        """Return the least energy that takes the linear or linearised system to a target at the end of the horizon.

        Parameters
        ----------
        target : array_like of shape (n_units,)
            A state, not a displacement.
        start : array_like of shape (n_units,), optional
            By default zero for a matrix, the state of the point, or the state at which the window starts. Where the
            horizon is infinite, it is forgotten.
        point : int
            Which point or window.

        Returns
        -------
        float
            Sum of squared inputs over all steps; infinite where the target has a part outside of the dimensions that
            count as reached, see ``rank``.

        Raises
        ------
        InputError
            Target or start of the wrong shape or not finite, or no such point.

        Examples
        --------
        >>> from neuros_mechint.neuro.dynamics.control.controllability import controllability
        >>> controllability([[0.5]], horizon=2).minimum_energy([1.0])
        0.8
        """
        return self._steering(target, start, point).energy

    def minimum_energy_inputs(self, target: Any, start: Any = None, point: int = 0) -> xr.DataArray:
        """Return the inputs of least energy, ``(step, input)``; of a step with inputs, on top of those that are held.

        Parameters
        ----------
        target, start, point
            As for `minimum_energy`.

        Returns
        -------
        xarray.DataArray

        Raises
        ------
        InputError
            The target cannot be reached, the horizon is infinite, or as for `minimum_energy`.

        Examples
        --------
        >>> from neuros_mechint.neuro.dynamics.control.controllability import controllability
        >>> controllability([[0.5]], horizon=2).minimum_energy_inputs([1.0]).values.round(9).tolist()
        [[0.4], [0.8]]
        """
        if self.attributes["horizon"] is None:
            raise InputError("inputs over an infinite horizon have no end", fix="give controllability(..., horizon=20)")
        found = self._steering(target, start, point)
        if found.inputs is None:
            raise InputError(
                "the inputs cannot reach this target within the horizon",
                got=self._reach("controllable", [point]).removeprefix("controllable: "),
                fix="make the horizon longer (shorter, where an unstable system drowns what is small), or control "
                "other units",
            )
        steps = xr.Variable("step", np.arange(len(found.inputs)), {"long_name": "time", "units": "steps"})
        return xr.DataArray(found.inputs, {"step": steps}, ("step", "input"), attrs={"long_name": "input"})

    def _steering(self, target: Any, start: Any, point: int) -> Steering:
        windows, states = self.main.sizes[self.main.dims[0]], self.data["state"].values
        if not 0 <= point < windows:
            raise InputError("no such point", expected=f"0 to {windows - 1}", got=point)
        horizon = self.attributes["horizon"]
        goal = self._state("target", target) - states[point + horizon if self._moves else point]
        if horizon is None:
            jacobian, drift = self.data["jacobian"].values[point], self.data["drift"].values[point]
            rest = np.linalg.solve(np.eye(len(jacobian)) - jacobian, drift)
            return cheapest_ever(self._space(point), goal - rest)
        begin = np.zeros_like(goal) if start is None else self._state("start", start) - states[point]
        steps = self._steps(point)
        jacobians, inputs, drifts = (self.data[name].values[steps] for name in ("jacobian", "input_matrix", "drift"))
        return cheapest(jacobians, inputs, drifts, begin, goal, self._space(point).basis)

    def _steps(self, point: int) -> npt.NDArray[np.intp]:
        """Return which place acts at each step of a window of finite length."""
        horizon = self.attributes["horizon"]
        return point + np.arange(horizon) if self._moves else np.full(horizon, point)

    def _space(self, point: int) -> Reach:
        jacobians, inputs = self.data["jacobian"].values, self.data["input_matrix"].values
        tolerance = self.attributes["tolerance"]
        if self.attributes["horizon"] is None:
            return reach(jacobians[point][None], inputs[point][None], None, tolerance)
        return reach(jacobians, inputs, self._steps(point), tolerance)

    @property
    def _moves(self) -> bool:
        return self.attributes["kind"] == "trajectory"

    def _state(self, name: str, values: Any) -> Floats:
        found = np.asarray(values, dtype=np.float64)
        if found.shape != (self.data.sizes["unit"],) or not np.isfinite(found).all():
            raise InputError(f"{name} is no state", expected=f"{self.data.sizes['unit']} finite numbers", got=values)
        return found

    def _values(self, name: str) -> Any:
        values = self.data[name].values
        return values[0] if self.attributes["kind"] == "matrix" else values

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the drawing."""
        return (6.6, 3.4) if len(self.main) == 1 else super().figure_size

    def _draw(self, ax: Axes) -> None:
        if len(self.main) > 1:
            # at unstable states it is larger by orders of magnitude; it is never below 1
            wide = float(self.main.max()) > _TWO_DECADES * float(self.main.min())
            label = {"long_name": "average controllability, logarithm to base 10", "units": "1"}
            heat_map(self.main.copy(data=np.log10(self.main.values)).assign_attrs(label) if wide else self.main, ax)
            return
        single = self.main[0]
        bars(single.assign_coords(unit=single["unit"].values.astype(str)), ax)
        ax.set_xlabel("unit")

    def _summary_lines(self) -> list[str]:
        """Return what can be reached, at which cost, and which units count, in words."""
        about, sizes = self.attributes, self.data.sizes
        horizon = "infinite horizon" if about["horizon"] is None else f"horizon of {about['horizon']} steps"
        alone = "of each unit driven alone" + (", whatever input_matrix is" if about["inputs_given"] else "")
        seen = self._reach("observable") if about["outputs_given"] else "observable: not asked, each unit is seen"
        return [
            f"{about['about']}: {_counted(sizes['unit'], 'unit')}, {_counted(sizes['input'], 'input')}, {horizon}",
            f"average controllability {alone}: {_range(self.data['average_controllability'])}",
            self._reach("controllable"),
            seen,
            f"energy per squared unit of distance: {self._energies()}",
            f"modal controllability: {self._modal()}",
            *(["numbers of a linearised system hold for small displacements"] if about["kind"] != "matrix" else []),
        ]

    def _reach(self, name: str, points: Any = slice(None)) -> str:
        verb = {"controllable": "inputs reach", "observable": "outputs tell"}[name]
        found, at_any_cost = (self.data[f"{name}_{one}"].values[points] for one in ("dimensions", "at_any_cost"))
        told = f"{name}: {verb} {_span(found)} of {self.data.sizes['unit']} dimensions"
        if (found == at_any_cost).all():
            return told
        return f"{told}; {_span(at_any_cost)} by algebra, but the others are lost in rounding"

    def _energies(self) -> str:
        easiest, hardest = self.data["easiest_energy"].values.min(), self.data["hardest_energy"].values.max()
        most = f"{hardest:.3g} along the hardest" if np.isfinite(hardest) else "infinite along those not reached"
        return f"{easiest:.3g} along the easiest direction, {most}"

    def _modal(self) -> str:
        modal = self.data["modal_controllability"]
        unstable = int((~stable(self.data["spectral_radius"].values)).sum())
        if unstable == len(modal):
            return (
                "not defined, as none of the linearised systems is stable" if unstable > 1 else "not defined: unstable"
            )
        missing = f", without {unstable} of {len(modal)} that are unstable" if unstable else ""
        return _range(modal) + missing


def _counted(count: int, name: str) -> str:
    return f"{count} {name if count == 1 else name + 's'}"


def _span(counts: npt.NDArray[np.int64]) -> str:
    return f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"


def _range(values: xr.DataArray) -> str:
    """Return smallest and largest mean over points, and which units have them."""
    mean = values.mean(str(values.dims[0]), skipna=True).values
    low, high = int(np.nanargmin(mean)), int(np.nanargmax(mean))
    over = " on average over points" if values.shape[0] > 1 else ""
    return f"from {mean[low]:.4g} (unit {low}) to {mean[high]:.4g} (unit {high}){over}"
