"""Data with planted weights for the tests of encoding models."""

from __future__ import annotations

import numpy as np

import neuros_mechint as nm


def data(n=100, p=40, n_targets=6, noise=1.0, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, p)) * random.uniform(0.5, 2, p)
    signal = x @ random.standard_normal((p, n_targets))
    signal /= signal.std(0)
    return x + 3, signal + noise * random.standard_normal((n, n_targets)) - 2


MODELS = [nm.RidgeEncoding([1.0, 10.0]), nm.BandedRidge(["a", "b"] * 5, [1.0, 10.0], n_candidates=3), nm.PLS(2)]
