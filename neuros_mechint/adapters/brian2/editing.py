"""Edits while a network runs: of states, of what is held from step to step, of spikes, and of what is fixed."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuros_mechint.adapters.brian2.edited import NUMBERS_AT_ONCE, PlaceEdits
from neuros_mechint.adapters.brian2.places import Place
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError


class FixedEditor:
    """Sets what is fixed during a trial, once before it begins."""

    def __init__(self, edits: PlaceEdits, place: Place) -> None:
        self._edits, self._values = edits, place.variable.get_value()

    def __call__(self) -> None:
        """Edit."""
        self._edits.apply_in_place(self._values, 0)


class StateEditor:
    """Changes a state in the steps that the edits name; the network carries on from there."""

    def __init__(self, edits: PlaceEdits, place: Place) -> None:
        self._edits, self._values, self._step = edits, place.variable.get_value(), 0

    def __call__(self) -> None:
        """Edit the state of this step."""
        if self._edits.steps[self._step]:
            self._edits.apply_in_place(self._values, self._step)
        self._step += 1


class HeldEditor:
    """Changes a variable that code or Python assigns, for the length of the step.

    What was there comes back at the end of the step, except where the network has assigned something else. That it
    has assigned just the edited value cannot be seen: there the old value comes back.
    """

    def __init__(self, edits: PlaceEdits | None, place: Place, course: Floats | None) -> None:
        self._edits, self._course, self._step = edits, course, 0
        self._values = place.variable.get_value()
        self._before: Any = None
        self._after: Any = None

    def __call__(self) -> None:
        """Edit the values of this step."""
        step, edits = self._step, self._edits
        self._step += 1
        if self._course is None and (edits is None or not edits.steps[step]):
            return
        self._before = self._values.copy()
        if self._course is not None:
            self._values[...] = self._course[step]
        if edits is not None and edits.steps[step]:
            edits.apply_in_place(self._values, step)
        self._after = self._values.copy()

    def release(self) -> None:
        """Put back what was there before the edit."""
        if self._before is not None:
            np.copyto(self._values, self._before, where=self._values == self._after)
            self._before = None


class CourseEditor:
    """Plays the course of a variable that nothing but us assigns: written only where it changes."""

    def __init__(self, edits: PlaceEdits | None, place: Place, n_steps: int, course: Floats | None) -> None:
        self._edits, self._course, self._n_steps = edits, course, n_steps
        self._values = place.variable.get_value()
        self._start = self._values.copy()
        self._length = max(1, NUMBERS_AT_ONCE // max(1, place.size))
        self._step = self._first = self._end = 0
        self._rows: Any = None
        self._changes: Any = None

    def __call__(self) -> None:
        """Write the values of this step."""
        if self._step >= self._end:
            self._compute()
        here = self._step - self._first
        if self._changes[here]:
            self._values[...] = self._rows[here]
        self._step += 1

    def _compute(self) -> None:
        first, end = self._step, min(self._step + self._length, self._n_steps)
        rows = np.repeat(self._start[None], end - first, axis=0) if self._course is None else self._course[first:end]
        if self._edits is not None and self._edits.steps[first:end].any():
            rows = self._edits.apply(np.ascontiguousarray(rows), first)
        self._changes = np.ones(end - first, dtype=bool)
        self._changes[1:] = (rows[1:] != rows[:-1]).any(axis=1)
        self._rows, self._first, self._end = rows, first, end


class SpikeEditor:
    """Changes who spikes: after the threshold, before synapses and reset see it.

    A cell whose spike is taken away is not reset and not refractory; one that is given a spike is both.
    """

    def __init__(self, edits: PlaceEdits, place: Place) -> None:
        self._edits, self._place, self._step = edits, place, 0
        group = place.group
        self._space = place.variable.get_value()
        self._time = group.clock.variables["t"].get_value()
        refractory = "not_refractory" in group.variables
        self._last = group.variables["lastspike"].get_value() if refractory else None
        self._free = group.variables["not_refractory"].get_value() if refractory else None
        self._last_before = None if self._last is None else self._last.copy()

    def __call__(self) -> None:
        """Edit the spikes of this step."""
        if self._edits.steps[self._step]:
            before = np.zeros(self._place.size)
            before[self._space[: self._space[-1]]] = 1
            after = before.copy()
            self._edits.apply_in_place(after, self._step)
            if not ((after == 0) | (after == 1)).all():
                raise InputError(
                    f"an edit of {self._place.name} makes something else than spikes",
                    expected="0 or 1 for every cell and step",
                    got=", ".join(f"{value:.4g}" for value in np.unique(after)[:5]),
                    fix="Zero silences, Replace with 1 drives; to make spikes likelier, edit the input current",
                )
            if (before != after).any():
                self._put(before == 1, after == 1)
        if self._last is not None:
            self._last_before = self._last.copy()
        self._step += 1

    def _put(self, before: Any, after: Any) -> None:
        cells = np.flatnonzero(after)
        self._space[: len(cells)] = cells
        self._space[-1] = len(cells)
        if self._last is None or self._free is None or self._last_before is None:
            return
        taken, given = before & ~after, after & ~before
        self._last[taken] = self._last_before[taken]
        self._last[given] = self._time[0]
        self._free[taken], self._free[given] = True, False
