"""RDMs with the covariance of their pairs taken out, without that covariance ever being formed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.alignment.rsa.stack import square, vectors


class Whitening:
    """What turns RDMs into vectors whose products are those of the RDMs in the inverse covariance of their entries.

    Dissimilarities ``d_ij = A_ii + A_jj - 2 A_ij`` are linear in second moments ``A`` of the patterns. Where these are
    estimated with covariance ``S`` over conditions, ``A`` has the covariance of ``S x S``, and by Gauss and Markov the
    product of two RDMs in the inverse of theirs is that of the smallest ``S^-1/2 A S^-1/2`` that give them. The
    smallest one is had by centring: subtracting means of rows and columns, weighted by ``S^-1``. Where pairs are
    missing, what is subtracted solves one system ``(n, n)`` instead, and their entries are zero.

    Parameters
    ----------
    kept : numpy.ndarray of shape (n_pairs,)
        Which pairs are there.
    n_conditions : int
    covariance : numpy.ndarray of shape (n, n), optional
        ``S``; the identity, if not given. Only without missing pairs.

    References
    ----------
    Diedrichsen et al. 2021, doi:10.51628/001c.27664

    Examples
    --------
    >>> whitened = Whitening(np.ones(3, dtype=bool), 3)(np.array([1.0, 2.0, 3.0]))
    >>> whitened.shape
    (6,)
    """

    def __init__(self, kept: npt.NDArray[np.bool_], n_conditions: int, covariance: Floats | None = None) -> None:
        self.n_conditions = n_conditions
        self._kept = None if kept.all() else kept
        self._there = None if kept.all() else square(kept)
        self._root = None if covariance is None else np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)

    @property
    def length(self) -> int:
        """How long the vectors are."""
        return self.n_conditions * (self.n_conditions + 1) // 2

    def __call__(self, pairs: Floats) -> Floats:
        """Return the vector of one RDM ``(n_kept,)``."""
        moments = self._moments(pairs)
        # both halves of a symmetric matrix count
        return np.concatenate([np.sqrt(2) * vectors(moments), np.diagonal(moments)])

    def _moments(self, pairs: Floats) -> Floats:
        if self._there is not None:
            return self._with_gaps(pairs, self._there)
        moments = square(pairs)
        moments *= -0.5
        if self._root is not None:
            return self._weighted(moments, self._root)
        means = moments.mean(0)
        moments -= means
        moments -= (means - means.mean())[:, None]
        return moments

    def _weighted(self, moments: Floats, root: Floats) -> Floats:
        """Return ``L^-1 H A H' L^-T`` with ``L`` the root of the covariance: what is taken out is along ``L^-1 1``."""
        from scipy.linalg import solve_triangular

        def divided(matrix: Floats) -> Floats:
            return solve_triangular(root, matrix, lower=True)

        white = divided(divided(moments).T)
        ones = divided(np.ones(self.n_conditions))
        ones /= np.sqrt(ones @ ones)
        along = white @ ones
        along -= 0.5 * (ones @ along) * ones
        return white - np.outer(along, ones) - np.outer(ones, along)

    def _with_gaps(self, pairs: Floats, there: Floats) -> Floats:
        complete = np.zeros(there.shape[0] * (there.shape[0] - 1) // 2)
        complete[self._kept] = -0.5 * pairs
        moments = square(complete)
        # the diagonal that makes the sum of squares of all entries smallest
        system = there + np.diag(there.sum(0) + 2)
        half = np.linalg.solve(system, -moments.sum(0))
        moments += there * (half[:, None] + half)
        moments[np.diag_indices_from(moments)] = 2 * half
        return moments
