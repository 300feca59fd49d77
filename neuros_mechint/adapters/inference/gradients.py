"""The second kind of evidence for a site: what a gradient reaches, and above all what it does not reach."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neuros_mechint.adapters.inference.trace import Event


def gradient(of: Event, to: Sequence[Event], weights: torch.Tensor | None = None) -> list[torch.Tensor | None]:
    """Return the derivative of a weighted sum of one event's entries by the entries of others.

    Parameters
    ----------
    of : Event
        What is differentiated.
    to : sequence of Event
        What it is differentiated by.
    weights : torch.Tensor, optional
        Of the shape of ``of.value``; by default ones.

    Returns
    -------
    list of torch.Tensor or None
        Shaped like the values of ``to``; ``None`` where an event has no part in ``of``.
    """
    edges = [event.edge for event in to if event.edge is not None]
    if of.edge is None or not edges:
        return [None] * len(to)
    weights = torch.ones_like(of.value) if weights is None else weights.to(of.value)
    weights = weights.flatten(0, 1) if of.flat else weights
    found = iter(torch.autograd.grad([of.edge], edges, [weights], retain_graph=True, allow_unused=True))
    slopes = [next(found) if event.edge is not None else None for event in to]
    return [slope if slope is None else slope.reshape(event.shape) for event, slope in zip(to, slopes, strict=True)]


def uneven(like: torch.Tensor) -> torch.Tensor:
    """Return weights of the shape of ``like`` that no softmax or norm cancels, as equal weights could be."""
    steps = torch.arange(like.numel(), device=like.device, dtype=torch.float32)
    return torch.cos(1.7 * steps).reshape(like.shape).to(like.dtype)


def reached(slope: torch.Tensor, *axes: int) -> list[tuple[int, ...]]:
    """Return the indices along ``axes`` at which a gradient is not exactly zero.

    Examples
    --------
    >>> slope = torch.zeros(2, 3, 4)
    >>> slope[1, 2, 0] = 1.0
    >>> reached(slope, 1), reached(slope, 1, 2)
    ([(2,)], [(2, 0)])
    """
    others = tuple(axis for axis in range(slope.ndim) if axis not in axes)
    return [tuple(index) for index in (slope != 0).any(others).nonzero().tolist()]
