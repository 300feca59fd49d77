"""From trajectories in one or two dimensions to all that a landscape tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.standard_errors import jackknife_error
from neuros_mechint.neuro.information.energy.density.blocks import Blocks
from neuros_mechint.neuro.information.energy.density.densities import Quasipotential
from neuros_mechint.neuro.information.energy.density.plane import Plane
from neuros_mechint.neuro.information.energy.passages.passage import (
    Diffusion,
    curvature_at,
    kramers_time,
    passage_time,
    passage_times_on_grid,
)
from neuros_mechint.neuro.information.energy.passages.waits import Observed, observed_passage
from neuros_mechint.neuro.information.energy.valleys.basins import (
    Basins,
    find_basins,
    keep_certain,
    lattice,
    lowest_ways,
    merge_tree,
)
from neuros_mechint.neuro.information.energy.valleys.certainty import (
    Certainty,
    HonestReach,
    difference_error,
    energy_errors,
)

Whole = npt.NDArray[np.intp]
AXES = ("x", "y")
_DOUBTFUL, _WORTH_TELLING, _MOST_TOLD = 2.0, 0.5, 3
_CORE, _HIGH = 0.5, 2.0  # a core reaches up to half of the lowest barrier, and to 1 kT


class Dip(NamedTuple):
    """A minimum that may be chance."""

    position: list[float]
    barrier: float
    """In kT."""
    error: float


class Surface(NamedTuple):
    """A quasi-potential, cut into basins."""

    quasi: Quasipotential
    energy: Floats
    """Of all cells, flat; where no sample is near, as high as if half a sample were there."""
    without: Floats
    """The same without each block, ``(n_blocks, n_cells)``."""
    basins: Basins
    ways: Whole
    """The highest cell of the lowest way between each two minima."""
    may_be_chance: list[Dip]
    """The deepest of the minima that are not counted, whose barriers exceed two errors but not what chance may give."""

    @property
    def unseen_ways(self) -> npt.NDArray[np.bool_]:
        """Which ways lead over cells that no sample is near."""
        return (self.ways >= 0) & ~np.isfinite(self.quasi.energy.ravel()[self.ways])

    @property
    def barriers(self) -> Floats:
        """From each minimum (row) over the lowest way to each other one, in kT."""
        barriers = self.energy[self.ways] - self.energy[self.basins.minima][:, None]
        np.fill_diagonal(barriers, 0.0)
        return barriers

    @property
    def cores(self) -> list[Whole]:
        """Cells around each minimum, up to half of its lowest barrier and to 1 kT."""
        barriers = self.barriers + np.where(np.eye(len(self.ways)), np.inf, 0)
        lowest = np.minimum(barriers.min(1), _HIGH)
        return [
            np.flatnonzero((self.basins.of_node == one) & (self.energy <= self.energy[minimum] + _CORE * height))
            for one, (minimum, height) in enumerate(zip(self.basins.minima, lowest, strict=True))
        ]


def make_surface(quasi: Quasipotential, samples: Floats, blocks: Blocks, random: np.random.Generator) -> Surface:
    """Cut a quasi-potential into the basins of minima that are no chance.

    Parameters
    ----------
    quasi : Quasipotential
    samples : numpy.ndarray of shape (n_samples, n_dimensions)
    blocks : Blocks
    random : numpy.random.Generator
    """
    near = np.isfinite(quasi.energy.ravel())
    least = quasi.energy.ravel()[near].max() + np.log(2)
    energy = np.where(near, quasi.energy.ravel(), least)
    without = np.where(near, quasi.without.reshape(blocks.n_blocks, -1), least)
    basins = find_basins(energy, lattice(quasi.energy.shape))
    counts = np.bincount(quasi.grid.cells(samples), minlength=len(energy)).astype(float)
    reach = HonestReach(quasi.n_resolved, random)
    certainty = Certainty(energy, without, counts, quasi.resolved, reach, blocks.memory)
    basins, raw = keep_certain(energy, basins, certainty), basins
    dips = _uncounted(quasi, certainty, raw, basins)
    basins = basins._replace(of_node=np.where(near, basins.of_node, -1))
    return Surface(quasi, energy, without, basins, lowest_ways(energy, basins), dips)


def _uncounted(quasi: Quasipotential, certainty: Certainty, raw: Basins, kept: Basins) -> list[Dip]:
    found = []
    for merger in merge_tree(certainty.energy, raw):
        minimum = int(raw.minima[merger.dies])
        error = float(np.sqrt(sum(certainty.variances(minimum, merger.at))))
        barrier = merger.energy - float(certainty.energy[minimum])
        if minimum not in kept.minima and barrier > max(_DOUBTFUL * error, _WORTH_TELLING):
            found.append(Dip(quasi.grid.centres[minimum].tolist(), barrier, error))
    return sorted(found, key=lambda dip: -dip.barrier)[:_MOST_TOLD]


def landscape_data(
    surface: Surface, trials: Sequence[Floats], dt: float, diffusion: Diffusion, temperature: float, plane: Plane
) -> xr.Dataset:
    """Return everything that is known of a surface, energies in units of which ``temperature`` make one kT.

    Parameters
    ----------
    surface : Surface
    trials : sequence of numpy.ndarray of shape (n_times, n_dimensions)
    dt : float
    diffusion : Diffusion
    temperature : float
    plane : Plane
        In which the trajectories are seen.
    """
    quasi, minima = surface.quasi, surface.basins.minima
    axes = AXES[: len(quasi.grid.shape)]
    lowest = surface.energy[minima[0]]
    units = "kT" if temperature == 1 else "units of energy"
    joined = np.concatenate(trials)
    basin = surface.basins.of_node[quasi.grid.cells(joined)]
    inside = np.isfinite(quasi.energy)
    energy = np.where(inside, temperature * (quasi.energy - lowest), np.nan)
    ways = np.where(surface.ways[..., None] >= 0, quasi.grid.centres[surface.ways], np.nan)
    between: Any = ("minimum", "to")
    data: dict[str, Any] = {
        "energy": (axes, energy, "energy", units),
        "error": (
            axes,
            temperature * energy_errors(quasi.energy, quasi.without),
            "standard error of the energy",
            units,
        ),
        "density": (axes, np.exp(-quasi.energy), "density", ""),
        "basin": (axes, surface.basins.of_node.reshape(quasi.energy.shape), "basin", ""),
        "position": (("minimum", "dimension"), quasi.grid.centres[minima], "position of the minimum", ""),
        "depth": ("minimum", temperature * (surface.energy[minima] - lowest), "energy of the minimum", units),
        "barrier": (between, temperature * surface.barriers, "barrier on the lowest way", units),
        "barrier_error": (
            between,
            temperature * np.where(surface.unseen_ways, np.nan, _barrier_errors(surface)),
            "standard error of the barrier",
            units,
        ),
        "is_bound": (between, surface.unseen_ways, "whether the barrier is at least this high", ""),
        "pass_position": ((*between, "dimension"), ways, "highest point of the lowest way", ""),
        "occupancy": ("minimum", _occupancy(basin, len(minima)), "share of the time", "1"),
        **_times(surface, trials, dt, diffusion),
        "diffusion": (("dimension", "along"), diffusion.matrix, "diffusion coefficient", "per unit of time"),
        "direction": (("dimension", "unit"), plane.directions.T, "direction of the coordinate", ""),
        "centre": ("unit", plane.centre, "state at the origin", ""),
    }
    coordinates = {
        axis: (axis, values, {"long_name": name})
        for axis, values, name in zip(axes, quasi.grid.axes, plane.names, strict=True)
    }
    return xr.Dataset(
        {
            name: (dimensions, values, {"long_name": long_name, **({"units": unit} if unit else {})})
            for name, (dimensions, values, long_name, unit) in data.items()
        },
        {**coordinates, "dimension": list(axes), "along": list(axes)},
    )


def _barrier_errors(surface: Surface) -> Floats:
    errors = np.zeros(surface.ways.shape)
    for a, b in zip(*np.nonzero(surface.ways >= 0), strict=True):
        cells = int(surface.basins.minima[a]), int(surface.ways[a, b])
        errors[a, b] = difference_error(surface.energy, surface.without, *cells)
    return errors


def _occupancy(basin: Whole, n_minima: int) -> Floats:
    counts = np.bincount(basin[basin >= 0], minlength=n_minima)
    return counts / counts.sum()


def _times(surface: Surface, trials: Sequence[Floats], dt: float, diffusion: Diffusion) -> dict[str, Any]:
    n_minima, between = len(surface.basins.minima), ("minimum", "to")
    known = diffusion.caution is None
    unknown = np.where(np.eye(n_minima), 0.0, np.nan)
    predicted, errors = _predicted(surface, diffusion) if known else (unknown, unknown)
    formula = _by_kramers(surface, diffusion) if known else unknown
    seen = _observed(surface, trials, dt)
    return {
        "passage_time": (between, predicted, "mean passage time, from the landscape", "time"),
        "passage_error": (between, errors, "its standard error", "time"),
        "observed_time": (
            between,
            np.array([[one.mean for one in row] for row in seen]),
            "mean passage time, seen",
            "time",
        ),
        "observed_error": (
            between,
            np.array([[one.error for one in row] for row in seen]),
            "its standard error",
            "time",
        ),
        "n_passages": (between, np.array([[one.n for one in row] for row in seen]), "passages seen", "1"),
        "kramers_time": (between, formula, "mean passage time by Kramers' formula", "time"),
        "dwell_time": ("minimum", _dwell(surface, trials, dt), "mean stay, until the core of another basin", "time"),
    }


def _predicted(surface: Surface, diffusion: Diffusion) -> tuple[Floats, Floats]:
    """Return passage times from the landscape and, in one dimension, their errors over blocks."""
    grid, minima = surface.quasi.grid, surface.basins.minima
    if len(grid.shape) > 1:
        times = passage_times_on_grid(surface.quasi.energy, grid, surface.cores, np.diag(diffusion.matrix))
        return times, np.where(np.eye(len(minima)), 0.0, np.nan)
    step, spread = float(grid.step[0]), float(diffusion.matrix[0, 0])

    def between(energy: Floats) -> Floats:
        return np.array([[passage_time(energy, step, int(a), int(b), spread) for b in minima] for a in minima])

    if len(minima) == 1:
        return np.zeros((1, 1)), np.zeros((1, 1))
    energies = surface.quasi.without.reshape(len(surface.without), -1)
    times = between(surface.quasi.energy.ravel())
    return np.where(np.isfinite(times), times, np.nan), jackknife_error(np.array([between(one) for one in energies]))


def _by_kramers(surface: Surface, diffusion: Diffusion) -> Floats:
    """Return times by Kramers' formula between minima whose basins touch at the highest point of the lowest way."""
    grid, energy, minima = surface.quasi.grid, surface.quasi.energy, surface.basins.minima
    times = np.where(np.eye(len(minima)), 0.0, np.nan)
    direct = (surface.basins.passes == surface.ways) & (surface.ways >= 0) & ~surface.unseen_ways
    for a, b in zip(*np.nonzero(direct), strict=True):
        start, top = int(minima[a]), int(surface.ways[a, b])
        # as far as half of the way: a polynomial of fourth degree follows most wells and passes that far
        scale = np.sqrt(np.diag(diffusion.matrix))
        reach = 0.5 * float(np.linalg.norm((grid.centres[start] - grid.centres[top]) / scale)) * scale
        curved = [curvature_at(energy, grid, cell, reach) for cell in (start, top)]
        if np.isfinite(curved).all():
            times[a, b] = kramers_time(curved[0], curved[1], float(surface.barriers[a, b]), diffusion.matrix)
    return times


