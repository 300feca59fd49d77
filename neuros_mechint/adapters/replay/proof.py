"""Prove on a model what may be taken from a recorded run: a shortcut is used only where it gives the same numbers."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import torch

from neuros_mechint.adapters.inference.identities import agree
from neuros_mechint.adapters.replay.fused import Function, fused_activations
from neuros_mechint.adapters.replay.record import NotReplayableError
from neuros_mechint.adapters.replay.replay import Replay, Rows
from neuros_mechint.adapters.tensors import named_tensors
from neuros_mechint.core.errors import InputError
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
        What follows the blocks treats every position alone.
    fused : mapping of str to callable
        Kernels that compute what modules inside the blocks do.
    reason : str
        Why not all of it holds.
    """

    causal: bool
    prefix: bool
    by_position: bool
    fused: Mapping[str, Function] = field(default_factory=dict)
    reason: str = ""


def prove(replay: Replay) -> Shortcuts:
    """Try the shortcuts on the recorded inputs, with noise on the second half of the first residual stream.

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
    noise = torch.randn(stream.shape, generator=torch.Generator().manual_seed(0)).to(stream)
    changed = stream.clone()
    changed[:, half:] += _NOISE * stream.std() * noise[:, half:]
    replay.fused = fused_activations(replay.module, [block.path for block in replay.blocks])
    with replay.running():
        try:
            whole = _through(replay, Rows(torch.cat([stream, changed]), 0, (0, 1))).hidden
        except _MISFITS as error:
            raise NotReplayableError("the blocks of this model cannot be run by themselves", got=error) from error
        same, moved = whole.split(replay.n_samples)
        if not agree(same, last):
            raise NotReplayableError("the blocks of this model, run by themselves, give other numbers than the model")
        if agree(moved, last):
            raise NotReplayableError("the blocks of this model do not react to the residual stream they are given")
        by_position = _tail_is_by_position(replay)
        causal = half > 0 and agree(moved[:, :half], last[:, :half], loosened=0.1)
        prefix = causal and _prefix_holds(replay, changed, moved, half)
        reason = _reason(replay, causal, prefix, by_position)
    return Shortcuts(causal, prefix, by_position, replay.fused, reason)


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


def _tail_is_by_position(replay: Replay) -> bool:
    last = replay.blocks[-1].after
    try:
        logits = logits_of(replay.output)
    except InputError:
        return False
    if logits.ndim != 3 or logits.shape[:2] != last.shape[:2]:
        return False
    # one position fewer than the sequences hold, in another order: it must not matter how they are packed
    others = last.flatten(0, 1).flip(0)[1:]
    try:
        again = replay.logits(others)
    except _MISFITS:
        return False
    return agree(again, logits.flatten(0, 1).flip(0)[1:])


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
    """What was proven on one model, kept by the shape of its inputs: structure does not change with the numbers."""

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
        key = _key(replay)
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
        """Return whether a block may be entered at a site, see `prove_entry`."""
        key = (_key(replay), site)
        if key not in self._entries:
            self._entries[key] = prove_entry(replay, layer, site, value, prefix)
        return self._entries[key]


def _key(replay: Replay) -> Hashable:
    first = replay.blocks[0]
    arguments = tuple((where, tuple(tensor.shape)) for where, tensor in named_tensors((first.args, first.kwargs)))
    return len(replay.blocks), first.stream.dtype, str(first.stream.device), arguments


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
