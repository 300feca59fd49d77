"""Move a state one step on, and small perturbations of it along with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from neuros_mechint.neuro.dynamics.lyapunov.tangent_graph import flattened
from neuros_mechint.neuro.dynamics.systems import System

PushFunction = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""``push(states, tangents[, inputs])``: next states ``(batch, n_states)``, tangents ``(tangent, batch, n_states)``."""

# Without flattening, the whole Jacobian costs less than single directions do.
_FEW_STATES = 16
AGREES = {torch.float64: 1e-7, torch.float32: 1e-3}
"""Of the largest number, or of 1: two ways to compute one step may differ by so much."""
_LONGEST_REASON = 160


@dataclass(frozen=True)
class Push:
    """How perturbations are moved, and why not in a faster way.

    Parameters
    ----------
    function : callable
    route : {"flattened", "directions", "jacobians"}
    reason : str or None
        Why it is not flattened.
    """

    function: PushFunction
    route: str
    reason: str | None = None


def choose_push(
    system: System, states: torch.Tensor, tangents: torch.Tensor, inputs: torch.Tensor | None = None
) -> Push:
    """Return the fastest way to move tangents that agrees with the Jacobian.

    Parameters
    ----------
    system : System
    states : torch.Tensor of shape (batch, n_states)
    tangents : torch.Tensor of shape (tangent, batch, n_states)
    inputs : torch.Tensor of shape (batch, n_inputs), optional

    Returns
    -------
    Push

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda state: state**2, [[3.0, 1.0]])
    >>> push = choose_push(system, states, torch.tensor([[[1.0, 0.0]]], dtype=torch.float64))
    >>> push.route, [moved.tolist() for moved in push.function(states, torch.ones(2, 1, 2, dtype=torch.float64)[:1])]
    ('flattened', [[[9.0, 1.0]], [[[6.0, 2.0]]]])
    """
    given = () if inputs is None else (inputs,)
    by_jacobian, by_direction = jacobian_push(system), direction_push(system)
    if not system.transformable:
        return Push(by_jacobian, "jacobians", "torch.func cannot transform the step")
    expected = by_jacobian(states[:1], tangents[:, :1], *(values[:1] for values in given))
    reason = "the flattened step gave another result"
    try:
        flat = flattened(by_direction, states, tangents, *given).forward
        if _both_agree(flat(states, tangents, *given), expected):
            return Push(flat, "flattened")
    except Exception as error:  # tracing raises errors of many classes; the other ways need no tracing
        reason = in_short(error)
    if system.n_states <= _FEW_STATES or not _directions_work(by_direction, states, tangents, given, expected):
        return Push(by_jacobian, "jacobians", reason)
    return Push(by_direction, "directions", reason)


def _directions_work(
    push: PushFunction,
    states: torch.Tensor,
    tangents: torch.Tensor,
    given: tuple[torch.Tensor, ...],
    expected: tuple[torch.Tensor, torch.Tensor],
) -> bool:
    try:
        return _both_agree(push(states, tangents, *given), expected)
    except (RuntimeError, NotImplementedError):  # an operation without a forward derivative
        return False


def _both_agree(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return agree(found[0][:1], expected[0]) and agree(found[1][:, :1], expected[1])


def agree(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether two ways to compute one step gave the same.

    Examples
    --------
    >>> agree(torch.tensor([2.0, 1e-5]), torch.tensor([2.0, 0.0]))
    True
    """
    tolerance = AGREES[expected.dtype] * expected.abs().max().clamp_min(1)
    return bool((found - expected).abs().max() <= tolerance)


def in_short(error: Exception) -> str:
    """Return class and first line of an error, for a reason.

    Examples
    --------
    >>> in_short(ValueError("no"))
    'ValueError: no'
    """
    return f"{type(error).__name__}: {error}".splitlines()[0][:_LONGEST_REASON]


def direction_push(system: System) -> PushFunction:
    """Return a push by forward differentiation along each tangent: nothing of the size of the Jacobian is made."""

    def push(states: torch.Tensor, tangents: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = inputs[0] if inputs else None

        def along(direction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            after, moved = torch.func.jvp(lambda rows: system.raw(rows, given), (states,), (direction,))[:2]
            return after, moved

        return torch.func.vmap(along, out_dims=(None, 0))(tangents)  # pyright: ignore[reportArgumentType]

    return push


def jacobian_push(system: System) -> PushFunction:
    """Return a push by the Jacobian of each state."""

    def push(states: torch.Tensor, tangents: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = inputs[0] if inputs else None
        moved = tangents.permute(1, 0, 2) @ system.jacobians(states, given).mT
        with torch.no_grad():
            return system(states, given), moved.permute(1, 0, 2).contiguous()

    return push
