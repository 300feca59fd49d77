"""Information of variables that are jointly normal, from their correlations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.information.variables import Whole

SAMPLES_PER_VARIABLE = 1.25
_NUMBERS_AT_ONCE = 4_000_000
_LEAST_EIGENVALUE = 1e-12


class GaussianInformation(NamedTuple):
    """An estimate in closed form.

    Parameters
    ----------
    value : float
        Nats.
    error : float
        Its standard error, also for data that are not normal.
    shrinkage : float
        How much of each correlation was taken away.
    """

    value: float
    error: float
    shrinkage: float


def gaussian_information(x: Floats, y: Floats, z: Floats | None = None) -> GaussianInformation:
    r"""Return the information between two sets of variables (given a third), as if all were jointly normal.

    :math:`\tfrac12 \log \det \Sigma_x \det \Sigma_y / \det \Sigma_{xy}` of the correlations, without its bias: for
    normal samples the expectation of each logarithm is known. Where there are fewer than 1.25 samples per
    variable, correlations are first shrunk to zero, by as much as lowers their expected error most; the information is
    far too low then, where without that it would be undefined or as uncertain. Of other distributions it tells what
    their correlations show, which may be more or less than the truth.

    Parameters
    ----------
    x, y : numpy.ndarray of shape (n_samples, n_features)
        Each column of mean 0 and variance 1.
    z : numpy.ndarray of shape (n_samples, n_given), optional

    Returns
    -------
    GaussianInformation

    Raises
    ------
    InputError
        A column is a linear function of others.

    References
    ----------
    Misra et al. 2005, Estimation of the entropy of a multivariate normal distribution, doi:10.1016/j.jmva.2003.10.003;
    Schaefer and Strimmer 2005, A shrinkage approach to large-scale covariance matrix estimation,
    doi:10.2202/1544-6115.1175

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> x, noise = random.normal(size=(2, 3000, 1))
    >>> round(gaussian_information(x, 0.9 * x + 0.19**0.5 * noise).value, 2)
    0.83
    """
    n_samples = len(x)
    given = np.empty((n_samples, 0)) if z is None else z
    joint = np.hstack([given, x, y])
    correlations = joint.T @ joint / n_samples
    few = n_samples < SAMPLES_PER_VARIABLE * joint.shape[1]
    if not few:
        _refuse_singular(correlations)
    shrinkage = _shrinkage(joint, correlations) if few else 0.0
    correlations = (1 - shrinkage) * correlations + shrinkage * np.eye(len(correlations))
    parts = _parts(given.shape[1], x.shape[1], y.shape[1])
    value = sum(sign * _half_log_determinant(correlations, part, n_samples, few) for sign, part in parts)
    pointwise = np.sum([sign * _half_square(joint, correlations, part) for sign, part in parts], axis=0)
    error = _error(pointwise, joint.shape[1], [(sign, len(part)) for sign, part in parts])
    return GaussianInformation(float(value), error, shrinkage)


def _refuse_singular(correlations: Floats) -> None:
    if np.linalg.eigvalsh(correlations)[0] < _LEAST_EIGENVALUE:
        raise InputError(
            "some columns are linear functions of others: normal variables would tell infinitely much",
            expected="columns none of which follows from the others",
            got="correlations without an inverse",
            fix="leave out what repeats, within a variable and between them",
        )


def gaussian_information_of_draws(x: Floats, y: Floats, z: Floats, draws: Whole) -> Floats:
    """Return the value of `gaussian_information` of ``x[draw], y, z`` for each draw, ``(n_draws, n_samples)``.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> x, y, z = random.normal(size=(3, 200, 1))
    >>> draw = random.permutation(200)
    >>> found = gaussian_information_of_draws(x, y, z, draw[None])
    >>> x, y, z = ((part - part.mean()) / part.std() for part in (x, y, z))
    >>> bool(np.isclose(found[0], gaussian_information(x[draw], y, z).value))
    True
    """
    n_samples, widths = len(x), (z.shape[1], x.shape[1], y.shape[1])
    if n_samples < SAMPLES_PER_VARIABLE * sum(widths):  # each is shrunk by an amount of its own
        return np.array([gaussian_information(x[draw], y, z).value for draw in draws])
    joint = np.hstack([z, x, y])
    joint = joint - joint.mean(0)
    moving = slice(widths[0], widths[0] + widths[1])
    fixed = joint.T @ joint / n_samples
    found = np.empty(len(draws))
    at_once = max(1, _NUMBERS_AT_ONCE // joint.size)
    for first in range(0, len(draws), at_once):
        moved = x[draws[first : first + at_once]]
        moved = moved - moved.mean(1, keepdims=True)
        covariances = np.tile(fixed, (len(moved), 1, 1))
        across = np.einsum("dnx,nj->dxj", moved, joint, optimize=True) / n_samples
        covariances[:, moving], covariances[:, :, moving] = across, across.swapaxes(1, 2)
        covariances[:, moving, moving] = moved.swapaxes(1, 2) @ moved / n_samples
        halves = (sign * _half_log_determinant(covariances, part, n_samples, False) for sign, part in _parts(*widths))
        found[first : first + at_once] = sum(halves)
    return found


def _parts(n_given: int, n_x: int, n_y: int) -> list[tuple[int, list[int]]]:
    """Return the columns of (z, x), (z, y), (z, x, y) and z, and the sign with which their entropies count."""
    given = list(range(n_given))
    x, y = list(range(n_given, n_given + n_x)), list(range(n_given + n_x, n_given + n_x + n_y))
    return [(1, given + x), (1, given + y), (-1, given + x + y), *([(-1, given)] if given else [])]


def _half_log_determinant(correlations: Floats, part: list[int], n_samples: int, shrunk: bool) -> Any:
    from scipy.special import digamma

    logarithm = np.linalg.slogdet(correlations[(..., *np.ix_(part, part))])[1]
    if not shrunk:
        logarithm -= digamma((n_samples - np.arange(1, len(part) + 1)) / 2).sum() - len(part) * np.log(n_samples / 2)
    return logarithm / 2


def _half_square(joint: Floats, correlations: Floats, part: list[int]) -> Floats:
    """Return half the squared Mahalanobis distance of each sample from the mean."""
    columns = joint[:, part]
    return (columns * np.linalg.solve(correlations[np.ix_(part, part)], columns.T).T).sum(1) / 2


def _error(pointwise: Floats, n_variables: int, parts: list[tuple[int, int]]) -> float:
    """Return the standard error: that of a mean, and what the correlations of independent variables add by chance."""
    from scipy.special import polygamma

    n_samples = len(pointwise)
    left = n_samples - n_variables
    if left < 1:
        return float("nan")
    # the variance of the logarithm of the determinant of a sample's correlations
    by_chance = -sum(sign * polygamma(1, (n_samples - np.arange(1, size + 1)) / 2).sum() / 4 for sign, size in parts)
    # the spread of the pointwise information holds chance correlations twice
    spread = float(np.var(pointwise)) / left - 2 * by_chance
    return float(np.sqrt(max(spread, 0.0) + by_chance))


def _shrinkage(joint: Floats, correlations: Floats) -> float:
    """Return the intensity at which shrunk correlations have the least expected squared error."""
    n_samples = len(joint)
    apart = ~np.eye(len(correlations), dtype=bool)
    squares = (joint**2).T @ joint**2 / n_samples
    variances = (squares - correlations**2) * n_samples / (n_samples - 1) ** 2
    return float(np.clip(variances[apart].sum() / (correlations[apart] ** 2).sum(), 0, 1))
