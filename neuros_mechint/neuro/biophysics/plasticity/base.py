"""What every plasticity rule says about itself: its traces, one time step in torch, and its text for Brian2."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch

from neuros_mechint.core.errors import InputError, OptionError, number
from neuros_mechint.core.numbers import graph_tensor, refuse_not_finite

Traces = Mapping[str, torch.Tensor]
"""What a rule remembers of the past, by name: per source ``(n_source,)`` or per target ``(n_target,)``."""


@dataclass(frozen=True)
class SynapseText:
    """One rule in the words of a Brian2 ``Synapses``; text and numbers only, so that nothing needs Brian2 to read it.

    Parameters
    ----------
    model : str
        Variables of the synapse; the weight is ``w``.
    on_pre, on_post : str
        Statements at a spike of the source and of the target; empty for none.
    constants : dict of str to (float, str)
        Number and unit of each name, such as ``{"tau_plus": (20.0, "ms")}``; unit ``"1"`` for none.
    method : str
        Integrator of the variables that are not event-driven.
    each_step : str
        What happens to all synapses once they are integrated.
    """

    model: str
    on_pre: str
    on_post: str
    constants: Mapping[str, tuple[float, str]] = field(default_factory=dict[str, tuple[float, str]])
    method: str = "euler"
    each_step: str = ""


@dataclass(frozen=True)
class PlasticityRule(ABC):
    """Base of the rules: a frozen set of parameters that knows how weights change.

    Weights are ``(n_target, n_source)``, as those of a torch layer. Within one time step all traces decay first, then
    the sources act, then the targets: the order of Brian2.
    """

    @abstractmethod
    def start(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the traces of a synapse that nothing has happened to."""

    @abstractmethod
    def step(
        self, weights: torch.Tensor, traces: Traces, source: torch.Tensor, target: torch.Tensor, dt: float
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Advance by one time step.

        Parameters
        ----------
        weights : torch.Tensor of shape (n_target, n_source)
        traces : mapping of str to torch.Tensor
            As `start` and this method return them.
        source, target : torch.Tensor of shape (n_source,) and (n_target,)
            Activity within the step: spikes, 0 or 1, or what the rule says.
        dt : float
            Time step in ms.

        Returns
        -------
        weights : torch.Tensor of shape (n_target, n_source)
        traces : dict of str to torch.Tensor
        """

    @abstractmethod
    def brian2_text(self) -> SynapseText:
        """Return the same rule in the words of Brian2."""

    def run(self, weights: Any, source: Any, target: Any, dt: float) -> torch.Tensor:
        """Return the weights after activity that is known beforehand.

        Parameters
        ----------
        weights : array of shape (n_target, n_source)
            At the beginning; not changed.
        source, target : array of shape (n_times, n_source) and (n_times, n_target)
            Activity in each time step: spikes, 0 or 1, or what the rule says.
        dt : float
            Time step in ms.

        Returns
        -------
        torch.Tensor of shape (n_target, n_source)

        Raises
        ------
        InputError
            Shapes that do not belong together, numbers that are not finite, weights outside the bounds of the rule, or
            that leave all bounds.
        OptionError
            A time step that is not positive.
        """
        number("dt", dt, 0, math.inf, closed="neither")
        now = finite("weights", weights, 2)
        before, after = finite("source", source, 2).to(now.dtype), finite("target", target, 2).to(now.dtype)
        if before.shape != (len(after), now.shape[1]) or after.shape[1] != now.shape[0]:
            raise InputError(
                "activity and weights do not belong together",
                expected="source (n_times, n_source), target (n_times, n_target), weights (n_target, n_source)",
                got=f"source {tuple(before.shape)}, target {tuple(after.shape)}, weights {tuple(now.shape)}",
            )
        self._check_activity(before, after)
        self.check_weights(now)
        traces = self.start(now)
        for one, other in zip(before, after, strict=True):
            now, traces = self.step(now, traces, one, other, dt)
        if not bool(torch.isfinite(now).all()):
            raise InputError(
                "the weights leave all bounds",
                expected="weights that stay finite",
                fix="make rates smaller or the rule slower, or give it bounds w_min and w_max",
            )
        return now

    def check_weights(self, weights: torch.Tensor) -> None:
        """Raise `InputError` where weights begin outside the bounds of the rule, onto which they would jump."""
        least, most = getattr(self, "w_min", -math.inf), getattr(self, "w_max", math.inf)
        outside = (weights < least) | (weights > most)
        if bool(outside.any()):
            raise InputError(
                "weights lie outside the bounds of the rule",
                expected=f"from w_min = {least:g} to w_max = {most:g}",
                got=f"{int(outside.sum())} of {weights.numel()} outside, such as {float(weights[outside][0]):g}",
            )

    def _check_activity(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Raise `InputError` unless all activity is spikes; rules of rates override it."""
        refuse_no_spikes("source", source)
        refuse_no_spikes("target", target)


def refuse_no_spikes(name: str, activity: torch.Tensor) -> None:
    """Raise `InputError` unless all activity is spikes."""
    if not bool(((activity == 0) | (activity == 1)).all()):
        raise InputError(
            f"{name} holds something else than spikes",
            expected="0 or 1 in each time step",
            got=f"values from {float(activity.min()):.4g} to {float(activity.max()):.4g}",
            fix="take a time step so short that a neuron fires at most once in it",
        )


def decay(dt: float, tau: float) -> float:
    """Return by which factor a trace of time constant ``tau`` shrinks within ``dt``."""
    return math.exp(-dt / tau)


def finite(name: str, values: Any, n_axes: int | None = None) -> torch.Tensor:
    """Return values as real torch numbers, of ``n_axes`` axes if that is given; raise `InputError` on anything else."""
    tensor = graph_tensor(values, name)
    if not tensor.numel() or tensor.ndim != (tensor.ndim if n_axes is None else n_axes):
        expected = "at least one number" if n_axes is None else f"{n_axes} axes"
        raise InputError(f"{name} have the wrong shape", expected=expected, got=f"shape {tuple(tensor.shape)}")
    refuse_not_finite(tensor, name)
    return tensor


def check_positive(rule: object, *names: str) -> None:
    """Raise `OptionError` unless these parameters of a rule are numbers above 0."""
    for name in names:
        number(f"{name} of {type(rule).__name__}", getattr(rule, name), 0, math.inf, closed="neither")


def check_not_negative(rule: object, *names: str) -> None:
    """Raise `OptionError` unless these parameters of a rule are numbers of at least 0."""
    for name in names:
        number(f"{name} of {type(rule).__name__}", getattr(rule, name), 0, math.inf, closed="left")


def check_bounds(rule: object, least: float, most: float) -> None:
    """Raise `OptionError` unless weights have room between their bounds; infinite ones are no bounds."""
    for name, bound in (("w_min", least), ("w_max", most)):
        if not isinstance(bound, Real) or isinstance(bound, bool) or math.isnan(bound):
            problem = f"{name} of {type(rule).__name__} is no number"
            raise OptionError(problem, expected="a number; infinite for no bound", got=repr(bound))
    if not least < most:
        raise OptionError("bounds of the weights leave no room", expected="w_min < w_max", got=f"{least!r}, {most!r}")
