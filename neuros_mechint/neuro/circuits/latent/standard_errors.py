"""How far the data pin the connectivity down."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.circuits.latent.dynamics import simulate
from neuros_mechint.neuro.circuits.latent.least_squares import penalties
from neuros_mechint.neuro.circuits.latent.parameters import Bounds, Circuit
from neuros_mechint.neuro.circuits.latent.residuals import Targets
from neuros_mechint.neuro.circuits.latent.sensitivities import normal_equations

_LEAST_VARIANCE = 1e-13  # of the largest entry of the normal equations: what double precision can tell from nothing


def standard_errors(targets: Targets, circuit: Circuit, rotation: Floats, within: Bounds) -> Floats:
    r"""Return the standard errors of the connectivity.

    The square roots of the diagonal of :math:`A^{-1} (\sum_g s_g^2 J_g^\top J_g + s^4 P) A^{-1}` with
    :math:`A = J^\top J + s^2 P`. The residuals fall into groups g, that of the nodes and one for each output, each with
    a variance :math:`s_g^2` of its own, that of the nodes being :math:`s^2`; :math:`P` is the precision of the prior, 1
    for each connection and 0 for all else. A connection of which the data say nothing has the standard error 1 of the
    prior; without the prior it would be infinite. Derivatives are taken where the circuit is, not where the recorded
    states are: their noise would pass for knowledge of the rotation.

    Parameters
    ----------
    targets : Targets
    circuit : Circuit
    rotation : numpy.ndarray of shape (n_nodes, n_nodes)
    within : Bounds
        What is not free has no error.

    Returns
    -------
    numpy.ndarray of shape (n_nodes, n_nodes)
    """
    layout, vector = targets.layout, targets.layout.pack(circuit)
    slope = normal_equations(targets, circuit, rotation).slope[: layout.n_parameters]
    held = np.zeros(layout.n_steps, dtype=bool)
    held[: layout.n_parameters] = within.pressed(vector, slope) | (within.lower == within.upper)
    free = np.flatnonzero(~held)
    variances, matrices = zip(*_groups(targets, circuit, rotation, len(free)), strict=True)
    matrices = np.stack(matrices)[:, free[:, None], free]
    information = matrices.sum(0)
    variances = np.maximum(variances, _LEAST_VARIANCE * float(np.diag(information).max()))
    prior = np.diag(penalties(targets, variances[0])[free])
    scale = 1 / np.sqrt(np.maximum(np.diag(information + prior), variances[0]))
    inverse = np.linalg.pinv((information + prior) * np.outer(scale, scale), hermitian=True)
    middle = np.tensordot(variances, matrices, 1) + variances[0] * prior
    spread = inverse @ (middle * np.outer(scale, scale)) @ inverse
    errors = np.zeros(layout.n_steps)
    errors[free] = np.sqrt(np.diag(spread).clip(0)) * scale
    return errors[layout.connectivity].reshape(layout.n_nodes, layout.n_nodes)


def _groups(targets: Targets, circuit: Circuit, rotation: Floats, n_free: int) -> Iterator[tuple[float, Floats]]:
    """Yield the variance of the residuals and the information of the nodes, then of each output."""
    layout = targets.layout
    share = n_free / (layout.n_nodes + layout.n_outputs)  # of the free parameters, for each column of residuals
    states = simulate(circuit.connectivity, circuit.input_weights, targets.inputs.transpose(2, 0, 1), circuit.alpha)
    states = states.transpose(1, 2, 0)
    shown = states[:, layout.output_nodes]
    expected = targets._replace(states=rotation.T @ states, outputs=circuit.outputs[:, None] * shown)
    gains = np.arange(layout.outputs.start, layout.outputs.stop)

    def variance(missed: Floats) -> float:
        n_columns = missed.shape[1]
        squares = float(np.square(missed).sum((0, 1)) @ targets.weights)
        return squares / max(missed.size - share * n_columns, 1)

    def information(outputs: Floats) -> Floats:
        """Return that of the nodes, and of outputs with a gain; others tell nothing."""
        matrix = normal_equations(expected, circuit._replace(outputs=outputs), rotation).matrix
        silent = gains[outputs == 0]
        matrix[silent, silent] = 0
        return matrix

    of_nodes = information(np.zeros(layout.n_outputs))
    yield variance(rotation @ targets.states - states), of_nodes
    for output in range(layout.n_outputs):
        alone = np.where(np.arange(layout.n_outputs) == output, circuit.outputs, 0.0)
        missed = expected.outputs[:, [output]] - targets.outputs[:, [output]]
        yield variance(missed), information(alone) - of_nodes
