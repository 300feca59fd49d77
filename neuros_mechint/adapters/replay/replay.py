"""A recorded run of a stack of blocks, from any point of which the model can be run on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from neuros_mechint.adapters.copies import edits_by_site
from neuros_mechint.adapters.hooks import DimsOf, EditFunction, run_hooked
from neuros_mechint.adapters.replay.attention import (
    CACHE_ARGUMENT,
    CacheEntry,
    EarlierKeys,
    FusedAttention,
    KeysSeenError,
    KeysWanted,
    KnownOutputs,
    Meeting,
    SeenOutputs,
    joined,
)
from neuros_mechint.adapters.replay.record import BlockCall, NotReplayableError
from neuros_mechint.adapters.replay.span import Span
from neuros_mechint.adapters.running import evaluating, open_kernels, standing_in
from neuros_mechint.adapters.taps import Tap
from neuros_mechint.adapters.tensors import pick, put
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.outputs import logits_of
from neuros_mechint.core.sites import Window


@dataclass(frozen=True)
class Rows:
    """Residual streams on their way through the blocks.

    Parameters
    ----------
    hidden : torch.Tensor of shape (n_copies * n_samples, n_positions, width)
        Positions from ``start`` on.
    start : int
        The first position; those before it are as recorded.
    labels : tuple of int
        Which intervention each copy is under.
    """

    hidden: torch.Tensor
    start: int
    labels: tuple[int, ...]

    @property
    def stop(self) -> int:
        """The position after the last."""
        return self.start + self.hidden.shape[1]

    @property
    def n_tokens(self) -> int:
        """Samples times positions."""
        return self.hidden.shape[0] * self.hidden.shape[1]


@dataclass
class Replay:
    """A recorded run, and how to run on from any block of it.

    Parameters
    ----------
    module : torch.nn.Module
        The model.
    call : callable
        Runs it on the recorded inputs.
    taps : mapping of str to Tap
        Sites inside the blocks.
    blocks : sequence of BlockCall
        The calls of its blocks, in order.
    output : object
        What it returned.
    dims_of : callable
        Names the axes of a tensor at a plain module path.
    window : mapping
        Where the samples lie in the whole input.
    fused : mapping of str to callable
        Modules inside the blocks in whose place a faster kernel computes the same, see `fused_activations`.
    circumstances : hashable
        All that a proof on this run depends on, see `Proofs`.
    """

    module: nn.Module
    call: Callable[[], Any]
    taps: Mapping[str, Tap]
    blocks: Sequence[BlockCall]
    output: Any
    dims_of: DimsOf
    window: Window
    fused: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)
    circumstances: Hashable = None
    _known: dict[str, _Known] = field(default_factory=dict, repr=False)
    _recorded_keys: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, repr=False)

    @property
    def n_samples(self) -> int:
        """Samples of the recorded run."""
        return self.blocks[0].stream.shape[0]

    @property
    def n_positions(self) -> int:
        """Positions of the recorded run."""
        return self.blocks[0].stream.shape[1]

    def span(self, copies: int, start: int, stop: int) -> Span:
        """Return the part of the recorded run that this many copies from ``start`` up to ``stop`` repeat."""
        return Span(self.n_samples, self.n_positions, copies, start, stop)

    @contextmanager
    def running(self) -> Generator[None]:
        """Run the model as the engine does: alone, in eval mode, without gradients, nothing fused past the hooks."""
        with evaluating(self.module), torch.no_grad(), open_kernels(), ExitStack() as stack:
            for path, kernel in self.fused.items():
                stack.enter_context(standing_in(self.module.get_submodule(path), kernel))
            yield

    # -- through the blocks --------------------------------------------------------------------------------------

    def advance(self, layer: int, rows: Rows, edits: Sequence[Sequence[Edit]] = ()) -> Rows:
        """Run one block.

        Parameters
        ----------
        layer : int
            Which one.
        rows : Rows
            The residual streams before it.
        edits : sequence of sequence of Edit
            The edits of each copy at sites of this block; none at all by default.
        """
        span = self.span(len(rows.labels), rows.start, rows.stop)
        call = partial(self._run_block, layer, rows.hidden, span, self._earlier(layer, rows.start))
        by_site = self._by_site(edits, rows.start) if any(edits) else {}
        output = self._hooked(call, by_site, rows.hidden.shape[0]) if by_site else call()
        return Rows(pick(output, None, self.blocks[layer].path)[1], rows.start, rows.labels)

    def enter(
        self,
        layer: int,
        site: str,
        values: torch.Tensor,
        start: int,
        stop: int,
        labels: tuple[int, ...],
        remember: bool = True,
        edits: Sequence[Sequence[Edit]] = (),
    ) -> Rows:
        """Run one block with given values at a site inside it; what runs before the site is as recorded.

        Parameters
        ----------
        layer : int
            Which block.
        site : str
            A site inside it.
        values : torch.Tensor
            The activation at the site for ``n_copies * n_samples`` rows and positions ``start`` up to ``stop``.
        start, stop : int
            First position, and the one after the last.
        labels : tuple of int
            Which intervention each copy is under.
        remember : bool
            Take what runs before the site from the recorded run; without it, it runs again.
        edits : sequence of sequence of Edit
            The edits of each copy at later sites of this block.
        """
        span = self.span(len(labels), start, stop)
        hidden = span.of(self.blocks[layer].stream)
        known = self._before(layer, site) if remember else _Known((), (), False)
        meeting = None if known.attention else self._earlier(layer, start)  # before any module is stood in for
        with ExitStack() as stack:
            for path, output in known.leaves:
                answer = span.of(output)
                stack.enter_context(
                    standing_in(self.module.get_submodule(path), lambda *_, _answer=answer, **__: _answer)
                )
            if known.attention:
                stack.enter_context(KnownOutputs([span.of(output, axis=2) for output in known.attention]))
            by_site = {site: [lambda *_: values], **self._by_site(edits, start)}
            output = self._hooked(partial(self._run_block, layer, hidden, span, meeting), by_site, hidden.shape[0])
        return Rows(pick(output, None, self.blocks[layer].path)[1], start, labels)

    def read_last(self, rows: Rows, first: int) -> Rows:
        """Run the last block for the positions from ``first`` on; of the others only keys and values are needed."""
        layer, split = len(self.blocks) - 1, first - rows.start
        span = self.span(len(rows.labels), rows.start, rows.stop)
        keys, values = (own[:, :, :split] for own in self._keys(layer, rows.hidden, span))
        if rows.start:
            before = self.recorded_keys(layer)
            keys, values = (
                joined(old[:, :, : rows.start], new) for old, new in zip(before, (keys, values), strict=True)
            )
        part = self.span(len(rows.labels), first, rows.stop)
        output = self._run_block(layer, rows.hidden[:, split:], part, EarlierKeys(keys, values))
        return Rows(pick(output, None, self.blocks[layer].path)[1], first, rows.labels)

    def after_attention(self, layer: int, site: str) -> bool:
        """Return whether a site comes after the attention of its block."""
        return self._before(layer, site).attended

    def recorded_keys(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of a block in the recorded run, ``(n_samples, head, position, unit)``.

        Raises
        ------
        NotReplayableError
            They do not show.
        """
        if layer not in self._recorded_keys:
            whole = self.span(1, 0, self.n_positions)
            self._recorded_keys[layer] = self._keys(layer, self.blocks[layer].stream, whole)
        return self._recorded_keys[layer]

    def _keys(self, layer: int, hidden: torch.Tensor, span: Span) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = KeysWanted()
        with suppress(KeysSeenError):
            self._run_block(layer, hidden, span, wanted)
        if wanted.seen is None:
            raise NotReplayableError("attention shows neither to PyTorch's fused kernel nor to a key-value cache")
        return wanted.seen

    def _earlier(self, layer: int, start: int) -> Meeting | None:
        if not start:
            return None
        return EarlierKeys(*(one[:, :, :start] for one in self.recorded_keys(layer)))

    def _by_site(self, edits: Sequence[Sequence[Edit]], start: int) -> dict[str, list[EditFunction]]:
        seen = {**self.window, "position": (start, self.n_positions)}
        return edits_by_site(edits, seen, self.n_samples)

    def _before(self, layer: int, site: str) -> _Known:
        """Return what runs in a block before a site, and what it returned."""
        if site not in self._known:
            self._known[site] = self._observe(layer, site)
        return self._known[site]

    def _observe(self, layer: int, site: str) -> _Known:
        block = self.blocks[layer]
        leaves: list[tuple[str, torch.Tensor]] = []
        seen, passed = SeenOutputs(), _Passed()
        counted: list[tuple[int, int, bool]] = []

        def keep(path: str, _module: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.shape[:2] == block.stream.shape[:2]:
                leaves.append((path, output))

        def reached(values: torch.Tensor, *_: Any) -> torch.Tensor:
            counted.append((len(leaves), len(seen.outputs), passed.met or bool(seen.outputs)))
            return values

        def call() -> Any:
            meeting = passed if CACHE_ARGUMENT in block.kwargs else None
            with seen:
                return self._run_block(layer, block.stream, self.span(1, 0, self.n_positions), meeting)

        handles = [
            part.register_forward_hook(partial(keep, f"{block.path}.{name}"))
            for name, part in self.module.get_submodule(block.path).named_modules()
            if name and not any(True for _ in part.children())
        ]
        try:
            self._hooked(call, {site: [reached]}, self.n_samples)
        finally:
            for handle in handles:
                handle.remove()
        n_leaves, n_calls, attended = counted[0]
        before = leaves[:n_leaves]
        once = {path for path, _ in leaves if sum(other == path for other, _ in leaves) == 1}
        return _Known([pair for pair in before if pair[0] in once], seen.outputs[:n_calls], attended)

    def _run_block(self, layer: int, hidden: torch.Tensor, span: Span, meeting: Meeting | None = None) -> Any:
        block = self.blocks[layer]
        args, kwargs = put(span.arguments((block.args, dict(block.kwargs))), block.where, hidden)
        module = self.module.get_submodule(block.path)
        if meeting is None:
            return module(*args, **kwargs)
        if CACHE_ARGUMENT in kwargs:
            return module(*args, **{**kwargs, CACHE_ARGUMENT: CacheEntry(meeting)})
        with FusedAttention(meeting):
            return module(*args, **kwargs)

    def _hooked(self, call: Callable[[], Any], by_site: Mapping[str, Sequence[EditFunction]], n_rows: int) -> Any:
        return run_hooked(self.module, call, self.taps, by_site, n_samples=n_rows, dims_of=self.dims_of).output

    def whole_run(self, stream: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Run the whole model with another residual stream before the first block.

        Returns
        -------
        output : object
            What the model returns.
        after : torch.Tensor
            The residual stream after the last block.
        """
        first, last = self.blocks[0], self.blocks[-1]
        after: list[torch.Tensor] = []
        handles = [
            self.module.get_submodule(first.path).register_forward_pre_hook(
                lambda _, args, kwargs: put((args, kwargs), first.where, stream), with_kwargs=True
            ),
            self.module.get_submodule(last.path).register_forward_hook(
                lambda _module, _args, output: after.append(pick(output, None, last.path)[1])
            ),
        ]
        try:
            return self.call(), after[-1]
        finally:
            for handle in handles:
                handle.remove()

    # -- after the blocks ----------------------------------------------------------------------------------------

    def output_of(self, hidden: torch.Tensor) -> Any:
        """Return the model's output for residual streams ``(rows, n_positions, width)`` after the last block."""
        last = self.blocks[-1]
        with ExitStack() as stack:
            for block in self.blocks:
                answer = put(block.output, block.where_after, hidden) if block is last else block.output
                module = self.module.get_submodule(block.path)
                stack.enter_context(standing_in(module, lambda *_, _answer=answer, **__: _answer))
            return self.call()

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits ``(n_tokens, n_logits)`` of single positions of the residual stream ``(n_tokens, width)``.

        They are packed into sequences of the recorded length: a model may insist on it.
        """
        n_tokens, length = tokens.shape[0], self.n_positions
        n_rows = -(-n_tokens // length)
        packed = tokens.new_zeros(n_rows * length, tokens.shape[-1])
        packed[:n_tokens] = tokens
        return logits_of(self.output_of(packed.unflatten(0, (n_rows, length)))).flatten(0, 1)[:n_tokens]


class _Passed(Meeting):
    """Notice that a block has come to its attention, and change nothing."""

    met = False

    def meet(self, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.met = True
        return keys, values


@dataclass(frozen=True)
class _Known:
    """What runs in a block before a site: leaf modules and fused attention, with what they returned."""

    leaves: Sequence[tuple[str, torch.Tensor]]
    attention: Sequence[torch.Tensor]
    attended: bool
