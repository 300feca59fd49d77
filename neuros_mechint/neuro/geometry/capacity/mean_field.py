"""Manifold capacity by mean-field theory: what a linear readout can tell apart, and what limits it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.geometry.capacity.common_axes import common_axes
from neuros_mechint.neuro.geometry.capacity.cones import anchor, ball_capacity
from neuros_mechint.neuro.geometry.capacity.manifolds import (
    Manifolds,
    generators,
    manifolds,
    shared_axes,
    sizes_of,
    without,
)
from neuros_mechint.neuro.geometry.capacity.results import ManifoldCapacity

_FEWEST_PERMUTATIONS = 19
_FEW_POINTS = 0.9
_MOST_IN_NULL = 50
_COMMON = 0.25  # from there on theory is over 10% too low
_ERRORS = 3.0


class _Geometry(NamedTuple):
    """Over manifolds: 1 / capacity, radius, dimension and the norm of the centre."""

    inverse: Floats
    radius: Floats
    dimension: Floats
    norm: Floats


def manifold_capacity(
    X: Any,
    labels: Sequence[Any] | None = None,
    n_shared: int | None = None,
    n_samples: int = 300,
    n_permutations: int = 19,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> ManifoldCapacity:
    r"""Return how many manifolds per dimension a linear readout can tell apart, by mean-field theory.

    A manifold is all responses to one class, such as an object seen from many sides. With random labels for
    :math:`P` manifolds in :math:`N` dimensions, a hyperplane with all of each manifold on its side exists up to
    about :math:`P = \alpha N`. The capacity :math:`\alpha` is 2 for points and falls with the manifolds' radius and
    dimension.

    Parameters
    ----------
    X : array_like, torch.Tensor, xarray.DataArray or Recording, or a list of arrays
        With labels, ``(n_samples, n_features)``. Without, one array ``(n_points, n_units)`` for each manifold, or
        ``(manifold, point, unit)``.
    labels : sequence of length n_samples, optional
        To which manifold each sample belongs.
    n_shared : int, optional
        How many directions along which centres are correlated are taken out first: the theory is of independent
        centres. By default as many principal axes of the centres as shuffled ones do not have.
    n_samples : int
        Random readouts for each manifold.
    n_permutations : int
        Random regroupings of all points to manifolds, at least 19: the capacity without any class structure.
    level : float
        Coverage of the interval, over manifolds.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    ManifoldCapacity
        With ``.capacity``, ``.interval``, ``.radius``, ``.dimension`` and ``.p`` against regrouped points.

    Raises
    ------
    InputError
        Values that are missing, fewer than two manifolds, manifolds of different units, labels that do not fit, or a
        manifold around the mean of all.

    References
    ----------
    Chung, Lee and Sompolinsky 2018, doi:10.1103/PhysRevX.8.031003; Cohen et al. 2020, Separability and geometry of
    object manifolds in deep neural networks, doi:10.1038/s41467-020-14578-5

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> points = random.normal(size=(50, 1, 100))  # manifolds of one point each
    >>> round(manifold_capacity(points).capacity, 1)
    2.0
    """
    level, random = coverage(level), generator(seed)
    n_samples = whole("n_samples", n_samples, 10)
    n_permutations = whole("n_permutations", n_permutations, _FEWEST_PERMUTATIONS)
    given = manifolds(X, labels)
    axes = shared_axes(given, n_shared, random)
    kept = without(given, axes)
    found = _geometry(kept, n_samples, random, progress)
    drawn = np.array(
        [
            1 / _geometry(_regrouped(given, len(axes), random), min(n_samples, _MOST_IN_NULL), random).inverse.mean()
            for _ in progress_bar(range(n_permutations), description="regrouped points", enabled=progress)
        ]
    )
    capacity = min(1 / float(found.inverse.mean()), 2.0)  # that of points: more is an error of sampling
    halves = _of_half_the_points(kept, n_samples, random)
    cautions = (*_cautions(given, found, capacity, halves), *_of_common_axes(kept))
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    arguments = {"X": X, "labels": labels, "n_shared": n_shared, "n_samples": n_samples}
    arguments |= {"n_permutations": n_permutations, "level": level}
    return ManifoldCapacity(
        _dataset(given, found, capacity, drawn, level),
        "Manifold capacity (mean-field theory)",
        attributes={
            "level": level,
            "n_shared": len(axes),
            "n_units": given.points[0].shape[1],
            "n_samples": n_samples,
            "n_permutations": n_permutations,
            "capacity_of_half_the_points": halves,
        },
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("chung2018", "cohen2020", "amelunxen2014"),
        warnings=cautions,
    )


def _regrouped(given: Manifolds, n_shared: int, random: np.random.Generator) -> Manifolds:
    dealt = given.regrouped(random)
    return without(dealt, shared_axes(dealt, n_shared, random))


def _geometry(found: Manifolds, n_samples: int, random: np.random.Generator, progress: bool = False) -> _Geometry:
    """Return capacity, radius and dimension of each manifold by itself."""
    bar = progress_bar(found.points, description="manifolds", enabled=progress)
    return _Geometry(*np.array([_of_one(points, n_samples, random) for points in bar]).T)


def _of_one(points: Floats, n_samples: int, random: np.random.Generator) -> tuple[float, float, float, float]:
    cone, norm = generators(points)
    half = random.normal(size=(-(-n_samples // 2), len(cone)))
    directions = np.concatenate([half, -half])  # of opposite readouts, one is moved far and the other little
    moves, anchors = zip(*(anchor(cone, direction) for direction in directions), strict=True)
    touched = np.array(anchors)
    lengths = np.linalg.norm(touched, axis=1)
    along = np.divide((directions[:, :-1] * touched).sum(1), lengths, out=np.zeros(len(lengths)), where=lengths > 0)
    return float(np.mean(moves)), float(np.sqrt((lengths**2).mean())), float((along**2).mean()), norm


def _of_half_the_points(found: Manifolds, n_samples: int, random: np.random.Generator) -> float | None:
    """Return the capacity of half the points around the same centres; None where a manifold has too few."""
    if sizes_of(found).min() < 4:
        return None
    inverse = []
    for points in found.points:
        cone = generators(points)[0]
        kept = random.permutation(cone.shape[1])[: cone.shape[1] // 2]
        directions = random.normal(size=(min(n_samples, _MOST_IN_NULL), len(cone)))
        inverse.append(np.mean([anchor(cone[:, kept], direction)[0] for direction in directions]))
    return 1 / float(np.mean(inverse))


def _cautions(given: Manifolds, found: _Geometry, capacity: float, halves: float | None) -> tuple[str, ...]:
    cautions = []
    if halves is not None and capacity < _FEW_POINTS * halves:
        cautions.append(
            f"half of the points have a capacity of {halves:.3g}, all of them {capacity:.3g}: more points would lower "
            "it further; compare only sets of manifolds with equally many points"
        )
    tiny = found.norm < 0.1 * np.linalg.norm(given.centres, axis=1)
    if tiny.any():
        cautions.append(
            f"{int(tiny.sum())} centres have lost over 90% of their length with the directions that centres share: "
            "radii are in units of what is left"
        )
    return tuple(cautions)


def _of_common_axes(kept: Manifolds) -> tuple[str, ...]:
    share, n_errors = common_axes(kept)
    if share < _COMMON or n_errors < _ERRORS:
        return ()
    return (
        f"manifolds vary along the same axes (their covariances are {100 * share:.0f}% alike), as by a nuisance or by "
        "noise that units share: theory takes axes for independent, and its capacity is over 10% too low from 25% on, "
        "several times where all axes are shared; use simulated_capacity",
    )


def _dataset(given: Manifolds, found: _Geometry, capacity: float, drawn: Floats, level: float) -> xr.Dataset:
    n_manifolds = len(found.inverse)
    error = float(found.inverse.std(ddof=1)) / n_manifolds**0.5
    reach = t_reach(error, n_manifolds - 1, level)
    radius, dimension = float(found.radius.mean()), float(found.dimension.mean())
    unit = {"units": "manifolds per dimension"}
    return xr.Dataset(
        {
            "capacity": ((), capacity, {"long_name": "capacity", **unit}),
            "low": ((), 1 / (1 / capacity + reach), unit),
            "high": ((), 1 / max(1 / capacity - reach, 0.5), unit),
            "p": ((), p_of_draws(capacity, drawn).item(), {"long_name": "p against regrouped points"}),
            "radius": ((), radius, {"long_name": "radius", "units": "norms of the centre"}),
            "dimension": ((), dimension, {"long_name": "dimension"}),
            "ball_capacity": ((), ball_capacity(radius, dimension), {"long_name": "capacity of such balls", **unit}),
            "regrouped_capacity": ("permutation", drawn, {"long_name": "capacity of regrouped points", **unit}),
            "manifold_capacity": (
                "manifold",
                1 / found.inverse,
                {"long_name": "capacity of manifolds like it", **unit},
            ),
            "manifold_radius": ("manifold", found.radius, {"long_name": "radius", "units": "norms of the centre"}),
            "manifold_dimension": ("manifold", found.dimension, {"long_name": "dimension"}),
            "centre_norm": ("manifold", found.norm, {"long_name": "norm of the centre"}),
            "n_points": ("manifold", sizes_of(given), {"long_name": "points"}),
        },
        coords={"manifold": ("manifold", list(map(str, given.names)))},
    )
