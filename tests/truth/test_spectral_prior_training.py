"""A recurrent network trained with a prior on its spectrum: the slope goes to the target, and the task is solved."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.datasets.networks import RecurrentNetwork
from neuros_mechint.datasets.tasks import flip_flop

N_BITS, N_UNITS, N_TRIALS, N_STEPS, N_UPDATES = 2, 24, 16, 128, 200
PULSES = 0.4
WEIGHT = 0.5


class State(NamedTuple):
    slope: float  # by the estimator of the prior
    slope_by_welch: float  # by another one, over other frequencies
    right: float  # share of the steps


def network(seed):
    found = RecurrentNetwork(N_BITS, N_UNITS, N_BITS)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.uniform_(-(N_UNITS**-0.5), N_UNITS**-0.5, generator=generator)
    return found


def state(trained, prior, seed):
    """What the network does in trials that it was not trained on."""
    trials = flip_flop(64, N_STEPS, N_BITS, PULSES, seed=10_000 + seed)
    with torch.no_grad():
        hidden, _ = trained.rnn(trials.inputs)
        answers = trained.readout(hidden)
    over_time = hidden.transpose(1, 2)
    by_welch = nm.SpectralSlope("welch", fit_range=(0.03, 0.25), segment=64)
    right = (answers.sign() == trials.targets)[trials.mask].float().mean().item()
    return State(prior.metric(over_time).mean().item(), by_welch(over_time).mean().item(), right)


def train(seed, weight):
    """Return the state before and after training."""
    trained = network(seed)
    prior = nm.SpectralPrior(-1.0, axis=1, average=(0,))
    loss = nm.FractalRegularizationLoss({"spectral": (prior, nm.AnnealedWeight(0.0, weight, 50))})
    optimizer = torch.optim.Adam(trained.parameters(), lr=5e-3)
    before = state(trained, prior, seed)
    for update in range(N_UPDATES):
        trials = flip_flop(N_TRIALS, N_STEPS, N_BITS, PULSES, seed=100_000 * seed + update)
        hidden, _ = trained.rnn(trials.inputs)
        wrong = (trained.readout(hidden) - trials.targets)[trials.mask].square().mean()
        optimizer.zero_grad()
        (wrong + loss(hidden)).backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizer.step()
        loss.advance()
    return before, state(trained, prior, seed)


def check(seed):
    before, with_prior = train(seed, WEIGHT)
    _, without = train(seed, 0.0)
    assert abs(before.slope + 1) > 0.5
    assert with_prior.slope == pytest.approx(-1, abs=0.15)
    assert with_prior.slope_by_welch == pytest.approx(-1, abs=0.15)
    assert with_prior.right > 0.99
    # the task alone does not do it
    assert without.right > 0.99
    assert abs(without.slope + 1) > 0.3
    assert abs(without.slope_by_welch + 1) > 0.3
    return before, with_prior, without


def test_a_spectral_prior_moves_the_slope_and_leaves_the_task_solved():
    check(0)


@pytest.mark.slow
def test_it_does_so_from_every_start():
    for seed in range(1, 9):
        check(seed)
