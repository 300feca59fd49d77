"""Small networks with random inputs, and the metric that reads their first output."""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import torch
from torch import nn

import neuros_mechint as nm


def first(output):
    return output[:, 0]


def random(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=random(seed), dtype=dtype)


def drawn(module, seed=0, scale=1.0):
    """Draw all parameters anew."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=random(seed), dtype=parameter.dtype))
            seed += 1
    return module


@contextmanager
def captum_may_warn():
    """Ignore that captum says that it puts hooks on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def tanh_net(seed=0):
    return drawn(nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 7), nn.Tanh(), nn.Linear(7, 2)), seed, 0.6)


def summing(weights):
    """A model that adds up its inputs with these weights."""
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(len(weights), 1, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([weights]))
    return nm.adapt(model)
