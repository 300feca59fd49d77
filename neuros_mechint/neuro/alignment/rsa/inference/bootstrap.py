"""Scores and noise ceilings of fixed models in resamples of conditions, subjects, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.parallel import parallel_map
from neuros_mechint.neuro.alignment.rsa.inference.draws import FEWEST_DIFFERENT, Counts, Draws
from neuros_mechint.neuro.alignment.rsa.inference.general import sampled, similarity_in_resample, subject_ceilings
from neuros_mechint.neuro.alignment.rsa.inference.moments import ceilings_of_similarity, resampled_similarity
from neuros_mechint.neuro.alignment.rsa.inference.ranks import RankedRDMs

_ALL_AT_ONCE = {"corr": True, "cosine": False}
"""Measures whose moments are sums over pairs, and whether they are taken around the mean."""

_OF_RANKS = {"spearman": False, "rho-a": True}
"""Measures of ranks, and whether they are divided by the variance of ranks without ties."""

_ROWS_AT_ONCE = 25

KINDS = ("both", "subjects", "conditions")
"""What is resampled in the three parts of a dual bootstrap, in their order."""


@dataclass(frozen=True)
class Evaluations:
    """What the resamples gave.

    Parameters
    ----------
    scores : numpy.ndarray of shape (n_kinds, n_repeats, n_resamples, n_models)
        Kinds are one, or the three of a dual bootstrap; repeats differ in the folds of a cross-validation.
    ceilings : numpy.ndarray of shape (n_kinds, n_repeats, n_resamples, 2)
        Lower and upper, of the subjects drawn: one that is drawn twice counts twice in the mean of the others.
    limits : numpy.ndarray of shape (n_kinds, n_repeats, n_resamples, 2)
        Lower and upper, of each subject drawn with the mean of all who took part. To compare scores with: the mean
        of the others drawn holds fewer different subjects, and varies about three times as much.
    """

    scores: Floats
    ceilings: Floats
    limits: Floats


def bootstrap(
    models: Floats, data: Floats, drawn: Draws, compare: str, dual: bool = False, n_jobs: int | None = None
) -> Evaluations:
    """Return scores and ceilings of fixed models in every resample.

    Parameters
    ----------
    models : numpy.ndarray of shape (n_models, n_pairs)
    data : numpy.ndarray of shape (n_subjects, n_pairs)
    drawn : Draws
    compare : str
    dual : bool
        Also draw subjects alone and conditions alone, with the same counts.
    n_jobs : int or None
        See `parallel_map`. Correlations and cosines are computed for all resamples at once, without workers.

    Returns
    -------
    Evaluations
        NaN in draws with fewer than three different conditions, and where a score or a ceiling is not defined.
    """
    everyone = np.ones((1, data.shape[0]), dtype=np.int64)
    every_condition = np.ones((1, drawn.conditions.shape[1]), dtype=np.int64)
    subjects = [drawn.subjects, everyone] if dual else [drawn.subjects]
    parts = _parts(models, data, drawn.conditions, subjects, compare, n_jobs)
    if dual:
        parts.insert(1, _parts(models, data, every_condition, [drawn.subjects], compare, n_jobs)[0])
    found = [np.stack([_for_all(part[which], drawn.n_resamples) for part in parts])[:, None] for which in range(3)]
    if len(drawn.conditions) > 1:
        for values in found:
            values[:, :, ~drawn.enough] = np.nan
    return Evaluations(*found)


def _parts(
    models: Floats, data: Floats, counts: Counts, subjects: list[Counts], compare: str, n_jobs: int | None
) -> list[tuple[Floats, Floats, Floats]]:
    """Return scores ``(n, n_models)``, ceilings ``(n, 2)`` and limits ``(n, 2)`` for each draw of the subjects.

    ``counts`` and every draw have the same number of rows, or one row that goes with all of the other.
    """
    if len(counts) > 1:
        return _in_resamples(models, data, counts, subjects, compare, n_jobs)
    # four subjects have 35 different draws, not a thousand
    rows, inverse = np.unique(subjects[0], axis=0, return_inverse=True)
    [(scores, ceilings, limits)] = _in_resamples(models, data, counts, [rows], compare, n_jobs)
    places = inverse.reshape(-1)
    return [(scores[places], ceilings[places], limits[places])]


def _in_resamples(
    models: Floats, data: Floats, counts: Counts, subjects: list[Counts], compare: str, n_jobs: int | None
) -> list[tuple[Floats, Floats, Floats]]:
    n_models, everyone = len(models), np.ones((1, len(data)), dtype=np.int64)
    if compare in _ALL_AT_ONCE:
        alike = resampled_similarity(np.concatenate([models, data]), len(data), counts, _ALL_AT_ONCE[compare])
        similarity, of_all = alike[:, :n_models], ceilings_of_similarity(alike[:, n_models:], everyone)
        of_drawn = [ceilings_of_similarity(alike[:, n_models:], each) for each in subjects]
    else:
        resample = _InRanks if compare in _OF_RANKS else _Generally
        in_rows = partial(_in_rows, resample(models, data, compare), counts, subjects, (n_models, len(data)))
        starts = range(0, len(counts), _ROWS_AT_ONCE)
        blocks = [range(start, min(start + _ROWS_AT_ONCE, len(counts))) for start in starts]
        parts = zip(*parallel_map(in_rows, blocks, n_jobs, progress=True, description="resamples"), strict=True)
        similarity, of_all, *of_drawn = (np.concatenate(part) for part in parts)
    return [
        (_mean(similarity, each), _mean(own, np.minimum(each, 1)), _mean(of_all, each))
        for each, own in zip(subjects, of_drawn, strict=True)
    ]


class _InRanks:
    """Give the similarities ``(n_models, n_subjects)`` in a resample of the conditions, and what gives its ceilings."""

    def __init__(self, models: Floats, data: Floats, compare: str) -> None:
        self.ranked = RankedRDMs(np.concatenate([models, data]), len(data), _OF_RANKS[compare])
        self.n_models = len(models)

    def __call__(self, counts: Counts) -> tuple[Floats, Callable[[Counts], Floats]]:
        ranks, weights = self.ranked.resample(counts)
        return self.ranked.similarity(ranks, weights)[: self.n_models], partial(self.ranked.ceilings, ranks, weights)


class _Generally:
    """The same for every measure."""

    def __init__(self, models: Floats, data: Floats, compare: str) -> None:
        self.models, self.data, self.compare = models, data, compare

    def __call__(self, counts: Counts) -> tuple[Floats, Callable[[Counts], Floats]]:
        models, data = sampled(self.models, counts), sampled(self.data, counts)
        return similarity_in_resample(models, data, self.compare), partial(subject_ceilings, data, self.compare)


def _in_rows(
    resample: _InRanks | _Generally, counts: Counts, subjects: list[Counts], sizes: tuple[int, int], rows: range
) -> tuple[Floats, ...]:
    """Return similarities of some rows of ``counts``, ceilings of all subjects, and those of each draw of them.

    A single row of ``counts`` goes with every row of the subjects.
    """
    alone, n_data = len(counts) == 1, sizes[1]
    similarity, of_all = np.full((len(rows), *sizes), np.nan), np.full((len(rows), 2, n_data), np.nan)
    of_drawn = [np.full((len(each) if alone else len(rows), 2, n_data), np.nan) for each in subjects]
    everyone = np.ones(n_data, dtype=np.int64)
    for place, row in enumerate(rows):
        if (counts[row] > 0).sum() < FEWEST_DIFFERENT:
            continue
        similarity[place], ceilings = resample(counts[row])
        of_all[place] = ceilings(everyone)
        for each, found in zip(subjects, of_drawn, strict=True):
            pools = each if alone else each[[row if len(each) > 1 else 0]]
            for number, pool in enumerate(pools, start=place):
                found[number] = of_all[place] if (pool == 1).all() else ceilings(pool)
    return similarity, of_all, *of_drawn


def _mean(values: Floats, subjects: Counts) -> Floats:
    """Return the mean ``(n, m)`` of ``(n or 1, m, n_subjects)`` over the subjects drawn; NaN where one of them is."""
    times = subjects.astype(np.float64)
    shares = times / times.sum(1, keepdims=True)
    undefined = np.isnan(values)
    if not undefined.any():
        return _product(values, shares)
    means = _product(np.where(undefined, 0.0, values), shares)
    return np.where(_product(undefined.astype(np.float64), shares) > 0, np.nan, means)


def _product(values: Floats, shares: Floats) -> Floats:
    if len(shares) == 1:
        return values @ shares[0]
    return shares @ values[0].T if len(values) == 1 else np.einsum("bms,bs->bm", values, shares)


def _for_all(values: Floats, n_resamples: int) -> Floats:
    return values if len(values) == n_resamples else np.repeat(values, n_resamples, axis=0)
