"""Kernels and events from random kernels against planted ones, against who knows the kernels, and against no events."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from neuros_mechint.datasets.event_trains import (
    drifting_counts,
    event_kernels,
    permuted_bins,
    planted_events,
    superpose,
)
from neuros_mechint.neuro.circuits.dunl.amplitudes import Problem, newton
from neuros_mechint.neuro.circuits.dunl.convolution import convolve
from neuros_mechint.neuro.circuits.dunl.encoding import LEAST_GAIN, decode_events, greedy_codes
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels
from neuros_mechint.neuro.circuits.dunl.links import link_of
from neuros_mechint.neuro.circuits.dunl.masked_score import halves_cosine
from neuros_mechint.neuro.circuits.dunl.pursuit import pursue
from neuros_mechint.neuro.circuits.dunl.repairs import centred, fused, random_kernels, reseeded
from neuros_mechint.neuro.circuits.dunl.score import (
    held_out_score,
    largest_cosines,
    match_kernels,
    score_events,
)

ALL_SEEDS = range(5)
KERNEL_LENGTH = 40


def recovery(data, seed, n_restarts=2):
    """What a fit and who knows the kernels recover, and what random kernels would have seemed to."""
    n_kernels = len(data.kernels)
    found = pursue(data.counts, n_kernels, KERNEL_LENGTH, seed, n_restarts)
    untrained = random_kernels(n_kernels, KERNEL_LENGTH, np.random.default_rng(seed)).numpy()
    match = match_kernels(found.kernels, data.kernels)
    return {
        "cosines": match.cosines,
        "untrained": match_kernels(untrained, data.kernels).cosines,
        "events": score_events(found.codes, data.codes, match),
        "oracle": score_events(decode_events(data.counts, data.kernels, data.baseline), data.codes),
        "score": found.score,
    }


@functools.cache
def recovered(n_kernels, seed):
    return recovery(planted_events(n_kernels=n_kernels, seed=seed), seed)


def halves(counts, seed, n_restarts=2):
    def fit(trials, random):
        return pursue(counts[trials], 2, KERNEL_LENGTH, random, n_restarts).kernels

    return halves_cosine(len(counts), fit, np.random.default_rng(seed), labelled=False)


def believed(counts, seed):
    return pursue(counts, 2, KERNEL_LENGTH, seed).score > 0 and halves(counts, seed) >= 0.9


def check_recovery(found, n_kernels):
    kernels = event_kernels(n_kernels)
    between = largest_cosines(kernels, kernels)[0][np.triu_indices(n_kernels, 1)]
    report = f"found {found['cosines']}, untrained {found['untrained']}, between kernels {between}"
    assert found["cosines"].min() >= 0.95, report
    assert found["untrained"].mean() < 0.75, report
    assert between.max() < 0.3, report
    # what nobody can learn to do better is how events are found whose kernels are known
    assert (found["events"].recall >= found["oracle"].recall - 0.1).all()
    assert (found["events"].precision >= found["oracle"].precision - 0.1).all()
    assert np.mean(found["events"].amplitude_r) >= 0.8
    assert (found["events"].amplitude_r >= found["oracle"].amplitude_r - 0.1).all()
    assert found["score"] > 0


def test_three_kernels_are_found_from_random_ones_in_fewer_trials():
    check_recovery(recovery(planted_events(50, n_kernels=3, seed=0), 0, n_restarts=1), 3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ALL_SEEDS)
@pytest.mark.parametrize("n_kernels", [2, 3])
def test_kernels_and_events_are_found_from_random_kernels(n_kernels, seed):
    check_recovery(recovered(n_kernels, seed), n_kernels)


@pytest.mark.slow
@pytest.mark.parametrize("n_kernels", [2, 3])
def test_the_typical_amplitude_correlation_of_each_kernel(n_kernels):
    found = [recovered(n_kernels, seed) for seed in ALL_SEEDS]
    assert (np.median([one["events"].amplitude_r for one in found], axis=0) >= 0.8).all()


def test_below_the_regime_even_the_true_kernels_do_not_find_the_events():
    found = recovery(planted_events(n_trials=50, base=0.3, seed=0), 0, n_restarts=1)
    assert found["oracle"].recall.max() < 0.65
    assert found["oracle"].amplitude_r.max() < 0.75
    assert (found["events"].recall <= found["oracle"].recall + 0.05).all()


def test_without_events_nothing_is_predicted():
    assert pursue(planted_events(events=(0, 0), seed=0).counts, 2, KERNEL_LENGTH, n_restarts=1).score <= 0


@pytest.mark.slow  # by default: the same of DUNL, in test_dunl_unknown
def test_drift_is_no_event():
    counts = drifting_counts(n_trials=40, seed=0, depth=0.8)
    assert pursue(counts, 2, KERNEL_LENGTH, 0, n_restarts=1).score <= 0


@pytest.mark.slow  # by default: the same of DUNL, in test_dunl_unknown
def test_shuffled_bins_have_kernels_that_halves_disagree_about():
    # the score alone is fooled: counts differ more than Poisson's do, and a spiky kernel describes them
    counts = permuted_bins(planted_events(n_trials=30, seed=0).counts)
    assert halves(counts, 0, n_restarts=1) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("seed", ALL_SEEDS)
def test_the_rule_takes_events_and_nothing_else(seed):
    events = planted_events(seed=seed).counts
    assert believed(events, seed)
    assert not believed(permuted_bins(events, seed), seed)
    assert not believed(planted_events(events=(0, 0), seed=seed).counts, seed)
    assert not believed(drifting_counts(seed=seed), seed)
    assert not believed(drifting_counts(seed=seed, depth=0.8), seed)


def test_neurons_share_kernels_and_keep_their_baselines():
    data = planted_events(n_neurons=3, n_trials=30, seed=0)
    counts = data.counts.copy()
    counts[1] = np.random.default_rng(0).binomial(counts[1].astype(int), 0.5)
    found = pursue(counts, 2, KERNEL_LENGTH, n_restarts=1)
    assert match_kernels(found.kernels, data.kernels).cosines.min() > 0.95
    np.testing.assert_allclose(found.baseline, np.log([2.0, 1.0, 2.0]), atol=0.06)
    assert found.codes.shape == data.codes.shape


def test_a_seed_repeats_and_leaves_the_counts_alone():
    counts = planted_events(n_trials=10, seed=3).counts
    before = counts.copy()
    first, second = (pursue(counts, 2, KERNEL_LENGTH, seed=7, n_restarts=1) for _ in range(2))
    np.testing.assert_array_equal(first.codes, second.codes)
    np.testing.assert_array_equal(counts, before)


def test_the_first_event_is_the_one_of_most_likelihood():
    random = np.random.default_rng(0)
    kernels = torch.from_numpy(event_kernels(2, 20))
    values = torch.from_numpy(random.poisson(np.exp(0.5 * np.pad(kernels[1], (15, 15))), size=(1, 1, 50)).astype(float))
    base = torch.zeros(1).double()
    codes = greedy_codes(values, Kernels(kernels, base), least_gain=0.0)
    tried = {}
    for kernel in range(2):
        for time in range(50):
            for amplitude in (0.5, 1.0, 1.6, 2.4, 3.4):
                one = torch.zeros(1, 1, 2, 50).double()
                one[0, 0, kernel, time] = amplitude
                drive = convolve(one, kernels)
                tried[kernel, time, amplitude] = float((values * drive - drive.exp()).sum())
    kernel, time, _ = max(tried, key=lambda event: tried[event])
    assert codes[0, 0, kernel, time] > 0


def test_amplitudes_are_those_of_an_independent_optimiser():
    from scipy.optimize import minimize

    random = np.random.default_rng(1)
    shapes = random.normal(size=(1, 3, 60)) * 0.5
    values = random.poisson(np.exp(np.array([0.5, 1.0, 0.0]) @ shapes[0]))[None].astype(float)
    parts = torch.from_numpy(values), torch.from_numpy(shapes), torch.ones(1, 3, dtype=torch.bool)
    problem = Problem(*parts, torch.zeros(1, 1), link_of("poisson"), torch.tensor(0.0), torch.tensor(0.01))
    found = newton(problem, torch.ones(1, 3).double(), 0.0, 5.0, 20)

    def loss(amplitudes):
        drive = amplitudes @ shapes[0]
        return np.exp(drive).sum() - values[0] @ drive + 0.005 * (amplitudes**2).sum()

    expected = minimize(loss, np.ones(3), bounds=[(0, 5)] * 3, tol=1e-14).x
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-4)


def test_greed_is_mended_where_one_event_was_taken_for_two():
    kernels = event_kernels(2)
    codes = np.zeros((30, 2, 200))
    codes[:, 0, 60], codes[:, 1, 61] = 1.6, 1.8
    counts = np.random.default_rng(0).poisson(2 * np.exp(superpose(codes, kernels))).astype(float)
    values, truth = (
        torch.from_numpy(counts)[None],
        Kernels(torch.from_numpy(kernels), torch.tensor([2.0]).double().log()),
    )
    quick, thorough = (greedy_codes(values, truth, sweeps=2, thorough=thorough) for thorough in (False, True))

    def worth(codes):
        drive = truth.drive(codes)
        return (values * drive - drive.exp()).sum(-1)[0] - LEAST_GAIN * (codes[0] > 0).sum((1, 2))

    by_truth = worth(torch.from_numpy(codes)[None])
    assert (worth(quick) - by_truth).mean() < -10
    assert (worth(thorough) - by_truth).mean() > -4
    assert (worth(thorough) > worth(quick) - 1e-6).all()
    recall = [score_events(found[0].numpy(), codes).recall[0] for found in (quick, thorough)]
    assert recall[0] < 0.2
    assert recall[1] > 0.6


def test_pairs_that_overlap_are_searched_anew(monkeypatch):
    data = planted_events(n_kernels=3, n_trials=60, seed=122)
    values, base = torch.from_numpy(data.counts)[None], torch.from_numpy(np.atleast_1d(data.baseline))
    kernels = Kernels(torch.from_numpy(data.kernels), base)
    with_pairs = greedy_codes(values, kernels, sweeps=2, thorough=True)
    monkeypatch.setattr("neuros_mechint.neuro.circuits.dunl.encoding._Search.exchange_pairs", lambda search: None)
    without = greedy_codes(values, kernels, sweeps=2, thorough=True)

    def worth(codes):
        drive = kernels.drive(codes)
        return (values * drive - drive.exp()).sum(-1)[0] - LEAST_GAIN * (codes[0] > 0).sum((1, 2))

    gained = worth(with_pairs) - worth(without)
    assert gained.min() > -0.1  # a ridge on amplitudes is not in it
    assert (gained > 1).double().mean() > 0.1
    found, before = (score_events(codes[0].numpy(), data.codes) for codes in (with_pairs, without))
    assert found.precision.mean() > before.precision.mean() + 0.01
    assert found.amplitude_r.min() > before.amplitude_r.min()


def test_kernels_that_are_halves_of_one_are_joined():
    true = event_kernels(1)[0]
    first, second = np.where(np.arange(40) < 20, true, 0), np.where(np.arange(40) >= 20, true, 0)
    shapes = torch.from_numpy(np.stack([first, second]))
    codes = torch.zeros(1, 40, 2, 300).double()
    codes[0, torch.arange(40), :, 3 * torch.arange(40)] = 1.0
    counts = torch.from_numpy(np.random.default_rng(0).poisson(2.0, size=(1, 40, 300)).astype(float))
    kernels = Kernels(shapes, torch.tensor([2.0]).double().log())
    joined = fused(kernels, codes, counts, np.random.default_rng(0))
    assert largest_cosines(joined.numpy()[:1], true[None])[0][0, 0] > 0.999
    codes[0, :, 1] = codes[0, torch.from_numpy(np.random.default_rng(0).permutation(40)), 1]
    assert torch.equal(fused(kernels, codes, counts, np.random.default_rng(0)), shapes)


def test_a_kernel_of_no_use_begins_again_where_something_is_left():
    data = planted_events(n_trials=60, seed=0)
    known = np.stack([data.kernels[0], data.kernels[0]])
    codes = torch.from_numpy(np.stack([data.codes[:, 0], np.zeros_like(data.codes[:, 0])], 1))[None]
    kernels = Kernels(torch.from_numpy(known), torch.from_numpy(np.atleast_1d(data.baseline)))
    again = reseeded(kernels, codes, torch.from_numpy(data.counts)[None], np.random.default_rng(0)).numpy()
    np.testing.assert_array_equal(again[0], known[0])
    cosine = largest_cosines(again[1:], data.kernels)[0][0]
    assert cosine[1] > 0.6
    assert cosine[1] > cosine[0]


def test_centring_keeps_a_kernel_that_is_in_the_middle():
    kernels = torch.from_numpy(np.pad(np.ones((1, 10)), ((0, 0), (15, 15))))
    assert torch.equal(centred(kernels), kernels)
    assert torch.equal(centred(kernels.roll(4, 1)), kernels)


def test_the_score_of_known_rates():
    data = planted_events(n_trials=60, seed=0)
    values, rates = torch.from_numpy(data.counts)[None], torch.tensor([data.counts.mean()])
    baseline = torch.from_numpy(np.atleast_1d(data.baseline))
    true = held_out_score(values, Kernels(torch.from_numpy(data.kernels), baseline), rates)
    wrong = held_out_score(values, Kernels(torch.from_numpy(event_kernels(4)[2:]), baseline), rates)
    assert true > 0.1
    assert wrong < true / 2
    silent = torch.zeros(1, 3, 50).double()
    assert held_out_score(silent, Kernels(torch.ones(1, 4).double(), baseline), rates) == 0


def test_matching_undoes_order_and_shift():
    true = event_kernels(3)
    moved = np.zeros_like(true)
    for row, (kernel, shift) in enumerate([(2, 3), (0, -2), (1, 0)]):
        moved[row, max(shift, 0) : 40 + min(shift, 0)] = true[kernel, max(-shift, 0) : 40 - max(shift, 0)]
    match = match_kernels(moved, true)
    assert match.order.tolist() == [1, 2, 0]
    assert match.shifts.tolist() == [-2, 0, 3]
    assert match.cosines.min() > 0.95
    codes = planted_events(n_kernels=3, n_trials=20).codes
    late = np.stack([np.roll(codes[:, 2], -3, -1), np.roll(codes[:, 0], 2, -1), codes[:, 1]], 1)
    scores = score_events(late, codes, match, tolerance=0)
    np.testing.assert_allclose(scores.precision, 1)
    np.testing.assert_allclose(scores.amplitude_r, 1)
    assert scores.recall.min() > 0.95  # the first bins may have left the trial


def test_an_event_counts_once():
    true, found = np.zeros((1, 1, 30)), np.zeros((1, 1, 30))
    true[0, 0, 10] = 1
    found[0, 0, [9, 10, 11]] = 1
    scores = score_events(found, true)
    assert scores.recall[0] == 1
    assert scores.precision[0] == pytest.approx(1 / 3)
    assert np.isnan(scores.amplitude_r[0])
    assert np.isnan(score_events(np.zeros_like(true), true).precision[0])


def test_planted_counts_are_what_they_say():
    data = planted_events(n_trials=400, n_kernels=4, seed=2)
    n_events = (data.codes > 0).sum(-1)
    assert n_events.min() == 1
    assert n_events.max() == 2
    amplitudes = data.codes[data.codes > 0]
    assert amplitudes.min() >= 1
    assert amplitudes.max() <= 2.5
    assert len(data.event_times) == n_events.sum()
    assert data.event_times[:, 2].max() + KERNEL_LENGTH <= 400
    surprise = (data.counts - np.exp(data.predictor)) / np.exp(data.predictor / 2)
    assert abs(surprise.mean()) < 0.01
    assert abs(surprise.var() - 1) < 0.02
    by_torch = convolve(torch.from_numpy(data.codes)[None], torch.from_numpy(data.kernels))[0].numpy()
    np.testing.assert_allclose(superpose(data.codes, data.kernels), by_torch, atol=1e-12)
    spikes = planted_events(n_trials=50, link="bernoulli", base=0.1)
    assert set(np.unique(spikes.counts)) == {0, 1}
    outside = spikes.counts[spikes.predictor == spikes.baseline]
    assert outside.mean() == pytest.approx(0.1, abs=0.01)
    signal = planted_events(n_trials=50, link="gaussian", base=-1.0)
    assert (signal.counts - signal.predictor).std() == pytest.approx(1, abs=0.02)
    many = planted_events(n_trials=5, n_neurons=3)
    assert ((many.codes[0] > 0) == (many.codes[2] > 0)).all()
    assert not np.allclose(many.codes[0], many.codes[2])
    assert planted_events(events=(0, 0)).codes.max() == 0
