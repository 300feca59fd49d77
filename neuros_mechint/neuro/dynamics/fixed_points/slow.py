"""Points that are no fixed points, but where a system is slow: minima of speed, and the manifolds it creeps along."""

from __future__ import annotations

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.dynamics.fixed_points.distinct import distinct
from neuros_mechint.neuro.dynamics.fixed_points.newton import Search, blocks, displacement, newton_search, precision
from neuros_mechint.neuro.dynamics.systems import System

_MOST_MINIMA = 32
_ALIKE = 1e-2  # distance of slow points that need not be told apart, in sizes of a state
_MOST_STEPS = 200
_WORTH_IT = 10.0
_FLAT = 1e-2  # of its square: how much speed may change over the size of a state
_ASIDE, _ROUNDING = 1e-2, 1e-6  # sizes of a state to either side of a minimum, and what counts as no slower there
_MANIFOLD_STARTS, _MANIFOLD_STEPS = 256, 8


def follow_down(
    system: System, found: Search, inputs: torch.Tensor | None, conditions: torch.Tensor, speed: float, size: float
) -> Search:
    r"""Return a search in which states that got stuck have gone on to a minimum of :math:`q = |F(x) - x|^2 / 2`.

    BFGS goes down on :math:`q` from one of each group of such states; if Newton's method then finds a fixed point from
    there, that is where it is.

    Parameters
    ----------
    system : System
    found : Search
    inputs : torch.Tensor of shape (batch, n_inputs) or None
    conditions : torch.Tensor of shape (batch,)
        Which rows have the same inputs.
    speed : float
        States more than ten times as fast are left where they are: no way down from there is known to lead far enough.
    size : float
        Of a typical state.

    Returns
    -------
    Search
        Only one of each group remains flat.

    References
    ----------
    Sussillo and Barak 2013, Opening the black box, doi:10.1162/NECO_a_00409

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.fixed_points.newton import newton_search
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda x: x + x**2 + 0.01, [[-0.3]])
    >>> found = follow_down(system, newton_search(system, states), None, torch.zeros(1, dtype=torch.int64), 0.1, 0.3)
    >>> abs(found.states.item()) < 1e-6, found.speeds.item()
    (True, 0.01)
    """
    rows = (found.flat & (found.speeds <= _WORTH_IT * speed)).nonzero()[:, 0]
    chosen, _ = distinct(found.states[rows], found.speeds[rows], conditions[rows], _ALIKE * size)
    rows = rows[chosen[:_MOST_MINIMA]]
    if not len(rows):
        return found
    given = None if inputs is None else inputs[rows]
    bottoms = [_bottom(system, found.states[row], None if inputs is None else inputs[row]) for row in rows]
    states = torch.stack(bottoms)
    # nothing but standing still counts here: these states are slow
    again = newton_search(system, states, given, precision(states.dtype).rounding * size)
    states = torch.where(again.converged[:, None], again.states, states)
    found = Search(*(values.clone() for values in found))
    found.states[rows], found.speeds[rows] = states, displacement(system, states, given).norm(dim=1)
    found.converged[rows] = again.converged
    found.flat[:] = False
    found.flat[rows] = ~again.converged
    return found


def slowest_points(
    system: System, found: Search, inputs: torch.Tensor | None, conditions: torch.Tensor, speed: float, size: float
) -> torch.Tensor:
    """Return which rows are minima of speed, no faster than ``speed``, that are no fixed points.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda x: x + x**2 + 0.01, [[0.0], [0.1]])
    >>> found = Search(states, torch.tensor([0.01, 0.02]), torch.zeros(2) > 0, torch.zeros(2) == 0)
    >>> slowest_points(system, found, None, torch.zeros(2, dtype=torch.int64), 0.05, 1.0).tolist()
    [0]
    """
    rows = (found.flat & (found.speeds <= speed)).nonzero()[:, 0]
    states, given = found.states[rows], None if inputs is None else inputs[rows]
    moved = displacement(system, states, given) if len(rows) else states
    unit = torch.eye(system.n_states, dtype=states.dtype, device=states.device)
    matrices = unit - system.jacobians(states, given) if len(rows) else states[..., None] * unit
    slope = (matrices.mT @ moved[..., None])[..., 0].norm(dim=1)
    lowest = slope * size <= _FLAT * moved.square().sum(1)
    if len(rows):
        lowest &= _is_lowest(system, states, given, matrices, _ASIDE * size)
    rows = rows[lowest]
    chosen, _ = distinct(found.states[rows], found.speeds[rows], conditions[rows], _ALIKE * size)
    return rows[chosen]


