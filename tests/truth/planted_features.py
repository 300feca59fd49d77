"""A model whose stream holds planted features."""

from __future__ import annotations

import torch
from torch import nn

VOCABULARY, WIDTH, N_FEATURES, PAD = 20, 6, 9, 0


class Planted(nn.Module):
    """``relu(x E - 0.5)`` and ``f D``, every number of it at hand."""

    def __init__(self, seed=0, width=WIDTH, n_features=N_FEATURES):
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.E = torch.randn(width, n_features, generator=random)
        self.decoder = torch.randn(n_features, width, generator=random)

    def encode(self, x):
        return torch.relu(x.to(self.E.dtype) @ self.E - 0.5)

    def decode(self, feature_acts):
        return feature_acts @ self.decoder
