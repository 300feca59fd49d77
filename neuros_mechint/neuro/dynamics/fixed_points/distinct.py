"""Which points are the same: by distance, the one that moves least standing for all."""

from __future__ import annotations

import torch


def distinct(
    points: torch.Tensor, speeds: torch.Tensor, conditions: torch.Tensor, distance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which points stand for all, the slowest of each group, and to which of them each point belongs.

    Parameters
    ----------
    points : torch.Tensor of shape (n_points, n_states)
    speeds : torch.Tensor of shape (n_points,)
    conditions : torch.Tensor of shape (n_points,)
        Integers; points of different conditions are never the same.
    distance : float
        A point no further than this from one that is slower, and that stands for others, is the same.

    Returns
    -------
    chosen : torch.Tensor of shape (n_distinct,)
        Indices of points, slowest first.
    member : torch.Tensor of shape (n_points,)
        Index into ``chosen``.

    Examples
    --------
    >>> import torch
    >>> points, speeds = torch.tensor([[0.0], [1.0], [1.001]]), torch.tensor([0.0, 2e-9, 1e-9])
    >>> chosen, member = distinct(points, speeds, torch.zeros(3, dtype=torch.int64), 0.01)
    >>> chosen.tolist(), member.tolist()
    ([0, 2], [0, 1, 1])
    """
    member = torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    left = speeds.argsort(stable=True)
    chosen = []
    while len(left):
        first = left[0]
        close = (points[left] - points[first]).norm(dim=1) <= distance
        close &= conditions[left] == conditions[first]
        member[left[close]] = len(chosen)
        chosen.append(first)
        left = left[~close]
    return (torch.stack(chosen) if chosen else member[:0]), member
