"""Curvature of circles, geodesics of rolled-up planes, trees and what is far from them."""

from __future__ import annotations

import warnings

import networkx as nx
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.neuro.geometry.curvature import curvature
from neuros_mechint.neuro.geometry.geodesics import geodesics
from neuros_mechint.neuro.geometry.hyperbolicity import hyperbolicity
from neuros_mechint.neuro.geometry.spaces import between
from tests.slow import slow_case


def circle(n_steps, radius, n_units=2, noise=0.0, n_trials=1, seed=0):
    random = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, n_steps + 1)
    axes = np.linalg.qr(random.normal(size=(n_units, 2)))[0].T
    clean = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) @ axes
    return clean + noise * random.normal(size=(n_trials, *clean.shape))


def swiss_roll(n_points, seed):
    """Points on a rolled-up plane, and their true distances along it."""
    random = np.random.default_rng(seed)
    angle, height = 1.5 * np.pi * (1 + 2 * random.random(n_points)), 21 * random.random(n_points)
    length = (angle * np.sqrt(1 + angle**2) + np.arcsinh(angle)) / 2
    points = np.stack([angle * np.cos(angle), height, angle * np.sin(angle)], axis=1)
    return points, np.hypot(length[:, None] - length, height[:, None] - height)


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*arguments, **options)


@pytest.mark.parametrize(("n_steps", "radius"), [(8, 1.0), (36, 5.0), (1000, 1e-6)])
def test_circles_have_the_curvature_of_their_radius(n_steps, radius):
    found = curvature(circle(n_steps, radius, n_units=7))
    assert found.angle == pytest.approx(360 / n_steps, rel=1e-6)
    assert found.curvature == pytest.approx(1 / radius, rel=1e-6)
    assert found.p == 0.01


def test_helix_lines_and_uneven_steps():
    t = np.linspace(0, 20, 4001)
    helix = np.stack([3 * np.cos(t), 3 * np.sin(t), 4 * t], axis=1)
    assert curvature(helix).curvature == pytest.approx(3 / 25, rel=1e-4)
    angle = np.sort(np.random.default_rng(0).uniform(0, 6, 60))
    uneven = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert curvature(uneven).data["curvature"].values == pytest.approx(0.5, rel=1e-6)
    line = np.arange(10.0)[:, None] * [1.0, 2.0]
    assert curvature(line).angle == pytest.approx(0, abs=1e-5)


def test_walks_turn_by_right_angles_and_noise_by_120_degrees():
    random = np.random.default_rng(0)
    walks = np.cumsum(random.normal(size=(10, 200, 100)), axis=1)
    found = curvature(walks)
    low, high = found.interval
    assert low < 90 < high
    assert high - low < 1
    with pytest.warns(UserWarning, match="steps turn back"):
        assert curvature(random.normal(size=(5, 200, 100))).angle == pytest.approx(120, abs=1)


def test_steps_in_random_order_give_uniform_p():
    p = [
        quiet(curvature, np.cumsum(np.random.default_rng(seed).normal(size=(40, 5)), axis=0), n_permutations=19).p
        for seed in range(150)
    ]
    assert (np.array(p) <= 0.05).sum() <= 16  # .999 of a binomial distribution
    assert np.mean(p) == pytest.approx(0.525, abs=0.09)


def test_repeats_take_noise_out_of_curvature():
    clean = 1 / 2.0
    crossed = [curvature(circle(24, 2.0, 20, 0.05, 8, seed), repeats=True, n_permutations=19) for seed in range(40)]
    assert np.mean([found.curvature for found in crossed]) == pytest.approx(clean, abs=0.03)
    assert np.mean([found.angle for found in crossed]) == pytest.approx(15, abs=0.8)
    covered = [found.interval[0] <= 15 <= found.interval[1] for found in crossed]
    assert np.mean(covered) > 0.85
    # one trial at a time, noise of a tenth of a step in each unit bends it three times as much
    assert curvature(circle(24, 2.0, 20, 0.05, 8)).curvature > 2.5 * clean


