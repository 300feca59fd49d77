"""Wiring: who connects to whom, and how strongly, whatever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import as_array

EXCITATORY, INHIBITORY, MIXED = "excitatory", "inhibitory", "mixed"
_MOST_LISTED = 12


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
        Arrays ``(target, source)``, dense or sparse; a labelled one whose dims are named ``source`` and ``target`` may
        have them in either order, and its columns in another order than its rows. A graph's edges lead from source to
        target and carry ``weight`` or ``effect``, 1 where they have neither; in a graph of effects, edges without one
        join the parts of a node to it, and the node takes over what its parts receive. Objects: a fitted model with
        ``connectivity_``, a result with ``connectivity`` or ``graph()``.
    names : sequence of str, optional
        By default the labels of the array or graph, or numbers.

    Returns
    -------
    Wiring

    Raises
    ------
    InputError
        No square array of finite real numbers, labels of columns that are not those of rows, a graph without
        directions, or another number of names than of nodes.

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
        own = one_of_each("names", names, len(found))
    if len(set(own)) < len(own):
        raise InputError("two nodes have the same name", expected="a name for each node", got=", ".join(own))
    return Wiring(found, own, effects)


def one_of_each(what: str, values: Any, n_nodes: int) -> tuple[str, ...]:
    """Return names, one of each node.

    Raises
    ------
    InputError
        No sequence, or another number than of nodes.

    Examples
    --------
    >>> one_of_each("names", ["E", 2], 2)
    ('E', '2')
    """
    try:
        found = tuple(str(value) for value in values)
    except TypeError:
        found = ()
    if len(found) != n_nodes:
        got = f"{len(found)}" if found else repr(values)
        raise InputError(f"{what} do not fit the nodes", expected=f"{n_nodes}, one of each", got=got)
    return found


def refuse_in_parts(wiring: Wiring, reason: str, name: str = "the circuit", threshold: float = 0.0) -> int:
    """Raise where nodes fall into groups that no connection joins; return how many nodes stand alone.

    Parameters
    ----------
    wiring : Wiring
    reason : str
        Why parts will not do.
    name : str
    threshold : float
        Weights up to it join nothing.

    Raises
    ------
    InputError
        Several parts of more than one node, or none.

    Examples
    --------
    >>> refuse_in_parts(as_wiring(np.kron(np.eye(2), np.ones((2, 2)))), "they mix")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: the circuit falls into 2 parts that no connection joins: they mix
      expected: one connected circuit; single nodes may stand beside it
      got:      parts of 2, 2 nodes
      to fix:   take one part, for example the largest: connectivity[np.ix_(nodes, nodes)] with nodes = [0, 1]
    >>> refuse_in_parts(as_wiring([[0, 0, 0], [1, 0, 0], [0, 0, 0]]), "they mix")
    1
    """
    groups = sorted(
        nx.weakly_connected_components(nx.DiGraph(np.abs(wiring.weights) > threshold)), key=len, reverse=True
    )
    parts = [sorted(group) for group in groups if len(group) > 1]
    n_alone = len(groups) - len(parts)
    if len(parts) == 1:
        return n_alone
    if not parts:
        raise InputError(f"no connection joins two nodes of {name}", expected="one connected circuit")
    sizes = ", ".join(str(len(part)) for part in parts[:6])
    alone = f", and {n_alone} single" if n_alone else ""
    nodes = parts[0]
    if len(nodes) > _MOST_LISTED:
        graph = f"nx.DiGraph(np.abs(connectivity) > {threshold:g})"
        nodes = f"list(max(nx.weakly_connected_components({graph}), key=len)), where nx is networkx"
    raise InputError(
        f"{name} falls into {len(parts)} parts that no connection joins: {reason}",
        expected="one connected circuit; single nodes may stand beside it",
        got=f"parts of {sizes}{' ...' if len(parts) > 6 else ''} nodes{alone}",
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
    if isinstance(graph, nx.Graph) or callable(graph):  # a graph of effects, or a circuit that makes one
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
            weight = _plain(data.get("effect", data.get("weight", 1.0)))
            if weight.dtype.kind not in "biuf" or weight.size != 1:
                raise InputError(
                    f"the weight from {source} to {target} is no number", expected="a real number", got=repr(data)
                )
            weights[place[owners.get(target, target)], place[source]] += float(weight.item())
    return _checked(weights), tuple(map(str, names))


def _from_array(connectivity: Any) -> tuple[Floats, tuple[str, ...]]:
    names = None
    if isinstance(connectivity, pd.DataFrame):
        connectivity = xr.DataArray(connectivity)
    if isinstance(connectivity, xr.DataArray) and connectivity.ndim == 2:
        connectivity, names = _from_labelled(connectivity)
    weights = _checked(_plain(connectivity))
    return weights, names or tuple(map(str, range(len(weights))))


def _from_labelled(connectivity: xr.DataArray) -> tuple[xr.DataArray, tuple[str, ...] | None]:
    """Return an array from target to source whose columns stand in the order of its rows, and the names of nodes."""
    if connectivity.dims[0] == "source" or connectivity.dims[1] == "target":
        connectivity = connectivity.transpose()
    rows, columns = (
        tuple(map(str, connectivity[dim].values)) if dim in connectivity.coords else None for dim in connectivity.dims
    )
    if rows is None or columns is None or rows == columns:
        return connectivity, rows or columns
    if len(set(rows)) < len(rows) or sorted(rows) != sorted(columns):
        raise InputError(
            "columns have other labels than rows",
            expected="the same labels of targets and sources, in any order",
            got=f"rows {', '.join(rows[:6])}; columns {', '.join(columns[:6])}",
            fix="pass a square array of all nodes, or connectivity.values with names=",
        )
    return connectivity[:, [columns.index(row) for row in rows]], rows


def _plain(values: Any) -> npt.NDArray[Any]:
    """Return values as a dense array."""
    if scipy.sparse.issparse(values):
        return values.toarray()
    sparse = isinstance(values, torch.Tensor) and values.layout is not torch.strided
    return as_array(values.to_dense() if sparse else values, "connectivity")


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
