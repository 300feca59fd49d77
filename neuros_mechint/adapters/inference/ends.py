"""Prove what lies before and after the stacks of blocks: embeddings, the final norm, the logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from neuros_mechint.adapters.inference.gradients import gradient
from neuros_mechint.adapters.inference.identities import close
from neuros_mechint.adapters.inference.stacks import Stack
from neuros_mechint.adapters.inference.trace import STREAM_DIMS, Event, Trace
from neuros_mechint.adapters.taps import Tap

Argument = int | str
"""Position or keyword of an argument of the model."""

Rerun = Callable[[Mapping[Argument, torch.Tensor]], Any]
"""Runs the model with some of its arguments replaced."""


def final_norm(trace: Trace, stack: Stack) -> Tap | None:
    """Return the norm of the last block's output: a leaf module that forgets the scale of its input."""
    last = stack.blocks[-1].exit
    for event in trace.events[last.time + 1 :]:
        if event.side != "in" or event.path in trace.projections or not trace.is_leaf(event.path):
            continue
        if not close(event.value, last.value) or not _forgets_scale(trace.modules[event.path], event.value):
            continue
        output = next(e for e in trace.during(event.path, event.call) if e.side == "out")
        return output.tap("a norm whose input is the last resid_post")
    return None


def _forgets_scale(module: nn.Module, stream: torch.Tensor) -> bool:
    # far above the epsilon that keeps a norm from dividing by zero, far below the largest float16
    unit = stream / stream.abs().max()
    with torch.no_grad():
        try:
            small, large = module(100 * unit), module(200 * unit)
        except (RuntimeError, TypeError, ValueError):  # it needs more than the stream: no norm of it
            return False
    if not isinstance(small, torch.Tensor) or small.shape != stream.shape:
        return False
    tolerance = max(1e-3, 8 * torch.finfo(stream.dtype).eps)
    return bool(((small - large).norm() <= tolerance * small.norm()).item()) and bool(small.any())


def token_embedding(trace: Trace, stack: Stack, arguments: Mapping[Argument, torch.Tensor], rerun: Rerun) -> Tap | None:
    """Return the embedding of the stack's tokens: fed with an integer argument, and feeding the first block.

    Arguments may hold equal values: encoder and decoder are told apart by the stack that the embedding feeds,
    and token ids from token types and positions by what moves when the argument is changed.
    """
    entered = [e for e in trace.events if e.side == "in" and isinstance(trace.modules[e.path], nn.Embedding)]
    outputs = [next(o for o in trace.during(e.path, e.call) if o.side == "out") for e in entered]
    slopes = gradient(stack.blocks[0].entry, outputs)
    feeding = [(e, o) for e, o, slope in zip(entered, outputs, slopes, strict=True) if slope is not None]
    for name, ids in sorted(arguments.items(), key=_tokens_first):
        fed = [(e, o) for e, o in feeding if torch.equal(e.value.to(ids), ids)]
        if len(fed) > 1:
            moved = _moved_by(trace, name, ids, [e for e, _ in fed], rerun)
            fed = [(e, o) for e, o in fed if e in moved]
        if fed:
            return fed[0][1].tap(f"embedding of the argument {name!r} that feeds the first block")
    return None


def _tokens_first(item: tuple[Argument, torch.Tensor]) -> tuple[bool, bool]:
    """Order arguments: token types and positions are integers too, but come later or are named so."""
    name = item[0]
    return (isinstance(name, str), isinstance(name, str) and not name.endswith("input_ids"))


def _moved_by(trace: Trace, name: Argument, ids: torch.Tensor, embeddings: list[Event], rerun: Rerun) -> list[Event]:
    """Return those embeddings whose input changes when the argument changes."""
    smallest = min(int(trace.modules[event.path].num_embeddings) for event in embeddings)  # type: ignore[arg-type]
    changed = (ids + 1) % smallest
    seen: dict[tuple[str, int], torch.Tensor] = {}
    calls: Counter[str] = Counter()

    def note(path: str, _module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen[path, calls[path]] = args[0].clone()
        calls[path] += 1

    handles = [
        trace.modules[path].register_forward_pre_hook(partial(note, path))
        for path in {event.path for event in embeddings}
    ]
    try:
        rerun({name: changed})
    finally:
        for handle in handles:
            handle.remove()
    return [
        event
        for event in embeddings
        if (event.path, event.call) in seen and torch.equal(seen[event.path, event.call].to(changed), changed)
    ]


def logits(trace: Trace, stacks: list[Stack], taps: Mapping[str, Tap]) -> Tap | None:
    """Return the model's logits: named so in its output, or projected from the last residual stream."""
    own = {e.key: e for e in trace.events if (e.path, e.side) == ("", "out")}
    if "logits" in own:
        dims = STREAM_DIMS if own["logits"].value.ndim == 3 else ("sample", "unit")
        return own["logits"].tap("the model's output of that name", dims=dims)
    streams = [stack.blocks[-1].exit for stack in stacks]
    normed = {(tap.path, tap.call) for name, tap in taps.items() if name.endswith("ln_final")}
    streams += [e for e in trace.events if e.side == "out" and (e.path, e.call) in normed]
    for read in trace.events:
        if read.side != "in" or read.path not in trace.projections or not _reads(read, streams):
            continue
        made = next(e for e in trace.during(read.path, read.call) if e.side == "out")
        for output in own.values():
            if close(output.value, made.value) and output.value.ndim == 3:
                return output.tap("a projection of the last residual stream")
    return None


def _reads(read: Event, streams: list[Event]) -> bool:
    """Return whether a projection reads one of the streams, or the last position of one."""
    return any(
        close(read.value, stream.value) or (read.value.ndim == 3 and close(read.value, stream.value[:, -1:]))
        for stream in streams
    )
