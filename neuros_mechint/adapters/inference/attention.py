"""Prove where queries, keys, values, patterns and head outputs lie, and how heads are laid out in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch

from neuros_mechint.adapters.inference.gradients import gradient, reached, uneven
from neuros_mechint.adapters.inference.identities import close
from neuros_mechint.adapters.inference.stacks import Block
from neuros_mechint.adapters.inference.trace import Event
from neuros_mechint.adapters.taps import HeadView, Tap

PATTERN_DIMS = ("sample", "head", "query", "key")
QUERY_DIMS = ("sample", "position", "head", "unit")
KEY_DIMS = ("sample", "position", "kv_head", "unit")

Found = dict[str, Tap]
Reasons = dict[str, str]


@dataclass(frozen=True, eq=False)
class Attention:
    """One softmax of a block, with the events its queries, keys and values can be among.

    Parameters
    ----------
    pattern : Event
        ``(batch, head, query, key)``.
    before : list of Event
        Outputs of leaf modules since the block's start or the softmax before.
    after : list of Event
        What enters projections after the softmax.
    """

    pattern: Event
    before: list[Event]
    after: list[Event]

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.pattern.shape[1]

    @property
    def probed(self) -> tuple[int, int]:
        """Head and query at which gradients are asked for: not the first, where a test could pass idly."""
        return self.heads - 1, self.pattern.shape[2] - 2


def attention_sites(block: Block) -> tuple[Found, Reasons]:
    """Return the taps of a block's attention: q, k, v, z, pattern, with ``cross_`` for its second one."""
    found: Found = {}
    reasons: Reasons = {}
    softmaxes = block.softmaxes
    starts = [block.entry.time, *(softmax.time for softmax in softmaxes)]
    for order, (start, pattern) in enumerate(zip(starts[:2], softmaxes, strict=False)):
        taps, why = _one_attention(_attention(block, start, pattern))
        if sum((s.path, s.call) == (pattern.path, pattern.call) for s in softmaxes) > 1:
            taps.pop("pattern", None)
            why["pattern"] = f"{pattern.path!r} computes several patterns in one call: they cannot be told apart"
        prefix = "cross_" if order else ""
        found |= {prefix + name: tap for name, tap in taps.items()}
        reasons |= {prefix + name: reason for name, reason in why.items()}
    return found, reasons


def _attention(block: Block, start: int, pattern: Event) -> Attention:
    samples, _, queries, keys = pattern.shape
    before = [
        event
        for event in block.events
        if start < event.time < pattern.time
        and event.side == "out"
        and event.value.ndim == 3
        and event.shape[0] == samples
        and event.shape[1] in (queries, keys)
        and (block.trace.is_leaf(event.path) or event.path in block.trace.projections)
    ]
    after = [
        event
        for event in block.events
        if event.time > pattern.time
        and event.side == "in"
        and event.path in block.trace.projections
        and event.shape[:-1] == (samples, queries)
        and event.shape[-1] % pattern.shape[1] == 0
    ]
    return Attention(pattern, before, after)


def _one_attention(attention: Attention) -> tuple[Found, Reasons]:
    values = _values(attention)
    if values is None:
        return _by_gradient_alone(attention)
    check = "z == pattern @ v"
    z, value, layout = values
    width = z.shape[-1] // attention.heads
    taps = {
        "pattern": attention.pattern.tap(check, dims=PATTERN_DIMS),
        "z": z.tap(check, HeadView(attention.heads, width), QUERY_DIMS),
        "v": value.tap(check, layout, KEY_DIMS),
    }
    taps |= _queries_and_keys(attention, value, layout)
    reason = "no projection from which the pattern of a head depends on that head alone"
    return taps, {name: reason for name in ("q", "k") if name not in taps}


