"""Transformer blocks written out by hand, to be bent in one way or another, and the run that tests them."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from neuros_mechint.adapters.hooks import run_hooked
from tests.conformance.architectures import HEADS, WIDTH, main_output

BLOCK_NAMES = {
    *("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"),
    *("q", "k", "v", "z", "pattern", "pre", "post"),
}


def run(model, inputs, taps, capture=(), edits=None):
    functions = {name: [lambda x, _dims, _window, f=f: f(x)] for name, f in (edits or {}).items()}
    n_samples = len(next(iter(inputs.values())))
    done = run_hooked(model, lambda: model(**inputs), taps, functions, capture, n_samples=n_samples)
    return main_output(done.output), done.tensors


def names_in_block(sites, layer=0):
    prefix = f"blocks.{layer}."
    return {name.removeprefix(prefix) for name in sites.taps if name.startswith(prefix)}


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


class Stack(nn.Module):
    """Blocks on a stream, and nothing else."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Attention(nn.Module):
    def __init__(self, heads=HEADS, fused=True):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        if self.fused:
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            z = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.o(z.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, activation=None):
        super().__init__()
        self.up, self.act, self.down = nn.Linear(WIDTH, 48), activation or nn.GELU(), nn.Linear(48, WIDTH)

    def forward(self, x):
        return self.down(self.act(self.up(x)))


class Block(nn.Module):
    def __init__(self, attention=None, mlp=None):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = (
            nn.LayerNorm(WIDTH),
            attention or Attention(),
            nn.LayerNorm(WIDTH),
            mlp or MLP(),
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))
