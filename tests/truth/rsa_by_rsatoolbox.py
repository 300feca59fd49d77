"""rsatoolbox's own bootstraps, run on resamples that are given instead of drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import rsatoolbox
import rsatoolbox.inference.evaluate as toolbox
from rsatoolbox.model import ModelFixed

from neuros_mechint.neuro.alignment.rsa.inference.draws import Draws

PEERS = {
    "both": toolbox.eval_bootstrap,
    "conditions": toolbox.eval_bootstrap_pattern,
    "subjects": toolbox.eval_bootstrap_rdm,
    "dual": toolbox.eval_dual_bootstrap,
}


def counts(indices: np.ndarray, size: int) -> np.ndarray:
    return np.stack([np.bincount(row, minlength=size) for row in indices])


def as_draws(over: str, subjects: np.ndarray, conditions: np.ndarray, n_subjects: int, n_conditions: int) -> Draws:
    """The same resamples in the form that this package uses."""
    return Draws(
        np.ones((1, n_conditions), dtype=int) if over == "subjects" else counts(conditions, n_conditions),
        np.ones((1, n_subjects), dtype=int) if over == "conditions" else counts(subjects, n_subjects),
    )


@contextmanager
def given(subjects: np.ndarray, conditions: np.ndarray) -> Iterator[None]:
    """Make rsatoolbox use these subjects ``(n, n_subjects)`` and conditions ``(n, n_conditions)``, without a bar."""
    rows = iter(range(len(subjects)))

    def both(data, **_):
        row = next(rows)
        sample = data.subsample("index", subjects[row]).subsample_pattern("index", conditions[row])
        return sample, subjects[row], conditions[row]

    def of_conditions(data, *_):
        row = next(rows)
        return data.subsample_pattern("index", conditions[row]), conditions[row]

    def of_subjects(data, *_):
        row = next(rows)
        return data.subsample("index", subjects[row]), subjects[row]

    with (
        mock.patch.object(toolbox, "bootstrap_sample", both),
        mock.patch.object(toolbox, "bootstrap_sample_pattern", of_conditions),
        mock.patch.object(toolbox, "bootstrap_sample_rdm", of_subjects),
        mock.patch.object(toolbox.tqdm, "trange", range),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # degenerate draws, and mean ranks for Kendall's tau
        yield


def evaluated(
    over: str, models: np.ndarray, data: np.ndarray, subjects: np.ndarray, conditions: np.ndarray, compare: str
):
    """Return rsatoolbox's result, its scores ``(n_kinds, n, n_models)`` and its ceilings ``(n_kinds, n, 2)``."""
    fixed = [ModelFixed(str(number), rdm) for number, rdm in enumerate(models)]
    with given(subjects, conditions):
        result = PEERS[over](fixed, rsatoolbox.rdm.RDMs(data), method=compare, N=len(subjects))
    if over == "dual":
        return (
            result,
            result.evaluations[:, :, 0, 0].transpose(2, 0, 1),
            result.noise_ceiling[:, :, 0].transpose(2, 1, 0),
        )
    return result, result.evaluations[None], result.noise_ceiling.T[None]
