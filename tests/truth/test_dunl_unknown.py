"""Kernels and events of counts when nobody says where events are, the oracle's ceiling beside them; nothing there."""

from __future__ import annotations

import numpy as np
import pytest

from neuros_mechint.datasets.event_trains import drifting_counts, permuted_bins, planted_events
from neuros_mechint.neuro.circuits.dunl.encoding import decode_events
from neuros_mechint.neuro.circuits.dunl.estimator import DUNL
from neuros_mechint.neuro.circuits.dunl.repairs import random_kernels
from neuros_mechint.neuro.circuits.dunl.score import largest_cosines, match_kernels, score_events


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
        permuted_bins(planted_events(n_trials=30, n_times=200).counts),
        drifting_counts(n_trials=40, n_times=200, depth=0.8),
    ],
    ids=["no events", "permuted bins", "drift"],
)
def test_nothing_there_is_said(counts):
    found = DUNL(2, 40, n_steps=0, n_restarts=1).fit(counts)
    assert not found.reliable_
    assert any("no better" in told or "halves" in told for told in found.result_.warnings)


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
