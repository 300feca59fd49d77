"""Levenberg-Marquardt for a circuit and the rotation of its latent space, within bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.circuits.latent.parameters import Bounds, Circuit
from neuros_mechint.neuro.circuits.latent.residuals import Targets, squared_error
from neuros_mechint.neuro.circuits.latent.rotations import small_rotation
from neuros_mechint.neuro.circuits.latent.sensitivities import Normal, normal_equations

_FACTOR = 5.0
_MOST_TRIES, _MOST_CLIPS = 8, 6
_LEAST_DAMPING = 1e-10
_LEAST_SCALE = 1e-4  # of the largest: directions without effect are not left without damping
_WIDEST_TURN = 3.0
_SETTLED, _ROUNDING = 1e-7, 1e-12


class Place(NamedTuple):
    """A circuit, how its nodes are turned in the latent space, and what both cost.

    Parameters
    ----------
    circuit : Circuit
    rotation : numpy.ndarray of shape (n_nodes, n_nodes)
    cost : float
        Squared residuals and the penalty on the connectivity.
    """

    circuit: Circuit
    rotation: Floats
    cost: float


def descend(
    targets: Targets,
    circuit: Circuit,
    rotation: Floats,
    within: Bounds,
    ridge: float,
    n_steps: int,
    teacher: bool = False,
    damping: float = 1e-2,
) -> Place:
    """Return where Levenberg-Marquardt gets to.

    Parameters
    ----------
    targets : Targets
    circuit : Circuit
    rotation : numpy.ndarray of shape (n_nodes, n_nodes)
        Orthogonal.
    within : Bounds
        A parameter at a bound over which the cost falls is held for one step.
    ridge : float
        Cost of the sum of squared connections.
    n_steps : int
        Most steps; fewer where one lowers the cost by less than 1e-7 of it.
    teacher : bool
        See `neuros_mechint.neuro.circuits.latent.residuals.squared_error`.
    damping : float
        At the start.

    Returns
    -------
    Place

    References
    ----------
    Marquardt 1963, An algorithm for least-squares estimation of nonlinear parameters, doi:10.1137/0111030
    """
    penalty = penalties(targets, ridge)

    def placed(vector: Floats, turned: Floats) -> Place:
        found = targets.layout.unpack(vector)
        with np.errstate(over="ignore", invalid="ignore"):  # a step too far may explode; it is not taken
            cost = squared_error(targets, found, turned, teacher) + float(penalty[: len(vector)] @ vector**2)
        return Place(found, turned, cost)

    place = placed(within.nearest(targets.layout.pack(circuit)), rotation)
    for _ in range(n_steps):
        normal = normal_equations(targets, place.circuit, place.rotation, teacher)
        system = _System(normal, targets.layout.pack(place.circuit), penalty, within)
        better = None
        for _ in range(_MOST_TRIES):
            step = system.step(damping)
            turn = step[targets.layout.rotation]
            if np.abs(turn).max(initial=0.0) <= _WIDEST_TURN:
                trial = placed(system.moved(step), small_rotation(turn, len(rotation)) @ place.rotation)
                if trial.cost < place.cost:
                    better = trial
                    break
            damping *= _FACTOR
        if better is None:
            break
        gain, place = 1 - better.cost / place.cost, better
        damping = max(damping / _FACTOR, _LEAST_DAMPING)
        if gain < _SETTLED:
            break
    return place


def penalties(targets: Targets, ridge: float) -> Floats:
    """Return the cost of the square of each parameter: a ridge on connections, none on anything else."""
    penalty = np.zeros(targets.layout.n_steps)
    penalty[targets.layout.connectivity] = ridge
    return penalty


class _System:
    """The linear equations of one step."""

    def __init__(self, normal: Normal, vector: Floats, penalty: Floats, within: Bounds) -> None:
        self.vector, self.within, self.matrix = vector, within, normal.matrix + np.diag(penalty)
        self.slope = normal.slope.copy()
        self.slope[: len(vector)] += penalty[: len(vector)] * vector
        self.held = np.zeros(len(self.slope), dtype=bool)
        self.held[: len(vector)] = within.pressed(vector, self.slope[: len(vector)])
        diagonal = np.diag(self.matrix)
        self.scale = np.maximum(diagonal, _LEAST_SCALE * diagonal[~self.held].max())

    def step(self, damping: float) -> Floats:
        """Return a step for some damping; what would leave its bounds goes as far as these, and the rest makes up."""
        matrix = self.matrix + np.diag(damping * self.scale)
        step, held = np.zeros_like(self.slope), self.held.copy()
        for _ in range(_MOST_CLIPS):
            free = np.flatnonzero(~held)
            pull = self.slope[free] + matrix[np.ix_(free, held)] @ step[held]
            step[free] = -np.linalg.solve(matrix[np.ix_(free, free)], pull)
            within_reach = self.moved(step) - self.vector
            beyond = np.flatnonzero(np.abs(within_reach - step[: len(self.vector)]) > _ROUNDING)
            if not len(beyond):
                break
            step[beyond], held[beyond] = within_reach[beyond], True
        return step

    def moved(self, step: Floats) -> Floats:
        """Return the parameters after a step, within their bounds."""
        return self.within.nearest(self.vector + step[: len(self.vector)])