def test_trials_of_any_length_and_labels():
    trials = [circle(36, 1.0)[0], circle(36, 1.0)[0, :20]]
    found = curvature(trials)
    assert found.data.sizes == {"permutation": 99, "trial": 2, "time": 35}
    assert np.isnan(found.data["angle"].values[1, 18:]).all()
    labelled = xr.DataArray(np.stack([trials[0]] * 3), dims=("trial", "time", "unit"), attrs={"sampling_rate": 10.0})
    assert curvature(labelled).data["time"].values[0] == pytest.approx(0.1)
    still = np.concatenate([np.repeat(trials[0][:1], 5, axis=0), trials[0]])
    assert curvature(still).angle == pytest.approx(10)


@pytest.mark.parametrize(
    ("given", "options", "problem"),
    [
        (np.ones((10, 2)), {}, "nothing moves"),
        (np.zeros((2, 2)), {}, "too short"),
        (np.full((10, 2), np.nan), {}, "NaN"),
        (circle(10, 1.0)[0], {"repeats": True}, "too few trials"),
        ([circle(10, 1.0)[0], circle(12, 1.0)[0]], {"repeats": True}, "differ in length"),
        (np.stack([circle(10, 1.0)[0], -circle(10, 1.0)[0]]), {"repeats": True}, "no steps in common"),
    ],
)
def test_trajectories_that_are_refused(given, options, problem):
    with pytest.raises(InputError, match=problem):
        curvature(given, **options)


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 6))])
def test_geodesics_of_a_swiss_roll(seed):
    points, true = swiss_roll(1000, seed)
    found = geodesics(points)
    above = np.triu_indices(1000, 1)
    assert np.corrcoef(found.distances[above], true[above])[0, 1] > 0.999
    ratio = found.distances[above] / true[above]
    assert 1.0 <= np.median(ratio) < 1.05  # paths zigzag: 4% too long
    assert np.quantile(ratio, 0.05) > 0.99
    assert found.detour > 2


@pytest.mark.parametrize("n_neighbors", [10, 60])
def test_short_cuts_are_warned_of(n_neighbors):
    points, true = swiss_roll(500, 0)
    with pytest.warns(UserWarning, match="short cuts"):
        found = geodesics(points, n_neighbors=n_neighbors)
    above = np.triu_indices(500, 1)
    assert np.corrcoef(found.distances[above], true[above])[0, 1] < 0.9


def test_flat_clouds_are_seldom_suspected_of_short_cuts():
    told = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        for cloud in (random.normal(size=(150, 2)), random.uniform(size=(60, 4))):
            told.append(bool(quiet(geodesics, cloud).warnings))
    assert np.mean(told) <= 0.1


def test_flat_space_has_no_detours():
    flat = geodesics(np.random.default_rng(0).uniform(size=(600, 2)))
    assert flat.detour == pytest.approx(1.05, abs=0.04)
    low, high = flat.interval
    assert 1 < low <= flat.detour <= high < 1.3


def test_fewer_than_three_trials_have_no_interval():
    found = curvature(circle(20, 1.0, 5, 0.01, 2))
    assert np.isnan(found.interval).all()
    assert "interval" not in found.summary()
    assert np.isfinite(curvature(circle(20, 1.0, 5, 0.01, 3)).interval).all()


def test_pauses_between_all_steps_leave_nothing_that_turns():
    walk = np.random.default_rng(0).normal(size=(20, 2)).cumsum(0)
    with pytest.raises(InputError, match="no two successive steps move"):
        curvature(np.repeat(walk, 2, axis=0))
    rests = np.concatenate([np.repeat(walk, 4, axis=0), walk[-1] + np.array([[1.0, 0.0], [2.0, 1.0]])])
    assert 0 < curvature(rests).p <= 1  # of the orders in which anything turns


def test_a_loop_over_noisy_networks_warns_once():
    random = np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        angles = [curvature(random.normal(size=(3, 30, 20)), n_permutations=19).angle for _ in range(6)]
    assert len(set(angles)) == 6
    assert len(told) == 1


def test_pieces_are_refused_with_the_number_that_joins_them():
    random = np.random.default_rng(0)
    pieces = np.concatenate([random.normal(size=(20, 2)), random.normal(size=(30, 2)) + 50])
    with pytest.raises(InputError, match="2 pieces, of 30, 20 points") as error:
        geodesics(pieces, n_neighbors=5)
    assert "n_neighbors=20" in str(error.value)
    with pytest.warns(UserWarning, match="fewer neighbours than 20 do not hold"):
        geodesics(pieces, n_neighbors=20)


