"""Find the stacks of blocks that carry a residual stream, by what goes through them, not by their names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from neuros_mechint.adapters.inference.gradients import gradient, reached, uneven
from neuros_mechint.adapters.inference.trace import Event, Trace

MIN_SAMPLES, MIN_POSITIONS = 2, 4


@dataclass(frozen=True, eq=False)
class Block:
    """One call of one block of a stack.

    Parameters
    ----------
    name : str
        Canonical prefix of its sites, e.g. ``"blocks.0."``.
    path : str
        Path of the submodule.
    entry, exit : Event
        The residual stream before and after it.
    events : list of Event
        What happened in between, with flattened tokens taken apart.
    trace : Trace
        The pass it belongs to.
    """

    name: str
    path: str
    entry: Event
    exit: Event
    events: list[Event]
    trace: Trace

    @property
    def softmaxes(self) -> list[Event]:
        """Attention patterns of the block, in order."""
        return [event for event in self.events if event.side == "softmax"]

    @property
    def stream_events(self) -> list[Event]:
        """Events inside the block whose tensor has the shape of the residual stream, in order."""
        wanted = self.entry.shape
        return [
            event
            for event in self.events
            if event is not self.entry and event.side != "softmax" and event.shape == wanted
        ]

    def other_side(self, event: Event) -> Event | None:
        """Return the first tensor on the other side of the call of a submodule that ``event`` belongs to."""
        side = "out" if event.side == "in" else "in"
        wanted = (event.path, event.call, side)
        return next((other for other in self.events if (other.path, other.call, other.side) == wanted), None)


@dataclass(frozen=True, eq=False)
class Stack:
    """A container of blocks.

    Parameters
    ----------
    path : str
        Path of the container.
    prefix : str
        What its sites' names start with: empty for the only stack of a model.
    blocks : list of Block
        One per call, so that layers which share one module are told apart.
    """

    path: str
    prefix: str
    blocks: list[Block]

    @property
    def unfit(self) -> str | None:
        """Why nothing can be proven on this stream, if so."""
        first = self.blocks[0]
        samples, positions = first.entry.shape[:2]
        if samples < MIN_SAMPLES or positions < MIN_POSITIONS:
            # on too few positions different rules agree
            return (
                f"proof needs at least {MIN_SAMPLES} samples of {MIN_POSITIONS} positions, and these inputs have "
                f"{samples} of {positions}: give a larger batch first"
            )
        weights = torch.zeros_like(first.exit.value)
        weights[0] = uneven(weights[0])
        (slope,) = gradient(first.exit, [first.entry], weights)
        if slope is not None and reached(slope, 0) != [(0,)]:
            return "the first axis of the stream mixes, so it does not hold the samples (batch_first=False?)"
        return None


def find_stacks(trace: Trace) -> list[Stack]:
    """Return the outermost containers whose children map ``(batch, position, unit)`` to the same shape."""
    found: dict[str, list[_Call]] = {}
    for path, module in trace.modules.items():
        inside_another = any(not outer or path.startswith(f"{outer}.") for outer in found)
        if isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.Sequential)) and not inside_another:
            calls = list(_stream_calls(trace, path))
            # a Sequential is often a whole model: it is a stack only if all of it carries the stream
            whole = len({call.path for call in calls}) == sum(1 for _ in module.children())
            if calls and (whole or not isinstance(module, nn.Sequential)):
                found[path] = calls
    prefixes = _prefixes(list(found))
    return [
        Stack(
            path,
            prefix,
            [_block(trace, f"{prefix}blocks.{index}.", call) for index, call in enumerate(calls)],
        )
        for (path, calls), prefix in zip(found.items(), prefixes, strict=True)
    ]


@dataclass(frozen=True)
class _Call:
    path: str
    call: int
    entry: Event
    exit: Event


def _stream_calls(trace: Trace, container: str) -> Iterator[_Call]:
    """Yield the calls of the container's children that carry a stream, in order of execution."""
    children = [
        (span.start, path, call)
        for (path, call), span in trace.spans.items()
        if path.rpartition(".")[0] == container and path and not trace.is_leaf(path)
    ]
    for _, path, call in sorted(children):
        own = [event for event in trace.during(path, call) if (event.path, event.call) == (path, call)]
        entry = next((event for event in own if event.side == "in" and event.value.ndim == 3), None)
        leave = next((event for event in own if event.side == "out" and event.value.ndim == 3), None)
        if entry is None or leave is None or entry.shape != leave.shape:
            continue
        # features are what projections read: in a stack of convolutions the last axis holds positions
        if any(_reads_last_axis(trace, event, entry) for event in trace.during(path, call)):
            yield _Call(path, call, entry, leave)


def _reads_last_axis(trace: Trace, event: Event, stream: Event) -> bool:
    return event.side == "in" and event.path in trace.projections and event.shape[-1] == stream.shape[-1]


def _block(trace: Trace, name: str, call: _Call) -> Block:
    samples, positions = call.entry.shape[:2]
    events = [
        event if event in (call.entry, call.exit) else event.unflattened(samples, positions)
        for event in trace.during(call.path, call.call)
    ]
    return Block(name, call.path, call.entry, call.exit, events, trace)


def _prefixes(paths: list[str]) -> list[str]:
    """Name the stacks: nothing for an only one, encoder and decoder for such a pair, else their own paths."""
    if len(paths) == 1:
        return [""]
    sides = [_side(path) for path in paths]
    if sorted(sides) == ["decoder.", "encoder."]:
        return sides
    return [f"{path}." for path in paths]


def _side(path: str) -> str:
    """Return which of two stacks this is: the one place where a module's name counts."""
    for part in reversed(path.split(".")):
        for side in ("encoder", "decoder"):
            if side in part:
                return f"{side}."
    return ""
