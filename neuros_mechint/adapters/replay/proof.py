"""Prove on a model what may be taken from a recorded run: a shortcut is used only where it gives the same numbers."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from neuros_mechint.adapters.inference.identities import agree
from neuros_mechint.adapters.replay.fused import Function, fused_activations
from neuros_mechint.adapters.replay.record import NotReplayableError
from neuros_mechint.adapters.replay.replay import Replay, Rows
from neuros_mechint.adapters.softmax import visible_softmax
from neuros_mechint.adapters.tensors import named_tensors
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.core.fingerprint import fingerprint_array, module_settings
from neuros_mechint.core.outputs import logits_of

_NOISE = 0.5
_MISFITS = (RuntimeError, IndexError, ValueError, TypeError, InputError)
"""What a model raises on arguments that this way of cutting or repeating them does not fit."""


@dataclass(frozen=True)
class Shortcuts:
    """What was proven on a model.

    Parameters
    ----------
    causal : bool
        A position of the residual stream depends on no later one.
    prefix : bool
        Later positions may be run alone, with the recorded keys and values of those before them.
    by_position : bool
        The logits at a position depend on the last residual stream at that position alone.
    tail : bool
        All that the model returns depends on the last residual stream alone.
    fused : mapping of str to callable
        Kernels that compute what modules inside the blocks do.
    reason : str
        Why not all of it holds.
    """

    causal: bool
    prefix: bool
    by_position: bool
    tail: bool
    fused: Mapping[str, Function] = field(default_factory=dict)
    reason: str = ""


def prove(replay: Replay) -> Shortcuts:
    """Try the shortcuts on the recorded inputs, with noise on the later part of the first residual stream.

    Parameters
    ----------
    replay : Replay
        A recorded run.

    Raises
    ------
    NotReplayableError
        The blocks, run by themselves, give other numbers than the model.
    """
    stream, last, half = replay.blocks[0].stream, replay.blocks[-1].after, replay.n_positions // 2
    cuts = [half, *sorted({1, replay.n_positions - 1} - {0, half})]
    noise = _NOISE * stream.std() * torch.randn(stream.shape, generator=torch.Generator().manual_seed(0)).to(stream)
    changed = [torch.cat([stream[:, :cut], (stream + noise)[:, cut:]], 1) for cut in cuts]
    replay.fused = fused_activations(replay.module, [block.path for block in replay.blocks])
    with replay.running():
        try:
            whole = _through(replay, Rows(torch.cat([stream, *changed]), 0, tuple(range(1 + len(cuts))))).hidden
        except _MISFITS as error:
            raise NotReplayableError("the blocks of this model cannot be run by themselves", got=error) from error
        same, moved, *others = whole.split(replay.n_samples)
        output, after = replay.whole_run(changed[0])
        if not agree(same, last) or not agree(moved, after):
            raise NotReplayableError("the blocks of this model, run by themselves, give other numbers than the model")
        if agree(moved, last):
            raise NotReplayableError("the blocks of this model do not react to the residual stream they are given")
        by_position, tail = _tail_is_by_position(replay, moved, output), _tail_holds(replay, moved, output)
        if not by_position and not tail:
            raise NotReplayableError("what follows the blocks depends on more than the last residual stream")
        before = zip(cuts, [moved, *others], strict=True)
        causal = half > 0 and all(agree(one[:, :cut], last[:, :cut], loosened=0.1) for cut, one in before)
        prefix = causal and _looks_back(replay) and _prefix_holds(replay, changed[0], moved, half)
        reason = _reason(replay, causal, prefix, by_position)
    return Shortcuts(causal, prefix, by_position, tail, replay.fused, reason)


def _looks_back(replay: Replay) -> bool:
    """Return whether every attention pattern that shows is zero wherever a query is older than its key."""
    square: list[bool] = []

    def visit(pattern: torch.Tensor) -> torch.Tensor:
        if pattern.shape[-1] == pattern.shape[-2]:
            square.append(not bool(pattern.triu(1).any()))
        return pattern

    try:
        with visible_softmax(replay.module, visit):
            _through(replay, Rows(replay.blocks[0].stream, 0, (0,)))
    except CapabilityError:  # a kernel that holds no pattern
        return False
    return all(square)


def _through(replay: Replay, rows: Rows) -> Rows:
    for layer in range(len(replay.blocks)):
        rows = replay.advance(layer, rows)
    return rows


def _prefix_holds(replay: Replay, changed: torch.Tensor, moved: torch.Tensor, half: int) -> bool:
    """Return whether the second half alone, without its last position, gives what it gives within the whole."""
    if half + 1 >= replay.n_positions:
        return False
    stop = replay.n_positions - 1
    rows = Rows(changed[:, half:stop], half, (0,))
    try:
        for layer in range(len(replay.blocks) - 1):
            rows = replay.advance(layer, rows)
        part = replay.advance(len(replay.blocks) - 1, rows).hidden
        read = replay.read_last(rows, stop - 1).hidden
    except _MISFITS:
        return False
    return agree(part, moved[:, half:stop]) and agree(read, moved[:, stop - 1 : stop])


def _tail_is_by_position(replay: Replay, moved: torch.Tensor, output: Any) -> bool:
    """Return whether the logits of a changed run follow from single positions of its last residual stream."""
    try:
        logits = logits_of(output)
        if logits.ndim != 3 or logits.shape[:2] != moved.shape[:2]:
            return False
        # one position fewer than the sequences hold, in another order: it must not matter how they are packed
        again = replay.logits(moved.flatten(0, 1).flip(0)[1:])
    except _MISFITS:
        return False
    return agree(again, logits.flatten(0, 1).flip(0)[1:])


def _tail_holds(replay: Replay, moved: torch.Tensor, output: Any) -> bool:
    """Return whether all that a changed run returns follows from its last residual stream."""
    try:
        again = replay.output_of(moved)
    except _MISFITS:
        return False
    ours, theirs = ([one for _, one in named_tensors(whole) if one.is_floating_point()] for whole in (again, output))
    return len(ours) == len(theirs) and all(agree(a, b) for a, b in zip(ours, theirs, strict=True))


def prove_entry(replay: Replay, layer: int, site: str, value: torch.Tensor, prefix: bool) -> bool:
    """Return whether a block, entered at a site with what ran before it taken as recorded, gives what it gives whole.

    Parameters
    ----------
    replay : Replay
        A recorded run.
    layer : int
        The block.
    site : str
        A site inside it.
    value : torch.Tensor
        The recorded activation there.
    prefix : bool
        Whether the second half of the positions is to be tried alone. What it is tried on differs from the recorded
        run in the first half too where the site comes after attention: nothing may mix positions from there on.
    """
    other, length = value.flip(0) + value.flip(-1), replay.n_positions
    half = length // 2 if prefix and value.ndim > 1 and value.shape[1] == length else 0
    with replay.running():
        try:
            if half and not replay.after_attention(layer, site):
                other = torch.cat([value[:, :half], other[:, half:]], 1)
            part = replay.enter(layer, site, other[:, half:] if half else other, half, length, (0,)).hidden
        except _MISFITS:
            return False
        whole = replay.enter(layer, site, other, 0, length, (0,), remember=False).hidden
        return agree(part, whole[:, half:])


class Proofs:
    """What was proven on one model, kept for as long as nothing it depends on has changed."""

    def __init__(self) -> None:
        self._shortcuts: dict[Hashable, Shortcuts | NotReplayableError] = {}
        self._entries: dict[Hashable, bool] = {}

    def shortcuts(self, replay: Replay) -> Shortcuts:
        """Return what may be taken from recorded runs of this shape, and let the run use it.

        Raises
        ------
        NotReplayableError
            The blocks cannot be run by themselves.
        """
        key = replay.circumstances = _key(replay)
        if key not in self._shortcuts:
            try:
                self._shortcuts[key] = prove(replay)
            except NotReplayableError as error:
                self._shortcuts[key] = error
        found = self._shortcuts[key]
        if isinstance(found, NotReplayableError):
            raise found
        replay.fused = found.fused
        return found

    def entry(self, replay: Replay, layer: int, site: str, value: torch.Tensor, prefix: bool) -> bool:
        """Return whether a block may be entered at a site, see `prove_entry`; ask for `shortcuts` first."""
        key = (replay.circumstances, site)
        if key not in self._entries:
            self._entries[key] = prove_entry(replay, layer, site, value, prefix)
        return self._entries[key]


def _key(replay: Replay) -> Hashable:
    """Return what a proof depends on: the arguments of the blocks, hooks that others have set, settings of modules."""
    seen: set[int] = set()
    arguments: list[Hashable] = []
    for block in replay.blocks:
        for where, value in _leaves((block.args, dict(block.kwargs))):
            if where != block.where and id(value) not in seen:
                seen.add(id(value))
                arguments.append((where, fingerprint_array(value) if isinstance(value, torch.Tensor) else repr(value)))
    hooks = tuple(
        (path, tuple(map(id, module._forward_hooks.values())), tuple(map(id, module._forward_pre_hooks.values())))
        for path, module in replay.module.named_modules()
        if module._forward_hooks or module._forward_pre_hooks
    )
    stream = replay.blocks[0].stream
    settings = module_settings(replay.module)
    return len(replay.blocks), stream.shape, stream.dtype, str(stream.device), tuple(arguments), hooks, settings


def _leaves(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, (tuple, list, Mapping)):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _leaves(item, (*where, key))
    else:
        yield where, value


def _reason(replay: Replay, causal: bool, prefix: bool, by_position: bool) -> str:
    if not causal:
        return "positions depend on later ones, so all are run again"
    if not prefix:
        why = "run without the earlier ones, later positions give other numbers"
        try:
            replay.recorded_keys(0)
        except NotReplayableError as error:
            why = error.problem
        return f"earlier positions are run again too: {why}"
    return "" if by_position else "the output mixes positions, so all of it is computed"
