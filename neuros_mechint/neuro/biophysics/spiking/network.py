"""Networks of spiking neurons in layers, trained by surrogate gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from neuros_mechint.core.errors import InputError, OptionError, number, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.biophysics.neurons.base import PointNeuron
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.spiking.layer import SpikingLayer
from neuros_mechint.neuro.biophysics.spiking.surrogate import Surrogate, as_surrogate
from neuros_mechint.neuro.biophysics.synapses import PulseSynapse, Synapse

Value = TypeVar("Value")


class SpikingNeuralNetwork(nn.Module):
    r"""Layers of spiking neurons, each driven by the spikes of the layer below and, if recurrent, by its own.

    In each time step the synapses of a layer decay and take up the weights of the spikes that arrive; the neurons
    advance by `PointNeuron.step`, fire, and are reset. That is the order of Brian2, and `to_brian2` gives the same
    spikes. Spikes are 0 or 1; where a gradient is asked for, their derivative is that of a surrogate, and
    backpropagation goes through time.

    With ``nm.adapt`` the synapses, the membrane and the spikes of each layer are sites, in every time step.

    Parameters
    ----------
    sizes : sequence of int
        Number of inputs, then of neurons in each layer.
    neuron : PointNeuron, or one per layer
        Such as `LIF`; its parameters may be tensors with one number per neuron. With the default, the potential is in
        units of the distance from rest to threshold.
    dt : float
        Time step, ms.
    synapse : Synapse, or one per layer
        `PulseSynapse` acts for one time step, `CurrentSynapse` decays; conductances are of at least 0 at first, but
        nothing keeps them there.
    recurrent : bool, or one per layer
        Whether the neurons of a layer act on each other.
    delay : float, or one per layer, optional
        Time from a spike to its effect, ms: a multiple of ``dt``. By default one time step, the least that Brian2 has;
        0 lets a layer act on the next one within the step, as is usual in machine learning. Within a recurrent layer it
        is at least one time step.
    surrogate : {"fast_sigmoid", "arctan", "straight_through"} or Surrogate
    learn : sequence of str
        Parameters of the neurons that are learned as the weights are, one number per neuron, such as ``("tau",)``.
        They stay above 0.
    bias : bool
        Whether every neuron has a constant current of its own that is learned.
    truncate : int, optional
        Backpropagation does not cross the borders between so many time steps.
    scale : float, optional
        Standard deviation of the potential, mV, that one spike of every source together makes with the initial
        weights; by default the distance from rest to threshold, or 15 mV for neurons without a fixed threshold.
    seed : int or numpy.random.Generator
        Of the initial weights; torch's global generator is not used.

    Raises
    ------
    OptionError
        Parameters out of range, an unknown surrogate, a time step too long for the neurons.
    InputError
        Lists whose length is not that of the layers.

    References
    ----------
    Neftci, E. O., Mostafa, H., & Zenke, F. (2019). Surrogate gradient learning in spiking neural networks. IEEE Signal
    Processing Magazine, 36(6), 51-63. https://doi.org/10.1109/MSP.2019.2931595

    Examples
    --------
    >>> network = SpikingNeuralNetwork([4, 20, 3], LIF(tau=10.0), recurrent=[True, False])
    >>> spikes = network(torch.ones(2, 50, 4))
    >>> spikes.shape, sorted(set(spikes.flatten().tolist()))
    (torch.Size([2, 50, 3]), [0.0, 1.0])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        neuron: PointNeuron | Sequence[PointNeuron] = LIF(),  # noqa: B008  # frozen
        dt: float = 1.0,
        synapse: Synapse | Sequence[Synapse] = PulseSynapse(),  # noqa: B008  # frozen
        recurrent: bool | Sequence[bool] = False,
        delay: float | Sequence[float] | None = None,
        surrogate: str | Surrogate = "fast_sigmoid",
        learn: Sequence[str] = (),
        bias: bool = False,
        truncate: int | None = None,
        scale: float | None = None,
        seed: SeedLike = 0,
    ) -> None:
        super().__init__()
        widths = _widths(sizes)
        n_layers = len(widths) - 1
        self.dt = float(number("dt", dt, 0, math.inf, closed="neither"))
        random, shape = generator(seed), as_surrogate(surrogate)
        delays = _per_layer("delay", self.dt if delay is None else delay, n_layers, (int, float))
        learned = _names(learn)
        if truncate is not None:
            whole("truncate", truncate)
        if scale is not None:
            number("scale", scale, 0, math.inf, closed="neither")
        parts = zip(
            widths[:-1],
            widths[1:],
            _per_layer("neuron", neuron, n_layers, PointNeuron),
            _per_layer("synapse", synapse, n_layers, Synapse),
            delays,
            _per_layer("recurrent", recurrent, n_layers, bool),
            strict=True,
        )
        self.layers = nn.ModuleList(
            SpikingLayer(
                n_sources,
                n_units,
                kind,
                opened,
                self.dt,
                _steps(waits, self.dt),
                itself,
                bool(bias),
                learned,
                shape,
                truncate,
                scale,
                random,
            )
            for n_sources, n_units, kind, opened, waits, itself in parts
        )

    @property
    def sizes(self) -> list[int]:
        """Number of inputs, then of neurons in each layer."""
        return [self.spiking_layers[0].n_sources, *(layer.n_units for layer in self.spiking_layers)]

    @property
    def spiking_layers(self) -> list[SpikingLayer]:
        """The layers, from the inputs to the output."""
        return [layer for layer in self.layers if isinstance(layer, SpikingLayer)]

    def extra_repr(self) -> str:
        """Return what the layers share."""
        return f"dt={self.dt:g}, {self.spiking_layers[0].surrogate}, truncate={self.spiking_layers[0].truncate}"

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the spikes of the last layer.

        Parameters
        ----------
        inputs : torch.Tensor of shape (sample, time, n_inputs)
            Spikes, 0 or 1 in each time step; other numbers count as so many spikes.

        Returns
        -------
        torch.Tensor of shape (sample, time, n_outputs)

        Raises
        ------
        InputError
            Inputs of another shape, or not finite; a potential that leaves all bounds.
        """
        return self.run(inputs)[-1]

    def run(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the spikes of every layer, each ``(sample, time, n_units)``; see `forward`."""
        spikes = self.check_inputs(inputs).transpose(0, 1)
        of_layers: list[torch.Tensor] = []
        for layer in self.layers:
            spikes = layer(spikes)
            of_layers.append(spikes.transpose(0, 1))
        return tuple(of_layers)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return what an optimiser takes, with one learning rate for all kinds of parameters.

        Weights are in pA and may be of any size, whereas Adam takes steps of its learning rate: here that is relative
        to the root mean square of each weight matrix. Learned parameters of neurons change by that share of themselves.

        Parameters
        ----------
        learning_rate : float

        Examples
        --------
        >>> groups = SpikingNeuralNetwork([4, 20, 3], learn=["tau"]).parameter_groups(0.01)
        >>> optimizer = torch.optim.Adam(groups)
        """
        rate = number("learning_rate", learning_rate, 0, math.inf, closed="neither")
        groups: list[dict[str, Any]] = []
        for layer in self.spiking_layers:
            size = float(layer.weight.detach().square().mean().sqrt()) or 1.0
            in_current = [one for one in (layer.weight, layer.recurrent_weight, layer.bias) if one is not None]
            groups.append({"params": in_current, "lr": rate * size})
            if len(layer.logarithms):
                groups.append({"params": list(layer.logarithms.values()), "lr": rate})
        return groups

    def check_inputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return inputs in the precision of the weights; raise `InputError` on what `forward` does not take."""
        first = self.spiking_layers[0]
        if not isinstance(inputs, torch.Tensor) or inputs.ndim != 3 or inputs.shape[-1] != first.n_sources:
            raise InputError(
                "inputs do not fit the network",
                expected=f"a tensor (sample, time, {first.n_sources})",
                got=f"shape {tuple(inputs.shape)}" if isinstance(inputs, torch.Tensor) else type(inputs).__name__,
            )
        if not inputs.numel() or inputs.is_complex() or inputs.layout is not torch.strided:
            got = f"shape {tuple(inputs.shape)}, {inputs.dtype}, {inputs.layout}"
            raise InputError("inputs are empty, complex or sparse", expected="a dense tensor of real numbers", got=got)
        # a finite sum has finite terms, and is found many times as fast
        if not bool(torch.isfinite(inputs.sum())) and not bool(torch.isfinite(inputs).all()):
            raise InputError("inputs are not finite", expected="finite numbers", fix="remove NaN and infinity")
        return inputs.to(first.weight.dtype)


