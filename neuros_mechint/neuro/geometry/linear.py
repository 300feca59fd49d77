"""Linear dimensions: how the variance spreads over principal components."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.geometry.points import Points
from neuros_mechint.neuro.geometry.uncertainty import Estimate, with_error

EXPLAINED = 0.95
"""Share of the variance that the components counted by PCA hold."""


def principal_variances(data: Points) -> tuple[Floats, Floats]:
    """Return the variance along each principal component, largest first, and the squared scores of the points.

    Parameters
    ----------
    data : Points
        Around their mean.

    Returns
    -------
    variances : numpy.ndarray of shape (n_components,)
        Sums of squares divided by the number of points.
    squares : numpy.ndarray of shape (n_points, n_components)

    Examples
    --------
    >>> principal_variances(Points(np.array([[1.0, 0.0], [-1.0, 0.0]]), 1.0))[0].tolist()
    [1.0, 0.0]
    """
    x, n_points = data.values, len(data.values)
    if n_points <= x.shape[1]:
        variances, left = np.linalg.eigh(x @ x.T / n_points)
        squares = n_points * variances * left**2
    else:
        variances, axes = np.linalg.eigh(x.T @ x / n_points)
        squares = (x @ axes) ** 2
    return variances[::-1].clip(0), squares[:, ::-1].clip(0)


def participation(variances: Floats) -> float:
    r"""Return :math:`(\sum \lambda)^2 / \sum \lambda^2` of variances; NaN where all are 0.

    Examples
    --------
    >>> participation(np.array([2.0, 2.0, 0.0]))
    2.0
    """
    return float(variances.sum() ** 2 / (variances**2).sum()) if variances.any() else np.nan


def participation_ratio(variances: Floats, squares: Floats, data: Points) -> Estimate:
    r"""Return the participation ratio :math:`(\sum \lambda)^2 / \sum \lambda^2` of the variances.

    References
    ----------
    Gao et al. 2017, A theory of multineuronal dimensionality, dynamics and measurement, doi:10.1101/214262

    Examples
    --------
    >>> data = Points(np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]), 1.0)
    >>> round(participation_ratio(*principal_variances(data), data).value, 12)
    2.0
    """
    total, power = variances.sum(), (variances**2).sum()
    value = participation(variances)
    moved = 2 * total / power * (squares.sum(1) - total) - 2 * value / power * (squares @ variances - power)
    return with_error(value, moved / len(squares), data)


def explained_components(variances: Floats, squares: Floats, data: Points, level: float) -> tuple[int, int, int]:
    """Return how many components hold `EXPLAINED` of the variance, and the ends of an interval.

    Parameters
    ----------
    variances, squares
        See `principal_variances`.
    data : Points
    level : float
        Coverage: the ends are where the limits of the share that so many components hold cross it.

    Returns
    -------
    count, low, high : int

    Examples
    --------
    >>> data = Points(np.random.default_rng(0).normal(size=(500, 3)), 1.0)
    >>> explained_components(*principal_variances(data), data, 0.95)
    (3, 3, 3)
    """
    total = variances.sum()
    shares = variances.cumsum() / total
    moved = (squares.cumsum(1) - shares * squares.sum(1, keepdims=True)) / total / len(squares)

    def limits(n_components: int) -> tuple[float, float]:
        at = n_components - 1
        return with_error(float(shares[at]), moved[:, at], data).interval(level)

    count = int(np.argmax(shares >= EXPLAINED - 1e-12)) + 1
    low, high = count, count
    while low > 1 and limits(low - 1)[1] >= EXPLAINED:
        low -= 1
    while high < len(shares) and limits(high)[0] < EXPLAINED:
        high += 1
    return count, low, high
