"""Run on from the first place an edit changes: earlier layers and positions are taken from one recorded run.

An intervention enters the stack of blocks where its first edit lies, with the edited value in place of the recorded
one. Interventions travel down the blocks together and are joined on their way by those that enter further down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from neuros_mechint.adapters.replay.replay import Replay, Rows
from neuros_mechint.causal.engines.plan import Entry, Group, Planner
from neuros_mechint.causal.engines.reading import Reading
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.progress import progress_bar

_BYTES_AT_ONCE = 2**28


@dataclass
class SuffixEngine:
    """Runs planned interventions on from a recorded run.

    Parameters
    ----------
    plan : Planner
        Knows the recorded run.
    baseline : torch.Tensor of shape (n_samples,)
        The metric without edits.
    """

    plan: Planner
    baseline: torch.Tensor
    later: dict[int, tuple[Edit, ...]] = field(default_factory=dict[int, tuple[Edit, ...]])

    @property
    def replay(self) -> Replay:
        """The recorded run."""
        return self.plan.replay

    @property
    def reading(self) -> Reading:
        """The metric."""
        return self.plan.reading

    def run(self, groups: Sequence[Group], description: str) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
        """Yield the interventions and their metric values ``(n_interventions, n_samples)``."""
        self.later = {entry.label: entry.later for group in groups for entry in group.entries}
        layers = len(self.replay.blocks)
        active: list[Rows] = []
        for layer in progress_bar(range(layers), description=description):
            here = [group for group in groups if group.entries[0].layer == layer]
            active += [Rows(group.values, group.start, group.labels) for group in here if not group.entries[0].inside]
            active.sort(key=lambda rows: (rows.start, rows.stop))
            active = [self._advanced(layer, rows) for rows in self._joined(active)]
            active += [self._entered(layer, group) for group in here if group.entries[0].inside]
        after = [group for group in groups if group.entries[0].layer == layers]
        active += [Rows(group.values, group.start, group.labels) for group in after]
        yield from self._read(active)

    def _entered(self, layer: int, group: Group) -> Rows:
        first, edits = group.entries[0], self._edits_at(layer, group.labels)
        return self.replay.enter(
            layer, first.site, group.values, group.start, group.stop, group.labels, self.plan.proven(first), edits
        )

    def _advanced(self, layer: int, rows: Rows) -> Rows:
        edits = self._edits_at(layer, rows.labels)
        last = layer == len(self.replay.blocks) - 1
        if last and self.plan.shortcuts.prefix and not any(edits) and self.reading.positions is not None:
            first = max(rows.start, int(self.reading.positions.min()))
            # the keys and values of all positions cost a third of a block
            if (first - rows.start) * len(rows.labels) * self.replay.n_samples > self.plan.costs.call:
                return self.replay.read_last(rows, first)
        return self.replay.advance(layer, rows, edits)

    def _edits_at(self, layer: int, labels: Sequence[int]) -> list[list[Edit]]:
        path = self.replay.blocks[layer].path
        return [
            [
                edit
                for edit in self.later[label]
                if f"{self.replay.taps[edit.reference.name].path}.".startswith(f"{path}.")
            ]
            for label in labels
        ]

    def _joined(self, active: Sequence[Rows]) -> list[Rows]:
        """Let rows that cover the same positions go on together, as long as they fit one call."""
        joined: list[Rows] = []
        for rows in active:
            last = joined[-1] if joined else None
            alike = last is not None and (last.start, last.stop) == (rows.start, rows.stop)
            if last is not None and alike and last.n_tokens + rows.n_tokens <= self.plan.costs.most:
                hidden = torch.cat([last.hidden, rows.hidden])
                joined[-1] = Rows(hidden, rows.start, last.labels + rows.labels)
            else:
                joined.append(rows)
        return joined

    def _read(self, active: Sequence[Rows]) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
        """Compute the metric from the residual stream after the last block."""
        if self.reading.positions is None or not self.plan.shortcuts.by_position:
            for rows in active:
                span = self.replay.span(len(rows.labels), 0, rows.start)
                whole = torch.cat([span.of(self.replay.blocks[-1].after), rows.hidden], 1)
                # copy by copy: what follows the blocks may look at the inputs, which are there once
                outputs = map(self.replay.output_of, whole.split(self.replay.n_samples))
                yield rows.labels, torch.cat([self.reading.of_output(output, 1) for output in outputs])
            return
        pending = [(rows.labels, self._read_positions(rows, self.reading.positions)) for rows in active]
        for labels, tokens in self._packed(pending):
            yield labels, self.reading.of_logits(self.replay.logits(tokens), len(labels))

    def _read_positions(self, rows: Rows, positions: torch.Tensor) -> torch.Tensor:
        """Return the stream at the position read of each sample, ``(n_copies * n_samples, width)``."""
        samples, recorded = torch.arange(self.replay.n_samples), self.replay.blocks[-1].after
        here = positions.to(recorded.device) - rows.start
        by_copy = rows.hidden.unflatten(0, (len(rows.labels), -1))[:, samples, here.clamp(min=0)]
        # a sample that is read before the first position that was run again is as it was
        unchanged = recorded[samples, here + rows.start]
        return torch.where((here >= 0)[:, None], by_copy, unchanged).flatten(0, 1)

    def _packed(
        self, pending: Sequence[tuple[tuple[int, ...], torch.Tensor]]
    ) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
        labels = tuple(label for own, _ in pending for label in own)
        if not labels:
            return
        tokens = torch.cat([own for _, own in pending])
        copies = max(1, self.plan.costs.most // self.replay.n_samples)
        for start in range(0, len(labels), copies):
            chosen = labels[start : start + copies]
            first = start * self.replay.n_samples
            yield chosen, tokens[first : first + len(chosen) * self.replay.n_samples]


def measure_by_suffix(
    interventions: Sequence[Sequence[Edit]], engine: SuffixEngine, description: str
) -> tuple[torch.Tensor, list[int]]:
    """Return the metric under each intervention, and which of them must be measured in another way.

    Parameters
    ----------
    interventions : sequence of sequence of Edit
        From ``model.prepared``.
    engine : SuffixEngine
        Holds the recorded run.
    description : str
        Shown before the progress bar.
    """
    values = engine.baseline.expand(len(interventions), -1).clone()
    with engine.replay.running():
        entries, elsewhere = engine.plan.entries(interventions)
        for slab in _slabs(entries, engine):
            for labels, measured in engine.run(engine.plan.groups(slab), description):
                values[list(labels)] = measured
    return values, elsewhere


def _slabs(entries: Sequence[Entry], engine: SuffixEngine) -> Iterator[list[Entry]]:
    """Yield as many interventions at a time as fit the memory set aside for them."""
    slab: list[Entry] = []
    held = 0
    for entry in entries:
        size = engine.plan.recorded.tensors[entry.site].nbytes + engine.replay.blocks[0].stream.nbytes
        if slab and held + size > _BYTES_AT_ONCE:
            yield slab
            slab, held = [], 0
        slab.append(entry)
        held += size
    if slab:
        yield slab
