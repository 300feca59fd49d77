"""What the tests of circuits share: the hand-weighted model with its task, and a torch model of two known paths."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import neuros_mechint as nm
from tests.slow import slow_case
from tests.truth.hand_weighted import hand_weighted, partners

each_model = pytest.mark.parametrize(("noise", "seed"), [(0.0, 0), (0.02, 1), slow_case(0.02, 0)])


def task(seed, n_samples=16):
    """A metric with clean and corrupted inputs: what follows in a sequence that repeats."""
    clean, corrupted, correct, wrong = partners(n_samples, seed)
    return nm.logit_difference(correct, wrong), clean, corrupted


@cache
def hand_model(noise=0.0, seed=0):
    return nm.adapt(hand_weighted(10.0, noise, seed))


@cache
def token_circuit(noise=0.0):
    """The five edges found in the hand-weighted model."""
    return nm.discover_circuit(hand_model(noise), *task(1), n_edges=5)


class TwoPaths(nn.Module):
    """``tanh(3 a1(x0)) + tanh(2 b1(x1))`` along ``a1, a2`` and ``b1, b2``; eight more modules that nobody needs."""

    def __init__(self):
        super().__init__()
        for name in ("a1", "b1", "a2", "b2", *(f"idle{at}" for at in range(8))):
            self.add_module(name, nn.Identity())

    def forward(self, x):
        a, b = self.a1(3 * x[:, 0]), self.b1(2 * x[:, 1])
        idle = sum(self.get_submodule(f"idle{at}")(x[:, at % 2]) for at in range(8))
        return self.a2(torch.tanh(a)) + self.b2(torch.tanh(b)) + 0 * idle


NODES = ["a1", "b1", "a2", "b2", *(f"idle{at}" for at in range(8))]


def plane(seed):
    random = torch.Generator().manual_seed(seed)
    clean = torch.rand(20, 2, generator=random)
    return lambda output: output, clean, clean - 1 - torch.rand(20, 2, generator=random)
