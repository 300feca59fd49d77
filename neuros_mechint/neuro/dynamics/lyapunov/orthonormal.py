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
    rest, units, lengths = tangents, [], []
    for _ in tangents:
        lengths.append(torch.linalg.vector_norm(rest[0], dim=-1, keepdim=True))
        units.append(rest[0] / lengths[-1])
        rest = torch.addcmul(rest[1:], (rest[1:] * units[-1]).sum(-1, keepdim=True), units[-1], value=-1)
    return torch.stack(units), torch.cat(lengths, dim=-1)


class GramSchmidt:
    """`gram_schmidt` in memory of its own, for tangents of one shape: a quarter faster where nothing is compiled.

    What it returns is overwritten two calls later.

    Parameters
    ----------
    tangents : torch.Tensor of shape (tangent, batch, n_states)
        An example.

    Examples
    --------
    >>> tangents = torch.tensor([[[3.0, 0.0]], [[5.0, 2.0]]])
    >>> GramSchmidt(tangents)(tangents)[1].tolist()
    [[3.0, 2.0]]
    """

    def __init__(self, tangents: torch.Tensor) -> None:
        products = torch.empty_like(tangents)
        self._products = [products[: len(tangents) - index - 1] for index in range(len(tangents))]
        # the result of the call before is what is moved on now, and may still be read
        self._results = [torch.empty_like(tangents, memory_format=torch.contiguous_format) for _ in range(2)]
        self._units = [result.unbind() for result in self._results]
        self._rests = [[result[index + 1 :] for index in range(len(tangents))] for result in self._results]
        self._turn = 0

    def __call__(self, tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return orthonormal tangents and their lengths before, ``(batch, tangent)``."""
        self._turn = 1 - self._turn
        units, rests = self._units[self._turn], self._rests[self._turn]
        first, rest, lengths = tangents[0], tangents[1:], []
        for index, unit in enumerate(units):
            lengths.append(torch.linalg.vector_norm(first, dim=-1, keepdim=True))
            torch.div(first, lengths[-1], out=unit)
            if index + 1 < len(units):
                along = torch.mul(rest, unit, out=self._products[index]).sum(-1, keepdim=True)
                torch.addcmul(rest, along, unit, value=-1, out=rests[index])
                first, rest = units[index + 1], rests[index + 1]
        return self._results[self._turn], torch.cat(lengths, dim=-1)


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
