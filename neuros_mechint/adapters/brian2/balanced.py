"""Brian2 networks of spiking networks that are described by their numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from neuros_mechint.adapters.brian2.factories import neuron_group
from neuros_mechint.core.errors import InputError, number
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.datasets.spiking_networks import BalancedNetwork
from neuros_mechint.neuro.biophysics.neurons.lif import LIF

if TYPE_CHECKING:
    from brian2 import Network

_MOST_PER_STEP = 0.001
"""Spikes of one train from outside in one step: of several in a step, Brian2 gives only one."""


def brian2_network_of(network: BalancedNetwork, seed: SeedLike = 0, dt: float = 0.1) -> Network:
    """Return a balanced network as Brian2 has it, to run, or to look into with `adapt`.

    Parameters
    ----------
    network : BalancedNetwork
    seed : int or numpy.random.Generator
        Of the connections and of the potentials at the start, uniform between rest and threshold. The trains from
        outside are drawn as the network runs: by Brian2's own seed, or under `adapt` by that of each trial.
    dt : float
        Time step, ms; at most the delay. Cells that noise brings to the threshold fire less in longer steps.

    Returns
    -------
    brian2.Network
        With the group ``cells``, excitatory ones first, whose current is ``I``; ``synapses``, whose weight is ``w``;
        and ``outside``, the Poisson trains. A current of 1 pA shifts the mean potential by 1 mV.

    Raises
    ------
    InputError
        Something else than a `BalancedNetwork`.
    OptionError
        A time step that is not positive, or longer than the delay.

    References
    ----------
    Brunel 2000, Dynamics of sparsely connected networks of excitatory and inhibitory spiking neurons,
    doi:10.1023/A:1008925309027

    Examples
    --------
    >>> import brian2 as b2
    >>> from neuros_mechint.adapters.registry import adapt
    >>> network = BalancedNetwork(n_excitatory=80, n_inhibitory=20, drive=3.0)
    >>> model = adapt(brian2_network_of(network), duration=20 * b2.ms)
    >>> model.capture(2, "cells.spikes")["cells.spikes"].shape
    torch.Size([2, 200, 100])
    """
    import brian2

    if not isinstance(network, BalancedNetwork):
        raise InputError("this is no balanced network", expected="a BalancedNetwork", got=type(network).__name__)
    dt = number("dt", dt, 0, network.delay)
    random, ms, mV = generator(seed), brian2.ms, brian2.mV
    neuron = LIF(network.tau, 0.0, network.threshold, network.reset, refractory=network.refractory)
    cells = neuron_group(neuron, network.n_cells, name="cells", dt=dt)
    senders, receivers = network.connections(random)
    cells.v = random.uniform(0, network.threshold, network.n_cells) * mV
    synapses = brian2.Synapses(
        cells,
        cells,
        "w : volt",
        on_pre="v_post += w",
        delay=network.delay * ms,
        clock=cells.clock,
        name="synapses",
    )
    synapses.connect(i=senders, j=receivers)
    synapses.w = network.weights(senders) * mV
    n_trains = max(1000, math.ceil(network.external_rate * dt / _MOST_PER_STEP))
    outside = brian2.PoissonInput(cells, "v", n_trains, network.external_rate / n_trains / ms, network.jump * mV)
    return brian2.Network(cells, synapses, outside)
