"""Models that are fitted: in every resample on some conditions and subjects, evaluated on others, by rsatoolbox."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.alignment.rsa.inference.bootstrap import Evaluations
from neuros_mechint.neuro.alignment.rsa.inference.draws import FEWEST_DIFFERENT, Counts, Draws
from neuros_mechint.neuro.alignment.rsa.inference.tables import Observed
from neuros_mechint.neuro.alignment.rsa.interop import to_rsatoolbox
from neuros_mechint.neuro.alignment.rsa.models import toolbox_model
from neuros_mechint.neuro.alignment.rsa.stack import RDMStack

if TYPE_CHECKING:
    from neuros_mechint.neuro.alignment.rsa.inference.entrants import Entrant

_REPEATS = 2
"""Choices of folds in a resample: with two, the part of the variance that they add can be taken out."""

_OBSERVED_REPEATS = 10
_DIFFERENT = 1 - 1 / np.e
"""Share of subjects or conditions that a resample holds."""


def n_folds(n_conditions: int, n_subjects: int) -> tuple[int, int]:
    """Return into how many folds conditions and subjects are split, so that those of a resample suffice.

    Examples
    --------
    >>> n_folds(92, 8), n_folds(92, 1)
    ((5, 2), (5, 1))
    """
    from rsatoolbox.util.inference_util import default_k_pattern, default_k_rdm

    of_subjects = 1 if n_subjects == 1 else default_k_rdm(_DIFFERENT * n_subjects)
    return default_k_pattern(_DIFFERENT * n_conditions), of_subjects


def observed_fitted(models: list[Entrant], data: RDMStack, compare: str, random: np.random.Generator) -> Observed:
    """Return cross-validated scores and ceilings, the mean of several choices of folds."""
    conditions, subjects = np.ones(data.n_conditions, dtype=np.int64), np.ones(len(data), dtype=np.int64)
    _check_enough(data)
    with _lent_seed(random):
        scores, ceilings = cross_validated(FittedModels(models, data, compare), conditions, subjects, _OBSERVED_REPEATS)
    limits = ceilings.mean(0) if len(data) > 1 else np.full(2, np.nan)
    return Observed(scores.mean(0), limits)


def bootstrap_fitted(
    models: list[Entrant], data: RDMStack, drawn: Draws, compare: str, dual: bool, random: np.random.Generator
) -> Evaluations:
    """Return scores and ceilings of models that are fitted in every resample; see `bootstrap`.

    Fixed models are evaluated on the same folds, so that all can be compared.
    """
    fitted = FittedModels(models, data, compare)
    everyone, every_condition = np.ones(len(data), dtype=np.int64), np.ones(data.n_conditions, dtype=np.int64)
    n_kinds = 3 if dual else 1
    scores = np.full((n_kinds, _REPEATS, drawn.n_resamples, len(models)), np.nan)
    ceilings = np.full((n_kinds, _REPEATS, drawn.n_resamples, 2), np.nan)
    with _lent_seed(random):
        for row in progress_bar(range(drawn.n_resamples), description="resamples"):
            conditions = drawn.conditions[row if len(drawn.conditions) > 1 else 0]
            subjects = drawn.subjects[row if len(drawn.subjects) > 1 else 0]
            if not fitted.enough(conditions, subjects):
                continue
            kinds = [(conditions, subjects), (every_condition, subjects), (conditions, everyone)]
            for kind, (of_conditions, of_subjects) in enumerate(kinds[:n_kinds]):
                found = cross_validated(fitted, of_conditions, of_subjects, _REPEATS)
                scores[kind, :, row], ceilings[kind, :, row] = found
    if len(data) == 1:
        ceilings[:] = np.nan
    return Evaluations(scores, ceilings, ceilings)


class FittedModels:
    """Models and data as rsatoolbox has them, and the folds they are split into."""

    def __init__(self, models: list[Entrant], data: RDMStack, compare: str) -> None:
        self.models = [toolbox_model(entrant.stack, entrant.kind, entrant.name) for entrant in models]
        self.data, self.compare = to_rsatoolbox(data.pairs), compare
        self.n_folds = n_folds(data.n_conditions, len(data))

    def enough(self, conditions: Counts, subjects: Counts) -> bool:
        """Return whether a draw holds enough different conditions and subjects for the folds."""
        of_conditions, of_subjects = self.n_folds
        different = (conditions > 0).sum(), (subjects > 0).sum()
        return bool(different[0] >= FEWEST_DIFFERENT * of_conditions and different[1] >= of_subjects)


def cross_validated(
    fitted: FittedModels, conditions: Counts, subjects: Counts, n_repeats: int
) -> tuple[Floats, Floats]:
    """Return scores ``(n_repeats, n_models)`` and ceilings ``(n_repeats, 2)`` in one resample."""
    from rsatoolbox.inference.crossvalsets import sets_k_fold
    from rsatoolbox.inference.evaluate import crossval
    from rsatoolbox.inference.noise_ceiling import cv_noise_ceiling

    drawn = np.repeat(np.arange(len(conditions)), conditions)
    sample = fitted.data.subsample("index", np.repeat(np.arange(len(subjects)), subjects))
    sample = sample.subsample_pattern("index", drawn)
    k_conditions, k_subjects = fitted.n_folds
    scores, ceilings = [], []
    for _ in range(n_repeats):
        training, test, others = sets_k_fold(sample, k_rdm=k_subjects, k_pattern=k_conditions, random=True)
        ceilings.append(cv_noise_ceiling(sample, others, test, method=fitted.compare))
        for each in (*training, *test):  # a condition that is drawn twice is fitted and tested twice
            each[1] = np.repeat(each[1], conditions[each[1]])
        found = crossval(fitted.models, sample, training, test, method=fitted.compare, calc_noise_ceil=False)
        scores.append(found.evaluations[0].mean(-1))
    return np.stack(scores), np.stack(ceilings)


def _check_enough(data: RDMStack) -> None:
    folds = n_folds(data.n_conditions, len(data))
    if data.n_conditions < FEWEST_DIFFERENT * folds[0]:
        raise InputError(
            "too few conditions to fit models on some and test them on others",
            expected=f"at least {FEWEST_DIFFERENT * folds[0]}, better 20 or more",
            got=data.n_conditions,
            fix="evaluate fixed models, one RDM each",
        )


@contextmanager
def _lent_seed(random: np.random.Generator) -> Generator[None]:
    """Let rsatoolbox, which draws folds and starting points from NumPy's global state, draw from ours instead."""
    before: Any = np.random.get_state()  # noqa: NPY002
    np.random.set_state(np.random.RandomState(int(random.integers(2**32))).get_state())  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Noise ceiling for tau based on averaged ranks")  # see noise_ceiling
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
