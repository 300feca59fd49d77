"""Split-half reliability against 1 / (1 + s / R): signal of variance 1, noise of variance s, R repetitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.alignment.reliability import spearman_brown, split_half

N_STIMULI, N_UNITS = 400, 60


def simulate(noise_variance, n_repetitions, seed, n_stimuli=N_STIMULI, n_units=N_UNITS):
    random = np.random.default_rng(seed)
    signal = random.normal(size=(n_stimuli, n_units))
    noise = np.sqrt(noise_variance) * random.normal(size=(n_repetitions, n_stimuli, n_units))
    return signal, signal + noise


@pytest.mark.parametrize("n_repetitions", [2, 3, 4, 5, 7, 10])
@pytest.mark.parametrize("noise_variance", [1.0, 4.0])
def test_reliability_is_that_of_the_mean_of_all_repetitions(n_repetitions, noise_variance):
    expected = 1 / (1 + noise_variance / n_repetitions)
    found = []
    for seed in range(4):
        signal, responses = simulate(noise_variance, n_repetitions, [seed, n_repetitions])
        reliability = split_half(responses, seed=seed)
        found.append(reliability.values.mean())
        mean = responses.mean(0)
        oracle = [np.corrcoef(signal[:, unit], mean[:, unit])[0, 1] for unit in range(N_UNITS)]
        # the ceiling is what the true signal reaches: the square root, not the reliability
        assert np.sqrt(reliability.values.mean()) == pytest.approx(np.mean(oracle), abs=0.02)
        positive = reliability.values[reliability.values > 0]
        np.testing.assert_array_equal(reliability.data["ceiling"].values[reliability.values > 0], np.sqrt(positive))
        assert np.mean(oracle) == pytest.approx(np.sqrt(expected), abs=0.01)
    assert np.mean(found) == pytest.approx(expected, abs=0.01)
    assert np.std(found) < 0.02


@pytest.mark.parametrize(("noise_variance", "expected"), [(1.0, 0.8), (4.0, 0.5), (1.6, 0.714)])
def test_the_table_of_spearman_and_brown(noise_variance, expected):
    found = [split_half(simulate(noise_variance, 4, seed)[1]).values.mean() for seed in range(8)]
    assert np.mean(found) == pytest.approx(expected, abs=0.005)
    assert np.std(found) < 0.01


def test_noise_alone_has_no_reliability_in_either_direction():
    means = []
    for seed in range(6):
        noise = np.random.default_rng(seed).normal(size=(5, 200, 100))
        found = split_half(noise, seed=seed)
        means.append(found.values.mean())
        negative = int((found.values < 0).sum())
        assert 25 < negative < 75
        assert np.isnan(found.data["ceiling"].values).sum() == negative
        assert f"{negative} of 100 units have a negative reliability" in found.warnings[0]
    assert np.mean(means) == pytest.approx(0, abs=0.02)


def test_all_splits_of_few_repetitions_are_taken_once():
    _, responses = simulate(1.0, 4, 0, n_stimuli=30, n_units=2)
    ways = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    expected = [
        np.mean([np.corrcoef(*(responses[list(half), :, unit].mean(0) for half in way))[0, 1] for way in ways])
        for unit in range(2)
    ]
    found = split_half(responses)
    np.testing.assert_allclose(found.data["half_correlation"].values, expected, rtol=1e-12)
    np.testing.assert_allclose(found.values, 2 * np.array(expected) / (1 + np.array(expected)), rtol=1e-12)
    assert found.attributes["n_splits"] == 3
    odd = split_half(responses[:3])
    pairs = [np.corrcoef(responses[a, :, 0], responses[b, :, 0])[0, 1] for a, b in itertools.combinations(range(3), 2)]
    assert odd.data["half_correlation"].values[0] == pytest.approx(np.mean(pairs), rel=1e-12)
    assert odd.values[0] == pytest.approx(spearman_brown(np.mean(pairs), 3), rel=1e-12)


def test_drawn_splits_follow_the_seed_and_come_near_all_of_them():
    _, responses = simulate(1.0, 8, 1, n_stimuli=100, n_units=5)
    every = split_half(responses, n_splits=35)
    assert every.attributes["n_splits"] == 35  # 8 over 4, halved
    drawn = split_half(responses, n_splits=30, seed=3)
    assert split_half(responses, n_splits=30, seed=3) == drawn
    assert not np.array_equal(split_half(responses, n_splits=30, seed=4).values, drawn.values)
    np.testing.assert_allclose(drawn.values, every.values, atol=0.02)


def test_factor_of_spearman_and_brown():
    assert spearman_brown(0.5) == pytest.approx(2 / 3)
    assert spearman_brown(0.5, 1) == 0.5
    assert spearman_brown(spearman_brown(0.3, 4), 1 / 4) == pytest.approx(0.3)
    assert spearman_brown(np.array([0.0, 1.0, -0.2])).tolist() == pytest.approx([0, 1, -0.5])
    assert np.isnan(spearman_brown(-1.0))
    assert np.isnan(spearman_brown(-0.6, 3))  # the formula would give a positive 9
    found = spearman_brown(torch.tensor([0.5, 0.25]))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    for arguments, message in (((1.5,), "no correlations"), ((0.5, 0), "factor"), ((0.5, -2), "factor")):
        with pytest.raises(nm.errors.InputError, match=message):
            spearman_brown(*arguments)


def test_constant_units_are_counted_and_missing():
    _, responses = simulate(1.0, 4, 2, n_stimuli=50, n_units=4)
    responses[:, :, 1] = 0.1
    responses[:, :, 2] = 0.0
    responses[0, 3, 2] = 1.0  # a single spike: one half is silent in every split
    found = split_half(responses)
    assert np.isnan(found.values).tolist() == [False, True, True, False]
    assert found.warnings == (
        "1 of 4 units have no variance: their reliability is NaN",
        "1 of 4 units are constant in one half of some splits, which are left out",
    )


def test_recordings_of_trials_keep_the_labels_of_units_and_time():
    random = np.random.default_rng(5)
    signal = random.normal(size=(40, 3, 6))
    signal[:, 0] = 0  # before the stimulus there is only noise
    shown = np.tile(np.arange(40), 4)
    responses = signal[shown] + random.normal(size=(160, 3, 6))
    recording = Recording(
        responses,
        ("trial", "time", "unit"),
        {"stimulus": ("trial", [f"image {number}" for number in shown])},
        sampling_rate=10.0,
        region=["V1", "V1", "IT", "IT", "IT", "IT"],
    )
    found = split_half(recording)
    assert found.main.dims == ("time", "unit")
    assert found.main.region.values.tolist() == ["V1", "V1", "IT", "IT", "IT", "IT"]
    means = found.main.mean("unit").values
    assert means[0] == pytest.approx(0, abs=0.25)
    assert means[1:] == pytest.approx(0.8, abs=0.06)
    again = split_half(recording.repetitions().xarray().transpose("unit", "stimulus", "time", "repetition"))
    np.testing.assert_allclose(again.main.transpose("time", "unit").values, found.values)
    one = split_half(torch.tensor(responses[:, 1, 0].reshape(4, 40)))
    assert one.values == pytest.approx(found.values[1, 0])


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        (np.ones((1, 5, 2)), "one repetition"),
        (np.ones((4, 2, 2)), "too few stimuli"),
        (np.ones((4, 5, 0)), "too few stimuli"),
        (np.ones(5), "other axes"),
        (np.ones((2, 5, 2, 2)), "other axes"),
        (np.array([["a"]]), "no real numbers"),
        (np.where(np.arange(40).reshape(4, 5, 2) == 7, np.nan, 1.0), "1 NaN or infinite values, at 1 of 5 stimuli"),
        (xr.DataArray(np.ones((4, 5)), dims=("trial", "unit")), "no axes of repetitions"),
    ],
)
def test_responses_without_reliability_are_refused(responses, message):
    with pytest.raises(nm.errors.InputError, match=message):
        split_half(responses)


def test_missing_repetitions_are_refused_with_the_stimuli_counted():
    labels = {"stimulus": ("trial", list("aabbccc"))}
    trials = Recording(np.random.default_rng(0).normal(size=(7, 2)), ("trial", "unit"), labels)
    with pytest.raises(nm.errors.InputError, match="was repeated as often"):
        split_half(trials)
    with pytest.raises(nm.errors.InputError, match="at 2 of 3 stimuli"):
        split_half(trials.repetitions(allow_missing=True))
    assert split_half(trials.repetitions(allow_missing=True).query("repetition < 2")).attributes["n_repetitions"] == 2


def test_nothing_of_the_caller_changes():
    _, responses = simulate(1.0, 4, 6, n_stimuli=20, n_units=3)
    before = responses.copy()
    split_half(responses, n_splits=2)
    np.testing.assert_array_equal(responses, before)
