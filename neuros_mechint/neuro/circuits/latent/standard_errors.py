"""How far the data pin the connectivity down."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.circuits.latent.least_squares import penalties
from neuros_mechint.neuro.circuits.latent.parameters import Bounds, Circuit
from neuros_mechint.neuro.circuits.latent.residuals import Targets
from neuros_mechint.neuro.circuits.latent.sensitivities import normal_equations

_LEAST_VARIANCE = 1e-13  # of the largest entry of the normal equations: what double precision can tell from nothing


def standard_errors(targets: Targets, circuit: Circuit, rotation: Floats, within: Bounds) -> Floats:
    r"""Return the standard errors of the connectivity.

    The square roots of the diagonal of :math:`s^2 (J^\top J + s^2 P)^{-1}`, with the residual variance :math:`s^2` and
    the precision :math:`P` of the prior, 1 for each connection and 0 for all else. A connection of which the data say
    nothing has the standard error 1 of the prior; without the prior it would be infinite.

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
    layout = targets.layout
    normal = normal_equations(targets, circuit, rotation)
    vector, slope = layout.pack(circuit), normal.slope[: layout.n_parameters]
    held = np.zeros(layout.n_steps, dtype=bool)
    held[: layout.n_parameters] = within.pressed(vector, slope) | (within.lower == within.upper)
    free = np.flatnonzero(~held)
    n_residuals = targets.states.size + targets.outputs.size
    variance = normal.cost / max(n_residuals - len(free), 1)
    variance = max(variance, _LEAST_VARIANCE * float(np.diag(normal.matrix).max()))
    precision = normal.matrix + np.diag(penalties(targets, variance))
    scale = 1 / np.sqrt(np.maximum(np.diag(precision)[free], variance))
    inverse = np.linalg.pinv(precision[np.ix_(free, free)] * np.outer(scale, scale), hermitian=True)
    errors = np.zeros(layout.n_steps)
    errors[free] = np.sqrt(variance * np.diag(inverse).clip(0)) * scale
    return errors[layout.connectivity].reshape(layout.n_nodes, layout.n_nodes)
