"""Avalanches counted by hand, and those of branching processes, whose sizes and durations have known distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from scipy.special import gammaln
from scipy.stats import chisquare

import neuros_mechint as nm

BY_HAND = [0, 1, 2, 0, 0, 3, 0, 4, 1, 1, 0, 2]


def borel(size, ratio):
    """Probability of avalanches of such sizes: the total progeny of a Poisson branching process."""
    return np.exp(-ratio * size + (size - 1) * np.log(ratio * size) - gammaln(size + 1))


def extinct(ratio, longest):
    """Probability of a duration of 1, 2, ...: q_t = exp(m (q_{t-1} - 1)) of them have ended after t generations."""
    ended = [0.0]
    for _ in range(longest):
        ended.append(np.exp(ratio * (ended[-1] - 1)))
    return np.diff(ended)


def test_avalanches_counted_by_hand():
    found = nm.detect_avalanches(BY_HAND)
    assert found.sizes.tolist() == [3, 3, 6]
    assert found.durations.tolist() == [2, 1, 3]
    assert found.data["start"].values.tolist() == [1, 5, 7]
    assert [shape.tolist() for shape in found.shapes] == [[1, 2], [3], [4, 1, 1]]
    assert found.attributes["n_cut_off"] == 1  # the last one: how large it would have become is not known
    assert found.sizes.dtype.kind == "i"
    assert "1 more left out" in found.summary()
    assert "too few" in found.warnings[0]


def test_a_threshold_is_taken_off_sizes():
    found = nm.detect_avalanches(BY_HAND, threshold=1)
    assert found.sizes.tolist() == [1, 2, 3]
    assert found.durations.tolist() == [1, 1, 1]
    signal = np.array([0.2, 1.7, 2.3, 0.1, 0.9, 0.2])
    found = nm.detect_avalanches(signal, threshold=0.5)
    np.testing.assert_allclose(found.sizes, [3.0, 0.4])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_spikes_of_any_type_are_counted_alike(dtype):
    spikes = np.random.default_rng(0).random((300, 2000)) < 0.002
    expected = nm.detect_avalanches(spikes.sum(0))
    found = nm.detect_avalanches(spikes.astype(dtype))
    assert found.data.identical(expected.data)
    assert found.data["profile"].sum().item() <= spikes.sum()


def test_units_are_summed_and_bins_filled():
    counts = np.zeros((3, 14), dtype=int)
    counts[0, [4, 5]] = 1
    counts[1, 5] = 2
    counts[2, 9] = 1
    counts[2, 13] = 5  # in a last bin that is not filled
    found = nm.detect_avalanches(torch.tensor(counts), bin_width=3)
    # bins: 0 | 4 5 | . | 9 ...: samples 3-5 and 9-11
    assert found.sizes.tolist() == [4]
    assert found.data["start"].values.tolist() == [1]
    assert found.attributes["n_cut_off"] == 1  # samples 9 to 11 are the last full bin
    assert found.attributes["n_samples_left_out"] == 2
    assert found.attributes["n_bins"] == 4


def test_avalanches_never_cross_borders_of_trials():
    trials = np.array([[0, 1, 0, 2, 0, 0, 1], [1, 1, 0, 3, 1, 0, 0]])
    recording = nm.Recording(trials[..., None], ("trial", "time", "unit"), sampling_rate=500.0)
    found = nm.detect_avalanches(recording)
    assert found.sizes.tolist() == [1, 2, 4]
    assert found.data["trial"].values.tolist() == [0, 0, 1]
    assert found.attributes["n_cut_off"] == 2
    assert found.attributes["bin_seconds"] == 0.002
    joined = nm.detect_avalanches(trials.ravel())
    assert joined.sizes.tolist() == [1, 2, 3, 4]  # what a border hides would be counted as one
    turned = nm.detect_avalanches(recording.xarray().transpose("unit", "time", "trial"))
    np.testing.assert_array_equal(turned.sizes, found.sizes)


def test_bins_of_the_mean_interval_between_events():
    counts = np.zeros(200, dtype=int)
    counts[[10, 12, 20, 26, 30, 31, 150]] = [1, 2, 1, 1, 3, 1, 1]  # intervals of 2, 8, 6, 4, 1, 119
    found = nm.detect_avalanches(counts, bin_width="mean_interval")
    assert found.attributes["bin_width"] == 23
    assert found.attributes["bin_rule"] == "mean interval between events"
    trials = xr.DataArray(np.stack([counts, counts]), dims=("trial", "time"))
    # the interval from the last event of one trial to the first of the next is none
    assert nm.detect_avalanches(trials, bin_width="mean_interval").attributes["bin_width"] == 23


def test_rules_of_thresholds():
    signal = np.random.default_rng(0).normal(3.0, 2.0, size=5000)
    expected = {
        ("quantile", 0.35): np.quantile(signal, 0.35),
        ("median", 0.5): 0.5 * np.median(signal),
        ("sd", 1.5): signal.mean() + 1.5 * signal.std(),
        2: 2.0,
    }
    for rule, threshold in expected.items():
        found = nm.detect_avalanches(signal, threshold=rule)
        assert found.attributes["threshold"] == pytest.approx(threshold)
        above = signal - threshold
        assert found.data["profile"].sum().item() == pytest.approx(above[above > 0].sum(), rel=0.01)


def test_rules_follow_scale_and_offset_of_the_signal():
    signal = np.cumsum(np.random.default_rng(1).normal(size=4000))
    first = nm.detect_avalanches(signal, threshold=("quantile", 0.6))
    again = nm.detect_avalanches(7.5 * signal + 100, threshold=("quantile", 0.6))
    np.testing.assert_array_equal(again.durations, first.durations)
    np.testing.assert_allclose(again.sizes, 7.5 * first.sizes)
    units = np.random.default_rng(2).normal(size=(5, 3000))
    scaled = units * np.array([[1.0], [10.0], [0.1], [3.0], [5.0]]) + np.arange(5)[:, None]
    first, again = (
        nm.detect_avalanches(one, threshold=("sd", 2), threshold_on="units", bin_width=2) for one in (units, scaled)
    )
    np.testing.assert_array_equal(again.sizes, first.sizes)


def test_events_of_units_are_where_they_rise():
    signal = np.array([[9.0, 0, 0, 9, 9, 0, 0, 0, 0], [0, 0, 0, 0, 9, 9, 0, 9, 0]])
    found = nm.detect_avalanches(signal, threshold=5, threshold_on="units")
    # the first unit is above from the start: no event; then one unit at 3, the other at 4 and 7
    assert found.sizes.tolist() == [2, 1]
    assert found.data["start"].values.tolist() == [3, 7]
    assert found.main.attrs["units"] == "events"


@pytest.mark.parametrize("ratio", [1.0, 0.8, 0.5])
def test_sizes_and_durations_of_branching_avalanches_are_those_of_theory(ratio):
    n = 20_000
    found = nm.detect_avalanches(nm.branching_avalanches(ratio, n, seed=3))
    assert found.sizes.size == n
    assert found.attributes["n_cut_off"] == 0
    size = np.arange(1, 12)
    for observed, expected in (
        (np.bincount(np.minimum(found.sizes, 12))[1:], borel(size, ratio)),
        (np.bincount(np.minimum(found.durations, 12))[1:], extinct(ratio, 11)),
    ):
        expected = n * np.append(expected, 1 - expected.sum())
        assert chisquare(observed, expected).pvalue > 0.001
    wrong = n * np.append(borel(size, 0.95 * ratio), 1 - borel(size, 0.95 * ratio).sum())
    assert chisquare(np.bincount(np.minimum(found.sizes, 12))[1:], wrong).pvalue < 1e-4


@pytest.mark.parametrize(("n_units", "sampled"), [(None, 1.0), (None, 0.1), (1000, 1.0), (1000, 0.1)])
def test_mean_variance_and_memory_of_branching_processes_are_those_of_theory(n_units, sampled):
    ratio, drive = 0.8, 20.0
    activity = nm.branching_process(ratio, 60_000, drive, n_units, sampled, seed=5).astype(float)
    mean = drive / (1 - ratio)
    # E[Var(A'|A)] over 1 - m^2; of a network, A' is binomial: mean (1 - A / N)
    noise = mean if n_units is None else mean - (mean**2) / n_units
    variance = noise / (1 - ratio**2) if n_units is None else noise / (1 - ratio**2 * (1 - 1 / n_units))
    seen = sampled * mean
    if n_units is None:
        seen_variance = sampled**2 * variance + sampled * (1 - sampled) * mean
    else:  # hypergeometric
        n_seen = sampled * n_units
        within = n_seen * (n_units - n_seen) / (n_units**2 * (n_units - 1)) * (mean * n_units - mean**2 - variance)
        seen_variance = sampled**2 * variance + within
    assert activity.mean() == pytest.approx(seen, rel=0.01)
    assert activity.var() == pytest.approx(seen_variance, rel=0.05)
    deviation = activity - activity.mean()
    for lag in (1, 3):
        slope = (deviation[:-lag] * deviation[lag:]).mean() / deviation.var()
        assert slope == pytest.approx(sampled**2 * variance / seen_variance * ratio**lag, abs=0.02)


def test_seeds_and_the_callers_array():
    assert np.array_equal(nm.branching_process(0.5, 50, seed=1), nm.branching_process(0.5, 50, seed=1))
    assert not np.array_equal(nm.branching_process(0.5, 50, seed=1), nm.branching_process(0.5, 50, seed=2))
    activity = nm.branching_avalanches(n_avalanches=200, seed=4)
    before = activity.copy()
    found = nm.detect_avalanches(activity)
    np.testing.assert_array_equal(activity, before)
    assert found.data.identical(nm.detect_avalanches(activity).data)


def test_a_result_is_saved_and_drawn(tmp_path):
    found = nm.detect_avalanches(nm.branching_avalanches(n_avalanches=300, seed=0))
    assert nm.load_result(found.save(tmp_path / "avalanches.nc")) == found
    axes = found.plot(Figure().subplots())
    assert axes.get_xscale() == axes.get_yscale() == "log"
    survival = axes.lines[0].get_ydata()
    assert survival[0] == 1
    assert (np.diff(survival) < 0).all()


@pytest.mark.parametrize(
    ("activity", "options", "message"),
    [
        ([0, 1, -1, 0], {}, "negative counts"),
        ([0, 1, np.nan, 0], {}, "NaN or infinite values"),
        ([0, 0, 0, 0], {}, "does not vary"),
        ([2.5, 2.5, 2.5], {}, "does not vary"),
        ([], {}, "no activity"),
        (["a", "b"], {}, "no real numbers"),
        ([1j, 0], {}, "no real numbers"),
        (np.zeros((2, 2, 2)), {}, "not clear which axis"),
        ([1, 2, 3, 1], {}, "never at rest"),
        ([0, 1, 2, 0], {"threshold": 2}, "never above the threshold"),
        ([1, 0, 0, 2], {}, "no complete avalanche"),
        ([0, 1, 0, 0], {"bin_width": 2}, "too short for such bins"),
        ([0.0, 0.5, 0.0], {"bin_width": "mean_interval"}, "no intervals between events"),
        ([0, 1, 0, 0], {"bin_width": "mean_interval"}, "no intervals between them"),
        ([[0.0, 0.5, 0.2]], {"threshold": 3, "threshold_on": "units"}, "no unit ever rises"),
        (xr.DataArray(np.eye(3), dims=("trial", "unit")), {}, "no axis of time"),
        ([0, 1, 0], {"threshold": ("mean", 1)}, "unknown threshold rule 'mean'"),
        ([0, 1, 0], {"threshold": ("quantile", 1.5)}, "quantile of the threshold is out of range"),
        ([0, 1, 0], {"threshold": "median"}, "needs a number"),
        ([0, 1, 0], {"threshold": np.nan}, "threshold is out of range"),
        ([0, 1, 0], {"bin_width": 0}, "bin_width is out of range"),
        ([0, 1, 0], {"bin_width": "interval"}, "unknown bin_width"),
        ([0, 1, 0], {"threshold_on": "unit"}, "did you mean 'units'"),
    ],
)
def test_activity_without_avalanches_is_refused(activity, options, message):
    with pytest.raises(nm.errors.InputError, match=message):
        nm.detect_avalanches(activity, **options)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (nm.branching_process, (1.0, 10), "ratio is out of range"),
        (nm.branching_process, (-0.1, 10), "ratio is out of range"),
        (nm.branching_process, (0.5, 0), "n_steps is out of range"),
        (nm.branching_process, (0.5, 10, 0), "drive is out of range"),
        (nm.branching_process, (0.9, 10, 10, 100), "network is too small"),
        (nm.branching_process, (0.5, 10, 10, None, 1.5), "sampled is out of range"),
        (nm.branching_avalanches, (1.1, 10), "up to 1"),
        (nm.branching_avalanches, (1.0, 0), "n_avalanches is out of range"),
    ],
)
def test_impossible_processes_are_refused(function, arguments, message):
    with pytest.raises(nm.errors.InputError, match=message):
        function(*arguments)
