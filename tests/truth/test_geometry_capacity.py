"""Capacity of points after Cover, of balls after their formula, and theory against simulation."""

from __future__ import annotations

import warnings
from math import comb

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.neuro.geometry.capacity.common_axes import common_axes
from neuros_mechint.neuro.geometry.capacity.cones import anchor, ball_capacity, separator
from neuros_mechint.neuro.geometry.capacity.manifolds import Manifolds, generators, manifolds, shared_axes
from neuros_mechint.neuro.geometry.capacity.mean_field import manifold_capacity
from neuros_mechint.neuro.geometry.capacity.simulated import separable_fraction, simulated_capacity
from tests.slow import slow_case


def spheres(n_manifolds, n_points, dimension, radius, n_units, seed, n_shared=0):
    """Points on spheres of random orientation around random centres, of which some directions are common to all."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(n_shared, n_units)) / n_units**0.5
    found = []
    for _ in range(n_manifolds):
        axes = np.linalg.qr(random.normal(size=(n_units, dimension)))[0].T
        points = random.normal(size=(n_points, dimension))
        points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
        centre = random.normal(size=n_units) / n_units**0.5 + 3 * random.normal(size=n_shared) @ common
        found.append(centre + points @ axes)
    return found


def cover(n_points, n_dimensions):
    return 2.0 ** (1 - n_points) * sum(comb(n_points - 1, k) for k in range(n_dimensions))


def fraction(n_points, n_dimensions, n_dichotomies, seed):
    random = np.random.default_rng(seed)
    separable = 0
    for _ in range(n_dichotomies):
        points = tuple(random.normal(size=(n_points, 1, n_dimensions)))
        separable += separable_fraction(Manifolds(points, ()), n_dimensions, 1, random)[0]
    return separable / n_dichotomies


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*arguments, **options)


@pytest.mark.parametrize(("n_dimensions", "n_points"), [(5, 7), (10, 16), (10, 20), (10, 24), (20, 44)])
def test_separable_points_are_as_many_as_cover_counted(n_dimensions, n_points):
    expected, n_dichotomies = cover(n_points, n_dimensions), 400
    error = (expected * (1 - expected) / n_dichotomies) ** 0.5
    assert fraction(n_points, n_dimensions, n_dichotomies, 0) == pytest.approx(expected, abs=4 * error)


def test_two_hundred_dimensions_cross_one_half_at_two_points_each():
    assert cover(400, 200) == 0.5
    # 1.9 and 2.1 points for each dimension: .85 and .15
    assert fraction(380, 200, 30, 0) > 0.6 > 0.4 > fraction(420, 200, 30, 1)


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 5))])
def test_capacity_of_points_is_two(seed):
    points = np.random.default_rng(seed).normal(size=(60, 1, 80))
    simulated = simulated_capacity(points, n_dichotomies=60, seed=seed)
    assert simulated.capacity == pytest.approx(2.0, abs=0.1)
    theory = manifold_capacity(points, seed=seed)
    assert theory.capacity == pytest.approx(2.0, abs=0.1)
    assert (theory.radius, theory.dimension) == (0.0, 0.0)
    assert theory.interval[0] < theory.capacity <= theory.interval[1]


def test_balls():
    assert ball_capacity(0.7, 0) == ball_capacity(0, 7) == 2.0
    for dimension in (1, 4, 30):
        assert ball_capacity(1e7, dimension) == pytest.approx(1 / (dimension + 0.5), rel=1e-6)
    assert ball_capacity(1.0, 1) == pytest.approx(1.0, rel=1e-6)  # a quarter of the plane, opening 90 degrees
    random = np.random.default_rng(0)
    for radius, dimension in ((0.5, 2), (0.3, 10), (2.0, 20)):
        length, along = np.linalg.norm(random.normal(size=(200_000, dimension)), axis=1), random.normal(size=200_000)
        touching = np.maximum(along + radius * length, 0) ** 2 / (1 + radius**2)
        moves = np.where(length <= radius * along, along**2 + length**2, touching)
        error = moves.std() / len(moves) ** 0.5
        assert 1 / ball_capacity(radius, dimension) == pytest.approx(moves.mean(), abs=4 * error)


def test_theory_of_circles_is_that_of_balls():
    random, angles = np.random.default_rng(0), np.arange(24) * np.pi / 12
    circle = 0.5 * np.array([np.cos(angles), np.sin(angles)]).T  # evenly: gaps of random ones lower the dimension by 3%
    planes = [np.linalg.qr(random.normal(size=(60, 2)))[0].T for _ in range(16)]
    given = [random.normal(size=60) / 60**0.5 + circle @ plane for plane in planes]
    found = quiet(manifold_capacity, given, n_shared=0, seed=1)
    known = {"capacity": 1 / ball_capacity(0.5, 2), "radius": 0.5, "dimension": 2.0}
    for name, expected in known.items():
        values = found.data[f"manifold_{name}"].values ** (-1 if name == "capacity" else 1)
        error = values.std(ddof=1) / len(values) ** 0.5
        assert error < 0.03 * expected
        assert values.mean() == pytest.approx(expected, abs=3 * error), name
    assert float(found.data["ball_capacity"]) == pytest.approx(found.capacity, rel=0.05)


def pair(dimension, radius, n_manifolds, seed):
    """Theory and simulation, whose random numbers are neither those of the data nor of each other."""
    given = spheres(n_manifolds, 8, dimension, radius, 3 * n_manifolds, seed)
    theory = quiet(manifold_capacity, given, n_samples=100, seed=100 + seed)
    return theory, simulated_capacity(given, n_dichotomies=50, seed=200 + seed)


def test_theory_and_simulation_agree():
    theory, simulated = pair(2, 0.5, 40, 0)
    shares = [(one.interval[1] - one.interval[0]) / 3.92 / one.capacity for one in (theory, simulated)]
    error = float(np.hypot(*shares))
    assert error < 0.03
    # theory is for many manifolds: of 40 it is 1% too high, see below
    assert -3 * error < theory.capacity / simulated.capacity - 1 < 0.01 + 3 * error
    low, high = simulated.interval
    assert low < simulated.capacity < high < 1.15 * low


@pytest.mark.slow
@pytest.mark.parametrize(("dimension", "radius"), [(2, 0.5), (5, 1.0)])
def test_theory_is_what_simulation_comes_to_with_many_manifolds(dimension, radius):
    # Theory over simulation, mean of seeds 0 to 9 and its standard error, of 20, 40, 60 and 80 manifolds:
    # of 2 dimensions and radius .5, 1.031(6), 1.010(9), 1.005(5), 1.000(6); of 5 and 1, 1.019(9), 1.013(6), 1.008(3),
    # 1.004(3); in the limit .992(8) and 1.002(9). Single pairs of 40 spread by 2.7 and 1.9%: of the first kind theory
    # 1.020 and .029, simulation 1.010 and .011 (mean and standard deviation), of the second .588 and .007, .580 and
    # .009. What is left of 20 manifolds is half a dimension to one that the mean of the centres takes.
    # One set of readouts errs alike for all data: with 100 for each of 40 manifolds by 2%, seed 0 by 4%.
    ratios = [
        [np.divide(*(one.capacity for one in pair(dimension, radius, n, seed))) for n in (20, 60)] for seed in range(10)
    ]
    few, many = np.array(ratios).T
    limit = 1.5 * many - 0.5 * few  # what falls as 1 / number goes out
    error = limit.std(ddof=1) / len(limit) ** 0.5
    assert error < 0.015
    assert limit.mean() == pytest.approx(1, abs=3 * error)


def test_own_coordinates_hold_all_that_a_readout_sees_of_a_manifold():
    random = np.random.default_rng(0)
    for n_points, n_units in ((1, 5), (4, 20), (30, 6)):
        points = random.normal(size=(n_points, n_units)) + 2 * random.normal(size=n_units)
        found, norm = generators(points)
        assert np.allclose(found.T @ found, points @ points.T / norm**2)
        assert found[-1].mean() == pytest.approx(1)


def test_points_on_a_ray_from_the_middle_are_separated_like_one_point():
    random = np.random.default_rng(0)
    centres = random.normal(size=(60, 80))
    centres -= centres.mean(0)
    gains = random.normal(size=(60, 8))
    gains = 1 + 0.3 * (gains - gains.mean(1, keepdims=True))
    assert gains.min() > 0
    given = gains[..., None] * centres[:, None]
    found = manifold_capacity(given)
    assert found.capacity == pytest.approx(2.0, abs=0.1)
    assert found.radius == pytest.approx(0, abs=1e-6)
    assert simulated_capacity(given, n_dichotomies=60).capacity == pytest.approx(2.0, abs=0.1)
    # negative control: as far in a direction of their own, they are not
    aside = centres[:, None] + (gains - 1)[..., None] * random.permutation(centres)[:, None]
    assert manifold_capacity(aside).capacity < 1.7


def test_directions_that_all_centres_share_are_taken_out():
    given = spheres(40, 4, 2, 0.4, 100, 0, n_shared=3)
    theory = quiet(manifold_capacity, given, n_samples=100)
    assert theory.attributes["n_shared"] == 3
    simulated = simulated_capacity(given, n_dichotomies=40)
    assert theory.capacity == pytest.approx(simulated.capacity, rel=0.1)
    left_in = quiet(manifold_capacity, given, n_shared=0, n_samples=100)
    assert left_in.capacity > 1.2 * simulated.capacity


def varying(axes, n_points, radius, seed, centres=None):
    """Manifolds around random centres, each along its own few axes, ``(n_manifolds, n_axes, n_units)``."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(axes), axes.shape[2])) if centres is None else centres
    sizes = radius * random.normal(size=(len(axes), n_points, axes.shape[1]))
    return list(centres[:, None] + sizes @ axes)


