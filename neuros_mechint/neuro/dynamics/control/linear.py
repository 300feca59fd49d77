"""A linear system, given as such or linearised at states."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import real_array
from neuros_mechint.neuro.dynamics.systems import System, as_system

_SECOND = "the second argument is the input matrix B, not the states as in nm.simulate"


class Linear(NamedTuple):
    """A linear system, or one linearised at each of several places.

    Parameters
    ----------
    kind : {"matrix", "states", "trajectory"}
    about : str
        What it is, in words.
    jacobians : numpy.ndarray of shape (place, unit, unit)
    inputs : numpy.ndarray of shape (place, unit, input)
    outputs : numpy.ndarray of shape (output, unit)
    states, drifts : numpy.ndarray of shape (place, unit)
        Where it is linearised, and how far it moves by itself: to the next state, beyond that of a trajectory.
    epsilon : float
        Relative precision of these numbers.
    """

    kind: str
    about: str
    jacobians: Floats
    inputs: Floats
    outputs: Floats
    states: Floats
    drifts: Floats
    epsilon: float


def from_matrix(system: Any, input_matrix: Any, output_matrix: Any, normalize: bool) -> Linear:
    """Return a matrix as a linear system at one place.

    Examples
    --------
    >>> from_matrix([[0.5]], None, None, normalize=True).jacobians.round(6).tolist()
    [[[0.333333]]]
    """
    matrix = _matrix("the matrix of the system", system)
    n_units = len(matrix)
    if matrix.shape != (n_units, n_units):
        raise InputError("the matrix of the system is not square", got=matrix.shape)
    if normalize:
        matrix = matrix / (1 + np.linalg.norm(matrix, 2))
    single = str(getattr(system, "dtype", "")).endswith("float32")
    return Linear(
        "matrix",
        "linear system, divided by one plus its largest singular value" if normalize else "linear system",
        matrix[None],
        _input_matrix(input_matrix, n_units)[None],
        _output_matrix(output_matrix, n_units),
        np.zeros((1, n_units)),
        np.zeros((1, n_units)),
        float(np.finfo("float32" if single else "float64").eps),
    )


def from_step(step: Any, input_matrix: Any, output_matrix: Any, states: Any, inputs: Any, trajectory: bool) -> Linear:
    """Return the linearisation of a step at states, or along them.

    Examples
    --------
    >>> from_step(lambda x: x**2, None, None, [[1.0], [3.0]], None, False).jacobians.flatten().tolist()
    [2.0, 6.0]
    """
    if states is None:
        raise InputError(
            "a step is linearised at states, and there are none",
            expected="states=..., (point, n_units)",
            got=None if input_matrix is None else _SECOND,
            fix="pass states by name, fixed points for instance: "
            "nm.controllability(step, states=nm.FixedPointFinder(step).find(initial_states).states)",
        )
    system, at = as_system(step, states, inputs)
    if trajectory and len(at) < 2:
        raise InputError("one state is no trajectory", expected="states (time, n_units) of at least 2 times")
    with torch.no_grad():
        moved = system(at)
    drifts = moved - at
    if trajectory:  # nothing is known of where the last state should go
        drifts = torch.cat([moved[:-1] - at[1:], torch.zeros_like(at[:1])])
    if input_matrix is None and system.inputs is not None:
        driven = _input_jacobians(system, at)
    else:
        same = _input_matrix(input_matrix, system.n_states)
        driven = np.broadcast_to(same, (len(at), *same.shape))
    where = "along a trajectory of" if trajectory else "at"
    return Linear(
        "trajectory" if trajectory else "states",
        f"{system.name} linearised {where} {len(at)} state{'s' if len(at) > 1 else ''}",
        system.jacobians(at).double().numpy(),
        driven,
        _output_matrix(output_matrix, system.n_states),
        at.double().numpy(),
        drifts.double().numpy(),
        float(torch.finfo(at.dtype).eps),
    )


def _input_jacobians(system: System, at: torch.Tensor) -> Floats:
    """Return the derivative of the next state with respect to the inputs, ``(place, unit, input)``."""
    assert system.inputs is not None

    n_states, given = system.n_states, system.inputs.to(at.dtype)

    def together(states: torch.Tensor, inputs: torch.Tensor | None) -> torch.Tensor:
        return torch.cat([system.raw(states[:, :n_states], states[:, n_states:]), states[:, n_states:]], dim=1)

    joint = torch.cat([at, given], dim=1)
    both = System(together, None, joint.shape[1], system.name, transformable=system.transformable)
    return both.jacobians(joint)[:, :n_states, n_states:].double().numpy()


def _input_matrix(values: Any, n_units: int) -> Floats:
    if values is None:
        return np.eye(n_units)
    found = _matrix("input_matrix", values)
    found = found[:, None] if found.ndim == 1 else found
    if len(found) != n_units:
        states = found.ndim == 2 and found.shape[1] == n_units
        raise InputError(
            "input_matrix does not fit",
            expected=f"({n_units}, n_inputs)",
            got=f"{found.shape}, {_SECOND}" if states else found.shape,
            fix="pass states by name: states=..." if states else None,
        )
    return found


def _output_matrix(values: Any, n_units: int) -> Floats:
    if values is None:
        return np.eye(n_units)
    found = np.atleast_2d(_matrix("output_matrix", values))
    if found.shape[1] != n_units:
        raise InputError("output_matrix does not fit", expected=f"(n_outputs, {n_units})", got=found.shape)
    return found


def _matrix(name: str, values: Any) -> Floats:
    found = real_array(values, name)
    if found.ndim not in (1, 2) or not found.size:
        raise InputError(f"{name} has the wrong shape", expected="rows and columns", got=found.shape)
    return found
