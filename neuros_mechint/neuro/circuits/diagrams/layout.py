"""Where the nodes of a circuit stand in its diagram."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np

from neuros_mechint.core.arrays import Floats


def places(weights: Floats, populations: Sequence[str]) -> Floats:
    """Return the place of each node in a square from -1 to 1.

    Circuits without loops stand in layers, sources to the left; all others on a circle, populations together, from
    the top on clockwise.

    Parameters
    ----------
    weights : numpy.ndarray of shape (n_nodes, n_nodes)
        Row: target, column: source.
    populations : sequence of str
        Of each node.

    Returns
    -------
    numpy.ndarray of shape (n_nodes, 2)

    Examples
    --------
    >>> places(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0]]), ["", "", ""]).round(2).tolist()
    [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    """
    graph = nx.DiGraph(weights.T != 0)
    if weights.any() and nx.is_directed_acyclic_graph(graph):
        return _in_layers(graph)
    order = sorted(range(len(weights)), key=lambda node: list(dict.fromkeys(populations)).index(populations[node]))
    angle = np.empty(len(weights))
    first = np.pi / 2 if len(weights) > 2 else np.pi  # two stand side by side
    angle[order] = first - 2 * np.pi * np.arange(len(weights)) / len(weights)
    return np.column_stack([np.cos(angle), np.sin(angle)])


def _in_layers(graph: nx.DiGraph) -> Floats:
    layers = list(nx.topological_generations(graph))
    found = np.zeros((len(graph), 2))
    for across, layer in zip(np.linspace(-1, 1, len(layers)), layers, strict=True):
        heights = np.linspace(1, -1, len(layer)) if len(layer) > 1 else [0.0]
        for node, height in zip(sorted(layer), heights, strict=True):
            found[node] = across, height
    return found
