"""From a differential equation to a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from neuros_mechint.core.errors import InputError, number, whole


class RungeKutta4:
    """A step of the classical Runge-Kutta method of fourth order; `rk4` makes it.

    Parameters
    ----------
    derivative : callable
        ``derivative(states)`` or ``derivative(states, inputs)``.
    dt : float
        Time of the whole step.
    n_substeps : int
        Number of equal parts it is made of.

    Examples
    --------
    >>> import torch
    >>> step = RungeKutta4(lambda x: -x, dt=0.1, n_substeps=1)
    >>> step(torch.tensor([[1.0]], dtype=torch.float64)).item()
    0.9048375
    """

    def __init__(self, derivative: Callable[..., torch.Tensor], dt: float, n_substeps: int) -> None:
        self.derivative, self.dt, self.n_substeps = derivative, dt, n_substeps
        self.__name__ = getattr(derivative, "__name__", type(derivative).__name__)

    def __repr__(self) -> str:
        """Return derivative and time."""
        return f"rk4({self.__name__}, dt={self.dt:g}, n_substeps={self.n_substeps})"

    def __call__(self, states: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the states ``dt`` later; inputs are held in between."""
        h = self.dt / self.n_substeps
        for _ in range(self.n_substeps):
            first = self.derivative(states, *inputs)
            second = self.derivative(states + h / 2 * first, *inputs)
            third = self.derivative(states + h / 2 * second, *inputs)
            fourth = self.derivative(states + h * third, *inputs)
            states = states + h / 6 * (first + 2 * second + 2 * third + fourth)
        return states


def rk4(derivative: Callable[..., Any], dt: float, n_substeps: int = 1) -> RungeKutta4:
    r"""Return a step of a differential equation, by the classical Runge-Kutta method of fourth order.

    Its error over a given time falls with :math:`h^4`, :math:`h` = ``dt / n_substeps``: halve it to see whether a
    result depends on it.

    Parameters
    ----------
    derivative : callable
        ``derivative(states)`` or ``derivative(states, inputs)``: the change of states ``(batch, n_states)`` per unit
        of time, in torch.
    dt : float
        Time of one step.
    n_substeps : int
        Number of equal parts of the step, for the sake of accuracy.

    Returns
    -------
    RungeKutta4
        ``step(states[, inputs])``, with its ``dt``, which analyses then use as their unit of time.

    Raises
    ------
    InputError
        If ``derivative`` cannot be called, ``dt`` is not a number above 0, or there are no substeps.

    Examples
    --------
    >>> import torch
    >>> step = rk4(lambda x: -x, dt=0.1)
    >>> step
    rk4(<lambda>, dt=0.1, n_substeps=1)
    >>> abs(step(torch.ones(1, 1, dtype=torch.float64)).log().item() + 0.1) < 1e-7
    True
    """
    if not callable(derivative):
        raise InputError(
            "there is no derivative", expected="derivative(states) in torch", got=type(derivative).__name__
        )
    return RungeKutta4(derivative, number("dt", dt, 0, float("inf")), whole("n_substeps", n_substeps))
