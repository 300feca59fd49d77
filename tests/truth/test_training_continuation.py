"""A record goes on with the weights it was saved with: others are told apart from these, and from these trained on."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from neuros_mechint.training.continuation import doubt_of_continuation, weight_sample
from neuros_mechint.training.tracker import MetaDynamicsTracker
from tests.slow import slow_case

mse = nn.functional.mse_loss
x = torch.randn(48, 3, generator=torch.Generator().manual_seed(0))
y = x[:, :1] * x[:, 1:2]


def network(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))


def tracked(model):
    return MetaDynamicsTracker(model, x, y, mse, metrics=["loss", "learning_speed"], schedule=10)


def train(model, update, n_steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for step in range(n_steps):
        update(step)
        optimizer.zero_grad()
        mse(model(x), y).backward()
        optimizer.step()


def gone_on_with(model, path, step):
    """Return how the warnings of a tracker begin that loaded a record, and went on."""
    tracker = tracked(model).load(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracker.update(step)
        tracker.update(step + 10)
    told = [str(one.message) for one in caught]
    assert [text for text in tracker.record().warnings if text.startswith("the weights")] == told
    return [text[:48] for text in told]


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
def test_a_record_that_goes_on_with_other_weights_says_so(tmp_path, seed):
    model = network(seed)
    tracker = tracked(model)
    train(model, tracker.update, 21)
    path, trained_on = tracker.save(tmp_path / "tracker.nc"), copy.deepcopy(model)
    stranger = network(seed + 100)
    assert gone_on_with(stranger, path, 20) == ["the weights are not those with which this record"]
    assert gone_on_with(stranger, path, 300) == ["the weights have nothing in common with those of"]
    train(trained_on, lambda _: None, 100)
    assert gone_on_with(trained_on, path, 20) == ["the weights are not those with which this record"]
    # negative controls: the same weights, one step on, and trained further
    assert gone_on_with(model, path, 20) == gone_on_with(copy.deepcopy(model), path, 21) == []
    assert gone_on_with(trained_on, path, 121) == []


def test_a_record_without_looks_goes_on_with_any_weights(tmp_path):
    tracker = MetaDynamicsTracker(network(0), x, metrics=["weight_norm"], schedule=[5])
    tracker.update(0)
    path = tracker.save(tmp_path / "tracker.nc")
    other = MetaDynamicsTracker(network(1), x, metrics=["weight_norm"], schedule=[5]).load(path)
    assert other.update(5)  # warnings are errors here


def test_the_weights_of_a_second_start_are_taken_for_trained_ones_as_seldom_as_three_errors_say():
    random = torch.Generator().manual_seed(0)
    told = [
        doubt_of_continuation(weight_sample([one]), [other], later=True) is None
        for one, other in torch.randn(300, 2, 30, 30, generator=random)
    ]
    assert sum(told) <= 3  # of 300, at .13%


def test_weights_kept_in_fewer_digits_are_the_same():
    weights = [torch.randn(50, 50, generator=torch.Generator().manual_seed(0)), torch.ones(50), torch.zeros(0)]
    saved = weight_sample(weights)
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.complex64):
        one = saved if not dtype.is_complex else weight_sample([weight.to(dtype) for weight in weights])
        assert doubt_of_continuation(one, [weight.to(dtype) for weight in weights], later=False) is None
    assert doubt_of_continuation(saved, [1.001 * weight for weight in weights], later=False)
    diverged = [torch.full((4,), torch.nan), torch.full((4,), torch.inf)]
    assert doubt_of_continuation(weight_sample(diverged), diverged, later=False) is None