def _observed(surface: Surface, trials: Sequence[Floats], dt: float) -> list[list[Observed]]:
    """Return how long passages took that were seen: in one dimension from point to point, else from core to core."""
    n_minima = len(surface.basins.minima)
    centres, place = surface.quasi.grid.centres[surface.basins.minima], _core_of(surface, trials)

    def times(a: int, b: int) -> Observed:
        if a == b:
            return Observed(0.0, 0.0, 0)
        if centres.shape[1] > 1:
            return observed_passage([np.select([one == a, one == b], [0, 1], -1) for one in place], dt)
        sign = np.sign(centres[b] - centres[a])
        at = [(sign * (trial - centres[a]) <= 0, sign * (trial - centres[b]) >= 0) for trial in trials]
        return observed_passage([np.select([start[:, 0], end[:, 0]], [0, 1], -1) for start, end in at], dt)

    return [[times(a, b) for b in range(n_minima)] for a in range(n_minima)]


def _core_of(surface: Surface, trials: Sequence[Floats]) -> list[Whole]:
    """Return the core that each state is in, -1 between cores."""
    core = np.full(surface.energy.size, -1, dtype=np.intp)
    for one, cells in enumerate(surface.cores):
        core[cells] = one
    return [core[surface.quasi.grid.cells(trial)] for trial in trials]


def _dwell(surface: Surface, trials: Sequence[Floats], dt: float) -> Floats:
    """Return the mean time from entering the core of a basin to entering another one."""
    return np.array(
        [
            observed_passage(
                [np.select([one == index, one >= 0], [0, 1], -1) for one in _core_of(surface, trials)], dt
            ).mean
            for index in range(len(surface.basins.minima))
        ]
    )