def test_geodesics_know_points_by_the_rows_they_had():
    points = np.repeat(circle(59, 1.0)[0, :-1], 2, axis=0)
    found = geodesics(points, n_neighbors=4)
    assert found.data["point"].values.tolist() == list(range(0, 118, 2))
    assert geodesics(None, distances=between(points), n_neighbors=4).distances == pytest.approx(found.distances)
    with pytest.raises(OptionError):
        geodesics(points, n_neighbors=59)


@pytest.mark.parametrize("seed", range(3))
def test_trees_have_no_delta(seed):
    tree = nx.random_labeled_tree(80, seed=seed)
    for _, _, edge in tree.edges(data=True):
        edge["weight"] = np.random.default_rng(seed).uniform(0.1, 3)
    found = hyperbolicity(distances=nx.floyd_warshall_numpy(tree), n_quadruples=20_000)
    assert (found.relative, found.mean, found.p) == (0.0, 0.0, 0.05)


def test_circles_are_as_far_from_trees_as_can_be():
    place = np.arange(40) / 40
    apart = np.abs(place[:, None] - place)
    found = hyperbolicity(distances=10 * np.minimum(apart, 1 - apart), n_quadruples=100_000)
    assert found.attributes["exact"]
    assert found.delta == pytest.approx(10 / 4)  # a quarter of the length, at four points that are equally far
    assert found.relative == pytest.approx(1.0)
    assert found.p == 1.0


def test_disk_in_the_plane():
    random = np.random.default_rng(0)
    angle, radius = random.uniform(0, 2 * np.pi, 300), np.sqrt(random.random(300))
    disk = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    found = hyperbolicity(disk)
    # the largest is that of the inscribed square, 2 - sqrt 2, which drawn points come near from below
    assert 0.5 < found.relative <= 2 - 2**0.5
    low, high = found.interval
    assert low < 0.0957 < high  # of 500,000 sets of another disk
    by_distance = hyperbolicity(distances=between(disk))
    assert by_distance.mean == pytest.approx(found.mean, rel=1e-9)


@pytest.mark.slow
def test_normal_points_are_no_trees():
    found = [
        hyperbolicity(np.random.default_rng(seed).normal(size=(60, 5)), n_quadruples=5000, seed=seed)
        for seed in range(100)
    ]
    assert np.mean([one.p <= 0.05 for one in found]) <= 0.1
    mean = np.mean([one.mean for one in found])
    assert np.mean([one.interval[0] < mean < one.interval[1] for one in found]) > 0.82


def test_distances_that_are_none_of_a_metric_are_warned_of():
    random = np.random.default_rng(0)
    distances = random.uniform(0.1, 1, size=(40, 40))
    distances = np.triu(distances, 1) + np.triu(distances, 1).T
    with pytest.warns(UserWarning, match="no metric distances"):
        hyperbolicity(distances=distances, n_quadruples=5000)


def test_what_points_are_refused():
    for function in (geodesics, hyperbolicity):
        with pytest.raises(InputError, match="points or distances"):
            function()
        with pytest.raises(InputError, match="too few points"):
            function(np.random.default_rng(0).normal(size=(10, 2)))
        with pytest.raises(InputError, match="all points are the same"):
            function(np.ones((40, 2)))
    for option in ({"n_quadruples": 10}, {"n_surrogates": 3}, {"level": 2.0}):
        with pytest.raises(OptionError):
            hyperbolicity(np.random.default_rng(0).normal(size=(40, 2)), **option)


def test_results_are_drawn_told_and_kept(tmp_path):
    points = np.random.default_rng(0).normal(size=(60, 3))
    results = (
        (curvature(circle(20, 1.0, 5, 0.01, 4), repeats=True), "time"),
        (quiet(geodesics, points), "distance through space"),
        (hyperbolicity(points, n_quadruples=2000), "mean delta"),
    )
    for found, label in results:
        assert found.plot(Figure().subplots()).get_xlabel().startswith(label)
        assert found.summary().count("\n") >= 2
        assert load_result(found.save(tmp_path / "paths.nc")) == found
