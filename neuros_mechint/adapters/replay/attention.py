"""Take part in attention while a block runs on a part of the sequence: earlier positions are put in its sight.

A block's attention shows its keys and values where it calls PyTorch's fused kernel, or where it asks a TransformerLens
key-value cache to append them. Either way a `Meeting` is told, and says with which keys and values to go on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

CACHE_ARGUMENT = "past_kv_cache_entry"
"""By this name TransformerLens hands each block its key-value cache."""


class KeysSeenError(Exception):
    """Raised inside a block once its keys and values are known and nothing else is wanted of it."""


class Meeting(ABC):
    """What happens when keys and values ``(batch, head, position, unit)`` are about to be attended to."""

    n_before: int = 0
    """How many earlier positions are put in front."""

    @abstractmethod
    def meet(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values to attend to."""


class KeysWanted(Meeting):
    """Keep keys and values, and stop the block there."""

    def __init__(self) -> None:
        self.seen: tuple[torch.Tensor, torch.Tensor] | None = None

    def meet(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep them; raise `KeysSeenError`."""
        self.seen = (keys, values)
        raise KeysSeenError


class EarlierKeys(Meeting):
    """Put the keys and values of earlier positions in front.

    Parameters
    ----------
    keys, values : torch.Tensor of shape (1 or batch, head, position, unit)
        Of the positions before those at hand.

    Examples
    --------
    >>> q, k, v = torch.randn(3, 1, 2, 5, 4).unbind()
    >>> whole = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    >>> with FusedAttention(EarlierKeys(k[:, :, :3], v[:, :, :3])):
    ...     part = F.scaled_dot_product_attention(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], is_causal=True)
    >>> torch.allclose(part, whole[:, :, 3:], atol=1e-6)
    True
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys, self.values = keys, values
        self.n_before = keys.shape[-2]

    def meet(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return earlier and present ones together."""
        return joined(self.keys, keys), joined(self.values, values)


class _Attention(TorchFunctionMode, ABC):
    """See every call of ``scaled_dot_product_attention`` while the context lasts."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return self.attend(*args, **(kwargs or {}))

    @abstractmethod
    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> torch.Tensor:
        """Return the attention's output."""


class FusedAttention(_Attention):
    """Hold a meeting at every call of the fused kernel.

    Parameters
    ----------
    meeting : Meeting
    """

    def __init__(self, meeting: Meeting) -> None:
        super().__init__()
        self.meeting = meeting

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> torch.Tensor:
        """Return the attention's output with the earlier positions in sight."""
        own, before = key.shape[-2], self.meeting.n_before
        key, value = self.meeting.meet(key, value)
        if is_causal and before:
            attn_mask = torch.ones(own, before + own, dtype=torch.bool, device=key.device).tril(before)
        elif attn_mask is not None and before and attn_mask.shape[-1] == own:
            visible = attn_mask.new_ones if attn_mask.dtype == torch.bool else attn_mask.new_zeros
            attn_mask = torch.cat([visible(*attn_mask.shape[:-1], before), attn_mask], -1)
        causal = is_causal and not before
        return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, causal, **options)


class CacheEntry:
    """Hold a meeting where a TransformerLens block asks its key-value cache to append.

    Parameters
    ----------
    meeting : Meeting
    """

    def __init__(self, meeting: Meeting) -> None:
        self.meeting = meeting
        self.past_keys = torch.empty(1, meeting.n_before)  # asked only for its size

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values ``(batch, position, head, unit)`` to attend to."""
        keys, values = self.meeting.meet(keys.transpose(1, 2), values.transpose(1, 2))
        return keys.transpose(1, 2), values.transpose(1, 2)


class SeenOutputs(_Attention):
    """Keep the output of every call of the fused kernel, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[torch.Tensor] = []

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **options: Any) -> Any:
        """Keep the attention's output, and return it."""
        output = F.scaled_dot_product_attention(query, key, value, *args, **options)
        self.outputs.append(output)
        return output


class KnownOutputs(_Attention):
    """Answer each call of the fused kernel, as long as outputs are at hand, with the next of them.

    Parameters
    ----------
    outputs : list of torch.Tensor
        What the calls would return.
    """

    def __init__(self, outputs: list[torch.Tensor]) -> None:
        super().__init__()
        self.outputs = iter(outputs)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **options: Any) -> Any:
        """Return what is known, or else the attention's output."""
        known = next(self.outputs, None)
        return F.scaled_dot_product_attention(query, key, value, *args, **options) if known is None else known


def joined(before: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
    """Put the keys or values of earlier positions in front of later ones, with as many rows and heads as those have."""
    if before.shape[1] > now.shape[1]:  # grouped queries: a single query is attended with one copy of each key head
        before = before[:, :: before.shape[1] // now.shape[1]]
    elif before.shape[1] < now.shape[1]:
        before = before.repeat_interleave(now.shape[1] // before.shape[1], 1)
    rows, copies = before.shape[0], now.shape[0] // before.shape[0]
    if copies > 1:
        before = before.expand(copies, *before.shape[1:]) if rows == 1 else before.repeat(copies, 1, 1, 1)
    return torch.cat([before, now], -2)