def _values(attention: Attention) -> tuple[Event, Event, HeadView] | None:
    """Return z, v and the layout of v for which z == pattern @ v: one identity fixes all three."""
    if not attention.after:
        return None
    z, pattern = attention.after[0], attention.pattern.value
    width = z.shape[-1] // attention.heads
    heads_of_z = z.value.unflatten(-1, (attention.heads, width))
    for event in attention.before:
        if event.shape[1] != pattern.shape[-1]:
            continue
        for view in _layouts(event.shape[-1], width, attention.heads):
            values = view.read(event.value).repeat_interleave(attention.heads // view.heads, 2)
            mixed, size = _mix(pattern, values), _mix(pattern, values.abs())
            if close(heads_of_z, mixed.to(z.value.dtype), magnitude=size):
                return z, event, view
    return None


def _mix(pattern: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return ``pattern @ values`` in the finer dtype: many models compute the softmax alone in float32."""
    dtype = torch.promote_types(pattern.dtype, values.dtype)
    return torch.einsum("bhqk,bkhd->bqhd", pattern.to(dtype), values.to(dtype))


def _layouts(features: int, width: int, heads: int) -> Iterator[HeadView]:
    """Yield the ways in which ``features`` can hold values for ``heads`` query heads."""
    if features % width:
        return
    if heads % (features // width) == 0:
        yield HeadView(features // width, width)
    beyond_queries = features // width - heads
    if beyond_queries > 0 and beyond_queries % 2 == 0 and heads % (beyond_queries // 2) == 0:
        fused: tuple[Literal["split", "grouped"], ...] = ("split", "grouped")
        for layout in fused:
            yield HeadView(beyond_queries // 2, width, "v", layout, heads)


def _queries_and_keys(attention: Attention, value: Event, layout: HeadView) -> Found:
    """Return the q and k from which, by gradient, the pattern of one head at one query depends as it must.

    On q through that head and that position only; on k through that head's key-value head only, at several
    positions. A norm or a rotation may lie in between: the last module output that passes is the one taken.
    """
    heads, (head, position) = attention.heads, attention.probed
    candidates = list(_query_and_key_candidates(attention, value, layout))
    weights = torch.zeros_like(attention.pattern.value)
    weights[:, head, position] = uneven(weights[:, head, position])
    by_candidate = gradient(attention.pattern, [event for _, event, _ in candidates], weights)
    taps: Found = {}
    for (name, event, view), slope in zip(candidates, by_candidate, strict=True):
        if slope is None:
            continue
        touched = reached(view.read(slope), 1, 2)
        if name == "q" and touched == [(position, head)]:
            taps["q"] = event.tap("pattern[h, p] depends only on q[p, h]", view, QUERY_DIMS)
        key_head = head // (heads // view.heads)
        if name == "k" and len(touched) > 1 and all(h == key_head for _, h in touched):
            taps["k"] = event.tap("pattern[h, p] depends only on k[:, kv head of h]", view, KEY_DIMS)
    return taps


def _query_and_key_candidates(
    attention: Attention, value: Event, layout: HeadView
) -> Iterator[tuple[Literal["q", "k"], Event, HeadView]]:
    heads = attention.heads
    if layout.layout != "plain":
        yield "q", value, replace(layout, part="q", heads=heads)
        yield "k", value, replace(layout, part="k")
        return
    _, _, queries, keys = attention.pattern.shape
    for event in attention.before:
        features = event.shape[-1]
        if event is not value and event.shape[1] == queries and features % heads == 0:
            yield "q", event, HeadView(heads, features // heads)
        if event is not value and event.shape[1] == keys and features % layout.heads == 0:
            yield "k", event, HeadView(layout.heads, features // layout.heads)


def _by_gradient_alone(attention: Attention) -> tuple[Found, Reasons]:
    """Keep z and the pattern where v has an unknown layout, if z[h, p] depends on pattern[h, p] only."""
    reason = "z != pattern @ v for every candidate projection"
    missing: Reasons = dict.fromkeys(("q", "k", "v", "z", "pattern"), reason)
    if not attention.after:
        return {}, dict.fromkeys(missing, "no projection reads what the pattern mixes")
    z, (head, position) = attention.after[0], attention.probed
    width = z.shape[-1] // attention.heads
    weights = torch.zeros_like(z.value).unflatten(-1, (attention.heads, width))
    weights[:, position, head] = uneven(weights[:, position, head])
    (slope,) = gradient(z, [attention.pattern], weights.flatten(2))
    if slope is None or reached(slope, 1, 2) != [(head, position)]:
        return {}, missing
    check = "z[p, h] depends only on pattern[h, p]"
    found = {
        "z": z.tap(check, HeadView(attention.heads, width), QUERY_DIMS),
        "pattern": attention.pattern.tap(check, dims=PATTERN_DIMS),
    }
    return found, {name: why for name, why in missing.items() if name not in found}
