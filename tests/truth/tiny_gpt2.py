"""A tiny GPT-2 of random weights, and its tokens."""

from __future__ import annotations

import torch


def generator(seed):
    return torch.Generator().manual_seed(seed)


def gpt2():
    import transformers

    config = transformers.GPT2Config(vocab_size=30, n_embd=8, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    return transformers.GPT2LMHeadModel(config)


def tokens(seed):
    return torch.randint(3, 30, (5, 6), generator=generator(seed))
