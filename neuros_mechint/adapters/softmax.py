"""Make attention patterns visible and editable while a model runs, whether it computes them openly or fused.

Editing the attention weights that a model returns changes nothing: they were used before. A pattern is
therefore met where it is used, by a torch function mode that sees every softmax and replaces each call of
PyTorch's ``scaled_dot_product_attention`` by the same maths with the pattern in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.overrides import TorchFunctionMode

from neuros_mechint.core.errors import CapabilityError

Visit = Callable[[torch.Tensor], torch.Tensor]
"""Takes a pattern ``(batch, head, query, key)`` and returns the one to use."""

_SOFTMAX = (torch.softmax, torch.Tensor.softmax, F.softmax, torch.special.softmax)
_KERNELS_WITHOUT_PATTERN = ("flash", "flex")


class VisibleSoftmax(TorchFunctionMode):
    """Hand every attention pattern that is computed to ``visit``, and go on with what it returns.

    Parameters
    ----------
    visit : callable
        Takes a pattern ``(batch, head, query, key)`` and returns the one to use.

    Examples
    --------
    >>> seen = []
    >>> x = torch.zeros(1, 2, 3, 4)
    >>> with VisibleSoftmax(lambda pattern: seen.append(pattern) or pattern):
    ...     _ = F.scaled_dot_product_attention(x, x, x, is_causal=True)
    >>> seen[0][0, 0]
    tensor([[1.0000, 0.0000, 0.0000],
            [0.5000, 0.5000, 0.0000],
            [0.3333, 0.3333, 0.3333]])
    """

    def __init__(self, visit: Visit) -> None:
        super().__init__()
        self.visit = visit

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query = args[0] if args else kwargs["query"]
            return self.attend(*args, **kwargs) if query.ndim == 4 else func(*args, **kwargs)
        result = func(*args, **kwargs)
        # a router's or a read-out's softmax has fewer axes: only attention is (batch, head, query, key)
        return self.visit(result) if func in _SOFTMAX and result.ndim == 4 else result

    def attend(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Do what ``scaled_dot_product_attention`` does, in the open."""
        return explicit_attention(self.visit, *args, **kwargs)


def explicit_attention(
    visit: Visit,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Compute what PyTorch's ``scaled_dot_product_attention`` does, with its pattern given to ``visit``.

    Parameters
    ----------
    visit : callable
        Takes the pattern ``(batch, head, query, key)`` and returns the one to use.
    query, key, value : torch.Tensor
        ``(batch, head, position, unit)``; with ``enable_gqa``, fewer heads in ``key`` and ``value``.
    attn_mask, dropout_p, is_causal, scale, enable_gqa
        As in PyTorch.
    """
    if enable_gqa:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    # fused kernels accumulate in float32, whatever the inputs are
    working = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(working) @ key.to(working).transpose(-1, -2)
    scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    # a query that may see no key at all attends to nothing
    blind = (scores == float("-inf")).all(-1, keepdim=True)
    weights = scores.softmax(-1).masked_fill(blind, 0.0)
    pattern = visit(F.dropout(weights, dropout_p, training=dropout_p > 0))
    return (pattern.to(working) @ value.to(working)).to(value.dtype)


@contextmanager
def visible_softmax(module: nn.Module, visit: Visit) -> Iterator[None]:
    """Hand every attention pattern of ``module`` to ``visit`` while the context lasts.

    Parameters
    ----------
    module : torch.nn.Module
        The model that will run.
    visit : callable
        Takes a pattern ``(batch, head, query, key)`` and returns the one to use.

    Raises
    ------
    CapabilityError
        The model computes attention in a kernel that never holds the pattern.
    """
    kernel = patternless_attention(module)
    if kernel is not None:
        raise CapabilityError(
            f"attention patterns do not exist under {kernel!r} attention",
            expected="'sdpa' or 'eager' attention",
            fix="call model.set_attn_implementation('sdpa') first",
        )
    with VisibleSoftmax(visit):
        yield


def patternless_attention(module: nn.Module) -> str | None:
    """Return the name of the model's attention kernel if it never holds the pattern (flash, flex)."""
    names = [str(config._attn_implementation) for config in _attention_configs(module)]
    return next((name for name in names if any(word in name for word in _KERNELS_WITHOUT_PATTERN)), None)


@contextmanager
def open_attention(module: nn.Module) -> Iterator[None]:
    """Let a model whose kernels hold no pattern compute attention in the open, and set it back afterwards."""
    configs = _attention_configs(module) if patternless_attention(module) else []
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = "eager"
        yield
    finally:
        # in the order of the modules, so that a part's own setting follows, and overrides, the whole's
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


def _attention_configs(module: nn.Module) -> list[Any]:
    configs = [getattr(submodule, "config", None) for submodule in module.modules()]
    return list({id(c): c for c in configs if hasattr(c, "_attn_implementation")}.values())
