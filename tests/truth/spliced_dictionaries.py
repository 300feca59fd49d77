"""A dictionary made by hand, and models with it at a site."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

import neuros_mechint as nm
from tests.conformance.architectures import ARCHITECTURES


class HandMade(nn.Module):
    """``features = relu(x E + b)``, ``x' = features D + c``: a dictionary whose every number is known."""

    def __init__(self, n_inputs, n_features, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.E = nn.Parameter(torch.randn(n_inputs, n_features, generator=generator) / n_inputs**0.5)
        self.D = nn.Parameter(torch.randn(n_features, n_inputs, generator=generator) / n_features**0.5)
        self.b = nn.Parameter(0.1 * torch.randn(n_features, generator=generator))
        self.c = nn.Parameter(0.1 * torch.randn(n_inputs, generator=generator))

    def encode(self, x):
        return torch.relu(x @ self.E + self.b)

    def decode(self, feature_acts):
        return feature_acts @ self.D + self.c


@cache
def spliced(name, site="blocks.1.resid_post", seed=0):
    module, inputs = ARCHITECTURES[name].build()
    plain = nm.adapt(module, **({} if ARCHITECTURES[name].is_huggingface else {"example": inputs}))
    width = plain.capture(inputs, site)[site].flatten(2).shape[-1]
    dictionary = HandMade(width, 2 * width, seed).eval()
    return plain, plain.with_sae(dictionary, site), dictionary, inputs, site
