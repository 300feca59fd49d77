"""Dynamical systems: a step from each state to the next, checked once, with its Jacobians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import real_tensor

RawStep = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""``step(states, inputs or None)`` from ``(batch, n_states)`` to the same shape."""

# Rows computed together and alone differ by rounding, which nonlinear steps make a little larger.
_SAME = {torch.float64: 1e-8, torch.float32: 1e-3}
_SMALLEST = 1e-6  # of states whose size is that of their differences

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_PLACES, _NEAR, _WRONG = 4, 1e-4, 0.01
_IN_TORCH = "replace NumPy and .detach() in it by torch; what is a recording can be analysed as trajectories"
_FOR_ROWS = "write it for rows, states[:, 0] rather than state[0]; or wrap it: torch.vmap(step)"


@dataclass(frozen=True)
class System:
    """A step of a dynamical system, with the inputs that it is given; `as_system` makes and checks it.

    Parameters
    ----------
    raw : callable
        ``raw(states, inputs)`` with inputs None where there are none: a plain function, for `torch.func`.
    inputs : torch.Tensor of shape (batch, n_inputs) or None
        Held at every step, one row for each state.
    n_states : int
    name : str
    dt : float or None
        Time of one step, where the step says it.
    transformable : bool
        Whether `torch.func` can transform the step.

    Examples
    --------
    >>> system, states = as_system(lambda state: 0.5 * state, [[1.0, 2.0]])
    >>> system(states).tolist(), system.jacobians(states).tolist()
    ([[0.5, 1.0]], [[[0.5, 0.0], [0.0, 0.5]]])
    """

    raw: RawStep
    inputs: torch.Tensor | None
    n_states: int
    name: str = "step"
    dt: float | None = None
    transformable: bool = True

    def __repr__(self) -> str:
        """Return name and sizes."""
        inputs = "" if self.inputs is None else f", {self.inputs.shape[1]} inputs held"
        return f"System({self.name}: {self.n_states} states{inputs})"

    def __call__(self, states: torch.Tensor, inputs: torch.Tensor | None = None) -> torch.Tensor:
        """Return the next states ``(batch, n_states)``; without ``inputs``, those that are held are given."""
        return self.raw(states, self.inputs if inputs is None else inputs)

    def rows(self, index: Any) -> torch.Tensor | None:
        """Return the held inputs of some rows, or None."""
        return None if self.inputs is None else self.inputs[index]

    def jacobians(self, states: torch.Tensor, inputs: torch.Tensor | None = None) -> torch.Tensor:
        """Return the derivative of the next state with respect to the state, itself without gradient.

        Parameters
        ----------
        states : torch.Tensor of shape (batch, n_states)
        inputs : torch.Tensor of shape (batch, n_inputs), optional
            Those that are held by default.

        Returns
        -------
        torch.Tensor of shape (batch, n_states, n_states)
            Row i, column j: how next state i changes with state j.
        """
        inputs = self.inputs if inputs is None else inputs
        jacobians = _jacobians_together if self.transformable else _jacobians_of_copies
        return jacobians(self.raw, states, inputs)


