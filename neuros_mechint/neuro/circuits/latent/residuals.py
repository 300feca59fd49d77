"""How far a circuit is from what was recorded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.circuits.latent.parameters import Circuit, Layout


class Targets(NamedTuple):
    """What a circuit is to reproduce, times first and trials last.

    Parameters
    ----------
    layout : Layout
    inputs : numpy.ndarray of shape (n_times, n_inputs, n_trials)
    states : numpy.ndarray of shape (n_times, n_nodes, n_trials)
        Activity in a subspace of as many dimensions as nodes; a rotation takes it to the nodes.
    outputs : numpy.ndarray of shape (n_times, n_outputs, n_trials)
    weights : numpy.ndarray of shape (n_trials,)
        Of the squared residuals.
    """

    layout: Layout
    inputs: Floats
    states: Floats
    outputs: Floats
    weights: Floats

    def turned(self, rotation: Floats) -> Floats:
        """Return the states of nodes that a rotation reads from the activity."""
        return rotation @ self.states


def squared_error(targets: Targets, circuit: Circuit, rotation: Floats, teacher: bool = False) -> float:
    """Return the weighted sum of squared residuals of nodes and outputs.

    Parameters
    ----------
    targets : Targets
    circuit : Circuit
    rotation : numpy.ndarray of shape (n_nodes, n_nodes)
    teacher : bool
        Nodes receive the recorded states rather than those of the circuit; their leaky sum is still the circuit's own.

    Returns
    -------
    float
    """
    read, error = targets.turned(rotation), 0.0
    drive = circuit.input_weights @ targets.inputs
    gains = circuit.outputs[:, None]
    x = np.zeros_like(read[0])
    for time in range(len(read)):
        if time:
            received = circuit.connectivity @ (read[time - 1] if teacher else x) + drive[time - 1]
            x = (1 - circuit.alpha) * x + circuit.alpha * np.maximum(received, 0)
        of_nodes = np.square(x - read[time]).sum(0)
        of_outputs = np.square(gains * x[targets.layout.output_nodes] - targets.outputs[time]).sum(0)
        error += float((of_nodes + of_outputs) @ targets.weights)
    return error
