"""-log p as a polynomial, fitted to the slope of the log density by score matching."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.information.energy.density.blocks import Blocks
from neuros_mechint.neuro.information.energy.density.continuous import Surface
from neuros_mechint.neuro.information.energy.density.densities import Quasipotential, near_samples
from neuros_mechint.neuro.information.energy.density.grids import CELLS, Grid, counts_of_blocks, grid_around
from neuros_mechint.neuro.information.energy.valleys.certainty import difference_error

_DEGREES = {1: (2, 4, 6, 8, 10, 12), 2: (2, 4, 6, 8)}
_FOLDS = 5
_EDGE = 0.2
_OTHER_ERRORS, _OTHER_BARRIER = 4.0, 0.5
_COARSE, _MISFIT = {1: 16, 2: 8}, 0.005
_FAR = 32  # this part of the range from the next sample, a polynomial is no longer believed


def score_quasipotential(samples: Floats, blocks: Blocks) -> Quasipotential:
    r"""Return -log p as the polynomial whose slope is that of -log p with the least squared error.

    Minimises :math:`\langle |\nabla E|^2 / 2 - \nabla^2 E \rangle`, which is linear in the coefficients and needs no
    normalisation: nothing is smoothed away, and what the polynomial cannot follow is missed.

    Parameters
    ----------
    samples : numpy.ndarray of shape (n_samples, n_dimensions)
    blocks : Blocks

    Returns
    -------
    Quasipotential
        Of the even degree whose slope fits held-out stretches best, up to 12 in one dimension and 8 in two.

    Raises
    ------
    InputError
        A density that the polynomial does not follow: with sharp edges, where score matching is wrong, or gaps.

    References
    ----------
    Hyvarinen 2005, Estimation of non-normalized statistical models by score matching,
    https://jmlr.org/papers/v6/hyvarinen05a.html

    Examples
    --------
    >>> from neuros_mechint.neuro.information.energy.density.blocks import make_blocks
    >>> samples = np.random.default_rng(0).normal(size=(20_000, 1))
    >>> found = score_quasipotential(samples, make_blocks([samples]))
    >>> centre, one_off = (found.energy[found.grid.cells(np.array([[place]]))][0] for place in (0.0, 1.0))
    >>> bool(abs(one_off - centre - 0.5) < 0.05)
    True
    """
    grid = grid_around(samples, CELLS[samples.shape[1]], 0.0)
    counts = counts_of_blocks(samples, blocks.of_sample, blocks.n_blocks, grid, shared=True)
    counts = counts.reshape(blocks.n_blocks, -1)
    _refuse_edges(samples)
    visited = _believed(counts.sum(0).reshape(grid.shape)).ravel()
    degrees = _DEGREES[samples.shape[1]]
    powers, values, moments, curvatures = _moments(grid, counts, degrees[-1])
    total = powers.sum(1)
    chosen = min(degrees, key=lambda one: _held_out(moments, curvatures, total <= one))
    terms = total <= chosen

    def energy(gram: Floats, curvature: Floats) -> Floats:
        found = values[:, terms] @ _coefficients(gram[np.ix_(terms, terms)], curvature[terms])
        found = np.where(visited, found, np.inf)
        lowest = found.min()
        shifted = found - lowest
        return (shifted + np.log(np.exp(-shifted).sum() * grid.volume)).reshape(grid.shape)

    all_moments, all_curvatures = moments.sum(0), curvatures.sum(0)
    without = np.array(
        [energy(all_moments - gram, all_curvatures - one) for gram, one in zip(moments, curvatures, strict=True)]
    )
    found = energy(all_moments, all_curvatures)
    _refuse_misfit(samples, found, grid, blocks)
    resolved = float(visited.sum()) * grid.volume / (terms.sum() + 1)
    return Quasipotential(grid, found, without, np.array([float(chosen)]), "degree", resolved)


def refuse_other_barriers(surface: Surface, kernels: Quasipotential) -> None:
    """Raise `InputError` where barriers of a polynomial are not those that kernels show.

    A polynomial of too low a degree cuts passes off without losing much likelihood: few samples are there.

    Parameters
    ----------
    surface : Surface
        Of the polynomial.
    kernels : Quasipotential
        Of the same samples and blocks.
    """
    energy, without = kernels.energy.ravel(), kernels.without.reshape(len(kernels.without), -1)
    for a, b in np.argwhere(surface.ways >= 0):
        start, top = (int(surface.basins.minima[a]), int(surface.ways[a, b]))
        cells = kernels.grid.cells(surface.quasi.grid.centres[[start, top]])
        barrier, direct = float(surface.energy[top] - surface.energy[start]), float(np.diff(energy[cells])[0])
        if not np.isfinite(direct):
            continue
        error = difference_error(energy, without, int(cells[0]), int(cells[1]))
        if abs(barrier - direct) > max(_OTHER_ERRORS * error, _OTHER_BARRIER):
            raise InputError(
                "a polynomial does not follow the density of these samples",
                expected=f"the barrier of {direct:.2g} +- {error:.2g} kT that kernels show from minimum {a} to {b}",
                got=f"{barrier:.2g} kT",
                fix='pass method="density"',
            )


def _refuse_edges(samples: Floats) -> None:
    """Raise `InputError` where the density ends at an edge: score matching takes it to vanish there."""
    for number, column in enumerate(samples.T):
        counts = np.histogram(column, _COARSE[1])[0]
        if max(counts[0], counts[-1]) > _EDGE * counts.max():
            raise InputError(
                "the density ends at a sharp edge, where score matching is wrong",
                expected=f"fewer samples in the outermost sixteenth than {_EDGE:.0%} of the fullest",
                got=f"{max(counts[0], counts[-1]) / counts.max():.0%} in dimension {number}",
                fix='pass method="density"',
            )


def _believed(counts: Floats) -> npt.NDArray[np.bool_]:
    """Return which cells are near samples, without single ones far out: a polynomial has no gaps."""
    from scipy.ndimage import label

    found: Any = label(near_samples(counts, np.array(counts.shape) // _FAR))
    pieces, n_pieces = found
    held = [counts[pieces == piece].sum() for piece in range(1, n_pieces + 1)]
    return pieces == 1 + int(np.argmax(held))


def _moments(grid: Grid, counts: Floats, degree: int) -> tuple[npt.NDArray[np.intp], Floats, Floats, Floats]:
    """Return powers, values of polynomials on the grid, and per block the sums of slopes squared and of curvatures."""
    n_dimensions = len(grid.shape)
    powers = np.array([one for one in product(range(degree + 1), repeat=n_dimensions) if 0 < sum(one) <= degree])
    half = [(axis[-1] - axis[0]) / 2 for axis in grid.axes]
    place = (grid.centres - grid.centres.mean(0)) / half
    by_order = [
        [legendre.legval(column, legendre.legder(np.eye(degree + 1), order)).T for order in range(3)]
        for column in place.T
    ]

    def derivative(orders: tuple[int, ...]) -> Floats:
        return np.prod([by_order[d][orders[d]][:, powers[:, d]] / half[d] ** orders[d] for d in range(n_dimensions)], 0)

    slopes = [derivative(tuple(np.eye(n_dimensions, dtype=int)[d])) for d in range(n_dimensions)]
    curvature = np.sum([derivative(tuple(2 * np.eye(n_dimensions, dtype=int)[d])) for d in range(n_dimensions)], 0)
    moments = np.array([sum(slope.T @ (count[:, None] * slope) for slope in slopes) for count in counts])
    return powers, derivative((0,) * n_dimensions), moments, counts @ curvature


def _refuse_misfit(samples: Floats, energy: Floats, grid: Grid, blocks: Blocks) -> None:
    """Raise `InputError` where the polynomial's density is not that of the samples."""
    side = _COARSE[samples.shape[1]]
    coarse = grid_around(samples, side, 0.0)
    seen = np.bincount(coarse.cells(samples), minlength=side ** samples.shape[1]) / len(samples)
    density = np.exp(-energy.ravel()) * grid.volume
    expected = np.bincount(coarse.cells(grid.centres), density, minlength=len(seen))
    expected = np.maximum(expected, 0.5 / len(samples))  # single samples far out are no misfit
    missed = float((seen[seen > 0] * np.log(seen[seen > 0] / expected[seen > 0])).sum())
    if missed > _MISFIT + len(seen) * blocks.memory / len(samples):
        raise InputError(
            "a polynomial does not follow the density of these samples",
            expected=f"less than {_MISFIT} nats per sample lost, and what chance adds",
            got=f"{missed:.2g} nats lost by degree {_DEGREES[samples.shape[1]][-1]} or less",
            fix='densities with sharp edges or gaps need method="density"',
        )


def _coefficients(gram: Floats, curvature: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(gram, curvature, rcond=1e-10)[0], dtype=float)


def _held_out(moments: Floats, curvatures: Floats, terms: npt.NDArray[np.bool_]) -> float:
    """Return by how much slopes miss those of held-out stretches, up to a constant."""
    moments, curvatures = moments[:, terms][:, :, terms], curvatures[:, terms]
    score = 0.0
    for fold in range(_FOLDS):
        gram, curvature = moments[fold::_FOLDS].sum(0), curvatures[fold::_FOLDS].sum(0)
        found = _coefficients(moments.sum(0) - gram, curvatures.sum(0) - curvature)
        score += float(found @ gram @ found / 2 - curvature @ found)
    return score
