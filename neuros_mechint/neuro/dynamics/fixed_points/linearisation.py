"""What a system does near a point: Jacobian, eigenvalues, time constants, stability and index."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Complexes, Floats
from neuros_mechint.neuro.dynamics.fixed_points.newton import blocks, displacement, precision
from neuros_mechint.neuro.dynamics.systems import System

_FAR = 1e150  # further than anything, but of finite length
KINDS_OF_STABILITY = ("stable", "marginal", "saddle", "unstable")


class Linearisation(NamedTuple):
    """Linear systems around points, eigenvalues nearest to 1 first."""

    jacobians: Floats
    """``(n_points, n_states, n_states)``."""
    eigenvalues: Complexes
    """``(n_points, n_states)``."""
    steps: Floats
    """``(n_points, n_states)``: Newton's step, which leads to the fixed point if the system is linear."""

    @property
    def distances(self) -> Floats:
        """``(n_points,)``: length of Newton's step."""
        return np.linalg.norm(self.steps, axis=1)


def linearise(system: System, points: torch.Tensor, inputs: torch.Tensor | None = None) -> Linearisation:
    """Return the linear systems around points.

    Parameters
    ----------
    system : System
    points : torch.Tensor of shape (n_points, n_states)
    inputs : torch.Tensor of shape (n_points, n_inputs), optional
        Needed where the step takes any.

    Returns
    -------
    Linearisation

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda x: torch.stack([0.5 * x[:, 0], 1.1 * x[:, 1]], 1), [[0.0, 0.0]])
    >>> linearise(system, states).eigenvalues.real.tolist()
    [[1.1, 0.5]]
    """
    n_points, n_states = points.shape
    unit = torch.eye(n_states, dtype=points.dtype, device=points.device)
    jacobians = points.new_zeros(n_points, n_states, n_states)
    steps = torch.zeros_like(points)
    moved = displacement(system, points, inputs) if n_points else steps
    for block in blocks(n_points, n_states):
        jacobians[block] = system.jacobians(points[block], None if inputs is None else inputs[block])
        steps[block], failed = torch.linalg.solve_ex(unit - jacobians[block], moved[block])
        steps[block][failed > 0] = torch.inf
    matrices = jacobians.double().cpu().numpy()
    values = np.linalg.eigvals(matrices).astype(complex)
    return Linearisation(
        matrices,
        np.take_along_axis(values, nearest_to_one(values), 1),
        steps.double().nan_to_num(_FAR).clamp(-_FAR, _FAR).cpu().numpy(),
    )


def nearest_to_one(eigenvalues: Complexes) -> npt.NDArray[np.int64]:
    """Return the order of eigenvalues ``(n_points, n_states)`` by their distance from 1.

    Examples
    --------
    >>> nearest_to_one(np.array([[0.5, 1.1, -2.0]])).tolist()
    [[1, 0, 2]]
    """
    return np.argsort(np.abs(1 - eigenvalues), axis=1, kind="stable")


def n_unstable(eigenvalues: Complexes, dtype: torch.dtype) -> npt.NDArray[np.int64]:
    """Return how many directions grow, ``(n_points,)``; eigenvalues of modulus 1 do not, up to rounding."""
    return (np.abs(eigenvalues) > 1 + precision(dtype).marginal).sum(1)


def stability(eigenvalues: Complexes, dtype: torch.dtype) -> list[str]:
    """Return the kind of each point: stable, marginal, saddle or unstable.

    Marginal: no direction grows, but some neither grow nor shrink in the linear system, so that it does not say
    whether the point is stable.

    Examples
    --------
    >>> import torch
    >>> stability(np.array([[0.5, 0.2j], [1.0, 0.5], [1.5, 0.5], [1.5, 2.0]]), torch.float64)
    ['stable', 'marginal', 'saddle', 'unstable']
    """
    growing, size = n_unstable(eigenvalues, dtype), eigenvalues.shape[1]
    level = (np.abs(np.abs(eigenvalues) - 1) <= precision(dtype).marginal).any(1)
    conditions: list[Any] = [growing == size, growing > 0, level]
    return np.select(conditions, ["unstable", "saddle", "marginal"], "stable").tolist()


def index(eigenvalues: Complexes, dtype: torch.dtype) -> Floats:
    r"""Return the sign of :math:`\det(I - J)` at each point; NaN where it is zero up to rounding.

    Examples
    --------
    >>> import torch
    >>> index(np.array([[0.5, 0.2], [1.5, 0.5], [1.0, 0.5]]), torch.float64).tolist()
    [1.0, -1.0, nan]
    """
    marginal = precision(dtype).marginal
    # factors of complex pairs are positive together
    real = np.abs(eigenvalues.imag) <= marginal
    negative = (real & (eigenvalues.real > 1)).sum(1) % 2
    return np.where((np.abs(1 - eigenvalues) <= marginal).any(1), np.nan, 1.0 - 2 * negative)


def rates(eigenvalues: Complexes, dt: float) -> Complexes:
    r"""Return the rates :math:`\ln(\lambda) / \mathrm{dt}` at which directions grow, in radians for what turns.

    Examples
    --------
    >>> rates(np.exp(0.1 * np.array([-1.0, 0.5 + 2j])), dt=0.1).round(6).tolist()
    [(-1+0j), (0.5+2j)]
    """
    with np.errstate(divide="ignore"):
        found: Any = np.log(eigenvalues.astype(complex))
    return found / dt


def time_constants(eigenvalues: Complexes, dt: float) -> Floats:
    r"""Return :math:`-\mathrm{dt} / \ln|\lambda|`: times to fall by a factor e, negative where directions grow.

    Examples
    --------
    >>> time_constants(np.array([np.exp(-0.01), 1.0, 0.0]), dt=0.1).round(6).tolist()
    [10.0, inf, 0.0]
    """
    with np.errstate(divide="ignore"):
        growth = np.log(np.abs(eigenvalues))
        return np.where(growth == 0, np.inf, -dt / growth) + 0.0


def slow_modes(eigenvalues: Complexes, most: int, gap: float) -> npt.NDArray[np.int64]:
    r"""Return how many modes are far slower than all others, by :math:`|1 - \lambda|`; 0 where none stands out.

    Examples
    --------
    >>> slow_modes(np.array([[0.99, 0.5, 0.4], [0.7, 0.5, 0.4]], dtype=complex), most=2, gap=4).tolist()
    [1, 0]
    """
    change = np.sort(np.abs(1 - eigenvalues), axis=1)
    most = min(most, change.shape[1] - 1)
    if most < 1 or not len(change):
        return np.zeros(len(change), dtype=np.int64)
    least = np.finfo(np.float64).eps
    ratio = change[:, 1 : most + 1] / change[:, :most].clip(least)
    # the last gap that is wide enough would join slow modes to fast ones: the widest counts
    return np.where(ratio.max(1) >= gap, ratio.argmax(1) + 1, 0)
