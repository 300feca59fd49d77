"""A layer of leaky integrate-and-fire neurons over all time steps at once, with its gradient written out.

The numbers are those of `LIF.step`, operation by operation. Automatic differentiation would keep a dozen nodes per time
step; backpropagation through time needs two products per step, over values that are made for all steps together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.biophysics.spiking.surrogate import Surrogate

_IN_CACHE = 2**16
"""Numbers that are worked on together in the backward pass."""


class _Answer(NamedTuple):
    """How, in one time step, spikes and the potential after the reset answer to the potential before it."""

    time: int
    slope: torch.Tensor
    passed: torch.Tensor


@dataclass(frozen=True)
class LayerPlan:
    """What is not learned in a layer.

    Parameters
    ----------
    rest, threshold, reset, resistance : float or tensor
        Of the neurons (see `LIF`).
    synaptic_decay : float
        Share of the synaptic current that is left after a time step; 0 for pulses.
    lag : int
        Time steps from a spike to its effect within the layer.
    surrogate : Surrogate
    truncate : int, optional
        Gradients do not cross the borders between so many time steps.
    """

    rest: Any
    threshold: Any
    reset: Any
    resistance: Any
    synaptic_decay: float
    lag: int
    surrogate: Surrogate
    truncate: int | None

    def starts_chunk(self, time: int) -> bool:
        """Return whether gradients stop before a time step."""
        return self.truncate is not None and time % self.truncate == 0

    def same_chunk(self, one: int, other: int) -> bool:
        """Return whether gradients flow between two time steps."""
        return self.truncate is None or one // self.truncate == other // self.truncate


def spikes_of_layer(
    arriving: torch.Tensor,
    decay: torch.Tensor,
    bias: torch.Tensor | None,
    recurrent: torch.Tensor | None,
    plan: LayerPlan,
) -> torch.Tensor:
    """Return the spikes of a layer that starts at rest.

    Parameters
    ----------
    arriving : torch.Tensor of shape (time, sample, n_units)
        What the spikes of other layers add to the synapses in each step, pA.
    decay : torch.Tensor of shape () or (n_units,)
        Share of a deviation of the potential that is left after a time step.
    bias : torch.Tensor of shape (n_units,), optional
        A constant current, pA.
    recurrent : torch.Tensor of shape (n_units, n_units), optional
        Weights (target, source) within the layer, pA.
    plan : LayerPlan

    Returns
    -------
    torch.Tensor of shape (time, sample, n_units)

    Raises
    ------
    InputError
        Potentials that are not finite at the end.

    Examples
    --------
    >>> from neuros_mechint.neuro.biophysics.spiking.surrogate import Arctan
    >>> plan = LayerPlan(0.0, 1.0, 0.0, 1.0, 0.0, 1, Arctan(), None)
    >>> spikes_of_layer(torch.full((4, 1, 1), 1.5), torch.tensor(0.5), None, None, plan)[:, 0, 0]
    tensor([0., 1., 0., 1.])
    """
    spikes = _Layer.apply(arriving, decay, bias, recurrent, plan)
    assert isinstance(spikes, torch.Tensor)
    return spikes


class _Layer(torch.autograd.Function):
    """Forward keeps the potentials before the reset; backward goes through time once."""

    @staticmethod
    def forward(
        ctx: Any,
        arriving: torch.Tensor,
        decay: torch.Tensor,
        bias: torch.Tensor | None,
        recurrent: torch.Tensor | None,
        plan: LayerPlan,
    ) -> torch.Tensor:
        before_reset, spikes = torch.empty_like(arriving), torch.empty_like(arriving)
        v: torch.Tensor = torch.zeros_like(arriving[0]) + plan.rest
        synaptic = torch.zeros_like(v)
        for time, now in enumerate(arriving):
            if recurrent is not None and time >= plan.lag:
                now = torch.addmm(now, spikes[time - plan.lag], recurrent.T)
            if plan.synaptic_decay:
                synaptic = now = synaptic.mul_(plan.synaptic_decay).add_(now)
            towards = _towards(now, bias, plan)
            after = torch.sub(v, towards, out=before_reset[time]).mul_(decay).add_(towards)
            if plan.surrogate.graded:
                spikes[time] = fired = plan.surrogate.value(after - plan.threshold)
                v = after * (1 - fired) + plan.reset * fired
            else:  # comparisons into numbers: those into bool, and what reads them, take ten times as long
                fired = torch.gt(after, plan.threshold, out=spikes[time])
                v = _added(torch.addcmul(after, after, fired, value=-1), plan.reset, fired)
        if not bool(torch.isfinite(v).all()):  # NaN is above no threshold: the layer would be silent
            raise InputError(
                "LIF leaves all bounds",
                expected="finite potentials",
                fix="look for weights that are NaN or infinite, as training with too large steps leaves them",
            )
        ctx.save_for_backward(before_reset, spikes, decay, bias, recurrent)
        ctx.plan = plan
        return spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        before_reset, spikes, decay, bias, recurrent = ctx.saved_tensors
        plan: LayerPlan = ctx.plan
        backwards = _backwards(before_reset, spikes, plan)
        gain = (1 - decay) * plan.resistance
        of_arriving = of_decay = of_bias = of_recurrent = None
        if recurrent is None and not plan.synaptic_decay:
            of_potential = _through_time(gradients[0], backwards, decay, plan)
        else:
            of_potential, of_arriving = _through_synapses(gradients[0], backwards, decay, gain, recurrent, plan)
        if ctx.needs_input_grad[1]:
            of_decay = _of_decay(of_potential, before_reset, spikes, decay, plan)
        of_current = of_potential.mul_(gain)
        if bias is not None and ctx.needs_input_grad[2]:
            of_bias = of_current.sum((0, 1))
        of_arriving = of_current if of_arriving is None else of_arriving
        if recurrent is not None and ctx.needs_input_grad[3]:
            sources, targets = spikes[: -plan.lag].flatten(0, 1), of_arriving[plan.lag :].flatten(0, 1)
            of_recurrent = targets.T @ sources
        return of_arriving, of_decay, of_bias, of_recurrent, None


def _towards(current: torch.Tensor, bias: torch.Tensor | None, plan: LayerPlan) -> torch.Tensor:
    """Return the potential at which the membrane would settle under a current."""
    current = current if bias is None else current + bias
    if isinstance(plan.resistance, torch.Tensor) or plan.resistance != 1:
        current = current * plan.resistance
    return current + plan.rest if isinstance(plan.rest, torch.Tensor) or plan.rest != 0 else current


def _added(v: torch.Tensor, reset: Any, fired: torch.Tensor) -> torch.Tensor:
    return v.add_(reset * fired) if isinstance(reset, torch.Tensor) or reset != 0 else v


def _backwards(before_reset: torch.Tensor, spikes: torch.Tensor, plan: LayerPlan) -> Iterator[_Answer]:
    """Yield each time step from the last to the first; made for as many at once as stay in the processor's cache."""
    n_times, n_together = len(before_reset), max(1, _IN_CACHE // max(1, before_reset[0].numel()))
    for end in range(n_times, 0, -n_together):
        start = max(end - n_together, 0)
        before = before_reset[start:end]
        slopes = plan.surrogate.derivative(before - plan.threshold)
        passed = (plan.reset - before).mul_(slopes).add_(1).sub_(spikes[start:end])
        for time in range(end - 1, start - 1, -1):
            yield _Answer(time, slopes[time - start], passed[time - start])


def _through_time(
    gradient: torch.Tensor, backwards: Iterable[_Answer], decay: torch.Tensor, plan: LayerPlan
) -> torch.Tensor:
    """Return derivatives by the potentials before the reset."""
    found = torch.empty_like(gradient)
    carried = torch.zeros_like(gradient[0])
    for time, slope, passed in backwards:
        torch.mul(gradient[time], slope, out=found[time]).addcmul_(carried, passed)
        if plan.starts_chunk(time):
            carried.zero_()
        else:
            torch.mul(found[time], decay, out=carried)
    return found


def _through_synapses(
    gradient: torch.Tensor,
    backwards: Iterable[_Answer],
    decay: torch.Tensor,
    gain: torch.Tensor,
    recurrent: torch.Tensor | None,
    plan: LayerPlan,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return derivatives by the potentials before the reset, and by what arrives at the synapses."""
    found, of_arriving = torch.empty_like(gradient), torch.empty_like(gradient)
    carried, synaptic = torch.zeros_like(gradient[0]), torch.zeros_like(gradient[0])
    n_times = len(gradient)
    for time, slope, passed in backwards:
        of_spike, later = gradient[time], time + plan.lag
        if recurrent is not None and later < n_times and plan.same_chunk(time, later):
            of_spike = torch.addmm(of_spike, of_arriving[later], recurrent)
        torch.mul(of_spike, slope, out=found[time]).addcmul_(carried, passed)
        torch.addcmul(synaptic, found[time], gain, out=of_arriving[time])
        if plan.starts_chunk(time):
            carried.zero_()
            synaptic.zero_()
        else:
            torch.mul(found[time], decay, out=carried)
            torch.mul(of_arriving[time], plan.synaptic_decay, out=synaptic)
    return found, of_arriving


def _of_decay(
    of_potential: torch.Tensor, before_reset: torch.Tensor, spikes: torch.Tensor, decay: torch.Tensor, plan: LayerPlan
) -> torch.Tensor:
    v = torch.empty_like(before_reset)
    v[0] = plan.rest
    v[1:] = before_reset[:-1] * (1 - spikes[:-1]) + plan.reset * spikes[:-1]
    deviation = (v - before_reset) / (1 - decay)  # of the potential from where it was going, before the step
    products = (of_potential * deviation).sum((0, 1))
    return products if decay.ndim else products.sum()
