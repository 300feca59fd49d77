"""The parameters of a latent circuit as one vector, and what each may be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats

LEAST_ALPHA = 1e-3

Booleans = npt.NDArray[np.bool_]


class Layout(NamedTuple):
    """Where each parameter of a circuit lies in a vector: connectivity by rows, input gains, alpha, output gains.

    Behind these, in steps and normal equations only, lie the increments of the rotation: one for each pair of nodes.

    Examples
    --------
    >>> layout = Layout(n_nodes=3, n_inputs=1, n_outputs=1)
    >>> layout.n_parameters, layout.n_steps
    (12, 15)
    """

    n_nodes: int
    n_inputs: int
    n_outputs: int

    @property
    def connectivity(self) -> slice:
        """Connections, row by row."""
        return slice(0, self.n_nodes**2)

    @property
    def inputs(self) -> slice:
        """Gains of the inputs, each to its own node among the first."""
        return slice(self.n_nodes**2, self.alpha)

    @property
    def alpha(self) -> int:
        """The leak."""
        return self.n_nodes**2 + self.n_inputs

    @property
    def outputs(self) -> slice:
        """Gains of the outputs, each of its own node among the last."""
        return slice(self.alpha + 1, self.n_parameters)

    @property
    def rotation(self) -> slice:
        """Increments of the rotation."""
        return slice(self.n_parameters, self.n_steps)

    @property
    def n_parameters(self) -> int:
        """Length of a vector of parameters."""
        return self.n_nodes**2 + self.n_inputs + 1 + self.n_outputs

    @property
    def n_steps(self) -> int:
        """Length of a step, which turns the latent space too."""
        return self.n_parameters + self.n_nodes * (self.n_nodes - 1) // 2

    @property
    def output_nodes(self) -> slice:
        """The nodes that are read out."""
        return slice(self.n_nodes - self.n_outputs, self.n_nodes)

    def pack(self, circuit: Circuit) -> Floats:
        """Return a circuit as a vector."""
        return np.concatenate([circuit.connectivity.ravel(), circuit.inputs, [circuit.alpha], circuit.outputs])

    def unpack(self, vector: Floats) -> Circuit:
        """Return a vector as a circuit."""
        connectivity = vector[self.connectivity].reshape(self.n_nodes, self.n_nodes)
        return Circuit(connectivity, vector[self.inputs], float(vector[self.alpha]), vector[self.outputs])


class Circuit(NamedTuple):
    """A latent circuit.

    Parameters
    ----------
    connectivity : numpy.ndarray of shape (n_nodes, n_nodes)
    inputs : numpy.ndarray of shape (n_inputs,)
        Gain from each input to its node, the first nodes.
    alpha : float
    outputs : numpy.ndarray of shape (n_outputs,)
        Gain of each output from its node, the last nodes.

    Examples
    --------
    >>> circuit = Circuit(np.zeros((3, 3)), np.array([0.5]), 0.2, np.array([2.0]))
    >>> circuit.input_weights.tolist(), circuit.output_weights.tolist()
    ([[0.5], [0.0], [0.0]], [[0.0, 0.0, 2.0]])
    """

    connectivity: Floats
    inputs: Floats
    alpha: float
    outputs: Floats

    @property
    def input_weights(self) -> Floats:
        """Matrix of the input gains, ``(n_nodes, n_inputs)``."""
        return np.eye(len(self.connectivity), len(self.inputs)) * self.inputs

    @property
    def output_weights(self) -> Floats:
        """Matrix of the output gains, ``(n_outputs, n_nodes)``."""
        n_nodes, n_outputs = len(self.connectivity), len(self.outputs)
        return np.eye(n_outputs, n_nodes, n_nodes - n_outputs) * self.outputs[:, None]


class Bounds(NamedTuple):
    """What each parameter may be at least and at most; where both are equal, it is not free."""

    lower: Floats
    upper: Floats

    def nearest(self, vector: Floats) -> Floats:
        """Return the nearest vector within the bounds."""
        return np.clip(vector, self.lower, self.upper)

    def pressed(self, vector: Floats, slope: Floats) -> Booleans:
        """Return which parameters lie at a bound over which the cost would fall."""
        return ((vector <= self.lower) & (slope >= 0)) | ((vector >= self.upper) & (slope <= 0))


def bounds(layout: Layout, alpha: float | None, signs: Floats, driven: Booleans, heard: Booleans) -> Bounds:
    """Return the bounds of the parameters.

    Parameters
    ----------
    layout : Layout
    alpha : float or None
        None: free.
    signs : numpy.ndarray of shape (n_nodes,)
        Of what each node sends: 1, -1, or 0 for either.
    driven, heard : numpy.ndarray of bool, shape (n_inputs,) and (n_outputs,)
        Which inputs and outputs are not silent. The gains of the others are 0.

    Returns
    -------
    Bounds

    Examples
    --------
    >>> layout = Layout(n_nodes=2, n_inputs=1, n_outputs=1)
    >>> found = bounds(layout, 0.2, np.array([1, -1]), np.array([True]), np.array([False]))
    >>> layout.unpack(found.nearest(np.ones(7)))
    Circuit(connectivity=array([[1., 0.],
           [1., 0.]]), inputs=array([1.]), alpha=0.2, outputs=array([0.]))
    """
    lower, upper = np.full(layout.n_parameters, -np.inf), np.full(layout.n_parameters, np.inf)
    sources = np.tile(signs, layout.n_nodes)
    lower[layout.connectivity][sources > 0] = 0
    upper[layout.connectivity][sources < 0] = 0
    lower[layout.inputs] = lower[layout.outputs] = 0
    upper[layout.inputs][~driven] = 0
    upper[layout.outputs][~heard] = 0
    lower[layout.alpha], upper[layout.alpha] = (LEAST_ALPHA, 1.0) if alpha is None else (alpha, alpha)
    return Bounds(lower, upper)
