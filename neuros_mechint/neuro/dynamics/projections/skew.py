"""Linear dynamics that only rotate: their fit, the planes they rotate in, and how well they do beside free dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats


class Steps(NamedTuple):
    """Steps of trajectories: where they lead through, and how fast.

    Parameters
    ----------
    states : numpy.ndarray of shape (n_steps, n_dimensions)
        Half-way between two times.
    changes : numpy.ndarray of shape (n_steps, n_dimensions)
        Per sample.
    """

    states: Floats
    changes: Floats

    def within(self, axes: Floats) -> Steps:
        """Return the part of the steps along orthonormal axes ``(n_axes, n_dimensions)``.

        Examples
        --------
        >>> Steps(np.eye(2), np.eye(2)).within(np.array([[1.0, 0.0]])).states.tolist()
        [[1.0], [0.0]]
        """
        return Steps(self.states @ axes.T, self.changes @ axes.T)

    def explained(self, dynamics: Floats) -> float:
        """Return the share of the squared changes that linear dynamics explain.

        Examples
        --------
        >>> Steps(np.eye(2), np.eye(2)).explained(np.eye(2))
        1.0
        """
        left = self.changes - self.states @ dynamics.T
        return float(1 - (left**2).sum() / (self.changes**2).sum())


def steps(trials: Sequence[Floats]) -> Steps:
    """Return the steps of trials, none of them across a boundary.

    At the middle of a step a rotation has no part towards the centre, however long the step: its speed and the middle
    are at right angles.

    Examples
    --------
    >>> steps([np.array([[0.0], [2.0], [3.0]])]).states.ravel().tolist()
    [1.0, 2.5]
    """
    middles = [(trial[1:] + trial[:-1]) / 2 for trial in trials]
    return Steps(np.concatenate(middles), np.concatenate([np.diff(trial, axis=0) for trial in trials]))


def fit_free(given: Steps) -> Floats:
    """Return the linear dynamics ``(n_dimensions, n_dimensions)`` that explain most of the changes.

    Examples
    --------
    >>> fit_free(Steps(np.eye(2), np.array([[0.0, 1.0], [2.0, 0.0]]))).round(12).tolist()
    [[0.0, 2.0], [1.0, 0.0]]
    """
    return np.linalg.lstsq(given.states, given.changes, rcond=None)[0].T.astype(np.float64)


def fresh_noise(trials: Sequence[Floats]) -> float:
    r"""Return at least how much variance per dimension is noise that is new at every time.

    What linear dynamics :math:`x_{t+1} \approx F x_t` leave, :math:`r_t`, has no product with its neighbour, whatever
    drives the dynamics, but for noise :math:`e` of the measurement, which is in two of them:
    :math:`\langle r_{t+1} r_t^\top \rangle \approx -F \langle e e^\top \rangle`. Noise lowers :math:`F` too,
    so that less than half of what noise as strong as the activity adds may be found.

    Examples
    --------
    >>> angle, noise = 0.2 * np.arange(4000), 0.1 * np.random.default_rng(0).normal(size=(4000, 2))
    >>> circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> bool(0.009 < fresh_noise([circle + noise]) < 0.01), bool(fresh_noise([circle]) < 1e-9)
    (True, True)
    """
    before, after = (np.concatenate([trial[part] for trial in trials]) for part in (slice(-1), slice(1, None)))
    forward = np.linalg.lstsq(before, after, rcond=None)[0].T
    left = [trial[1:] - trial[:-1] @ forward.T for trial in trials]
    products = sum((one[1:].T @ one[:-1] for one in left), np.zeros_like(forward))
    products /= sum(len(one) - 1 for one in left)
    size = float((forward**2).sum())
    return max(-float((forward * products).sum()) / size, 0.0) if size > 0 else 0.0


def fit_skew(given: Steps) -> Floats:
    r"""Return the skew-symmetric dynamics that explain most of the changes: they rotate and do nothing else.

    With :math:`S = X^\top X` and :math:`A = \dot X^\top X`, least squares ask for :math:`M S + S M = A - A^\top`, which
    is solved in the axes of :math:`S`.

    References
    ----------
    Churchland et al. 2012, Neural population dynamics during reaching, doi:10.1038/nature11129

    Examples
    --------
    >>> angle = 0.3 * np.arange(40)
    >>> fit_skew(steps([np.stack([np.cos(angle), np.sin(angle)], axis=1)])).round(4).tolist()
    [[0.0, -0.3023], [0.3023, 0.0]]
    """
    sizes, axes = np.linalg.eigh(given.states.T @ given.states)
    turned = given.within(axes.T)
    product = turned.changes.T @ turned.states
    weight = sizes[:, None] + sizes
    empty = weight <= weight.max() * len(sizes) * np.finfo(float).eps
    skew = np.where(empty, 0.0, (product - product.T) / np.where(empty, 1.0, weight))
    return axes @ skew @ axes.T


def rotation_planes(skew: Floats) -> tuple[Floats, Floats]:
    """Return the planes in which skew-symmetric dynamics rotate, fastest first, and the angle per sample.

    Parameters
    ----------
    skew : numpy.ndarray of shape (n_dimensions, n_dimensions)
        An even number of dimensions.

    Returns
    -------
    axes : numpy.ndarray of shape (n_planes, 2, n_dimensions)
        Orthonormal; activity rotates from the first axis of a plane towards the second.
    angles : numpy.ndarray of shape (n_planes,)
        Radians per sample: a rotation by that angle has the changes, at the middle of a step, that were fitted.

    Examples
    --------
    >>> angles = rotation_planes(np.array([[0.0, -1.0], [1.0, 0.0]]))[1]
    >>> bool(np.allclose(angles, 2 * np.arctan(0.5)))
    True
    """
    from scipy.linalg import schur

    # the real Schur form of a skew-symmetric matrix has blocks of two on its diagonal, and orthonormal axes
    found = schur(skew, output="real")
    blocks, axes = np.asarray(found[0], dtype=np.float64), np.asarray(found[1], dtype=np.float64)
    n_planes = len(skew) // 2
    speeds, planes = np.zeros(n_planes), np.zeros((n_planes, 2, len(skew)))
    for plane, start in enumerate(_starts(blocks)):
        pair = axes[:, start].T
        speed = float(pair[1] @ skew @ pair[0])
        planes[plane] = pair if speed >= 0 else pair[::-1]
        speeds[plane] = abs(speed)
    order = np.argsort(-speeds, kind="stable")
    return planes[order], 2 * np.arctan(speeds[order] / 2)


def turning_angle(dynamics: Floats) -> float:
    """Return the angle per sample by which linear dynamics in a plane turn, 0 where they do not.

    Parameters
    ----------
    dynamics : numpy.ndarray of shape (2, 2)
        Of changes on states half-way between two times.

    Examples
    --------
    >>> bool(np.isclose(turning_angle(np.array([[0.0, -1.0], [1.0, 0.0]])), 2 * np.arctan(0.5)))
    True
    """
    # the change by a factor z over one sample is 2 (z - 1) / (z + 1) times the state half-way
    half = np.linalg.eigvals(dynamics).astype(complex) / 2
    return float(np.abs(np.angle((1 + half) / (1 - half))).max()) if np.abs(half.imag).max() > 0 else 0.0


def _starts(blocks: Floats) -> list[list[int]]:
    """Return the pairs of axes of a real Schur form: those of its blocks, then single ones by two."""
    pairs, single, at, limit = [], [], 0, np.abs(blocks).max() * 1e-12
    while at < len(blocks):
        if at + 1 < len(blocks) and abs(blocks[at + 1, at]) > limit:
            pairs.append([at, at + 1])
            at += 2
        else:
            single.append(at)
            at += 1
    return pairs + [single[place : place + 2] for place in range(0, len(single), 2)]
