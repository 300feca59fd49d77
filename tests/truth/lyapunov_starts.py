"""Where the trajectories start of which exponents are measured."""

from __future__ import annotations

import numpy as np

import neuros_mechint as nm

LORENZ = nm.rk4(nm.lorenz, 0.01)


def starts(n, d, seed=0, scale=1.0, centre=0.0):
    return centre + scale * np.random.default_rng(seed).normal(size=(n, d))
