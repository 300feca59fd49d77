"""Wiring: who connects to whom, and how strongly, whatever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.labels import as_numpy, refuse_masked

EXCITATORY, INHIBITORY, MIXED = "excitatory", "inhibitory", "mixed"


class Wiring(NamedTuple):
    """Connections between nodes.

    Parameters
    ----------
    weights : numpy.ndarray of shape (n_nodes, n_nodes)
        Row: target. Column: source. Zero: no connection.
    names : tuple of str
        One for each node.
    effects : bool
        Weights are effects on what a model does, measured along connections, and no excitation or inhibition.

    Examples
    --------
    >>> found = as_wiring([[0.0, -1.0], [2.0, 0.0]], names=["E", "I"])
    >>> found.kinds, found.n_connections
    (('excitatory', 'inhibitory'), 2)
    """

    weights: Floats
    names: tuple[str, ...]
    effects: bool = False

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.names)

    @property
    def n_connections(self) -> int:
        """Number of weights that are not zero."""
        return int(np.count_nonzero(self.weights))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each node does to its targets: excites, inhibits, or both; a node without targets is mixed."""
        excites, inhibits = (self.weights > 0).any(0), (self.weights < 0).any(0)
        kinds = np.select([excites & ~inhibits, inhibits & ~excites], [EXCITATORY, INHIBITORY], MIXED)
        return tuple(kinds.tolist())


def as_wiring(connectivity: Any, names: Sequence[str] | None = None) -> Wiring:
    """Return connections between nodes from whatever holds them.

    Parameters
    ----------
    connectivity : array_like, torch.Tensor, xarray.DataArray, networkx.DiGraph, or an object that holds one of these
        Arrays ``(target, source)``. A graph's edges lead from source to target and carry ``weight`` or ``effect``, 1
        where they have neither; in a graph of effects, edges without one join the parts of a node to it, and the node
        takes over what its parts receive. Objects: a fitted model with ``connectivity_``, a result with
        ``connectivity`` or ``graph()``.
    names : sequence of str, optional
        By default the labels of the array or graph, or numbers.

    Returns
    -------
    Wiring

    Raises
    ------
    InputError
        No square array of finite real numbers, a graph without directions, or another number of names than of nodes.

    Examples
    --------
    >>> graph = nx.DiGraph()
    >>> graph.add_edge("E", "I", weight=0.5)
    >>> as_wiring(graph).weights.tolist()
    [[0.0, 0.0], [0.5, 0.0]]
    """
    held = _held(connectivity)
    found, own = _from_graph(held) if isinstance(held, nx.Graph) else _from_array(held)
    effects = isinstance(held, nx.Graph) and _has_effects(held)
    if names is not None:
        own = tuple(str(name) for name in names)
    if len(own) != len(found):
        raise InputError("names do not fit the nodes", expected=f"{len(found)} names", got=f"{len(own)}")
    if len(set(own)) < len(own):
        raise InputError("two nodes have the same name", expected="a name for each node", got=", ".join(own))
    return Wiring(found, own, effects)


def refuse_in_parts(wiring: Wiring, name: str = "the circuit") -> None:
    """Raise where nodes fall into groups that no connection joins.

    Examples
    --------
    >>> refuse_in_parts(as_wiring(np.eye(2)))
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: the circuit falls into 2 parts that no connection joins
      expected: one connected circuit
      got:      parts of 1, 1 nodes
      to fix:   take one part, for example the largest: connectivity[np.ix_(nodes, nodes)] with nodes = [0]
    """
    parts = sorted(nx.weakly_connected_components(nx.DiGraph(wiring.weights.T != 0)), key=len, reverse=True)
    if len(parts) > 1:
        sizes = ", ".join(str(len(part)) for part in parts[:6])
        shown = sorted(parts[0])
        nodes = shown if len(shown) <= 12 else f"[{', '.join(map(str, shown[:10]))}, ...]"
        raise InputError(
            f"{name} falls into {len(parts)} parts that no connection joins",
            expected="one connected circuit",
            got=f"parts of {sizes}{' ...' if len(parts) > 6 else ''} nodes",
            fix=f"take one part, for example the largest: connectivity[np.ix_(nodes, nodes)] with nodes = {nodes}",
        )


def _held(connectivity: Any) -> Any:
    """Return the array or graph of an object that holds one."""
    if isinstance(connectivity, nx.Graph | xr.DataArray | np.ndarray | torch.Tensor):
        return connectivity
    for holder in (getattr(connectivity, "result_", None), connectivity):  # labelled, where it is
        for name in ("connectivity", "connectivity_"):
            if hasattr(holder, name):
                return getattr(holder, name)
    graph = getattr(connectivity, "graph", None)
    if graph is not None:  # a graph of effects, or a circuit that makes one
        return graph if isinstance(graph, nx.Graph) else _held(graph())
    return connectivity


def _has_effects(graph: nx.Graph) -> bool:
    return any("effect" in data for *_, data in graph.edges(data=True))


def _from_graph(graph: nx.Graph) -> tuple[Floats, tuple[str, ...]]:
    if not graph.is_directed() or graph.is_multigraph():
        raise InputError("this graph has no directions", expected="a networkx.DiGraph", got=type(graph).__name__)
    effects = _has_effects(graph)
    owners = {part: owner for part, owner, data in graph.edges(data=True) if effects and "effect" not in data}
    names = [node for node in graph if node not in owners]
    place = {node: index for index, node in enumerate(names)}
    weights = np.zeros((len(names), len(names)))
    for source, target, data in graph.edges(data=True):
        if source not in owners:
            weight = data.get("effect", data.get("weight", 1.0))
            weights[place[owners.get(target, target)], place[source]] += float(weight)
    return _checked(weights), tuple(map(str, names))


def _from_array(connectivity: Any) -> tuple[Floats, tuple[str, ...]]:
    names = None
    if (
        isinstance(connectivity, xr.DataArray)
        and connectivity.ndim == 2
        and connectivity.dims[0] in connectivity.coords
    ):
        names = tuple(str(label) for label in connectivity[connectivity.dims[0]].values)
    refuse_masked(connectivity, "connectivity")
    array = as_numpy(connectivity) if isinstance(connectivity, torch.Tensor) else np.asarray(connectivity)
    weights = _checked(array)
    return weights, names or tuple(map(str, range(len(weights))))


def _checked(array: npt.NDArray[Any]) -> Floats:
    if array.dtype.kind not in "biuf" or array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise InputError(
            "this is no connectivity",
            expected="real numbers (n_nodes, n_nodes), row: target, column: source",
            got=f"shape {array.shape}, dtype {array.dtype}",
        )
    if not np.isfinite(array).all():
        raise InputError("connectivity is not finite", got=f"{int((~np.isfinite(array)).sum())} NaN or infinite values")
    return np.array(array, dtype=np.float64)
