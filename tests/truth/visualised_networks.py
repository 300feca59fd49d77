"""Networks whose optimal stimuli are known, and the search for these."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.visualisation.visualizer import FeatureVisualizer
from tests.truth.small_networks import normal

SEEDS = (0, 1, 2, 3, 4)
each_seed = pytest.mark.parametrize("seed", SEEDS)


def cosine(a, b):
    a, b = (np.asarray(one.detach() if isinstance(one, torch.Tensor) else one, dtype=float).ravel() for one in (a, b))
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def linear(seed=0, n_inputs=30):
    layer = nn.Linear(n_inputs, 5)
    with torch.no_grad():
        layer.weight.copy_(normal(5, n_inputs, seed=seed))
        layer.bias.copy_(normal(5, seed=seed + 1))
    return layer


def maximize(module, site, like, call=None, **options):
    return FeatureVisualizer(nm.adapt(module), progress=False, **options).maximize(site, like, **(call or {}))


class LinearRNN(nn.Module):
    """``h[t] = W h[t - 1] + B u[t]``, for inputs ``(batch, time, n_inputs)``."""

    def __init__(self, seed):
        super().__init__()
        self.recurrent, self.inward = 0.3 * normal(8, 8, seed=seed), normal(8, 2, seed=seed + 100)

    def forward(self, inputs):
        state, states = inputs.new_zeros(len(inputs), 8), []
        for now in inputs.unbind(1):
            state = state @ self.recurrent.T + now @ self.inward.T
            states.append(state)
        return torch.stack(states, 1)


class Function(nn.Module):
    """A differentiable function of the input as a model."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


def gabor(seed, size=11):
    draw = np.random.default_rng(seed)
    angle, phase, wavelength = draw.uniform(0, np.pi), draw.uniform(0, 2 * np.pi), draw.uniform(4.5, 7)
    y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    along = x * np.cos(angle) + y * np.sin(angle)
    wave = torch.exp(-(x**2 + y**2) / 2 / 2.5**2) * torch.cos(2 * np.pi * along / wavelength + phase)
    wave = wave - wave.mean()
    return wave / wave.norm()


def cnn(seed):
    """A small network whose first unit is a Gabor filter, and whose second has the same weights in random order."""
    net = nn.Sequential(nn.Conv2d(1, 4, 11), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 3), nn.ReLU())
    wave = gabor(seed)
    with torch.no_grad():
        for place, parameter in enumerate(net.parameters()):
            parameter.copy_(0.1 * normal(*parameter.shape, seed=place))
        net[0].weight[0, 0] = wave
        net[0].weight[1, 0] = wave.flatten()[torch.randperm(121, generator=torch.Generator().manual_seed(seed))].view(
            11, 11
        )
        net[0].bias[:2] = -0.2
    return net
