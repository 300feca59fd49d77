"""Gramians of linear systems in discrete time, also of those that change from step to step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar

Places = npt.NDArray[np.intp]
"""``(horizon, window)``: which matrix acts at each step of each window."""

_AT_THE_EDGE = 1e-10
_SAME_EIGENVALUE = 1e-7
_MOST_DOUBLINGS = 60


def spectral_radii(jacobians: Floats) -> Floats:
    """Return the largest absolute eigenvalue of each matrix ``(place, unit, unit)``.

    Examples
    --------
    >>> spectral_radii(np.array([[[0.5, 1.0], [0.0, -0.8]]])).round(6).tolist()
    [0.8]
    """
    return np.abs(np.linalg.eigvals(jacobians)).max(axis=1)


def stable(radii: Floats) -> npt.NDArray[np.bool_]:
    """Return which systems forget where they started.

    Examples
    --------
    >>> stable(np.array([0.9, 1.0])).tolist()
    [True, False]
    """
    return radii < 1 - _AT_THE_EDGE


def infinite_gramian(jacobian: Floats, driven: Floats) -> Floats:
    r"""Return :math:`\sum_k A^k Q A^{\top k}` of a stable matrix A, Q = ``driven``, by scipy's Lyapunov solver.

    Examples
    --------
    >>> infinite_gramian(np.array([[0.5]]), np.array([[3.0]])).item()
    4.0
    """
    from scipy.linalg import solve_discrete_lyapunov

    found = np.asarray(solve_discrete_lyapunov(jacobian, driven), dtype=np.float64)
    return (found + found.T) / 2


def reached(jacobians: Floats, driven: Floats, places: Places) -> Floats:
    r"""Return controllability Gramians :math:`W_{t+1} = A_t W_t A_t^\top + B_t B_t^\top` after all steps.

    Parameters
    ----------
    jacobians, driven : numpy.ndarray of shape (place, unit, unit)
        :math:`A` and :math:`B B^\top`.
    places : numpy.ndarray of shape (horizon, window)

    Returns
    -------
    numpy.ndarray of shape (window, unit, unit)

    Examples
    --------
    >>> reached(np.array([[[0.5]]]), np.array([[[1.0]]]), np.zeros((3, 1), dtype=int)).item()
    1.3125
    """
    return _accumulated(jacobians, driven, places, "controllability")


def seen(jacobians: Floats, observed: Floats, places: Places) -> Floats:
    r"""Return observability Gramians :math:`O_t = C^\top C + A_t^\top O_{t+1} A_t` of all steps.

    Parameters
    ----------
    jacobians : numpy.ndarray of shape (place, unit, unit)
    observed : numpy.ndarray of shape (unit, unit)
        :math:`C^\top C`.
    places : numpy.ndarray of shape (horizon, window)

    Returns
    -------
    numpy.ndarray of shape (window, unit, unit)

    Examples
    --------
    >>> seen(np.array([[[0.5]]]), np.array([[1.0]]), np.zeros((3, 1), dtype=int)).item()
    1.3125
    """
    # the same of the transposed system, backwards in time
    transposed = jacobians.swapaxes(1, 2)
    return _accumulated(transposed, np.broadcast_to(observed, jacobians.shape), places[::-1], "observability")


def _accumulated(steps: Floats, added: Floats, places: Places, description: str) -> Floats:
    gramians = np.zeros((places.shape[1], *steps.shape[1:]))
    with np.errstate(over="ignore", invalid="ignore"):
        for now in progress_bar(places, description=description):
            step = steps[now]
            gramians = step @ gramians @ step.swapaxes(1, 2) + added[now]
    return _finite(gramians)


def impulse_energies(jacobians: Floats, places: Places) -> Floats:
    """Return for each unit the trace of the controllability Gramian where this unit alone is driven.

    Parameters
    ----------
    jacobians : numpy.ndarray of shape (place, unit, unit)
    places : numpy.ndarray of shape (horizon, window)

    Returns
    -------
    numpy.ndarray of shape (window, unit)

    Examples
    --------
    >>> impulse_energies(np.array([np.diag([0.5, 0.0])]), np.zeros((3, 1), dtype=int)).tolist()
    [[1.3125, 1.0]]
    """
    # an impulse at step t has grown to Phi(horizon, t + 1) e; its squared lengths are on the diagonal
    grown = np.broadcast_to(np.eye(jacobians.shape[1]), (places.shape[1], *jacobians.shape[1:]))
    total = np.zeros((places.shape[1], jacobians.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        for now in places[::-1]:
            total += np.diagonal(grown, axis1=1, axis2=2)
            step = jacobians[now]
            grown = step.swapaxes(1, 2) @ grown @ step
    return _finite(total)


def modal_controllability(jacobian: Floats) -> Floats:
    r"""Return :math:`\sum_j (1 - |\lambda_j|^2) |w_{ij}|^2` of each unit i, w the left eigenvectors of unit length.

    Examples
    --------
    >>> modal_controllability(np.diag([0.5, 0.0])).tolist()
    [0.75, 1.0]
    """
    if np.array_equal(jacobian, jacobian.T):
        values, vectors = np.linalg.eigh(jacobian)
        return np.abs(vectors) ** 2 @ (1 - values**2)
    values, vectors = np.linalg.eig(jacobian.T)
    # modes that share an eigenvalue are any basis of their space; an orthonormal one makes the sum unambiguous
    left = np.arange(values.size)
    while left.size:
        same = left[np.abs(values[left] - values[left[0]]) < _SAME_EIGENVALUE]
        if same.size > 1:
            vectors[:, same] = np.linalg.qr(vectors[:, same])[0]
        left = np.setdiff1d(left, same)
    return np.abs(vectors) ** 2 @ (1 - np.abs(values) ** 2)


class Reach(NamedTuple):
    """The space that inputs reach within the steps of one window.

    Parameters
    ----------
    at_any_cost : int
        Its dimensions as algebra has them, whatever it costs to go there.
    basis : numpy.ndarray of shape (unit, n_reached)
        Orthonormal: the directions that a unit of energy moves the state along at least ``tolerance`` times as far as
        along the easiest. What costs more is lost in rounding, and does not count as reached.
    factor : numpy.ndarray of shape (n_reached, column)
        A root of the Gramian in this basis, which keeps twice the digits that the Gramian does.
    """

    at_any_cost: int
    basis: Floats
    factor: Floats

    @property
    def easiest(self) -> float:
        """Energy that it takes to move by one along the easiest direction; infinite where inputs reach nothing."""
        return 1 / self._sizes.max() ** 2 if self._sizes.size else np.inf

    @property
    def hardest(self) -> float:
        """The same along the hardest; infinite unless inputs reach all dimensions."""
        return 1 / self._sizes.min() ** 2 if self._sizes.size == len(self.basis) else np.inf

    @property
    def _sizes(self) -> Floats:
        return np.linalg.norm(self.factor, axis=1)


def reach(jacobians: Floats, inputs: Floats, places: Places | None, tolerance: float) -> Reach:
    """Return the space that inputs reach; ranks and energies both rest on it.

    Parameters
    ----------
    jacobians, inputs, places, tolerance
        As for `staircase`; without ``places`` the first matrix acts for ever, and is stable.

    Examples
    --------
    >>> found = reach(np.array([np.diag([0.5, 0.2])]), np.array([[[1.0], [1e-12]]]), np.zeros(5, dtype=int), 1e-10)
    >>> found.at_any_cost, found.basis.shape
    (1, (2, 1))
    """
    space = staircase(jacobians, inputs, places, tolerance)
    root = _infinite_root(jacobians[0], inputs[0]) if places is None else _finite_root(jacobians, inputs, places)
    left, sizes, right = np.linalg.svd(space.T @ root, full_matrices=False)
    kept = sizes > tolerance * sizes.max(initial=0.0)
    return Reach(space.shape[1], space @ left[:, kept], sizes[kept, None] * right[kept])


def _finite_root(jacobians: Floats, inputs: Floats, places: Places) -> Floats:
    """Return a matrix whose product with its transpose is the Gramian."""
    root = np.zeros((jacobians.shape[1], 0))
    for now in places:
        root = _compressed(np.concatenate([jacobians[now] @ root, inputs[now]], axis=1))
    return root


def _infinite_root(jacobian: Floats, inputs: Floats) -> Floats:
    """Return the same of a stable system for all steps, of which each round doubles the number."""
    root, power = inputs, jacobian
    for _ in range(_MOST_DOUBLINGS):
        root = _compressed(np.concatenate([root, power @ root], axis=1))
        power = power @ power
        if np.abs(power).max() < np.finfo(float).tiny:
            break
    return root


def _compressed(root: Floats) -> Floats:
    """Return at most as many columns as rows, with the same Gramian."""
    if root.shape[1] <= root.shape[0]:
        return root
    triangle: Floats = np.asarray(np.linalg.qr(root.T, mode="r"), dtype=np.float64)
    return triangle.T


def staircase(jacobians: Floats, inputs: Floats, places: Places | None, tolerance: float) -> Floats:
    """Return an orthonormal basis of what inputs reach within the steps of one window, at any cost.

    It is carried along from step to step, as in the staircase algorithm, because the rank of [B, AB, ...] is lost in
    rounding.

    Parameters
    ----------
    jacobians : numpy.ndarray of shape (place, unit, unit)
    inputs : numpy.ndarray of shape (place, unit, input)
    places : numpy.ndarray of shape (horizon,), optional
        Which matrix acts at each step; without it the first one does, for as long as the space grows.
    tolerance : float
        Directions shorter than this, as a share of the longest, are not counted.

    Examples
    --------
    >>> chain = np.array([[[0.0, 0.0], [1.0, 0.0]]])
    >>> staircase(chain, np.array([[[1.0], [0.0]]]), None, 1e-10).shape
    (2, 2)
    """
    n_units = jacobians.shape[1]
    basis = np.zeros((n_units, 0))
    order = np.zeros(n_units, dtype=int) if places is None else places
    constant = bool((order == order[0]).all())
    for now in order:
        ahead = [_relative(jacobians[now]) @ basis, _relative(inputs[now])]
        left, sizes, _ = np.linalg.svd(np.concatenate(ahead, axis=1), full_matrices=False)
        new = left[:, sizes > tolerance * max(1.0, sizes.max(initial=0.0))]
        if constant and new.shape[1] == basis.shape[1]:
            break
        basis = new
    return basis


def _relative(matrix: Floats) -> Floats:
    size = np.linalg.norm(matrix, 2) if matrix.size else 0.0
    return matrix / size if size else matrix


def _finite(values: Floats) -> Floats:
    if not np.isfinite(values).all():
        raise InputError(
            "the Gramian is infinite",
            expected="a horizon over which the unstable directions stay finite",
            got="a direction that grows beyond all numbers",
            fix="make the horizon shorter",
        )
    return values