def as_system(step: Any, states: Any, inputs: Any = None, differentiable: bool = True) -> tuple[System, torch.Tensor]:
    """Check a step on states, and return it as a system with the states as a batch.

    Parameters
    ----------
    step : callable, or an object with a method ``step``
        ``step(states)`` or ``step(states, inputs)``, for rows ``(batch, n_states)`` that do not depend on each other;
        also an adapted model with the capability "step".
    states : array_like or torch.Tensor of shape (batch, n_states) or (n_states,)
    inputs : array_like or torch.Tensor of shape (batch, n_inputs) or (n_inputs,), optional
        Held at every step.
    differentiable : bool
        Refuse a step that torch cannot differentiate.

    Returns
    -------
    system : System
    states : torch.Tensor of shape (batch, n_states)
        A copy; in float64 where the step takes it, else in float32.

    Raises
    ------
    InputError
        States or inputs that are no finite numbers or of the wrong shape; a step that changes the shape, is not
        finite, changes its argument, is random, mixes rows or cannot be differentiated. What the step itself raises
        later on comes through as it is.

    Examples
    --------
    >>> as_system(lambda state: state.sin(), [0.1, 0.2])[0]
    System(step: 2 states)
    """
    raw, name, dt = as_raw_step(step)
    rows = _as_rows(states, "states")
    held = None if inputs is None else _as_rows(inputs, "inputs")
    if held is not None and len(held) not in (1, len(rows)):
        if len(rows) > 1:
            raise InputError(
                "states and inputs do not match",
                expected=f"inputs (n_inputs,), or one row for each of {len(rows)} states",
                got=f"inputs of shape {tuple(held.shape)}",
            )
        rows = rows.expand(len(held), -1).clone()
    if held is not None:
        held = held.expand(len(rows), -1)
    try:
        rows, held = _in_its_precision(raw, rows, held)
        _check_step(raw, rows, held)
    except InputError as error:
        # a module with a cell inside may well be a step, so it is refused only where it is none
        if isinstance(step, nn.Module) and any(isinstance(part, _RECURRENT) for part in step.modules()):
            raise _no_step_of(step, got=error.problem) from error
        raise
    if differentiable:
        _check_differentiable(raw, rows[:1], None if held is None else held[:1])
    transformable = differentiable and _is_transformable(raw, rows[:1], None if held is None else held[:1])
    return System(raw, held, rows.shape[1], name, dt, transformable), rows


def transformed_jacobians(raw: RawStep, states: torch.Tensor, inputs: torch.Tensor | None) -> torch.Tensor:
    """Return Jacobians ``(batch, n_states, n_states)`` by `torch.func`, also to be traced or differentiated.

    Examples
    --------
    >>> transformed_jacobians(lambda states, inputs: states**2, torch.tensor([[1.0], [3.0]]), None).flatten().tolist()
    [2.0, 6.0]
    """

    def one(state: torch.Tensor, given: torch.Tensor | None) -> torch.Tensor:
        return raw(state[None], None if given is None else given[None])[0]

    return torch.func.vmap(torch.func.jacrev(one), in_dims=(0, None if inputs is None else 0))(states, inputs)


def _jacobians_together(raw: RawStep, states: torch.Tensor, inputs: torch.Tensor | None) -> torch.Tensor:
    """As the rows are independent, the gradient of one next state of all of them holds a row of every Jacobian."""
    batch, n_states = states.shape
    with torch.enable_grad():
        leaves = states.detach().clone().requires_grad_()
        after = raw(leaves, inputs)
        each = torch.eye(n_states, dtype=after.dtype, device=after.device)[:, None].expand(n_states, batch, n_states)
        (rows,) = torch.autograd.grad(after, leaves, each, is_grads_batched=True, allow_unused=True)
    return states.new_zeros(batch, n_states, n_states) if rows is None else rows.transpose(0, 1)


def _jacobians_of_copies(raw: RawStep, states: torch.Tensor, inputs: torch.Tensor | None) -> torch.Tensor:
    """Each state is stepped once for each row of its Jacobian: slower, and asks nothing of the step but a gradient."""
    batch, n_states = states.shape
    with torch.enable_grad():
        leaves = states.detach().repeat_interleave(n_states, 0).requires_grad_()
        after = raw(leaves, None if inputs is None else inputs.repeat_interleave(n_states, 0))
        each = torch.eye(n_states, dtype=after.dtype, device=after.device).repeat(batch, 1)
        (rows,) = torch.autograd.grad(after, leaves, each, allow_unused=True, materialize_grads=True)
    return rows.reshape(batch, n_states, n_states)


