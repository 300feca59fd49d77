"""Controls for the removal of a band of time scales: as much energy, removed in random directions of time."""

from __future__ import annotations

import math

import numpy as np
import torch

_SPARE = 1.5  # directions that are drawn, by those that hold the energy on average
_FEWEST_SPARE = 4


def part_of_energy(values: torch.Tensor, energy: float, method: str, rng: np.random.Generator) -> torch.Tensor:
    """Return the part of sequences in random directions of time that together hold so much energy.

    Parameters
    ----------
    values : torch.Tensor of shape (n_sequences, n_samples, n_features)
        In double precision.
    energy : float
        Sum of squares of the part; no more than that of ``values``, whose whole is returned for more.
    method : {"fourier", "causal"}
        ``fourier``: any directions, evenly distributed. ``causal``: single times, so that nothing is mixed over time.
    rng : numpy.random.Generator

    Returns
    -------
    torch.Tensor
        Like ``values``; the last direction is taken in part.

    Examples
    --------
    >>> x = torch.ones(1, 8, 1, dtype=torch.float64)
    >>> part_of_energy(x, 2.25, "causal", np.random.default_rng(0)).flatten().sort().values.tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
    """
    total = float(values.square().sum())
    if energy >= total:
        return values.clone()
    n_samples = values.shape[1]
    n_drawn = min(n_samples, math.ceil(_SPARE * energy / total * n_samples) + _FEWEST_SPARE)
    while True:
        directions = _directions(n_samples, n_drawn, method, rng).to(values.device)
        along = torch.einsum("tk,stf->skf", directions, values)
        held = along.square().sum((0, 2)).cumsum(0)
        if n_drawn == n_samples or float(held[-1]) >= energy:
            break
        n_drawn = min(n_samples, 2 * n_drawn)
    before = torch.cat([held.new_zeros(1), held[:-1]])
    left = ((energy - before) / (held - before).clamp(min=torch.finfo(held.dtype).tiny)).clamp(0, 1)
    return torch.einsum("tk,k,skf->stf", directions, left.sqrt(), along)


def _directions(n_samples: int, n_drawn: int, method: str, rng: np.random.Generator) -> torch.Tensor:
    """Return random orthonormal directions of time, ``(n_samples, n_drawn)``."""
    if method == "causal":
        times = torch.from_numpy(rng.permutation(n_samples)[:n_drawn])
        return torch.eye(n_samples, dtype=torch.float64)[:, times]
    return torch.linalg.qr(torch.from_numpy(rng.standard_normal((n_samples, n_drawn))))[0]
