"""The first kind of evidence for a site: an equality of tensors up to rounding."""

from __future__ import annotations

from typing import Any

import torch

from neuros_mechint.adapters.tensors import named_tensors

ROUNDINGS = 8
"""Rounding errors that one entry of a short sum may gather."""


def close(total: torch.Tensor, *parts: torch.Tensor, magnitude: torch.Tensor | None = None) -> bool:
    """Return whether ``total`` is the sum of ``parts`` in every entry, up to rounding in the coarsest dtype.

    Parameters
    ----------
    total, *parts : torch.Tensor
        Must have one shape; anything else is not equal.
    magnitude : torch.Tensor, optional
        Size of what was summed in each entry. By default ``|total| + sum(|part|)``, so that a few massive
        activations loosen the bound for their own entries only.

    Examples
    --------
    >>> a, b = torch.rand(2, 3, 4), torch.rand(2, 3, 4)
    >>> close(a + b, a, b), close(a + 1.001 * b, a, b)
    (True, False)
    """
    if any(part.shape != total.shape for part in parts):
        return False
    epsilon = max(torch.finfo(tensor.dtype).eps for tensor in (total, *parts))
    # nearly every comparison fails, and fails in its first row: look there before looking everywhere
    for rows in ((slice(0, 1), slice(0, 1)), (slice(None),)):
        whole, *terms = (_working(tensor[rows]) for tensor in (total, *parts))
        size = _working(magnitude[rows]) if magnitude is not None else sum((t.abs() for t in terms), whole.abs())
        error = (whole - sum(terms[1:], terms[0])).abs()
        if not bool((error <= ROUNDINGS * epsilon * size + torch.finfo(whole.dtype).smallest_normal).all()):
            return False
    return True


def same_output(first: Any, second: Any) -> bool:
    """Return whether two runs of a model gave the same tensors, up to rounding that grew with depth.

    Examples
    --------
    >>> x = torch.ones(2, 3)
    >>> same_output((x, None), (x + 1e-6, None)), same_output((x, None), (x + 0.1, None))
    (True, False)
    """
    tensors = [
        [tensor.detach() for _, tensor in named_tensors(output) if tensor.is_floating_point()]
        for output in (first, second)
    ]
    return len(tensors[0]) == len(tensors[1]) and all(agree(a, b, loosened=10) for a, b in zip(*tensors, strict=True))


def agree(first: torch.Tensor, second: torch.Tensor, loosened: float = 1) -> bool:
    """Return whether two ways to compute one tensor agree, as a whole rather than entry by entry."""
    if first.shape != second.shape:
        return False
    tolerance = loosened * max(1e-4, ROUNDINGS * torch.finfo(first.dtype).eps)
    a, b = _working(first).nan_to_num(), _working(second).nan_to_num()
    return bool((a - b).norm() <= min(tolerance, 0.1) * b.norm())


def _working(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
