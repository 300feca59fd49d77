"""A transformer whose induction circuit is written into its weights by hand, so that every edge is known.

The residual stream is a stack of one-hot subspaces: the token, the position, the previous token (written by a0.h0), the
prediction (written by a1.h0), and one that nobody reads, into which two decoy heads write.
"""

from __future__ import annotations

from typing import Any

import torch

VOCABULARY, LENGTH, HEADS = 16, 24, 4
TOKEN, POSITION, PREVIOUS = 0, VOCABULARY, VOCABULARY + LENGTH
PREDICTION, UNREAD = PREVIOUS + VOCABULARY, PREVIOUS + 2 * VOCABULARY
WIDTH = UNREAD + VOCABULARY

TOKEN_EDGES = {
    "input->a0.h0<v>",
    "a0.h0->a1.h0<k>",
    "input->a1.h0<q>",
    "input->a1.h0<v>",
    "a1.h0->logits",
}
"""The edges along which other tokens make a difference."""
ALL_EDGES = TOKEN_EDGES | {"input->a0.h0<q>", "input->a0.h0<k>"}
"""These two carry positions, which are the same in every input."""
COMPOSITION = "a0.h0->a1.h0<k>"
"""The previous token enters the keys of the induction head."""
DECOYS = ("a0.h1", "a1.h1")


def hand_weighted(gain: float = 10.0, noise: float = 0.0, seed: int = 0) -> Any:
    """Return the model, a ``HookedTransformer``.

    Parameters
    ----------
    gain : float
        How sharply heads attend.
    noise : float
        Standard deviation of what is added to every weight matrix.
    seed : int
        Of that noise.
    """
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=2,
            d_model=WIDTH,
            n_ctx=LENGTH,
            d_head=max(VOCABULARY, LENGTH),
            n_heads=HEADS,
            d_vocab=VOCABULARY,
            attn_only=True,
            normalization_type=None,
            use_attn_scale=False,
            seed=seed,
            device="cpu",
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn * noise if name.rpartition(".")[2].startswith("W") else torch.zeros_like(drawn))
        model.embed.W_E[:, TOKEN : TOKEN + VOCABULARY] += torch.eye(VOCABULARY)
        model.pos_embed.W_pos[:, POSITION : POSITION + LENGTH] += torch.eye(LENGTH)
        model.unembed.W_U[PREDICTION : PREDICTION + VOCABULARY] += gain * torch.eye(VOCABULARY)
        first, second = (block.attn for block in model.blocks)
        _match(first, 0, POSITION, POSITION, LENGTH, gain, shift=1)  # previous-token head
        _move(first, 0, TOKEN, PREVIOUS)
        _match(second, 0, TOKEN, PREVIOUS, VOCABULARY, gain)  # induction head
        _move(second, 0, TOKEN, PREDICTION)
        _match(first, 1, TOKEN, TOKEN, VOCABULARY, gain)  # decoy: looks for the same token
        _move(first, 1, TOKEN, UNREAD)
        _match(second, 1, POSITION, POSITION, LENGTH, gain, shift=1)  # decoy: looks one back
        _move(second, 1, TOKEN, UNREAD)
    return model.eval()


def _match(attention: Any, head: int, query: int, key: int, size: int, gain: float, shift: int = 0) -> None:
    """Let a head attend where the key's one-hot equals the query's, moved back by ``shift``."""
    for entry in range(shift, size):
        attention.W_Q[head, query + entry, entry - shift] += gain
    for entry in range(size):
        attention.W_K[head, key + entry, entry] += 1


def _move(attention: Any, head: int, source: int, target: int) -> None:
    """Let a head copy the tokens it attends to from one subspace into another."""
    for entry in range(VOCABULARY):
        attention.W_V[head, source + entry, entry] += 1
        attention.W_O[head, entry, target + entry] += 1


def repeated_sequences(n_samples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return sequences of random period, the token that comes next, and the periods."""
    generator = torch.Generator().manual_seed(seed)
    period = torch.randint(6, LENGTH // 2 + 1, (n_samples,), generator=generator)
    order = torch.rand(n_samples, VOCABULARY - 1, generator=generator).argsort(1)[:, : LENGTH // 2] + 1
    repeated = order.gather(1, torch.arange(LENGTH)[None] % period[:, None])
    tokens = torch.cat([torch.zeros(n_samples, 1, dtype=torch.long), repeated], dim=1)
    return tokens[:, :LENGTH], tokens[:, LENGTH], period


def partners(n_samples: int = 16, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return clean and corrupted sequences, and what comes next in each; pairs with the same answer are left out."""
    clean, correct, _ = repeated_sequences(n_samples, seed)
    corrupted, wrong, _ = repeated_sequences(n_samples, seed + 1000)
    differ = correct != wrong
    return clean[differ], corrupted[differ], correct[differ], wrong[differ]


def accuracy(model: Any, n_samples: int = 64, seed: int = 0) -> float:
    """Return how often the model predicts the next token where the sequence has begun to repeat."""
    tokens, _, period = repeated_sequences(n_samples, seed)
    with torch.no_grad():
        right = model(tokens)[:, :-1].argmax(-1) == tokens[:, 1:]
    predictable = torch.arange(LENGTH - 1)[None] >= period[:, None] + 1
    return right[predictable].float().mean().item()
