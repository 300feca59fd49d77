"""Dimensions of sets that have a known one, at a scale where they have it, and what is refused or warned of."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.geometry.neighbours import nearest, pairwise
from neuros_mechint.neuro.geometry.points import points
from tests.slow import slow_case

LOCAL = ("two_nn", "mle", "correlation")


def ball(n_points, dimension, random):
    direction = random.normal(size=(n_points, dimension))
    radius = random.random((n_points, 1)) ** (1 / dimension)
    return radius * direction / np.linalg.norm(direction, axis=1, keepdims=True)


def swiss_roll(n_points, random):
    angle = 1.5 * np.pi * (1 + 2 * random.random(n_points))
    return np.stack([angle * np.cos(angle), 21 * random.random(n_points), angle * np.sin(angle)], axis=1)


def lorenz(n_times, dt, n_trials=1, seed=0):
    start = torch.from_numpy(np.random.default_rng(seed).normal((0, 0, 25), size=(n_trials, 3)))
    settled = nm.simulate(nm.rk4(nm.lorenz, 0.02), start, 1000)[:, -1]
    return nm.simulate(nm.rk4(nm.lorenz, dt, n_substeps=max(1, round(dt / 0.02))), settled, n_times).numpy()


def quiet(x, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nm.intrinsic_dimension(x, **options)


@pytest.mark.parametrize("seed", [0, 1, *map(slow_case, range(2, 5))])
def test_swiss_roll_is_a_plane_which_linear_methods_do_not_see(seed):
    found = nm.intrinsic_dimension(swiss_roll(2000, np.random.default_rng(seed)))
    assert found.dimension == pytest.approx(2.0, abs=0.15)
    for method in LOCAL:
        assert found.estimates[method] == pytest.approx(2.0, abs=0.15)
    assert found.estimates["pca"] == 3
    assert found.estimates["participation_ratio"] > 2.8


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
def test_ball_in_five_dimensions(seed):
    found = nm.intrinsic_dimension(ball(5000, 5, np.random.default_rng(seed)))
    for method in LOCAL:
        assert found.estimates[method] == pytest.approx(5.0, abs=0.5)
    assert found.estimates["participation_ratio"] == pytest.approx(5.0, abs=0.05)


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [  # means over 30 seeds; points at the edge see fewer neighbours, so that all are too low
        (2, {"two_nn": 2.00, "mle": 1.94, "correlation": 1.95}),
        slow_case(5, {"two_nn": 4.75, "mle": 4.53, "correlation": 4.64}),
        (10, {"two_nn": 8.80, "mle": 8.28, "correlation": 8.45}),
    ],
)
def test_bias_of_balls_of_a_thousand_points(dimension, expected):
    runs = [quiet(ball(1000, dimension, np.random.default_rng(seed))).estimates for seed in range(10)]
    for method, value in expected.items():
        mean = np.mean([run[method] for run in runs])
        assert mean == pytest.approx(value, rel=0.02 if method != "two_nn" else 0.03)
        assert mean < 1.02 * dimension


def test_line_and_plane_in_many_dimensions():
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(50, 2)))[0].T
    plane = nm.intrinsic_dimension(random.random((2000, 2)) @ axes)
    line = nm.intrinsic_dimension(random.random((2000, 1)) @ axes[:1] + 1e3)
    for method in LOCAL:
        assert plane.estimates[method] == pytest.approx(2.0, abs=0.12)
        assert line.estimates[method] == pytest.approx(1.0, abs=0.06)
    assert plane.estimates["pca"] == 2
    assert line.estimates["pca"] == 1
    assert line.estimates["participation_ratio"] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("dimension", [3, 6])
def test_noise_fills_the_space(dimension):
    found = nm.intrinsic_dimension(np.random.default_rng(1).normal(size=(4000, dimension)))
    for method in ("two_nn", "mle"):
        assert found.estimates[method] == pytest.approx(dimension, rel=0.08)
    # larger distances than those of neighbours: edges count
    assert 0.88 * dimension < found.estimates["correlation"] < 1.02 * dimension
    assert "the data fill all" in found.summary()


def test_noise_raises_the_dimension_at_small_scales_only():
    random = np.random.default_rng(0)
    roll = swiss_roll(5000, random)
    with pytest.warns(UserWarning, match="depends on scale"):
        noisy = nm.intrinsic_dimension(roll + 0.2 * random.normal(size=roll.shape))
    assert noisy.dimension > 2.5
    curve = noisy.data.sel(local_estimator="two_nn").dropna("scale")
    far = curve["scale_estimate"].values[curve["scale_distance"].values > 2]
    assert np.all(np.abs(far - 2) < 0.15)
    assert curve["scale_distance"].values[0] < 0.6
    assert np.all(np.diff(curve["scale_estimate"].values[:5:2]) < -0.1)


@pytest.mark.parametrize(("dt", "n_trials"), [(0.05, 4), slow_case(0.2, 16)])
def test_correlation_dimension_of_the_lorenz_attractor(dt, n_trials):
    sets = lorenz(8000 // n_trials, dt, 4 * n_trials).reshape(4, n_trials, -1, 3)
    values = [quiet(trials, method="correlation").dimension for trials in sets]
    assert np.mean(values) == pytest.approx(2.05, abs=0.05)
    assert np.std(values) < 0.05


def test_neighbours_in_time_are_left_out():
    # two passes of a spiral: without the window each point finds the samples before and after it
    random = np.random.default_rng(0)
    trajectory = lorenz(3000, 0.01)[0]
    within = quiet(trajectory, method="mle", n_neighbors=10).dimension
    apart = quiet(trajectory[None], method="mle", n_neighbors=10)
    assert 10 <= apart.attributes["theiler"] <= 100
    near = nearest(points(trajectory[None]), 2)
    time = np.arange(3000)[:, None]
    assert np.abs(near.indices - time).min() > apart.attributes["theiler"]
    assert quiet(trajectory, theiler=30).attributes["theiler"] == 30
    assert within != apart.dimension
    # white noise has no memory, and the window changes next to nothing
    noise = random.normal(size=(1, 3000, 3))
    assert quiet(noise).attributes["theiler"] == 1
    assert quiet(noise).dimension == pytest.approx(quiet(noise[0]).dimension, rel=0.02)


def test_a_trajectory_sampled_more_finely_than_its_passes_lie_is_warned_of():
    found = quiet(lorenz(2500, 0.001))
    assert any("follow each other on one trajectory" in text for text in found.warnings)


def test_trajectories_come_in_any_form():
    trials = lorenz(400, 0.1, 3)
    labelled = xr.DataArray(trials.transpose(2, 0, 1), dims=("unit", "trial", "time"))
    values = [quiet(x).dimension for x in (trials, torch.from_numpy(trials), list(trials), labelled)]
    assert values == [pytest.approx(values[0], rel=1e-12)] * 4
    acts = xr.DataArray(np.random.default_rng(0).normal(size=(10, 30, 4)), dims=("sample", "position", "unit"))
    found = quiet(acts)
    assert (found.attributes["n_points"], found.attributes["n_features"]) == (300, 4)
    assert found.attributes["theiler"] is None
    assert found.dimension == quiet(acts.values.reshape(300, 4)).dimension
    assert quiet(torch.from_numpy(acts.values.reshape(300, 4)).bfloat16()).dimension > 2
    tensor = torch.from_numpy(acts.values)
    site = nm.Activations({"embed": tensor}, {"embed": ("sample", "position", "unit")})
    assert quiet(site).dimension == found.dimension
    two = nm.Activations({"embed": tensor, "ln_final": tensor}, dict.fromkeys(("embed", "ln_final"), acts.dims))
    with pytest.raises(InputError, match="not clear which site"):
        nm.intrinsic_dimension(two)


def test_participation_ratio_of_a_known_covariance_is_exact():
    random = np.random.default_rng(0)
    variances = np.array([9.0, 4.0, 1.0, 1.0, 0.25])
    white = random.normal(size=(200, 5))
    white = np.linalg.qr(white - white.mean(0))[0] * 200**0.5  # sample covariance exactly the identity
    found = nm.intrinsic_dimension(
        white * variances**0.5 @ np.linalg.qr(random.normal(size=(5, 5)))[0], method="participation_ratio"
    )
    assert found.dimension == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=1e-12)
    assert found.data["variance_share"].values == pytest.approx(variances / variances.sum(), rel=1e-10)
    assert found.estimates["pca"] == 4  # 14 of 15.25 are 92%, 15 are 98%
    wide = random.normal(size=(40, 300))
    covariance = np.cov(wide.T, bias=True)
    with pytest.warns(UserWarning, match="few for a participation ratio"):
        few = nm.intrinsic_dimension(wide, method="participation_ratio")
    assert few.dimension == pytest.approx(np.trace(covariance) ** 2 / np.trace(covariance @ covariance), rel=1e-10)


def test_estimators_equal_the_published_formulas():
    x = ball(600, 4, np.random.default_rng(3))
    found = quiet(x, n_neighbors=12)
    distances = np.sort(cdist(x, x), axis=1)[:, 1:]
    inverse = [np.mean([np.log(row[11] / row[j]) for j in range(11)]) for row in distances]
    assert found.estimates["mle"] == pytest.approx(1 / np.mean(inverse), rel=1e-9)
    # the least squares of Facco et al.: -log(1 - F) on log mu through the origin, without the last tenth
    mu = np.sort(distances[:, 1] / distances[:, 0])[:540]
    fraction = np.arange(1, 541) / 600
    fitted = np.log(mu) @ -np.log(1 - fraction) / (np.log(mu) @ np.log(mu))
    assert found.estimates["two_nn"] == pytest.approx(fitted, rel=0.03)
    pairs = cdist(x, x)[np.triu_indices(600, 1)]
    radius = np.quantile(pairs, 0.01)
    takens = 1 / np.log(radius / pairs[pairs < radius]).mean()
    assert found.estimates["correlation"] == pytest.approx(takens, rel=0.03)


@pytest.mark.parametrize("method", LOCAL)
def test_no_unit_place_or_rotation_matters(method):
    random = np.random.default_rng(5)
    x = ball(500, 3, random)
    turned = x @ np.linalg.qr(random.normal(size=(3, 3)))[0]
    plain = quiet(x, method=method)
    for other in (1e-9 * x, 1e150 * x, turned, x + 100):
        assert quiet(other, method=method).dimension == pytest.approx(plain.dimension, rel=1e-6)
    scales = quiet(10 * x, method=method).data["scale_distance"]
    np.testing.assert_allclose(scales, 10 * plain.data["scale_distance"], rtol=1e-9)


def test_small_distances_are_exact_in_many_dimensions():
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 200))
    x[30:] = x[:30] + 1e-9 * random.normal(size=(30, 200))
    exact = cdist(x, x)
    assert pairwise(x, x) == pytest.approx(exact, rel=1e-9)
    np.fill_diagonal(exact, np.inf)
    data = points(x)
    found = nearest(data, 1)
    np.testing.assert_array_equal(found.indices[:, 0], exact.argmin(1))
    np.testing.assert_allclose(found.distances[:, 0] * data.unit, exact.min(1), rtol=1e-5)


@pytest.mark.parametrize("n_runs", [30, slow_case(60)])
def test_intervals_hold_the_expected_estimate(n_runs):
    runs = [quiet(swiss_roll(500, np.random.default_rng(seed))) for seed in range(n_runs)]
    names = runs[0].data["estimator"].values.tolist()
    low, high, value = (np.array([run.data[part].values for run in runs]) for part in ("low", "high", "estimate"))
    held = ((low <= value.mean(0)) & (value.mean(0) <= high)).mean(0)
    for method in (*LOCAL, "participation_ratio"):
        at = names.index(method)
        assert 0.85 <= held[at] <= 1.0
        width = (high - low)[:, at].mean() / (2 * 1.96 * value[:, at].std())
        assert 0.8 < width < 1.4


@pytest.mark.slow
@pytest.mark.parametrize("n_trials", [1, 4])
def test_intervals_of_trajectories_count_their_memory(n_trials):
    sets = lorenz(4000 // n_trials, 0.05, 40 * n_trials).reshape(40, n_trials, -1, 3)
    runs = [quiet(trials) for trials in sets]
    names = runs[0].data["estimator"].values.tolist()
    low, high, value = (np.array([run.data[part].values for run in runs]) for part in ("low", "high", "estimate"))
    held = ((low <= value.mean(0)) & (value.mean(0) <= high)).mean(0)
    for method in LOCAL:
        assert held[names.index(method)] >= 0.85


def test_duplicates_are_counted_once_and_said():
    x = ball(600, 3, np.random.default_rng(0))
    repeated = np.concatenate([x, x[:200], x[:50]])
    with pytest.warns(UserWarning, match="250 of 850 points repeat another one"):
        found = nm.intrinsic_dimension(repeated)
    assert found.attributes["n_duplicates"] == 250
    assert found.dimension == pytest.approx(nm.intrinsic_dimension(x).dimension, rel=1e-9)
    assert any("repeat another one" in text for text in found.warnings)
    # the linear ones weigh points as they come
    assert found.estimates["participation_ratio"] == pytest.approx(
        nm.intrinsic_dimension(repeated, method="participation_ratio").dimension
    )


def test_points_on_a_grid_are_refused_or_warned_of():
    counts = np.random.default_rng(0).poisson(3, size=(1000, 4))
    with pytest.raises(InputError, match="on a grid"):
        nm.intrinsic_dimension(counts)
    assert nm.intrinsic_dimension(counts, method="participation_ratio").dimension == pytest.approx(4, abs=0.1)
    rounded = np.round(25 * np.random.default_rng(0).normal(size=(2000, 2)))
    assert any("two nearest neighbours at the same distance" in text for text in quiet(rounded).warnings)
    with pytest.raises(InputError, match="on a grid"):
        nm.intrinsic_dimension(np.linspace(0, 1, 200)[:, None] * [1.0, 2.0])


def test_more_dimensions_than_points_can_show_are_warned_of():
    with pytest.warns(UserWarning, match="do not rely on"):
        nm.intrinsic_dimension(np.random.default_rng(0).normal(size=(500, 20)))


@pytest.mark.parametrize(
    ("x", "problem"),
    [
        (np.random.default_rng(0).normal(size=(20, 3)), "too few points"),
        (np.full((100, 3), 2.5), "all points are the same"),
        (np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 40, axis=0), "too few points are distinct"),
        (np.where(np.eye(50) > 0, np.nan, 1.0), "NaN"),
        (np.where(np.eye(50) > 0, np.inf, 1.0), "NaN or infinite"),
        (np.ones((50, 3), dtype=complex), "no real numbers"),
        (np.random.default_rng(0).normal(size=200), "no matrix"),
        (np.zeros((0, 3)), "empty"),
        ([[1.0, 2.0], [3.0]], "rows of one length"),
        (np.ma.masked_less(np.random.default_rng(0).normal(size=(50, 3)), 0), "mask"),
    ],
)
def test_bad_input(x, problem):
    with pytest.raises(InputError, match=problem):
        nm.intrinsic_dimension(x)


def test_bad_options():
    x = ball(100, 3, np.random.default_rng(0))
    with pytest.raises(OptionError, match="did you mean 'two_nn'"):
        nm.intrinsic_dimension(x, method="twonn")
    with pytest.raises(OptionError, match="n_neighbors is too large"):
        nm.intrinsic_dimension(x, n_neighbors=100)
    with pytest.raises(OptionError):
        nm.intrinsic_dimension(x, theiler=-1)
    with pytest.raises(InputError, match="too few points are no neighbours in time"):
        nm.intrinsic_dimension(x, theiler=45)


def test_the_result_says_shows_and_keeps(tmp_path):
    x = ball(600, 3, np.random.default_rng(0))
    before = x.copy()
    found = nm.intrinsic_dimension(x, method="mle")
    np.testing.assert_array_equal(x, before)
    assert found.data.identical(nm.intrinsic_dimension(x, method="mle").data)
    low, high = found.interval
    assert low < found.dimension < high
    assert "maximum likelihood; 95% interval" in found.summary()
    assert nm.load_result(found.save(tmp_path / "dimension.nc")) == found
    for method in LOCAL:
        ax = nm.intrinsic_dimension(x, method=method).plot(Figure().subplots())
        assert ax.get_xlabel() == "distance between neighbours (units of the data)"
    assert nm.intrinsic_dimension(x, method="pca").plot(Figure().subplots()).get_ylabel() == "dimension"


@pytest.mark.parametrize(
    ("window", "told"),
    [
        (0, "all other samples count as neighbours"),
        (1, "that are one sample apart"),
        (5, "that are up to 5 samples apart"),
    ],
)
def test_the_window_is_told_in_words(window, told):
    walks = np.random.default_rng(0).normal(size=(4, 100, 3))
    assert told in nm.intrinsic_dimension(walks, theiler=window).summary()
