"""Newton's method for the fixed points of a batch of states, with Levenberg-Marquardt steps where it fails."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch

from neuros_mechint.neuro.dynamics.systems import System

_ELEMENTS_AT_ONCE = 2**19  # of Jacobians: more do not stay in the cache
_FEWEST_ROWS = 8
_FAR_OUT = 10.0  # times the median length of states
_LONGEST_STEP = 3.0  # in sizes of a state
_FIRST_DAMPING, _LEAST_DAMPING = 1e-3, 1e-6
_DAMPINGS_AT_ONCE = 5
_HARDLY_SLOWER = 1e-4
_FEW = 16  # states for which it is not worth while to learn from a new fixed point


class Precision(NamedTuple):
    """What counts as zero, relative to the size of a state."""

    speed: float
    """A state that moves less may be a fixed point."""
    rounding: float
    """A state that moves less does not move."""
    near: float
    """Newton's last step to a fixed point is shorter."""
    apart: float
    """Two fixed points lie further apart."""
    settled: float
    """Newton's step at a fixed point, after all steps, is shorter."""
    marginal: float
    """An eigenvalue this near to 1 is 1; not relative to anything."""


_PRECISION = {
    torch.float64: Precision(1e-9, 1e-14, 1e-3, 1e-4, 1e-6, 1e-7),
    torch.float32: Precision(1e-6, 3e-7, 3e-3, 1e-3, 1e-3, 1e-4),
}


class Search(NamedTuple):
    """Where a batch of states went."""

    states: torch.Tensor
    """``(batch, n_states)``."""
    speeds: torch.Tensor
    """``(batch,)``: the length of ``step(state) - state``."""
    converged: torch.Tensor
    """``(batch,)`` bool: the state does not move, and Newton's last step was short."""
    flat: torch.Tensor
    """``(batch,)`` bool: the state moves, but no small change of it would make it slower."""


