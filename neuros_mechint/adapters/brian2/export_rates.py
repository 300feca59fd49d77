"""From recurrent networks of rates in torch to Brian2: the same weights, time constants and order of events."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from neuros_mechint.adapters.brian2.wiring import connect, numbers_of
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import CapabilityError, InputError, UnknownModelError, number
from neuros_mechint.core.numbers import real_array
from neuros_mechint.datasets.networks import RecurrentNetwork
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentCell, EIRecurrentNetwork

if TYPE_CHECKING:
    from brian2 import Network

RateNetwork = nn.RNN | nn.RNNCell | RecurrentNetwork | EIRecurrentCell | EIRecurrentNetwork

_FUNCTIONS = {
    "tanh": "tanh({0})",
    "relu": "clip({0}, 0, inf)",
    # as torch has it: above 20 the argument itself
    "softplus": "({0} * int({0} > 20) + log1p(exp(clip({0}, -inf, 20))) * int({0} <= 20))",
}
_SIDES = ("ih", "hh")
"""How torch's names of weights end: from the inputs, and from within."""
_DRIVE = "(arriving + recurrent + I)"
_OF_A_LAYER = "arriving : 1\nrecurrent : 1\nI : 1\ntau : second (constant)"
"""Sums over synapses from below and within, the bias or a current, and the time constant."""


@dataclass(frozen=True)
class Brian2RateCopy:
    """A network of rates as Brian2 has it, at rest.

    Parameters
    ----------
    network : brian2.Network
        With the groups ``inputs``, ``layer_0``, ``layer_1``, ... and, where the module has one, ``readout``; their
        synapses ``weights_0``, ``recurrent_0``, ..., ``weights_readout``, whose weights are the variable ``weight``;
        and monitors ``rates_0``, ... and ``outputs`` of what they do at the end of each step. Biases are the variable
        ``I`` of a group, to which currents can be added.
    dt : float
        Time step, ms.
    sizes : tuple of int
        Number of inputs, then of units in each layer, with the read-out as the last one.

    Notes
    -----
    With ``nm.adapt(copy.network, input="stimulus")`` stimuli ``(trial, time, unit)`` are played into the inputs.
    There a state is what a time step finds: that of ``layer_0`` in step ``t`` is torch's after step ``t - 1``. Trials
    begin where the network is: after a ``run``, ``copy.network.restore()`` puts it back to rest.
    """

    network: Network = field(repr=False)
    dt: float
    sizes: tuple[int, ...]

    def run(self, inputs: Any) -> tuple[torch.Tensor, ...]:
        """Return the rates of every layer on one sample, from rest.

        Parameters
        ----------
        inputs : array of shape (time, n_inputs)

        Returns
        -------
        tuple of torch.Tensor of shape (time, n_units)
            One per layer, the output of a read-out last: what the module gives is ``copy.run(inputs)[-1]``.

        Raises
        ------
        InputError
            Inputs of another shape, or that are not finite.
        """
        from brian2 import TimedArray, ms

        values = real_array(inputs, "inputs")
        if values.ndim != 2 or values.shape[1] != self.sizes[0] or not len(values):
            raise InputError(
                "inputs do not fit", expected=f"one sample, (time, {self.sizes[0]})", got=f"shape {values.shape}"
            )
        self.network.restore()
        names = self.network["inputs"].namespace
        silence = names["stimulus"]
        names["stimulus"] = TimedArray(values, dt=self.dt * ms)
        try:
            self.network.run(len(values) * self.dt * ms, namespace={})
        finally:
            names["stimulus"] = silence
        return tuple(torch.from_numpy(values) for values in self._recorded())

    def _recorded(self) -> list[Floats]:
        monitors = [one for one in self.network.sorted_objects if hasattr(one, "record_variables")]
        by_name = {one.name: getattr(one, one.record_variables[0]).T.copy() for one in monitors}
        of_layers = [by_name[f"rates_{index}"] for index in range(len(self.sizes) - 1) if f"rates_{index}" in by_name]
        return of_layers + ([by_name["outputs"]] if "outputs" in by_name else [])


