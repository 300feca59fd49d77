"""RDMs of models and subjects with what they share planted."""

from __future__ import annotations

import numpy as np

SAME = 1e-12
N_CONDITIONS, N_SUBJECTS, N_DRAWS = 9, 4, 14


def planted(n_conditions=N_CONDITIONS, n_models=3, n_subjects=N_SUBJECTS, seed=0, ties=False):
    """Models that share less and less with the signal of all subjects."""
    random = np.random.default_rng(seed)
    n_pairs = n_conditions * (n_conditions - 1) // 2
    signal = random.random(n_pairs)
    data = signal + random.random((n_subjects, n_pairs))
    share = np.linspace(1, 0, n_models)[:, None]
    models = share * signal + (1 - share) * random.random((n_models, n_pairs))
    if ties:
        models[0] = models[0] > 0.5  # a model of categories
        data = np.round(data, 1)
    return models, data
