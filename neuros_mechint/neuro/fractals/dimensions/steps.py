"""Signals made anew from their own steps."""

from __future__ import annotations

import torch


def drawn_by_steps(rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return signals of the same length that start where they did and go the steps at ``places``.

    Where blocks of values are put together, signals jump from one to the next. Blocks of steps join without a jump.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_signals, n_samples)
    places : torch.Tensor of int, shape (n_samples,)

    Examples
    --------
    >>> import torch
    >>> drawn_by_steps(torch.tensor([[0, 1, 3, 6]]), torch.tensor([1, 2, 1, 0]))
    tensor([[0, 2, 5, 7]])
    """
    steps = rows.diff(dim=1)
    n_steps = steps.shape[1]
    return torch.cat([rows[:, :1], rows[:, :1] + steps[:, places[:n_steps] % n_steps].cumsum(1)], 1)