def rate_copy(network: RateNetwork, dt: float) -> Brian2RateCopy:
    """Return a network of rates as Brian2 has it, with time steps of ``dt`` ms; see `to_brian2`."""
    import brian2

    dt = number("dt", dt, 0, math.inf, closed="neither")
    wanted = _read(network)
    clock = brian2.Clock(dt * brian2.ms, name="rates_clock")
    source = _inputs(wanted.layers[0].forward.shape[1], clock)
    objects, below = [source], source
    # In every step each layer sums what the one below it has just done, and what it did itself the step before.
    schedule = ["start", "groups"]
    for index, layer in enumerate(wanted.layers):
        below, more = _group(layer, below, index, clock)
        objects += [below, *more]
        schedule += [f"sums_{index}", f"rates_{index}"]
    sizes = [len(source), *(len(layer.bias) for layer in wanted.layers)]
    if wanted.readout is not None:
        objects += _readout(*wanted.readout, below, clock)
        schedule += ["sums_readout", "outputs"]
        sizes.append(len(wanted.readout[1]))
    copy = brian2.Network(*objects)
    copy.schedule = [*schedule, "end"]
    copy.store()
    return Brian2RateCopy(copy, dt, tuple(sizes))


# -- what is in the module ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """Units: equations of their state and their ``rate``, weights ``(unit, source)``, biases, and dt over tau."""

    equations: str
    forward: Floats
    recurrent: Floats
    bias: Floats
    alpha: float = 1.0


@dataclass(frozen=True)
class _Wanted:
    """Layers from the inputs on, and weights and biases of a linear read-out."""

    layers: list[_Layer]
    readout: tuple[Floats, Floats] | None = None


def _read(network: nn.Module) -> _Wanted:
    """Return what a network is made of; raise `UnknownModelError` where its kind is not known."""
    read = _READERS.get(type(network))
    if read is None:
        base = next((one.__name__ for one in _READERS if isinstance(network, one)), "")
        raise UnknownModelError(
            "this is no network that Brian2 can be given",
            expected="SpikingNeuralNetwork, " + ", ".join(one.__name__ for one in _READERS),
            got=type(network).__name__ + (f", derived from {base}, which may compute something else" if base else ""),
            fix="write its equations as a brian2.NeuronGroup, and connect the weights by hand",
        )
    return read(network)


def _of_rnn(rnn: nn.RNN) -> _Wanted:
    if rnn.bidirectional:
        raise CapabilityError("a bidirectional RNN reads its inputs from the end", expected="bidirectional=False")
    if rnn.dropout and rnn.training and rnn.num_layers > 1:
        raise CapabilityError(
            "dropout makes the rates random", expected="no dropout, or module.eval()", got=f"dropout={rnn.dropout:g}"
        )
    return _Wanted([_elman(rnn, f"_l{layer}", rnn.nonlinearity) for layer in range(rnn.num_layers)])


def _of_rnn_cell(cell: nn.RNNCell) -> _Wanted:
    return _Wanted([_elman(cell, "", cell.nonlinearity)])


def _elman(module: nn.Module, suffix: str, nonlinearity: str) -> _Layer:
    """Return a layer of which the state is a function of all that arrives: a leak that forgets all in one step."""
    forward, recurrent = (numbers_of(getattr(module, f"weight_{of}{suffix}"), f"weight_{of}{suffix}") for of in _SIDES)
    biases = [getattr(module, f"bias_{of}{suffix}", None) for of in _SIDES]  # the same for rates, so one current
    bias = sum((numbers_of(one, "bias") for one in biases if one is not None), start=0 * recurrent[0])
    equation = f"drate/dt = ({_FUNCTIONS[nonlinearity].format(_DRIVE)} - rate) / tau : 1"
    return _Layer(equation, forward, recurrent, bias)


