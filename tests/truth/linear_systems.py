"""Random linear systems and their steps."""

from __future__ import annotations

import numpy as np
import torch


def linear_system(seed, n_units=6, n_inputs=2, radius=0.9):
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((n_units, n_units))
    matrix *= radius / np.abs(np.linalg.eigvals(matrix)).max()
    return matrix, random.standard_normal((n_units, n_inputs)), random.standard_normal((3, n_units))


def linear_step(matrix, inputs=None):
    a = torch.from_numpy(matrix)
    if inputs is None:
        return lambda x: x @ a.T
    b = torch.from_numpy(inputs)
    return lambda x, u: x @ a.T + u @ b.T
