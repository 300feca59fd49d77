"""Where a fit begins: the rotation that regression on the inputs and outputs suggests."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.circuits.latent.dynamics import leaky_filter
from neuros_mechint.neuro.circuits.latent.parameters import Circuit
from neuros_mechint.neuro.circuits.latent.residuals import Targets
from neuros_mechint.neuro.circuits.latent.rotations import nearest_orthogonal, small_rotation

_RIDGE, _WIRING_RIDGE = 1e-6, 1e-3  # of the mean of the diagonal
_LEAST_LENGTH = 1e-9
_NUDGE = 0.15


def regressed_start(targets: Targets, alpha: float, random: np.random.Generator) -> tuple[Circuit, Floats]:
    """Return a circuit and a rotation from linear regression of the states on what a leaky node sees.

    Coefficients of an input point to the node it drives; coefficients of the states in an output point to the node it
    is read from; hidden nodes take what is left, turned at random where there are several.

    Parameters
    ----------
    targets : Targets
    alpha : float
    random : numpy.random.Generator

    Returns
    -------
    circuit : Circuit
    rotation : numpy.ndarray of shape (n_nodes, n_nodes)
        Orthogonal.
    """
    n_nodes, n_inputs, n_outputs = targets.layout
    inputs, states, outputs = (np.transpose(values, (2, 0, 1)) for values in targets[1:4])
    seen = np.concatenate([leaky_filter(states, alpha), leaky_filter(inputs, alpha)], -1)
    flat = states.reshape(-1, n_nodes)
    driven = _ridge(seen.reshape(-1, n_nodes + n_inputs), flat, _RIDGE)[n_nodes:]
    read = _ridge(flat, outputs.reshape(-1, n_outputs), _RIDGE).T
    input_gains, output_lengths = (np.sqrt(np.square(vectors).sum(1)) for vectors in (driven, read))
    directions = np.zeros((n_nodes, n_nodes))
    directions[:n_inputs] += _units(driven, input_gains)
    directions[n_nodes - n_outputs :] += _units(read, output_lengths)
    rotation = nearest_orthogonal(_filled(directions, flat, random))
    connectivity = _wiring(states @ rotation.T, inputs, input_gains, alpha)
    heard = output_lengths > _LEAST_LENGTH
    output_gains = np.where(heard, 1 / np.maximum(output_lengths, _LEAST_LENGTH), 0.0)
    return Circuit(connectivity, input_gains, alpha, output_gains), rotation


def nudged(targets: Targets, circuit: Circuit, rotation: Floats, random: np.random.Generator) -> tuple[Circuit, Floats]:
    """Return a start whose rotation is turned a little, at random, with the connectivity that fits it."""
    n_nodes = len(rotation)
    turn = _NUDGE * np.sqrt(2) * random.standard_normal(n_nodes * (n_nodes - 1) // 2)
    turned = small_rotation(turn, n_nodes) @ rotation
    states, inputs = (np.transpose(values, (2, 0, 1)) for values in (targets.states, targets.inputs))
    connectivity = _wiring(states @ turned.T, inputs, circuit.inputs, circuit.alpha)
    return circuit._replace(connectivity=connectivity), turned


def _ridge(features: Floats, values: Floats, share: float) -> Floats:
    gram = features.T @ features
    strength = max(share * np.trace(gram) / len(gram), np.finfo(float).tiny)
    return np.linalg.solve(gram + strength * np.eye(len(gram)), features.T @ values)


def _units(vectors: Floats, lengths: Floats) -> Floats:
    """Return vectors of length 1; of nothing, nothing."""
    return np.where(lengths[:, None] > _LEAST_LENGTH, vectors / np.maximum(lengths, _LEAST_LENGTH)[:, None], 0.0)


def _filled(directions: Floats, states: Floats, random: np.random.Generator) -> Floats:
    """Return directions of all nodes: those without one get what is orthogonal to all others, with a positive mean."""
    empty = ~directions.any(1)
    if not empty.any():
        return directions
    left = np.linalg.svd(directions[~empty], full_matrices=True)[2][(~empty).sum() :]
    if len(left) > 1:
        left = np.linalg.qr(random.standard_normal((len(left), len(left))))[0] @ left
    directions = directions.copy()
    directions[empty] = left * np.where(left @ states.mean(0) < 0, -1.0, 1.0)[:, None]
    return directions


def _wiring(states: Floats, inputs: Floats, input_gains: Floats, alpha: float) -> Floats:
    """Return the connectivity of linear nodes with these states and input gains."""
    n_nodes, n_inputs = states.shape[-1], inputs.shape[-1]
    rest = states.copy()
    rest[:, :, :n_inputs] -= leaky_filter(inputs, alpha) * input_gains
    seen = leaky_filter(states, alpha).reshape(-1, n_nodes)
    return _ridge(seen, rest.reshape(-1, n_nodes), _WIRING_RIDGE).T
