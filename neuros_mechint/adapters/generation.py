"""Generation under edits: passes of growing length through the same hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from neuros_mechint.adapters.batches import Batch
from neuros_mechint.adapters.hooks import EditFunction, grows, run_hooked
from neuros_mechint.adapters.taps import Tap
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.random import SeedLike, torch_generator
from neuros_mechint.core.sites import Index


def generate_with_edits(
    module: nn.Module,
    call: Callable[[], torch.Tensor],
    edits: Sequence[Edit],
    taps: Mapping[str, Tap],
    batch: Batch,
    *,
    prompt_length: int,
    horizon: int,
    seed: SeedLike,
) -> torch.Tensor:
    """Run a model's own generation under edits.

    Parameters
    ----------
    module : torch.nn.Module
        The model.
    call : callable
        Runs the generation and returns token ids.
    edits : sequence of Edit
        Already expanded to single sites.
    taps : mapping of str to Tap
        The edited sites, and all others that are known: they tell how often one pass runs a shared module.
    batch : Batch
        The prompts.
    prompt_length, horizon : int
        Positions of the prompt, and of the finished sequence.
    seed : int or numpy.random.Generator
        For sampling.
    """
    by_site: dict[str, list[EditFunction]] = {}
    for edit in edits:
        anchored = _anchored(edit, prompt_length)
        by_site.setdefault(edit.reference.name, []).append(anchored.apply)
    with torch.random.fork_rng():
        torch.set_rng_state(torch_generator(seed).get_state())
        run = run_hooked(
            module,
            call,
            taps,
            by_site,
            n_samples=batch.n_samples,
            window=batch.window,
            horizon=horizon,
            calls_per_pass=_calls_per_pass(taps.values()),
        )
    return run.output


def _calls_per_pass(taps: Iterable[Tap]) -> dict[str, int]:
    calls: dict[str, int] = {}
    for tap in taps:
        calls[tap.path] = max(calls.get(tap.path, 1), (tap.call or 0) + 1)
    return calls


def _anchored(edit: Edit, prompt_length: int) -> Edit:
    """Return the edit with negative positions counted from the end of the prompt: later passes are longer."""
    growing = {"position", "query", "key"} if grows(edit.reference.name) else set[str]()
    if "cross_" in edit.reference.name:
        growing.discard("key")
    index = {
        axis: _from_start(value, prompt_length) if axis in growing else value
        for axis, value in edit.reference.index.items()
    }
    return replace(edit, site=str(replace(edit.reference, index=index)))


def _from_start(index: Index, length: int) -> Index:
    if isinstance(index, int):
        return index % length if index < 0 else index
    if isinstance(index, tuple):
        return tuple(entry % length if entry < 0 else entry for entry in index)
    start, stop = (bound + length if bound is not None and bound < 0 else bound for bound in (index.start, index.stop))
    return slice(start, stop, index.step)