def as_raw_step(step: Any) -> tuple[RawStep, str, float | None]:
    """Return a step as a plain function of states and inputs, its name, and its time; nothing is run.

    Raises
    ------
    InputError
        No step, or a model without one.

    Examples
    --------
    >>> as_raw_step(torch.sin)[1:]
    ('sin', None)
    """
    if isinstance(step, _RECURRENT):
        raise _no_step_of(step)
    function: Any = getattr(step, "step", step)
    if not callable(function):
        raise InputError(
            "there is no step",
            expected="step(states) or step(states, inputs), or a model that was adapted",
            got=type(step).__name__,
        )
    capabilities = getattr(step, "capabilities", {"step"})
    if "step" not in capabilities:
        raise InputError(
            "this model cannot be run step by step",
            expected="the capability 'step'",
            got=f"capabilities {', '.join(sorted(capabilities))}",
        )
    module = getattr(step, "module", None)  # what an adapter wraps is what the user knows
    own = type(module if isinstance(module, nn.Module) else step).__name__
    name = own if function is not step else getattr(step, "__name__", own)
    dt = getattr(step, "dt", None)

    def raw(states: torch.Tensor, inputs: torch.Tensor | None) -> Any:
        return function(states) if inputs is None else function(states, inputs)

    return raw, "step" if name == "<lambda>" else name, None if dt is None else float(dt)


def _no_step_of(module: Any, got: str | None = None) -> InputError:
    return InputError(
        f"{type(module).__name__} is a module that runs over time, and no step of states",
        expected="step(states) or step(states, inputs), or an adapted model",
        got=got,
        fix="pass nm.adapt(module), whose states are those of its recurrent layers, with inputs=... of one time",
    )


def _as_rows(values: Any, name: str) -> torch.Tensor:
    tensor = real_tensor(values, name)
    if not 1 <= tensor.ndim <= 2 or not tensor.numel():
        raise InputError(
            f"{name} of the wrong shape",
            expected=f"(batch, n_{name}) or (n_{name},), with at least one number",
            got=tuple(tensor.shape),
            fix="flatten trials and times into rows: x.reshape(-1, x.shape[-1])" if tensor.ndim > 2 else None,
        )
    return torch.atleast_2d(tensor)


