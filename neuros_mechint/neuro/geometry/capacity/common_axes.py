"""Whether manifolds vary along the same axes, which theory takes for independent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.geometry.capacity.manifolds import Manifolds


class CommonAxes(NamedTuple):
    """How alike the covariances of manifolds are.

    Parameters
    ----------
    share : float
        0 where manifolds vary along the axes of others no more than along the centres of others, 1 for the same
        covariance in all.
    n_errors : float
        How many standard deviations of manifolds of random orientation lie between.
    """

    share: float
    n_errors: float


def common_axes(found: Manifolds) -> CommonAxes:
    r"""Return how much more manifolds vary along the axes of each other than along the centres of each other.

    Axes and centres with one covariance that is not white, as of units that are correlated, overlap as well, and theory
    holds for them. The overlap of two covariances :math:`A` and :math:`B` of trace 1 is :math:`\operatorname{tr} A B`.
    Turned at random in :math:`r` dimensions, those of all points, its mean is :math:`1 / r` and its variance :math:`2 a
    b / (r - 1)(r + 2)` with :math:`a = \operatorname{tr} A^2 - 1 / r`, :math:`b` likewise: what is left of :math:`A`
    without its trace turns as one irreducible representation.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> centres, axes, sizes = (random.normal(size=shape) for shape in ((20, 1, 30), (20, 1, 30), (20, 8, 1)))
    >>> [round(common_axes(Manifolds(tuple(centres + sizes * each), ())).share, 1) for each in (axes, axes[0])]
    [0.0, 1.0]
    """
    moved = [points - points.mean(0) for points in found.points]
    kept = [place for place, points in enumerate(moved) if np.ptp(points)]
    centres = found.centres / np.linalg.norm(found.centres, axis=1, keepdims=True)
    rank = int(np.linalg.matrix_rank(np.concatenate([*moved, centres])))
    if len(kept) < 2 or rank < 2:
        return CommonAxes(0.0, 0.0)
    axes = [moved[place] / np.linalg.norm(moved[place]) for place in kept]
    own = np.array([_overlap(each, each) for each in axes])
    n_pairs = len(axes) * (len(axes) - 1)
    joined = np.concatenate(axes)
    among = (sum(_overlap(each, joined) for each in axes) - own.sum()) / n_pairs
    others = [np.delete(centres, place, axis=0) for place in kept]
    with_centres = np.mean([_overlap(each, other) / len(other) for each, other in zip(axes, others, strict=True)])
    chance = max(float(with_centres), 1 / rank)
    left = own - 1 / rank
    spread = 2 * (left.sum() ** 2 - (left**2).sum()) / n_pairs**2  # among axes, of which each pair counts twice
    spread += left.sum() * (1 - 1 / rank) / (len(axes) ** 2 * (len(centres) - 1))  # with centres
    error = np.sqrt(2 * spread / ((rank - 1) * (rank + 2)))
    alike = np.mean([_of_many_points(square, len(each)) for square, each in zip(own, axes, strict=True)])
    beyond, most = among - chance, max(alike, among) - chance
    return CommonAxes(float(beyond / most) if beyond > 0 else 0.0, float(beyond / error) if error > 0 else 0.0)


def _overlap(one: Floats, other: Floats) -> float:
    """Return tr A B of A = one' one and B = other' other."""
    return float(((one @ other.T) ** 2).sum())


def _of_many_points(square: float, n_points: int) -> float:
    """Return tr C^2 without what few points add to it, were they normal."""
    n = n_points - 1
    return n**2 / ((n - 1) * (n + 2)) * (square - 1 / n) if n > 1 else square
