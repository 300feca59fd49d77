"""What every point neuron says about itself: its state, one time step in torch, and its equations for Brian2."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch

from neuros_mechint.core.errors import InputError, OptionError, number
from neuros_mechint.core.numbers import graph_tensor, refuse_not_finite
from neuros_mechint.neuro.biophysics.neurons.arithmetic import like, not_negative, where

State = Mapping[str, torch.Tensor]
"""Value of each state variable, by name; all of one shape ``(..., n_neurons)``."""

Spike = Callable[[torch.Tensor], torch.Tensor]
"""From how far a neuron is above threshold to its spikes, 0 or 1: a hard step, or one with a surrogate gradient."""


def hard_spike(above: torch.Tensor) -> torch.Tensor:
    """Return 1 where a neuron is above its threshold, in the type of what came.

    Examples
    --------
    >>> hard_spike(torch.tensor([-1.0, 0.0, 2.0]))
    tensor([0., 0., 1.])
    """
    return like(above > 0, above)


@dataclass(frozen=True)
class Brian2Text:
    """One neuron in the words of Brian2; text and numbers only, so that nothing needs Brian2 to read it.

    Parameters
    ----------
    equations : str
        Differential equations and subexpressions, in which ``I`` is the external current and ``I_synapses`` that of
        the synapses; whoever builds the group defines both.
    threshold, reset : str
        Conditions and statements of the ``NeuronGroup``.
    method : str
        Integrator: the one that the step of torch writes out.
    constants : dict of str to (float, str)
        Number and unit of each name in the equations, such as ``{"tau": (20.0, "ms")}``; unit ``"1"`` for none.
    refractory : str, optional
        How long, or under which condition, a neuron does not fire again.
    """

    equations: str
    threshold: str
    reset: str
    method: str
    constants: Mapping[str, tuple[float, str]] = field(default_factory=dict[str, tuple[float, str]])
    refractory: str | None = None


@dataclass(frozen=True)
class PointNeuron(ABC):
    """Base of the point neurons: a frozen set of parameters that knows its own dynamics.

    The dynamics hold the input constant over a time step. Synapses enter as ``current - conductance * v``: a
    conductance of reversal potential ``E`` adds itself to ``conductance`` and ``E`` times itself to ``current``.
    The equations take NumPy's arrays as well, where no gradients are wanted.
    Times are in ms, potentials in mV, currents in pA, conductances in nS, capacitances in pF. Parameters may be
    arrays or tensors of shape ``(n_neurons,)``: neurons that differ, or that learn.
    """

    units: ClassVar[Mapping[str, str]]
    """Unit of each state variable; ``v`` is the potential."""

    method: ClassVar[str]
    """Brian2's name of the integrator that `step` writes out."""

    @property
    @abstractmethod
    def largest_step(self) -> float:
        """The time step in ms above which the integrator is unstable or leaves the model's own time scales."""

    @abstractmethod
    def initial_state(self, *shape: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
        """Return the state at rest, each variable of the given shape ``(..., n_neurons)``.

        Raises
        ------
        InputError
            Parameters of another number of neurons.
        """

    @abstractmethod
    def step(
        self,
        state: State,
        current: torch.Tensor,
        dt: float,
        conductance: torch.Tensor | None = None,
        spike: Spike = hard_spike,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Advance by ``dt`` ms, find who spikes, and reset them.

        Parameters
        ----------
        state : mapping of str to torch.Tensor of shape (..., n_neurons)
        current : torch.Tensor of shape (..., n_neurons)
            Held constant over the step.
        dt : float
            Time step in ms.
        conductance : torch.Tensor of shape (..., n_neurons), optional
            Of all synapses together.
        spike : callable
            Hard step, or one with a surrogate gradient.

        Returns
        -------
        state : dict of str to torch.Tensor
            After the reset.
        spikes : torch.Tensor of shape (..., n_neurons)
            0 or 1.
        """

    @abstractmethod
    def brian2_text(self) -> Brian2Text:
        """Return the same neuron in the words of Brian2."""

    def check_step(self, dt: float) -> float:
        """Return a time step of ``dt`` ms; raise `OptionError` if it is not positive, or too long for this neuron."""
        step = float(number("dt", dt, 0, math.inf, closed="neither"))
        if step > self.largest_step * (1 + 1e-6):  # single precision rounds up
            raise OptionError(
                f"dt is too long for {type(self).__name__}",
                expected=f"at most {self.largest_step:.4g} ms",
                got=f"{step:g} ms",
                fix="take a shorter time step; above this one the numbers say nothing about the neuron",
            )
        return step

    def check_number(self, n_neurons: int) -> None:
        """Raise `InputError` if a parameter is that of another number of neurons."""
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor) and value.numel() not in (1, n_neurons):
                raise InputError(
                    f"{name} of {type(self).__name__} is that of another number of neurons",
                    expected=f"one number, or shape ({n_neurons},)",
                    got=f"shape {tuple(value.shape)}",
                )

    def _check_positive(self, *names: str) -> None:
        for name in names:
            self._check(name, bool((self._numbers(name) > 0).all()), "above 0")

    def _check_not_negative(self, *names: str) -> None:
        for name in names:
            self._check(name, bool((self._numbers(name) >= 0).all()), "of at least 0")

    def _check_below(self, name: str, bound: float) -> None:
        self._check(name, bool((self._numbers(name) < bound).all()), f"below {bound:g}")

    def _check(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            problem, got = f"{name} of {type(self).__name__} is not physical", repr(getattr(self, name))
            raise OptionError(problem, expected=f"a number {wanted}", got=got)

    def _take_numbers(self) -> None:
        """Keep arrays and lists as tensors; raise `InputError` if a parameter is no number, or not finite."""
        for parameter in fields(self):
            if parameter.type != "str":
                object.__setattr__(self, parameter.name, self._taken(parameter.name, parameter.type == "float"))
        sizes = {
            name: value.numel()
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor) and value.numel() > 1
        }
        if len(set(sizes.values())) > 1:
            raise InputError(
                f"parameters of {type(self).__name__} are those of several numbers of neurons",
                expected="one number each, or as many as there are neurons",
                got=", ".join(f"{name}: {size}" for name, size in sizes.items()),
            )

    def _taken(self, name: str, single: bool) -> Any:
        value, called = getattr(self, name), f"{name} of {type(self).__name__}"
        if type(value) is float and math.isfinite(value):
            return value
        if isinstance(value, (bool, np.bool_)):
            raise InputError(f"{called} is no number", expected="a number, or an array of them", got=repr(value))
        tensor = graph_tensor(value, called)
        if tensor.ndim > 1 or not tensor.numel() or (single and tensor.ndim):
            raise InputError(
                f"{called} has the wrong shape",
                expected="one number for all neurons" if single else "one number, or (n_neurons,)",
                got=f"shape {tuple(tensor.shape)}",
            )
        refuse_not_finite(tensor, called)
        if isinstance(value, Real) or single:
            return value if isinstance(value, int) else float(tensor)
        return tensor

    def _numbers(self, name: str) -> torch.Tensor:
        return torch.as_tensor(getattr(self, name), dtype=torch.float64).detach()

    def _constants(self, units: Mapping[str, str]) -> dict[str, tuple[float, str]]:
        """Return these parameters with their units, each as one number, as Brian2 has constants."""
        constants: dict[str, tuple[float, str]] = {}
        for name, unit in units.items():
            numbers = self._numbers(name).flatten()
            if not bool((numbers == numbers[0]).all()):
                raise InputError(
                    f"neurons differ in {name}",
                    expected="one number for the group",
                    got=f"{numbers.numel()} different numbers",
                    fix="give one group per kind of neuron",
                )
            constants[name] = (float(numbers[0]), unit)
        return constants


def free_spikes(above: torch.Tensor, free: torch.Tensor, spike: Spike) -> torch.Tensor:
    """Return the spikes of the neurons that are free to fire."""
    return like((above > 0) & free, above) if spike is hard_spike else spike(above) * free


def reset_to(v: torch.Tensor, spikes: torch.Tensor, potential: Any, spike: Spike) -> torch.Tensor:
    """Return the potential after the reset; with a surrogate gradient the reset is differentiable as well."""
    if spike is not hard_spike:
        return v * (1 - spikes) + potential * spikes  # exactly the one or the other where spikes are 0 or 1
    return where(spikes > 0, potential, v)


def still_waiting(waiting: torch.Tensor, spikes: torch.Tensor, refractory: float, dt: float) -> torch.Tensor:
    """Return how long neurons stay refractory after this step, in which the spikes fell; ms.

    Brian2 counts the step of the spike as the first one of waiting, and whole steps only.
    """
    whole_steps = math.floor(refractory / dt + 1e-3) * dt  # rounded as Brian2 does
    return not_negative(where(spikes > 0, whole_steps, waiting) - dt)