class Known(Protocol):
    """Fixed points that are known, and which states lead to them."""

    def add(self, points: torch.Tensor, speeds: torch.Tensor) -> None:
        """Take in those that are new."""
        ...

    def lead_to(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return which states lead to a known point for certain, and for these the points and their speeds."""
        ...


def precision(dtype: torch.dtype) -> Precision:
    """Return what counts as zero in this precision.

    Examples
    --------
    >>> import torch
    >>> precision(torch.float64).speed
    1e-09
    """
    return _PRECISION[dtype]


def typical_size(states: torch.Tensor) -> float:
    """Return the root mean square length of states, or 1 where all are zero; a few that lie far out do not count.

    Examples
    --------
    >>> import torch
    >>> typical_size(torch.tensor([[3.0, 4.0], [-3.0, 4.0]]))
    5.0
    >>> typical_size(torch.tensor([[3.0, 4.0], [-3.0, 4.0], [4.0, 3.0], [1e6, 0.0]]))
    50.0
    """
    lengths = states.norm(dim=1)
    size, middle = float(lengths.square().mean().sqrt()), float(lengths.median())
    return min(size, _FAR_OUT * middle or size) or 1.0


def displacement(system: System, states: torch.Tensor, inputs: torch.Tensor | None) -> torch.Tensor:
    """Return how far each state moves in one step, ``(batch, n_states)``.

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda state: 0.5 * state, [[2.0]])
    >>> displacement(system, states, None).tolist()
    [[-1.0]]
    """
    with torch.no_grad():
        return system(states, inputs) - states


def blocks(n_rows: int, n_states: int) -> list[slice]:
    """Return slices of so many rows that their Jacobians stay small.

    Examples
    --------
    >>> [block.stop for block in blocks(300, 64)]
    [128, 256, 384]
    """
    rows = max(_FEWEST_ROWS, _ELEMENTS_AT_ONCE // n_states**2)
    return [slice(first, first + rows) for first in range(0, n_rows, rows)]


def newton_search(
    system: System,
    states: torch.Tensor,
    inputs: torch.Tensor | None = None,
    tolerance: float | None = None,
    max_iterations: int = 100,
    known: Known | None = None,
    jacobian_dtype: torch.dtype | None = None,
) -> Search:
    r"""Send every state to a fixed point, or to where it moves slowest.

    A Newton step solves :math:`(I - J) p = F(x) - x`. Where it would make the state faster, or is longer than three
    times a typical state, a Levenberg-Marquardt step :math:`(A^\top A + \lambda I) p = A^\top (F(x) - x)` with
    :math:`A = I - J` takes its place, which descends on the speed; Newton takes over again when damping is no longer
    needed. States that are done are left out of the next step.

    Parameters
    ----------
    system : System
    states : torch.Tensor of shape (batch, n_states)
        Left as they are.
    inputs : torch.Tensor of shape (batch, n_inputs), optional
        Held; those of the system by default.
    tolerance : float, optional
        Speed, in units of the state per step, below which a state may be a fixed point. By default 1e-9 of the size
        of a typical state in double precision, 1e-6 in single.
    max_iterations : int
    known : Known, optional
        Fixed points that are known, and those found on the way: states that lead to them need no further step.
    jacobian_dtype : torch.dtype, optional
        Precision of the Jacobians, where it need not be that of the states.

    Returns
    -------
    Search

    References
    ----------
    Moré 1978, The Levenberg-Marquardt algorithm: implementation and theory, doi:10.1007/BFb0067700

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda state: state.cos(), [[1.0], [0.2]])
    >>> newton_search(system, states).states.flatten().tolist()
    [0.739..., 0.739...]
    """
    inputs = system.inputs if inputs is None else inputs
    size, zero = typical_size(states), precision(states.dtype)
    tolerance = zero.speed * size if tolerance is None else tolerance
    x = states.detach().clone()
    moved = displacement(system, x, inputs)
    speed, damping = moved.norm(dim=1), x.new_zeros(len(x))
    last = torch.full_like(speed, torch.inf)
    done, flat = speed <= zero.rounding * size, torch.zeros_like(speed, dtype=torch.bool)
    stuck = ~torch.isfinite(speed)
    for _ in range(max_iterations):
        active = (~done & ~stuck).nonzero()[:, 0]
        if known is not None and len(active):
            arrived, points, speeds = known.lead_to(x[active])
            rows, active = active[arrived], active[~arrived]
            x[rows], speed[rows], done[rows] = points, speeds, True
        if not len(active):
            break
        for block in blocks(len(active), system.n_states):
            rows = active[block]
            given = None if inputs is None else inputs[rows]
            step = _Step(system, x[rows], moved[rows], given, _LONGEST_STEP * size, jacobian_dtype)
            x[rows], moved[rows], damping[rows], last[rows] = step.take(damping[rows])
        before, speed[active] = speed[active], moved[active].norm(dim=1)
        done = done | ((speed <= tolerance) & (last <= zero.near * size)) | (speed <= zero.rounding * size)
        # where damped steps hardly help, speed is flat; Newton's own help far more
        flat[active] = (damping[active] > 0) & (speed[active] > (1 - _HARDLY_SLOWER) * before)
        stuck = stuck | flat
        new = active[done[active]]
        if known is not None and len(new) and len(active) >= _FEW:
            known.add(x[new], speed[new])
    return Search(x, speed, done, flat & ~done & torch.isfinite(speed))


class _Step:
    """One step of each row of a block: Newton's where it slows the state down, else a damped one."""

    def __init__(
        self,
        system: System,
        x: torch.Tensor,
        moved: torch.Tensor,
        inputs: torch.Tensor | None,
        longest: float,
        dtype: torch.dtype | None,
    ) -> None:
        self.system, self.x, self.moved, self.inputs, self.longest = system, x, moved, inputs, longest
        self.speed = moved.norm(dim=1)
        jacobians = system.jacobians(x.to(dtype or x.dtype), None if inputs is None else inputs.to(dtype or x.dtype))
        self.matrix = torch.eye(x.shape[1], dtype=jacobians.dtype, device=x.device) - jacobians
        self.length = torch.zeros_like(self.speed)

    def take(self, damping: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return states, how they move, damping, and the length of the step."""
        waiting = damping > 0
        if not waiting.all():
            step, _ = torch.linalg.solve_ex(self.matrix, self.moved.to(self.matrix.dtype))
            waiting = ~self._accepted(step, ~waiting)
        if waiting.any():
            damping = self._damped(damping.clone(), waiting)
        return self.x, self.moved, damping, self.length

    def _damped(self, damping: torch.Tensor, waiting: torch.Tensor) -> torch.Tensor:
        rows = waiting.nonzero()[:, 0]
        matrix, moved = self.matrix[rows], self.moved[rows].to(self.matrix.dtype)
        normal, slope = matrix.mT @ matrix, (matrix.mT @ moved[..., None])[..., 0]
        unit = normal.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(normal.dtype).tiny)
        damping[rows] = damping[rows].clamp_min(_FIRST_DAMPING)
        step = torch.zeros_like(self.x, dtype=self.matrix.dtype)
        for _ in range(_DAMPINGS_AT_ONCE):
            shifted = normal.clone()
            shifted.diagonal(dim1=1, dim2=2).add_((damping[rows].to(unit.dtype) * unit)[:, None])
            factor, _ = torch.linalg.cholesky_ex(shifted)
            step[rows] = torch.cholesky_solve(slope[..., None], factor)[..., 0]
            good = self._accepted(step, waiting)
            # a step that helped lets the next be bolder, down to Newton's own
            damping[good] = torch.where(damping[good] > _LEAST_DAMPING, damping[good] / 10, 0.0)
            waiting = waiting & ~good
            damping[waiting] *= 10
            if not waiting.any():
                break
        return damping

    def _accepted(self, step: torch.Tensor, tried: torch.Tensor) -> torch.Tensor:
        """Go along where it slows the state down, and return where."""
        length = step.norm(dim=1)
        tried = tried & (length <= self.longest)  # NaN, of a singular matrix, is not
        trial = torch.where(tried[:, None], self.x + step, self.x)
        moved = displacement(self.system, trial, self.inputs)
        good = tried & (moved.norm(dim=1) < self.speed)
        self.x = torch.where(good[:, None], trial, self.x)
        self.moved = torch.where(good[:, None], moved, self.moved)
        self.length = torch.where(good, length, self.length)
        return good
