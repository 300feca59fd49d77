"""Entropy production of linear processes with Gaussian noise, from covariances at one time and from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.information.entropy_production.states import in_halves, uncertainty_bound
from neuros_mechint.neuro.information.entropy_production.stretches import Sums

_FASTEST = np.pi / 2


class LinearProcess(NamedTuple):
    r"""A process :math:`dx = A x\,dt + \sqrt{2 D}\,dW`.

    Parameters
    ----------
    drift : numpy.ndarray of shape (n_units, n_units)
        Per unit of time.
    diffusion : numpy.ndarray of shape (n_units, n_units)
    covariance : numpy.ndarray of shape (n_units, n_units)
        Of the stationary states.
    """

    drift: Floats
    diffusion: Floats
    covariance: Floats

    @property
    def production(self) -> float:
        r"""Production per time: :math:`\mathrm{tr}(F^T D^{-1} F C)`, of the irreversible :math:`F = A + D C^{-1}`."""
        irreversible = self.drift + np.linalg.solve(self.covariance, self.diffusion).T
        return float(np.trace(irreversible.T @ np.linalg.solve(self.diffusion, irreversible) @ self.covariance))


def covariance_sums(stretches: Sequence[Floats]) -> Sums:
    """Return, for each stretch, sums of products at one time, of those one step apart, and the number of steps.

    Parameters
    ----------
    stretches : sequence of numpy.ndarray of shape (n_times, n_units)
        Of mean 0 together.

    Returns
    -------
    Sums
        ``2 * n_units ** 2 + 1`` sums.

    Examples
    --------
    >>> covariance_sums([np.ones((5, 2))]).forward.tolist()
    [[4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]]
    """
    forward, backward = [], []
    for values in stretches:
        before, after = values[:-1], values[1:]
        same = ((before.T @ before + after.T @ after) / 2).ravel()
        later = after.T @ before
        forward.append([*same, *later.ravel(), len(before)])
        backward.append([*same, *later.T.ravel(), len(before)])
    return Sums(np.array(forward), np.array(backward))


def linear_process(sums: Floats, n_units: int, dt: float) -> LinearProcess:
    """Return the process with these covariances; a step of any length is taken back to the flow that makes it.

    Parameters
    ----------
    sums : numpy.ndarray of shape (2 * n_units ** 2 + 1,)
        As `covariance_sums` has them.
    n_units : int
    dt : float
        Time of a step.

    Raises
    ------
    InputError
        Steps over which states turn by more than a quarter circle or forget everything, or noise without power in some
        direction.

    Examples
    --------
    >>> turned = 0.9 * np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
    >>> process = linear_process(np.array([*np.eye(2).ravel(), *turned.ravel(), 1]), 2, 1.0)
    >>> process.drift.round(3).tolist()
    [[-0.105, -0.1], [0.1, -0.105]]
    """
    from scipy.linalg import logm

    covariance, later = _covariances(sums, n_units)
    propagator = np.linalg.solve(covariance, later.T).T
    multipliers = np.linalg.eigvals(propagator)
    if (np.abs(np.angle(multipliers)) > _FASTEST).any() or (np.abs(multipliers) < 1e-3).any():
        raise InputError(
            "the samples are too far apart for a linear process",
            expected="steps over which states turn by less than a quarter circle and are not forgotten",
            got=f"multipliers {np.round(multipliers, 3).tolist()}",
            fix='sample more often, or pass method="gaussian", which needs no drift',
        )
    drift = np.real(logm(propagator)) / dt
    diffusion = -(drift @ covariance + covariance @ drift.T) / 2
    if np.linalg.eigvalsh(diffusion).min() <= 0:
        raise InputError(
            "no noise drives some direction: the process is no diffusion of these units alone",
            expected="noise in every direction",
            got=f"eigenvalues of the diffusion {np.round(np.linalg.eigvalsh(diffusion), 6).tolist()}",
            fix='leave out units that follow from others, or pass method="tur", which stays finite',
        )
    return LinearProcess(drift, diffusion, covariance)


def weakest_noise(sums: Floats, n_units: int) -> float:
    """Return the least variance that one step adds in any direction, as a share of the most.

    Parameters
    ----------
    sums : numpy.ndarray
        As `covariance_sums` has them.
    n_units : int

    Examples
    --------
    >>> later = np.diag([0.9, 0.99])
    >>> round(weakest_noise(np.array([*np.eye(2).ravel(), *later.ravel(), 1]), 2), 3)  # (1 - .99^2) / (1 - .9^2)
    0.105
    """
    covariance, later = _covariances(sums, n_units)
    added = np.linalg.eigvalsh(covariance - later @ np.linalg.solve(covariance, later.T))
    return max(float(added[0]), 0.0) / float(added[-1])


def pair_divergence(sums: Floats, n_units: int, dt: float) -> float:
    """Return how much likelier normal pairs of successive states are than the same pairs backwards, per time.

    Parameters
    ----------
    sums : numpy.ndarray
        As `covariance_sums` has them.
    n_units : int
    dt : float

    Examples
    --------
    >>> pair_divergence(np.array([1.0, 0.5, 1.0]), 1, 0.1)  # one unit alone
    0.0
    """
    covariance, later = _covariances(sums, n_units)
    forwards = np.block([[covariance, later.T], [later, covariance]])
    backwards = np.block([[covariance, later], [later.T, covariance]])
    return float(np.trace(np.linalg.solve(backwards, forwards)) / 2 - n_units) / dt


def current_sums(stretches: Sequence[Floats]) -> Sums:
    """Return sums of all currents ``middle_k * step_l`` and of their products, for even and odd stretches apart.

    Examples
    --------
    >>> current_sums([np.ones((5, 2)), np.ones((5, 2))]).forward.shape
    (2, 42)
    """
    forward, backward = [], []
    for values in stretches:
        middle, step = (values[1:] + values[:-1]) / 2, np.diff(values, axis=0)
        flows = (middle[:, :, None] * step[:, None, :]).reshape(len(step), -1)
        squares = (flows.T @ flows).ravel()
        forward.append([*flows.sum(0), *squares, len(step)])
        backward.append([*-flows.sum(0), *squares, len(step)])
    return in_halves(Sums(np.array(forward), np.array(backward)))


def best_current(sums: Floats, n_units: int, dt: float) -> float:
    """Return the bound that the best linear current of each half of the stretches shows on the other half.

    References
    ----------
    Otsubo et al. 2020, Estimating entropy production by machine learning of short-time fluctuating currents,
    doi:10.1103/PhysRevE.101.062106

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> stretches = [random.normal(size=(50, 2)) for _ in range(20)]
    >>> abs(best_current(current_sums(stretches).forward.sum(0), 2, 1.0)) < 0.02
    True
    """
    n_flows = n_units**2
    found = []
    halves = np.split(sums, 2)
    for learnt, tested in (halves, halves[::-1]):
        squares, tested_squares = (half[n_flows:-1].reshape(n_flows, n_flows) for half in (learnt, tested))
        weights = np.linalg.lstsq(squares, learnt[:n_flows], rcond=1e-10)[0]
        mean = float(weights @ tested[:n_flows] / tested[-1])
        found.append(uncertainty_bound(mean, float(weights @ tested_squares @ weights / tested[-1])) / dt)
    return float(np.mean(found))


def _covariances(sums: Floats, n_units: int) -> tuple[Floats, Floats]:
    same, later = (part.reshape(n_units, n_units) / sums[-1] for part in np.split(sums[:-1], 2))
    return same, later
