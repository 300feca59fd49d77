"""A recorded run of a stack of blocks, from any point of which the model can be run on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from neuros_mechint.adapters.copies import edits_by_site
from neuros_mechint.adapters.hooks import DimsOf, EditFunction, run_hooked
from neuros_mechint.adapters.replay.attention import (
    KeysSeenError,
    KnownAttention,
    PrefixedAttention,
    SeenAttention,
    joined,
)
from neuros_mechint.adapters.replay.record import BlockCall
from neuros_mechint.adapters.replay.span import Span
from neuros_mechint.adapters.running import alone, evaluating, open_kernels, standing_in
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
    """

    module: nn.Module
    call: Callable[[], Any]
    taps: Mapping[str, Tap]
    blocks: Sequence[BlockCall]
    output: Any
    dims_of: DimsOf
    window: Window
    fused: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)
    _known: dict[str, _Known] = field(default_factory=dict, repr=False)

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
        with alone(self.module), torch.no_grad(), evaluating(self.module), open_kernels(), ExitStack() as stack:
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
        call = partial(self._run_block, layer, rows.hidden, span)
        with self._prefixed(layer, rows.start):
            if any(edits):
                output = self._hooked(call, self._by_site(edits, rows.start), rows.hidden.shape[0])
            else:
                output = call()
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
        known = self._before(layer, site) if remember else _Known((), ())
        with ExitStack() as stack:
            for path, output in known.leaves:
                answer = span.of(output)
                stack.enter_context(
                    standing_in(self.module.get_submodule(path), lambda *_, _answer=answer, **__: _answer)
                )
            answers = KnownAttention([span.of(output, axis=2) for output in known.attention])
            stack.enter_context(answers if known.attention else self._prefixed(layer, start))
            by_site = {site: [lambda *_: values], **self._by_site(edits, start)}
            output = self._hooked(partial(self._run_block, layer, hidden, span), by_site, hidden.shape[0])
        return Rows(pick(output, None, self.blocks[layer].path)[1], start, labels)

    def read_last(self, rows: Rows, first: int) -> Rows:
        """Run the last block for the positions from ``first`` on; of the others only keys and values are needed."""
        layer, split = len(self.blocks) - 1, first - rows.start
        span = self.span(len(rows.labels), rows.start, rows.stop)
        seen = SeenAttention(stop=True)
        try:
            with seen:
                self._run_block(layer, rows.hidden, span)
        except KeysSeenError:
            pass
        keys, values = (own[:, :, :split] for own in seen.calls[0][:2])
        recorded = self.blocks[layer].attention[0]
        if rows.start:
            keys = joined(recorded[0][:, :, : rows.start], keys)
            values = joined(recorded[1][:, :, : rows.start], values)
        part = self.span(len(rows.labels), first, rows.stop)
        with PrefixedAttention(keys, values):
            output = self._run_block(layer, rows.hidden[:, split:], part)
        return Rows(pick(output, None, self.blocks[layer].path)[1], first, rows.labels)

    def after_attention(self, layer: int, site: str) -> bool:
        """Return whether a site comes after the attention of its block."""
        return bool(self._before(layer, site).attention)

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
        seen = SeenAttention()
        counted: list[tuple[int, int]] = []

        def keep(path: str, _module: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.shape[:2] == block.stream.shape[:2]:
                leaves.append((path, output))

        def reached(values: torch.Tensor, *_: Any) -> torch.Tensor:
            counted.append((len(leaves), len(seen.calls)))
            return values

        def call() -> Any:
            with seen:
                return self._run_block(layer, block.stream, self.span(1, 0, self.n_positions))

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
        n_leaves, n_calls = counted[0]
        before = leaves[:n_leaves]
        once = {path for path, _ in leaves if sum(other == path for other, _ in leaves) == 1}
        return _Known([pair for pair in before if pair[0] in once], [call[2] for call in seen.calls[:n_calls]])

    @contextmanager
    def _prefixed(self, layer: int, start: int) -> Generator[None]:
        if not start:
            yield
            return
        keys, values, _ = self.blocks[layer].attention[0]
        with PrefixedAttention(keys[:, :, :start], values[:, :, :start]):
            yield

    def _run_block(self, layer: int, hidden: torch.Tensor, span: Span) -> Any:
        block = self.blocks[layer]
        args, kwargs = put(span.arguments((block.args, dict(block.kwargs))), block.where, hidden)
        return self.module.get_submodule(block.path)(*args, **kwargs)

    def _hooked(self, call: Callable[[], Any], by_site: Mapping[str, Sequence[EditFunction]], n_rows: int) -> Any:
        return run_hooked(self.module, call, self.taps, by_site, n_samples=n_rows, dims_of=self.dims_of).output

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


@dataclass(frozen=True)
class _Known:
    """What runs in a block before a site: leaf modules and fused attention, with what they returned."""

    leaves: Sequence[tuple[str, torch.Tensor]]
    attention: Sequence[torch.Tensor]
