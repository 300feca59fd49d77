"""Run a system forward."""

from __future__ import annotations

from typing import Any

import torch

from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.numbers import real_tensor
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.dynamics.systems import System, as_system


def simulate(
    step: Any,
    states: Any,
    n_steps: int,
    inputs: Any = None,
    discard: int = 0,
) -> torch.Tensor:
    """Return the states that a system runs through.

    Parameters
    ----------
    step : callable, or an object with a method ``step``
        ``step(states)`` or ``step(states, inputs)``; see `neuros_mechint.neuro.dynamics.systems.as_system`.
    states : array_like or torch.Tensor of shape (batch, n_states) or (n_states,)
        Where it starts.
    n_steps : int
        Number of steps, after those that are discarded.
    inputs : array_like or torch.Tensor, optional
        ``(n_inputs,)`` or ``(batch, n_inputs)`` held, or ``(batch, n_steps, n_inputs)`` for each step.
    discard : int
        Steps before the first that is returned; with inputs for each step these take the first of them.

    Returns
    -------
    torch.Tensor of shape (batch, n_steps, n_states)
        The state after each step; the initial states are not among them. Without gradient.

    Raises
    ------
    InputError
        If the step or the states are none, inputs for each step have another number of steps, or a state becomes
        infinite or NaN.

    Examples
    --------
    >>> simulate(lambda state: 0.5 * state, [[8.0]], n_steps=3).flatten().tolist()
    [4.0, 2.0, 1.0]
    """
    n_steps, discard = whole("n_steps", n_steps), whole("discard", discard, least=0)
    varying = inputs_of_steps(inputs)
    if varying is not None and varying.shape[1] != n_steps:
        raise InputError(
            "inputs do not fit the number of steps",
            expected=f"(batch, {n_steps}, n_inputs), or (batch, n_inputs) held",
            got=tuple(varying.shape),
        )
    system, now = as_system(step, states, inputs if varying is None else varying[:, 0], differentiable=False)
    found = now.new_empty(len(now), n_steps, system.n_states)
    with torch.no_grad():
        for index in progress_bar(range(-discard, n_steps), description="simulation"):
            given = None if varying is None else varying[:, max(index, 0)].to(now).expand(len(now), -1)
            now = system(now, given)
            if index >= 0:
                found[:, index] = now
    _check_finite(system, found)
    return found


def inputs_of_steps(inputs: Any) -> torch.Tensor | None:
    """Return inputs for each step ``(batch, n_steps, n_inputs)``, or None where they are held.

    Raises
    ------
    InputError
        Inputs that are no finite real numbers, or none at all for each step.

    Examples
    --------
    >>> inputs_of_steps([0.5, 0.5]) is None, tuple(inputs_of_steps([[[0.5], [0.7]]]).shape)
    (True, (1, 2, 1))
    """
    if inputs is None:
        return None
    given = real_tensor(inputs, "inputs")
    if given.ndim != 3:
        return None
    if not given.numel():
        raise InputError("inputs are empty", expected="(batch, n_steps, n_inputs)", got=tuple(given.shape))
    return given


def _check_finite(system: System, found: torch.Tensor) -> None:
    finite = torch.isfinite(found).all(2)
    if not finite.all():
        first = int((~finite).any(0).nonzero()[0])
        raise left_all_bounds(system, int((~finite).any(1).sum()), len(found), first)


def left_all_bounds(system: System, n_lost: int, n_trajectories: int, step: int) -> InputError:
    """Return the error for trajectories that become infinite or NaN.

    Examples
    --------
    >>> left_all_bounds(as_system(lambda state: state, [0.0])[0], 1, 3, 17).problem
    'step leaves all bounds'
    """
    return InputError(
        f"{system.name} leaves all bounds",
        got=f"{n_lost} of {n_trajectories} trajectories are infinite or NaN, from step {step} on",
        fix="start from states within the range of the system, or make dt smaller; of a differential equation, "
        "rk4(f, dt) makes a step",
    )
