"""Normal equations of a circuit, with exact derivatives of its states carried forward in time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.circuits.latent.dynamics import leaky_filter
from neuros_mechint.neuro.circuits.latent.parameters import Circuit, Layout
from neuros_mechint.neuro.circuits.latent.residuals import Targets
from neuros_mechint.neuro.circuits.latent.rotations import planes_of_rotation


class Normal(NamedTuple):
    """The normal equations of a least-squares problem at one place.

    Parameters
    ----------
    cost : float
        Sum of squared residuals.
    matrix : numpy.ndarray of shape (n_steps, n_steps)
        The Jacobian of the residuals, transposed, times itself.
    slope : numpy.ndarray of shape (n_steps,)
        The Jacobian, transposed, times the residuals.
    """

    cost: float
    matrix: Floats
    slope: Floats


def normal_equations(targets: Targets, circuit: Circuit, rotation: Floats, teacher: bool = False) -> Normal:
    """Return the normal equations of the residuals that `squared_error` sums up.

    The derivatives of the states obey the linearised dynamics and are carried along with them (forward sensitivities),
    so that they are exact wherever no node stands just at its threshold.

    Parameters
    ----------
    targets, circuit, rotation, teacher
        As for `neuros_mechint.neuro.circuits.latent.residuals.squared_error`.

    Returns
    -------
    Normal
        In all parameters and the increments of the rotation.
    """
    found = _Sums(targets.layout)
    (_teach if teacher else _roll_out)(found, targets, circuit, targets.turned(rotation))
    return Normal(found.cost, found.matrix, found.slope)


class _Sums:
    """Normal equations that are summed up."""

    def __init__(self, layout: Layout) -> None:
        self.cost, self.matrix = 0.0, np.zeros((layout.n_steps, layout.n_steps))
        self.slope = np.zeros(layout.n_steps)

    def add(self, columns: npt.NDArray[np.int64], rows: Floats, residuals: Floats) -> None:
        """Add residuals and how they change with some of the columns, ``(column, residual)``."""
        self.cost += float(residuals @ residuals)
        self.slope[columns] += rows @ residuals
        self.matrix[np.ix_(columns, columns)] += rows @ rows.T

    def put(self, first: slice, second: slice, products: Floats) -> None:
        """Add products of two groups of columns, on both sides of the diagonal."""
        self.matrix[first, second] += products
        self.matrix[second, first] += products.T


def _teach(sums: _Sums, targets: Targets, circuit: Circuit, read: Floats) -> None:
    """Sum up the equations where nodes receive what was recorded.

    No change of one node reaches another: each changes with the connections to it, its own input gain, alpha, and with
    the rotation of what it receives.
    """
    layout, n_nodes = targets.layout, read.shape[1]
    planes, roots = planes_of_rotation(n_nodes), np.sqrt(targets.weights)
    read = np.ascontiguousarray(read.transpose(1, 0, 2))  # (node, time, trial) here
    inputs, outputs = targets.inputs.transpose(1, 0, 2), targets.outputs.transpose(1, 0, 2)
    received = _along(circuit.connectivity, read) + _along(circuit.input_weights, inputs)
    states = leaky_filter(np.maximum(received, 0), circuit.alpha)
    for node in range(n_nodes):
        active = received[node] > 0
        columns = [np.arange(n_nodes) + node * n_nodes, np.arange(layout.n_parameters, layout.n_steps)]
        forces = [read * active, _along(circuit.connectivity[node] @ planes, read) * active]
        if node < layout.n_inputs:
            columns.append(np.array([layout.inputs.start + node]))
            forces.append((inputs[node] * active)[None])
        columns.append(np.array([layout.alpha]))
        forces.append((np.maximum(received[node], 0) - states[node])[None] / circuit.alpha)
        changes = leaky_filter(np.concatenate(forces), circuit.alpha)
        names = np.concatenate(columns)
        output = node - n_nodes + layout.n_outputs
        if output >= 0:
            gain = circuit.outputs[output]
            rows = np.concatenate([gain * changes, states[node][None]]) * roots
            wrong = (gain * states[node] - outputs[output]) * roots
            both = np.append(names, layout.outputs.start + output)
            sums.add(both, rows.reshape(len(rows), -1), wrong.ravel())
        changes[n_nodes : n_nodes + len(planes)] -= _along(planes[:, node], read)
        changes *= roots
        sums.add(names, changes.reshape(len(changes), -1), ((states[node] - read[node]) * roots).ravel())


def _roll_out(sums: _Sums, targets: Targets, circuit: Circuit, read: Floats) -> None:
    """Sum up the equations where nodes receive the states of the circuit.

    These states do not change with the rotation, which turns what is read: sums of products say all of its part.
    """
    layout, weights, keep = targets.layout, targets.weights, 1 - circuit.alpha
    n_nodes, n_trials = read.shape[1:]
    shown, gains = layout.output_nodes, circuit.outputs[:, None]
    factors = np.ones(n_nodes)  # an output node counts twice: for itself, and for its output
    factors[shown] += circuit.outputs**2
    roots = np.sqrt(factors[:, None] * weights)[:, :, None]
    moving = slice(0, layout.alpha + 1)
    changes = np.zeros((n_nodes, n_trials, moving.stop))  # with connectivity, input gains and alpha
    flat, by_column = changes.reshape(n_nodes, -1), changes.transpose(0, 2, 1)
    # views: the change of each node with the connections to it, and with its own input gain
    own = np.einsum("iaij->iaj", changes[:, :, layout.connectivity].reshape(n_nodes, n_trials, n_nodes, n_nodes))
    driven = np.einsum("iai->ia", changes[: layout.n_inputs, :, layout.inputs])
    with_read, with_outputs = np.zeros((n_nodes, moving.stop, n_nodes)), np.zeros((moving.stop, layout.n_outputs))
    drive, states = circuit.input_weights @ targets.inputs, np.zeros_like(read)
    for time in range(1, len(read)):
        x = states[time - 1]
        received = circuit.connectivity @ x + drive[time - 1]
        fired, gate = np.maximum(received, 0), circuit.alpha * (received > 0)
        passed = (circuit.connectivity @ flat).reshape(changes.shape)
        passed *= gate[:, :, None]
        changes *= keep
        changes += passed
        own += gate[:, :, None] * x.T
        driven += gate[: layout.n_inputs] * targets.inputs[time - 1]
        changes[:, :, layout.alpha] += fired - x
        x = states[time] = keep * x + circuit.alpha * fired
        rows = (changes * roots).reshape(-1, moving.stop)
        sums.matrix[moving, moving] += rows.T @ rows
        pull = weights * (x - read[time])
        pull[shown] += weights * gains * (gains * x[shown] - targets.outputs[time])
        sums.slope[moving] += pull.ravel() @ changes.reshape(-1, moving.stop)
        with_read += by_column @ (weights * read[time]).T
        with_outputs += np.einsum("oka,oa->ko", by_column[shown], weights * gains * x[shown])
    sums.put(moving, layout.outputs, with_outputs)
    sums.put(moving, layout.rotation, -np.einsum("ikj,pij->kp", with_read, planes_of_rotation(n_nodes), optimize=True))
    _add_still(sums, targets, circuit, read, states)


def _add_still(sums: _Sums, targets: Targets, circuit: Circuit, read: Floats, states: Floats) -> None:
    """Add what concerns neither the connectivity, nor the inputs, nor alpha: cost, rotation, and output gains."""
    layout, weights = targets.layout, targets.weights
    missed, shown = states - read, states[:, layout.output_nodes]
    wrong = circuit.outputs[:, None] * shown - targets.outputs
    sums.cost += float((np.square(missed) * weights).sum() + (np.square(wrong) * weights).sum())
    planes = planes_of_rotation(read.shape[1])
    flat = planes.reshape(len(planes), read.shape[1] ** 2)
    moments, pull = (np.tensordot(values * weights, read, ((0, 2), (0, 2))) for values in (read, missed))
    sums.matrix[layout.rotation, layout.rotation] += (planes @ moments).reshape(flat.shape) @ flat.T
    sums.slope[layout.rotation] -= flat @ pull.ravel()
    gains = np.arange(layout.outputs.start, layout.outputs.stop)
    sums.matrix[gains, gains] += (np.square(shown) * weights).sum((0, 2))
    sums.slope[gains] += (shown * wrong * weights).sum((0, 2))


def _along(matrix: Floats, signals: Floats) -> Floats:
    """Return a matrix times signals along their first axis."""
    return (matrix @ signals.reshape(len(signals), -1)).reshape(len(matrix), *signals.shape[1:])