def _widths(sizes: Sequence[int]) -> list[int]:
    try:
        widths = [whole("a size of the network", size) for size in sizes]
    except TypeError as error:
        raise InputError("sizes are no list", expected="such as [64, 100, 10]", got=repr(sizes)) from error
    if len(widths) < 2:
        raise InputError("a network needs inputs and a layer", expected="at least two sizes", got=repr(sizes))
    return widths


def _names(learn: Sequence[str]) -> Sequence[str]:
    if not isinstance(learn, (list, tuple)) or not all(isinstance(name, str) for name in learn):
        raise InputError("learn is a list of names", expected="such as ('tau',)", got=repr(learn))
    return learn


def _per_layer(name: str, value: Any, n_layers: int, kind: type | tuple[type, ...]) -> list[Any]:
    """Return one value per layer."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * n_layers
    if len(values) != n_layers:
        raise InputError(f"{name} does not fit the layers", expected=f"one, or {n_layers}", got=f"{len(values)}")
    for one in values:
        if not isinstance(one, kind):
            wanted = kind.__name__ if isinstance(kind, type) else "number"
            raise OptionError(f"{name} of a layer is of the wrong kind", expected=f"a {wanted}", got=repr(one))
    return values


def _steps(delay: float, dt: float) -> int:
    """Return a delay in time steps."""
    steps = number("delay", delay, 0, math.inf, closed="left") / dt
    if abs(steps - round(steps)) > 1e-6:
        raise OptionError("delay is no multiple of dt", expected=f"a multiple of {dt:g} ms", got=f"{delay:g} ms")
    return round(steps)
