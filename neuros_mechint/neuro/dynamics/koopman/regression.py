"""The linear operator that takes observations one step on, from pairs of them; any leading axes count data sets."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neuros_mechint.core.errors import InputError, check_option, whole

REGRESSIONS = ("least_squares", "total_least_squares", "forward_backward")
OPTIMAL = "optimal"
TOLERANCE = 1e-10
"""Singular values below this share of the largest do not count as rank."""

# Eigenvalues of a Gram matrix are squares of singular values, with errors of 2e-16 of the largest: directions are
# then known to 1e-16 / share^2, which is to stay below 1e-10 where some are dropped.
_GRAM_KEPT, _GRAM_ALL = 3e-3, 1e-6


class ReducedOperator(NamedTuple):
    """A linear operator on few coordinates of the observations.

    Parameters
    ----------
    encode : Tensor of shape (..., n_features, rank)
        Observations times this are the coordinates.
    step : Tensor of shape (..., rank, rank)
        Coordinates times this are those one step on.
    inner, cross, outer : Tensor of shape (..., rank, rank), (..., rank, rank), (..., at most rank, rank)
        Triangular factor of coordinates before and after: ``[[inner, cross], [0, outer]]``. All errors follow from it.
    singular_values : Tensor of shape (..., at most n_features)
        Of the observations before.
    n_pairs : int
    """

    encode: Tensor
    step: Tensor
    inner: Tensor
    cross: Tensor
    outer: Tensor
    singular_values: Tensor
    n_pairs: int

    @property
    def rank(self) -> int:
        """Number of coordinates."""
        return self.step.shape[-1]


def reduced_operator(
    before: Tensor, after: Tensor, rank: int | str | None = None, regression: str = "least_squares"
) -> ReducedOperator:
    """Return the operator that takes observations one step on, on their principal directions.

    Parameters
    ----------
    before, after : Tensor of shape (..., n_pairs, n_features)
        Observations, and those one step later.
    rank : int, "optimal" or None
        How many principal directions of ``before`` are kept, see `choose_rank`.
    regression : {"least_squares", "total_least_squares", "forward_backward"}
        Noise in ``before`` pulls eigenvalues of ``least_squares`` towards 0. ``total_least_squares`` first projects
        ``before`` and ``after`` onto the ``rank`` directions in time that they share; ``forward_backward`` takes the
        geometric mean of the operator and the inverse of the one backward in time, whose errors are opposite.

    Returns
    -------
    ReducedOperator

    Raises
    ------
    InputError
        Rank above that of the data, or dynamics that cannot be run backward.
    OptionError
        Unknown regression.

    References
    ----------
    Schmid 2010, Dynamic mode decomposition of numerical and experimental data, doi:10.1017/S0022112010001217; Hemati et
    al. 2017, De-biasing the dynamic mode decomposition for applied Koopman spectral analysis of noisy datasets,
    doi:10.1007/s00162-017-0432-2; Dawson et al. 2016, Characterizing and correcting for the effect of sensor noise in
    the dynamic mode decomposition, doi:10.1007/s00348-016-2127-7

    Examples
    --------
    >>> import torch
    >>> before = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    >>> rotation = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    >>> operator = reduced_operator(before, before @ rotation)
    >>> torch.linalg.eigvals(operator.step).imag.abs().tolist()
    [1.0, 1.0]
    """
    check_option("regression", regression, REGRESSIONS)
    directions, sizes = principal_directions(before, rank)
    kept, source, target = directions.shape[-1], before, after
    if regression == "total_least_squares":
        source, target = shared_in_time(before, after, kept)
        directions, _ = principal_directions(source, kept)
    inner, cross, outer = factor_pairs(before @ directions, after @ directions)
    if regression == "total_least_squares":
        step = _least_squares(source @ directions, target @ directions)
    else:
        step = torch.linalg.solve_triangular(inner, cross, upper=True)
    if regression == "forward_backward":
        step = _geometric_mean(step, inner, cross, outer)
    return ReducedOperator(directions, step, inner, cross, outer, sizes, before.shape[-2])


def principal_directions(observations: Tensor, rank: int | str | None) -> tuple[Tensor, Tensor]:
    """Return principal directions ``(..., n_features, rank)`` and all singular values, largest first.

    Where that loses no accuracy they come from the Gram matrix, which is several times faster but squares the condition
    number: if the last direction kept has at least 0.003 of the largest singular value (a millionth where all are
    kept, for then any basis will do), and the rank can be told from it. Otherwise from a singular value decomposition.

    Examples
    --------
    >>> import torch
    >>> directions, sizes = principal_directions(torch.diag(torch.tensor([3.0, 2.0, 0.0])), None)
    >>> directions.shape, sizes.tolist()
    (torch.Size([3, 2]), [3.0, 2.0, 0.0])
    """
    n_rows, n_columns = observations.shape[-2:]
    _check_rank(rank)
    if n_rows >= n_columns:
        squares, vectors = torch.linalg.eigh(observations.mT @ observations)
        sizes = squares.clamp_min(0).sqrt().flip(-1)
        if _resolved(sizes, rank, n_rows):
            kept = choose_rank(sizes, rank, n_rows, n_columns)
            return vectors.flip(-1)[..., :kept], sizes
        observations = torch.linalg.qr(observations, mode="r").R
    _, sizes, vectors = torch.linalg.svd(observations, full_matrices=False)
    return vectors.mT[..., : choose_rank(sizes, rank, n_rows, n_columns)], sizes


def _resolved(sizes: Tensor, rank: int | str | None, n_rows: int) -> bool:
    """Return whether singular values from a Gram matrix are exact enough, in all sets."""
    largest, n_columns = sizes[..., 0], sizes.shape[-1]
    if bool((sizes[..., -1] >= _GRAM_ALL * largest).all()) and rank in (None, n_columns):
        return bool((largest > 0).all())
    if rank is None:
        return False
    if isinstance(rank, str):
        if bool((_threshold(sizes, n_rows, n_columns) < _GRAM_ALL * largest).any()):
            return False
        kept = max(int(optimal_rank(sizes, n_rows, n_columns).max()), 1)
    else:
        kept = min(int(rank), n_columns)
    return bool((sizes[..., kept - 1] >= _GRAM_KEPT * largest).all()) and bool((largest > 0).all())


def choose_rank(sizes: Tensor, rank: int | str | None, n_rows: int, n_columns: int) -> int:
    """Return how many directions to keep.

    Parameters
    ----------
    sizes : Tensor of shape (..., n)
        Singular values, largest first.
    rank : int, "optimal" or None
        A number; ``"optimal"``, those above the threshold of Gavish and Donoho, which is best for low rank in white
        noise (at least one); None, those above 1e-10 of the largest.
    n_rows, n_columns : int
        Of the matrix.

    Raises
    ------
    InputError
        More than the rank of the data, or data sets whose ranks differ.
    OptionError
        Neither a number nor "optimal".

    References
    ----------
    Gavish and Donoho 2014, The optimal hard threshold for singular values is 4/sqrt(3), doi:10.1109/TIT.2014.2323359

    Examples
    --------
    >>> import torch
    >>> sizes = torch.tensor([9.0, 5.0, 0.11, 0.1, 0.1, 0.09, 1e-13])
    >>> [choose_rank(sizes, rank, 100, 7) for rank in (None, "optimal", 3)]
    [6, 2, 3]
    """
    _check_rank(rank)
    numerical = numerical_rank(sizes)
    if not (rank is None or isinstance(rank, str)):
        fixed = int(rank)
        if fixed > int(numerical.min()):
            raise InputError(
                "rank is above that of the data",
                expected=f"at most {int(numerical.min())}, the singular values above {TOLERANCE:g} of the largest",
                got=fixed,
                fix="take fewer, or rank=None for as many as there are; more delays or trials may add some",
            )
        return fixed
    counts = numerical if rank is None else optimal_rank(sizes, n_rows, n_columns).clamp_min(1)
    if int(counts.min()) != int(counts.max()):
        raise InputError(
            "data sets differ in their rank",
            expected="one rank for all sets that are computed at once",
            got=f"{int(counts.min())} to {int(counts.max())}",
            fix="give a number for rank",
        )
    return max(int(counts.max()), 1)


def _check_rank(rank: int | str | None) -> None:
    if isinstance(rank, str):
        check_option("rank", rank, (OPTIMAL,))
    elif rank is not None:
        whole("rank", rank)


def numerical_rank(sizes: Tensor) -> Tensor:
    """Return how many singular values are above 1e-10 of the largest.

    Examples
    --------
    >>> import torch
    >>> numerical_rank(torch.tensor([2.0, 1.0, 1e-12])).item()
    2
    """
    return ((sizes > TOLERANCE * sizes[..., :1]) & (sizes > 0)).sum(-1)


def optimal_rank(sizes: Tensor, n_rows: int, n_columns: int) -> Tensor:
    """Return how many singular values stand out of white noise, by the threshold of Gavish and Donoho; 0 is possible.

    Examples
    --------
    >>> import torch
    >>> noise = torch.randn(200, 20, generator=torch.Generator().manual_seed(0))
    >>> optimal_rank(torch.linalg.svdvals(noise), 200, 20).item()
    0
    """
    above = sizes > _threshold(sizes, n_rows, n_columns)[..., None]
    return torch.minimum(above.sum(-1), numerical_rank(sizes))


def _threshold(sizes: Tensor, n_rows: int, n_columns: int) -> Tensor:
    """Return the threshold for noise of unknown size, from the median singular value."""
    ratio = min(n_rows, n_columns) / max(n_rows, n_columns)
    # their equation 5, good to 2% for all shapes
    return sizes.quantile(0.5, -1) * (0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43)


def shared_in_time(before: Tensor, after: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return both sides projected onto the ``rank`` leading directions in time of the two together.

    Examples
    --------
    >>> import torch
    >>> before = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    >>> clean, later = shared_in_time(before, 2 * before, rank=1)
    >>> torch.allclose(clean, before), torch.allclose(later, 2 * before)
    (True, True)
    """
    both = torch.cat([before, after], -1)
    kept, _ = principal_directions(both, rank)
    # U_r U_r^T Z is Z V_r V_r^T: the smaller side will do
    clean = both @ kept @ kept.mT
    return clean[..., : before.shape[-1]], clean[..., before.shape[-1] :]