@pytest.mark.parametrize("seed", range(5))
def test_manifolds_along_the_same_axes_are_told_apart_from_those_of_their_own(seed):
    random = np.random.default_rng(seed)
    same = np.broadcast_to(np.eye(5, 50), (20, 5, 50))
    share, n_errors = common_axes(manifolds(varying(same, 15, 3, seed)))
    assert share > 0.9
    assert n_errors > 20
    two_of_five = np.concatenate([same[:, :2], random.normal(size=(20, 3, 50)) / 50**0.5], axis=1)
    assert 0.25 < common_axes(manifolds(varying(two_of_five, 15, 3, seed))).share < 0.65
    # negative control: units that are correlated, in centres as in axes; theory over simulation is .99 to 1.10 there
    sizes = np.arange(1, 51) ** -0.5
    centres, axes = random.normal(size=(20, 50)) * sizes, random.normal(size=(20, 5, 50)) * sizes
    assert common_axes(manifolds(varying(axes, 15, 0.3, seed, centres))).share < 0.2


def test_random_axes_are_taken_for_common_ones_as_seldom_as_five_percent():
    for n_manifolds, n_points, n_units, n_axes in ((2, 3, 8, 3), (3, 3, 8, 8), (5, 2, 8, 1), (20, 10, 50, 5)):
        found = []
        for seed in range(100):
            axes = np.random.default_rng(1000 + seed).normal(size=(n_manifolds, n_axes, n_units))
            found.append(common_axes(manifolds(varying(axes, n_points, 0.3, seed))))
        taken = np.mean([one.share > 0.25 and one.n_errors > 3 for one in found])
        assert taken <= 0.05, (n_manifolds, n_points, n_units, n_axes)


