"""How few boxes of a given size cover a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.random import SeedLike, generator

Integers = npt.NDArray[np.int64]


def numbers_of_boxes(
    distances: npt.NDArray[Any], box_sizes: npt.NDArray[Any], n_orders: int, seed: SeedLike
) -> Integers:
    """Return how many boxes of each size the greedy colouring needs, for several orders of the nodes.

    Nodes in one box are less than ``box_size`` apart. Nodes are put, one after the other, into the first box that is
    near enough: the greedy colouring of the graph that joins what is too far apart. Which nodes come first matters,
    and the fewest boxes over many orders are an upper bound of the smallest number there is. Every second order is
    random; the others begin at a random node and go on with the nearest ones, which packs boxes more tightly.

    Parameters
    ----------
    distances : numpy.ndarray of shape (n_nodes, n_nodes)
    box_sizes : numpy.ndarray of shape (n_sizes,)
    n_orders : int
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (n_orders, n_sizes)

    References
    ----------
    Song, Gallos, Havlin and Makse 2007, How to calculate the fractal dimension of a complex network: the box covering
    algorithm, doi:10.1088/1742-5468/2007/03/P03006

    Examples
    --------
    >>> on_a_line = abs(np.subtract.outer(np.arange(12), np.arange(12)))
    >>> numbers_of_boxes(on_a_line, np.array([1, 2, 3, 4, 12]), n_orders=20, seed=0).min(0).tolist()
    [12, 6, 4, 3, 1]
    """
    random, n_nodes = generator(seed), len(distances)
    found = np.empty((n_orders, len(box_sizes)), dtype=np.int64)
    for row, counts in enumerate(found):
        order = random.permutation(n_nodes)
        if row % 2 == 0:
            # stable: nodes of one distance stay in random order
            order = order[np.argsort(distances[order[0], order], kind="stable")]
        ordered = distances[np.ix_(order, order)]
        for place, size in enumerate(box_sizes):
            counts[place] = _first_fit(ordered < size)
    return found


def _first_fit(near: npt.NDArray[np.bool_]) -> int:
    """Return the number of boxes if each node, in order, joins the first box all of whose nodes are near.

    Box by box, which gives the same: a box takes the first node that is left, then the next that is near to all it
    has, and so on.
    """
    left = np.ones(len(near), dtype=bool)
    n_boxes, node = 0, 0
    while left[node]:
        n_boxes += 1
        joins = left.copy()
        while joins[node]:
            left[node] = False
            joins &= near[node]
            joins[node] = False
            node = int(joins.argmax())
        node = int(left.argmax())
    return n_boxes
