"""Eigenvalues, modes and eigenfunctions of an operator, and how far each can be believed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neuros_mechint.neuro.dynamics.koopman.regression import ReducedOperator, reduced_operator

_SINGULAR = 1e-13


class Decomposition(NamedTuple):
    """An operator in its eigenfunctions, the strongest in the states first, conjugates side by side.

    Parameters
    ----------
    eigenvalues : Tensor of shape (..., rank)
        Complex, per step.
    weights : Tensor of shape (..., n_features, rank)
        Observations times this are the eigenfunctions, of unit mean square over the data.
    modes : Tensor of shape (..., n_units, rank)
        What each eigenfunction adds to the states: the states are eigenfunctions times modes, summed up.
    amplitudes : Tensor of shape (..., rank)
        Root mean square of what each adds, over all units.
    residuals : Tensor of shape (..., rank)
        See `residuals`.
    condition : Tensor of shape (...)
        Condition number of the eigenvectors: where it is large, single modes mean little.
    """

    eigenvalues: Tensor
    weights: Tensor
    modes: Tensor
    amplitudes: Tensor
    residuals: Tensor
    condition: Tensor


def dynamic_modes(
    before: Tensor, after: Tensor, rank: int | str | None = None, regression: str = "least_squares"
) -> Decomposition:
    """Return the dynamic mode decomposition of pairs of states, of many data sets at once.

    Parameters
    ----------
    before, after : Tensor of shape (..., n_pairs, n_units)
        States, and those one step later.
    rank : int, "optimal" or None
        See `neuros_mechint.neuro.dynamics.koopman.regression.choose_rank`.
    regression : {"least_squares", "total_least_squares", "forward_backward"}
        See `neuros_mechint.neuro.dynamics.koopman.regression.reduced_operator`.

    Returns
    -------
    Decomposition

    Raises
    ------
    InputError
        Rank above that of the data, or, where it is not given, ranks that differ between the sets.

    References
    ----------
    Schmid 2010, Dynamic mode decomposition of numerical and experimental data, doi:10.1017/S0022112010001217

    Examples
    --------
    >>> import torch
    >>> states = 0.9 ** torch.arange(10.0, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0])
    >>> sets = torch.stack([states, 3 * states])
    >>> dynamic_modes(sets[:, :-1], sets[:, 1:], rank=1).eigenvalues.real.flatten().tolist()
    [0.9, 0.9]
    """
    operator = reduced_operator(before, after, rank, regression)
    return decompose(operator, operator.encode.mT)


def decompose(operator: ReducedOperator, decode: Tensor) -> Decomposition:
    """Return an operator in its eigenfunctions.

    Parameters
    ----------
    operator : ReducedOperator
    decode : Tensor of shape (..., rank, n_units)
        Coordinates times this are the states.

    Returns
    -------
    Decomposition

    Examples
    --------
    >>> import torch
    >>> states = 0.5 ** torch.arange(8.0, dtype=torch.float64)[:, None]
    >>> found = decompose(reduced_operator(states[:-1], states[1:]), torch.eye(1, dtype=torch.float64))
    >>> found.eigenvalues.real.tolist(), bool(found.residuals.max() < 1e-12)
    ([0.5], True)
    """
    values, vectors = torch.linalg.eig(operator.step)
    inner = operator.inner.to(vectors.dtype)
    root = operator.n_pairs**0.5
    vectors = vectors * (root / torch.linalg.vector_norm(inner @ vectors, dim=-2, keepdim=True))
    scaled = vectors / torch.linalg.vector_norm(vectors, dim=-2, keepdim=True)
    sizes = torch.linalg.svdvals(scaled)
    # pinv, not solve: eigenvectors of an operator with Jordan blocks are parallel
    lengths = torch.linalg.vector_norm(vectors, dim=-2)
    modes = torch.linalg.pinv(scaled, rtol=_SINGULAR) @ decode.to(vectors.dtype) / lengths[..., None]
    amplitudes = torch.linalg.vector_norm(modes, dim=-1)
    order = _strongest_first(values, amplitudes)
    vectors = vectors.gather(-1, order[..., None, :].expand_as(vectors))
    modes = modes.gather(-2, order[..., None].expand_as(modes)).mT
    values = values.gather(-1, order)
    return Decomposition(
        values,
        operator.encode.to(vectors.dtype) @ vectors,
        modes,
        amplitudes.gather(-1, order),
        residuals(operator, values, vectors),
        sizes[..., 0] / sizes[..., -1],
    )


def _strongest_first(values: Tensor, amplitudes: Tensor) -> Tensor:
    """Return an order by amplitude that keeps conjugates, which lie side by side, together."""
    second = values.imag < 0
    key = torch.where(second, amplitudes.roll(1, -1), amplitudes)
    return key.argsort(dim=-1, descending=True, stable=True)


def residuals(operator: ReducedOperator, values: Tensor, vectors: Tensor) -> Tensor:
    r"""Return how far pairs of numbers and functions are from being eigenvalues and eigenfunctions, in the data.

    .. math:: \sqrt{\frac{\sum |\varphi(x') - \lambda \varphi(x)|^2}{\sum |\varphi(x)|^2}\ \frac{n}{n - r}}

    over the :math:`n` pairs of states :math:`x, x'`: 0 for a true eigenfunction, about 1 for one that the dynamics make
    unpredictable. The second factor is for the :math:`r` coefficients that were fitted to each; NaN where there are no
    more pairs than these, for then nothing can be said.

    Parameters
    ----------
    operator : ReducedOperator
    values : Tensor of shape (..., n)
    vectors : Tensor of shape (..., rank, n)
        Coordinates times these are the functions.

    Returns
    -------
    Tensor of shape (..., n)

    References
    ----------
    Colbrook and Townsend 2024, Rigorous data-driven computation of spectral properties of Koopman operators for
    dynamical systems, doi:10.1002/cpa.22125

    Examples
    --------
    >>> import torch
    >>> random = torch.Generator().manual_seed(0)
    >>> states = torch.randn(4000, 3, generator=random, dtype=torch.float64)
    >>> print(dynamic_modes(states[:-1], states[1:]).residuals.numpy().round(1))  # white noise has no eigenfunctions
    [1. 1. 1.]
    """
    known = operator.inner.to(vectors.dtype) @ vectors
    within = operator.cross.to(vectors.dtype) @ vectors - values[..., None, :] * known
    left = operator.outer.to(vectors.dtype) @ vectors
    squares = sum((part.abs() ** 2).sum(-2) for part in (within, left))
    freedom = operator.n_pairs - operator.rank
    if freedom <= 0:
        return torch.full_like(values.real, torch.nan)
    return (squares / (known.abs() ** 2).sum(-2) * operator.n_pairs / freedom).sqrt()


def smallest_residuals(operator: ReducedOperator, points: Tensor) -> Tensor:
    r"""Return the smallest residual that any function of the coordinates has at points of the complex plane.

    Where it is below :math:`\varepsilon`, the point belongs to the :math:`\varepsilon`-pseudospectrum: no data of this
    accuracy could tell it from an eigenvalue. It is corrected for fitted coefficients as `residuals` are.

    Parameters
    ----------
    operator : ReducedOperator
        Of one data set.
    points : Tensor of shape (...)
        Complex.

    Returns
    -------
    Tensor of shape (...)

    References
    ----------
    Colbrook and Townsend 2024, doi:10.1002/cpa.22125

    Examples
    --------
    >>> import torch
    >>> states = 0.5 ** torch.arange(10.0, dtype=torch.float64)[:, None]
    >>> operator = reduced_operator(states[:-1], states[1:])
    >>> smallest_residuals(operator, torch.tensor([0.5, 0.8])).numpy().round(2).tolist()
    [0.0, 0.32]
    """
    freedom = operator.n_pairs - operator.rank
    points = points.to(torch.complex128)
    if freedom <= 0:
        return torch.full(points.shape, torch.nan, dtype=torch.float64)
    # in coordinates of which the states before are orthonormal
    within = torch.linalg.solve_triangular(operator.inner, operator.cross, upper=True, left=False)
    left = torch.linalg.solve_triangular(operator.inner, operator.outer, upper=True, left=False)
    identity = torch.eye(operator.rank, dtype=torch.complex128)
    shifted = within.to(torch.complex128) - points[..., None, None] * identity
    left = left.to(torch.complex128).expand(*points.shape, *left.shape)
    return torch.linalg.svdvals(torch.cat([shifted, left], -2))[..., -1] * (operator.n_pairs / freedom) ** 0.5
