"""A prior on how fast balls grow in weighted graphs, such as attention or recurrent weights."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import nn

from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.neuro.fractals.priors.signal_prior import TO_THE_CALLER
from neuros_mechint.neuro.fractals.scaling import line_fit

_SOFTNESS = 0.1
"""Width of the edge of a ball, in units of the logarithm of its radius."""
_SMALLEST_RADIUS = 1.5
"""In mean lengths to the nearest neighbour: below, a ball is hardly more than its centre."""
_LEAST_ROOM = 1.25
_FEWEST_NODES = 4


class GraphFractalityPrior(nn.Module):
    r"""Squared distance of the growth exponent of balls in weighted graphs from a target dimension.

    An edge of weight :math:`w` has the length :math:`1 / w`, in units of the mean length from each node to its
    nearest neighbour; :math:`d_{ij}` is the shortest path. A ball of radius :math:`r` around a node holds itself and

    .. math:: m_i(r) = \sum_{j \ne i} \frac{1}{1 + (d_{ij} / r)^{10}}

    others: a count with a soft edge. The exponent is the slope of :math:`\log \langle 1 + m_i(r) \rangle_i` over
    :math:`\log r`, for radii from 1.5 lengths to the share ``reach`` of the greatest distance.

    It is a surrogate with gradients for the dimension that box covering measures, and agrees with it on lattices and
    graphs that look alike everywhere. **It is no box-covering dimension**: with hubs, balls around nodes grow faster
    than the number of boxes shrinks (Song et al. 2005), and in small worlds they grow exponentially, so that the
    slope describes the radii used rather than a fractal. `GraphFractalDimension` measures the other one.

    Parameters
    ----------
    target_dimension : float
        1 for a chain, 2 for a sheet.
    n_radii : int
        Radii of the fit, evenly spaced in their logarithm.
    reach : float
        The largest radius as a share of the greatest distance: balls beyond half of it have no room to grow.

    Raises
    ------
    OptionError
        Parameters out of range.

    References
    ----------
    Song, Havlin and Makse 2005, Self-similarity of complex networks, doi:10.1038/nature03248

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> ring = torch.eye(64).roll(1, 0) + torch.eye(64).roll(-1, 0)
    >>> nm.GraphFractalityPrior(1.0)(ring).item() < 1e-3 < nm.GraphFractalityPrior(2.0)(ring).item()
    True
    """

    def __init__(self, target_dimension: float = 2.0, n_radii: int = 8, reach: float = 0.4) -> None:
        super().__init__()
        self.target_dimension = number("target_dimension", target_dimension, 0, 100)
        self.n_radii = whole("n_radii", n_radii, 3)
        self.reach = number("reach", reach, 0, 1)

    def forward(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the mean squared distance from the target, a scalar.

        Parameters
        ----------
        weights : torch.Tensor of shape (..., n_nodes, n_nodes)
            At least 0, where 0 is no edge (nor is, in float32, 1e-19 of the strongest). Averaged with its transpose;
            the diagonal is ignored. Graphs without room for balls to grow (no edges, or all nodes equally far) are
            left out of the loss; where all are, it is zero, with a warning.

        Returns
        -------
        torch.Tensor of shape ()

        Raises
        ------
        InputError
            No tensor of square matrices of at least four nodes, or weights that are negative or not finite.
        """
        graphs = _graphs(weights)
        dimension = self._dimension(graphs)
        if not dimension.numel():
            warnings.warn(
                "no graph has room for balls to grow: the loss is zero", UserWarning, stacklevel=TO_THE_CALLER
            )
            return (graphs * 0).sum()
        return (dimension - self.target_dimension).square().mean()

    def dimension(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the growth exponent of each graph that has one.

        Parameters
        ----------
        weights : torch.Tensor of shape (..., n_nodes, n_nodes)
            As for a call.

        Returns
        -------
        torch.Tensor of shape (n_graphs,)

        Raises
        ------
        InputError
            As for a call.

        Examples
        --------
        >>> import torch
        >>> import neuros_mechint as nm
        >>> ring = torch.eye(64).roll(1, 0) + torch.eye(64).roll(-1, 0)
        >>> round(nm.GraphFractalityPrior(2.0).dimension(3 * ring).item(), 2)
        1.0
        """
        return self._dimension(_graphs(weights))

    def _dimension(self, graphs: torch.Tensor) -> torch.Tensor:
        """Return the exponents of graphs ``(n_graphs, n, n)`` in which balls have room to grow."""
        distances = shortest_paths(_lengths(graphs))
        found = [self._exponent(one) for one in distances]
        kept = [value for value in found if value is not None]
        return torch.stack(kept) if kept else graphs.new_zeros(0)

    def _exponent(self, distances: torch.Tensor) -> torch.Tensor | None:
        """Return the exponent of one graph ``(n, n)``, or None where no radius lies between near and far."""
        n_nodes = distances.shape[0]
        others = ~torch.eye(n_nodes, dtype=torch.bool, device=distances.device)
        log_distance = distances[others].log().reshape(n_nodes, n_nodes - 1)
        nearest = log_distance.amin(-1)
        connected = torch.isfinite(nearest)
        if not connected.any():
            return None
        # radii move with the graph, so that its scale has no effect
        unit = torch.logsumexp(nearest[connected], 0) - np.log(int(connected.sum()))
        relative = log_distance[connected] - unit
        closest = float(np.log(_SMALLEST_RADIUS))
        room = relative[torch.isfinite(relative)].amax() + np.log(self.reach) - closest
        if room.item() < np.log(_LEAST_ROOM):
            return None
        shares = torch.linspace(0, 1, self.n_radii, dtype=distances.dtype, device=distances.device)
        radii = closest + shares * room
        mass = 1 + torch.sigmoid((radii[:, None, None] - relative) / _SOFTNESS).sum(-1).mean(-1)
        return line_fit(radii, mass.log()).slope


def shortest_paths(lengths: torch.Tensor) -> torch.Tensor:
    """Return the lengths of the shortest paths between all nodes, with gradients along these paths.

    Parameters
    ----------
    lengths : torch.Tensor of shape (n_graphs, n_nodes, n_nodes)
        Of the edges, symmetric and above 0; infinite where there is none, 0 on the diagonal.

    Returns
    -------
    torch.Tensor of shape (n_graphs, n_nodes, n_nodes)

    Examples
    --------
    >>> far = torch.inf
    >>> shortest_paths(torch.tensor([[[0.0, 1.0, far], [1.0, 0.0, 2.0], [far, 2.0, 0.0]]]))[0, 0].tolist()
    [0.0, 1.0, 3.0]
    """
    before = torch.from_numpy(_nodes_before(lengths.detach().double().cpu().numpy())).to(lengths.device)
    start = torch.arange(lengths.shape[-1], device=lengths.device)[None, :, None].expand_as(before)
    reached = before >= 0
    before = torch.where(reached, before, start)
    # of each path its last edge; then of twice as many edges, until all paths are back at their start
    distances = torch.where(reached, lengths.gather(1, before), torch.inf)
    distances = torch.where(start == start.mT, 0.0, distances)
    while (before != start).any():
        distances = distances + distances.gather(2, before)
        before = before.gather(2, before)
    return distances


def _nodes_before(lengths: np.ndarray) -> np.ndarray:
    """Return the last node but one of each shortest path ``(n_graphs, n, n)``, negative where there is none."""
    from scipy.sparse.csgraph import shortest_path

    found = [shortest_path(graph, directed=False, return_predecessors=True)[1] for graph in lengths]
    return np.stack(found).astype(np.int64)


def _lengths(graphs: torch.Tensor) -> torch.Tensor:
    """Return the length of each edge, in units of the shortest, with no infinity on the way to a gradient."""
    both = (graphs + graphs.mT) / 2
    diagonal = torch.eye(graphs.shape[-1], dtype=torch.bool, device=graphs.device)
    both = both.masked_fill(diagonal, 0.0)
    strongest = both.detach().amax((1, 2), keepdim=True)
    both = both / torch.where(strongest > 0, strongest, 1.0)
    # the gradient holds the square of a length
    edges = both > torch.finfo(both.dtype).tiny ** 0.5
    return torch.where(edges, 1 / torch.where(edges, both, 1.0), torch.inf).masked_fill(diagonal, 0.0)


def _graphs(weights: torch.Tensor) -> torch.Tensor:
    """Return weights as matrices ``(n_graphs, n, n)``, or say what is wrong with them."""
    if not isinstance(weights, torch.Tensor):
        raise InputError("a loss needs a tensor", expected="torch.Tensor", got=type(weights).__name__)
    shape = tuple(weights.shape)
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < _FEWEST_NODES or not weights.numel():
        raise InputError(
            "weights are no graph", expected=f"(..., n, n) with at least {_FEWEST_NODES} nodes", got=f"shape {shape}"
        )
    if weights.is_complex() or not torch.isfinite(weights.detach()).all() or (weights.detach() < 0).any():
        raise InputError(
            "weights cannot be turned into lengths",
            expected="finite real numbers of at least 0",
            fix="pass their size, weights.abs(), if the sign does not matter for what is near",
        )
    if weights.dtype not in (torch.float32, torch.float64):
        weights = weights.double()
    return weights.reshape(-1, *shape[-2:])
