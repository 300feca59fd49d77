"""Grids over one or two dimensions, and samples counted on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats

CELLS = {1: 512, 2: 128}
"""Along each side of a grid."""


class Grid(NamedTuple):
    """Cells of equal size."""

    low: Floats
    """Centre of the first cell, ``(n_dimensions,)``."""
    step: Floats
    """Width of a cell, ``(n_dimensions,)``."""
    shape: tuple[int, ...]

    @property
    def axes(self) -> tuple[Floats, ...]:
        """Centres of cells along each side."""
        return tuple(
            low + step * np.arange(size) for low, step, size in zip(self.low, self.step, self.shape, strict=True)
        )

    @property
    def volume(self) -> float:
        """Of one cell."""
        return float(np.prod(self.step))

    @property
    def centres(self) -> Floats:
        """Centres of all cells, ``(n_cells, n_dimensions)``."""
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), -1).reshape(-1, len(self.shape))

    def cells(self, points: Floats) -> npt.NDArray[np.intp]:
        """Return which cell each point lies in, ``(n_points,)``; beyond the edges, the last one there."""
        index = np.rint((points - self.low) / self.step).astype(np.intp)
        index = np.clip(index, 0, np.array(self.shape) - 1)
        return np.asarray(np.ravel_multi_index(tuple(index.T), self.shape))


def grid_around(samples: Floats, n_cells: int, beyond: float) -> Grid:
    """Return a grid that holds all samples.

    Parameters
    ----------
    samples : numpy.ndarray of shape (n_samples, n_dimensions)
    n_cells : int
        Along each side.
    beyond : float
        How far it reaches beyond the samples, as a share of their range.

    Examples
    --------
    >>> grid_around(np.array([[0.0], [1.0]]), 5, 0.0).axes[0].tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    low, high = samples.min(0), samples.max(0)
    low, high = low - beyond * (high - low), high + beyond * (high - low)
    return Grid(low, (high - low) / (n_cells - 1), (n_cells,) * samples.shape[1])


def counts_of_blocks(samples: Floats, block: npt.NDArray[np.intp], n_blocks: int, grid: Grid, shared: bool) -> Floats:
    """Return how many samples of each block lie in each cell.

    Parameters
    ----------
    samples : numpy.ndarray of shape (n_samples, n_dimensions)
    block : numpy.ndarray of shape (n_samples,)
    n_blocks : int
    grid : Grid
    shared : bool
        Each sample is shared out among the cells around it, by its distance from their centres.

    Returns
    -------
    numpy.ndarray of shape (n_blocks, *shape)

    References
    ----------
    Wand 1994, Fast computation of multivariate kernel estimators, doi:10.1080/10618600.1994.10474656

    Examples
    --------
    >>> samples = np.array([[0.0], [0.25], [1.0]])
    >>> grid = grid_around(samples, 3, 0.0)
    >>> counts_of_blocks(samples, np.zeros(3, dtype=int), 1, grid, shared=True).tolist()
    [[1.5, 0.5, 1.0]]
    """
    n_cells = int(np.prod(grid.shape))
    if not shared:
        cells = block * n_cells + grid.cells(samples)
        return np.bincount(cells, minlength=n_blocks * n_cells).reshape(n_blocks, *grid.shape).astype(float)
    position = (samples - grid.low) / grid.step
    before = np.clip(np.floor(position), 0, np.array(grid.shape) - 2).astype(np.intp)
    rest = position - before
    found = np.zeros(n_blocks * n_cells)
    for corner in np.ndindex(*(2,) * len(grid.shape)):
        weight = np.prod(np.where(np.array(corner) == 1, rest, 1 - rest), axis=1)
        cells = np.ravel_multi_index(tuple((before + corner).T), grid.shape)
        found += np.bincount(block * n_cells + cells, weight, minlength=n_blocks * n_cells)
    return found.reshape(n_blocks, *grid.shape)
