"""Spiking networks to and from snnTorch and NIR, the exchange format of neuromorphic hardware."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import nn

from neuros_mechint.core.errors import InputError, StorageError, number
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.core.numbers import real_array, real_tensor
from neuros_mechint.core.optional import soft_import
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.spiking.layer import SpikingLayer
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork
from neuros_mechint.neuro.biophysics.synapses import CurrentSynapse, PulseSynapse, Synapse


def to_snntorch(network: SpikingNeuralNetwork) -> nn.Sequential:
    """Return a layered network as snnTorch's ``Linear`` and ``Leaky`` layers, which fire the same spikes.

    Parameters
    ----------
    network : SpikingNeuralNetwork
        Of `LIF` neurons that rest at 0, are reset to 0 and have no refractory time, with pulses as synapses, no
        recurrent layer, and ``delay=0``: snnTorch knows nothing else.

    Returns
    -------
    torch.nn.Sequential
        It keeps its state from one time step to the next; ``snntorch.utils.reset(it)`` starts anew.

    Raises
    ------
    MissingDependencyError
        snnTorch is not installed.
    InputError
        No such network, or what `Leaky` cannot do.
    """
    snn: Any = soft_import("snntorch", "export to snnTorch", "snn")
    modules: list[nn.Module] = []
    for index, layer in enumerate(_layers(network)):
        neuron = _lif(layer, index)
        _demand(isinstance(layer.synapse, PulseSynapse), index, "synapses that are pulses", layer.synapse)
        _demand(layer.delay == 0, index, "delay=0", f"{layer.delay} time steps")
        _demand(layer.recurrent_weight is None, index, "no recurrent weights", "recurrent=True")
        at_zero = all(float(torch.as_tensor(value).abs().max()) == 0 for value in (neuron.rest, neuron.reset))
        _demand(at_zero, index, "rest and reset at 0", neuron)
        beta = torch.exp(-layer.dt / _per_unit(neuron.tau, layer))
        gain = ((1 - beta) * _per_unit(neuron.resistance, layer)).detach()
        linear = _linear(layer.weight * gain[:, None], None if layer.bias is None else layer.bias * gain)
        threshold = _per_unit(neuron.threshold, layer).detach()
        modules += [linear, snn.Leaky(beta.detach(), threshold, init_hidden=True, reset_mechanism="zero")]
    return nn.Sequential(*modules)


def from_snntorch(model: nn.Module, dt: float = 1.0) -> SpikingNeuralNetwork:
    """Return a spiking network from snnTorch's layers, with their weights.

    Parameters
    ----------
    model : torch.nn.Module
        Whose modules are ``Linear`` and ``Leaky`` in turns, in the order in which they run.
    dt : float
        What a time step of snnTorch is to be, ms; it has no unit there, and sets the time constants here.

    Returns
    -------
    SpikingNeuralNetwork
        With ``delay=0``: a layer acts on the next one within the step.

    Raises
    ------
    MissingDependencyError
        snnTorch is not installed.
    InputError
        Other layers, a layer that is used twice, or what no neuron here has: a reset by subtraction, inhibition of all
        but one, spikes of another size than 1, states that are rounded.
    OptionError
        A time step that is not positive.
    """
    snn: Any = soft_import("snntorch", "import from snnTorch", "snn")
    if not isinstance(model, nn.Module):
        raise InputError("this is no model of torch", expected="a torch.nn.Module", got=type(model).__name__)
    dt = float(number("dt", dt, 0, math.inf, closed="neither"))
    parts = [part for _, part in model.named_modules(remove_duplicate=False)]
    leaves: list[Any] = [part for part in parts if not list(part.children()) and not isinstance(part, nn.Flatten)]
    linears, neurons = leaves[::2], leaves[1::2]
    fits = len(linears) == len(neurons) > 0 and all(isinstance(part, nn.Linear) for part in linears)
    if not fits or any(type(part) is not snn.Leaky for part in neurons) or len(set(leaves)) < len(leaves):
        raise InputError(
            "the model is no chain of layers that can be taken over",
            expected="Linear, Leaky, Linear, Leaky, ..., each used once",
            got=", ".join(type(part).__name__ for part in leaves),
        )
    kinds: list[LIF] = []
    for index, leaky in enumerate(neurons):
        mechanism = leaky.reset_mechanism
        _demand(mechanism == "zero" and leaky.reset_delay, index, "reset_mechanism='zero' with its delay", mechanism)
        _demand(not leaky.inhibition and not leaky.state_quant, index, "no inhibition, no state_quant", leaky)
        graded = real_array(leaky.graded_spikes_factor, "graded_spikes_factor")
        _demand(bool((graded == 1).all()), index, "graded_spikes_factor=1", graded)
        beta = _of_neurons(leaky.beta).clamp(0, 1)
        _demand(bool(((beta > 0) & (beta < 1)).all()), index, "beta between 0 and 1", beta)
        # so chosen that the weights stay what they are: (1 - beta) * resistance = 1
        threshold = _of_neurons(leaky.threshold)
        kinds.append(LIF(-dt / beta.log(), 0.0, threshold, 0.0, 1 / (1 - beta)))
    weights = [real_tensor(part.weight, f"weights of layer {index}") for index, part in enumerate(linears)]
    biases = [None if part.bias is None else real_tensor(part.bias, "biases") for part in linears]
    return _network(weights, biases, [None] * len(weights), kinds, PulseSynapse(), dt, 0.0)


def to_nir(network: SpikingNeuralNetwork) -> Any:
    """Return a network as a graph of NIR, which ``nir.write`` puts into a file.

    Times are in seconds there. NIR has no time step of its own, and most readers assume one of .1 ms: that of the
    network is in the graph's ``metadata`` (``dt``, seconds), as are its delays (``delays``, time steps).

    Parameters
    ----------
    network : SpikingNeuralNetwork
        Of `LIF` neurons without refractory time; synapses are pulses (``nir.LIF``) or decaying currents
        (``nir.CubaLIF``).

    Returns
    -------
    nir.NIRGraph

    Raises
    ------
    MissingDependencyError
        NIR is not installed.
    InputError
        No such network, or neurons or synapses that NIR lacks.
    """
    nir: Any = soft_import("nir", "export to NIR", "snn")
    layers = _layers(network)
    nodes: dict[str, Any] = {"input": nir.Input(np.array([network.sizes[0]]))}
    edges: list[tuple[str, str]] = []
    below = "input"
    for index, layer in enumerate(layers):
        neuron, name = _lif(layer, index), f"neurons_{index}"
        nodes[f"weights_{index}"] = _nir_weights(nir, layer)
        nodes[name] = _nir_neurons(nir, layer, neuron, index)
        edges += [(below, f"weights_{index}"), (f"weights_{index}", name)]
        if layer.recurrent_weight is not None:
            nodes[f"recurrent_{index}"] = nir.Linear(_array(layer.recurrent_weight))
            edges += [(name, f"recurrent_{index}"), (f"recurrent_{index}", name)]
        below = name
    nodes["output"] = nir.Output(np.array([network.sizes[-1]]))
    edges.append((below, "output"))
    delays = np.array([layer.delay for layer in layers])
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata={"dt": network.dt / 1000, "delays": delays})


def from_nir(graph: Any, dt: float | None = None) -> SpikingNeuralNetwork:
    """Return a spiking network from a graph of NIR.

    Parameters
    ----------
    graph : nir.NIRGraph or path
        A chain of ``Linear`` or ``Affine`` and ``LIF`` or ``CubaLIF`` nodes; a ``Linear`` node from neurons to
        themselves makes a layer recurrent.
    dt : float, optional
        Time step, ms; by default what `to_nir` has recorded.

    Returns
    -------
    SpikingNeuralNetwork

    Raises
    ------
    MissingDependencyError
        NIR is not installed.
    InputError
        A graph of another kind, with nodes beside the chain, with numbers that are not finite, or without a time step.
    StorageError
        A file that is missing, or none of NIR.
    """
    nir: Any = soft_import("nir", "import from NIR", "snn")
    if isinstance(graph, (str, PathLike)):
        graph = _read(nir, graph)
    if not isinstance(graph, nir.NIRGraph):
        raise InputError("this is no graph of NIR", expected="a nir.NIRGraph or a path", got=type(graph).__name__)
    about = graph.metadata if isinstance(graph.metadata, Mapping) else {}
    if dt is None and "dt" not in about:
        raise InputError("the graph records no time step", fix="say it: from_nir(graph, dt=0.1), in ms")
    recorded = None if dt is not None else real_array(about["dt"], "dt in the graph")
    if recorded is not None:
        dt = round(1000 * recorded.item(), 9) if recorded.size == 1 else math.nan
    step = float(number("dt", dt, 0, math.inf, closed="neither"))
    order = _nir_chain(nir, graph)
    weights, biases, recurrent, kinds, synapses = [], [], [], [], []
    for into, name in order:
        node, itself = graph.nodes[into], _itself(graph, name)
        weights.append(_tensor(node.weight, f"weights of {into!r}"))
        biases.append(_tensor(node.bias, f"biases of {into!r}") if isinstance(node, nir.Affine) else None)
        recurrent.append(_tensor(graph.nodes[itself].weight, f"weights of {itself!r}") if itself else None)
        kinds.append(_from_nir_neurons(nir, graph.nodes[name]))
        synapses.append(_from_nir_synapse(nir, graph.nodes[name], step))
    delays = real_array(np.atleast_1d(about.get("delays", [0] * len(order))), "delays in the graph") * step
    return _network(weights, biases, recurrent, kinds, synapses, step, delays.tolist())


def _network(
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor | None],
    recurrent: Sequence[torch.Tensor | None],
    neurons: Sequence[LIF],
    synapse: Synapse | Sequence[Synapse],
    dt: float,
    delay: float | Sequence[float],
) -> SpikingNeuralNetwork:
    """Return a network with weights that are given."""
    _check_sizes(weights, biases, recurrent)
    sizes = [int(weights[0].shape[1]), *(len(weight) for weight in weights)]
    itself, biased = [one is not None for one in recurrent], any(one is not None for one in biases)
    network = SpikingNeuralNetwork(sizes, neurons, dt, synapse, itself, delay, bias=biased)
    network.to(reduce(torch.promote_types, [weight.dtype for weight in weights]))
    with torch.no_grad():
        for layer, weight, bias, own in zip(network.spiking_layers, weights, biases, recurrent, strict=True):
            layer.weight.copy_(weight)
            if layer.bias is not None and bias is not None:
                layer.bias.copy_(bias)
            if layer.recurrent_weight is not None and own is not None:
                layer.recurrent_weight.copy_(own)
    return network


def _check_sizes(
    weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor | None], recurrent: Sequence[torch.Tensor | None]
) -> None:
    """Raise `InputError` where a layer does not take what the one below gives, or its parts are of several sizes."""
    below = None
    for index, (weight, bias, own) in enumerate(zip(weights, biases, recurrent, strict=True)):
        n_units = len(weight) if weight.ndim else 0
        fits = weight.ndim == 2 and weight.numel() and below in (None, weight.shape[1])
        fits = fits and (bias is None or bias.shape == (n_units,)) and (own is None or own.shape == (n_units, n_units))
        if not fits:
            got = [tuple(part.shape) for part in (weight, bias, own) if part is not None]
            source = "n_inputs" if below is None else str(below)
            expected = f"weights (n_units, {source}), biases (n_units,), recurrent weights (n_units, n_units)"
            raise InputError(f"layer {index} does not fit", expected=expected, got=", ".join(map(str, got)))
        below = n_units


def _layers(network: Any) -> list[SpikingLayer]:
    """Return the layers of a network; raise `InputError` for what is none, or what does not spike."""
    if not isinstance(network, SpikingNeuralNetwork):
        raise InputError("this network has no equal there", expected="SpikingNeuralNetwork", got=type(network).__name__)
    if network.spiking_layers[0].surrogate.graded:
        raise InputError("graded spikes are no spikes there", fix="a surrogate with graded=False")
    return network.spiking_layers


def _lif(layer: SpikingLayer, index: int) -> LIF:
    neuron = layer.current_neuron()
    _demand(type(neuron) is LIF, index, "LIF neurons", neuron)
    assert isinstance(neuron, LIF)
    _demand(not neuron.refractory, index, "no refractory time", f"refractory={neuron.refractory:g}")
    return neuron


def _demand(holds: bool, index: int, wanted: str, got: object) -> None:
    if not holds:
        raise InputError(f"layer {index} has no equal there", expected=wanted, got=got)


def _per_unit(value: Any, layer: SpikingLayer) -> torch.Tensor:
    return torch.as_tensor(value).to(layer.weight).expand(layer.n_units)


def _array(tensor: torch.Tensor) -> Any:
    return as_numpy(tensor).copy()


def _tensor(values: Any, name: str) -> torch.Tensor:
    """Return an array as a tensor, in single precision if it has that."""
    array = real_array(values, name)
    return torch.from_numpy(array.astype(np.float32) if getattr(values, "dtype", None) == np.float32 else array)


def _of_neurons(value: Any) -> torch.Tensor:
    """Return what snnTorch has for all neurons or for each, of which it also takes one row."""
    numbers = real_tensor(value, "a parameter of Leaky").double()
    return numbers.squeeze(0) if numbers.ndim == 2 and len(numbers) == 1 else numbers


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    with torch.device("meta"):  # no initial weights from the global generator
        linear = nn.Linear(weight.shape[1], len(weight), bias=bias is not None)
    linear.weight = nn.Parameter(weight.detach().clone())
    linear.bias = None if bias is None else nn.Parameter(bias.detach().clone())  # pyright: ignore
    return linear


def _nir_weights(nir: Any, layer: SpikingLayer) -> Any:
    weight = _array(layer.weight)
    return nir.Linear(weight) if layer.bias is None else nir.Affine(weight, _array(layer.bias))


def _nir_neurons(nir: Any, layer: SpikingLayer, neuron: LIF, index: int) -> Any:
    own = {
        "r": _array(_per_unit(neuron.resistance, layer)),
        "v_leak": _array(_per_unit(neuron.rest, layer)),
        "v_threshold": _array(_per_unit(neuron.threshold, layer)),
        "v_reset": _array(_per_unit(neuron.reset, layer)),
    }
    tau = _array(_per_unit(neuron.tau, layer)) / 1000
    if isinstance(layer.synapse, PulseSynapse):
        return nir.LIF(tau=tau, **own)
    _demand(type(layer.synapse) is CurrentSynapse, index, "pulses or CurrentSynapse", layer.synapse)
    _demand(layer.bias is None, index, "no bias, which NIR would filter as it does spikes", "bias=True")
    tau_syn = np.full_like(tau, layer.synapse.tau / 1000)
    # NIR's current grows by w_in dt / tau_syn for a spike that lasts one time step; here by the weight
    return nir.CubaLIF(tau_syn=tau_syn, tau_mem=tau, w_in=tau_syn / (layer.dt / 1000), **own)


def _from_nir_neurons(nir: Any, node: Any) -> LIF:
    tau = node.tau_mem if isinstance(node, nir.CubaLIF) else node.tau
    given = {"tau": 1000 * tau, "rest": node.v_leak, "threshold": node.v_threshold, "reset": node.v_reset}
    values: dict[str, Any] = {
        name: torch.from_numpy(real_array(value, f"{name} of neurons")).flatten()
        for name, value in {**given, "resistance": node.r}.items()
    }
    return LIF(**values)


def _from_nir_synapse(nir: Any, node: Any, dt: float) -> Synapse:
    if not isinstance(node, nir.CubaLIF):
        return PulseSynapse()
    constants, scales = real_array(node.tau_syn, "tau_syn"), real_array(node.w_in, "w_in")
    if (constants <= 0).any():
        raise InputError("a synapse has no time constant", expected="tau_syn above 0", got=constants.min())
    tau, weight = (np.unique(np.round(values, 12)) for values in (1000 * constants, scales * dt / constants))
    if len(tau) > 1 or not np.allclose(weight, 1000):
        raise InputError(
            "synapses differ within a layer, or scale their weights",
            expected="one tau_syn per layer, and w_in = tau_syn / dt",
            got=f"tau_syn {tau.tolist()} ms",
        )
    return CurrentSynapse(float(tau[0]))


def _itself(graph: Any, name: str) -> str | None:
    """Return the node through which neurons act on themselves."""
    after = {target for source, target in graph.edges if source == name}
    return next((source for source, target in graph.edges if target == name and source in after), None)


def _nir_chain(nir: Any, graph: Any) -> list[tuple[str, str]]:
    """Return the names of weights and neurons, layer by layer, from the input to the output."""
    start = place = next((name for name, node in graph.nodes.items() if isinstance(node, nir.Input)), None)
    order: list[tuple[str, str]] = []
    seen: set[str] = set()
    while place is not None and place not in seen:
        seen.add(place)
        into = [t for s, t in graph.edges if s == place and t != _itself(graph, place)]
        if len(into) == 1 and isinstance(graph.nodes.get(into[0]), nir.Output) and order:
            _refuse_others(graph, {name for pair in order for name in pair} | {start, into[0]})
            return order
        chained = len(into) == 1 and isinstance(graph.nodes.get(into[0]), (nir.Linear, nir.Affine))
        neurons = [t for s, t in graph.edges if chained and s == into[0]]
        if len(neurons) != 1 or not isinstance(graph.nodes.get(neurons[0]), (nir.LIF, nir.CubaLIF)):
            break
        order.append((into[0], neurons[0]))
        place = neurons[0]
    raise InputError(
        "the graph is no chain of layers",
        expected="Input, Linear or Affine, LIF or CubaLIF, ..., Output",
        got=", ".join(type(node).__name__ for node in graph.nodes.values()),
    )


def _refuse_others(graph: Any, chain: set[str | None]) -> None:
    """Raise `InputError` where nodes beside the chain act on it, or nobody knows on what."""
    itself = {_itself(graph, name) for name in chain if name is not None}
    others = sorted(set(graph.nodes) - chain - itself)
    if others:
        got = ", ".join(f"{name} ({type(graph.nodes[name]).__name__})" for name in others)
        raise InputError("the graph has nodes beside the chain of its layers", expected="none", got=got)


def _read(nir: Any, path: str | PathLike[str]) -> Any:
    try:
        return nir.read(path)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise StorageError(f"{path} cannot be read as a graph of NIR", got=str(error)) from error
