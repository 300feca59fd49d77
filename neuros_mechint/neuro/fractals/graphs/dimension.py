"""The box dimension of a graph: how the number of boxes that cover it falls with their size."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.neuro.fractals.graphs.adjacency import (
    LENGTHS,
    Sparse,
    distances,
    edges_by_rule,
    weight_matrices,
)
from neuros_mechint.neuro.fractals.graphs.covering import numbers_of_boxes
from neuros_mechint.neuro.fractals.graphs.results import (
    Covering,
    GraphDimension,
    GraphFit,
    cautions,
    graph_dimension,
)
from neuros_mechint.neuro.fractals.scaling import FEWEST_SCALES, LineFit, line_fit

_MOST_SIZES = 14
_SMALLEST_BOX = 2  # of two neighbours; smaller boxes are the nodes themselves


class GraphFractalDimension(Parameterised):
    r"""Box dimension of a graph, :math:`N_B(\ell) \propto \ell^{-d_B}`.

    :math:`N_B(\ell)` is the number of boxes that cover the graph, where nodes in one box are less than :math:`\ell`
    apart: the smallest that greedy colouring finds over several orders of the nodes. The dimension is the slope over
    box sizes from 2 up to the one that holds the whole graph. A graph need not be fractal: where the number of boxes
    falls exponentially (small worlds, random graphs, trees), the slope is a number without a meaning, and
    `estimate` says so.

    Parameters
    ----------
    threshold : float, optional
        Edges are where the weight is larger. Without one, every weight above 0 is an edge.
    lengths : {"hops", "inverse"}
        Each edge has length 1, or one over its weight (strong ones are short). A graph of different weights needs
        ``threshold`` or ``"inverse"``: what its weights mean is not guessed.
    box_sizes : sequence of float, optional
        At least three. Without, up to 14, evenly over their logarithm, from 2 (or the median edge) to the size that
        holds the whole graph.
    n_orders : int
        In how many orders of the nodes to colour.
    seed : int or numpy.random.Generator
        Of the orders.

    Raises
    ------
    OptionError
        A parameter that is none of these.

    References
    ----------
    Song, Havlin and Makse 2005, Self-similarity of complex networks, doi:10.1038/nature03248; Song et al. 2007, How
    to calculate the fractal dimension of a complex network: the box covering algorithm,
    doi:10.1088/1742-5468/2007/03/P03006

    Examples
    --------
    >>> import networkx, neuros_mechint as nm
    >>> dimension = nm.GraphFractalDimension()
    >>> round(float(dimension(networkx.path_graph(100))), 1)
    1.0
    """

    def __init__(
        self,
        threshold: float | None = None,
        lengths: str = "hops",
        box_sizes: Sequence[float] | None = None,
        n_orders: int = 10,
        seed: SeedLike = 0,
    ) -> None:
        self.threshold = None if threshold is None else number("threshold", threshold, 0, np.inf, closed="left")
        check_option("lengths", lengths, LENGTHS)
        self.lengths = lengths
        self.box_sizes = None if box_sizes is None else tuple(_box_sizes(box_sizes).tolist())
        self.n_orders = whole("n_orders", n_orders)
        generator(seed)
        self.seed = seed

    def __call__(self, graph: Any) -> torch.Tensor:
        """Return the box dimension of each graph; not differentiable.

        Parameters
        ----------
        graph : networkx.Graph, scipy.sparse matrix or array, torch.Tensor or array_like
            One graph, or matrices of weights ``(..., n_nodes, n_nodes)``; what is on the diagonal is left out. Of a
            graph that is not connected, the largest part is taken, with a warning.

        Returns
        -------
        torch.Tensor of shape (...)
            In float64. NaN, with a warning, where the graph is so narrow that there are fewer than three box sizes
            (a diameter of 1 or 2).

        Raises
        ------
        InputError
            A graph that is empty or directed; weights that are negative, not finite, or without a rule.
        """
        matrices, shape = weight_matrices(graph)
        coverings = self._coverings(matrices, shape)
        fits = [_fit(covering) for covering in coverings]
        for text in cautions(coverings, fits):
            warnings.warn(text, UserWarning, stacklevel=2)
        return torch.stack([fit.power.slope.neg() for fit in fits]).reshape(shape)

    def estimate(self, graph: Any, level: float = 0.95) -> GraphDimension:
        """Return the box dimension of each graph with the fit, and whether it is a fractal at all.

        Parameters
        ----------
        graph : networkx.Graph, scipy.sparse matrix or array, torch.Tensor or array_like
            As for a call.
        level : float
            Coverage of the intervals.

        Returns
        -------
        GraphDimension
            The interval is that of the slope, as if the points scattered about the line at random. They do not: it
            does not contain what the finite size of the graph does to the slope.

        Raises
        ------
        InputError
            As for a call.
        """
        level = coverage(level)
        matrices, shape = weight_matrices(graph)
        coverings = self._coverings(matrices, shape)
        fits = [_fit(covering) for covering in coverings]
        weights = [{"indptr": held.indptr, "indices": held.indices, "weights": held.data} for held in matrices]
        provenance = Provenance.record(self.seed, arguments={"metric": repr(self), "graph": weights, "level": level})
        return graph_dimension(self, coverings, fits, shape, level, provenance)

    def _coverings(self, matrices: list[Sparse], shape: tuple[int, ...]) -> list[Covering]:
        seeds = generator(self.seed).spawn(len(matrices))
        found: list[Covering] = []
        pairs: Iterable[tuple[Sparse, np.random.Generator]] = zip(matrices, seeds, strict=True)
        for index, (weights, random) in enumerate(progress_bar(pairs, len(matrices), "covering graphs with boxes")):
            try:
                found.append(self._covering(weights, random))
            except InputError as error:
                if not shape:
                    raise
                place = tuple(int(axis) for axis in np.unravel_index(index, shape))
                raise InputError(f"graph {place} of the batch: {error}") from error
        return found

    def _covering(self, weights: Sparse, random: np.random.Generator) -> Covering:
        hops = self.lengths == "hops"
        edges = edges_by_rule(weights, self.threshold, self.lengths)
        found = distances(edges, hops)
        diameter = float(found.matrix.max())
        if self.box_sizes is not None:
            sizes = np.asarray(self.box_sizes)
        elif hops:
            sizes = np.unique(np.geomspace(_SMALLEST_BOX, max(diameter + 1, _SMALLEST_BOX), _MOST_SIZES).round())
        else:
            # just above, so that the whole graph fits its box
            shortest = min(float(np.median(edges.data)), diameter)
            sizes = np.unique(np.geomspace(shortest, diameter, _MOST_SIZES) * (1 + 1e-9))
        counts = numbers_of_boxes(found.matrix, sizes, self.n_orders, random)
        return Covering(sizes, counts, len(found.matrix), found.n_left_out, diameter, diameter + hops)


def _fit(covering: Covering) -> GraphFit:
    """Return the power law and the exponential law of the number of boxes."""
    fewest = covering.counts.min(0)
    # sizes beyond the one that just holds the whole graph say nothing more
    fitted = covering.sizes <= covering.holds_all * (1 + 1e-6)
    if (fewest == 1).any():
        fitted &= np.arange(len(fewest)) <= (fewest == 1).argmax()
    if fitted.sum() < FEWEST_SCALES:
        missing = torch.full((), torch.nan, dtype=torch.float64)
        nothing = LineFit(missing, missing, missing)
        return GraphFit(fitted, nothing, nothing, float("nan"))
    sizes = torch.from_numpy(covering.sizes[fitted])
    boxes = torch.from_numpy(fewest[fitted].astype(np.float64)).log()
    each = line_fit(sizes.log(), torch.from_numpy(covering.counts[:, fitted].astype(np.float64)).log())
    deviation = float(each.slope.std()) if len(covering.counts) > 1 else float("nan")
    return GraphFit(fitted, line_fit(sizes.log(), boxes), line_fit(sizes, boxes), deviation)


def _box_sizes(values: Sequence[float]) -> Floats:
    try:
        sizes = np.unique(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise OptionError("box sizes are no numbers", got=repr(values)) from error
    if sizes.ndim != 1 or len(sizes) < FEWEST_SCALES or not ((sizes > 0) & np.isfinite(sizes)).all():
        raise OptionError(
            "box_sizes do not make a fit",
            expected=f"at least {FEWEST_SCALES} different positive numbers",
            got=repr(values),
        )
    return sizes
