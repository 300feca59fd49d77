"""Trials of a lent network, one after the other: edits and recordings at their moments, stimuli, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuros_mechint.adapters.base import Edits, Tensors
from neuros_mechint.adapters.batches import Batch
from neuros_mechint.adapters.brian2.edited import PlaceEdits
from neuros_mechint.adapters.brian2.editing import CourseEditor, FixedEditor, HeldEditor, SpikeEditor, StateEditor
from neuros_mechint.adapters.brian2.inputs import PlayedArray, VariableInput
from neuros_mechint.adapters.brian2.monitors import Recorder
from neuros_mechint.adapters.brian2.network import Call, Lent, Step, steps_until
from neuros_mechint.adapters.brian2.places import Kind, Place
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar


@dataclass(frozen=True)
class Trials:
    """How trials of a network run.

    Parameters
    ----------
    places : dict of str to Place
        Its sites.
    start, seconds : float
        The network's time at which every trial begins, and how long it lasts.
    seed_of : callable
        ``seed_of(trial)`` of Brian2's random numbers.
    port : VariableInput, PlayedArray or None
        Where the stimulus goes; ``None`` for a network that is driven from inside.
    """

    places: Mapping[str, Place]
    start: float
    seconds: float
    seed_of: Callable[[int], int]
    port: VariableInput | PlayedArray | None

    def n_steps(self, place: Place) -> int:
        """Return the number of time steps of a place in a trial; 1 for what is fixed."""
        if not place.timed:
            return 1
        dt = float(place.group.clock.dt_)
        steps = steps_until(self.start + self.seconds, dt) - steps_until(self.start, dt)
        if steps < 1:
            raise InputError(
                f"no time step of {place.group.name!r} fits into a trial",
                expected=f"a trial longer than dt = {dt * 1e3:.6g} ms",
                got=f"{self.seconds * 1e3:.6g} ms",
                fix="set a smaller dt, or make the trial longer",
            )
        return steps

    def run(self, lent: Lent, batch: Batch, edits: Edits, names: Sequence[str]) -> Tensors:
        """Return what was captured at the named sites, ``(sample, time, unit)`` or without the axes that one lacks."""
        wanted = [self.places[name] for name in names]
        rows = {place.name: self._empty(place, batch.n_samples) for place in wanted}
        trials = range(batch.n_samples)
        for trial in progress_bar(trials, description="trials", enabled=batch.n_samples > 1):
            self._run_one(lent, batch, trial, edits, {name: whole[trial] for name, whole in rows.items()})
        return {place.name: _without_missing_axes(place, rows[place.name]) for place in wanted}

    def _empty(self, place: Place, n_samples: int) -> Any:
        dtype = np.bool_ if place.kind is Kind.SPIKES else place.variable.dtype
        return np.zeros((n_samples, self.n_steps(place), place.size), dtype=dtype)

    def _run_one(self, lent: Lent, batch: Batch, trial: int, edits: Edits, rows: Mapping[str, Any]) -> None:
        lent.restart(self.seed_of(batch.start + trial))
        if isinstance(self.port, PlayedArray):
            self.port.play(batch.args[0][trial])
        calls: list[tuple[Place, Call]] = []
        last: list[tuple[Place, Call]] = []
        for name, place in self.places.items():
            sample = (batch.start + trial, batch.total)
            changes = PlaceEdits(place, edits[name], self.n_steps(place), *sample) if name in edits else None
            changes = changes if changes is not None and changes.steps.any() else None
            played = isinstance(self.port, VariableInput) and self.port.name == name
            course = batch.args[0][trial] if played else None
            editor = self._editor(place, changes, course) if changes is not None or course is not None else None
            at_this_place = [editor] if editor is not None else []
            if name in rows:
                at_this_place.append(Recorder(place, rows[name]))
            if place.timed:
                calls += [(place, call) for call in at_this_place]
            else:
                for call in at_this_place:
                    call()
            if isinstance(editor, HeldEditor):
                last.append((place, editor.release))
        lent.run(self.seconds, Step(calls, last))
        self._check_finite(batch.start + trial)

    def _editor(self, place: Place, changes: PlaceEdits | None, course: Floats | None) -> Call:
        if course is not None:
            course = course.reshape(len(course), -1)
        if place.kind is Kind.HELD:
            if place.assigned:
                return HeldEditor(changes, place, course)
            return CourseEditor(changes, place, self.n_steps(place), course)
        assert changes is not None  # stimuli go into what is held
        kinds = {Kind.STATE: StateEditor, Kind.SPIKES: SpikeEditor, Kind.FIXED: FixedEditor}
        return kinds[place.kind](changes, place)

    def _check_finite(self, trial: int) -> None:
        for place in self.places.values():
            if place.kind is Kind.STATE and not np.isfinite(place.variable.get_value()).all():
                raise InputError(
                    f"the simulation diverged: {place.name} is not finite at the end of trial {trial}",
                    expected="finite values",
                    fix=f"set a smaller dt for {place.group.name!r}, and check units and size of edits and stimuli",
                )


def _without_missing_axes(place: Place, rows: Any) -> torch.Tensor:
    rows = rows[:, :, 0] if place.shared else rows
    return torch.from_numpy(rows if place.timed else rows[:, 0])
