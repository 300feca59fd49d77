"""Correlations and cosines of RDMs in all resamples at once: every moment is one matrix product with the weights."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.alignment.rsa.inference.draws import Counts, pair_weights

_NUMBERS_AT_ONCE = 2**21
_LOSES_DIGITS = 1e-3
"""Share of the second moment below which a variance, a difference of two moments, is computed again from deviations."""


def resampled_similarity(rdms: Floats, n_data: int, counts: Counts, centred: bool) -> Floats:
    """Return the similarity of each RDM with each of the last ``n_data`` in every resample of the conditions.

    Parameters
    ----------
    rdms : numpy.ndarray of shape (n_rdms, n_pairs)
    n_data : int
    counts : numpy.ndarray of shape (n_resamples, n_conditions)
        How often each condition is drawn.
    centred : bool
        Pearson correlation; otherwise the cosine.

    Returns
    -------
    numpy.ndarray of shape (n_resamples, n_rdms, n_data)
        NaN where an RDM is constant among the conditions drawn (for the cosine: zero).
    """
    origin = rdms.mean(1) if centred else np.zeros(len(rdms))
    size = np.array([np.sqrt(np.mean((row - start) ** 2)) for row, start in zip(rdms, origin, strict=True)])
    size[size == 0] = 1.0
    cross, squares, sums = _moments(rdms, origin[:, None], size[:, None], n_data, counts)
    times = counts.astype(np.float64)
    total = (times.sum(1) ** 2 - (times**2).sum(1))[:, None] / 2
    variance = squares
    if centred:
        mean = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
        variance = squares - total * mean**2
        cross = cross - total[:, :, None] * mean[:, :, None] * mean[:, None, -n_data:]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = cross / np.sqrt(variance[:, :, None] * variance[:, None, -n_data:])
    for draw in np.flatnonzero((variance <= _LOSES_DIGITS * squares).any(1)):
        found[draw] = _directly(rdms, n_data, counts[draw], centred)
    return found


def _moments(rdms: Floats, origin: Floats, size: Floats, n_data: int, counts: Counts) -> tuple[Floats, Floats, Floats]:
    """Return weighted sums of products ``(n_resamples, n_rdms, n_data)``, of squares and of values, in units of size.

    Pairs are taken in blocks: what is needed at once does not grow with their number.
    """
    n_rdms, n_resamples = len(rdms), len(counts)
    n_models = n_rdms - n_data
    upper = np.triu_indices(n_data, 1)
    n_cross = n_models * n_data
    gathered = np.zeros((n_cross + len(upper[0]) + 2 * n_rdms, n_resamples))
    for block, weights in pair_weights(counts, max(_NUMBERS_AT_ONCE // (n_resamples + len(gathered)), 64)):
        values = (rdms[:, block] - origin) / size
        data = values[n_models:]
        products = np.concatenate([
            (values[:n_models, None] * data).reshape(n_cross, data.shape[1]),
            data[upper[0]] * data[upper[1]],
            values**2,
            values,
        ])  # fmt: skip
        gathered += products @ weights
    models, data, squares, sums = np.split(gathered, np.cumsum([n_cross, len(upper[0]), n_rdms]))
    cross = np.empty((n_resamples, n_rdms, n_data))
    cross[:, :n_models] = models.T.reshape(n_resamples, n_models, n_data)
    cross[:, n_models + upper[0], upper[1]] = cross[:, n_models + upper[1], upper[0]] = data.T
    diagonal = np.arange(n_data)
    cross[:, n_models + diagonal, diagonal] = squares[n_models:].T
    return cross, squares.T, sums.T


def _directly(rdms: Floats, n_data: int, counts: Counts, centred: bool) -> Floats:
    """Return the similarities of one resample, from deviations; NaN where there are none."""
    first, second = np.triu_indices(len(counts), 1)
    weights = counts[first] * counts[second]
    drawn = weights > 0
    values, weights = rdms[:, drawn], weights[drawn].astype(np.float64)
    if not weights.size:
        return np.full((len(rdms), n_data), np.nan)
    if centred:
        constant = values.max(1) == values.min(1)
        values = values - (values @ weights / weights.sum())[:, None]
    else:
        constant = ~values.any(1)
    largest = np.abs(values).max(1, keepdims=True)  # squares of tiny numbers vanish
    values = np.sqrt(weights) * np.divide(values, largest, out=np.zeros_like(values), where=largest > 0)
    length = np.sqrt((values**2).sum(1))
    length[constant] = np.nan
    return values @ values[-n_data:].T / np.outer(length, length[-n_data:])


def ceilings_of_similarity(similarity: Floats, pools: Counts) -> Floats:
    """Return the similarity of each subject with a mean of the others and of all, from that of pairs of subjects.

    The RDM most similar to several subjects is the mean of their standardised RDMs, so that its similarity with each
    follows from theirs with each other.

    Parameters
    ----------
    similarity : numpy.ndarray of shape (n_resamples or 1, n_subjects, n_subjects)
    pools : numpy.ndarray of shape (n_resamples or 1, n_subjects)
        How often each subject counts in the mean.

    Returns
    -------
    numpy.ndarray of shape (n_resamples, 2, n_subjects)
        Lower and upper; NaN for subjects that do not count, or alone do, or whose similarity is not defined.
    """
    times = pools.astype(np.float64)
    undefined = np.isnan(similarity)
    alike = np.where(undefined, 0.0, similarity) if undefined.any() else similarity
    with_sum = times @ alike[0] if len(alike) == 1 else np.einsum("bst,bt->bs", alike, _rows(times, len(alike)))
    square = np.einsum("bs,bs->b", with_sum, _rows(times, len(with_sum)))[:, None]
    rest = square - 2 * times * with_sum + times**2  # of the sum without the subject
    counts = (times > 0) & ((times > 0).sum(1, keepdims=True) > 1)
    if undefined.any():
        unknown = np.diagonal(undefined, axis1=1, axis2=2)
        counts = counts & ~(unknown & (times > 0)).any(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = np.stack([(with_sum - times) / np.sqrt(rest), with_sum / np.sqrt(square)], axis=1)
    return np.where(counts[:, None], both, np.nan)


def _rows(values: Floats, number: int) -> Floats:
    return np.broadcast_to(values, (number, values.shape[1]))
