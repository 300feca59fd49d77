"""Calls of a model, or of one of its blocks, with several copies of the samples, each under edits of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuros_mechint.adapters.base import BaseAdapter
from neuros_mechint.adapters.batches import Batch
from neuros_mechint.adapters.replay.record import NotReplayableError
from neuros_mechint.adapters.replay.replay import Replay, Rows
from neuros_mechint.adapters.torch_module import TorchAdapter
from neuros_mechint.causal.engines.cost import copies_per_call, positions_per_call
from neuros_mechint.causal.paths.direct import Record
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import CapabilityError


class Calls:
    """Run one model on copies of the same samples.

    Parameters
    ----------
    model : Adapter
    inputs : inputs of the model
    stream : torch.Tensor of shape (sample, position, n_units)
        A residual stream: its width decides how many copies go into one call.
    """

    def __init__(self, model: Adapter, inputs: Any, stream: torch.Tensor) -> None:
        if not isinstance(model, BaseAdapter):
            raise CapabilityError(
                f"circuits of edges need copies of the samples in one call, which {model!r} does not offer",
                fix="give nodes=[...] to run circuits of nodes",
            )
        self.model, self.inputs = model, inputs
        self.batch: Batch = model.prepared(inputs, [])[0]
        self.n_samples = self.batch.n_samples
        self._copies = copies_per_call(self.batch, most=positions_per_call(stream.shape[-1]))
        self._replay = _replay(model, self.batch)

    def captured(self, interventions: Sequence[Sequence[Edit]], site: str) -> torch.Tensor:
        """Return the values at a site in runs of the whole model, ``(copy, sample, ...)``."""
        return self._in_parts(interventions, [site], self._whole)[site]

    def captured_in_block(
        self, layer: int, interventions: Sequence[Sequence[Edit]], sites: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Return the values at sites of one block, under edits at sites of this block, ``(copy, sample, ...)``.

        The block is run by itself where the model allows it, on the stream of the unedited run.
        """
        if self._replay is None:
            return self._in_parts(interventions, sites, self._whole)
        replay = self._replay

        def run(edits: Sequence[Sequence[Edit]], sites: Sequence[str]) -> Mapping[str, torch.Tensor]:
            records = [{site: Record(site) for site in sites} for _ in edits]
            recorded = [[*own, *record.values()] for own, record in zip(edits, records, strict=True)]
            stream = replay.blocks[layer].stream
            with replay.running():
                replay.advance(layer, Rows(torch.cat([stream] * len(edits)), 0, tuple(range(len(edits)))), recorded)
            return {site: torch.cat([record[site].seen[0] for record in records]) for site in sites}

        return self._in_parts(interventions, sites, run)

    def _whole(self, edits: Sequence[Sequence[Edit]], sites: Sequence[str]) -> Mapping[str, torch.Tensor]:
        return self.model.observe_copies(self.batch, edits, sites)[1]

    def _in_parts(
        self, interventions: Sequence[Sequence[Edit]], sites: Sequence[str], run: Any
    ) -> dict[str, torch.Tensor]:
        resolved = self.model.prepared(self.inputs, interventions)[1]
        starts = range(0, len(resolved), self._copies)
        parts = [run(resolved[start : start + self._copies], sites) for start in starts]
        joined = {site: torch.cat([part[site] for part in parts]) for site in sites}
        return {site: value.unflatten(0, (len(resolved), self.n_samples)) for site, value in joined.items()}


def _replay(model: BaseAdapter, batch: Batch) -> Replay | None:
    """Return a recorded run whose blocks can be run by themselves, where this is proven to be the same."""
    if not isinstance(model, TorchAdapter):
        return None
    try:
        replay, _ = model.replay(batch, ())
        model.proofs.shortcuts(replay)
    except NotReplayableError:
        return None
    return replay
