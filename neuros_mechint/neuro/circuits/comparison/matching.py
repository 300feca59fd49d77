"""Which node of one circuit is which of another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats

_STARTS = 6


def best_matching(first: Floats, second: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    r"""Return the order of the nodes of the second circuit in which its weights are most like those of the first.

    Maximises :math:`\sum_{ij} A_{ij} B_{p(i)p(j)}` by the fast approximate method from several starts, each improved by
    exchanges of two nodes. No method is known that is sure to find the best in reasonable time.

    Parameters
    ----------
    first, second : numpy.ndarray of shape (n_nodes, n_nodes)
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (n_nodes,)
        ``second[np.ix_(order, order)]`` is to be compared with ``first``.

    References
    ----------
    Vogelstein et al. 2015, Fast approximate quadratic programming for graph matching, doi:10.1371/journal.pone.0121002

    Examples
    --------
    >>> weights = np.random.default_rng(0).normal(size=(6, 6))
    >>> order = np.array([3, 1, 0, 5, 4, 2])
    >>> best_matching(weights[np.ix_(order, order)], weights, np.random.default_rng(1)).tolist()
    [3, 1, 0, 5, 4, 2]
    """
    from scipy.optimize import quadratic_assignment

    best, order = -np.inf, np.arange(len(first))
    for start in range(_STARTS):
        options = {"maximize": True, "rng": rng, "P0": "randomized" if start else "barycenter"}
        found = quadratic_assignment(first, second, options=options)
        guess = np.column_stack([np.arange(len(first)), found.col_ind])
        options = {"maximize": True, "rng": rng, "partial_guess": guess}
        found = quadratic_assignment(first, second, method="2opt", options=options)
        if found.fun > best:
            best, order = found.fun, found.col_ind
    return np.asarray(order)
