"""Graphs of any kind as sparse weight matrices, checked, and the distances within them."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.labels import as_numpy

Sparse: TypeAlias = Any
"""A scipy.sparse.csr_array: its stubs know neither its shape nor its methods."""

LENGTHS = ("hops", "inverse")
_ROUNDING = 1e-10


class Distances(NamedTuple):
    """Distances in the largest connected part of a graph.

    Parameters
    ----------
    matrix : numpy.ndarray of shape (n_nodes, n_nodes)
        Whole numbers for hops.
    n_left_out : int
        Nodes that are not connected to these.
    """

    matrix: npt.NDArray[Any]
    n_left_out: int


def weight_matrices(graph: Any) -> tuple[list[Sparse], tuple[int, ...]]:
    """Return the weights of one graph or of many, without loops, and the axes of a batch.

    Parameters
    ----------
    graph : networkx.Graph, scipy.sparse matrix or array, torch.Tensor or array_like
        Dense ones of shape ``(..., n_nodes, n_nodes)``.

    Raises
    ------
    InputError
        A directed graph, a matrix that is not square, symmetric, finite and without negative weights.

    Examples
    --------
    >>> found, shape = weight_matrices([[0, 2], [2, 0]])
    >>> found[0].toarray().tolist(), shape
    ([[0.0, 2.0], [2.0, 0.0]], ())
    """
    from scipy.sparse import issparse

    if hasattr(graph, "is_directed"):
        return [_checked(_of_networkx(graph))], ()
    if issparse(graph):
        return [_checked(graph)], ()
    if isinstance(graph, torch.Tensor):
        graph = as_numpy(graph.detach())
    try:
        array = np.asarray(graph)
    except ValueError as error:
        raise InputError("the graph is no matrix", got=str(error)) from error
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or not array.size:
        raise InputError(
            "the adjacency matrix is not square",
            expected="a networkx.Graph, or a matrix (..., n_nodes, n_nodes)",
            got=f"shape {array.shape}" if array.ndim else type(graph).__name__,
        )
    return [_checked(matrix) for matrix in array.reshape(-1, *array.shape[-2:])], array.shape[:-2]


def edges_by_rule(weights: Sparse, threshold: float | None, lengths: str) -> Sparse:
    """Return the length of each edge: 1, or one over its weight.

    Parameters
    ----------
    weights : scipy.sparse.csr_array of shape (n_nodes, n_nodes)
    threshold : float or None
        Edges are where the weight is larger.
    lengths : {"hops", "inverse"}

    Raises
    ------
    InputError
        No edges, or weights without a rule for what they mean.

    Examples
    --------
    >>> weights = weight_matrices([[0, 2], [2, 0]])[0][0]
    >>> edges_by_rule(weights, threshold=None, lengths="inverse").toarray().tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    kept = weights.copy()
    if threshold is not None:
        kept.data[kept.data <= threshold] = 0
        kept.eliminate_zeros()
    if not kept.nnz:
        raise InputError(
            "the graph has no edges",
            expected="at least one edge between two different nodes",
            got=f"{weights.shape[0]} nodes and {weights.nnz // 2} edges"
            + ("" if threshold is None else f", none with a weight above {threshold:g}"),
            fix="lower the threshold" if weights.nnz else None,
        )
    if lengths == "inverse":
        kept.data = 1 / kept.data
        return kept
    if threshold is None and np.ptp(kept.data) > 0:
        raise InputError(
            "the graph is weighted, and nothing says what its weights mean",
            expected="edges of one weight, or a rule",
            got=f"weights from {kept.data.min():.3g} to {kept.data.max():.3g}",
            fix="give threshold=... (edges are where the weight is larger) or lengths='inverse' (1 / weight)",
        )
    kept.data = np.ones_like(kept.data)
    return kept


def distances(edges: Sparse, hops: bool) -> Distances:
    """Return the lengths of shortest paths in the largest connected part.

    Parameters
    ----------
    edges : scipy.sparse.csr_array of shape (n_nodes, n_nodes)
        Their lengths.
    hops : bool
        All are 1.

    Examples
    --------
    >>> found = distances(weight_matrices([[0, 1, 0], [1, 0, 0], [0, 0, 0]])[0][0], hops=True)
    >>> found.matrix.tolist(), found.n_left_out
    ([[0, 1], [1, 0]], 1)
    """
    from scipy.sparse.csgraph import connected_components, shortest_path

    _, parts = connected_components(edges, directed=False)
    inside = np.flatnonzero(parts == np.bincount(parts).argmax())
    connected = edges[inside][:, inside]
    found = shortest_path(connected, method="D", directed=False, unweighted=hops)
    return Distances(found.astype(np.int32) if hops else found, edges.shape[0] - len(inside))


def _of_networkx(graph: Any) -> Any:
    import networkx

    if graph.is_directed():
        raise InputError(
            "the graph is directed, and distances would depend on the direction",
            expected="an undirected graph",
            fix="graph.to_undirected()",
        )
    if not len(graph):
        raise InputError("the graph has no nodes", expected="at least one edge between two different nodes")
    return networkx.to_scipy_sparse_array(graph, dtype=np.float64)


def _checked(matrix: Any) -> Sparse:
    """Return weights without the diagonal, or say what is wrong with them."""
    from scipy.sparse import csr_array

    if matrix.shape[0] != matrix.shape[-1] or len(matrix.shape) != 2:
        raise InputError("the adjacency matrix is not square", got=f"shape {matrix.shape}")
    if matrix.dtype.kind not in "biuf":
        raise InputError("the adjacency matrix holds no real numbers", got=f"dtype {matrix.dtype}")
    weights: Sparse = csr_array(matrix).astype(np.float64)
    missing = ~np.isfinite(weights.data)
    if missing.any():
        raise InputError("weights are not finite", got=f"{missing.sum()} are NaN or infinite", fix="0 is no edge")
    if (weights.data < 0).any():
        raise InputError(
            "weights are negative",
            expected="weights of at least 0, where 0 is no edge",
            got=f"{(weights.data < 0).sum()} below 0",
            fix="pass their size, abs(weights), if the sign does not matter for what is near",
        )
    if abs(weights - weights.T).max() > _ROUNDING * weights.max():
        raise InputError(
            "the adjacency matrix is not symmetric, and distances would depend on the direction",
            fix="pass (weights + weights.T) / 2, or their maximum",
        )
    weights.setdiag(0)
    weights.eliminate_zeros()
    return weights
