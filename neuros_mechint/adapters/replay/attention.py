"""Stand in for PyTorch's fused attention while a block runs on a part of the sequence."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode


class KeysSeenError(Exception):
    """Raised inside a block once its keys and values are known and nothing else is wanted of it."""


class Attention(TorchFunctionMode):
    """See, and take part in, every call of ``scaled_dot_product_attention`` while the context lasts.

    Subclasses override `attend`.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return self.attend(*args, **(kwargs or {}))

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> torch.Tensor:
        """Return the attention's output."""
        return F.scaled_dot_product_attention(query, key, value, **options)


class SeenAttention(Attention):
    """Keep keys, values and outputs of every attention call, in order.

    Parameters
    ----------
    stop : bool
        Raise `KeysSeenError` as soon as the keys and values are there.

    Examples
    --------
    >>> x = torch.zeros(1, 2, 3, 4)
    >>> with SeenAttention() as seen:
    ...     _ = F.scaled_dot_product_attention(x, x, x)
    >>> seen.calls[0][0].shape
    torch.Size([1, 2, 3, 4])
    """

    def __init__(self, stop: bool = False) -> None:
        super().__init__()
        self.stop = stop
        self.calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> torch.Tensor:
        """Keep the keys and values, and return the attention's output."""
        if self.stop:
            self.calls.append((key, value, key))
            raise KeysSeenError
        output = super().attend(query, key, value, **options)
        self.calls.append((key, value, output))
        return output


class PrefixedAttention(Attention):
    """Let the positions at hand also attend to those before them, whose keys and values are known.

    Parameters
    ----------
    keys, values : torch.Tensor of shape (1 or batch, head, position, unit)
        Of the positions before those at hand.

    Examples
    --------
    >>> q, k, v = torch.randn(3, 1, 2, 5, 4).unbind()
    >>> whole = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    >>> with PrefixedAttention(k[:, :, :3], v[:, :, :3]):
    ...     part = F.scaled_dot_product_attention(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], is_causal=True)
    >>> torch.allclose(part, whole[:, :, 3:], atol=1e-6)
    True
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values

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
        own, before = key.shape[-2], self.keys.shape[-2]
        key, value = joined(self.keys, key), joined(self.values, value)
        if is_causal:
            attn_mask = torch.ones(own, before + own, dtype=torch.bool, device=key.device).tril(before)
        elif attn_mask is not None and attn_mask.shape[-1] == own:
            visible = attn_mask.new_ones if attn_mask.dtype == torch.bool else attn_mask.new_zeros
            attn_mask = torch.cat([visible(*attn_mask.shape[:-1], before), attn_mask], -1)
        return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, False, **options)


class KnownAttention(Attention):
    """Answer each attention call, as long as outputs are at hand, with the next of them.

    Parameters
    ----------
    outputs : list of torch.Tensor
        What the calls would return.
    """

    def __init__(self, outputs: list[torch.Tensor]) -> None:
        super().__init__()
        self.outputs = iter(outputs)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> torch.Tensor:
        """Return what is known, or else the attention's output."""
        known = next(self.outputs, None)
        return super().attend(query, key, value, **options) if known is None else known


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
