"""Run on from the first place an edit changes: earlier layers and positions are taken from one recorded run.

An intervention enters the stack of blocks where its first edit lies, with the edited value in place of the recorded
one. Interventions travel down the blocks together and are joined on their way by those that enter further down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from neuros_mechint.adapters.hooks import HookedRun
from neuros_mechint.adapters.replay.proof import Shortcuts
from neuros_mechint.adapters.replay.replay import Replay, Rows
from neuros_mechint.adapters.torch_module import TorchAdapter
from neuros_mechint.causal.engines.cost import Costs, grouped
from neuros_mechint.causal.engines.reading import Reading
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.sites import Selection

_BYTES_AT_ONCE = 2**28


@dataclass(frozen=True)
class Entry:
    """Where an intervention enters the blocks.

    Parameters
    ----------
    label : int
        Which intervention.
    site : str
        The site of its first edits.
    layer : int
        The block that holds the site, or whose input it is.
    inside : bool
        Whether the block is entered at a site inside it, rather than at its input.
    edits : tuple of Edit
        The edits at that site.
    later : tuple of Edit
        Those at sites further down.
    """

    label: int
    site: str
    layer: int
    inside: bool
    edits: tuple[Edit, ...]
    later: tuple[Edit, ...]


@dataclass(frozen=True)
class Group:
    """Interventions that enter at one site together, with the values there from ``start`` up to ``stop``."""

    entries: tuple[Entry, ...]
    values: torch.Tensor
    start: int
    stop: int

    @property
    def labels(self) -> tuple[int, ...]:
        """Which interventions."""
        return tuple(entry.label for entry in self.entries)


@dataclass
class SuffixEngine:
    """One recorded run, and what is needed to run on from it.

    Parameters
    ----------
    model : TorchAdapter
    replay : Replay
        The recorded run.
    recorded : HookedRun
        The activations at all edited sites.
    shortcuts : Shortcuts
        What was proven.
    reading : Reading
        The metric.
    baseline : torch.Tensor of shape (n_samples,)
        Its value without edits.
    costs : Costs
        How much to do in one call.
    """

    model: TorchAdapter
    replay: Replay
    recorded: HookedRun
    shortcuts: Shortcuts
    reading: Reading
    baseline: torch.Tensor
    costs: Costs
    later: dict[int, tuple[Edit, ...]] = field(default_factory=dict[int, tuple[Edit, ...]])

    # -- planning ------------------------------------------------------------------------------------------------

    def entries(self, interventions: Sequence[Sequence[Edit]]) -> tuple[list[Entry], list[int]]:
        """Return where each intervention enters the blocks, and those that do not: they touch sites elsewhere."""
        order = {name: rank for rank, name in enumerate(self.recorded.tensors)}
        places = {name: self._place(name) for name in order}
        entries: list[Entry] = []
        elsewhere: list[int] = []
        for label, edits in enumerate(interventions):
            if not edits:
                continue
            if any(places[edit.reference.name] is None for edit in edits):
                elsewhere.append(label)
                continue
            first = min((edit.reference.name for edit in edits), key=order.__getitem__)
            own = tuple(edit for edit in edits if edit.reference.name == first)
            later = tuple(edit for edit in edits if edit.reference.name != first)
            layer, inside = places[first]  # type: ignore[misc]
            entries.append(Entry(label, first, layer, inside, own, later))
        return sorted(entries, key=lambda entry: (entry.layer, entry.inside, order[entry.site])), elsewhere

    def _place(self, site: str) -> tuple[int, bool] | None:
        """Return the block a site belongs to, and whether it lies inside; ``None`` for a site outside of the blocks."""
        tap, value = self.replay.taps[site], self.recorded.tensors[site]
        for layer, block in enumerate(self.replay.blocks):
            if tap.path != block.path and not tap.path.startswith(block.path + "."):
                continue
            if tap.call not in (0, None):
                return None
            if tap.base or tap.view is not None or tap.flat or value.shape != block.stream.shape:
                return layer, True
            if tap.path == block.path and tap.side == "in" and torch.equal(value, block.stream):
                return layer, False
            if tap.path == block.path and tap.side == "out" and torch.equal(value, block.after):
                return layer + 1, False
            return layer, True
        return None

    # -- entering ------------------------------------------------------------------------------------------------

    def groups(self, entries: Sequence[Entry]) -> list[Group]:
        """Return the groups in which interventions run; those that change nothing are in none."""
        groups: list[Group] = []
        for site in dict.fromkeys(entry.site for entry in entries):
            here = [entry for entry in entries if entry.site == site]
            values = torch.stack([self._edited(entry) for entry in here])
            starts = [
                self._start(entry, start) for entry, start in zip(here, self._first_changes(site, values), strict=True)
            ]
            stop = self._stop(here)
            running = sorted((start, rank) for rank, start in enumerate(starts) if start is not None and start < stop)
            for ranks in grouped([start for start, _ in running], stop, self.replay.n_samples, self.costs):
                start, members = running[ranks[0]][0], [running[rank][1] for rank in ranks]
                chosen = values[members].flatten(0, 1)
                axis = self._position_axis(site)
                if axis is not None:
                    chosen = chosen.narrow(axis, start, stop - start).contiguous()
                groups.append(Group(tuple(here[member] for member in members), chosen, start, stop))
        return groups

    def _edited(self, entry: Entry) -> torch.Tensor:
        values, dims = self.recorded.tensors[entry.site], self.recorded.dims[entry.site]
        for edit in entry.edits:
            values = edit.apply(values, dims, self.replay.window)
        return values

    def _position_axis(self, site: str) -> int | None:
        dims = self.recorded.dims[site]
        return dims.index("position") if "position" in dims else None

    def _first_changes(self, site: str, values: torch.Tensor) -> list[int | None]:
        """Return the first position at which each copy's values differ from the recorded ones, or ``None``."""
        differs = values != self.recorded.tensors[site]
        axis = self._position_axis(site)
        if axis is None:
            return [0 if changed else None for changed in differs.flatten(1).any(1).tolist()]
        by_position = differs.movedim(axis + 1, 1).flatten(2).any(2)
        first = by_position.int().argmax(1).tolist()
        return [place if changed else None for place, changed in zip(first, by_position.any(1).tolist(), strict=True)]

    def _start(self, entry: Entry, first: int | None) -> int | None:
        """Return from which position on an intervention must be run."""
        if first is None and not entry.later:
            return None
        if not self.shortcuts.prefix or self._position_axis(entry.site) is None or not self._cuttable(entry.later):
            return 0
        length = self.replay.n_positions
        candidates = [length if first is None else first, *(_first_position(edit, length) for edit in entry.later)]
        start = min(candidates)
        if entry.inside and entry.layer == len(self.replay.blocks) - 1 and self._attention_is_past(entry):
            start = max(start, int(self.reading.positions.min()))  # type: ignore[union-attr]
        return start

    def _attention_is_past(self, entry: Entry) -> bool:
        """Return whether nothing after the site mixes positions any more."""
        if self.reading.positions is None or entry.later or not self._proven(entry):
            return False
        return self.replay.after_attention(entry.layer, entry.site)

    def _proven(self, entry: Entry) -> bool:
        value = self.recorded.tensors[entry.site]
        return self.model.proofs.entry(self.replay, entry.layer, entry.site, value, self.shortcuts.prefix)

    def _stop(self, entries: Sequence[Entry]) -> int:
        cuttable = self.shortcuts.prefix and all(self._cuttable(entry.later) for entry in entries)
        if self.reading.positions is None or not cuttable or self._position_axis(entries[0].site) is None:
            return self.replay.n_positions
        return int(self.reading.positions.max()) + 1

    def _cuttable(self, edits: Sequence[Edit]) -> bool:
        """Return whether edits are the same on a part of the sequence."""
        return all(edit.by_position and "position" in self.recorded.dims[edit.reference.name] for edit in edits)

    # -- running -------------------------------------------------------------------------------------------------

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
            layer, first.site, group.values, group.start, group.stop, group.labels, self._proven(first), edits
        )

    def _advanced(self, layer: int, rows: Rows) -> Rows:
        edits = self._edits_at(layer, rows.labels)
        last = layer == len(self.replay.blocks) - 1
        if last and self.shortcuts.prefix and not any(edits) and self.reading.positions is not None:
            first = max(rows.start, int(self.reading.positions.min()))
            # the keys and values of all positions cost a third of a block
            if (first - rows.start) * len(rows.labels) * self.replay.n_samples > self.costs.call:
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
            if last is not None and alike and last.n_tokens + rows.n_tokens <= self.costs.most:
                hidden = torch.cat([last.hidden, rows.hidden])
                joined[-1] = Rows(hidden, rows.start, last.labels + rows.labels)
            else:
                joined.append(rows)
        return joined

    def _read(self, active: Sequence[Rows]) -> Iterator[tuple[tuple[int, ...], torch.Tensor]]:
        """Compute the metric from the residual stream after the last block."""
        if self.reading.positions is None or not self.shortcuts.by_position:
            for rows in active:
                span = self.replay.span(len(rows.labels), 0, rows.start)
                whole = torch.cat([span.of(self.replay.blocks[-1].after), rows.hidden], 1)
                yield rows.labels, self.reading.of_output(self.replay.output_of(whole), len(rows.labels))
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
        copies = max(1, self.costs.most // self.replay.n_samples)
        for start in range(0, len(labels), copies):
            chosen = labels[start : start + copies]
            first = start * self.replay.n_samples
            yield chosen, tokens[first : first + len(chosen) * self.replay.n_samples]


def _first_position(edit: Edit, length: int) -> int:
    """Return the first position an edit may change."""
    index = edit.reference.index.get("position", slice(None))
    located = replace(edit.reference, index={"position": index}).locate(("position",), (length,))
    assert isinstance(located, Selection)
    here = located.here[0]
    return (here.start or 0) if isinstance(here, slice) else min(here)


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
        entries, elsewhere = engine.entries(interventions)
        for slab in _slabs(entries, engine):
            for labels, measured in engine.run(engine.groups(slab), description):
                values[list(labels)] = measured
    return values, elsewhere


def _slabs(entries: Sequence[Entry], engine: SuffixEngine) -> Iterator[list[Entry]]:
    """Yield as many interventions at a time as fit the memory set aside for them."""
    slab: list[Entry] = []
    held = 0
    for entry in entries:
        size = engine.recorded.tensors[entry.site].nbytes + engine.replay.blocks[0].stream.nbytes
        if slab and held + size > _BYTES_AT_ONCE:
            yield slab
            slab, held = [], 0
        slab.append(entry)
        held += size
    if slab:
        yield slab