def factor_pairs(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the triangular factor of coordinates before and after, in its three blocks.

    ``before = Q1 @ inner`` and ``after = Q1 @ cross + Q2 @ outer`` with orthonormal ``Q1`` and ``Q2``: the operator by
    least squares solves ``inner @ step = cross``, and ``outer`` is what it leaves.

    Examples
    --------
    >>> import torch
    >>> before = torch.tensor([[1.0], [2.0], [4.0]])
    >>> inner, cross, outer = factor_pairs(before, 2 * before)
    >>> round((cross / inner).item(), 3), bool(outer.abs().max() < 1e-5)
    (2.0, True)
    """
    rank = before.shape[-1]
    factor = torch.linalg.qr(torch.cat([before, after], -1), mode="r").R
    return factor[..., :rank, :rank], factor[..., :rank, rank:], factor[..., rank:, rank:]


def _least_squares(known: Tensor, wanted: Tensor) -> Tensor:
    inner, cross, _ = factor_pairs(known, wanted)
    return torch.linalg.solve_triangular(inner, cross, upper=True)


def _geometric_mean(forward: Tensor, inner: Tensor, cross: Tensor, outer: Tensor) -> Tensor:
    """Return the root of the forward operator times the inverse of the backward one."""
    after = torch.cat([cross, outer], -2)
    before = torch.cat([inner, torch.zeros_like(outer)], -2)
    sizes = torch.linalg.svdvals(after)
    if bool((sizes[..., -1] <= TOLERANCE * sizes[..., 0]).any()):
        raise InputError(
            "the dynamics cannot be run backward: some direction is lost in one step",
            got=f"singular values of the states after a step down to {float(sizes.min()):.2g}",
            fix="take a smaller rank, or regression='total_least_squares'",
        )
    backward = _least_squares(after, before)
    squared, vectors = torch.linalg.eig(torch.linalg.solve(backward, forward, left=False))
    ahead = torch.linalg.solve(vectors, forward.to(vectors.dtype) @ vectors).diagonal(dim1=-2, dim2=-1)
    root = squared.sqrt()
    # a square has two roots: that on the side of the forward operator; where noise makes a real square negative, a
    # real matrix has no root, and its size alone is taken
    root = torch.where((squared.imag == 0) & (squared.real < 0), squared.abs().sqrt().to(root.dtype), root)
    root = torch.where((root.conj() * ahead).real < 0, -root, root)
    return torch.linalg.solve(vectors, vectors * root[..., None, :], left=False).real
