"""A system for each value of a parameter, its fixed points, and the steps from one value to the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.dynamics.fixed_points.gather import Starts, fixed_points
from neuros_mechint.neuro.dynamics.fixed_points.linearisation import index, n_unstable
from neuros_mechint.neuro.dynamics.fixed_points.newton import displacement, newton_search, precision, typical_size
from neuros_mechint.neuro.dynamics.systems import System, as_raw_step, as_system

_ITERATIONS = 50
_FEW_ITERATIONS = 8  # from a prediction; where there is nothing, more would lead far away
_FEW_STATES = 8  # of which one backward pass each is faster than a transformed step
_OFF_PREDICTION = 0.3
_SHORTEST_STEP = 2.0**-22
_SHORTER, _LONGER = 0.4142, 1.618


class Found(NamedTuple):
    """Fixed points at one value of the parameter."""

    value: float
    states: torch.Tensor
    """``(n_points, n_states)``."""
    eigenvalues: Any
    """``(n_points, n_states)`` complex, by falling modulus."""
    n_unstable: Any
    index: Any

    def only(self, row: int) -> Found:
        """Return one of the points."""
        return Found(self.value, *(part[row : row + 1] for part in self[1:]))

    def isolated(self) -> Found:
        """Return the points that are no part of a line or ring of fixed points, nor about to split or vanish."""
        rows = np.flatnonzero(~np.isnan(self.index))
        return Found(self.value, self.states[torch.from_numpy(rows)], *(part[rows] for part in self[2:]))

    def with_point(self, other: Found) -> Found:
        """Return the points, and one more."""
        states = torch.cat([self.states, other.states])
        return Found(self.value, states, *(np.concatenate(pair) for pair in zip(self[2:], other[2:], strict=True)))


class Family:
    """A system for each value of a parameter.

    Parameters
    ----------
    make_step : callable
        ``make_step(value)`` returns a step.
    initial_states : array_like or torch.Tensor of shape (batch, n_states)
    inputs : array_like, torch.Tensor or None
        Held, ``(n_inputs,)``.

    Examples
    --------
    >>> family = Family(lambda r: lambda x: x + r - x**2, [[1.0], [-1.0]], None)
    >>> family.check(4.0)
    >>> sorted(family.points(4.0, family.starts).states.flatten().tolist())
    [-2.0, 2.0]
    """

    def __init__(self, make_step: Callable[[float], Any], initial_states: Any, inputs: Any) -> None:
        self.make_step, self.initial, self.inputs = make_step, initial_states, inputs
        self._like: System | None = None
        self.starts: torch.Tensor = torch.zeros(0, 0)
        self.size = 1.0
        self.singular: set[float] = set()
        """Values at which points were left out that are not isolated."""
        self._followed: dict[tuple[float, float], list[tuple[torch.Tensor, Found]]] = {}

    def check(self, value: float) -> None:
        """Check the step at a value on the initial states.

        Raises
        ------
        InputError
            What `as_system` raises, with the value.
        """
        step = self._made(value)
        try:
            self._like, self.starts = as_system(step, self.initial, self.inputs)
        except InputError as error:
            raise InputError(f"at a parameter of {value:g}: {error}") from error
        self.size = typical_size(self.starts)

    def _made(self, value: float) -> Any:
        try:
            step = self.make_step(value)
        except (TypeError, AttributeError) as error:  # step(states, parameter), called with the parameter alone
            raise InputError(
                "make_step cannot be called with a parameter alone",
                expected="make_step(value), which returns a step(states) or step(states, inputs)",
                got=f"{type(error).__name__}: {error}",
                fix="of a step(states, value) make one: lambda value: lambda states: step(states, value)",
            ) from error
        if isinstance(step, torch.Tensor | np.ndarray | float | int) or step is None:
            raise InputError(
                "make_step returns no step",
                expected="make_step(value), which returns a step(states) or step(states, inputs)",
                got=type(step).__name__,
                fix="lambda value: lambda states: step(states, value)",
            )
        return step

    @property
    def dt(self) -> float | None:
        """Time of a step, where it says so."""
        return None if self._like is None else self._like.dt

    def points(self, value: float, starts: torch.Tensor, most_iterations: int = _ITERATIONS) -> Found:
        """Return the fixed points that states lead to."""
        system, zero = self._system(value), precision(starts.dtype)
        given, conditions = self._given(system, len(starts)), torch.zeros(len(starts), dtype=torch.int64)
        asked = Starts(starts, given, conditions, self.size, zero.speed * self.size, 0.0)
        search = newton_search(system, starts, given, asked.tolerance, most_iterations)
        fixed, _ = fixed_points(system, asked, search)
        values = fixed.linear.eigenvalues
        values = np.take_along_axis(values, np.argsort(-np.abs(values), axis=1, kind="stable"), 1)
        return Found(value, fixed.states, values, n_unstable(values, starts.dtype), index(values, starts.dtype))

    def one_step(self, found: Found, value: float) -> Found | None:
        """Return a point at another value; None unless the tangent there and back again predicts it."""
        state = found.states
        there = self._tangent(found.value, value, state)
        if there is None:
            return None
        after = self.points(value, state + there, _FEW_ITERATIONS)
        if len(after.states) != 1:
            return None
        # where branches part they are as near as the root of what is left to go: little more than rounding is allowed
        allowed = _OFF_PREDICTION * there.norm() + precision(state.dtype).settled * self.size
        back = self._tangent(value, found.value, after.states)
        if back is None or (after.states + back - state).norm() > allowed:
            return None
        return after if (after.states - state - there).norm() <= allowed else None

    def advance(self, point: Found, target: float) -> Found:
        """Follow one point towards a value in steps as short as needed; return it at the last value reached.

        This is nearly all that a scan computes, and is asked again in each of its rounds: answers are kept.
        """
        known = self._followed.setdefault((point.value, target), [])
        same = precision(point.states.dtype).settled * self.size
        for start, end in known:
            if (start - point.states).norm() <= same:
                return end
        end = self._advanced(point, target)
        known.append((point.states, end))
        return end

    def _advanced(self, point: Found, target: float) -> Found:
        whole = target - point.value
        step = whole
        while point.value != target and abs(step) >= _SHORTEST_STEP * abs(whole):
            value = target if abs(target - point.value) <= abs(step) else point.value + step
            after = self.one_step(point, value)
            # no simple fractions, which lead to simple numbers, where bifurcations like to be
            if after is None:
                step *= _SHORTER
            else:
                point, step = after, _LONGER * step
        return point

    def direction(self, point: Found) -> torch.Tensor:
        """Return the eigenvector of the eigenvalue nearest to 1, real, of length 1: ``(1, n_states)``."""
        system = self._system(point.value)
        jacobian = system.jacobians(point.states, self._given(system, 1))[0].double().cpu().numpy()
        values, vectors = np.linalg.eig(jacobian)
        vector = np.real(vectors[:, np.argmin(np.abs(values - 1))])
        return torch.as_tensor(vector / np.linalg.norm(vector)).to(point.states)[None]

    def _tangent(self, value: float, other: float, state: torch.Tensor) -> torch.Tensor | None:
        r"""Return how far a fixed point goes from one value to the other, :math:`(I - J)^{-1} \Delta F`."""
        system, target = self._system(value), self._system(other)
        given = self._given(system, 1)
        unit = torch.eye(state.shape[1], dtype=state.dtype, device=state.device)
        moved = displacement(target, state, given) - displacement(system, state, given)
        step, failed = torch.linalg.solve_ex(unit - system.jacobians(state, given), moved)
        return step if not failed.any() and torch.isfinite(step).all() else None

    def _system(self, value: float) -> System:
        """Return the system at a value, without the checks that those asked for have passed."""
        assert self._like is not None
        raw, many = as_raw_step(self.make_step(value))[0], self._like.n_states > _FEW_STATES
        return dataclasses.replace(self._like, raw=raw, transformable=self._like.transformable and many)

    def _given(self, system: System, n_rows: int) -> torch.Tensor | None:
        return None if system.inputs is None else system.inputs[:1].expand(n_rows, -1)
