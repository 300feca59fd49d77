"""Which node of one circuit is which of another, and how alike their wirings are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.correlations import column_correlations


def order_of_nodes(embedding: Floats, reference: Floats) -> npt.NDArray[np.int64]:
    """Return the order that brings the nodes of one embedding next to those of another.

    Hidden nodes have no label: a fit may return them in any order. Columns of the two embeddings are paired so that
    the sum of their dot products is largest (the Hungarian method).

    Parameters
    ----------
    embedding, reference : numpy.ndarray of shape (n_units, n_nodes)
        Orthonormal columns, in the same units.

    Returns
    -------
    numpy.ndarray of int, shape (n_nodes,)
        ``embedding[:, order]`` fits ``reference``, and so does ``connectivity[np.ix_(order, order)]``.

    Examples
    --------
    >>> order_of_nodes(np.eye(4)[:, [2, 0, 1]], np.eye(4)[:, :3]).tolist()
    [1, 2, 0]
    """
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(reference.T @ embedding, maximize=True)[1]


def correlation(connectivity: Floats, reference: Floats) -> float:
    """Return the correlation of two connectivities over all pairs of nodes; NaN where one of them does not vary.

    Examples
    --------
    >>> round(correlation(np.array([[0.0, 1.0], [0.5, 0.0]]), np.array([[0.0, 2.0], [1.0, 0.0]])), 6)
    1.0
    """
    return column_correlations(connectivity.ravel(), reference.ravel()).item()
