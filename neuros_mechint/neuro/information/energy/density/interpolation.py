"""A smooth function through values on a grid, in torch, so that it has gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.energy.density.grids import Grid


def spline_of(grid: Grid, values: Floats) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the cubic spline through values on a grid.

    Parameters
    ----------
    grid : Grid
    values : numpy.ndarray of shape (*shape)
        Missing ones are taken to be as high as the highest.

    Returns
    -------
    callable
        Takes points (n_points, n_dimensions), in the grid, and returns (n_points,).

    Examples
    --------
    >>> from neuros_mechint.neuro.information.energy.density.grids import grid_around
    >>> grid = grid_around(np.array([[-1.0], [1.0]]), 41, 0.0)
    >>> point = torch.tensor([[0.333]], dtype=torch.float64, requires_grad=True)
    >>> value = spline_of(grid, grid.axes[0] ** 2)(point)
    >>> (slope,) = torch.autograd.grad(value.sum(), point)
    >>> round(value.item(), 4), round(slope.item(), 3)
    (0.1109, 0.666)
    """
    from scipy.ndimage import spline_filter

    filled = np.where(np.isfinite(values), values, np.nanmax(values))
    # mirrored beyond the edges, as the filter takes them to be
    padded = np.pad(np.asarray(spline_filter(filled, order=3, mode="mirror")), 2, mode="reflect")
    coefficients, shape = torch.from_numpy(padded.ravel()), padded.shape
    low, step = torch.from_numpy(grid.low), torch.from_numpy(grid.step)
    most = torch.tensor(grid.shape, dtype=torch.float64) - 1

    def spline(points: torch.Tensor) -> torch.Tensor:
        place = torch.minimum(((points - low) / step).clamp(min=0), most)
        before = torch.minimum(place.detach().floor(), most - 1)
        weights = _cubic(place - before)
        index = before.long() + 1  # of the first of four knots, in the padded array
        total = points.new_zeros(len(points))
        for corner in np.ndindex(*(4,) * points.shape[1]):
            flat, weight = torch.zeros_like(index[:, 0]), torch.ones_like(total)
            for axis, knot in enumerate(corner):
                flat = flat * shape[axis] + index[:, axis] + knot
                weight = weight * weights[:, axis, knot]
            total = total + weight * coefficients[flat]
        return total

    return spline


def _cubic(rest: torch.Tensor) -> torch.Tensor:
    """Return the weights of the four knots around a place, ``rest`` of a step behind the second."""
    left = 1 - rest
    inner = [2 / 3 - one**2 + one**3 / 2 for one in (rest, left)]
    return torch.stack([left**3 / 6, *inner, rest**3 / 6], -1)
