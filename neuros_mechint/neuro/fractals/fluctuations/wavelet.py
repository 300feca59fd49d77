"""Mean squares around straight lines in windows of 8, 16, 32, ... samples, without a running sum."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.fractals.fluctuations.windows import missing, polynomials

SHORTEST = 8
"""The shortest window, in samples: shorter ones say more about the line that was removed than about the signal."""
_PAIR = 2 * SHORTEST
_IN_SHORTEST, _IN_PAIR = 2 * (SHORTEST - 2), 2


def dyadic_mean_squares(rows: torch.Tensor, n_scales: int) -> torch.Tensor:
    """Return the mean square around a line of the running sum in windows of 8, 16, 32, ... samples, side by side.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_signals, n_samples)
        Signals minus their mean: the running sum is that of the rows.
    n_scales : int
        How many lengths; at least 2.

    Returns
    -------
    torch.Tensor of shape (n_signals, n_scales)

    Notes
    -----
    These are energies of piecewise linear wavelets. What a line leaves over of a window is what lines leave over of its
    halves, and two numbers more: how much their slopes differ, and how far they miss each other. All of it follows from
    differences within the window. The running sum itself, which wanders off, is never formed: float32 is enough.

    References
    ----------
    Alpert 1993, A class of bases in L2 for the sparse representation of integral operators, doi:10.1137/0524016

    Examples
    --------
    >>> import torch
    >>> rows = torch.tensor([[1.0, -1.0] * 16])
    >>> dyadic_mean_squares(rows, 2)  # the running sum alternates between 1 and 0: a little under 1 / 4
    tensor([[0.2381, 0.2471]])
    """
    n_signals, n_pairs = rows.shape[0], rows.shape[1] // _PAIR
    in_pairs, in_last = (torch.from_numpy(matrix).to(rows) for matrix in (_of_pairs(), _of_shortest()))
    coordinates = in_pairs @ rows[:, : n_pairs * _PAIR].reshape(-1, _PAIR).T
    coordinates = coordinates.view(len(in_pairs), n_signals, n_pairs)
    squares = _squares(coordinates[:_IN_SHORTEST])
    shortest, n_shortest = squares.sum(1), rows.shape[1] // SHORTEST
    if n_shortest % 2:
        last = rows[:, n_pairs * _PAIR : n_shortest * SHORTEST] @ in_last.T
        shortest = shortest + torch.linalg.vecdot(last, last)
    squares = squares + _squares(coordinates[_IN_SHORTEST : _IN_SHORTEST + _IN_PAIR])
    states, length = coordinates[_IN_SHORTEST + _IN_PAIR :], _PAIR
    found = [shortest / (n_shortest * SHORTEST), squares.mean(1) / length]
    for _ in range(n_scales - 2):
        states, squares = _joined(states, squares, length)
        length *= 2
        found.append(squares.mean(1) / length)
    return torch.stack(found, 1)


def _joined(states: torch.Tensor, squares: torch.Tensor, half: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return states ``(3, n_signals, n_windows)`` and squares of windows that are made of two."""
    used = squares.shape[1] // 2 * 2
    pairs = torch.cat([states[:, :, 0:used:2], states[:, :, 1:used:2]])
    new = (torch.from_numpy(_of_states(half)).to(pairs) @ pairs.flatten(1)).view(-1, *pairs.shape[1:])
    return new[_IN_PAIR:], squares[:, 0:used:2] + squares[:, 1:used:2] + _squares(new[:_IN_PAIR])


def _squares(coordinates: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vecdot(coordinates, coordinates, dim=0)


def _running(length: int) -> Floats:
    """Return the matrix of the running sum, which starts from 0 before the window."""
    return np.tril(np.ones((length, length)))


@lru_cache(maxsize=1)
def _of_shortest() -> Floats:
    """Return what a line leaves over of the running sum in 8 samples, in coordinates."""
    return missing(polynomials(SHORTEST, 1)).T @ _running(SHORTEST)


@lru_cache(maxsize=1)
def _of_pairs() -> Floats:
    """Return all that is needed of 16 samples.

    Rows are the coordinates of what lines leave over of each half, the two that the pair adds, and the state: the
    coefficient of the slope of the running sum, its mean, and how far it comes.
    """
    lines = polynomials(SHORTEST, 1)
    halves = np.kron(np.eye(2), missing(lines).T)
    in_lines = np.kron(np.eye(2), lines)
    pair = polynomials(_PAIR, 1)
    added = missing(in_lines.T @ pair).T @ in_lines.T
    state = [pair[:, 1], np.full(_PAIR, 1 / _PAIR), np.eye(_PAIR)[-1]]
    return np.concatenate([halves, added, state]) @ _running(_PAIR)


@lru_cache(maxsize=64)
def _of_states(half: int) -> Floats:
    """Return two coordinates that windows of two halves add, and their states, from the states of these."""
    first, second = np.eye(6)[:3], np.eye(6)[3:]
    apart = (second[1] + first[2] - first[1]) * (half / 2) ** 0.5
    slopes = (first[0] + second[0]) / 2**0.5
    # of the slope of the window, the share that is slope within halves: (n^2 - 1) / (4 n^2 - 1)
    within = ((half**2 - 1) / (4 * half**2 - 1)) ** 0.5
    between = (1 - within**2) ** 0.5
    bend, miss = (second[0] - first[0]) / 2**0.5, between * slopes - within * apart
    slope = within * slopes + between * apart
    mean, reach = (first[1] + first[2] + second[1]) / 2, first[2] + second[2]
    return np.stack([bend, miss, slope, mean, reach])
