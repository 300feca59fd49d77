"""The gradient of the rotation equals finite differences, in components of recurrent networks too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.causal.counterfactuals.answers import Answers
from neuros_mechint.causal.counterfactuals.interchange import InterchangeIntervention, paired_places
from neuros_mechint.causal.counterfactuals.rotation import PairBatch, Rotation
from tests.truth.tiny_gpt2 import generator, gpt2, tokens


def numbers(*shape):
    return lambda seed: torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def mlp():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 30))


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = torch.nn.GRU(3, 6, batch_first=True)
        self.readout = torch.nn.Linear(6, 30)

    def forward(self, inputs):
        return self.readout(self.cell(inputs)[0])


@pytest.mark.parametrize(
    ("make", "inputs", "site"),
    [
        (mlp, numbers(5, 4), "1"),
        (gpt2, tokens, "blocks.0.resid_post[position=2]"),
        (gpt2, tokens, "blocks.0.resid_post"),
        (gpt2, tokens, "blocks.1.z[head=1]"),
        (Recurrent, numbers(5, 7, 3), "hidden[time=3]"),
        (Recurrent, numbers(5, 7, 3), "hidden"),
        (Recurrent, numbers(5, 7, 3), "hidden[time=2:5]"),
        (lambda: torch.nn.GRUCell(3, 30), numbers(5, 7, 3), "hidden[time=1:4]"),
        (
            lambda: torch.nn.Sequential(torch.nn.Conv2d(1, 5, 3), torch.nn.Flatten(), torch.nn.Linear(45, 30)),
            numbers(5, 1, 5, 5),
            "0",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", "made"),
)
def test_the_gradient_of_the_rotation_equals_finite_differences(make, inputs, site):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nm.adapt(make().double().eval())
    base, source = inputs(0), inputs(1)
    answers = Answers.of(torch.tensor([3, 7, 1, 0, 12]))
    _, place = paired_places(model, base, source, site)
    rotation = Rotation(place.n_features("here"), 2, np.random.default_rng(0))
    PairBatch(base, place, answers).backward(model, rotation)
    (parameter,) = rotation.parameters()

    def loss():
        with torch.no_grad():
            swap = InterchangeIntervention(site, rotation.weight.T)
            return answers.loss(swap.run(model, base, source)).mean().item()

    step = 1e-5
    for row, column in [(1, 0), (2, 0), (2, 1), (3, 1)]:
        with torch.no_grad():
            parameter[row, column] += step
            above = loss()
            parameter[row, column] -= 2 * step
            below = loss()
            parameter[row, column] += step
        assert parameter.grad[row, column].item() == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-9)
    assert parameter.grad.abs().max() > 1e-4


def test_swapping_a_recurrent_component_lets_the_rest_of_the_state_follow():
    """At later steps the rest of the state is what follows from the swap, not what it was without it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.RNNCell(2, 3)
    model, basis = nm.adapt(network), torch.tensor([[0.6, 0.8, 0.0]])
    base, source = (torch.randn(4, 5, 2, generator=generator(seed)) for seed in (0, 1))
    found = nm.InterchangeIntervention("hidden", basis).run(model, base, source)
    wanted = model.run(source).output
    state = torch.zeros(4, 3)
    with torch.no_grad():
        for time in range(5):
            state = network(base[:, time], state)
            state = state + ((wanted[:, time] - state) @ basis.T) @ basis
            torch.testing.assert_close(found[:, time], state)
