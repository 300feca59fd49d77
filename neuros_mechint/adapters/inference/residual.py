"""Follow the residual stream through a block: which module outputs are added to it, in which order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from neuros_mechint.adapters.inference.gradients import gradient, reached, uneven
from neuros_mechint.adapters.inference.identities import agree, close
from neuros_mechint.adapters.inference.stacks import Block
from neuros_mechint.adapters.inference.trace import Event
from neuros_mechint.adapters.taps import Tap

MAX_BRANCHES = 8

Kind = Literal["attention", "mlp", "mixer"]


@dataclass(frozen=True, eq=False)
class Branch:
    """One thing that is added to the stream.

    Parameters
    ----------
    event : Event
        The module output that is added.
    kind : {"attention", "mlp", "mixer"}
        A softmax runs in it; each position depends on itself alone; neither.
    started : int
        Time from which on it is computed.
    stream : tuple of Tap
        Their sum is the stream it is added to.
    followed : bool
        Later branches read the sum, so the stream behind this branch is a tensor of its own.
    normed : bool
        A norm is applied to the sum before it becomes the stream (post-norm).
    """

    event: Event
    kind: Kind
    started: int
    stream: tuple[Tap, ...]
    followed: bool = False
    normed: bool = False

    @property
    def tap_of_sum(self) -> Tap:
        """The stream behind this branch.

        A tap on the tensor in which the sum is first seen (the next norm's input) would read it rightly but
        edit it wrongly: the skip path goes past that norm. An edit of the summand moves both.
        """
        return replace(self.event.tap(), base=self.stream)


def residual_branches(block: Block) -> list[Branch] | None:
    """Return what the block adds to the stream, in order; ``None`` if that does not add up to its output.

    The chain r -> r + o -> ... is walked from the block's input to its output. Every sum must be seen in a
    tensor, up to rounding in each entry; where a norm follows a sum (post-norm) the walk goes on behind it.
    """
    stream, taps = block.entry, (block.entry.tap(),)
    branches: list[Branch] = []
    for _ in range(MAX_BRANCHES):
        if close(block.exit.value, stream.value):
            return branches
        step = _next_sum(block, stream)
        normed = _norm_of_sum(block, stream) if branches else None
        if step is not None:
            seen, added = step
            branches = _followed(branches)
            branches.append(Branch(added, _kind(block, added, stream), stream.time, taps))
            stream, taps = seen, (*taps, added.tap())
        elif normed is not None:
            branches[-1] = replace(branches[-1], normed=True)
            stream, taps = normed, (normed.tap(),)
        else:
            pair = _two_at_once(block, stream, taps)
            return None if pair is None else [*_followed(branches), *pair]
    return None


def _followed(branches: list[Branch]) -> list[Branch]:
    return [*branches[:-1], replace(branches[-1], followed=True)] if branches else []


def _next_sum(block: Block, stream: Event) -> tuple[Event, Event] | None:
    """Return the first tensor that is the stream plus one module output, and that output."""
    later = [event for event in block.stream_events if event.time > stream.time]
    changed = [event for event in later if not close(event.value, stream.value)]
    outputs = [event for event in changed if event.side == "out" and event.path != block.path]
    for seen in changed:
        added = [
            output
            for output in outputs
            if output.time <= seen.time
            and output is not seen
            and close(seen.value, stream.value, output.value)
            and not close(output.value, seen.value)
        ]
        if added:
            return seen, _outermost(added)
    return None


def _norm_of_sum(block: Block, stream: Event) -> Event | None:
    """Return what the module gives whose input showed the sum."""
    if stream.side != "in" or stream is block.entry:
        return None
    output = block.other_side(stream)
    if output is None or output.shape != block.entry.shape or close(output.value, stream.value):
        return None
    return output


def _two_at_once(block: Block, stream: Event, taps: tuple[Tap, ...]) -> list[Branch] | None:
    """Return two branches that add up to the block's output without their partial sum being seen anywhere."""
    outputs = [
        event
        for event in block.stream_events
        if event.time > stream.time and event.side == "out" and event.path != block.path
    ]
    pairs = [
        (first, second)
        for index, first in enumerate(outputs)
        for second in outputs[index + 1 :]
        if close(block.exit.value, stream.value, first.value, second.value) and not close(first.value, second.value)
    ]
    if not pairs:
        return None
    first = _outermost([pair[0] for pair in pairs])
    second = _outermost([b for a, b in pairs if close(a.value, first.value)])
    if _reads_sum(stream, first, second):
        return [
            Branch(first, _kind(block, first, stream), stream.time, taps, followed=True),
            Branch(second, _kind(block, second, first), first.time, (*taps, first.tap())),
        ]
    return [Branch(each, _parallel_kind(block, each, stream), stream.time, taps) for each in (first, second)]


def _reads_sum(stream: Event, first: Event, second: Event) -> bool:
    """Return whether ``second`` is a function of ``stream + first`` (as with norms that are no modules).

    Then both summands act on it alike: the whole derivative by the stream is the derivative by ``first``,
    plus what the stream does through ``first``. A parallel branch does not depend on ``first`` at all.
    """
    whole, by_first = gradient(second, [stream, first], uneven(second.value))
    if whole is None or by_first is None:
        return False
    (through_first,) = gradient(first, [stream], by_first)
    return through_first is not None and agree(whole, by_first + through_first, loosened=10)


def _kind(block: Block, added: Event, since: Event) -> Kind:
    """Tell what a branch does that was computed after the stream was seen in ``since``."""
    if any(since.time < softmax.time < added.time for softmax in block.softmaxes):
        return "attention"
    return _kind_without_attention(added, since)


def _parallel_kind(block: Block, added: Event, stream: Event) -> Kind:
    """Tell what one of two parallel branches does: only one of them depends on a pattern."""
    if any(slope is not None for slope in gradient(added, block.softmaxes)):
        return "attention"
    return _kind_without_attention(added, stream)


def _kind_without_attention(added: Event, stream: Event) -> Kind:
    """Return "mlp" if the output at one position depends on the stream at that position alone."""
    position = stream.shape[1] - 2
    weights = added.value.new_zeros(added.shape)
    weights[:, position] = uneven(weights[:, position])
    (by_stream,) = gradient(added, [stream], weights)
    return "mlp" if by_stream is not None and reached(by_stream, 1) == [(position,)] else "mixer"


def _outermost(events: list[Event]) -> Event:
    """Return the one in the least nested module: one tensor leaves a projection and its parents."""
    return min(events, key=lambda event: (event.path.count("."), event.time))
