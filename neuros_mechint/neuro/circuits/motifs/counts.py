"""Counts of all triads of a directed graph, by products of matrices."""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations, product
from typing import NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt

_NODES = "abc"
_PAIRS = ((0, 1), (0, 2), (1, 2))
_ARROWS = {1: "→", 2: "⊣"}
MEANINGS = {
    "021C": "chain",
    "021D": "one to two",
    "021U": "two to one",
    "030C": "cycle",
    "030T": "feed-forward loop",
    "111D": "mutual pair with an input",
    "111U": "mutual pair with an output",
    "120C": "cycle with a mutual pair",
    "120D": "mutual pair with a common input",
    "120U": "mutual pair with a common output",
    "201": "two mutual pairs",
    "210": "two mutual pairs, one edge one way",
    "300": "three mutual pairs",
}
"""Holland and Leinhardt's codes in words: mutual, one-way and missing pairs are counted, letters tell directions."""
_EXACT_IN_SINGLE = 250  # nodes, whose triples number less than the whole numbers of single precision


class TriadClasses(NamedTuple):
    """The kinds of triads there are.

    Parameters
    ----------
    names : tuple of str
        Those of Holland and Leinhardt ("030T"), where edges have no sign.
    edges : tuple of str
        One triad of each kind, "a→b a→c b→c"; in "a⊣b" a inhibits b.
    member : numpy.ndarray of shape (n_codes,)
        To which kind each code belongs: states of the pairs (a, b), (a, c), (b, c), the last changing fastest.
    connected : numpy.ndarray of shape (n_kinds,)
        Whether edges join all three nodes.
    """

    names: tuple[str, ...]
    edges: tuple[str, ...]
    member: npt.NDArray[np.int64]
    connected: npt.NDArray[np.bool_]


@lru_cache
def triad_classes(n_states: int) -> TriadClasses:
    """Return the kinds of triads where each directed edge has so many states, absence included.

    Examples
    --------
    >>> kinds = triad_classes(2)
    >>> len(kinds.names), int(kinds.connected.sum()), kinds.edges[kinds.names.index("030T")]
    (16, 13, 'a→b a→c b→c')
    >>> len(triad_classes(3).names)
    138
    """
    codes = list(product(range(n_states**2), repeat=3))
    canonical = [max(_permuted(code, n_states)) for code in codes]
    kinds = sorted(set(canonical), key=lambda matrix: (np.count_nonzero(matrix), matrix))
    place = {matrix: index for index, matrix in enumerate(kinds)}
    square = [np.reshape(matrix, (3, 3)) for matrix in kinds]
    return TriadClasses(
        tuple(_name(matrix) for matrix in square),
        tuple(_edges(matrix) for matrix in square),
        np.array([place[matrix] for matrix in canonical]),
        np.array([np.count_nonzero((matrix + matrix.T)[np.triu_indices(3, 1)]) >= 2 for matrix in square]),
    )


def triad_counts(states: npt.NDArray[np.integer], n_states: int) -> npt.NDArray[np.int64]:
    r"""Return how many triads of each kind there are.

    With indicators :math:`R_d` of the pairs of nodes whose two edges are in state d, the triads whose pairs are in
    states a, b and c number :math:`\sum_{ij} R_a \circ (R_b R_c^\top)`; each is met six times, once for each order.

    Parameters
    ----------
    states : numpy.ndarray of shape (n_nodes, n_nodes)
        Of the edge from row to column: 0, where there is none, to ``n_states - 1``. The diagonal does not matter.
    n_states : int

    Returns
    -------
    numpy.ndarray of shape (n_kinds,)
        In the order of `triad_classes`.

    Examples
    --------
    >>> loop = np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    >>> dict(zip(triad_classes(2).names, triad_counts(loop, 2).tolist()))["030T"]
    1
    """
    pairs = states + n_states * states.T
    np.fill_diagonal(pairs, -1)
    exact = np.float32 if len(pairs) <= _EXACT_IN_SINGLE else np.float64
    indicators = (pairs == np.arange(n_states**2)[:, None, None]).astype(exact)
    paths = indicators[:, None] @ indicators.transpose(0, 2, 1)[None]
    sums = indicators.reshape(len(indicators), -1) @ paths.reshape(len(indicators) ** 2, -1).T
    kinds = triad_classes(n_states)
    met = np.bincount(kinds.member, sums.ravel(), minlength=len(kinds.names))
    return np.rint(met / 6).astype(np.int64)


def _permuted(code: tuple[int, ...], n_states: int) -> list[tuple[int, ...]]:
    matrix: npt.NDArray[np.int64] = np.zeros((3, 3), dtype=np.int64)
    for (row, column), state in zip(_PAIRS, code, strict=True):
        matrix[row, column], matrix[column, row] = state % n_states, state // n_states
    return [tuple(matrix[np.ix_(order, order)].ravel().tolist()) for order in map(list, permutations(range(3)))]


def _name(matrix: npt.NDArray[np.int64]) -> str:
    census: dict[str, int] = nx.triadic_census(nx.DiGraph(matrix != 0))
    return next(name for name, count in census.items() if count)


def _edges(matrix: npt.NDArray[np.int64]) -> str:
    pairs = zip(*np.nonzero(matrix), strict=True)
    return " ".join(f"{_NODES[row]}{_ARROWS[int(matrix[row, column])]}{_NODES[column]}" for row, column in pairs)
