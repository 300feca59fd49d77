"""Holes of shapes that have known ones, none in noise, and what outliers and gaps do."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, MissingDependencyError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.neuro.geometry.spaces import between
from neuros_mechint.neuro.geometry.topology.homology import persistent_homology
from tests.slow import slow_case

pytest.importorskip("ripser", reason="ripser is not installed: pip install 'neuros-mechint[topology]'")


def ring(n_points, noise, n_features, seed):
    random = np.random.default_rng(seed)
    angle = random.uniform(0, 2 * np.pi, n_points)
    flat = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ np.linalg.qr(random.normal(size=(n_features, 2)))[0].T
    return flat + noise * random.normal(size=flat.shape)


def torus(n_points, seed):
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, (n_points, 2))
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def sphere(n_points, seed):
    points = np.random.default_rng(seed).normal(size=(n_points, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def few(x, **options):
    """The fewest surrogates that can be significant, and few points: fast."""
    return persistent_homology(x, **({"n_surrogates": 19, "n_points": 100} | options))


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 8))])
def test_ring_in_twenty_dimensions_has_one_ring(seed):
    found = few(ring(1000, 0.03, 20, seed), seed=seed)
    assert found.betti == (1, 1)
    assert found.ratios[1] > 10
    assert found.p[1] == 1 / 20
    assert found.p[0] > 0.5


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 5))])
def test_torus_has_two_rings_and_one_void(seed):
    found = few(torus(1000, seed), max_dimension=2, n_points=120, seed=seed)
    assert found.betti == (1, 2, 1)
    first, second, third = found.lifetimes(1)[:3]
    assert first / second < 1.2
    assert second / third > 1.4
    assert found.ratios[2] > 3


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 5))])
def test_sphere_has_a_void_and_no_ring(seed):
    found = few(sphere(500, seed), max_dimension=2, n_points=80, seed=seed)
    assert found.betti == (1, 0, 1)


def test_clusters_are_pieces():
    random = np.random.default_rng(0)
    places = np.array([[0.0, 0], [30, 0], [0, 30]])
    found = few(np.concatenate([place + random.normal(size=(40, 2)) for place in places]), max_dimension=0)
    assert found.betti == (3,)


def test_head_direction_cells_lie_on_a_ring():
    random = np.random.default_rng(0)
    preferred, heading = np.linspace(0, 2 * np.pi, 32, endpoint=False), random.uniform(0, 2 * np.pi, 1000)
    counts = random.poisson(10 * np.exp(4 * (np.cos(heading[:, None] - preferred) - 1)))
    for null in ("gaussian", "shuffled"):
        assert few(np.sqrt(counts), null=null).betti == (1, 1)
    # the same counts, each cell in an order of its own: no ring is left
    assert few(np.sqrt(random.permuted(counts, axis=0))).betti[1] == 0


def test_square_by_hand():
    corners = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    far = np.arange(30)[:, None] * [100.0, 0] + [100.0, 0]
    found = few(np.concatenate([corners, far]))
    assert found.lifetimes(1) == pytest.approx([2**0.5 - 1])
    curve = found.data["betti_curve"].sel(dimension=1)
    assert curve.values.max() <= 1
    assert curve.values[curve["distance"].values >= 2**0.5].sum() == 0
    assert found.data["betti_curve"].sel(dimension=0).values[[0, -1]].tolist() == [34, 1]


@pytest.mark.parametrize(
    ("n_features", "n_seeds", "most"),  # as many as that with probability .999
    [(3, 40, 8), slow_case(3, 200, 20), slow_case(10, 200, 20)],
)
def test_normal_clouds_have_holes_in_one_of_twenty_cases(n_features, n_seeds, most):
    p = np.array(
        [
            few(np.random.default_rng(1000 + seed).normal(size=(60, n_features)), n_points=60, seed=seed).p
            for seed in range(n_seeds)
        ]
    )
    assert ((p <= 0.05).sum(0) <= most).all()
    assert 0.35 < p[:, 1].mean() < 0.7


@pytest.mark.slow
def test_outliers_fill_a_ring_of_farthest_points_and_not_one_of_random_points():
    clear = {"farthest": 0, "random": 0}
    for seed in range(8):
        points, random = ring(1000, 0.05, 3, seed), np.random.default_rng(seed)
        points[:200] = random.uniform(-1, 1, (200, 3))
        for how in clear:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                clear[how] += few(points, n_points=150, subsample=how, seed=seed).betti[1] == 1
    assert clear["random"] >= 7
    assert clear["farthest"] <= 4


def test_gaps_between_few_random_points_are_warned_of():
    with pytest.warns(UserWarning, match="gaps"):
        found = few(sphere(1000, 0), n_points=60, subsample="random")
    assert found.attributes["cover_radius"] > 0.4
    assert "gaps" in found.summary()


def test_distances_give_the_same_as_points():
    points = ring(80, 0.05, 3, 0)
    by_points, by_distances = few(points), few(None, distances=between(points))
    assert by_distances.lifetimes(1) == pytest.approx(by_points.lifetimes(1), rel=1e-6)
    assert by_distances.data["null_longest"].values == pytest.approx(by_points.data["null_longest"].values, rel=1e-5)
    assert few(1e-30 * points).ratios == pytest.approx(by_points.ratios, rel=1e-5)


def test_distances_along_a_path_know_the_ring():
    place = np.sort(np.random.default_rng(0).uniform(0, 1, 100))
    apart = np.abs(place[:, None] - place)
    found = few(None, distances=np.minimum(apart, 1 - apart))
    # the hole of a circle of circumference 1 is filled at a third of it
    assert found.lifetimes(1)[0] + found.data["birth"].values[found.data["bar_dimension"].values == 1][0] == (
        pytest.approx(1 / 3, abs=0.03)
    )
    assert found.betti[1] == 1


def test_repeats_do_not_matter_and_the_seed_repeats():
    points = ring(100, 0.05, 2, 0)
    found = few(np.concatenate([points, points[:50]]))
    assert found.attributes["n_repeats"] == 50
    assert found.lifetimes(1)[0] == pytest.approx(few(points).lifetimes(1)[0])
    again = few(np.concatenate([points, points[:50]]))
    assert again.data.identical(found.data)


def test_trajectories_are_warned_of():
    walk = np.cumsum(np.random.default_rng(0).normal(size=(2, 60, 3)), axis=1)
    with pytest.warns(UserWarning, match="a slow walk closes rings"):
        few(xr.DataArray(walk, dims=("trial", "time", "unit")))


def bad_distances(change):
    distances = between(ring(40, 0.05, 2, 0))
    change(distances)
    return distances


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "points or distances"),
        ({"X": np.ones((40, 2)), "distances": np.ones((40, 40))}, "points or distances"),
        ({"X": np.ones((40, 2))}, "all points are the same"),
        ({"X": np.random.default_rng(0).normal(size=(20, 2))}, "too few points"),
        ({"X": np.repeat(np.random.default_rng(0).normal(size=(20, 2)), 2, axis=0)}, "too few points are distinct"),
        ({"X": np.full((40, 2), np.nan)}, "NaN"),
        ({"distances": np.ones((40, 30))}, "no square matrix"),
        ({"distances": bad_distances(lambda d: d.__setitem__((0, 1), 9.0))}, "not symmetric"),
        ({"distances": bad_distances(lambda d: d.__setitem__((0, 0), 1.0))}, "no distances"),
        ({"distances": -between(ring(40, 0.05, 2, 0))}, "no distances"),
        ({"distances": bad_distances(lambda d: d.__setitem__((3, 4), np.inf))}, "not finite"),
        ({"distances": np.zeros((40, 40))}, "too few points are distinct"),
    ],
)
def test_input_that_is_refused(arguments, problem):
    with pytest.raises(InputError, match=problem):
        few(arguments.pop("X", None), **arguments)


@pytest.mark.parametrize(
    "option", [{"max_dimension": 3}, {"subsample": "first"}, {"null": "none"}, {"n_surrogates": 18}, {"n_points": 10}]
)
def test_options_that_do_not_exist(option):
    with pytest.raises(OptionError):
        few(ring(100, 0.05, 2, 0), **option)


def test_distances_have_no_features_to_shuffle():
    with pytest.raises(OptionError, match="shuffle"):
        few(None, distances=between(ring(40, 0.05, 2, 0)), null="shuffled")


def test_without_ripser_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ripser", None)
    with pytest.raises(MissingDependencyError, match=r"neuros-mechint\[topology\]"):
        few(ring(100, 0.05, 2, 0))


def test_result_is_drawn_told_and_kept(tmp_path):
    found = few(ring(200, 0.05, 2, 0))
    axes = found.plot(Figure().subplots())
    assert axes.get_xlabel().startswith("distance")
    assert "rings: 1 longer than in noise" in found.summary()
    assert load_result(found.save(tmp_path / "holes.nc")) == found