def _is_lowest(
    system: System, states: torch.Tensor, inputs: torch.Tensor | None, matrices: torch.Tensor, aside: float
) -> torch.Tensor:
    """Return which states are no faster than those on either side of them, along the direction of slowest change.

    Between two fixed points that are about to merge, speed has a maximum in this direction where its slope is zero too.
    """
    direction = torch.linalg.svd(matrices).Vh[:, -1]
    speeds = displacement(system, states, inputs).norm(dim=1)
    beside = [displacement(system, states + side * direction, inputs).norm(dim=1) for side in (aside, -aside)]
    return torch.minimum(*beside) >= (1 - _ROUNDING) * speeds


def slow_manifold(
    system: System, states: torch.Tensor, inputs: torch.Tensor | None, damping: float
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return states after their fast directions have settled and their slow ones have not, and the rows they are of.

    Steps :math:`(A^\top A + \kappa^2 I)\, p = A^\top (F(x) - x)`, :math:`A = I - J`, go to rest along directions in
    which :math:`A` is larger than :math:`\kappa`, and stand still along those in which it is smaller.

    Parameters
    ----------
    system : System
    states : torch.Tensor of shape (batch, n_states)
        Up to 256 of them are taken, evenly spread.
    inputs : torch.Tensor of shape (batch, n_inputs) or None
    damping : float
        The singular value :math:`\kappa`.

    Returns
    -------
    points : torch.Tensor of shape (n_points, n_states)
    rows : torch.Tensor of shape (n_points,)

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda x: torch.stack([0.999 * x[:, 0], 0.2 * x[:, 1]], 1), [[1.0, 1.0]])
    >>> slow_manifold(system, states, None, damping=0.03)[0].round(decimals=2).tolist()
    [[0.99, 0.0]]
    """
    rows = torch.arange(0, len(states), -(-len(states) // _MANIFOLD_STARTS), device=states.device)
    x, given = states[rows].clone(), None if inputs is None else inputs[rows]
    unit = torch.eye(system.n_states, dtype=x.dtype, device=x.device)
    for _ in range(_MANIFOLD_STEPS):
        moved = displacement(system, x, given)
        for block in blocks(len(x), system.n_states):
            matrix = unit - system.jacobians(x[block], None if given is None else given[block])
            slope = (matrix.mT @ moved[block][..., None])[..., 0]
            factor, _ = torch.linalg.cholesky_ex(matrix.mT @ matrix + damping**2 * unit)
            trial = x[block] + torch.cholesky_solve(slope[..., None], factor)[..., 0]
            after = displacement(system, trial, None if given is None else given[block])
            slower = after.norm(dim=1) < moved[block].norm(dim=1)
            x[block] = torch.where(slower[:, None], trial, x[block])
    return x, rows


def _bottom(system: System, start: torch.Tensor, inputs: torch.Tensor | None) -> torch.Tensor:
    from scipy.optimize import minimize

    given = None if inputs is None else inputs[None]
    scale = float(displacement(system, start[None], given).square().sum()) / 2 or 1.0

    def speed_and_slope(values: Floats) -> tuple[float, Floats]:
        x = torch.from_numpy(values).to(start).requires_grad_()
        q = (system(x[None], given) - x).square().sum() / 2 / scale
        (slope,) = torch.autograd.grad(q, x)
        return float(q.detach()), slope.double().cpu().numpy()

    with torch.enable_grad():
        found = minimize(
            speed_and_slope,
            start.double().cpu().numpy(),
            jac=True,
            method="BFGS",
            options={"gtol": 1e-10, "maxiter": _MOST_STEPS},
        )
    return torch.from_numpy(np.asarray(found.x)).to(start)
