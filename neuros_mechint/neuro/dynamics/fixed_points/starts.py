"""From what a user has to the states that a search begins with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.dynamics.trajectories import is_list_of_trials, trajectories


def as_states(values: Any, name: str) -> Any:
    """Return trajectories as rows of states, trial by trial; what are rows already stays as it is.

    Examples
    --------
    >>> as_states(np.zeros((2, 5, 3)), "initial states").shape
    (10, 3)
    """
    if is_list_of_trials(values) or isinstance(values, Recording) or hasattr(values, "dims"):
        return trajectories(values, least=1, name=name).joined()
    if isinstance(values, np.ndarray | torch.Tensor) and values.ndim == 3:
        return values.reshape(values.shape[0] * values.shape[1], values.shape[2])
    return values


def draw_starts(
    states: torch.Tensor, conditions: torch.Tensor, n_starts: int | None, noise: float, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return states to begin with, and the rows whose inputs they have.

    Parameters
    ----------
    states : torch.Tensor of shape (batch, n_states)
    conditions : torch.Tensor of shape (batch,)
        Which rows have the same inputs.
    n_starts : int or None
        How many to draw: every other one is a state as it is, and the rest lie halfway between two states of the same
        inputs. None: each state, once.
    noise : float
        Standard deviation of what is added to each unit, in units of the state.
    random : numpy.random.Generator

    Returns
    -------
    states : torch.Tensor of shape (n_starts, n_states)
    rows : torch.Tensor of shape (n_starts,)

    Examples
    --------
    >>> states, conditions = torch.tensor([[0.0], [1.0]]), torch.zeros(2, dtype=torch.int64)
    >>> draw_starts(states, conditions, 4, 0.0, np.random.default_rng(0))[0].shape
    torch.Size([4, 1])
    """
    rows = torch.arange(len(states), device=states.device)
    if n_starts is not None:
        rows = torch.from_numpy(random.choice(len(states), n_starts, replace=n_starts > len(states)))
        rows = rows.to(states.device)
        other = rows.clone()
        for condition in conditions[rows].unique().tolist():
            same, own = (conditions == condition).nonzero()[:, 0].cpu().numpy(), conditions[rows] == condition
            other[own] = torch.from_numpy(random.choice(same, int(own.sum()))).to(states.device)
        halfway = torch.arange(n_starts, device=states.device)[:, None] % 2 == 1
        states = torch.where(halfway, (states[rows] + states[other]) / 2, states[rows])
    if noise:
        states = states + torch.from_numpy(random.normal(0, noise, tuple(states.shape))).to(states)
    return states, rows