def test_the_same_axes_are_warned_of_and_simulation_knows_them():
    given = varying(np.broadcast_to(np.eye(5, 50), (20, 5, 50)), 15, 3, 0)
    theory = quiet(manifold_capacity, given, n_samples=20)
    assert any("use simulated_capacity" in text for text in theory.warnings)
    assert simulated_capacity(given, n_dichotomies=20).capacity > 2 * theory.capacity


def test_independent_centres_share_no_direction():
    counts = [
        len(shared_axes(manifolds(spheres(30, 2, 1, 0.1, 100, seed)), None, np.random.default_rng(seed)))
        for seed in range(20)
    ]
    assert np.mean(np.array(counts) > 0) < 0.25
    assert max(counts) <= 1


def test_manifolds_beat_their_own_points_dealt_at_random():
    given = np.array(spheres(12, 10, 2, 0.5, 60, 0))
    assert quiet(manifold_capacity, given, n_samples=60).p == 0.05
    dealt = np.random.default_rng(0).permutation(given.reshape(-1, 60)).reshape(given.shape)
    p = [quiet(manifold_capacity, dealt, n_samples=60, seed=seed).p for seed in range(3)]
    assert min(p) > 0.05


def test_anchors_solve_their_quadratic_program():
    random = np.random.default_rng(0)
    for n_dimensions, n_points in ((1, 3), (5, 40), (40, 20), (60, 200)):
        cone = np.vstack([random.normal(size=(n_dimensions, n_points)), np.ones(n_points)])
        for direction in random.normal(size=(20, n_dimensions + 1)):
            move, touched = anchor(cone, direction)
            along = np.append(touched, 1.0)
            moved = direction + along * (move**0.5 / np.linalg.norm(along))
            # the readout that was moved has no point on its wrong side, and was moved no farther than that asks for
            assert (moved @ cone).min() > -1e-9
            assert move == 0 or abs(moved @ along) < 1e-9


