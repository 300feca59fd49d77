"""A layer of leaky integrate-and-fire neurons over all time steps at once, with its gradient written out.

The numbers are those of `LIF.step`, operation by operation. Automatic differentiation would keep a dozen nodes per time
step; backpropagation through time needs two products per step, over values that are made for all steps together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.neuro.biophysics.spiking.surrogate import Surrogate


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
            else:
                fired = after > plan.threshold
                spikes[time] = fired
                v = torch.where(fired, plan.reset, after)
        ctx.save_for_backward(before_reset, spikes, decay, bias, recurrent)
        ctx.plan = plan
        return spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        before_reset, spikes, decay, bias, recurrent = ctx.saved_tensors
        plan: LayerPlan = ctx.plan
        slope = plan.surrogate.derivative(before_reset - plan.threshold)
        # how the potential after the reset answers to the one before it, by itself and through the spike
        passed = (plan.reset - before_reset).mul_(slope).add_(1).sub_(spikes)
        gain = (1 - decay) * plan.resistance
        if recurrent is None and not plan.synaptic_decay:
            of_potential = _through_time(gradients[0] * slope, passed, decay, plan)
            of_current = of_potential * gain
            of_arriving = of_current
        else:
            found = _through_synapses(gradients[0], slope, passed, decay, gain, recurrent, plan)
            of_potential, of_arriving = found
            of_current = of_potential * gain
        of_decay = of_bias = of_recurrent = None
        if ctx.needs_input_grad[1]:
            of_decay = _of_decay(of_potential, before_reset, spikes, decay, plan)
        if bias is not None and ctx.needs_input_grad[2]:
            of_bias = of_current.sum((0, 1))
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


def _through_time(direct: torch.Tensor, passed: torch.Tensor, decay: torch.Tensor, plan: LayerPlan) -> torch.Tensor:
    """Return derivatives by the potentials before the reset; ``direct`` is what reaches them within their own step."""
    found = torch.empty_like(direct)
    carried = torch.zeros_like(direct[0])
    for time in range(len(direct) - 1, -1, -1):
        torch.addcmul(direct[time], carried, passed[time], out=found[time])
        if plan.starts_chunk(time):
            carried.zero_()
        else:
            torch.mul(found[time], decay, out=carried)
    return found


def _through_synapses(
    gradient: torch.Tensor,
    slope: torch.Tensor,
    passed: torch.Tensor,
    decay: torch.Tensor,
    gain: torch.Tensor,
    recurrent: torch.Tensor | None,
    plan: LayerPlan,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return derivatives by the potentials before the reset, and by what arrives at the synapses."""
    found, of_arriving = torch.empty_like(gradient), torch.empty_like(gradient)
    carried, synaptic = torch.zeros_like(gradient[0]), torch.zeros_like(gradient[0])
    n_times = len(gradient)
    for time in range(n_times - 1, -1, -1):
        of_spike, later = gradient[time], time + plan.lag
        if recurrent is not None and later < n_times and plan.same_chunk(time, later):
            of_spike = torch.addmm(of_spike, of_arriving[later], recurrent)
        torch.mul(of_spike, slope[time], out=found[time]).addcmul_(carried, passed[time])
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
