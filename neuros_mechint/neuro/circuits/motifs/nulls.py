"""Random graphs in which every node keeps its numbers of incoming and outgoing edges."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.progress import progress_bar

_ATTEMPTS_PER_EDGE = 20
_AT_ONCE = 64


def switched(
    states: npt.NDArray[np.integer], n_graphs: int, rng: np.random.Generator, progress: bool = True
) -> Iterator[npt.NDArray[np.int64]]:
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


def _batch(states: npt.NDArray[np.integer], n_graphs: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Switch edges of many graphs side by side, one attempt in each at a time."""
    graphs = np.repeat(np.asarray(states, dtype=np.int64)[None], n_graphs, 0)
    graphs[:, np.arange(len(states)), np.arange(len(states))] = 0
    every = np.arange(n_graphs)
    for state in np.unique(graphs[0][graphs[0] > 0]):
        sources, targets = (np.repeat(ends[None], n_graphs, 0) for ends in np.nonzero(graphs[0] == state))
        n_edges = sources.shape[1]
        # draw them all at once: a call for each attempt would take longer than the attempt
        drawn = rng.integers(n_edges, size=(_ATTEMPTS_PER_EDGE * n_edges, 2, n_graphs))
        for one, other in drawn:
            a, b = sources[every, one], targets[every, one]
            c, d = sources[every, other], targets[every, other]
            good = (a != d) & (c != b) & (graphs[every, a, d] == 0) & (graphs[every, c, b] == 0)
            a, b, c, d, g, one, other = (values[good] for values in (a, b, c, d, every, one, other))
            graphs[g, a, b] = graphs[g, c, d] = 0
            graphs[g, a, d] = graphs[g, c, b] = state
            targets[g, one], targets[g, other] = d, b
    return graphs
