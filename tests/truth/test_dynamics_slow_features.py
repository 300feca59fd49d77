"""Slow features of mixtures whose slowest part is known, and of activity that has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError

TIME = np.arange(4000) / 1000  # seconds
SINES = np.stack([np.sin(2 * np.pi * f * TIME) for f in (1, 3, 7, 12, 20)], axis=1)


def likeness(one, other):
    return abs(np.corrcoef(one, other)[0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_sines_in_a_linear_mixture_come_out_in_order(seed):
    mixed = SINES[:, [2, 0, 4, 1, 3]] @ np.random.default_rng(seed).normal(size=(5, 12)) + 7
    recorded = xr.DataArray(mixed, dims=("time", "unit"), attrs={"sampling_rate": 1000.0})
    sfa = nm.SlowFeatureAnalysis().fit(recorded)
    features = sfa.transform(mixed)
    assert features.shape == (4000, 5)  # the rank of the mixture
    for feature, sine in zip(features.T, SINES.T, strict=True):
        assert likeness(feature, sine) > 1 - 1e-5
    assert sfa.frequencies_ == pytest.approx([1, 3, 7, 12, 20], rel=1e-3)
    assert np.all(np.diff(sfa.delta_) > 0)
    assert np.cov(features.T, bias=True) == pytest.approx(np.eye(5), abs=1e-9)
    assert features.mean(0) == pytest.approx(np.zeros(5), abs=1e-9)
    change = np.diff(features, axis=0) * 1000
    assert (change**2).mean(0) == pytest.approx(sfa.delta_, rel=1e-9)


def test_the_papers_example_needs_squares():
    slow, fast = SINES[:, 0], np.cos(2 * np.pi * 11 * TIME)
    mixed = np.stack([slow + fast**2, fast], axis=1)
    squared = nm.SlowFeatureAnalysis(n_components=1, degree=2).fit_transform(mixed)
    linear = nm.SlowFeatureAnalysis(n_components=1).fit_transform(mixed)
    assert likeness(squared[:, 0], slow) > 1 - 1e-9
    assert likeness(linear[:, 0], slow) < 0.95


def test_slowness_of_new_trials_tells_features_from_chance():
    random = np.random.default_rng(0)
    source = SINES[:, :1] @ random.normal(size=(1, 10)) + random.normal(size=(4000, 10))
    noise = random.normal(size=(4000, 10))
    for activity, slow in ((source, True), (noise, False)):
        sfa = nm.SlowFeatureAnalysis(n_components=1).fit(activity[:2000])
        new = sfa.slowness(activity[2000:])
        assert bool(new[0] < 1.0) is slow  # 2 without any order in time
    assert sfa.slowness(noise[2000:])[0] == pytest.approx(2.0, abs=0.2)


def test_activity_without_order_in_time_has_no_slow_features():
    found = [
        nm.SlowFeatureAnalysis().test(np.random.default_rng(seed).normal(size=(300, 5)), 39, seed).data["p"].values[0]
        for seed in range(40)
    ]
    assert np.mean(np.array(found) <= 0.05) <= 0.15
    assert 0.35 < np.mean(found) < 0.65
    few = nm.SlowFeatureAnalysis().test(SINES, 19)  # the fewest that are allowed
    assert (
        few.summary().count(f"{few.main.size} of {few.main.size} features are slower than those of shuffled times") == 1
    )
    sines = nm.SlowFeatureAnalysis().test(SINES, 39)
    assert np.all(sines.data["p"] == 1 / 40)
    assert sines.main.values == pytest.approx([0.001, 0.003, 0.007, 0.012, 0.02], rel=1e-3)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_noise_makes_features_faster_and_how_much_is_said(noise):
    """Three sines of .005, .02 and .05 cycles per sample in 12 units; white noise of a share of their size."""
    time, found = np.arange(2000), []
    for seed in range(10):
        random = np.random.default_rng(seed)
        phases = random.uniform(0, 2 * np.pi, 3)
        sines = 2**0.5 * np.sin(2 * np.pi * np.outer(time, [0.005, 0.02, 0.05]) + phases)
        activity = sines @ random.normal(size=(3, 12)) / 3**0.5 + noise * random.normal(size=(2000, 12))
        model = nm.SlowFeatureAnalysis(1).fit(activity)
        result = model.test(activity, 19)
        weights = model.components_[0] / model.scale_
        share = noise**2 * weights @ weights  # of the feature's variance
        found.append([model.frequencies_[0], share, result.data["noise_share"].values[0], bool(result.warnings)])
    frequency, true, said, warned = np.mean(found, axis=0)
    assert said <= true + 0.01  # a lower bound, for smooth signals
    if noise == 0:
        assert (said, warned) == (0, 0)
        assert frequency == pytest.approx(0.005, rel=0.01)
    else:
        assert frequency > (5 if noise < 1 else 10) * 0.005
        assert warned >= (0.5 if noise < 1 else 0.9)


def test_processes_with_memory_are_not_called_noisy():
    for fade in (0.5, 0.9, 0.99):
        for seed in range(10):
            random = np.random.default_rng(seed)
            state, states = random.normal(size=6), []
            for _ in range(1000):
                states.append(state)
                state = fade * state + (1 - fade**2) ** 0.5 * random.normal(size=6)
            assert not nm.SlowFeatureAnalysis(3).test(np.array(states), 19).warnings


def test_no_change_is_taken_across_trials():
    random = np.random.default_rng(0)
    mixing = random.normal(size=(2, 4))
    trials = [
        np.stack([np.full(length, level), random.normal(size=length)], axis=1) @ mixing
        for length, level in ((50, -1.0), (80, 3.0), (30, 0.5))
    ]
    sfa = nm.SlowFeatureAnalysis().fit(trials)
    assert sfa.delta_[0] == pytest.approx(0, abs=1e-15)
    steps = [feature[:, 0] for feature in sfa.transform(trials)]
    assert [len(step) for step in steps] == [50, 80, 30]
    assert max(np.ptp(step) for step in steps) < 1e-9
    joined = nm.SlowFeatureAnalysis().fit(np.concatenate(trials))
    assert joined.delta_[0] > 1e-3


def test_features_come_in_the_form_of_the_activity():
    activity = np.random.default_rng(0).normal(size=(4, 60, 3))
    sfa = nm.SlowFeatureAnalysis(n_components=2).fit(activity)
    found = sfa.transform(activity)
    assert found.shape == (4, 60, 2)
    as_tensor = sfa.transform(torch.from_numpy(activity))
    assert isinstance(as_tensor, torch.Tensor)
    np.testing.assert_array_equal(as_tensor.numpy(), found)
    np.testing.assert_array_equal(sfa.transform(list(activity))[2], found[2])
    assert sfa.transform(activity[0]).shape == (60, 2)
    scaled = nm.SlowFeatureAnalysis(n_components=2).fit(1e6 * activity - 5)
    assert scaled.delta_ == pytest.approx(sfa.delta_, rel=1e-9)
    constant = np.concatenate([activity, np.ones((4, 60, 1))], axis=2)
    assert nm.SlowFeatureAnalysis(n_components=2).fit(constant).delta_ == pytest.approx(sfa.delta_, rel=1e-9)


@pytest.mark.parametrize(
    ("x", "options", "problem"),
    [
        (np.ones((50, 3)), {}, "does not vary"),
        (np.full((50, 3), np.nan), {}, "NaN"),
        (np.random.default_rng(0).normal(size=(2, 3)), {}, "too short"),
        (np.random.default_rng(0).normal(size=(30, 10)), {"degree": 2}, "too few times"),
        (SINES[:, :2], {"n_components": 3}, "3 components are more"),
    ],
)
def test_bad_input(x, options, problem):
    with pytest.raises(InputError, match=problem):
        nm.SlowFeatureAnalysis(**options).fit(x)


def test_bad_use():
    with pytest.raises(OptionError):
        nm.SlowFeatureAnalysis(degree=0).fit(SINES)
    with pytest.raises(InputError, match="not fitted"):
        nm.SlowFeatureAnalysis().transform(SINES)
    with pytest.raises(InputError, match="another number of units"):
        nm.SlowFeatureAnalysis().fit(SINES).transform(SINES[:, :2])


def test_the_result_says_shows_and_keeps(tmp_path):
    found = nm.SlowFeatureAnalysis(n_components=3).test(SINES, 39)
    assert "3 of 3 features are slower" in found.summary()
    assert found.plot(Figure().subplots()).get_ylabel() == "equivalent frequency (cycles per sample)"
    assert nm.load_result(found.save(tmp_path / "slow.nc")) == found


def test_trials_that_differ_and_do_not_move_have_no_slow_features():
    still = np.repeat(np.random.default_rng(0).normal(size=(3, 1, 4)), 40, axis=1)
    with pytest.raises(InputError, match="does not vary"):
        nm.SlowFeatureAnalysis().fit(still)
