"""The intrinsic dimension of representations and trajectories, by several estimators at several scales."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.neuro.geometry.correlation import correlation_dimension
from neuros_mechint.neuro.geometry.linear import explained_components, participation_ratio, principal_variances
from neuros_mechint.neuro.geometry.local import (
    MOST_NEIGHBORS,
    Scale,
    along_one_stretch,
    decimated,
    likelihood_scales,
    maximum_likelihood,
    tied,
    two_nn,
)
from neuros_mechint.neuro.geometry.neighbours import nearest
from neuros_mechint.neuro.geometry.points import Points, distinct_points, points
from neuros_mechint.neuro.geometry.results import NAMES, IntrinsicDimension
from neuros_mechint.neuro.geometry.uncertainty import Estimate

METHODS = ("two_nn", "mle", "correlation", "participation_ratio", "pca")
LOCAL = METHODS[:3]
_MANY_TIED = 0.05
_OTHER_SCALE = 0.25
_MANY_ERRORS = 3.0
_FEW_BLOCKS = 10
_STRETCHES = 0.5
_BIASED = 0.05


class _Found(NamedTuple):
    """All estimates of the same points."""

    values: dict[str, Estimate]
    intervals: dict[str, tuple[float, float]]
    scales: dict[str, list[Scale]]
    variance_share: Floats
    tied: float
    along_one_stretch: float


def intrinsic_dimension(
    X: Any,
    method: str = "two_nn",
    n_neighbors: int = 20,
    theiler: int | None = None,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> IntrinsicDimension:
    """Return how many dimensions points fill, which may be far fewer than they have coordinates.

    All estimators are computed; ``method`` says which is the result.

    Parameters
    ----------
    X : array_like, torch.Tensor, xarray.DataArray, Recording, activations of one site, or a list of arrays
        ``(point, feature)``; or trajectories: ``(trial, time, unit)``, a list of trials ``(time, unit)``, or labelled
        data with an axis ``time``. Other labelled data have points along their axes of observations.
    method : {"two_nn", "mle", "correlation", "participation_ratio", "pca"}
        ``two_nn``: ratio of the distances to the second and first neighbour (Facco et al. 2017). ``mle``: distances to
        ``n_neighbors`` neighbours (Levina and Bickel 2004). ``correlation``: growth of the number of pairs with their
        distance, among the nearest 1% (Grassberger and Procaccia 1983, Takens's estimator). ``participation_ratio``
        of the variances of the principal components (Gao et al. 2017). ``pca``: how many components hold 95% of the
        variance. The last two are linear: a curved line may fill many dimensions.
    n_neighbors : int
        Of ``mle``.
    theiler : int, optional
        Samples of one trajectory that are not further apart are no neighbours (the first three methods): they are
        near because they follow each other. By default the time in which the autocorrelation falls to 1/e for
        trajectories, and 0 for a matrix; given with a matrix, its rows are samples of one trajectory.
    level : float
        Coverage of the intervals, which hold sampling error and no bias.
    seed : int or numpy.random.Generator
        Deals points to the parts of which the scale plot is made.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    IntrinsicDimension
        With ``.dimension``, ``.interval`` and ``.estimates``; drawn, how the estimates change with scale.

    Raises
    ------
    InputError
        Values that are missing, fewer than 30 distinct points, or points on a grid, whose nearest neighbours are at
        equal distances.
    OptionError
        Unknown method, or more neighbours than there are.

    References
    ----------
    Facco et al. 2017, Estimating the intrinsic dimension of datasets by a minimal neighborhood information,
    doi:10.1038/s41598-017-11873-y; Levina and Bickel 2004, Maximum likelihood estimation of intrinsic dimension,
    https://papers.nips.cc/paper/2577; Grassberger and Procaccia 1983, doi:10.1016/0167-2789(83)90298-1; Gao et al.
    2017, doi:10.1101/214262

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> angle, height = random.uniform(4, 14, 1000), random.uniform(0, 20, 1000)
    >>> roll = np.stack([angle * np.cos(angle), height, angle * np.sin(angle)], axis=1)
    >>> found = nm.intrinsic_dimension(roll)
    >>> round(found.dimension), round(found.estimates["pca"])  # a plane, rolled up in space
    (2, 3)
    """
    check_option("method", method, METHODS)
    level, random = coverage(level), generator(seed)
    data = points(X, theiler)
    distinct = distinct_points(data)
    found = _estimates(data, distinct, _neighbors(n_neighbors, distinct), level, random, progress)
    if not np.isfinite(found.values[method].value):
        raise InputError(
            "the points lie on a grid: their nearest neighbours are at equal distances",
            expected="points drawn from a continuous density",
            got=f"{100 * found.tied:.0f}% of the points have two nearest neighbours at one distance",
            fix='pass method="participation_ratio", or a signal that is not sampled evenly over whole periods',
        )
    cautions = _cautions(found, method, data, len(distinct.values))
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    arguments = {"X": data.values * data.unit, "method": method, "n_neighbors": n_neighbors}
    arguments |= {"theiler": theiler, "level": level}
    return IntrinsicDimension(
        _dataset(found, method, data.unit),
        f"Intrinsic dimension ({NAMES[method]})",
        attributes={
            "method": method,
            "n_neighbors": n_neighbors,
            "level": level,
            "n_points": len(data.values),
            "n_features": data.values.shape[1],
            "n_duplicates": len(data.values) - len(distinct.values),
            "theiler": data.window if data.ordered else None,
            "n_blocks": len(data.blocks()) if data.ordered else None,
            "chosen_scale": _place(found, method, n_neighbors),
        },
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("facco2017", "levina2004", "grassberger1983", "gao2017"),
        warnings=cautions,
    )


def _neighbors(n_neighbors: int, distinct: Points) -> int:
    count = whole("n_neighbors", n_neighbors, 3)
    if count >= len(distinct.values):
        raise OptionError(
            "n_neighbors is too large", expected=f"fewer than the {len(distinct.values)} distinct points", got=count
        )
    return count


def _estimates(
    data: Points, distinct: Points, n_neighbors: int, level: float, random: np.random.Generator, progress: bool
) -> _Found:
    available = (len(distinct.values) - 2 * distinct.window - 1) // 5
    neighbours = nearest(distinct, max(n_neighbors, min(MOST_NEIGHBORS, available)), progress)
    nearer = two_nn(neighbours, distinct)
    pairs, pair_scales = correlation_dimension(distinct, random, progress)
    values = {
        "two_nn": nearer,
        "mle": maximum_likelihood(neighbours, distinct, n_neighbors),
        "correlation": pairs,
    }
    scales = {
        "two_nn": decimated(distinct, nearer, neighbours, random),
        "mle": likelihood_scales(neighbours, distinct, n_neighbors),
        "correlation": pair_scales,
    }
    variances, squares = principal_variances(data)
    values["participation_ratio"] = participation_ratio(variances, squares, data)
    intervals = {name: one.interval(level) for name, one in values.items()}
    count, low, high = explained_components(variances, squares, data, level)
    known = np.isfinite(values["participation_ratio"].error)
    values["pca"] = Estimate(float(count))
    intervals["pca"] = (float(low), float(high)) if known else (np.nan, np.nan)
    share = variances / variances.sum()
    return _Found(values, intervals, scales, share, tied(neighbours), along_one_stretch(neighbours, distinct))


def _place(found: _Found, method: str, n_neighbors: int) -> int | None:
    """Return at which of the scales the estimate itself lies."""
    if method not in LOCAL:
        return None
    settings = np.array([scale.setting for scale in found.scales[method]])
    wanted = {"two_nn": settings[0], "mle": n_neighbors, "correlation": 0.01}[method]
    return int(np.argmin(np.abs(settings - wanted)))


def _cautions(found: _Found, method: str, data: Points, n_distinct: int) -> tuple[str, ...]:
    value, texts = found.values[method].value, []
    n_points = len(data.values)
    if n_distinct < n_points and method in LOCAL:
        texts.append(
            f"{n_points - n_distinct} of {n_points} points repeat another one: distances of 0 say nothing of a "
            "dimension, and each counts once"
        )
    if found.tied > _MANY_TIED and method in LOCAL:
        texts.append(
            f"{100 * found.tied:.0f}% of the points have two nearest neighbours at the same distance: the data lie on "
            "a grid (counts, rounded values, evenly sampled periods), and the estimate is not to be relied on"
        )
    if found.along_one_stretch > _STRETCHES and method in LOCAL:
        texts.append(
            f"the two nearest neighbours of {100 * found.along_one_stretch:.0f}% of the points follow each other on "
            "one trajectory, which is sampled more finely than neighbouring ones lie: keep every few samples only, "
            "or see the correlation dimension at larger scales"
        )
    if method in LOCAL and value > 2 * np.log10(n_distinct):
        texts.append(
            f"{n_distinct} points can show about {2 * np.log10(n_distinct):.1f} dimensions (2 log10 n, Eckmann and "
            f"Ruelle 1992): do not rely on {value:.3g}, which so few points make too low, and noise too high"
        )
    if method in LOCAL:
        texts += _scale_caution(found.scales[method])
    if method == "participation_ratio" and value > _BIASED * n_points:
        texts.append(
            f"{n_points} points are few for a participation ratio of {value:.3g}: it is too low by about "
            f"{100 * value / n_points:.0f}%"
        )
    if data.ordered and len(data.blocks()) < _FEW_BLOCKS:
        texts.append(f"the interval rests on {len(data.blocks())} stretches of trajectories only")
    return tuple(texts)


def _scale_caution(scales: list[Scale]) -> list[str]:
    kept = [scale for scale in scales if np.isfinite(scale.value)]
    low, high = (pick(kept, key=lambda scale: scale.value) for pick in (min, max))
    error = np.hypot(low.error, high.error)
    if high.value - low.value < max(_OTHER_SCALE * high.value, _MANY_ERRORS * error):
        return []
    return [
        f"the estimate depends on scale: from {low.value:.3g} to {high.value:.3g}; see the plot. Small scales are "
        "filled by noise, large ones shaped by curvature and edges"
    ]


def _dataset(found: _Found, method: str, unit: float) -> xr.Dataset:
    names = [method, *(name for name in METHODS if name != method)]
    low, high = zip(*(found.intervals[name] for name in names), strict=True)
    data = {
        "estimate": (
            "estimator",
            [found.values[name].value for name in names],
            {"units": "1", "long_name": "dimension"},
        ),
        "low": ("estimator", list(low), {"units": "1", "long_name": "lower end of the interval"}),
        "high": ("estimator", list(high), {"units": "1", "long_name": "upper end of the interval"}),
    }
    longest = max(len(found.scales[name]) for name in LOCAL)
    table = np.full((4, len(LOCAL), longest), np.nan)
    for row, name in enumerate(LOCAL):
        table[:, row, : len(found.scales[name])] = np.array(found.scales[name]).T
    table[0] *= unit
    labels = {
        "scale_estimate": (2, "dimension at a scale"),
        "scale_error": (3, "standard error"),
        "scale_distance": (0, "distance between neighbours"),
        "scale_setting": (1, "points (two_nn), neighbours (mle) or share of pairs (correlation)"),
    }
    data |= {
        name: (("local_estimator", "scale"), table[at], {"units": "data" if at == 0 else "1", "long_name": text})
        for name, (at, text) in labels.items()
    }
    data["variance_share"] = ("component", found.variance_share, {"units": "1", "long_name": "share of the variance"})
    components = np.arange(1, len(found.variance_share) + 1)
    return xr.Dataset(data, {"estimator": names, "local_estimator": list(LOCAL), "component": components})
