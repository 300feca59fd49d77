"""Manifold capacity by simulation: how many random dimensions it takes until random labels can be separated."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.neuro.geometry.capacity.cones import separator
from neuros_mechint.neuro.geometry.capacity.manifolds import Manifolds, manifolds
from neuros_mechint.neuro.geometry.capacity.results import SimulatedCapacity

_FEWEST_DICHOTOMIES = 20
_FEW_MANIFOLDS = 20
_AROUND = (-1.5, -0.75, 0.0, 0.75, 1.5)
_STEPS = 20


def simulated_capacity(
    X: Any,
    labels: Sequence[Any] | None = None,
    n_dichotomies: int = 100,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> SimulatedCapacity:
    """Return how many manifolds per dimension a linear readout can tell apart, by trying.

    The manifolds are projected on random dimensions, and each is given one of two classes at random. The capacity is
    the number of manifolds divided by the number of dimensions at which half of these dichotomies can be separated by a
    hyperplane through the mean of the centres, without any point on the wrong side.

    Parameters
    ----------
    X, labels
        See `manifold_capacity`.
    n_dichotomies : int
        For each number of dimensions that is tried, at least 20.
    level : float
        Coverage of the interval: that of the fitted crossing, for these manifolds.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    SimulatedCapacity
        With ``.capacity``, ``.interval`` and the fraction that was separable for each number of dimensions.

    Raises
    ------
    InputError
        What `manifold_capacity` refuses; or fewer than half of the dichotomies are separable with all dimensions.

    References
    ----------
    Cover 1965, Geometrical and Statistical Properties of Systems of Linear Inequalities, doi:10.1109/PGEC.1965.264137;
    Cohen et al. 2020, doi:10.1038/s41467-020-14578-5

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(80, 1, 100))
    >>> 1.8 < simulated_capacity(points).capacity < 2.2  # Cover: 2
    True
    """
    level, random = coverage(level), generator(seed)
    n_dichotomies = whole("n_dichotomies", n_dichotomies, _FEWEST_DICHOTOMIES)
    given = manifolds(X, labels)
    tried = _search(given, n_dichotomies, random)
    at, width = _crossing(tried)
    for shift in progress_bar(_AROUND, description="dimensions", enabled=progress):
        n_dimensions = int(np.clip(round(at + shift * width), 1, given.points[0].shape[1]))
        _try(given, n_dimensions, n_dichotomies, tried, random)
    at, width, error = _fitted(tried)
    cautions = _cautions(len(given.points))
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    return SimulatedCapacity(
        _dataset(tried, len(given.points), at, error, level),
        "Manifold capacity (simulated)",
        attributes={
            "level": level,
            "n_manifolds": len(given.points),
            "n_units": given.points[0].shape[1],
            "dimensions_at_half": at,
            "width": width,
        },
        provenance=Provenance.record(
            seed, arguments={"X": X, "labels": labels, "n_dichotomies": n_dichotomies, "level": level}
        ),
        citations=("cover1965", "cohen2020"),
        warnings=cautions,
    )


def separable_fraction(
    given: Manifolds, n_dimensions: int, n_dichotomies: int, random: np.random.Generator
) -> tuple[int, int]:
    """Return how many of how many random dichotomies are separable after projection on random dimensions.

    Parameters
    ----------
    given : Manifolds
    n_dimensions : int
        All, without projection, where the manifolds have no more.
    n_dichotomies : int
    random : numpy.random.Generator

    Returns
    -------
    separable, tried : int

    Examples
    --------
    >>> few = manifolds(np.random.default_rng(0).normal(size=(5, 1, 20)))
    >>> separable_fraction(few, 10, 8, np.random.default_rng(1))
    (8, 8)
    """
    joined = np.concatenate(given.points)
    owner = np.repeat(np.arange(len(given.points)), [len(each) for each in given.points])
    n_units, separable = joined.shape[1], 0
    for _ in range(n_dichotomies):
        signs = _dichotomy(len(given.points), random)
        shown = joined if n_dimensions >= n_units else joined @ random.normal(size=(n_units, n_dimensions))
        separable += separator(shown * signs[owner, None]) is not None
    return separable, n_dichotomies


def _dichotomy(n_manifolds: int, random: np.random.Generator) -> Floats:
    """Return random classes of which neither is empty: around the mean of all centres, one class alone has no side."""
    while True:
        signs = random.choice([-1.0, 1.0], size=n_manifolds)
        if abs(signs.sum()) < n_manifolds:
            return signs


def _try(
    given: Manifolds,
    n_dimensions: int,
    n_dichotomies: int,
    tried: dict[int, tuple[int, int]],
    random: np.random.Generator,
) -> float:
    separable, count = separable_fraction(given, n_dimensions, n_dichotomies, random)
    before = tried.get(n_dimensions, (0, 0))
    tried[n_dimensions] = before[0] + separable, before[1] + count
    return separable / count


def _search(given: Manifolds, n_dichotomies: int, random: np.random.Generator) -> dict[int, tuple[int, int]]:
    """Halve the range of dimensions, with few dichotomies each, until it is narrow."""
    tried: dict[int, tuple[int, int]] = {}
    few = max(_FEWEST_DICHOTOMIES, n_dichotomies // 5)
    most = min(given.points[0].shape[1], sum(len(each) for each in given.points))
    if _try(given, most, few, tried, random) < 0.5:
        raise InputError(
            "these manifolds are not separable in half of the cases, even with all dimensions",
            expected="fewer manifolds, or smaller ones",
            got=f"{tried[most][0]} of {few} dichotomies of {len(given.points)} manifolds in {most} dimensions",
            fix="pass fewer manifolds: their capacity is below their number by that of dimensions",
        )
    low, high = 1, most
    while high - low > max(1, 0.02 * most):
        middle = (low + high) // 2
        if _try(given, middle, few, tried, random) < 0.5:
            low = middle
        else:
            high = middle
    return tried


def _crossing(tried: dict[int, tuple[int, int]]) -> tuple[float, float]:
    at, width, _ = _fitted(tried)
    return at, max(width, 1.0)


def _fitted(tried: dict[int, tuple[int, int]]) -> tuple[float, float, float]:
    """Return where a cumulative normal through the fractions is one half, its width, and the error of the former."""
    from scipy.stats import norm

    sizes = np.array(sorted(tried), dtype=float)
    separable, count = np.array([tried[int(size)] for size in sizes], dtype=float).T
    # maximum likelihood by scoring, from half a separable and half an inseparable dichotomy more than there were
    share = (separable + 0.5) / (count + 1)
    half = float(np.interp(0.5, np.maximum.accumulate(share), sizes))
    scale = max(half**0.5, 0.5)
    intercept, slope = 0.0, 1.0
    x = (sizes - half) / scale
    information = np.eye(2)
    for _ in range(_STEPS):
        z = np.clip(intercept + slope * x, -6, 6)
        p, density = norm.cdf(z), norm.pdf(z)
        weight = count * density**2 / (p * (1 - p))
        # a weak prior for the slope: fractions of 0 and 1 alone would leave it without bound
        information = np.array([[weight.sum(), weight @ x], [weight @ x, weight @ x**2 + 0.1]])
        score = count * (separable / count - p) * density / (p * (1 - p))
        step = np.linalg.solve(information, [score.sum(), score @ x - 0.1 * (slope - 1)])
        intercept, slope = intercept + step[0], max(slope + step[1], 0.05)
    at, covariance = -intercept / slope, np.linalg.inv(information)
    gradient = np.array([-1 / slope, intercept / slope**2])
    error = float(gradient @ covariance @ gradient) ** 0.5 * scale
    return half + at * scale, scale / slope, error


def _cautions(n_manifolds: int) -> tuple[str, ...]:
    if n_manifolds >= _FEW_MANIFOLDS:
        return ()
    return (
        f"{n_manifolds} manifolds are few: the number of dimensions is a whole one, and the capacity a coarse step",
    )


def _dataset(tried: dict[int, tuple[int, int]], n_manifolds: int, at: float, error: float, level: float) -> xr.Dataset:
    from scipy.stats import norm

    reach = float(norm.ppf((1 + level) / 2)) * error
    sizes = sorted(tried)
    unit = {"units": "manifolds per dimension"}
    return xr.Dataset(
        {
            "capacity": ((), n_manifolds / at, {"long_name": "capacity", **unit}),
            "low": ((), n_manifolds / (at + reach), unit),
            "high": ((), n_manifolds / max(at - reach, 0.5), unit),
            "separable": (
                "dimensions",
                [tried[size][0] / tried[size][1] for size in sizes],
                {"long_name": "share separable"},
            ),
            "n_tried": ("dimensions", [tried[size][1] for size in sizes], {"long_name": "dichotomies"}),
        },
        coords={"dimensions": ("dimensions", sizes, {"long_name": "dimensions"})},
    )
