"""Rotations that were planted, smooth activity that has none, and what each control says of both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.dynamics.projections.skew import Steps, fit_free, fit_skew, rotation_planes
from neuros_mechint.neuro.dynamics.projections.tensor_entropy import maximum_entropy
from tests.slow import slow_case

N_CONDITIONS, N_TIMES, N_UNITS = 20, 40, 30


def smooth(random, shape=(N_CONDITIONS, N_TIMES, N_UNITS), width=6):
    conditions, times, units = shape
    noise = random.normal(size=(conditions, times + 10 * width, units))
    filtered = gaussian_filter1d(noise, width, axis=1)[:, 5 * width : -5 * width]
    return filtered / filtered.std()


def rotating(random, frequencies=(0.04, 0.025), noise=0.0):
    """Planes at right angles, in each of which conditions turn from phases of their own."""
    axes = np.linalg.qr(random.normal(size=(N_UNITS, 2 * len(frequencies))))[0].T
    activity = np.zeros((N_CONDITIONS, N_TIMES, N_UNITS))
    for plane, frequency in enumerate(frequencies):
        start = random.uniform(0, 2 * np.pi, N_CONDITIONS)[:, None]
        size = random.uniform(0.5, 1.5, N_CONDITIONS)[:, None, None]
        angle = start + 2 * np.pi * frequency * np.arange(N_TIMES)
        activity += size * np.stack([np.cos(angle), np.sin(angle)], axis=-1) @ axes[2 * plane : 2 * plane + 2]
    return activity + noise * activity.std() * smooth(random)


@pytest.mark.parametrize("frequency", [0.01, 0.04, 0.2, 0.4])
def test_a_rotation_is_recovered_exactly_whatever_its_angle(frequency):
    phases = 2 * np.pi * np.arange(N_CONDITIONS) / N_CONDITIONS
    angle = phases[:, None] + 2 * np.pi * frequency * np.arange(N_TIMES)
    plane = np.linalg.qr(np.random.default_rng(0).normal(size=(N_UNITS, 2)))[0].T
    activity = np.stack([np.cos(angle), np.sin(angle)], axis=-1) @ plane + 3.0
    recorded = xr.DataArray(activity, dims=("trial", "time", "unit"), attrs={"sampling_rate": 100.0})
    found = nm.RotationalDynamics(n_components=2).fit(recorded)
    assert found.frequencies_ == pytest.approx([100 * frequency], rel=1e-9)
    assert found.result_.data["free_frequency"].values == pytest.approx([100 * frequency], rel=1e-9)
    assert found.r2_skew_ == pytest.approx(1, abs=1e-12)
    assert found.r2_best_ == pytest.approx(1, abs=1e-12)
    # both axes lie in the plane, and activity turns from the first towards the second
    assert found.components_ @ plane.T @ plane == pytest.approx(found.components_, abs=1e-9)
    paths = found.transform(activity)
    turn = np.angle((paths[:, 1:, 0] + 1j * paths[:, 1:, 1]) / (paths[:, :-1, 0] + 1j * paths[:, :-1, 1]))
    assert turn == pytest.approx(np.full(turn.shape, 2 * np.pi * frequency), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_two_planes_in_noise(seed):
    activity = rotating(np.random.default_rng(seed), noise=0.3)
    found = nm.RotationalDynamics(n_components=4).fit(activity)
    assert found.frequencies_ == pytest.approx([0.04, 0.025], rel=0.04)
    assert found.components_ @ found.components_.T == pytest.approx(np.eye(4), abs=1e-9)
    assert found.r2_skew_ > 0.95
    tested = nm.RotationalDynamics(n_components=4).test(activity, 39, seed)
    assert tested.p == 1 / 40
    assert tested.data["ratio_p"].item() == 1 / 40


def test_the_fewest_surrogates_that_are_allowed_can_be_enough():
    tested = nm.RotationalDynamics(n_components=4).test(rotating(np.random.default_rng(0), noise=0.3), 19)
    assert tested.p == 1 / 20
    assert "that is more than in surrogates (p = 0.05" in tested.summary()


@pytest.mark.parametrize("size", [0.1, 0.3, 1.0])
def test_noise_lowers_r2_far_more_than_frequencies_and_how_much_is_known(size):
    """White noise has variance s^2 / 2 in states half-way and 2 s^2 in changes, uncorrelated with each other."""
    found, losses, shares = [], [], []
    for seed in range(5):
        random = np.random.default_rng(seed)
        clean = rotating(random)
        noise = size * clean.std() * random.normal(size=clean.shape)
        result = nm.RotationalDynamics(4).estimate(clean + noise)
        planes = result.data["frequency"].values / [0.04, 0.025]
        found.append([result.data["r2_skew"].item(), result.data["noise_share"].item()])
        changes = (np.diff(clean - clean.mean(0), axis=1) ** 2).sum(-1).mean()
        added = 2 * noise.var() * 4 * (1 - 1 / N_CONDITIONS)  # in four components, less the mean over conditions
        shares.append(added / (changes + added))
        losses.append([1 - planes.mean(), result.data["frequency_loss"].values.mean()])
        assert bool(result.warnings) == (result.data["noise_share"].item() >= 0.15)
    measured, (lost, said) = np.mean(found, axis=0), np.mean(losses, axis=0)
    share = np.mean(shares)
    assert measured[0] == pytest.approx((1 - share) * (1 - lost), abs=0.02)
    assert lost < 0.2
    # at least so much, and all of it where noise is weaker than activity
    assert measured[1] < share + 0.02
    assert measured[1] == pytest.approx(share, abs=0.02 if size < 1 else 0.15)
    assert said == pytest.approx(lost, abs=0.01 if size < 1 else 0.03)


def test_activity_that_is_smooth_or_has_memory_is_not_called_noisy():
    for seed in range(5):
        random = np.random.default_rng(seed)
        assert nm.RotationalDynamics().estimate(smooth(random)).data["noise_share"].item() == 0
        for fade in (0.3, 0.6, 0.9):  # new values drive it at every time, which is no noise of the measurement
            process = [random.normal(size=(N_CONDITIONS, N_UNITS))]
            for _ in range(N_TIMES - 1):
                process.append(fade * process[-1] + (1 - fade**2) ** 0.5 * random.normal(size=process[-1].shape))
            assert not nm.RotationalDynamics().estimate(np.stack(process, axis=1)).warnings


def test_estimate_is_the_result_of_a_fit_and_leaves_the_estimator_alone():
    activity = rotating(np.random.default_rng(0), noise=0.3)
    model = nm.RotationalDynamics(4)
    estimated = model.estimate(activity)
    assert not hasattr(model, "frequencies_")
    assert estimated.data.identical(model.fit(activity).result_.data)
    noisy = activity + activity.std() * np.random.default_rng(1).normal(size=activity.shape)
    with pytest.warns(UserWarning, match="noise that is new in every sample makes at least"):
        model.fit(noisy)


@pytest.mark.parametrize("n_seeds", [10, slow_case(20)])
def test_smooth_activity_is_not_called_rotational(n_seeds):
    kinds = {
        "smooth": smooth,
        "few dimensions": lambda random: smooth(random, (N_CONDITIONS, N_TIMES, 8)) @ random.normal(size=(8, N_UNITS)),
        "peaks in sequence": _peaks,
        "few conditions": lambda random: smooth(random, (8, N_TIMES, N_UNITS)),
    }
    for make in kinds.values():
        tests = [nm.RotationalDynamics().test(make(np.random.default_rng(seed)), 19, seed) for seed in range(n_seeds)]
        assert np.mean([one.p <= 0.05 for one in tests]) <= 0.1
        # which the share itself does not say: a tenth of the changes is a rotation by chance
        assert np.mean([one.data["surrogate_r2"].mean() for one in tests]) > 0.04


def _peaks(random):
    """Units that peak one after the other, in all conditions alike, by amounts that differ."""
    time, peak = np.arange(N_TIMES)[:, None], np.linspace(5, N_TIMES - 5, N_UNITS)
    shape = np.exp(-((time - peak) ** 2) / 72)
    return shape * random.normal(size=(N_CONDITIONS, 1, N_UNITS)) + 0.05 * smooth(random)


def test_growth_and_decay_are_no_rotation():
    rates = np.array([-0.05, 0.02, -0.1, 0.04])
    start = np.random.default_rng(0).normal(size=(N_CONDITIONS, 1, 4))
    found = nm.RotationalDynamics(n_components=4).fit(start * np.exp(rates * np.arange(N_TIMES)[:, None]))
    assert found.r2_best_ > 0.99
    assert found.r2_skew_ < 0.3
    assert found.r2_skew_ / found.r2_best_ < 0.3


def test_ellipses_turn_faster_than_the_skew_fit_says():
    angle = np.linspace(0, 2 * np.pi, N_CONDITIONS, endpoint=False)[:, None] + 2 * np.pi * 0.03 * np.arange(N_TIMES)
    ellipse = np.stack([4 * np.cos(angle), np.sin(angle)], axis=-1)
    found = nm.RotationalDynamics(n_components=2).fit(ellipse)
    expected = 2 * 4 * 1 / (4**2 + 1**2)  # of the speed: both axes weigh as their squares
    speed = 2 * np.tan(np.pi * 0.03)
    assert found.frequencies_[0] == pytest.approx(np.arctan(expected * speed / 2) / np.pi, rel=1e-6)
    assert found.result_.data["free_frequency"].item() == pytest.approx(0.03, rel=1e-9)
    assert found.r2_best_ == pytest.approx(1, abs=1e-12)


def test_the_mean_over_conditions_decides_what_is_found():
    angle = 2 * np.pi * 0.05 * np.arange(N_TIMES)
    common = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    activity = 5 * common + 0.1 * smooth(np.random.default_rng(0), (N_CONDITIONS, N_TIMES, 3))
    without = nm.RotationalDynamics(2).fit(activity)
    kept = nm.RotationalDynamics(2, subtract_mean=False).fit(activity)
    assert kept.frequencies_ == pytest.approx([0.05], rel=0.02)
    assert kept.r2_skew_ > 0.95
    assert without.r2_skew_ < 0.3
    assert "no mean over conditions was subtracted" in kept.result_.summary()
    assert without.mean_.shape == (N_TIMES, 3)


def test_soft_normalization_takes_units_to_one_range():
    activity = rotating(np.random.default_rng(0)) * np.geomspace(1, 1000, N_UNITS)
    soft = nm.RotationalDynamics(4, soft_normalization=5.0).fit(activity)
    by_hand = nm.RotationalDynamics(4).fit(activity / (np.ptp(activity, axis=(0, 1)) + 5.0))
    assert soft.frequencies_ == pytest.approx(by_hand.frequencies_, rel=1e-9)
    assert abs(soft.frequencies_[0] - nm.RotationalDynamics(4).fit(activity).frequencies_[0]) > 1e-3


def test_the_skew_fit_is_the_best_one():
    random = np.random.default_rng(0)
    given = Steps(random.normal(size=(50, 4)) * [3, 2, 1, 0.5], random.normal(size=(50, 4)))
    above = np.triu_indices(4, 1)

    def loss(entries):
        skew = np.zeros((4, 4))
        skew[above] = entries
        return ((given.changes - given.states @ (skew - skew.T).T) ** 2).sum()

    searched = minimize(loss, np.zeros(6), tol=1e-12)
    found = fit_skew(given)
    assert found == pytest.approx(-found.T, abs=1e-12)
    assert found[above] == pytest.approx(searched.x, abs=1e-5)
    assert given.explained(fit_free(given)) > given.explained(found)
    planes, angles = rotation_planes(found)
    rebuilt = sum(
        2 * np.tan(a / 2) * (np.outer(p[1], p[0]) - np.outer(p[0], p[1])) for p, a in zip(planes, angles, strict=True)
    )
    assert rebuilt == pytest.approx(found, abs=1e-12)


def test_surrogates_keep_the_covariances_and_nothing_else():
    activity = rotating(np.random.default_rng(0), noise=0.3)
    activity = activity - activity.mean(0)
    found = maximum_entropy(activity)
    rest = activity - found.mean
    random = np.random.default_rng(1)
    drawn = np.stack([found.draw(random) - found.mean for _ in range(200)])
    for axis in range(3):
        # what the multipliers were found for: exactly the sums of variances along each eigenvector
        others = tuple(other for other in range(3) if other != axis)
        rows = np.moveaxis(rest, axis, 0).reshape(rest.shape[axis], -1)
        target = rows @ rows.T
        axes = found.axes[axis]
        expected = (axes * (found.deviations**2).sum(others)) @ axes.T
        assert np.abs(expected - target).max() < 1e-6 * np.abs(target).max()
        several = np.moveaxis(drawn, axis + 1, 0).reshape(rest.shape[axis], -1)
        sampled = several @ several.T / len(drawn)
        assert np.linalg.norm(sampled - target) < 0.1 * np.linalg.norm(target)
    assert np.abs(found.draw(random).mean(0)).max() < 1e-9  # the mean over conditions stays subtracted


def test_activity_in_any_form():
    activity = rotating(np.random.default_rng(0), noise=0.3)
    found = nm.RotationalDynamics(4).fit(activity)
    for other in (torch.from_numpy(activity), list(activity)):
        again = nm.RotationalDynamics(4).fit(other)
        np.testing.assert_array_equal(again.components_, found.components_)
    assert isinstance(found.transform(torch.from_numpy(activity)), torch.Tensor)
    assert len(found.transform(list(activity))) == N_CONDITIONS
    np.testing.assert_array_equal(nm.RotationalDynamics(4).fit_transform(activity), found.transform(activity))
    few_times = activity[:, :10, :]
    wide = nm.RotationalDynamics(4).fit(np.concatenate([few_times, few_times] * 4, axis=2)[:8])  # more units than rows
    assert wide.components_ @ wide.components_.T == pytest.approx(np.eye(4), abs=1e-8)


@pytest.mark.parametrize(
    ("x", "options", "error", "problem"),
    [
        (np.ones((5, 20, 8)), {}, InputError, "does not vary"),
        (smooth(np.random.default_rng(0), (1, 30, 8)), {}, InputError, "too few trials"),
        (np.full((5, 20, 8), np.nan), {}, InputError, "NaN"),
        (smooth(np.random.default_rng(0), (5, 2, 8)), {}, InputError, "too short"),
        ([np.random.default_rng(0).normal(size=(n, 8)) for n in (20, 25)], {}, InputError, "one length"),
        (smooth(np.random.default_rng(0), (5, 20, 8)), {"n_components": 5}, OptionError, "odd"),
        (smooth(np.random.default_rng(0), (5, 20, 4)), {}, OptionError, "6 components are more"),
        (smooth(np.random.default_rng(0), (2, 5, 8)), {"n_components": 4}, InputError, "too few steps"),
        (np.repeat(np.random.default_rng(0).normal(size=(9, 1, 8)), 5, axis=1), {}, InputError, "not change in time"),
        (smooth(np.random.default_rng(0)), {"soft_normalization": -1.0}, OptionError, "soft_normalization"),
    ],
)
def test_bad_input(x, options, error, problem):
    with pytest.raises(error, match=problem):
        nm.RotationalDynamics(**options).fit(x)


def test_bad_use():
    activity = rotating(np.random.default_rng(0), noise=0.3)
    with pytest.raises(InputError, match="not fitted"):
        nm.RotationalDynamics().transform(activity)
    found = nm.RotationalDynamics().fit(activity)
    with pytest.raises(InputError, match="another number of units"):
        found.transform(activity[..., :4])
    with pytest.raises(InputError, match="other times"):
        found.transform(activity[:, :20])
    with pytest.raises(InputError, match="at least 8, with which smooth noise"):
        nm.RotationalDynamics(2).test(activity[:7])
    with pytest.raises(InputError, match="sum of its means"):
        maximum_entropy(activity[:, :1, :1] + activity[:1, :, :1] + activity[:1, :1])


def test_results_say_show_and_keep(tmp_path):
    activity = rotating(np.random.default_rng(0), noise=0.3)
    before = activity.copy()
    found = nm.RotationalDynamics(4).fit(activity)
    tested = nm.RotationalDynamics(4).test(activity, 19)
    np.testing.assert_array_equal(activity, before)
    assert tested.data.identical(nm.RotationalDynamics(4).test(activity, 19).data)
    assert "plane 2: 0.02" in found.result_.summary()
    assert "more than in surrogates" in tested.summary()
    effect = tested.summary().splitlines()[1]  # the size first, p after it
    assert effect.startswith("rotations explain")
    assert "in surrogates" in effect
    assert "p =" not in effect
    assert found.result_.plot(Figure().subplots()).get_ylabel() == "jPC 2"
    assert "rotations" in tested.plot(Figure().subplots()).get_xlabel()
    for result in (found.result_, tested):
        assert nm.load_result(result.save(tmp_path / "rotations.nc")) == result


def test_the_figure_tells_starts_and_directions_of_time():
    axes = nm.RotationalDynamics(4).estimate(rotating(np.random.default_rng(0))).plot(Figure().subplots())
    heads = [note for note in axes.texts if note.arrowprops]
    assert len(heads) == N_CONDITIONS
    turns = [np.cross((*note.xyann, 0), (*note.xy, 0))[2] for note in heads]
    assert min(turns) > 0  # activity turns from the first axis to the second
    told = [text.get_text() for text in axes.get_legend().get_texts()]
    assert told[:2] == ["start of a condition", "direction of time"]
