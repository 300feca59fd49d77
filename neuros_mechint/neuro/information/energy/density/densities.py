"""-log p on a grid from samples: by a histogram, and by kernels whose width held-out stretches choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.numbers import real_array
from neuros_mechint.neuro.information.energy.density.blocks import Blocks
from neuros_mechint.neuro.information.energy.density.grids import CELLS, Grid, counts_of_blocks, grid_around

_WIDTHS = tuple(float(width) for width in np.geomspace(0.01, 0.64, 13))
_BINS = {1: (16, 24, 32, 48, 64, 96, 128), 2: (6, 8, 12, 16, 24, 32, 48)}
_FOLDS = 5
_BEYOND = 0.1
_SPARED = 1e-3
_FEWEST_CELLS_PER_WIDTH = 1.5
_FEWEST_CELLS_OF_HALF = 4
_CONSTANT, _COMING_TO_REST = 1e-12, 0.1
_REPEATING = 0.2
ON_A_LINE = 1e-10
"""Of the variance along a line, what lies across it by rounding alone."""
_WIDEST_STEP, _WIDEST_STEP_OF_BINS = 2.0, 0.2  # of a bandwidth: ripples of 1%; of a bin: of 20%


class Quasipotential(NamedTuple):
    """-log p on a grid, and what it would be without each block."""

    grid: Grid
    energy: Floats
    """In kT, ``shape``; infinite where no sample is near. Not shifted: exp(-energy) is the density."""
    without: Floats
    """The same without each block of samples, ``(n_blocks, *shape)``."""
    smoothing: Floats
    """What the method was given or chose, as told by ``smoothing_name``."""
    smoothing_name: str
    resolved: float
    """Volume of what can be told apart: a cell, a kernel, or a part of the whole for each coefficient."""

    @property
    def n_resolved(self) -> float:
        """How many places can be told apart."""
        return max(2.0, float(np.isfinite(self.energy).sum()) * self.grid.volume / self.resolved)


def kernel_quasipotential(samples: Floats, blocks: Blocks, bandwidth: Floats | None) -> Quasipotential:
    r"""Return -log p by Gaussian kernels, corrected for what they smooth away.

    Two widths are combined, :math:`p_h^{4/3} p_{2h}^{-1/3}`, which leaves an error of order :math:`h^4` and not
    :math:`h^2`: plain kernels fill wells and lower barriers.

    Parameters
    ----------
    samples : numpy.ndarray of shape (n_samples, n_dimensions)
    blocks : Blocks
    bandwidth : numpy.ndarray of shape (n_dimensions,), optional
        Standard deviation of the kernel. By default that share of the standard deviation of the samples under which
        held-out stretches are most likely.

    References
    ----------
    Terrell and Scott 1980, On improving convergence rates for nonnegative kernel density estimators,
    doi:10.1214/aos/1176345153

    Examples
    --------
    >>> from neuros_mechint.neuro.information.energy.density.blocks import make_blocks
    >>> samples = np.random.default_rng(0).normal(size=(20_000, 1))
    >>> found = kernel_quasipotential(samples, make_blocks([samples]), None)
    >>> centre, one_off = (found.energy[found.grid.cells(np.array([[place]]))][0] for place in (0.0, 1.0))
    >>> bool(abs(one_off - centre - 0.5) < 0.1)
    True
    """
    grid = grid_around(samples, CELLS[samples.shape[1]], _BEYOND)
    counts = counts_of_blocks(samples, blocks.of_sample, blocks.n_blocks, grid, shared=True)
    bandwidth = _likeliest_bandwidth(counts, grid, samples.std(0)) if bandwidth is None else bandwidth
    near = kernel_density(counts.sum(0), grid, bandwidth) * grid.volume * counts.sum() > _SPARED
    visited = near_samples(counts.sum(0), np.ceil(bandwidth / grid.step).astype(int)) & near
    total, parts = counts.sum(0), counts
    energy = np.where(visited, _kernel(total, grid, bandwidth), np.inf)
    without = np.array([np.where(visited, _kernel(total - part, grid, bandwidth), np.inf) for part in parts])
    # a kernel sums up as many samples, with equal weights, as this volume holds
    resolved = float(np.prod(2 * np.pi**0.5 * bandwidth))
    return Quasipotential(grid, energy, without, bandwidth, "bandwidth", resolved)


def check_bandwidth(bandwidth: Any, samples: Floats) -> Floats:
    """Return one bandwidth for each dimension.

    Raises
    ------
    OptionError
        No such, or kernels narrower than a cell of the grid or wider than all samples.

    Examples
    --------
    >>> check_bandwidth(0.1, np.array([[0.0, 0.0], [1.0, 2.0]])).tolist()
    [0.1, 0.1]
    """
    n_dimensions, extent = samples.shape[1], np.ptp(samples, axis=0)
    found = real_array(bandwidth, "bandwidth")
    if found.shape not in ((), (1,), (n_dimensions,)):
        raise OptionError("bandwidth does not fit", expected=f"a number, or {n_dimensions}", got=f"shape {found.shape}")
    found = np.broadcast_to(found, (n_dimensions,))
    least = (1 + 2 * _BEYOND) * extent / (CELLS[n_dimensions] - 1)
    if (found < least).any() or (found > extent).any():
        raise OptionError(
            "bandwidth is out of range",
            expected=" and ".join(f"{low:.3g} to {high:.3g}" for low, high in zip(least, extent, strict=True))
            + ", from a cell of the grid to the range of the samples",
            got=found.tolist(),
        )
    return found


def _likeliest_bandwidth(counts: Floats, grid: Grid, spread: Floats) -> Floats:
    # kernels narrower than cells would be no kernels
    least = float((_FEWEST_CELLS_PER_WIDTH * grid.step / spread).max())
    widths = [width for width in _WIDTHS if width > least] or [least]
    scores = [
        _held_out(counts, grid, lambda part, width=width: _kernel(part, grid, width * spread)) for width in widths
    ]
    return widths[int(np.argmax(scores))] * spread


def kernel_density(counts: Floats, grid: Grid, bandwidth: Floats) -> Floats:
    """Return the density of Gaussian kernels on a grid, by Fourier transform.

    Parameters
    ----------
    counts : numpy.ndarray of shape (*shape)
    grid : Grid
    bandwidth : numpy.ndarray of shape (n_dimensions,)

    Returns
    -------
    numpy.ndarray of shape (*shape)

    Examples
    --------
    >>> grid = grid_around(np.array([[-4.0], [4.0]]), 401, 0.0)
    >>> counts = np.zeros(401)
    >>> counts[200] = 1
    >>> bool(abs(kernel_density(counts, grid, np.array([1.0]))[200] - (2 * np.pi) ** -0.5) < 1e-9)
    True
    """
    from scipy.fft import irfftn, next_fast_len, rfftn

    # enough zeros that what leaves at one edge does not come back at the other
    sizes = [
        int(next_fast_len(n + int(np.ceil(8 * h / step)), real=True) or n)
        for n, h, step in zip(grid.shape, bandwidth, grid.step, strict=True)
    ]
    spectrum = np.asarray(rfftn(counts, sizes))
    for axis, (size, h, step) in enumerate(zip(sizes, bandwidth, grid.step, strict=True)):
        last = axis == len(sizes) - 1
        frequency = 2 * np.pi * (np.fft.rfftfreq(size, step) if last else np.fft.fftfreq(size, step))
        across = [1] * len(sizes)
        across[axis] = -1
        spectrum = spectrum * np.exp(-0.5 * (h * frequency) ** 2).reshape(across)
    smooth = np.asarray(irfftn(spectrum, sizes))[tuple(slice(n) for n in grid.shape)]
    return np.maximum(smooth, 0) / (counts.sum() * grid.volume)


def _kernel(counts: Floats, grid: Grid, bandwidth: Floats) -> Floats:
    tiny = _SPARED / (counts.sum() * grid.volume) * 1e-3  # rounding of the transform would have no logarithm
    near, far = (-np.log(kernel_density(counts, grid, factor * bandwidth) + tiny) for factor in (1, 2))
    energy = (4 * near - far) / 3
    return energy + np.log(np.exp(-energy).sum() * grid.volume)


def histogram_quasipotential(samples: Floats, blocks: Blocks, n_bins: int | None) -> Quasipotential:
    """Return -log p by a histogram; bins without samples have none.

    Parameters
    ----------
    samples : numpy.ndarray of shape (n_samples, n_dimensions)
    blocks : Blocks
    n_bins : int, optional
        Along each side; by default so many that held-out stretches are most likely.

    Examples
    --------
    >>> from neuros_mechint.neuro.information.energy.density.blocks import make_blocks
    >>> samples = np.random.default_rng(0).normal(size=(20_000, 1))
    >>> found = histogram_quasipotential(samples, make_blocks([samples]), 33)
    >>> found.energy.shape, bool(abs(np.exp(-found.energy).sum() * found.grid.volume - 1) < 1e-9)
    ((33,), True)
    """

    def counted(n: int) -> tuple[Grid, Floats]:
        low, width = samples.min(0), (samples.max(0) - samples.min(0)) / n
        grid = Grid(low + width / 2, width, (n,) * samples.shape[1])
        return grid, counts_of_blocks(samples, blocks.of_sample, blocks.n_blocks, grid, shared=False)

    if n_bins is None:
        tried = {n: counted(n) for n in _BINS[samples.shape[1]]}
        n_bins = max(
            tried, key=lambda n: _held_out(tried[n][1], tried[n][0], lambda part: _histogram(part, tried[n][0]))
        )
    grid, counts = counted(n_bins)
    total = counts.sum(0)
    without = np.array([_histogram(total - part, grid) for part in counts])
    return Quasipotential(grid, _histogram(total, grid), without, np.array([float(n_bins)]), "bins", grid.volume)


def _histogram(counts: Floats, grid: Grid) -> Floats:
    with np.errstate(divide="ignore"):
        return -np.log(counts / (counts.sum() * grid.volume))


def _held_out(counts: Floats, grid: Grid, fit: Callable[[Floats], Floats]) -> float:
    """Return the mean log likelihood of every fifth stretch under the energy of all others."""
    folds = [counts[fold::_FOLDS].sum(0) for fold in range(_FOLDS)]
    total, score = counts.sum(0), 0.0
    for held in folds:
        density = np.exp(-fit(total - held))
        # a little of a flat density: one sample far out must not decide
        floor = _SPARED / (density.size * grid.volume)
        score += float((held * np.log((1 - _SPARED) * density + floor)).sum())
    return score / total.sum()


def refuse_binary(trials: Sequence[Floats], method: str) -> None:
    """Raise `InputError` where states take two values only.

    Examples
    --------
    >>> refuse_binary([np.array([[0.0], [0.5], [1.0]])], "density")
    """
    low, high = min(map(np.min, trials)), max(map(np.max, trials))
    if low < high and all(((one == low) | (one == high)).all() for one in trials):
        raise InputError(
            "these states take two values only",
            expected=f"continuous states for method={method!r}",
            fix="EnergyLandscape(method='ising') for units that are on or off",
        )


def refuse_rounded(samples: Floats, quasi: Quasipotential) -> None:
    """Raise `InputError` where values come in steps so wide against the smoothing that each would be a minimum.

    Examples
    --------
    >>> from neuros_mechint.neuro.information.energy.density.blocks import make_blocks
    >>> samples = np.random.default_rng(0).normal(size=(2000, 1))
    >>> refuse_rounded(samples, kernel_quasipotential(samples, make_blocks([samples]), None))
    """
    kernels = quasi.smoothing_name == "bandwidth"
    widths = _WIDEST_STEP * quasi.smoothing if kernels else _WIDEST_STEP_OF_BINS * quasi.grid.step
    for dimension, width in enumerate(widths):
        values = np.unique(samples[:, dimension])
        step = float(np.median(np.diff(values)))
        if len(values) < _REPEATING * len(samples) and step > width:
            raise InputError(
                "values come in steps, each of which the landscape would show as a minimum",
                expected=f"steps of at most {width:.3g}, against the {quasi.smoothing_name} that was given or chosen",
                got=f"{len(values)} values in steps of {step:.3g} in dimension {dimension}",
                fix="add the noise of rounding, x + rng.uniform(-step / 2, step / 2, x.shape), or smooth wider; of "
                "categories see entropy_production",
            )


def near_samples(counts: Floats, reach: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Return which cells have a sample within reach.

    Examples
    --------
    >>> near_samples(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), np.array([1])).tolist()
    [False, True, True, True, False]
    """
    from scipy.ndimage import maximum_filter

    return maximum_filter(counts, size=tuple(2 * reach + 1), mode="constant") > 0


