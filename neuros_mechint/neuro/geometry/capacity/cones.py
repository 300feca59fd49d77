"""Cones spanned by points: how near noise is to them, which is what limits the capacity of a linear readout."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import number

_MOST_STEPS = 30
_N_NODES = 400
_FARTHEST = 12.0


def anchor(generators: Floats, direction: Floats) -> tuple[float, Floats]:
    r"""Return how far a cone reaches against a direction, and the point of the manifold that it touches there.

    The distance by which a readout :math:`T` has to move so that no point is on its wrong side,
    :math:`F(T) = \min_V \{ \|V - T\|^2 : V \cdot S_i \ge 0 \}`, is the squared length of the projection of
    :math:`-T` on the cone of the points: nonnegative least squares.

    Parameters
    ----------
    generators : numpy.ndarray of shape (n_dimensions + 1, n_points)
        Points around their centre, along which the last coordinate is.
    direction : numpy.ndarray of shape (n_dimensions + 1,)

    Returns
    -------
    move : float
    touched : numpy.ndarray of shape (n_dimensions,)
        Anchor point: where no point is on the wrong side, the one that is nearest to it.

    Examples
    --------
    >>> anchor(np.array([[1.0]]), np.array([-2.0]))[0]
    4.0
    """
    from scipy.optimize import nnls

    weights = nnls(generators, -direction, maxiter=_MOST_STEPS * generators.shape[1])[0]
    total = weights.sum()
    if total == 0:
        return 0.0, generators[:-1, (direction @ generators).argmin()]
    reached = generators @ weights
    return float(reached @ reached), reached[:-1] / total


def separator(points: Floats) -> Floats | None:
    """Return a direction along which all points are positive, or None where there is none.

    Parameters
    ----------
    points : numpy.ndarray of shape (n_points, n_dimensions)
        Times the sign of their class; none at the origin.

    Returns
    -------
    numpy.ndarray of shape (n_dimensions,) or None
        By Gordan's theorem there is none just where nonnegative weights, not all 0, sum the points up to 0.

    Examples
    --------
    >>> separator(np.array([[1.0, 0.0], [0.0, 1.0]])).round(2).tolist()
    [0.33, 0.33]
    >>> separator(np.array([[1.0, 0.0], [-1.0, 0.0]])) is None
    True
    """
    from scipy.optimize import nnls

    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    system = np.vstack([unit.T, np.ones(len(unit))])
    target = np.zeros(len(system))
    target[-1] = 1.0
    weights = nnls(system, target, maxiter=_MOST_STEPS * len(unit))[0]
    direction = (system @ weights - target)[:-1]
    # what is left over separates the points, unless it is rounding
    return direction if (unit @ direction).min() > _ROUNDING else None


_ROUNDING = 1e-10


def ball_capacity(radius: float, dimension: float) -> float:
    r"""Return the capacity for balls: how many of them for each dimension of the space a readout can tell apart.

    Parameters
    ----------
    radius : float
        In units of the distance of centres from the origin.
    dimension : float
        Of the balls; 0 are points. Not only whole numbers.

    Returns
    -------
    float
        2 for points; :math:`1 / (D + 1/2)` for balls as large as can be.

    References
    ----------
    Chung, Lee and Sompolinsky 2018, Classification and Geometry of General Perceptual Manifolds,
    doi:10.1103/PhysRevX.8.031003; the inverse is the statistical dimension of a circular cone: Amelunxen et al. 2014,
    Living on the edge, doi:10.1093/imaiai/iau005

    Examples
    --------
    >>> ball_capacity(0.0, 5), round(ball_capacity(1e6, 5), 4)
    (2.0, 0.1818)
    """
    from scipy.stats import chi, norm

    radius, dimension = number("radius", radius, 0, np.inf, "left"), number("dimension", dimension, 0, np.inf, "left")
    if radius == 0 or dimension == 0:
        return 2.0
    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    first, last = max(0.0, dimension**0.5 - _FARTHEST), dimension**0.5 + _FARTHEST
    t = first + (nodes + 1) * (last - first) / 2
    density = weights * (last - first) / 2 * chi.pdf(t, dimension)
    inside, touching = t / radius, -radius * t
    # moments of a normal variable above `inside`, and between both
    beyond = (1 + t**2) * norm.sf(inside) + inside * norm.pdf(inside)
    share = norm.cdf(inside) - norm.cdf(touching)
    mean = norm.pdf(touching) - norm.pdf(inside)
    square = share + touching * norm.pdf(touching) - inside * norm.pdf(inside)
    between = (square + 2 * radius * t * mean + (radius * t) ** 2 * share) / (1 + radius**2)
    return float(density.sum() / (density @ (beyond + between)))
