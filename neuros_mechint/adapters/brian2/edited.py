"""The edits of one place in one trial, applied to whole courses at once or cheaply step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from neuros_mechint.adapters.brian2.places import Place
from neuros_mechint.adapters.hooks import EditFunction
from neuros_mechint.core.ablations import Mean, Resample
from neuros_mechint.core.edits import Add, Clamp, Edit, Replace, Scale, Zero

NUMBERS_AT_ONCE = 2**18
"""Numbers in the piece of a course that is edited at once."""

_OPERATIONS = {
    **dict.fromkeys((Zero, Replace, Mean, Resample), "put"),
    Add: "add",
    Scale: "multiply",
    Clamp: "clip",
}
"""Edits of which a step can be done without torch; the others are applied step by step as they are."""


class PlaceEdits:
    """The edits that reach one place in one trial.

    Parameters
    ----------
    place : Place
    functions : sequence of callable
        Applied in order.
    n_steps : int
        Time steps of the trial; 1 for what is fixed.
    sample, n_samples : int
        Which trial of how many.
    """

    def __init__(
        self, place: Place, functions: Sequence[EditFunction], n_steps: int, sample: int, n_samples: int
    ) -> None:
        everything = [_OneEdit(place, function, n_steps, sample, n_samples) for function in functions]
        self._edits = [edit for edit in everything if edit.steps.any()]
        self.steps = np.zeros(n_steps, dtype=bool)
        for edit in self._edits:
            self.steps |= edit.steps

    def apply(self, rows: Any, first: int) -> Any:
        """Return the values ``(n_steps_here, size)`` of steps from ``first`` on, edited; ``rows`` stay as they are."""
        for edit in self._edits:
            rows = edit.apply(rows, first)
        return rows

    def apply_in_place(self, values: Any, step: int) -> None:
        """Edit the values ``(size,)`` of one step."""
        for edit in self._edits:
            if edit.steps[step]:
                edit.apply_in_place(values, step)


class _OneEdit:
    """One edit of one place in one trial.

    Most edits put, add, multiply or clip: what they do to zeros or ones, worked out for many steps at once by the
    edit itself, says what they do in each step.
    """

    def __init__(self, place: Place, function: EditFunction, n_steps: int, sample: int, n_samples: int) -> None:
        self._place, self._function, self._n_steps = place, function, n_steps
        self._window = {"sample": (sample, n_samples)}
        self._entries: Any = slice(None)
        self._length = max(1, NUMBERS_AT_ONCE // max(1, place.size))
        self._pieces: Any = None
        self._first = self._end = 0
        edit = getattr(function, "__self__", None)
        self._edit = edit if isinstance(edit, Edit) else None
        self._operation = _OPERATIONS.get(type(edit), "")
        self.steps = np.ones(n_steps, dtype=bool)
        if self._edit is not None:
            self._find_entries(self._edit, sample, n_samples)

    def _find_entries(self, edit: Edit, sample: int, n_samples: int) -> None:
        sizes = {"sample": n_samples, "time": self._n_steps}
        dims = self._place.dims
        selection = edit.reference.locate(dims, [sizes.get(axis, self._place.size) for axis in dims])
        assert selection is not None  # of a whole activation something is always selected
        here = dict(zip(dims, selection.here, strict=True))
        chosen = np.zeros(n_samples, dtype=bool)
        chosen[here["sample"]] = True
        self.steps[:] = False
        self.steps[here.get("time", slice(None))] = chosen[sample]
        if not self._place.shared:
            self._entries = here[dims[-1]]

    def apply(self, rows: Any, first: int) -> Any:
        """Return the values of some steps, edited."""
        place = self._place
        shape = [1, *([len(rows)] if place.timed else []), *([] if place.shared else [place.size])]
        window = {**self._window, **({"time": (first, self._n_steps)} if place.timed else {})}
        edited = self._function(torch.from_numpy(rows).reshape(shape), place.dims, window)
        return edited.detach().reshape(rows.shape).numpy()

    def apply_in_place(self, values: Any, step: int) -> None:
        """Edit the values of one step."""
        if not self._operation or values.dtype.kind != "f":
            values[...] = self.apply(values[None].copy(), step)[0]
        elif self._operation == "clip":
            self._clip(values)
        elif self._operation == "put":
            values[self._entries] = self._of_step(values, step, 0.0)
        elif self._operation == "add":
            values[self._entries] += self._of_step(values, step, 0.0)
        else:
            values[self._entries] *= self._of_step(values, step, 1.0)

    def _clip(self, values: Any) -> None:
        assert isinstance(self._edit, Clamp)
        if self._edit.minimum is not None:
            values[self._entries] = np.maximum(values[self._entries], self._edit.minimum)
        if self._edit.maximum is not None:
            values[self._entries] = np.minimum(values[self._entries], self._edit.maximum)

    def _of_step(self, values: Any, step: int, filled: float) -> Any:
        """Return what the edit makes of zeros or ones in a step."""
        if not self._first <= step < self._end:
            self._first, self._end = step, min(step + self._length, self._n_steps)
            rows = np.full((self._end - step, self._place.size), filled, dtype=values.dtype)
            self._pieces = self.apply(rows, step)[:, self._entries]
        return self._pieces[step - self._first]