def refuse_still(trials: Sequence[Floats]) -> None:
    """Raise `InputError` where states are all the same, or stay in each trial where they began.

    Examples
    --------
    >>> refuse_still([np.array([[0.0], [0.4]]), np.array([[1.0], [1.0]])])
    """
    samples = np.concatenate(trials)
    least = _CONSTANT * np.abs(samples).max(0)
    if (np.ptp(samples, axis=0) <= least).all():
        raise InputError(
            "a constant has no landscape", expected="states that differ", got=f"{len(samples):,} samples of one state"
        )
    if all((np.ptp(trial, axis=0) <= least).all() for trial in trials):
        raise InputError(
            "no trajectory moves: where states are says only where they were put",
            expected="trajectories that move",
            got=f"{len(trials)} trials, each of one state",
        )


def check_spread(trials: Sequence[Floats]) -> None:
    """Raise `InputError` where a dimension does not vary, or so far that a grid over it does not show where most are.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, n_dimensions)

    Examples
    --------
    >>> check_spread([np.array([[0.0], [0.4], [0.7], [1.0]])])
    """
    samples = np.concatenate(trials)
    constant = np.ptp(samples, axis=0) <= _CONSTANT * np.abs(samples).max(0)
    if constant.any():
        raise InputError(
            "a constant has no landscape",
            expected="dimensions that vary",
            got=f"{int(constant.sum())} of {samples.shape[1]} constant, the first is {int(constant.argmax())}",
            fix="leave it out",
        )
    if samples.shape[1] > 1 and np.linalg.eigvalsh(np.corrcoef(samples.T))[0] < ON_A_LINE:
        raise InputError(
            "both dimensions tell the same: states lie on a line, which has no landscape in a plane",
            expected="dimensions that vary independently",
            got=f"correlation {np.corrcoef(samples.T)[0, 1]:.6g}",
            fix="leave one out, or pass a projection of shape (n_units, 1)",
        )
    low, high = np.quantile(samples, [0.25, 0.75], axis=0)
    cells = (high - low) / np.ptp(samples, axis=0) * CELLS[samples.shape[1]]
    worst = int(cells.argmin())
    if cells[worst] < _FEWEST_CELLS_OF_HALF:
        _refuse_rest(trials)
        raise InputError(
            "a few samples lie so far out that the landscape of all others is lost",
            expected=f"half of the samples on at least {_FEWEST_CELLS_OF_HALF} of {CELLS[samples.shape[1]]} cells",
            got=f"{cells.min():.2g} cells in dimension {worst}, from {samples[:, worst].min():.3g} "
            f"to {samples[:, worst].max():.3g}",
            fix="drop what are outliers, by a rule that you state, or transform x, such as np.arctan(x / scale)",
        )


def _refuse_rest(trials: Sequence[Floats]) -> None:
    """Raise `InputError` where most samples are alike because trajectories come to rest, and none is an outlier."""
    extent = np.ptp(np.concatenate(trials), axis=0)
    way = [np.linalg.norm((trial - trial[-1]) / extent, axis=1) for trial in trials]
    early, late = (
        float(np.median(np.concatenate([one[part * len(one) // 4 : (part + 1) * len(one) // 4] for one in way])))
        for part in (1, 3)
    )
    if late > _COMING_TO_REST * early:
        return
    ends = np.ptp([trial[-1] for trial in trials], axis=0) / extent
    in_one = (ends * CELLS[len(extent)] < _FEWEST_CELLS_OF_HALF).all()
    raise InputError(
        "all trajectories end in one point: their density is that point, which has no landscape"
        if in_one
        else "trajectories come to rest: their density is the points where they end, which have no landscape",
        expected="trajectories that go on moving",
        got=f"states that are {early:.1g} of the whole range from where their trajectory ends in its second quarter, "
        f"and {late:.1g} in its last",
        fix="FixedPointFinder finds such points; a landscape is of trajectories that noise or inputs keep moving",
    )
