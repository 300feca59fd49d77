"""Rank correlations of RDMs in resamples: mid-ranks with weights, from an order that is sorted once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.alignment.rsa.inference.draws import Counts
from neuros_mechint.neuro.alignment.rsa.stack import n_conditions

_NUMBERS_AT_ONCE = 2**20
Indices = npt.NDArray[np.signedinteger]


class RankedRDMs:
    """RDMs of which every pair knows its place, so that a resample is ranked without sorting.

    Parameters
    ----------
    rdms : numpy.ndarray of shape (n_rdms, n_pairs)
    n_data : int
        The last so many are the subjects.
    tie_free : bool
        Divide by the variance of ranks without ties (rho-a) instead of that of these ranks (Spearman).
    """

    def __init__(self, rdms: Floats, n_data: int, tie_free: bool) -> None:
        n_rdms, n_pairs = rdms.shape
        self.n_data, self.tie_free = n_data, tie_free
        self.pairs = np.triu_indices(n_conditions(n_pairs, "rdms"), 1)
        self.order = np.empty((n_rdms, n_pairs), dtype=np.intp if n_pairs < _NUMBERS_AT_ONCE else np.int32)
        self.first, self.last = np.empty_like(self.order), np.empty_like(self.order)
        for order, first, last, values in zip(self.order, self.first, self.last, rdms, strict=True):
            order[:] = np.argsort(values, kind="stable")
            ordered = values[order]
            new = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
            sizes = np.diff(new)
            first[order] = np.repeat(new[:-1], sizes)
            last[order] = np.repeat(new[1:], sizes)
        self.ties = bool((self.last - self.first > 1).any())
        # several RDMs at once stand behind one another, each after a zero
        self.at_once = max(_NUMBERS_AT_ONCE // n_pairs, 1)
        behind = (np.arange(n_rdms) % self.at_once * (n_pairs + 1)).astype(self.order.dtype)[:, None]
        self.first += behind
        self.last += behind

    def resample(self, counts: Counts) -> tuple[Floats, Floats]:
        """Return twice the centred ranks ``(n_rdms, n_pairs_drawn)`` in one resample, and the weights of the pairs.

        Twice, because mid-ranks are whole or half: every number here is an integer and exact.
        """
        times = counts.astype(np.int32)
        weights = times[self.pairs[0]] * times[self.pairs[1]]
        drawn = np.flatnonzero(weights)
        n_rdms, n_pairs = self.order.shape
        ranks = np.empty((n_rdms, drawn.size), dtype=np.int32)
        below = np.zeros((min(self.at_once, n_rdms), n_pairs + 1), dtype=np.int32)
        for start in range(0, n_rdms, self.at_once):
            some = slice(start, min(start + self.at_once, n_rdms))
            size = some.stop - some.start
            np.cumsum(weights[self.order[some]], axis=1, dtype=np.int32, out=below[:size, 1:])
            flat = below.ravel()
            ranks[some] = flat[self.first[some][:, drawn]]
            if self.ties:
                ranks[some] += flat[self.last[some][:, drawn]]
        if not self.ties:  # the next place in the order lies as much higher as the pair weighs
            ranks *= 2
            ranks += weights[drawn]
        # twice a mid-rank is what lies below, plus what does not lie above, plus 1; twice the mean is W + 1
        ranks -= weights.sum()
        return ranks.astype(np.float64), weights[drawn].astype(np.float64)

    def similarity(self, ranks: Floats, weights: Floats) -> Floats:
        """Return the rank correlations ``(n_rdms, n_data)`` of one resample; NaN where an RDM is constant."""
        weighted = ranks * weights
        cross = weighted @ ranks[-self.n_data :].T
        if self.tie_free:
            return cross / self._largest(weights)
        length = np.sqrt(np.einsum("rp,rp->r", weighted, ranks))
        length[length == 0] = np.nan
        return cross / np.outer(length, length[-self.n_data :])

    def ceilings(self, ranks: Floats, weights: Floats, pool: Counts) -> Floats:
        """Return the similarity of each subject with a mean of the others and of all, in one resample.

        A mean of ranks is ranked again.

        Parameters
        ----------
        ranks, weights : numpy.ndarray
            What `resample` gave.
        pool : numpy.ndarray of shape (n_subjects,)
            How often each subject counts in the mean.

        Returns
        -------
        numpy.ndarray of shape (2, n_subjects)
            Lower and upper; NaN for subjects that do not count, or alone do.
        """
        found = np.full((2, self.n_data), np.nan)
        chosen = np.flatnonzero(pool)
        if chosen.size < 2:
            return found
        data = ranks[len(ranks) - self.n_data + chosen]
        pooled = pool[chosen].astype(np.float64) @ data
        others = pooled - pool[chosen, None] * data
        pool_ranks, place = _ranks_of_sums(np.concatenate([others, pooled[None]]), weights)
        weighted = pool_ranks * weights[place]
        lower = np.einsum("up,up->u", weighted[:-1], np.take_along_axis(data, place[:-1], axis=1))
        upper = data[:, place[-1]] @ weighted[-1]
        if self.tie_free:
            found[:, chosen] = np.stack([lower, upper]) / self._largest(weights)
            return found
        length = np.einsum("up,up->u", weighted, pool_ranks)
        own = data**2 @ weights
        with np.errstate(divide="ignore", invalid="ignore"):
            found[:, chosen] = np.stack([lower / np.sqrt(length[:-1] * own), upper / np.sqrt(length[-1] * own)])
        return found

    def _largest(self, weights: Floats) -> float:
        total = weights.sum()
        return float(total**3 - total) / 3  # four times a twelfth: ranks are doubled


def _ranks_of_sums(sums: Floats, weights: Floats) -> tuple[Floats, Indices]:
    """Return twice the centred ranks of each row in rising order, and which pair stands at each place.

    Sums of doubled ranks are whole numbers: value and place are packed in one integer, which sorts several times
    faster than an argsort of floats.
    """
    n_rows, n_pairs = sums.shape
    bits = n_pairs.bit_length()
    small = (np.abs(sums).max() + 1) * 2**bits < 2**31
    kind = np.int32 if small else np.int64
    packed = sums.astype(kind) << kind(bits)
    packed |= np.arange(n_pairs, dtype=kind)
    packed.sort(axis=1)
    place = packed & kind((1 << bits) - 1)
    packed >>= kind(bits)
    # all rows behind one another; a tie ends with its row
    new = np.ones(sums.size + 1, dtype=bool)
    flat = packed.ravel()
    np.not_equal(flat[1:], flat[:-1], out=new[1:-1])
    new[:-1:n_pairs] = True
    first = np.flatnonzero(new)
    below = np.zeros(sums.size + 1, dtype=np.int64)
    np.cumsum(weights.astype(np.int64)[place.ravel()], out=below[1:])
    limits = below[first].astype(np.float64)
    ranks = np.repeat(limits[:-1] + limits[1:], np.diff(first)).reshape(n_rows, n_pairs)
    total = weights.sum()
    ranks -= ((2 * np.arange(n_rows) + 1) * total)[:, None]
    return ranks, place
