"""The least energy that takes a linear system from one state to another, and the control that does."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats

_MISSED = 1e-6


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
    jacobians: Floats, inputs: Floats, drifts: Floats, start: Floats, target: Floats, tolerance: float
) -> Steering:
    r"""Return the inputs of least energy with :math:`x_{t+1} = A_t x_t + B_t u_t + c_t` from ``start`` to ``target``.

    Parameters
    ----------
    jacobians, inputs, drifts : numpy.ndarray
        :math:`A_t` ``(step, unit, unit)``, :math:`B_t` ``(step, unit, input)`` and :math:`c_t` ``(step, unit)``.
    start, target : numpy.ndarray of shape (unit,)
    tolerance : float
        Directions reached less than this, as a share of the best reached, count as not reached.

    Examples
    --------
    >>> one = np.ones((2, 1, 1))
    >>> cheapest(one, one, np.zeros((2, 1)), np.zeros(1), np.ones(1), 1e-10).inputs.round(9).tolist()
    [[0.5], [0.5]]
    """
    from scipy.linalg import lstsq

    horizon, n_units, n_inputs = inputs.shape
    arrival, later = start, np.eye(n_units)
    effects = np.empty((n_units, horizon, n_inputs))
    for step in range(horizon):
        arrival = jacobians[step] @ arrival + drifts[step]
    for step in range(horizon)[::-1]:
        effects[:, step] = later @ inputs[step]
        later = later @ jacobians[step]
    missing = target - arrival
    flat = effects.reshape(n_units, -1)
    solved: Any = lstsq(flat, missing, cond=tolerance)
    found: Floats = solved[0]
    if _misses(flat @ found, missing):
        return Steering(np.inf, None)
    return Steering(float(found @ found), found.reshape(horizon, n_inputs))


def cheapest_ever(gramian: Floats, missing: Floats, tolerance: float) -> Steering:
    r"""Return the energy :math:`d^\top W^{-1} d` over infinite time of a target d away from where the system rests.

    Examples
    --------
    >>> cheapest_ever(np.diag([4.0, 0.0]), np.array([2.0, 0.0]), 1e-10).energy
    1.0
    >>> cheapest_ever(np.diag([4.0, 0.0]), np.array([0.0, 1.0]), 1e-10).energy
    inf
    """
    values, vectors = np.linalg.eigh(gramian)
    kept = values > tolerance**2 * values[-1] + np.finfo(float).eps * values.size * values[-1]
    along = vectors[:, kept].T @ missing
    if _misses(vectors[:, kept] @ along, missing):
        return Steering(np.inf, None)
    return Steering(float(along @ (along / values[kept])), None)


def _misses(reached: Floats, missing: Floats) -> bool:
    return bool(np.linalg.norm(reached - missing) > _MISSED * np.linalg.norm(missing))