def _in_its_precision(
    raw: RawStep, states: torch.Tensor, inputs: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return states and inputs in double precision where the step takes it and gives it back, else in single."""
    failed: Exception | None = None
    for dtype in (torch.float64, torch.float32):
        rows, held = states.to(dtype), None if inputs is None else inputs.to(dtype)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                after = raw(rows.clone(), held)
        except InputError:
            raise
        except (RuntimeError, TypeError, IndexError, ValueError, AttributeError) as error:
            failed = failed or error
            continue
        if not isinstance(after, torch.Tensor) or after.dtype == dtype or dtype == torch.float32:
            return rows, held
    raise InputError(
        "the step cannot be called",
        expected=f"step(states{', inputs' if inputs is not None else ''}) in torch, states of shape "
        f"{tuple(states.shape)}",
        got=f"{type(failed).__name__}: {failed}",
        fix=_FOR_ROWS,
    ) from failed


def _check_step(raw: RawStep, states: torch.Tensor, inputs: torch.Tensor | None) -> None:
    given = states.clone()
    # what the check draws from torch's global generator is put back
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        after = raw(given, inputs)
        again = raw(states.clone(), inputs)
        _check_states(states, after)
        try:
            alone = raw(states[-1:].clone(), None if inputs is None else inputs[-1:])
        except Exception as error:  # state[1] where there is one row only
            raise InputError("the step fails on a single row", got=str(error), fix=_FOR_ROWS) from error
    if not torch.equal(given, states):
        raise InputError("the step changes the states it is given", fix="return new states: state + change")
    _check_same(
        states, after, again, "the step is random: two calls on one state differ", "switch noise and dropout off"
    )
    _check_same(
        states,
        after[-1:],
        alone,
        "rows of a batch depend on each other",
        "return for each row what it would give alone: no sums over the batch, no batch normalisation in training",
    )


def _check_states(states: torch.Tensor, after: Any) -> None:
    if not isinstance(after, torch.Tensor) or after.shape != states.shape:
        raise InputError(
            "the step does not return states",
            expected=f"a tensor of the shape that came in, {tuple(states.shape)}",
            got=tuple(after.shape) if isinstance(after, torch.Tensor) else type(after).__name__,
            fix=_FOR_ROWS,
        )
    if after.dtype not in _SAME:
        raise InputError(
            "the step does not return states",
            expected="real numbers of single or double precision",
            got=f"dtype {after.dtype}",
            fix="return them in the dtype of the states that come in",
        )
    finite = torch.isfinite(after).all(1)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise InputError(
            "the step is not finite",
            got=f"NaN or infinite from {int((~finite).sum())} of {len(states)} states, the first in row {row}",
            fix="start from states within the range of the system, or make dt smaller",
        )


def _check_same(states: torch.Tensor, expected: torch.Tensor, found: torch.Tensor, problem: str, fix: str) -> None:
    size = torch.maximum(expected.abs().max(), states.abs().max()).clamp_min(_SMALLEST)
    difference = (expected - found).abs().max() if found.shape == expected.shape else torch.tensor(float("inf"))
    if not difference <= _SAME[expected.dtype] * size:
        raise InputError(problem, expected="equal states", got=f"differences up to {difference:.3g}", fix=fix)


def _check_differentiable(raw: RawStep, states: torch.Tensor, inputs: torch.Tensor | None) -> None:
    failure = "its result has no gradient"
    with torch.enable_grad():
        try:
            after = raw(states.clone().requires_grad_(), inputs)
        except RuntimeError as error:  # .numpy() of what requires a gradient
            after, failure = states, str(error)
    if not after.requires_grad:
        _refuse_constant(raw, states, inputs)
        raise InputError(
            "the step cannot be differentiated",
            expected="a step in torch, from states to states",
            got=failure,
            fix=_IN_TORCH,
        )
    _check_gradient(raw, states, inputs)


def _refuse_constant(raw: RawStep, states: torch.Tensor, inputs: torch.Tensor | None) -> None:
    """Raise `InputError` where a step without gradient leads to the same state from wherever it begins."""
    given = None if inputs is None else inputs.expand(_PLACES, -1)
    places = states + (1 + states.abs().max()) * torch.arange(_PLACES).to(states)[:, None]
    with torch.no_grad():
        after = raw(places, given)
    if (after == after[:1]).all():
        raise InputError(
            "the step does not depend on the state: it leads from all states to the same one at once",
            expected="next states that are computed from the states that come in",
            got=f"the same next state from {_PLACES} states",
            fix="the state it returns is its one fixed point, and there is nothing to search",
        )


def _check_gradient(raw: RawStep, states: torch.Tensor, inputs: torch.Tensor | None) -> None:
    """Refuse a step part of which torch does not see, so that its gradient is finite and wrong.

    Differences tell, at one of a few places at least: at a kink both may be right.
    """
    if states.dtype != torch.float64:
        return
    rng = np.random.default_rng(0)
    size = float(states.abs().max()) or 1.0
    places = states + 0.01 * size * torch.from_numpy(rng.normal(size=(_PLACES, states.shape[1]))).to(states)
    along, weights = (torch.from_numpy(rng.normal(size=places.shape)).to(states) for _ in range(2))
    given = None if inputs is None else inputs.expand(_PLACES, -1)
    with torch.enable_grad():
        leaves = places.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((raw(leaves, given) * weights).sum(), leaves)
    slope = (gradient * along).sum(1)
    with torch.no_grad():
        before, after = (raw(places + sign * _NEAR * size * along, given) for sign in (-1, 1))
    change = ((after - before) * weights).sum(1) / (2 * _NEAR * size)
    scale = (gradient.norm(dim=1) * along.norm(dim=1)).clamp_min(change.abs())
    if ((slope - change).abs() > _WRONG * scale).all():
        raise InputError(
            "the gradient of the step is not how it changes",
            expected=f"changes by {float(change[0]):.4g}, as differences show",
            got=f"{float(slope[0]):.4g} by its gradient",
            fix=_IN_TORCH,
        )


def _is_transformable(raw: RawStep, states: torch.Tensor, inputs: torch.Tensor | None) -> bool:
    try:
        found = transformed_jacobians(raw, states, inputs)
    except Exception:  # whatever the step does, which torch.func does not know: each has an error of its own
        return False
    return bool(torch.allclose(found, _jacobians_of_copies(raw, states, inputs), rtol=1e-4, atol=1e-6))
