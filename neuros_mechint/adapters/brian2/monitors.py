"""What is recorded while a network runs: copies of variables, and who spikes, step by step.

The arrays that Brian2's own monitors read are copied directly: the same numbers without generating code for a monitor.
"""

from __future__ import annotations

from typing import Any

from neuros_mechint.adapters.brian2.places import Kind, Place


class Recorder:
    """Copies one place into its rows, step by step.

    Parameters
    ----------
    place : Place
    rows : array of shape (n_steps, size)
        Written; one step for what is fixed.
    """

    def __init__(self, place: Place, rows: Any) -> None:
        self._values, self._rows, self._step = place.variable.get_value(), rows, 0
        self._spikes = place.kind is Kind.SPIKES

    def __call__(self) -> None:
        """Copy the values of this step."""
        if self._spikes:
            self._rows[self._step, self._values[: self._values[-1]]] = True
        else:
            self._rows[self._step] = self._values
        self._step += 1
