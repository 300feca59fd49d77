"""One layer of a spiking network: neurons of one kind, and the synapses onto them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from neuros_mechint.core.errors import InputError, OptionError, check_option
from neuros_mechint.neuro.biophysics.neurons.arithmetic import exp
from neuros_mechint.neuro.biophysics.neurons.base import PointNeuron
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.spiking.fused import LayerPlan, spikes_of_layer
from neuros_mechint.neuro.biophysics.spiking.surrogate import Surrogate
from neuros_mechint.neuro.biophysics.synapses import CurrentSynapse, PulseSynapse, Synapse

_CORTICAL_DISTANCE = 15.0
"""From rest to threshold, mV, for neurons that have no fixed threshold."""


class Probe(nn.Identity):
    """A place in a layer that is passed in every time step, so that it can be read and edited.

    Examples
    --------
    >>> Probe()(torch.ones(1))
    tensor([1.])
    """


class SpikingLayer(nn.Module):
    """Neurons of one kind and the synapses onto them; built by `SpikingNeuralNetwork`.

    Parameters
    ----------
    n_sources, n_units : int
    neuron : PointNeuron
    synapse : Synapse
    dt : float
        Time step, ms.
    delay : int
        Time steps from a spike of the layer below to its effect here.
    recurrent : bool
        Whether units of the layer act on each other, one time step later at the earliest.
    bias : bool
        Whether each unit has a constant current of its own.
    learn : sequence of str
        Parameters of the neuron that are learned, one number per unit, kept above 0.
    surrogate : Surrogate
    truncate : int, optional
        Gradients do not cross the borders between so many time steps.
    scale : float, optional
        Standard deviation of the potential, mV, that one spike of every source together makes with the initial
        weights; by default the distance from rest to threshold.
    random : numpy.random.Generator

    Raises
    ------
    OptionError
        A time step too long for the neuron, a parameter that it lacks or that is not above 0.

    Examples
    --------
    >>> from neuros_mechint.neuro.biophysics.spiking.surrogate import Arctan
    >>> random = np.random.default_rng(0)
    >>> layer = SpikingLayer(3, 2, LIF(), PulseSynapse(), 1.0, 1, False, False, (), Arctan(), None, None, random)
    >>> layer(torch.ones(5, 4, 3)).shape
    torch.Size([5, 4, 2])
    """

    def __init__(
        self,
        n_sources: int,
        n_units: int,
        neuron: PointNeuron,
        synapse: Synapse,
        dt: float,
        delay: int,
        recurrent: bool,
        bias: bool,
        learn: Sequence[str],
        surrogate: Surrogate,
        truncate: int | None,
        scale: float | None,
        random: np.random.Generator,
    ) -> None:
        super().__init__()
        neuron.check_step(dt)
        neuron.check_number(n_units)
        self.n_sources, self.n_units, self.dt, self.delay, self.truncate = n_sources, n_units, dt, delay, truncate
        self.neuron, self.synapse, self.surrogate = neuron, synapse, surrogate
        size = (_distance(neuron) if scale is None else scale) / response_to_spike(neuron, synapse, dt)
        self.weight = nn.Parameter(_weights(n_units, n_sources, size, synapse, random))
        self.recurrent_weight = nn.Parameter(_weights(n_units, n_units, size, synapse, random)) if recurrent else None
        self.bias = nn.Parameter(torch.zeros(n_units)) if bias else None
        self.logarithms = nn.ParameterDict(
            {name: nn.Parameter(_logarithm(neuron, name, n_units)) for name in dict.fromkeys(learn)}
        )
        self.synapses, self.spikes, self.membrane = Probe(), Probe(), Probe()

    def extra_repr(self) -> str:
        """Return what the layer was made of."""
        delay = self.delay * self.dt
        return f"{self.n_sources}, {self.n_units}, {self.neuron}, {self.synapse}, dt={self.dt:g}, delay={delay:.6g}"

    @property
    def lag(self) -> int:
        """Time steps from a spike of the layer to its effect within the layer: at least one."""
        return max(1, self.delay)

    def current_neuron(self) -> PointNeuron:
        """Return the neuron with the parameters that have been learned, in the precision and place of the weights."""
        own = {
            field.name: getattr(self.neuron, field.name).to(self.weight)
            for field in fields(self.neuron)
            if isinstance(getattr(self.neuron, field.name), torch.Tensor)
        }
        learned = {name: logarithm.exp() for name, logarithm in self.logarithms.items()}
        return replace(self.neuron, **(own | learned)) if own or learned else self.neuron

    def forward(self, below: torch.Tensor) -> torch.Tensor:
        """Return the spikes of the layer, from rest.

        Parameters
        ----------
        below : torch.Tensor of shape (time, sample, n_sources)
            Spikes of the layer below.

        Returns
        -------
        torch.Tensor of shape (time, sample, n_units)
        """
        arriving = self._arriving(self._delayed(below))
        if self._plain():
            neuron = self.current_neuron()
            assert isinstance(neuron, LIF)
            decay = torch.as_tensor(exp(-self.dt * (1 / neuron.tau)), dtype=arriving.dtype, device=arriving.device)
            return spikes_of_layer(arriving, decay, self.bias, self.recurrent_weight, self._plan(neuron))
        return self._in_steps(arriving)

    def _arriving(self, spikes: torch.Tensor) -> torch.Tensor:
        if spikes.is_contiguous():
            return nn.functional.linear(spikes, self.weight)
        # what came as (sample, time, n_sources) would be copied to be multiplied in the order of time
        return nn.functional.linear(spikes.transpose(0, 1), self.weight).transpose(0, 1)

    def _delayed(self, below: torch.Tensor) -> torch.Tensor:
        if not self.delay:
            return below
        n_times = below.shape[0]
        earlier = below[: max(n_times - self.delay, 0)]
        if self.truncate is not None and earlier.requires_grad:
            times = torch.arange(len(earlier), device=below.device)
            same = times // self.truncate == (times + self.delay) // self.truncate
            earlier = torch.where(same[:, None, None], earlier, earlier.detach())
        return torch.cat([torch.zeros_like(below[: self.delay]), earlier])

    def _plain(self) -> bool:
        """Return whether the layer can be run over all time steps at once: known equations, and nobody looking on."""
        watched = any(
            probe._forward_hooks or probe._forward_pre_hooks for probe in (self.synapses, self.spikes, self.membrane)
        )
        known = type(self.neuron) is LIF and not self.neuron.refractory and set(self.logarithms) <= {"tau"}
        return known and type(self.synapse) in (PulseSynapse, CurrentSynapse) and not watched

    def _plan(self, neuron: LIF) -> LayerPlan:
        synaptic = 0.0 if isinstance(self.synapse, PulseSynapse) else self._synaptic_decay()
        about = (neuron.rest, neuron.threshold, neuron.reset, neuron.resistance)
        return LayerPlan(*about, synaptic, self.lag, self.surrogate, self.truncate)

    def _synaptic_decay(self) -> float:
        return float(self.synapse.decayed(torch.ones((), dtype=torch.float64), self.dt, self.neuron.method))

    def _in_steps(self, arriving: torch.Tensor) -> torch.Tensor:
        neuron, recurrent = self.current_neuron(), self.recurrent_weight
        started = neuron.initial_state(*arriving.shape[1:], dtype=arriving.dtype)
        state = {name: value.to(arriving.device) for name, value in started.items()}
        synaptic, fired = torch.zeros_like(arriving[0]), list[torch.Tensor]()
        for time, now in enumerate(arriving):
            if self.truncate is not None and time % self.truncate == 0:
                state, synaptic = {name: value.detach() for name, value in state.items()}, synaptic.detach()
            if recurrent is not None and time >= self.lag:
                now = torch.addmm(now, self._earlier(fired, time), recurrent.T)
            synaptic = self.synapses(self.synapse.decayed(synaptic, self.dt, neuron.method) + now)
            current, conductance = self.synapse.input(synaptic, state["v"])
            current = current if self.bias is None else current + self.bias
            state, spikes = neuron.step(state, current, self.dt, conductance, self.surrogate)
            fired.append(self.spikes(spikes))
            state["v"] = self.membrane(state["v"])
        if not bool(torch.isfinite(state["v"]).all()):
            raise InputError(
                f"{type(neuron).__name__} leaves all bounds", expected="finite potentials", fix="make dt shorter"
            )
        return torch.stack(fired)

    def _earlier(self, fired: Sequence[torch.Tensor], time: int) -> torch.Tensor:
        spikes, of = fired[time - self.lag], time - self.lag
        crosses = self.truncate is not None and of // self.truncate != time // self.truncate
        return spikes.detach() if crosses else spikes


def response_to_spike(neuron: PointNeuron, synapse: Synapse, dt: float) -> float:
    """Return how far the potential of a resting neuron moves at most after one spike of weight 1, mV.

    Examples
    --------
    >>> round(response_to_spike(LIF(tau=20.0), PulseSynapse(), 1.0), 4)  # 1 - exp(-1 / 20)
    0.0488
    """
    weight = 1e-3  # too small to make the neuron fire
    opened = weight * torch.tensor([0.0, 1.0], dtype=torch.float64)
    typical = _typical(neuron)
    state = typical.initial_state(2)
    largest = 0.0
    for _ in range(100_000):
        current, conductance = synapse.input(opened, state["v"])
        state, _ = typical.step(state, current, dt, conductance)
        opened = synapse.decayed(opened, dt, neuron.method)
        moved = abs(float(state["v"][1] - state["v"][0])) / weight
        if moved <= 0.9 * largest or not moved:
            break
        largest = max(largest, moved)
    return largest or 1.0


def _typical(neuron: PointNeuron) -> PointNeuron:
    """Return a neuron with one number per parameter: means over neurons that differ."""
    values = {field.name: getattr(neuron, field.name) for field in fields(neuron)}
    means = {name: float(value.mean()) for name, value in values.items() if isinstance(value, torch.Tensor)}
    return replace(neuron, **means) if means else neuron


def _distance(neuron: PointNeuron) -> float:
    typical: Any = _typical(neuron)
    has_both = hasattr(typical, "threshold") and hasattr(typical, "rest")
    return float(typical.threshold - typical.rest) if has_both else _CORTICAL_DISTANCE


def _weights(
    n_targets: int, n_sources: int, size: float, synapse: Synapse, random: np.random.Generator
) -> torch.Tensor:
    drawn = torch.from_numpy(random.normal(scale=size / n_sources**0.5, size=(n_targets, n_sources)))
    drawn = drawn if synapse.unit == "pA" else drawn.abs()  # no conductance is negative
    return drawn.to(torch.get_default_dtype())


def _logarithm(neuron: PointNeuron, name: str, n_units: int) -> torch.Tensor:
    check_option("parameter to learn", name, [field.name for field in fields(neuron) if field.type == "Any"])
    initial = torch.as_tensor(getattr(neuron, name), dtype=torch.float64)
    if not bool((initial > 0).all()):
        raise OptionError(
            f"{name} cannot be learned: it is kept above 0 by its logarithm", expected="above 0", got=repr(initial)
        )
    return initial.log().expand(n_units).to(torch.get_default_dtype()).clone()
