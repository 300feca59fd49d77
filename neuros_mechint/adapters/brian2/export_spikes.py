"""From a spiking network of torch to Brian2: the same neurons, weights, delays and order of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neuros_mechint.adapters.brian2.factories import neuron_group, unit_called
from neuros_mechint.adapters.brian2.wiring import connect, numbers_of
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.biophysics.spiking.layer import SpikingLayer
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork
from neuros_mechint.neuro.biophysics.synapses import PulseSynapse

if TYPE_CHECKING:
    from brian2 import Network

_EVENTS = ("groups", "thresholds", "synapses", "resets")


@dataclass(frozen=True)
class Brian2Copy:
    """A spiking network as Brian2 has it, at rest.

    Parameters
    ----------
    network : brian2.Network
        With the groups ``inputs`` and ``layer_0``, ``layer_1``, ..., their synapses and a monitor of the spikes of each
        layer; weights are the variable ``weight`` of the synapses.
    dt : float
        Time step, ms.
    sizes : tuple of int
        Number of inputs, then of neurons in each layer.
    """

    network: Network = field(repr=False)
    dt: float
    sizes: tuple[int, ...]

    def run(self, inputs: Any) -> tuple[torch.Tensor, ...]:
        """Return the spikes of every layer on one sample of input spikes, from rest.

        Parameters
        ----------
        inputs : array of shape (time, n_inputs)
            0 or 1.

        Returns
        -------
        tuple of torch.Tensor of shape (time, n_units)
            One per layer.

        Raises
        ------
        InputError
            Inputs of another shape, or that hold something else than spikes.
        """
        from brian2 import ms

        spikes = _input_spikes(inputs, self.sizes[0])
        self.network.restore()
        times, units = np.nonzero(spikes)
        self.network["inputs"].set_spikes(units, times * self.dt * ms)
        self.network.run(len(spikes) * self.dt * ms)
        of_layers: list[torch.Tensor] = []
        for layer, width in enumerate(self.sizes[1:]):
            monitor = self.network[f"spikes_{layer}"]
            fired = torch.zeros(len(spikes), width)
            steps = np.round(np.asarray(monitor.t / ms) / self.dt).astype(int)
            fired[torch.from_numpy(steps), torch.from_numpy(np.asarray(monitor.i, dtype=int))] = 1
            of_layers.append(fired)
        return tuple(of_layers)


def spiking_copy(network: SpikingNeuralNetwork) -> Brian2Copy:
    """Return a spiking network as Brian2 has it; see `to_brian2`."""
    import brian2

    layers = network.spiking_layers
    if layers[0].surrogate.graded:
        raise InputError("graded spikes are no spikes to Brian2", fix="a surrogate with graded=False")
    dt = network.dt * brian2.ms
    # A layer that acts on the next one within the step must have fired before that one integrates.
    at_once = any(not layer.delay for layer in layers)
    schedule = ["start", "groups", "thresholds_inputs", "synapses_inputs"]  # "groups": where `adapt` reads states
    source = brian2.SpikeGeneratorGroup(
        layers[0].n_sources,
        [],
        [] * brian2.ms,
        dt=dt,
        name="inputs",
        when="thresholds_inputs" if at_once else "thresholds",
    )
    objects: list[Any] = [source]
    below, slot = source, "inputs"
    least = 0 if at_once else 1  # time steps that a spike takes to a layer when Brian2's own delay is 0
    for index, layer in enumerate(layers):
        group, own = _group(layer, index, dt)
        objects += [group, *own]
        forward = _connections(layer.weight, below, group, layer.delay - least, layer, f"weights_{index}")
        objects.append(forward)
        recurrent = None
        if layer.recurrent_weight is not None:
            recurrent = _connections(layer.recurrent_weight, group, group, layer.lag - 1, layer, f"recurrent_{index}")
            objects.append(recurrent)
        if at_once:
            schedule += [f"{event}_{index}" for event in _EVENTS]
            _place(group, own, index)
            forward.pre.when = f"synapses_{slot}"
            if recurrent is not None:
                recurrent.pre.when = f"synapses_{index}"
        objects.append(brian2.SpikeMonitor(group, name=f"spikes_{index}", when="end"))
        below, slot = group, str(index)
    copy = brian2.Network(*objects)
    if at_once:
        copy.schedule = [*schedule, "end"]
    copy.store()
    return Brian2Copy(copy, network.dt, tuple(network.sizes))


def _group(layer: SpikingLayer, index: int, dt: Any) -> tuple[Any, list[Any]]:
    """Return the neurons of a layer, and what else happens to them in each step."""
    import brian2

    name, synapses = f"layer_{index}", {"synaptic": layer.synapse}
    group = neuron_group(layer.current_neuron(), layer.n_units, synapses, name, layer.dt)
    if layer.bias is not None:
        group.I = numbers_of(layer.bias, "bias") * brian2.pA
    if not isinstance(layer.synapse, PulseSynapse):
        return group, []
    ended = group.run_regularly("synaptic = 0 * amp", when="after_groups", dt=dt, name=f"pulses_{index}")
    return group, [ended]


def _connections(weight: torch.Tensor, source: Any, target: Any, delay: int, layer: SpikingLayer, name: str) -> Any:
    """Return the synapses of one matrix of weights."""
    import brian2

    ms = brian2.ms
    synapses = brian2.Synapses(
        source,
        target,
        model=f"weight : {'amp' if layer.synapse.unit == 'pA' else 'siemens'}",
        on_pre="synaptic_post += weight",
        delay=delay * layer.dt * ms,
        dt=layer.dt * ms,
        name=name,
    )
    connect(synapses, numbers_of(weight, name), unit_called(layer.synapse.unit))
    return synapses


def _place(group: Any, ended: list[Any], index: int) -> None:
    """Give the events of a layer moments of their own within a step."""
    group.state_updater.when = f"groups_{index}"
    group.thresholder["spike"].when = f"thresholds_{index}"
    for resetter in group.resetter.values():
        resetter.when = f"resets_{index}"
    for one in ended:
        one.when = f"after_groups_{index}"


def _input_spikes(inputs: Any, n_inputs: int) -> Any:
    values = np.asarray(inputs.detach().cpu() if isinstance(inputs, torch.Tensor) else inputs)
    if values.ndim != 2 or values.shape[1] != n_inputs or not len(values):
        raise InputError("inputs do not fit", expected=f"one sample, (time, {n_inputs})", got=f"shape {values.shape}")
    if not ((values == 0) | (values == 1)).all():
        raise InputError(
            "inputs hold something else than spikes",
            expected="0 or 1 in each time step",
            got=f"values from {values.min():.4g} to {values.max():.4g}",
            fix="encode them as spikes; currents go into the variable I of a group",
        )
    return values