def _of_ei_cell(cell: EIRecurrentCell) -> _Wanted:
    equations = f"dx/dt = ({_DRIVE} - x) / tau : 1\nrate = {_FUNCTIONS[cell.rates.nonlinearity].format('x')} : 1"
    within = (numbers_of(cell.recurrent.acting_weight(), "recurrent.weight"), _bias_of(cell.recurrent))
    return _Wanted([_Layer(equations, numbers_of(cell.weight_ih, "weight_ih"), *within, cell.alpha)])


def _of_ei_network(network: EIRecurrentNetwork) -> _Wanted:
    readout = numbers_of(network.readout.acting_weight(), "readout.weight"), _bias_of(network.readout)
    return _Wanted(_of_ei_cell(network.cell).layers, readout)


def _of_recurrent_network(network: RecurrentNetwork) -> _Wanted:
    readout = numbers_of(network.readout.weight, "readout.weight"), _bias_of(network.readout)
    return _Wanted(_read(network.rnn).layers, readout)


def _bias_of(layer: Any) -> Floats:
    bias = layer.bias if layer.bias is not None else torch.zeros(layer.out_features)
    return numbers_of(bias, "bias")


_READERS: dict[type[nn.Module], Callable[[Any], _Wanted]] = {
    EIRecurrentNetwork: _of_ei_network,
    EIRecurrentCell: _of_ei_cell,
    RecurrentNetwork: _of_recurrent_network,
    nn.RNN: _of_rnn,
    nn.RNNCell: _of_rnn_cell,
}


# -- what Brian2 is given ----------------------------------------------------------------------------------------------


def _inputs(n_inputs: int, clock: Any) -> Any:
    """Return the group that plays what the TimedArray ``stimulus`` holds; silence at first."""
    import brian2

    return brian2.NeuronGroup(
        n_inputs,
        "rate = stimulus(t, i) : 1 (constant over dt)",
        namespace={"stimulus": brian2.TimedArray([[0.0] * n_inputs], dt=clock.dt)},
        clock=clock,
        name="inputs",
    )


def _group(layer: _Layer, below: Any, index: int, clock: Any) -> tuple[Any, list[Any]]:
    """Return the units of a layer; then their synapses and the monitor of their rates."""
    import brian2

    group = brian2.NeuronGroup(
        len(layer.bias),
        f"{layer.equations}\n{_OF_A_LAYER}",
        method="euler",
        clock=clock,
        name=f"layer_{index}",
        namespace={},
    )
    group.I, group.tau = layer.bias, clock.dt / layer.alpha
    group.state_updater.when = f"rates_{index}"
    sums = [
        _summed(layer.forward, below, group, "arriving", f"weights_{index}", f"sums_{index}"),
        _summed(layer.recurrent, group, group, "recurrent", f"recurrent_{index}", f"sums_{index}"),
    ]
    return group, [*sums, brian2.StateMonitor(group, "rate", record=True, when="end", name=f"rates_{index}")]


def _readout(weights: Floats, bias: Floats, below: Any, clock: Any) -> list[Any]:
    """Return a linear read-out with its synapses and its monitor."""
    import brian2

    equations = "output : 1\narriving : 1\nI : 1"
    group = brian2.NeuronGroup(len(bias), equations, clock=clock, name="readout", namespace={})
    group.I = bias
    group.run_regularly("output = arriving + I", when="outputs", clock=clock, name="readout_outputs")
    synapses = _summed(weights, below, group, "arriving", "weights_readout", "sums_readout")
    return [group, synapses, brian2.StateMonitor(group, "output", record=True, when="end", name="outputs")]


def _summed(weights: Floats, source: Any, target: Any, variable: str, name: str, when: str) -> Any:
    """Return synapses that sum the weighted rates of a group, at a moment of their own in each step."""
    import brian2

    model = f"weight : 1\n{variable}_post = weight * rate_pre : 1 (summed)"
    synapses = brian2.Synapses(source, target, model, clock=target.clock, name=name, namespace={})
    connect(synapses, weights)
    for updater in synapses.summed_updaters.values():
        updater.when = when
    return synapses
