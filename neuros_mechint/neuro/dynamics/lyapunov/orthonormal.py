"""Keep tangents apart: their lengths in turn, each without what lies along those before it."""

from __future__ import annotations

import torch

# Where modified Gram-Schmidt is faster than Householder's reflections by LAPACK.
MOST_BY_GRAM_SCHMIDT = 8


def gram_schmidt(tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return orthonormal tangents and their lengths before, by modified Gram-Schmidt.

    Right unless the tangents nearly depend on each other: they are then no longer orthogonal, and where one is zero
    they are NaN; see `too_close`.

    Parameters
    ----------
    tangents : torch.Tensor of shape (tangent, batch, n_states)

    Returns
    -------
    orthonormal : torch.Tensor of shape (tangent, batch, n_states)
    stretch : torch.Tensor of shape (batch, tangent)
        The diagonal of R, not negative.

    Examples
    --------
    >>> tangents = torch.tensor([[[3.0, 0.0]], [[5.0, 2.0]]])
    >>> orthonormal, stretch = gram_schmidt(tangents)
    >>> orthonormal.tolist(), stretch.tolist()
    ([[[1.0, 0.0]], [[0.0, 1.0]]], [[3.0, 2.0]])
    """
    # Into memory that is there and by few calls: in networks, memory takes the time, in small systems the calls.
    left, result, products = tangents, torch.empty_like(tangents), torch.empty_like(tangents)
    units, lengths = result.unbind(), []
    for index, unit in enumerate(units):
        lengths.append(torch.linalg.vector_norm(left[index], dim=-1, keepdim=True))
        torch.div(left[index], lengths[-1], out=unit)
        n_rest = len(units) - index - 1
        if n_rest:
            rest = left.narrow(0, index + 1, n_rest)
            along = torch.mul(rest, unit, out=products.narrow(0, 0, n_rest)).sum(-1, keepdim=True)
            torch.addcmul(rest, along, unit, value=-1, out=result.narrow(0, index + 1, n_rest))
            left = result
    return result, torch.cat(lengths, dim=-1)


def householder(tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same by Householder's reflections: orthonormal whatever the tangents are.

    Examples
    --------
    >>> orthonormal, stretch = householder(torch.zeros(2, 1, 2))
    >>> (orthonormal[:, 0] @ orthonormal[:, 0].mT).tolist(), stretch.tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0]])
    """
    unitary, triangle = torch.linalg.qr(tangents.permute(1, 2, 0))
    return unitary.permute(2, 0, 1).contiguous(), triangle.diagonal(dim1=-2, dim2=-1).abs()


def too_close(stretch: torch.Tensor) -> bool:
    """Return whether Gram-Schmidt has lost half of the digits, or all of them, at some step.

    Parameters
    ----------
    stretch : torch.Tensor of shape (..., tangent)

    Examples
    --------
    >>> too_close(torch.tensor([[1.0, 0.1]])), too_close(torch.tensor([[1.0, 1e-9]])), too_close(torch.tensor([[0.0]]))
    (False, True, True)
    """
    largest, least = stretch.amax(-1), stretch.amin(-1)
    kept = torch.finfo(stretch.dtype).eps ** 0.5
    # NaN compares as false
    return not bool(((least > kept * largest) & (largest > 0) & torch.isfinite(largest)).all())
