"""Kernels and events of counts when nobody says where events are, the oracle's ceiling beside them; nothing there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuros_mechint.datasets.event_trains import drifting_counts, permuted_bins, planted_events
from neuros_mechint.neuro.circuits.dunl.encoding import decode_events
from neuros_mechint.neuro.circuits.dunl.estimator import DUNL
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels
from neuros_mechint.neuro.circuits.dunl.links import link_of
from neuros_mechint.neuro.circuits.dunl.masked_score import masked_score
from neuros_mechint.neuro.circuits.dunl.repairs import random_kernels
from neuros_mechint.neuro.circuits.dunl.score import largest_cosines, match_kernels, score_events
from tests.slow import slow_case


def check_recovery(n_kernels, seed, n_trials=100, n_restarts=2):
    """Hold a fit from random kernels to the bars, and return the scores before and after training."""
    data = planted_events(n_trials, n_kernels=n_kernels, seed=seed)
    found = DUNL(n_kernels, 40, n_restarts=n_restarts, seed=seed + 50).fit(data.counts)
    match = match_kernels(found.kernels_, data.kernels)
    # kernels before training, and the true ones with each other, are far from what is asked
    untrained = match_kernels(random_kernels(n_kernels, 40, np.random.default_rng(seed)), data.kernels).cosines
    others = largest_cosines(data.kernels, data.kernels)[0][~np.eye(n_kernels, dtype=bool)]
    assert match.cosines.min() >= 0.95 > max(untrained.mean(), others.max()) + 0.05
    events, oracle = score_events(found.codes_, data.codes, match), decode_events(data.counts, data.kernels, np.log(2))
    ceiling = score_events(oracle, data.codes)
    # in few trials a single kernel may miss this bar
    assert (np.min if n_trials == 100 else np.median)(events.amplitude_r) >= 0.8
    assert (events.recall >= ceiling.recall - 0.1).all()
    assert found.reliable_
    assert found.score_ == max(found.result_.attributes["start_score"], found.result_.attributes["trained_score"])
    return found.result_.attributes["start_score"], found.result_.attributes["trained_score"]


def test_two_kernels_are_found_from_random_ones_in_fewer_trials():
    check_recovery(2, seed=0, n_trials=40, n_restarts=1)


@pytest.mark.slow
@pytest.mark.parametrize("n_kernels", [2, 3])
def test_two_and_three_kernels_are_found_on_every_seed_and_training_mostly_helps(n_kernels):
    scores = np.array([check_recovery(n_kernels, seed) for seed in range(5)])
    assert (scores[:, 1] > scores[:, 0]).sum() >= 3
    assert scores[:, 1].mean() > scores[:, 0].mean()


@pytest.mark.parametrize(
    "counts",
    [
        planted_events(n_trials=40, n_times=200, events=(0, 0)).counts,
        slow_case(permuted_bins(planted_events(n_trials=30, n_times=200).counts)),
        drifting_counts(n_trials=40, n_times=200, depth=0.8),
    ],
    ids=["no events", "permuted bins", "drift"],
)
def test_nothing_there_is_said(counts):
    found = DUNL(2, 40, n_steps=0, n_restarts=1).fit(counts)
    assert not found.reliable_
    assert any("no better" in told or "halves" in told for told in found.result_.warnings)


def test_scores_have_errors_and_what_noise_may_reach_is_said():
    for seed in range(2):
        counts = planted_events(n_trials=40, n_times=200, events=(0, 0), seed=seed).counts
        found = DUNL(1, 20, n_steps=0, n_restarts=1, seed=seed).fit(counts).result_
        assert found.attributes["score"] <= 2 * found.attributes["score_error"]
        assert "not above two standard errors, over constant rates" in found.summary()
    planted = planted_events(n_trials=40, n_times=200, n_kernels=1, log_gain=(1.5, 2.5), seed=0)
    found = DUNL(1, 40, n_steps=0, n_restarts=1).fit(planted.counts).result_
    assert found.attributes["score"] > 2 * found.attributes["score_error"] > 0
    assert "two standard errors" not in found.summary()
    # nobody said when events are
    assert "may be moved in its window" in found.summary()
    assert "large enough to be found" in found.summary()
    assert "origin is arbitrary" in found.plot().get_xlabel()


def test_the_error_of_the_score_is_its_spread_over_held_out_trials():
    shape, codes = torch.tensor([[1.0, 0.6, 0.3]]).double(), torch.zeros(1, 20, 1, 40).double()
    codes[..., 10] = 1.0
    kernels, random = Kernels(shape, torch.zeros(1).double()), np.random.default_rng(0)
    scores = [
        masked_score(
            torch.from_numpy(random.poisson(kernels.drive(codes).exp().numpy()).astype(float)),
            kernels,
            link_of("poisson"),
            lambda *_: codes,
            random,
        )
        for _ in range(300)
    ]
    for value, error in (("constant", "constant_error"), ("slow", "slow_error")):
        spread = np.std([getattr(score, value) for score in scores])
        assert np.mean([getattr(score, error) for score in scores]) == pytest.approx(spread, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["no events", "permuted bins", "drift .4", "drift .8"])
def test_nothing_there_is_said_on_every_seed(kind):
    for seed in range(3):
        counts = {
            "no events": lambda seed: planted_events(events=(0, 0), seed=seed).counts,
            "permuted bins": lambda seed: permuted_bins(planted_events(seed=seed).counts, seed),
            "drift .4": lambda seed: drifting_counts(depth=0.4, seed=seed),
            "drift .8": lambda seed: drifting_counts(depth=0.8, seed=seed),
        }[kind](seed)
        assert not DUNL(2, 40, seed=seed).fit(counts).reliable_


@pytest.mark.slow
def test_other_links_are_found_from_random_kernels_where_events_are_strong():
    for seed in range(3):
        data = planted_events(n_trials=100, base=0.0, log_gain=(2.0, 4.0), link="gaussian", seed=seed)
        found = DUNL(2, 40, "gaussian", seed=seed).fit(data.counts)
        assert match_kernels(found.kernels_, data.kernels).cosines.min() >= 0.95
        assert found.reliable_


@pytest.mark.slow
def test_neurons_with_the_same_events_are_better_read_together():
    recall = {}
    for grouped in (False, True):
        data = planted_events(n_trials=40, n_times=200, base=0.5, n_neurons=6, seed=0)
        found = DUNL(2, 40, grouped=grouped, n_steps=0, seed=1).fit(data.counts)
        match = match_kernels(found.kernels_, data.kernels)
        assert match.cosines.min() > 0.9
        recall[grouped] = score_events(found.codes_, data.codes, match).recall.mean()
    assert recall[True] > recall[False] + 0.05
