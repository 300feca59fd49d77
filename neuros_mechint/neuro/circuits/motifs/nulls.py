"""Random graphs in which every node keeps its numbers of incoming and outgoing edges."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.progress import progress_bar

_ATTEMPTS_PER_EDGE = 20
_AT_ONCE = 256
_DRAWN_AT_ONCE = 2**20


def switched(
    states: npt.NDArray[np.integer], n_graphs: int, rng: np.random.Generator, progress: bool = True
) -> Iterator[npt.NDArray[np.int8]]:
    """Yield graphs whose edges were switched at random: a→b and c→d become a→d and c→b.

    Only edges of the same state are switched, so that every node keeps its numbers of edges of each sign in both
    directions; a switch that would join a node to itself, or two nodes twice, is left out, and counts as tried, so that
    all graphs which switches reach are equally likely.

    Parameters
    ----------
    states : numpy.ndarray of shape (n_nodes, n_nodes)
        Of the edge from row to column, 0 where there is none. The diagonal does not matter.
    n_graphs : int
    rng : numpy.random.Generator
    progress : bool

    Yields
    ------
    numpy.ndarray of shape (n_nodes, n_nodes)

    References
    ----------
    Maslov and Sneppen 2002, Specificity and stability in topology of protein networks, doi:10.1126/science.1065103

    Examples
    --------
    >>> states = (np.random.default_rng(0).random((8, 8)) < 0.3).astype(int)
    >>> np.fill_diagonal(states, 0)
    >>> null = next(switched(states, 1, np.random.default_rng(1)))
    >>> np.array_equal(null.sum(0), states.sum(0)), np.array_equal(null, states)
    (True, False)
    """
    firsts = list(range(0, n_graphs, _AT_ONCE))
    for first in progress_bar(firsts, description="random graphs", enabled=progress):
        yield from _batch(states, min(_AT_ONCE, n_graphs - first), rng)


def _batch(states: npt.NDArray[np.integer], n_graphs: int, rng: np.random.Generator) -> npt.NDArray[np.int8]:
    """Switch edges of many graphs side by side, one attempt in each at a time."""
    n_nodes = len(states)
    graphs = np.repeat(np.asarray(states, dtype=np.int8)[None], n_graphs, 0)
    itself = np.arange(n_nodes)
    graphs[:, itself, itself] = 0
    kinds = np.unique(graphs[0][graphs[0] > 0])
    ends = [np.nonzero(graphs[0] == state) for state in kinds]
    graphs[:, itself, itself] = 1  # taken: no switch joins a node to itself
    entries = graphs.reshape(-1)
    for state, (sources, targets) in zip(kinds, ends, strict=True):
        # where the row of each edge's source begins in the entries of all graphs, and which column it stands in
        rows = (np.arange(n_graphs)[:, None] * n_nodes**2 + sources * n_nodes).reshape(-1)
        columns = np.tile(targets, n_graphs)
        for one, other in _pairs(len(sources), n_graphs, rng):
            a, b, c, d = rows[one], columns[one], rows[other], columns[other]
            new, also_new = a + d, c + b
            (good,) = (entries[new] + entries[also_new] == 0).nonzero()
            a, b, c, d = a[good], b[good], c[good], d[good]
            entries[a + b] = entries[c + d] = 0
            entries[a + d] = entries[c + b] = state
            columns[one[good]], columns[other[good]] = d, b
    graphs[:, itself, itself] = 0
    return graphs


def _pairs(n_edges: int, n_graphs: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Yield which two edges to try in each graph, counted through all graphs.

    Many are drawn at once: a call for each attempt would take longer than the attempt.
    """
    firsts = np.arange(n_graphs) * n_edges
    n_left = _ATTEMPTS_PER_EDGE * n_edges
    while n_left:
        n_drawn = min(n_left, max(1, _DRAWN_AT_ONCE // n_graphs))
        yield from rng.integers(n_edges, size=(n_drawn, 2, n_graphs)) + firsts
        n_left -= n_drawn
