"""Scores and noise ceilings of fixed models in resamples of conditions, subjects, or both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.alignment.rsa.inference.draws import FEWEST_DIFFERENT, Counts, Draws
from neuros_mechint.neuro.alignment.rsa.inference.general import sampled, similarity_in_resample, subject_ceilings
from neuros_mechint.neuro.alignment.rsa.inference.moments import ceilings_of_similarity, resampled_similarity
from neuros_mechint.neuro.alignment.rsa.inference.ranks import RankedRDMs

_ALL_AT_ONCE = {"corr": True, "cosine": False}
"""Measures whose moments are sums over pairs, and whether they are taken around the mean."""

_OF_RANKS = {"spearman": False, "rho-a": True}
"""Measures of ranks, and whether they are divided by the variance of ranks without ties."""

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


def bootstrap(models: Floats, data: Floats, drawn: Draws, compare: str, dual: bool = False) -> Evaluations:
    """Return scores and ceilings of fixed models in every resample.

    Parameters
    ----------
    models : numpy.ndarray of shape (n_models, n_pairs)
    data : numpy.ndarray of shape (n_subjects, n_pairs)
    drawn : Draws
    compare : str
    dual : bool
        Also draw subjects alone and conditions alone, with the same counts.

    Returns
    -------
    Evaluations
        NaN in draws with fewer than three different conditions, and where a score or a ceiling is not defined.
    """
    everyone = np.ones((1, data.shape[0]), dtype=np.int64)
    every_condition = np.ones((1, drawn.conditions.shape[1]), dtype=np.int64)
    parts = _parts(models, data, drawn.conditions, [drawn.subjects, everyone] if dual else [drawn.subjects], compare)
    if dual:
        parts.insert(1, _parts(models, data, every_condition, [drawn.subjects], compare)[0])
    found = [np.stack([_for_all(part[which], drawn.n_resamples) for part in parts])[:, None] for which in range(3)]
    if len(drawn.conditions) > 1:
        for values in found:
            values[:, :, ~drawn.enough] = np.nan
    return Evaluations(*found)


def _parts(
    models: Floats, data: Floats, counts: Counts, subjects: list[Counts], compare: str
) -> list[tuple[Floats, Floats, Floats]]:
    """Return scores ``(n, n_models)``, ceilings ``(n, 2)`` and limits ``(n, 2)`` for each draw of the subjects.

    ``counts`` and every draw have the same number of rows, or one row that goes with all of the other.
    """
    if len(counts) > 1:
        return _in_resamples(models, data, counts, subjects, compare)
    # four subjects have 35 different draws, not a thousand
    rows, inverse = np.unique(subjects[0], axis=0, return_inverse=True)
    [(scores, ceilings, limits)] = _in_resamples(models, data, counts, [rows], compare)
    places = inverse.reshape(-1)
    return [(scores[places], ceilings[places], limits[places])]


def _in_resamples(
    models: Floats, data: Floats, counts: Counts, subjects: list[Counts], compare: str
) -> list[tuple[Floats, Floats, Floats]]:
    n_models, everyone = len(models), np.ones((1, len(data)), dtype=np.int64)
    if compare in _ALL_AT_ONCE:
        alike = resampled_similarity(np.concatenate([models, data]), len(data), counts, _ALL_AT_ONCE[compare])
        similarity, of_all = alike[:, :n_models], ceilings_of_similarity(alike[:, n_models:], everyone)
        of_drawn = [ceilings_of_similarity(alike[:, n_models:], each) for each in subjects]
    else:
        walk = _ranked if compare in _OF_RANKS else _generally
        similarity, of_all, of_drawn = walk(models, data, counts, subjects, compare)
    return [
        (_mean(similarity, each), _mean(own, np.minimum(each, 1)), _mean(of_all, each))
        for each, own in zip(subjects, of_drawn, strict=True)
    ]


def _ranked(
    models: Floats, data: Floats, counts: Counts, subjects: list[Counts], compare: str
) -> tuple[Floats, Floats, list[Floats]]:
    ranked = RankedRDMs(np.concatenate([models, data]), len(data), _OF_RANKS[compare])
    similarity, of_all, of_drawn = _room(len(models), len(data), len(counts), subjects)
    everyone = np.ones(len(data), dtype=np.int64)
    for row in progress_bar(range(len(counts)), description="resamples"):
        if (counts[row] > 0).sum() < FEWEST_DIFFERENT:
            continue
        ranks, weights = ranked.resample(counts[row])
        similarity[row] = ranked.similarity(ranks, weights)[: len(models)]
        of_all[row] = ranked.ceilings(ranks, weights, everyone)
        for each, found in zip(subjects, of_drawn, strict=True):
            for place, pool in _of_row(each, row, len(counts)):
                same = (pool == 1).all()
                found[place] = of_all[row] if same else ranked.ceilings(ranks, weights, pool)
    return similarity, of_all, of_drawn


def _generally(
    models: Floats, data: Floats, counts: Counts, subjects: list[Counts], compare: str
) -> tuple[Floats, Floats, list[Floats]]:
    similarity, of_all, of_drawn = _room(len(models), len(data), len(counts), subjects)
    for row in progress_bar(range(len(counts)), description="resamples"):
        if (counts[row] > 0).sum() < FEWEST_DIFFERENT:
            continue
        of_models, of_data = sampled(models, counts[row]), sampled(data, counts[row])
        similarity[row] = similarity_in_resample(of_models, of_data, compare)
        of_all[row] = subject_ceilings(of_data, compare)
        for each, found in zip(subjects, of_drawn, strict=True):
            for place, pool in _of_row(each, row, len(counts)):
                same = (pool == 1).all()
                found[place] = of_all[row] if same else subject_ceilings(of_data, compare, pool)
    return similarity, of_all, of_drawn


def _room(n_models: int, n_data: int, n_rows: int, subjects: list[Counts]) -> tuple[Floats, Floats, list[Floats]]:
    of_drawn = [np.full((max(n_rows, len(each)), 2, n_data), np.nan) for each in subjects]
    return np.full((n_rows, n_models, n_data), np.nan), np.full((n_rows, 2, n_data), np.nan), of_drawn


def _of_row(subjects: Counts, row: int, n_rows: int) -> Iterator[tuple[int, Counts]]:
    """Yield the draws of subjects that go with a row of counts, and where they stand in the outcome."""
    if n_rows == 1:
        yield from enumerate(subjects)
    else:
        yield row, subjects[row if len(subjects) > 1 else 0]


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
