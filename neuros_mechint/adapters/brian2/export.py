"""From torch to Brian2: spiking networks and networks of rates, by the kind of network."""

from __future__ import annotations

from typing import overload

from neuros_mechint.adapters.brian2.export_rates import Brian2RateCopy, RateNetwork, rate_copy
from neuros_mechint.adapters.brian2.export_spikes import Brian2Copy, spiking_copy
from neuros_mechint.core.errors import OptionError
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork


@overload
def to_brian2(network: SpikingNeuralNetwork) -> Brian2Copy: ...


@overload
def to_brian2(network: RateNetwork, dt: float | None = None) -> Brian2RateCopy: ...


def to_brian2(network: SpikingNeuralNetwork | RateNetwork, dt: float | None = None) -> Brian2Copy | Brian2RateCopy:
    r"""Return a network as a Brian2 network that fires the same spikes, or has the same rates.

    Parameters
    ----------
    network : SpikingNeuralNetwork, EIRecurrentNetwork, EIRecurrentCell, RecurrentNetwork, nn.RNN or nn.RNNCell
        Parameters of neurons that differ within a layer, such as learned time constants, are each neuron's own in
        Brian2 too. Weights of 0, such as those that a mask leaves out, are no synapses.
    dt : float, optional
        Time step of a network of rates, which has none of its own, ms; 1 if not given. The time constant of its units
        is ``dt / alpha``, that of an ``nn.RNN`` is ``dt``. A spiking network has its own.

    Returns
    -------
    Brian2Copy or Brian2RateCopy
        ``copy.run(inputs)`` gives the spikes or rates of each layer; ``copy.network`` is the ``brian2.Network``, for
        `adapt` and `from_brian2`.

    Raises
    ------
    UnknownModelError
        Another kind of network, such as an LSTM or a GRU, or a class derived from one of these.
    CapabilityError
        A bidirectional ``nn.RNN``, or one whose dropout is active.
    InputError
        Graded spikes, or weights that are not finite.
    OptionError
        A time step that is not positive, or one for a spiking network.

    Notes
    -----
    Brian2 computes in double precision: where a single-precision network passes its threshold by less than rounding,
    spikes may differ. ``network.double()`` first makes them the same, and rates equal to rounding.

    A layer of rates is a group with the differential equation of the network, of which Brian2's Euler step is the step
    of the torch network; sums over synapses are summed variables. Noise of an `EIRecurrentNetwork`, which enters where
    a call is given a generator, is left out.

    Examples
    --------
    >>> import brian2
    >>> import torch
    >>> brian2.prefs.codegen.target = "numpy"  # nothing to compile
    >>> network = SpikingNeuralNetwork([3, 5], dt=1.0).double()
    >>> inputs = torch.ones(1, 30, 3, dtype=torch.float64)
    >>> (spikes,) = to_brian2(network).run(inputs[0])
    >>> bool((spikes == network(inputs)[0]).all())
    True
    >>> rnn = torch.nn.RNN(3, 5, num_layers=2).double()
    >>> first, second = to_brian2(rnn).run(inputs[0])
    >>> torch.testing.assert_close(second, rnn(inputs[0])[0].detach())
    """
    if not isinstance(network, SpikingNeuralNetwork):
        return rate_copy(network, 1.0 if dt is None else dt)
    if dt is not None:
        problem = "a spiking network has its own time step"
        raise OptionError(problem, expected=f"its dt of {network.dt:g} ms", got=f"dt={dt!r}", fix="leave dt out")
    return spiking_copy(network)
