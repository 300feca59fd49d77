"""The least energy that takes a linear system from one state to another, and the control that does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.dynamics.control.gramians import Reach

_MISSED = 1e-6
_ROUNDING = float(np.finfo(float).eps)


class Steering(NamedTuple):
    """The cheapest way to a target.

    Parameters
    ----------
    energy : float
        Sum of squared inputs over all steps; infinite where the target is out of reach.
    inputs : numpy.ndarray of shape (step, input)
        None where the horizon is infinite.
    """

    energy: float
    inputs: Floats | None


def cheapest(
    jacobians: Floats, inputs: Floats, drifts: Floats, start: Floats, target: Floats, basis: Floats
) -> Steering:
    r"""Return the inputs of least energy with :math:`x_{t+1} = A_t x_t + B_t u_t + c_t` from ``start`` to ``target``.

    Parameters
    ----------
    jacobians, inputs, drifts : numpy.ndarray
        :math:`A_t` ``(step, unit, unit)``, :math:`B_t` ``(step, unit, input)`` and :math:`c_t` ``(step, unit)``.
    start, target : numpy.ndarray of shape (unit,)
    basis : numpy.ndarray of shape (unit, n_reached)
        Of what inputs reach, see `reach`.

    Examples
    --------
    >>> one = np.ones((2, 1, 1))
    >>> cheapest(one, one, np.zeros((2, 1)), np.zeros(1), np.ones(1), np.ones((1, 1))).inputs.round(9).tolist()
    [[0.5], [0.5]]
    """
    horizon, n_units, n_inputs = inputs.shape
    arrival, later = start, np.eye(n_units)
    effects = np.empty((n_units, horizon, n_inputs))
    for step in range(horizon):
        arrival = jacobians[step] @ arrival + drifts[step]
    for step in range(horizon)[::-1]:
        effects[:, step] = later @ inputs[step]
        later = later @ jacobians[step]
    missing = target - arrival
    if _misses(basis, missing):
        return Steering(np.inf, None)
    solved = np.linalg.lstsq(basis.T @ effects.reshape(n_units, -1), basis.T @ missing, rcond=_ROUNDING)[0]
    found = np.asarray(solved, dtype=np.float64)
    return Steering(float(found @ found), found.reshape(horizon, n_inputs))


def cheapest_ever(space: Reach, missing: Floats) -> Steering:
    r"""Return the energy :math:`d^\top W^{-1} d` over infinite time of a target d away from where the system rests.

    Examples
    --------
    >>> space = Reach(1, np.array([[1.0], [0.0]]), np.array([[2.0]]))
    >>> cheapest_ever(space, np.array([2.0, 0.0])).energy
    1.0
    >>> cheapest_ever(space, np.array([0.0, 1.0])).energy
    inf
    """
    if _misses(space.basis, missing):
        return Steering(np.inf, None)
    found = np.linalg.lstsq(space.factor, space.basis.T @ missing, rcond=_ROUNDING)[0]
    return Steering(float(found @ found), None)


def _misses(basis: Floats, missing: Floats) -> bool:
    return bool(np.linalg.norm(missing - basis @ (basis.T @ missing)) > _MISSED * np.linalg.norm(missing))
