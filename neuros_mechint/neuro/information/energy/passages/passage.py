"""How long diffusion takes from one minimum to another: predicted from the landscape, and by Kramers' formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.energy.density.grids import Grid

Whole = npt.NDArray[np.intp]
_SMOOTH, _SEPARATE = 1.3, 0.6
_UNEVEN = 1.5
_OBLIQUE = 0.3


class Diffusion(NamedTuple):
    """How fast states spread over short times."""

    matrix: Floats
    """Half the covariance of increments per unit of time, ``(n_dimensions, n_dimensions)``."""
    growth: Floats
    """Of each dimension, by how much faster, per unit of time, squared increments grow over two samples than over one:
    about 1, or a bit less, for diffusion; 2 for smooth movement; .5 where samples do not depend on each other."""

    @property
    def caution(self) -> str | None:
        """Why there is no diffusion at this sampling, if so."""
        if self.growth.max() > _SMOOTH:
            return (
                "states move smoothly from sample to sample and do not diffuse: no passage times are predicted "
                "(take samples further apart than the memory of their velocity)"
            )
        if self.growth.min() < _SEPARATE:
            return (
                "states spread hardly further over two samples than over one, as where they jump or where noise of the "
                "measurement covers them: no passage times are predicted (sample faster, or smooth, where that can be)"
            )
        return None

    @property
    def oblique(self) -> str | None:
        """What to warn of where noise is shared by dimensions, which a grid along them leaves out."""
        size = np.sqrt(np.diag(self.matrix))
        shared = float(np.abs(np.triu(self.matrix / np.outer(size, size), 1)).max())
        if shared < _OBLIQUE:
            return None
        return (
            f"the noise of the dimensions has a correlation of {shared:.2g}, which passage times leave out: pass a "
            "projection on which it has none"
        )


def diffusion_of(trials: Sequence[Floats], dt: float) -> Diffusion:
    """Return the diffusion matrix at vanishing time, extrapolated from increments over one and two samples.

    Examples
    --------
    >>> walk = np.cumsum(np.random.default_rng(0).normal(size=(50_000, 1)), axis=0)
    >>> found = diffusion_of([walk], dt=1.0)
    >>> bool(abs(found.matrix[0, 0] - 0.5) < 0.02), bool(abs(found.growth[0] - 1) < 0.05)
    (True, True)
    """
    one, two = (_spread(trials, lag) / (2 * lag * dt) for lag in (1, 2))
    return Diffusion(2 * one - two, np.diag(two) / np.diag(one))


def _spread(trials: Sequence[Floats], lag: int) -> Floats:
    increments = np.concatenate([trial[lag:] - trial[:-lag] for trial in trials if len(trial) > lag])
    return increments.T @ increments / len(increments)


def uneven_diffusion(trials: Sequence[Floats], basin: Whole) -> str | None:
    """Return a caution where states spread faster in one basin than in another.

    Examples
    --------
    >>> walk = np.cumsum(np.random.default_rng(0).normal(size=(1000, 1)), axis=0)
    >>> uneven_diffusion([walk], np.repeat([0, 1], 500)) is None
    True
    """
    increments = np.concatenate([np.diff(trial, axis=0, append=np.nan) for trial in trials])
    known = np.isfinite(increments[:, 0])
    spread = np.array([(increments[known & (basin == one)] ** 2).sum(1).mean() for one in np.unique(basin[basin >= 0])])
    if spread.max() <= _UNEVEN * spread.min():
        return None
    return (
        f"states spread {spread.max() / spread.min():.2g} times as fast in one basin as in another: noise depends on "
        "the state, -log p mixes it with the force, and passage times of one diffusion coefficient are rough"
    )


def passage_time(energy: Floats, step: float, start: int, end: int, diffusion: float) -> float:
    r"""Return the mean first-passage time in one dimension, exact for a diffusion in this landscape.

    :math:`\int_a^b e^{E(y)} \int_{-\infty}^y e^{-E(z)} dz\, dy / D`, with the inner integral from the other side where
    ``b`` lies left of ``a``.

    Parameters
    ----------
    energy : numpy.ndarray of shape (n_cells,)
        In kT.
    step : float
        Width of a cell.
    start, end : int
        Cells.
    diffusion : float

    References
    ----------
    Hanggi, Talkner and Borkovec 1990, Reaction-rate theory: fifty years after Kramers, doi:10.1103/RevModPhys.62.251

    Examples
    --------
    >>> flat = np.zeros(101)  # from one wall to the other: length squared by 2 D
    >>> round(passage_time(flat, 0.01, 0, 100, 0.5), 2)
    1.01
    """
    if start > end:
        return passage_time(energy[::-1], step, len(energy) - 1 - start, len(energy) - 1 - end, diffusion)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        density = np.exp(-(energy - energy.min()))
        below = np.cumsum(density) - density / 2
        return float(np.trapezoid(below[start : end + 1] / density[start : end + 1]) * step**2 / diffusion)


def passage_times_on_grid(energy: Floats, grid: Grid, cores: Sequence[Whole], diffusion: Floats) -> Floats:
    """Return mean first-passage times between sets of cells, by a Markov chain that hops between neighbours.

    Rates are the square-root approximation of diffusion, D / step^2 exp(-(difference of energies) / 2).

    Parameters
    ----------
    energy : numpy.ndarray of shape (*shape)
        In kT, infinite where no state can be.
    grid : Grid
    cores : sequence of numpy.ndarray
        Flat cells of each set; times start from a set with the weights of the density in it.
    diffusion : numpy.ndarray of shape (n_dimensions,)
        Along each side.

    Returns
    -------
    numpy.ndarray of shape (n_cores, n_cores)
        From row to column; NaN where one cannot be reached from the other.

    References
    ----------
    Lie, Fackeldey and Weber 2013, A square root approximation of transition rates for a Markov state model,
    doi:10.1137/120899959

    Examples
    --------
    >>> from neuros_mechint.neuro.information.energy.density.grids import grid_around
    >>> grid = grid_around(np.array([[0.0], [1.0]]), 101, 0.0)
    >>> found = passage_times_on_grid(np.zeros(101), grid, [np.array([0]), np.array([100])], np.array([0.5]))
    >>> found.round(2).tolist()
    [[0.0, 1.01], [1.01, 0.0]]
    """
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import spsolve

    rates = _hopping_rates(energy, grid, diffusion)
    _, piece = connected_components(rates, directed=False)
    found = np.full((len(cores), len(cores)), np.nan)
    weights = np.exp(-(energy.ravel() - energy[np.isfinite(energy)].min()))
    leaving = np.asarray(rates.sum(1)).ravel()
    for target, cells in enumerate(cores):
        inside = np.isin(piece, piece[cells])
        free = np.flatnonzero(inside & ~np.isin(np.arange(len(piece)), cells))
        times = np.where(inside, 0.0, np.nan)
        if len(free):
            from scipy.sparse import diags_array

            chain: Any = diags_array(leaving[free]) - rates[free][:, free]
            times[free] = spsolve(chain.tocsc(), np.ones(len(free)))
        for start, own in enumerate(cores):
            found[start, target] = np.average(times[own], weights=weights[own])
    return found


def _hopping_rates(energy: Floats, grid: Grid, diffusion: Floats) -> Any:
    from scipy.sparse import csr_array

    cells = np.arange(energy.size).reshape(grid.shape)
    rows, columns, rates = [], [], []
    for axis, (spread, step) in enumerate(zip(diffusion, grid.step, strict=True)):
        before, after = (np.delete(cells, edge, axis).ravel() for edge in (-1, 0))
        reached = np.isfinite(energy.ravel()[before]) & np.isfinite(energy.ravel()[after])
        before, after = before[reached], after[reached]
        rise = energy.ravel()[after] - energy.ravel()[before]
        for begin, end, up in ((before, after, rise), (after, before, -rise)):
            rows.append(begin)
            columns.append(end)
            rates.append(spread / step**2 * np.exp(-up / 2))
    shape = (energy.size, energy.size)
    return csr_array((np.concatenate(rates), (np.concatenate(rows), np.concatenate(columns))), shape=shape)


def kramers_time(minimum: Floats, saddle: Floats, barrier: float, diffusion: Floats) -> float:
    r"""Return the mean time from one minimum to the next by the formula of Kramers, Langer and Eyring.

    :math:`2 \pi e^{\Delta E} \sqrt{|\det H_s| / \det H_m} / |\lambda|`, with the negative eigenvalue of D H at the
    saddle. It holds for barriers of many kT: at 3 kT it is about a fifth too short.

    Parameters
    ----------
    minimum, saddle : numpy.ndarray of shape (n_dimensions, n_dimensions)
        Second derivatives of the energy in kT.
    barrier : float
        In kT.
    diffusion : numpy.ndarray of shape (n_dimensions, n_dimensions)

    Returns
    -------
    float
        NaN where the saddle has not one falling direction, or the minimum is none.

    References
    ----------
    Kramers 1940, Brownian motion in a field of force and the diffusion model of chemical reactions,
    doi:10.1016/S0031-8914(40)90098-2

    Examples
    --------
    >>> kT = 0.35
    >>> round(kramers_time(np.array([[8 / kT]]), np.array([[-4 / kT]]), 1 / kT, np.array([[kT]])), 2)
    19.34
    """
    falling = np.sort(np.linalg.eigvals(diffusion @ saddle).real)
    if falling[0] >= 0 or (falling[1:] <= 0).any() or np.linalg.eigvalsh(minimum)[0] <= 0:
        return float("nan")
    shape = np.sqrt(abs(np.linalg.det(saddle)) / np.linalg.det(minimum))
    return float(2 * np.pi * np.exp(barrier) * shape / -falling[0])


def curvature_at(energy: Floats, grid: Grid, cell: int, reach: Floats) -> Floats:
    """Return second derivatives at a cell, from a polynomial of fourth degree fitted to the cells within reach.

    Parameters
    ----------
    energy : numpy.ndarray of shape (*shape)
    grid : Grid
    cell : int
        Flat.
    reach : numpy.ndarray of shape (n_dimensions,)
        Half-axes of the ellipse that is fitted.

    Returns
    -------
    numpy.ndarray of shape (n_dimensions, n_dimensions)
        NaN where too few cells are within reach.

    Examples
    --------
    >>> from neuros_mechint.neuro.information.energy.density.grids import grid_around
    >>> grid = grid_around(np.array([[-2.0], [2.0]]), 101, 0.0)
    >>> curvature_at((grid.axes[0] ** 2 - 1) ** 2, grid, 50, np.array([0.5])).round(6).tolist()
    [[-4.0]]
    """
    n_dimensions = len(grid.shape)
    away = (grid.centres - grid.centres[cell]) / reach
    near = ((away**2).sum(1) <= 1) & np.isfinite(energy.ravel())
    powers = [one for one in np.ndindex(*(5,) * n_dimensions) if sum(one) <= 4]
    if near.sum() < 2 * len(powers):
        return np.full((n_dimensions, n_dimensions), np.nan)
    terms = np.prod(away[near, None] ** np.array(powers), axis=2)
    fitted = dict(zip(powers, np.linalg.lstsq(terms, energy.ravel()[near], rcond=None)[0], strict=True))
    axes = np.eye(n_dimensions, dtype=int)
    found = np.array([[fitted[tuple((a + b).tolist())] for b in axes] for a in axes])
    return found * (1 + np.eye(n_dimensions)) / np.outer(reach, reach)
