"""Basins of an energy on a graph, the passes between them, and the tree in which they merge as energy rises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats

Whole = npt.NDArray[np.intp]


class Basins(NamedTuple):
    """Minima and what lies downhill to each of them."""

    minima: Whole
    """Nodes, the lowest first, ``(n_minima,)``."""
    of_node: Whole
    """Which minimum each node leads down to, -1 where the energy is infinite, ``(n_nodes,)``."""
    passes: Whole
    """The node that is lowest on the way between two basins that touch, else -1, ``(n_minima, n_minima)``."""


class Merger(NamedTuple):
    """Two parts of the landscape become one."""

    energy: float
    """Of the pass."""
    dies: int
    """The minimum, of the two deepest, that lies higher."""
    into: int
    """The deeper one."""
    at: int
    """The node of the pass."""


def hypercube(n_units: int) -> list[Whole]:
    """Return the neighbours of all states of binary units: one unit flipped.

    Examples
    --------
    >>> [flipped.tolist() for flipped in hypercube(2)]
    [[1, 0, 3, 2], [2, 3, 0, 1]]
    """
    return [np.arange(2**n_units) ^ (1 << unit) for unit in range(n_units)]


def lattice(shape: tuple[int, ...]) -> list[Whole]:
    """Return the neighbours of all cells of a grid, diagonal ones too; a cell at an edge is its own neighbour there.

    Examples
    --------
    >>> [cells.tolist() for cells in lattice((3,))]
    [[0, 0, 1], [1, 2, 2]]
    """
    cells = np.arange(np.prod(shape)).reshape(shape)
    padded = np.pad(cells, 1, constant_values=-1)
    found = []
    for shift in np.ndindex(*(3,) * len(shape)):
        if any(step != 1 for step in shift):
            moved = padded[tuple(slice(step, step + size) for step, size in zip(shift, shape, strict=True))]
            found.append(np.where(moved < 0, cells, moved).ravel())
    return found


def find_basins(energy: Floats, neighbours: Sequence[Whole]) -> Basins:
    """Return minima, basins of steepest descent, and passes.

    Parameters
    ----------
    energy : numpy.ndarray of shape (n_nodes,)
        Infinite where nothing is.
    neighbours : sequence of numpy.ndarray of shape (n_nodes,)
        As from `lattice` or `hypercube`.

    Examples
    --------
    >>> found = find_basins(np.array([0.0, 2.0, 1.0, 3.0]), lattice((4,)))
    >>> found.minima.tolist(), found.of_node.tolist(), found.passes.tolist()
    ([0, 2], [0, 0, 1, 1], [[-1, 1], [1, -1]])
    """
    order = np.argsort(energy, kind="stable")
    rank = np.empty(len(energy), dtype=np.intp)  # ties go by number, so that a plateau has no more minima than it must
    rank[order] = np.arange(len(energy))
    lowest = np.arange(len(energy))
    for nodes in neighbours:
        lowest = np.where(rank[nodes] < rank[lowest], nodes, lowest)
    while (lowest != (further := lowest[lowest])).any():
        lowest = further
    reached = np.isfinite(energy)
    minima = np.unique(lowest[reached])
    minima = minima[np.argsort(rank[minima])]
    number = np.full(len(energy), -1, dtype=np.intp)
    number[minima] = np.arange(len(minima))
    basin = np.where(reached, number[lowest], -1)
    return Basins(minima, basin, _passes(rank, order, basin, len(minima), neighbours))


def _passes(rank: Whole, order: Whole, basin: Whole, n_minima: int, neighbours: Sequence[Whole]) -> Whole:
    lowest = np.full((n_minima, n_minima), len(rank), dtype=np.intp)
    for nodes in neighbours:
        at = np.flatnonzero((basin != basin[nodes]) & (basin >= 0) & (basin[nodes] >= 0))
        np.minimum.at(lowest, (basin[at], basin[nodes[at]]), np.maximum(rank[at], rank[nodes[at]]))
    lowest = np.minimum(lowest, lowest.T)
    return np.where(lowest < len(rank), order[np.minimum(lowest, len(rank) - 1)], -1)


def merge_tree(energy: Floats, basins: Basins) -> list[Merger]:
    """Return in which order basins become one as energy rises, by union-find: the disconnectivity graph.

    Examples
    --------
    >>> energy = np.array([0.0, 2.0, 1.0, 3.0, 0.5])
    >>> [(merger.energy, merger.dies, merger.into) for merger in merge_tree(energy, find_basins(energy, lattice((5,))))]
    [(2.0, 2, 0), (3.0, 1, 0)]
    """
    first, second = np.nonzero(np.triu(basins.passes >= 0))
    nodes = basins.passes[first, second]
    eldest = list(range(len(basins.minima)))
    mergers = []
    for index in np.argsort(energy[nodes], kind="stable"):
        # minima are numbered from the lowest, so that the elder of two has the smaller number
        into, dies = sorted((_root(eldest, int(first[index])), _root(eldest, int(second[index]))))
        if into != dies:
            eldest[dies] = into
            mergers.append(Merger(float(energy[nodes[index]]), dies, into, int(nodes[index])))
    return mergers


def _root(eldest: list[int], one: int) -> int:
    while eldest[one] != one:
        eldest[one] = eldest[eldest[one]]
        one = eldest[one]
    return one


def keep_certain(energy: Floats, basins: Basins, certain: Callable[[Basins, Merger], bool]) -> Basins:
    """Join basins whose barrier may be due to chance with the one behind it, until all that are left are certain.

    Parameters
    ----------
    energy : numpy.ndarray of shape (n_nodes,)
    basins : Basins
    certain : callable
        Takes the basins as they are, and where one of them is joined to a deeper one.

    Examples
    --------
    >>> energy = np.array([0.0, 2.0, 1.9, 3.0, 0.5])
    >>> found = find_basins(energy, lattice((5,)))
    >>> def high(basins, merger):
    ...     return merger.energy - energy[basins.minima[merger.dies]] > 0.5
    >>> keep_certain(energy, found, high).of_node.tolist()
    [0, 0, 0, 1, 1]
    """
    while True:
        uncertain = [merger for merger in merge_tree(energy, basins) if not certain(basins, merger)]
        if not uncertain:
            return basins
        # the shallowest first: what is behind it may be deep enough together
        uncertain.sort(key=lambda merger: merger.energy - energy[basins.minima[merger.dies]])
        into = np.arange(len(basins.minima))
        changed = set[int]()
        for merger in uncertain:
            pair = {merger.dies, _behind(energy, basins, merger.dies)}
            if not pair & changed:
                into[max(pair)] = min(pair)
                changed |= pair
        basins = _joined(energy, basins, into)


def _behind(energy: Floats, basins: Basins, one: int) -> int:
    """Return the basin behind the lowest pass of one."""
    nodes = basins.passes[one]
    return int(np.argmin(np.where(nodes >= 0, energy[nodes], np.inf)))


def _joined(energy: Floats, basins: Basins, into: Whole) -> Basins:
    """Return basins in which each that is joined to another has become a part of it."""
    left = into == np.arange(len(into))
    number = (np.cumsum(left) - 1)[into]
    first, second = np.nonzero(basins.passes >= 0)
    nodes = basins.passes[first, second]
    order = np.argsort(-energy[nodes], kind="stable")  # of several, the lowest is written last
    passes = np.full((left.sum(),) * 2, -1, dtype=np.intp)
    passes[number[first[order]], number[second[order]]] = nodes[order]
    np.fill_diagonal(passes, -1)
    of_node = np.where(basins.of_node >= 0, number[basins.of_node], -1)
    return Basins(basins.minima[left], of_node, passes)


def lowest_ways(energy: Floats, basins: Basins) -> Whole:
    """Return the highest node of the lowest way between each two minima, -1 where there is none or it is one minimum.

    Examples
    --------
    >>> energy = np.array([0.0, 2.0, 1.0, 3.0, 0.5])
    >>> lowest_ways(energy, find_basins(energy, lattice((5,)))).tolist()
    [[-1, 3, 1], [3, -1, 3], [1, 3, -1]]
    """
    n_minima = len(basins.minima)
    member = np.arange(n_minima)
    highest = np.full((n_minima, n_minima), -1, dtype=np.intp)
    for merger in merge_tree(energy, basins):
        into, dies = np.flatnonzero(member == merger.into), np.flatnonzero(member == merger.dies)
        highest[np.ix_(into, dies)] = merger.at
        highest[np.ix_(dies, into)] = merger.at
        member[dies] = merger.into
    return highest
