"""Surrogates of activity with the covariances of its times, units and conditions, and nothing beyond them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError

_NEGLIGIBLE = 1e-9
_CLOSE = 1e-8
_MOST_STEPS = 200
_SHORTEST, _ENOUGH, _ROUNDING = 1e-6, 1e-4, 1e-12


class MaximumEntropy(NamedTuple):
    """The distribution of largest entropy with given means and covariances along each axis of an array.

    Parameters
    ----------
    mean : numpy.ndarray of shape (n_0, n_1, n_2)
        The sum of the means along each axis.
    axes : tuple of numpy.ndarray of shape (n_axis, n_kept)
        Eigenvectors of the covariance along each axis of the array, without those of no variance.
    deviations : numpy.ndarray of shape (n_kept_0, n_kept_1, n_kept_2)
        Standard deviation along each combination of eigenvectors.
    """

    mean: Floats
    axes: tuple[Floats, ...]
    deviations: Floats

    def draw(self, random: np.random.Generator) -> Floats:
        """Return one surrogate of the shape of the array.

        Examples
        --------
        >>> data = np.random.default_rng(0).normal(size=(6, 5, 4))
        >>> maximum_entropy(data).draw(np.random.default_rng(1)).shape
        (6, 5, 4)
        """
        drawn = random.standard_normal(self.deviations.shape) * self.deviations
        return self.mean + np.einsum("abc,ia,jb,kc->ijk", drawn, *self.axes, optimize=True)


def maximum_entropy(values: Floats) -> MaximumEntropy:
    r"""Return the distribution of maximum entropy with the covariances of an array along each of its three axes.

    It is normal. Its covariance has the products of the eigenvectors of the three covariances, and variances
    :math:`1 / (a_i + b_j + c_k)`, where the multipliers are such that the sums over the other two axes are the
    eigenvalues :math:`\lambda` of the covariances. They minimise the convex function
    :math:`\sum \lambda_i a_i + \dots - \sum \log (a_i + b_j + c_k)`, here by Newton's method.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_conditions, n_times, n_units)

    Returns
    -------
    MaximumEntropy

    Raises
    ------
    InputError
        Values that do not vary beyond their means along each axis, or multipliers that cannot be found.

    References
    ----------
    Elsayed and Cunningham 2017, Structure in neural population recordings: an expected byproduct of simpler
    phenomena?, doi:10.1038/nn.4617

    Examples
    --------
    >>> data = np.random.default_rng(0).normal(size=(6, 5, 4))
    >>> found = maximum_entropy(data)
    >>> bool(np.isclose((found.deviations**2).sum(), ((data - found.mean) ** 2).sum()))
    True
    """
    rest = values
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        rest = rest - rest.mean(others, keepdims=True)
    total = float((rest**2).sum())
    if total <= _NEGLIGIBLE**2 * float((values**2).sum()):
        raise InputError("the activity is the sum of its means over times, units and conditions: nothing is left")
    sums, axes = zip(*(_eigen(rest, axis) for axis in range(3)), strict=True)
    sums = [one * total / one.sum() for one in sums]
    variances = 1 / _total(*_multipliers(sums))
    return MaximumEntropy(values - rest, axes, np.sqrt(variances))


def _eigen(values: Floats, axis: int) -> tuple[Floats, Floats]:
    """Return the eigenvalues and eigenvectors of the covariance along one axis, summed over the others."""
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    sums, axes = np.linalg.eigh(rows @ rows.T)
    kept = sums > _NEGLIGIBLE * sums[-1]
    return sums[kept], axes[:, kept]


def _total(first: Floats, second: Floats, third: Floats) -> Floats:
    return first[:, None, None] + second[:, None] + third


def _multipliers(sums: list[Floats]) -> list[Floats]:
    """Return multipliers whose variances have these sums, by Newton steps that are halved until they improve."""
    sizes = [len(one) for one in sums]
    count = float(np.prod(sizes))
    target = np.concatenate(sums)
    ends = np.cumsum(sizes)[:-1]
    # right where only one of the axes has unequal sums
    found = np.concatenate([count / size / one / 3 for size, one in zip(sizes, sums, strict=True)])
    worst = np.inf
    for _ in range(_MOST_STEPS):
        variances = 1 / _total(*np.split(found, ends))
        gradient = target - _sums(variances)
        worst = float(np.abs(gradient / target).max())
        if worst < _CLOSE:
            return np.split(found, ends)
        step = _newton_step(variances**2, gradient)
        found = found + _length(variances, target, gradient, np.split(step, ends)) * step
    raise InputError(
        "no distribution of maximum entropy was found",
        expected="times, units and conditions among which the variance is spread",
        got=f"sums off by up to {100 * worst:.2g}% after {_MOST_STEPS} steps",
    )


def _length(variances: Floats, target: Floats, gradient: Floats, step: list[Floats]) -> float:
    """Return how much of a step improves: all of it, half, a quarter, ..."""
    joined = np.concatenate(step)
    slope, linear = float(gradient @ joined), float(target @ joined)
    relative = variances * _total(*step)  # the share by which each sum of multipliers grows
    length = 1.0
    while length > _SHORTEST:
        if length * relative.min() > -1:
            change = length * linear - float(np.log1p(length * relative).sum())
            # where nothing but rounding is left to improve, Newton's own step is right
            if change <= _ENOUGH * length * slope or -slope < _ROUNDING * variances.size:
                return length
        length /= 2
    return length


def _sums(variances: Floats) -> Floats:
    return np.concatenate([variances.sum((1, 2)), variances.sum((0, 2)), variances.sum((0, 1))])


def _newton_step(squares: Floats, gradient: Floats) -> Floats:
    """Return the Newton step; multipliers of one axis may be moved against those of another without effect."""
    first, second, third = squares.sum((1, 2)), squares.sum((0, 2)), squares.sum((0, 1))
    pairs = squares.sum(2), squares.sum(1), squares.sum(0)
    hessian = np.block(
        [
            [np.diag(first), pairs[0], pairs[1]],
            [pairs[0].T, np.diag(second), pairs[2]],
            [pairs[1].T, pairs[2].T, np.diag(third)],
        ]
    )
    scale = 1 / np.sqrt(np.diag(hessian))
    return -scale * np.linalg.lstsq(hessian * scale * scale[:, None], scale * gradient, rcond=1e-13)[0]
