"""The problem in units of its own: everything of unit root mean square, and activity in a few dimensions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.circuits.latent.observations import Observations
from neuros_mechint.neuro.circuits.latent.parameters import Booleans, Circuit, Layout
from neuros_mechint.neuro.circuits.latent.residuals import Targets

_LEAST_NOISE = 1e-9
_SILENT = 1e-9  # of the loudest column


class Scaled(NamedTuple):
    """Observations in units of their own.

    Rectified nodes scale with what they receive, so the connectivity does not depend on these units.

    Parameters
    ----------
    layout : Layout
    seen : Observations
        Of unit root mean square: each input, each output, and the activity per node.
    inputs, outputs : numpy.ndarray of shape (n_inputs,) and (n_outputs,)
        What they were divided by; 1 for what is silent.
    activity : float
    driven, heard : numpy.ndarray of bool
        Which inputs and outputs are not silent.
    basis : numpy.ndarray of shape (n_units, n_nodes)
        Principal directions, of squares about 0, not about the mean.
    noise : float
        Variance per sample along directions that are left out: what noise adds to each node.
    """

    layout: Layout
    seen: Observations
    inputs: Floats
    outputs: Floats
    activity: float
    driven: Booleans
    heard: Booleans
    basis: Floats
    noise: float

    def targets(self, basis: Floats) -> Targets:
        """Return what a circuit is to reproduce, with the activity along the columns of a basis."""
        signals = self.seen.inputs, self.seen.activity @ basis, self.seen.outputs
        inputs, states, outputs = (np.ascontiguousarray(values.transpose(1, 2, 0)) for values in signals)
        return Targets(self.layout, inputs, states, outputs, self.seen.weights)

    def in_given_units(self, circuit: Circuit) -> Circuit:
        """Return a circuit of the scaled problem in the units of what was recorded."""
        return circuit._replace(
            inputs=circuit.inputs * self.activity / self.inputs,
            outputs=circuit.outputs * self.outputs / self.activity,
        )


def scaled(seen: Observations, n_nodes: int) -> Scaled:
    """Return observations in units of their own.

    Parameters
    ----------
    seen : Observations
    n_nodes : int

    Returns
    -------
    Scaled

    Raises
    ------
    InputError
        If there is no activity at all.
    """
    inputs, driven = _loudness(seen.inputs)
    outputs, heard = _loudness(seen.outputs)
    flat = (seen.activity * np.sqrt(seen.weights)[:, None, None]).reshape(-1, seen.activity.shape[-1])
    variances, directions = np.linalg.eigh(flat.T @ flat / len(flat))
    kept, left = variances[::-1][:n_nodes], variances[::-1][n_nodes:].clip(0)
    activity = float(np.sqrt(kept.mean()))
    if not activity > 0:
        raise InputError("there is no activity", expected="units that are not silent", got="zeros everywhere")
    noise = float(left.mean()) / activity**2 if len(left) else 0.0
    layout = Layout(n_nodes, len(inputs), len(outputs))
    units = seen._replace(
        inputs=seen.inputs / inputs, activity=seen.activity / activity, outputs=seen.outputs / outputs
    )
    basis = np.ascontiguousarray(directions[:, ::-1][:, :n_nodes])
    return Scaled(layout, units, inputs, outputs, activity, driven, heard, basis, max(noise, _LEAST_NOISE))


def _loudness(signals: Floats) -> tuple[Floats, Booleans]:
    """Return the root mean square of each column, 1 where there is nothing, and where there is something."""
    loudness = np.sqrt(np.square(signals).mean((0, 1)))
    heard = loudness > _SILENT * loudness.max(initial=0.0)
    return np.where(heard, loudness, 1.0), heard
