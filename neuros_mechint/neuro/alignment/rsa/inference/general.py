"""Every measure of similarity: one resample after the other, and the RDM that is most like those of all subjects."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.alignment.rsa.compare import similarities, without_variance
from neuros_mechint.neuro.alignment.rsa.inference.draws import Counts
from neuros_mechint.neuro.alignment.rsa.stack import square, vectors

LINEAR = ("spearman", "corr", "cosine", "rho-a")
"""Measures that are products of one vector of pairs for each RDM, whatever the conditions are called."""

OF_RANKS = ("spearman", "rho-a", "tau-a")
"""Measures for which the RDM that is most like several is the mean of their ranks."""

_CENTRED = ("corr", "corr_cov")
_DEFINED_FOR_ALL = ("tau-a", "rho-a")


def sampled(pairs: Floats, counts: Counts) -> Floats:
    """Return RDMs ``(n_rdms, n_pairs_of_draws)`` of the conditions drawn, NaN between two draws of the same one.

    Examples
    --------
    >>> sampled(np.array([[1.0, 2.0, 3.0]]), np.array([2, 1, 0])).tolist()
    [[nan, 1.0, 1.0]]
    """
    index = np.repeat(np.arange(len(counts)), counts)
    matrices = square(pairs)
    diagonal = np.arange(len(counts))
    matrices[:, diagonal, diagonal] = np.nan
    return vectors(matrices[:, index][:, :, index])


def pooled(pairs: Floats, compare: str, times: Counts) -> Floats:
    """Return the RDM ``(n_pairs,)`` that is most similar to all: the mean of standardised RDMs, or of their ranks.

    For Kendall's tau and the whitened measures the mean is near the best, not the best.

    Parameters
    ----------
    pairs : numpy.ndarray of shape (n_subjects, n_pairs)
        Pairs that are NaN in one are NaN in all.
    compare : str
    times : numpy.ndarray of shape (n_subjects,)
        How often each counts.

    References
    ----------
    Nili et al. 2014, A Toolbox for Representational Similarity Analysis, doi:10.1371/journal.pcbi.1003553

    Examples
    --------
    >>> pooled(np.array([[1.0, 2.0, 9.0], [4.0, 5.0, 6.0]]), "tau-a", np.array([1, 1])).tolist()
    [1.0, 2.0, 3.0]
    """
    from scipy.stats import rankdata

    there = ~np.isnan(pairs[0])
    values = pairs[:, there]
    if compare in OF_RANKS:
        values = rankdata(values, axis=1)
    elif compare in _CENTRED:
        values = values - values.mean(1, keepdims=True)
    if compare not in OF_RANKS:
        size = np.sqrt(np.mean(values**2, axis=1, keepdims=True))
        values = np.divide(values, size, out=np.zeros_like(values), where=size > 0)
    found = np.full(pairs.shape[1], np.nan)
    found[there] = times @ values / times.sum()
    return found


def subject_ceilings(pairs: Floats, compare: str, pool: Counts | None = None) -> Floats:
    """Return the similarity of each subject with a mean of the others and of all ``(2, n_subjects)``.

    Parameters
    ----------
    pairs : numpy.ndarray of shape (n_subjects, n_pairs)
    compare : str
    pool : numpy.ndarray of shape (n_subjects,), optional
        How often each subject counts in the mean; once, if not given. NaN for those that do not, or alone do.

    Examples
    --------
    >>> subject_ceilings(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), "tau-a").tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    pool = np.ones(len(pairs), dtype=np.int64) if pool is None else pool
    found = np.full((2, len(pairs)), np.nan)
    chosen = np.flatnonzero(pool)
    if chosen.size < 2:
        return found
    found[1, chosen] = similarities(pooled(pairs, compare, pool)[None], pairs[chosen], compare)[0]
    for subject in chosen:
        others = pool.copy()
        others[subject] = 0
        found[0, subject] = similarities(pooled(pairs, compare, others)[None], pairs[subject, None], compare).item()
    return found


def similarity_in_resample(models: Floats, data: Floats, compare: str) -> Floats:
    """Return similarities ``(n_models, n_subjects)`` of RDMs that `sampled` gave; NaN for those without variance."""
    found = similarities(models, data, compare)
    if compare in _DEFINED_FOR_ALL:
        return found
    there = ~np.isnan(data[0])
    none = [without_variance(each[:, there], compare) for each in (models, data)]
    return np.where(none[0][:, None] | none[1], np.nan, found)
