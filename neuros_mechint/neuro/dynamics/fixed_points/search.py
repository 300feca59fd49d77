"""Fixed points from many states: what is known of a few tells where most others lead."""

from __future__ import annotations

import torch

from neuros_mechint.neuro.dynamics.fixed_points.distinct import distinct
from neuros_mechint.neuro.dynamics.fixed_points.newton import (
    Search,
    displacement,
    newton_search,
    precision,
    typical_size,
)
from neuros_mechint.neuro.dynamics.systems import System

_FIRST, _FIRST_ITERATIONS = 160, 5
_ITERATIONS, _ITERATIONS_IN_DOUBLE = 40, 30
_CHORD_STEPS = 6
_LINEAR = 0.5
_ARRIVED = 0.05
_SINGULAR = 1e5
_SAME_JACOBIAN = 1e-4


def search_from_many(
    system: System, states: torch.Tensor, inputs: torch.Tensor | None = None, tolerance: float | None = None
) -> Search:
    """Send states to fixed points, as `newton_search` does, with fewer and cheaper Jacobians.

    All states must be given the same inputs. Where the linearisation around a known fixed point predicts within half
    of its distance that a state leads there, and chord steps with this one matrix go there indeed, the state needs no
    Jacobian of its own. Near any other fixed point the prediction is that the state stays, so none is missed for that.
    Jacobians are in single precision where the step takes it; what this does not bring to an end is done in double.

    Parameters
    ----------
    system : System
    states : torch.Tensor of shape (batch, n_states)
    inputs : torch.Tensor of shape (batch, n_inputs), optional
        Those of the system by default.
    tolerance : float, optional
        See `newton_search`.

    Returns
    -------
    Search

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda state: torch.tanh(2 * state), torch.linspace(-2, 2, 200)[:, None])
    >>> found = search_from_many(system, states)
    >>> sorted(set(found.states[found.converged].round(decimals=3).abs().flatten().tolist()))
    [0.0, 0.958]
    """
    inputs = system.inputs if inputs is None else inputs
    size = typical_size(states)
    tolerance = precision(states.dtype).speed * size if tolerance is None else tolerance
    one = None if inputs is None else inputs[:1]
    dtype = _dtype_of_jacobians(system, states[:1], one)
    # evenly spread, as neighbours in a trajectory are alike; an odd stride, as every other start may lie between two
    first = torch.arange(0, len(states), -(-len(states) // _FIRST) | 1, device=states.device)
    known = KnownPoints(system, states[:0], one, size, dtype)
    found = newton_search(system, states[first], _rows(inputs, first), tolerance, _FIRST_ITERATIONS, known, dtype)
    found = Search(*(_spread(values, first, len(states)) for values in found))
    found.states[:] = torch.where(found.converged[:, None], found.states, states)
    for jacobian_dtype, most in ((dtype, _ITERATIONS), (states.dtype, _ITERATIONS_IN_DOUBLE)):
        rest = (~found.converged).nonzero()[:, 0]
        if len(rest):
            start, given = found.states[rest], _rows(inputs, rest)
            part = newton_search(system, start, given, tolerance, most, known, jacobian_dtype)
            for whole, values in zip(found, part, strict=True):
                whole[rest] = values
    return found


def _spread(values: torch.Tensor, rows: torch.Tensor, n_rows: int) -> torch.Tensor:
    whole = values.new_zeros(n_rows, *values.shape[1:])
    whole[rows] = values
    return whole


def _rows(inputs: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor | None:
    return None if inputs is None else inputs[rows]


def _dtype_of_jacobians(system: System, states: torch.Tensor, inputs: torch.Tensor | None) -> torch.dtype:
    """Return single precision where the step takes it and gives it back."""
    single = torch.float32
    try:
        # outside of any transformation first: adapters copy their weights
        displacement(system, states.to(single), None if inputs is None else inputs.to(single))
        found = system.jacobians(states.to(single), None if inputs is None else inputs.to(single))
    except Exception:  # what a step raises that was written for double precision is its own
        return states.dtype
    same = torch.allclose(found.to(states.dtype), system.jacobians(states, inputs), _SAME_JACOBIAN, _SAME_JACOBIAN)
    return single if found.dtype == single and same else states.dtype


class KnownPoints:
    """Fixed points that were found, with the inverse of ``I - J`` at each.

    Parameters
    ----------
    system : System
    points : torch.Tensor of shape (0, n_states)
        Says of which type points are.
    inputs : torch.Tensor of shape (1, n_inputs) or None
        Held.
    size : float
        Of a typical state.
    dtype : torch.dtype
        Of the Jacobians.
    """

    def __init__(
        self, system: System, points: torch.Tensor, inputs: torch.Tensor | None, size: float, dtype: torch.dtype
    ) -> None:
        self.system, self.points, self.inputs, self.size, self.dtype = system, points, inputs, size, dtype
        self.speeds = points.new_empty(0)
        self.inverses = points.new_empty(0, system.n_states, system.n_states)

    def add(self, points: torch.Tensor, speeds: torch.Tensor) -> None:
        """Take in points that are new and whose ``I - J`` has an inverse."""
        apart = precision(points.dtype).apart * self.size
        if len(self.points) and len(points):
            new = torch.cdist(points, self.points).amin(1) > apart
            points, speeds = points[new], speeds[new]
        chosen, _ = distinct(points, speeds, torch.zeros_like(speeds, dtype=torch.int64), apart)
        points, speeds = points[chosen], speeds[chosen]
        if not len(points):
            return
        given = self._given(points)
        jacobians = self.system.jacobians(points.to(self.dtype), None if given is None else given.to(self.dtype))
        matrices = torch.eye(points.shape[1], dtype=points.dtype, device=points.device) - jacobians.to(points.dtype)
        inverses, failed = torch.linalg.inv_ex(matrices)
        condition = matrices.flatten(1).norm(dim=1) * inverses.flatten(1).norm(dim=1)
        good = (failed == 0) & (condition < _SINGULAR)
        self.points = torch.cat([self.points, points[good]])
        self.speeds = torch.cat([self.speeds, speeds[good]])
        self.inverses = torch.cat([self.inverses, inverses[good]])

    def lead_to(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return which states lead to a known point for certain, and for these the points and their speeds."""
        arrived = torch.zeros(len(states), dtype=torch.bool, device=states.device)
        if not len(self.points):
            return arrived, states[:0], states[:0, 0]
        start, nearest = torch.cdist(states, self.points).min(1)
        nothing = precision(states.dtype).rounding * self.size
        rows, x, distance = arrived.logical_not().nonzero()[:, 0], states, start
        for _ in range(_CHORD_STEPS):
            x = x + _by_group(self.inverses, nearest[rows], displacement(self.system, x, self._given(x)))
            after = (x - self.points[nearest[rows]]).norm(dim=1)
            linear = after <= (_LINEAR * distance).clamp_min(nothing)
            there = linear & (after <= (_ARRIVED * start[rows]).clamp_min(nothing))
            arrived[rows[there]] = True
            on = linear & ~there
            rows, x, distance = rows[on], x[on], after[on]
            if not len(rows):
                break
        return arrived, self.points[nearest[arrived]], self.speeds[nearest[arrived]]

    def _given(self, states: torch.Tensor) -> torch.Tensor | None:
        return None if self.inputs is None else self.inputs.expand(len(states), -1)


def _by_group(matrices: torch.Tensor, group: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Return each vector times the matrix of its group."""
    product = torch.empty_like(vectors)
    for index in group.unique().tolist():
        rows = group == index
        product[rows] = vectors[rows] @ matrices[index].mT
    return product