def test_separators_separate():
    random = np.random.default_rng(0)
    for _ in range(50):
        points = random.normal(size=(15, 10)) * np.exp(random.normal(size=(15, 1)) * 5)
        found = separator(points)
        if found is not None:
            assert (points @ found).min() > 0
    assert separator(np.array([[1.0, 0], [-1, 0], [0, 1]])) is None


def test_labels_lists_and_arrays_give_the_same():
    given = np.array(spheres(6, 5, 1, 0.3, 40, 0))
    by_array = quiet(manifold_capacity, given, n_samples=30)
    labels = np.repeat([f"object {index}" for index in range(6)], 5)
    by_label = quiet(manifold_capacity, given.reshape(-1, 40), labels=labels, n_samples=30)
    by_list = quiet(manifold_capacity, list(given), n_samples=30)
    assert by_array.capacity == by_label.capacity == by_list.capacity
    assert by_label.data["manifold"].values[0] == "object 0"
    labelled = xr.DataArray(given.reshape(-1, 40), dims=("stimulus", "unit"))
    assert quiet(manifold_capacity, labelled, labels=labels, n_samples=30).capacity == by_array.capacity
    # units and offsets do not matter
    moved = quiet(manifold_capacity, 1e3 * given + 7, n_samples=30)
    assert moved.capacity == pytest.approx(by_array.capacity, rel=1e-9)


def test_too_few_points_of_a_large_manifold_are_warned_of():
    with pytest.warns(UserWarning, match="half of the points"):
        manifold_capacity(spheres(10, 10, 10, 1.0, 100, 0), n_samples=60)


def test_few_manifolds_are_warned_of():
    with pytest.warns(UserWarning, match="8 manifolds are few"):
        simulated_capacity(spheres(8, 4, 1, 0.2, 60, 0), n_dichotomies=20)


def test_manifolds_that_cannot_be_separated():
    with pytest.raises(InputError, match="not separable"):
        simulated_capacity(np.random.default_rng(0).normal(size=(30, 10, 20)))


@pytest.mark.parametrize(
    ("given", "labels", "problem"),
    [
        ([np.ones((3, 2)), np.ones((3, 3))], None, "no manifolds"),
        (np.ones((4, 3)), None, "no manifolds"),
        ([np.ones((3, 2))], None, "one manifold"),
        (np.ones((4, 3, 2)), None, "no direction"),
        ([np.full((3, 2), np.nan), np.ones((3, 2))], None, "not finite"),
        (np.ones((4, 2)), ["a", "b"], "labels do not fit"),
    ],
)
def test_input_that_is_refused(given, labels, problem):
    for function in (manifold_capacity, simulated_capacity):
        with pytest.raises(InputError, match=problem):
            function(given, labels)


def test_options_that_do_not_exist():
    given = spheres(5, 4, 1, 0.2, 30, 0)
    for option in ({"n_shared": 4}, {"n_samples": 3}, {"n_permutations": 5}, {"level": 1.0}):
        with pytest.raises(OptionError):
            manifold_capacity(given, **option)
    with pytest.raises(OptionError):
        simulated_capacity(given, n_dichotomies=10)
    with pytest.raises(OptionError):
        ball_capacity(-1, 2)


def test_results_are_drawn_told_and_kept(tmp_path):
    given = spheres(20, 8, 1, 0.3, 60, 0)
    theory, simulated = quiet(manifold_capacity, given, n_samples=40), simulated_capacity(given, n_dichotomies=20)
    for found, label in ((theory, "radius"), (simulated, "random dimensions")):
        assert found.plot(Figure().subplots()).get_xlabel().startswith(label)
        assert "manifolds per dimension" in found.summary()
        assert load_result(found.save(tmp_path / "capacity.nc")) == found
