"""Persistent homology: how many pieces, rings and voids points form, and whether noise forms them too."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import check_option, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, p_of_draws
from neuros_mechint.neuro.geometry.points import FEWEST_POINTS
from neuros_mechint.neuro.geometry.spaces import NULLS, SUBSETS, Space, chosen_rows, noise_like, space
from neuros_mechint.neuro.geometry.topology.persistence import bars, betti_curves, finite_lifetimes
from neuros_mechint.neuro.geometry.topology.results import PersistentHomology

_MOST_POINTS = {0: 300, 1: 300, 2: 150}
_FEWEST_SURROGATES = 19
_N_DISTANCES = 200


def persistent_homology(
    X: Any = None,
    distances: Any = None,
    max_dimension: int = 1,
    n_points: int | None = None,
    subsample: str = "farthest",
    null: str = "gaussian",
    n_surrogates: int = 99,
    seed: SeedLike = 0,
    progress: bool = True,
) -> PersistentHomology:
    """Return the holes of a cloud of points: over which distances each is there, and which are longer than in noise.

    Points that are nearer than a distance are joined (Vietoris-Rips complex). As the distance grows, pieces merge
    (dimension 0), rings close and are filled (1), and so do voids (2). A hole that lives long is one of the shape from
    which the points were sampled; what long means is read from noise, treated in the same way.

    Parameters
    ----------
    X : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
        ``(point, feature)``; or trajectories, see `intrinsic_dimension`.
    distances : array_like of shape (n_points, n_points), optional
        Instead of ``X``: of any kind, for example `geodesics`.
    max_dimension : {0, 1, 2}
    n_points : int, optional
        How many points are looked at, chosen by ``subsample`` where there are more. By default 300, and 150 up to
        dimension 2, where time grows steeply: .07 s and .4 s for each cloud; 300 points take 10 s up to dimension 2.
    subsample : {"farthest", "random"}
        One point drawn, then always the farthest from those chosen: even cover, so that gaps between few points do not
        look like holes, but every outlier is kept. Or points drawn at random, among which outliers stay rare: for noisy
        data of simple shape.
    null : {"gaussian", "shuffled"}
        Noise: normal with the same covariance (of distances: of their classical scaling); or each feature shuffled
        over points, which keeps how features are distributed and not that they depend on each other.
    n_surrogates : int
        Clouds of noise, at least 19. Each has all the points, of which the same number is chosen in the same way.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    PersistentHomology
        With ``.betti`` (how many holes are longer than in noise), ``.lifetimes(dimension)``, ``.ratios`` and ``.p``;
        drawn, the persistence diagram.

    Raises
    ------
    InputError
        Neither or both of points and distances, missing values, fewer than 30 distinct points, or distances that are
        none.
    OptionError
        Unknown option.
    MissingDependencyError
        Without ripser (extra ``topology``).

    References
    ----------
    Carlsson 2009, Topology and data, doi:10.1090/S0273-0979-09-01249-X; Bauer 2021, Ripser: efficient computation of
    Vietoris-Rips persistence barcodes, doi:10.1007/s41468-021-00071-5; Chaudhuri et al. 2019, The intrinsic attractor
    manifold and population dynamics of a canonical cognitive circuit, doi:10.1038/s41593-019-0460-x

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> angle = random.uniform(0, 2 * np.pi, 200)
    >>> ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.05 * random.normal(size=(200, 2))
    >>> persistent_homology(ring, n_surrogates=19).betti  # one piece, one ring
    (1, 1)
    """
    check_option("max_dimension", max_dimension, tuple(_MOST_POINTS))
    check_option("subsample", subsample, SUBSETS)
    check_option("null", null, NULLS)
    n_surrogates = whole("n_surrogates", n_surrogates, _FEWEST_SURROGATES)
    n_chosen = whole("n_points", _MOST_POINTS[max_dimension] if n_points is None else n_points, FEWEST_POINTS)
    given, random = space(X, distances), generator(seed)
    rows = chosen_rows(given, n_chosen, subsample, random)
    diagrams = bars(given.distances(rows), max_dimension)
    clouds = (noise_like(given, null, random) for _ in range(n_surrogates))
    longest = np.array(
        [
            _longest(cloud, max_dimension, n_chosen, subsample, random)
            for cloud in progress_bar(clouds, n_surrogates, "clouds of noise", progress)
        ]
    ).T
    p = [
        p_of_draws(diagram[:, 1] - diagram[:, 0], each[:, None])
        for diagram, each in zip(diagrams, longest, strict=True)
    ]
    cover = _cover_radius(given, rows)
    cautions = _cautions(given, diagrams, p, cover)
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    arguments = {"X": X, "distances": distances, "max_dimension": max_dimension, "n_points": n_points}
    arguments |= {"subsample": subsample, "null": null, "n_surrogates": n_surrogates}
    return PersistentHomology(
        _dataset(diagrams, longest, p),
        "Persistent homology",
        attributes={
            "n_points": given.n_points,
            "n_chosen": len(rows),
            "n_repeats": given.n_repeats,
            "subsample": subsample,
            "cover_radius": cover,
            "null": null,
            "n_surrogates": n_surrogates,
        },
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("carlsson2009", "bauer2021", "tralie2018", "chaudhuri2019"),
        warnings=cautions,
    )


def _longest(cloud: Space, max_dimension: int, n_chosen: int, how: str, random: np.random.Generator) -> list[float]:
    found = bars(cloud.distances(chosen_rows(cloud, n_chosen, how, random)), max_dimension)
    return [float(finite_lifetimes(diagram).max(initial=0.0)) for diagram in found]


def _cover_radius(given: Space, rows: Any) -> float:
    """Return how far the points that were left out are from the nearest one that was chosen, at most."""
    if len(rows) == given.n_points:
        return 0.0
    nearest = np.full(given.n_points, np.inf)
    for row in rows:
        nearest = np.minimum(nearest, given.to_all(int(row)))
    return float(nearest.max())


def _cautions(given: Space, diagrams: list[Floats], p: list[Floats], cover: float) -> tuple[str, ...]:
    cautions = []
    if given.ordered:
        cautions.append(
            "samples of trajectories follow each other, those of noise do not: a slow walk closes rings by chance, and "
            "its p is too small; compare with surrogates of the same spectrum: phase_randomised(X, together=True)"
        )
    lengths = np.concatenate(
        [(each[:, 1] - each[:, 0])[p_each <= SIGNIFICANT] for each, p_each in zip(diagrams, p, strict=True)]
    )
    gaps = int((lengths < cover).sum())
    if gaps:
        cautions.append(
            f"{gaps} of the bars longer than in noise live less than {cover:.3g}, the distance of some points from all "
            'that were chosen: they may be gaps between these; choose more points, or subsample="farthest"'
        )
    return tuple(cautions)


def _dataset(diagrams: list[Floats], longest: Floats, p: list[Floats]) -> xr.Dataset:
    joined = np.concatenate(diagrams)
    endless = ~np.isfinite(joined[:, 1])
    every_p = np.where(endless, np.nan, np.concatenate(p))
    dimensions = np.arange(len(diagrams))
    of_bar = np.repeat(dimensions, [len(diagram) for diagram in diagrams])
    significant = np.bincount(of_bar[(every_p <= SIGNIFICANT) | endless], minlength=len(diagrams))
    last = float(joined[~endless, 1].max())
    at = np.linspace(0, last, _N_DISTANCES)
    finite = [finite_lifetimes(diagram) for diagram in diagrams]
    unit = {"units": "units of the data"}
    return xr.Dataset(
        {
            "lifetime": ("bar", joined[:, 1] - joined[:, 0], {"long_name": "lifetime", **unit}),
            "birth": ("bar", joined[:, 0], {"long_name": "distance at which it appears", **unit}),
            "death": ("bar", joined[:, 1], {"long_name": "distance at which it is filled", **unit}),
            "p": ("bar", every_p, {"long_name": "p against the longest bars of noise"}),
            "betti": ("dimension", significant, {"long_name": "holes longer than in noise"}),
            "ratio": ("dimension", [_ratio(each) for each in finite], {"long_name": "longest by second longest"}),
            "null_limit": (
                "dimension",
                np.quantile(longest, 1 - SIGNIFICANT, axis=1, method="higher"),
                {"long_name": "95% of the longest bars of noise", **unit},
            ),
            "null_longest": (("dimension", "surrogate"), longest, {"long_name": "longest bar of noise", **unit}),
            "betti_curve": (("dimension", "distance"), betti_curves(diagrams, at), {"long_name": "number of holes"}),
        },
        coords={
            "bar_dimension": ("bar", of_bar),
            "dimension": ("dimension", dimensions, {"long_name": "dimension of the holes"}),
            "distance": ("distance", at, {"long_name": "distance", **unit}),
        },
    )


def _ratio(lifetimes: Floats) -> float:
    if len(lifetimes) < 2 or lifetimes[1] <= 0:
        return np.inf if len(lifetimes) and lifetimes[0] > 0 else np.nan
    return float(lifetimes[0] / lifetimes[1])
