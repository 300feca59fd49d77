"""The correlation dimension: how the number of pairs of points grows with their distance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.geometry.local import Scale
from neuros_mechint.neuro.geometry.neighbours import pairwise
from neuros_mechint.neuro.geometry.points import Points
from neuros_mechint.neuro.geometry.uncertainty import Estimate, with_error

PAIRS = 0.01
"""Share of all pairs that the dimension is found from: the nearest ones."""
_LARGEST_SHARE = 0.3
_FEWEST_PAIRS = 100
_N_SCALES = 12
_MOST_CENTRES = 2000
_NUMBERS_AT_ONCE = 4_000_000
_CENTRES_FOR_RADII = 300
_SAME = 1e-9


def correlation_dimension(
    data: Points, random: np.random.Generator, progress: bool = False
) -> tuple[Estimate, list[Scale]]:
    r"""Return the correlation dimension of distinct points, and how it changes with the radius.

    The share of pairs nearer than :math:`r` grows as :math:`C(r) \propto r^d`. Its exponent at a radius is Takens's
    estimator, the maximum likelihood of all distances below it,

    .. math:: d = \left\langle \log (r / r_{ij}) \right\rangle_{r_{ij} < r}^{-1} .

    Parameters
    ----------
    data : Points
        Pairs within ``data.window`` samples of one trial are left out (Theiler's correction).
    random : numpy.random.Generator
        Draws 2,000 points, whose pairs with all others are looked at, where there are more.
    progress : bool

    Returns
    -------
    estimate : Estimate
        At the radius below which 1% of the pairs lie.
    scales : list of Scale
        From as few pairs as can be counted on to 30% of them.

    Raises
    ------
    InputError
        No pairs are left outside the window.

    References
    ----------
    Grassberger and Procaccia 1983, Measuring the strangeness of strange attractors,
    doi:10.1016/0167-2789(83)90298-1; Takens 1985, On the numerical determination of the dimension of an attractor,
    doi:10.1007/BFb0075637; Theiler 1986, Spurious dimension from correlation algorithms applied to limited
    time-series data, doi:10.1103/PhysRevA.34.2427

    Examples
    --------
    >>> line = Points(np.random.default_rng(0).random((500, 1)), 1.0)
    >>> round(correlation_dimension(line, np.random.default_rng(1))[0].value)
    1
    """
    n_points = len(data.values)
    centres = np.sort(random.permutation(n_points)[:_MOST_CENTRES])
    shares = _shares(min(len(centres), _CENTRES_FOR_RADII) * n_points)
    radii: Floats = np.quantile(_some_distances(data, random), shares).astype(np.float64)
    # distances may be tied on a grid: every radius counts once
    radii, first = np.unique(radii, return_index=True)
    shares = shares[first]
    counts, logs = _below(data, centres, radii, progress)
    values = [_takens(counts[:, at], logs[:, at], centres, data) for at in range(len(radii))]
    chosen = int(np.argmin(np.abs(shares - PAIRS)))
    scales = [
        Scale(float(radius), float(share), one.value, one.error)
        for radius, share, one in zip(radii, shares, values, strict=True)
    ]
    return values[chosen], scales


def _shares(n_pairs: int) -> Floats:
    """Return shares of pairs, of which one is `PAIRS`."""
    smallest = min(_FEWEST_PAIRS / n_pairs, PAIRS)
    below = np.geomspace(smallest, PAIRS, _N_SCALES // 2) if smallest < PAIRS else np.array([PAIRS])
    return np.unique(np.concatenate([below, np.geomspace(PAIRS, _LARGEST_SHARE, _N_SCALES // 2)[1:]]))


def _some_distances(data: Points, random: np.random.Generator) -> Floats:
    """Return the distances of a few points to all others, to choose radii by."""
    centres = random.permutation(len(data.values))[:_CENTRES_FOR_RADII]
    distances, kept = _distances(data, centres)
    if not kept.any():
        raise InputError(
            "no points are far enough apart in time to be neighbours",
            expected=f"trajectories longer than the window of {data.window} samples",
            got=f"{len(data.values)} points",
            fix="pass longer trajectories or a smaller theiler",
        )
    return distances[kept]


def _distances(data: Points, centres: npt.NDArray[np.intp]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the distances of some points to all, and which of them count."""
    distances = pairwise(data.values[centres], data.values)
    left_out = centres[:, None] == np.arange(len(data.values))
    if data.trial is not None and data.time is not None:
        near = np.abs(data.time[centres][:, None] - data.time) <= data.window
        left_out = left_out | (near & (data.trial[centres][:, None] == data.trial))
    return distances, ~left_out


def _below(data: Points, centres: npt.NDArray[np.intp], radii: Floats, progress: bool) -> tuple[Floats, Floats]:
    """Return for each point how many others are nearer than each radius, and the sum of the logs of r / distance."""
    at_once = max(1, _NUMBERS_AT_ONCE // len(data.values))
    starts = range(0, len(centres), at_once)
    found = [
        _below_from(data, centres[start : start + at_once], radii)
        for start in progress_bar(starts, description="pairs", enabled=progress)
    ]
    counts, sums = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return counts, counts * np.log(radii) - sums


def _below_from(data: Points, centres: npt.NDArray[np.intp], radii: Floats) -> tuple[Floats, Floats]:
    distances, kept = _distances(data, centres)
    rows, columns = np.nonzero(kept & (distances <= radii[-1]))
    near = distances[rows, columns]
    places = rows * len(radii) + np.searchsorted(radii, near)
    size, shape = len(centres) * len(radii), (len(centres), len(radii))
    counts = np.bincount(places, minlength=size).reshape(shape).astype(np.float64)
    logs = np.bincount(places, np.log(near), minlength=size).reshape(shape)
    return counts.cumsum(1), logs.cumsum(1)


def _takens(counts: Floats, logs: Floats, centres: npt.NDArray[np.intp], data: Points) -> Estimate:
    if logs.sum() <= _SAME * counts.sum():  # all pairs are at one distance, but for rounding
        return Estimate(np.nan)
    value = float(counts.sum() / logs.sum())
    # each pair belongs to two points, of which both are centres where all points are
    share = len(centres) / len(data.values)
    found = with_error(value, (1 + 3 * share) ** 0.5 * (counts - value * logs) / logs.sum(), data.rows(centres))
    # what pairs contribute by chance counts twice in that; log (r / distance) has a variance of 1 / d^2
    chance = counts.sum() / logs.sum() ** 2
    variance = max(found.error**2 - 2 * share * chance, (1 + share) * chance)
    return found._replace(error=float(variance) ** 0.5)
