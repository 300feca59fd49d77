"""The effect of one edge, and a model of two branches that are multiplied."""

from __future__ import annotations

from torch import nn


def value(effects, edge, variable="effect"):
    return float(effects.data[variable].sel(edge=edge))


class Parallel(nn.Module):
    """``o = a(x) b(x)`` with ``a(x) = 2 x_0`` and ``b(x) = 3 x_1``; ``idle`` runs but nobody reads it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.o, self.idle = nn.Identity(), nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x):
        self.idle(x)
        a = self.a(2 * x[:, :1])
        b = self.b(3 * x[:, 1:])
        return self.o(a * b)
