"""Plan where interventions enter the blocks of a model, and which of them run together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from neuros_mechint.adapters.hooks import HookedRun
from neuros_mechint.adapters.replay.proof import Proofs, Shortcuts
from neuros_mechint.adapters.replay.replay import Replay
from neuros_mechint.causal.engines.cost import Costs, grouped
from neuros_mechint.causal.engines.reading import Reading
from neuros_mechint.core.edits import Edit, Replace
from neuros_mechint.core.sites import Selection, axis_meant


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


@dataclass(frozen=True)
class Planner:
    """What is known of a model and a recorded run of it, and what follows for interventions.

    Parameters
    ----------
    replay : Replay
        The recorded run.
    recorded : HookedRun
        The activations at all edited sites.
    shortcuts : Shortcuts
        What was proven.
    proofs : Proofs
        Proves more.
    reading : Reading
        The metric.
    costs : Costs
        How much to do in one call.
    """

    replay: Replay
    recorded: HookedRun
    shortcuts: Shortcuts
    proofs: Proofs
    reading: Reading
    costs: Costs

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
            if any(places[edit.reference.name][0] < layer for edit in later):  # type: ignore[index]
                # the output of a block whose own dictionary is edited too: the block itself has to see both
                layer, inside = layer - 1, True
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
            if (
                tap.base
                or tap.view is not None
                or tap.flat
                or tap.splice is not None
                or value.shape != block.stream.shape
            ):
                return layer, True
            if tap.path == block.path and tap.side == "in" and torch.equal(value, block.stream):
                return layer, False
            if tap.path == block.path and tap.side == "out" and torch.equal(value, block.after):
                return layer + 1, False
            return layer, True
        return None

    def groups(self, entries: Sequence[Entry]) -> list[Group]:
        """Return the groups in which interventions run; those that change nothing are in none."""
        groups: list[Group] = []
        for site in dict.fromkeys(entry.site for entry in entries):
            here = [entry for entry in entries if entry.site == site]
            values = self._edited(site, here)
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

    def _edited(self, site: str, entries: Sequence[Entry]) -> torch.Tensor:
        """Return the recorded activation under each intervention, ``(n_interventions, n_samples, ...)``."""
        recorded, dims = self.recorded.tensors[site], self.recorded.dims[site]
        edited = replaced_at_once(recorded, dims, [entry.edits for entry in entries])
        if edited is not None:
            return edited
        by_entry: list[torch.Tensor] = []
        for entry in entries:
            values = recorded
            for edit in entry.edits:
                values = edit.apply(values, dims, self.replay.window)
            by_entry.append(values)
        return torch.stack(by_entry)

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
        if self.reading.positions is None or entry.later or not self.proven(entry):
            return False
        return self.replay.after_attention(entry.layer, entry.site)

    def proven(self, entry: Entry) -> bool:
        """Return whether what runs in a block before the site may be taken from the recorded run."""
        value = self.recorded.tensors[entry.site]
        return self.proofs.entry(self.replay, entry.layer, entry.site, value, self.shortcuts.prefix)

    def _stop(self, entries: Sequence[Entry]) -> int:
        cuttable = self.shortcuts.prefix and all(self._cuttable(entry.later) for entry in entries)
        if self.reading.positions is None or not cuttable or self._position_axis(entries[0].site) is None:
            return self.replay.n_positions
        return int(self.reading.positions.max()) + 1

    def _cuttable(self, edits: Sequence[Edit]) -> bool:
        """Return whether edits are the same on a part of the sequence."""
        return all(edit.by_position and "position" in self.recorded.dims[edit.reference.name] for edit in edits)


def replaced_at_once(
    recorded: torch.Tensor, dims: Sequence[str], interventions: Sequence[Sequence[Edit]]
) -> torch.Tensor | None:
    """Make the edits of a sweep at once, which takes a fraction of the time of making them one by one.

    Parameters
    ----------
    recorded : torch.Tensor
        The activation.
    dims : sequence of str
        Names of its axes.
    interventions : sequence of sequence of Edit
        The edits of each copy.

    Returns
    -------
    torch.Tensor or None
        ``(n_interventions, *recorded.shape)``; ``None`` unless each intervention replaces one entry along the same
        axis by values that fit exactly.

    Examples
    --------
    >>> edits = [[Replace("h[unit=0]", torch.ones(2))], [Replace("h[unit=-1]", torch.ones(2))]]
    >>> replaced_at_once(torch.zeros(2, 3), ("sample", "unit"), edits)[:, 0]
    tensor([[1., 0., 0.],
            [0., 0., 1.]])
    """
    edits = [own[0] for own in interventions if len(own) == 1]
    names = {tuple(edit.reference.index) for edit in edits}
    if len(edits) < len(interventions) or len(names) != 1 or len(name := names.pop()) != 1:
        return None
    axis_name = axis_meant(name[0], dims)
    if axis_name not in dims or axis_name == "sample":
        return None
    axis = dims.index(axis_name)
    shape, size = (*recorded.shape[:axis], *recorded.shape[axis + 1 :]), recorded.shape[axis]
    entries: list[int] = []
    values: list[torch.Tensor] = []
    for edit in edits:
        entry, value = edit.reference.index[name[0]], getattr(edit, "value", None)
        if type(edit) is not Replace or not isinstance(entry, int) or not -size <= entry < size:
            return None
        if not isinstance(value, torch.Tensor) or value.shape != shape or value.dtype != recorded.dtype:
            return None
        entries.append(entry)
        values.append(value.to(recorded.device))
    edited = recorded.expand(len(edits), *recorded.shape).clone()
    edited.movedim(axis + 1, 1)[torch.arange(len(edits)), torch.tensor(entries)] = torch.stack(values)
    return edited


def _first_position(edit: Edit, length: int) -> int:
    """Return the first position an edit may change."""
    index = edit.reference.index.get("position", slice(None))
    located = replace(edit.reference, index={"position": index}).locate(("position",), (length,))
    assert isinstance(located, Selection)
    here = located.here[0]
    return (here.start or 0) if isinstance(here, slice) else min(here)
