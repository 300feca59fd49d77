"""From Brian2 to torch: networks of neurons that this package knows, as a spiking network with the same spikes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neuros_mechint.adapters.brian2.factories import unit_called
from neuros_mechint.adapters.brian2.inputs import as_namespace
from neuros_mechint.adapters.brian2.places import BrianObject, is_monitor
from neuros_mechint.adapters.brian2.recognised import Population, recognise
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.biophysics.spiking.network import SpikingNeuralNetwork
from neuros_mechint.neuro.biophysics.synapses import PulseSynapse

if TYPE_CHECKING:
    from brian2 import Network

_PARTS_OF_GROUPS = ("StateUpdater", "Thresholder", "Resetter", "SubexpressionUpdater", "SynapticPathway")
_SOURCES = ("SpikeGeneratorGroup", "PoissonGroup")
_ON_SPIKE = re.compile(r"\s*(\w+?)(?:_post)?\s*\+=\s*(\w+)\s*")


def brian2_to_torch(network: Network, namespace: Mapping[str, Any] | None = None) -> SpikingNeuralNetwork:
    """Return a Brian2 network as a spiking network in torch that fires the same spikes.

    The inverse of `to_brian2`, for every network of that kind, whoever wrote it: cells as `neuron_group` writes them,
    one group after the other, each with or without synapses onto itself. Anything else is refused by its name, and
    remains open to `adapt` and `from_brian2`.

    Parameters
    ----------
    network : brian2.Network
        At rest; it is only read. A ``SpikeGeneratorGroup`` or ``PoissonGroup`` stands for the inputs; the spikes that
        it sends are not taken over. Monitors are left out.
    namespace : dict, optional
        What names in the equations mean that the groups do not define themselves; by default the caller's variables.

    Returns
    -------
    SpikingNeuralNetwork
        Surrogates, and which parameters are learned, are not in Brian2: those of a new network. In double precision,
        one layer per group in the order in which they drive each other. Currents ``I`` are its
        biases; parameters that differ between cells are tensors. A network without a source has one input of weight 0.

    Raises
    ------
    InputError
        Equations, integrators, synapses, schedules or further objects that the network in torch has not; a state that
        is not that at rest.
    OptionError
        Parameters that are not physical, or a time step that is too long for them.

    Examples
    --------
    >>> import brian2
    >>> from neuros_mechint.adapters.brian2.export import to_brian2
    >>> brian2.prefs.codegen.target = "numpy"  # nothing to compile
    >>> network = SpikingNeuralNetwork([3, 5], dt=1.0).double()
    >>> same = brian2_to_torch(to_brian2(network).network)
    >>> inputs = torch.ones(1, 30, 3, dtype=torch.float64)
    >>> bool((same(inputs) == network(inputs)).all())
    True
    """
    names = as_namespace(namespace)
    if not hasattr(network, "sorted_objects"):
        raise InputError(
            "this is no network of Brian2",
            expected="a brian2.Network",
            got=type(network).__name__,
            fix="pass copy.network" if hasattr(network, "network") else "put the groups into brian2.Network(...)",
        )
    parts = _Parts(network)
    found = {name: recognise(group, names) for name, group in parts.groups.items()}
    connections = [_connection(synapses, found, parts) for synapses in parts.synapses]
    order = _in_a_chain(parts, connections)
    layers = [_layer(network, found[name], parts, connections) for name in order]
    n_inputs = len(parts.source) if parts.source is not None else 1
    dt = parts.dt * 1e3
    copy = SpikingNeuralNetwork(
        [n_inputs, *(len(parts.groups[name]) for name in order)],
        [found[name].neuron for name in order],
        dt,
        [found[name].synapse for name in order],
        [layer.recurrent is not None for layer in layers],
        [layer.delay * dt for layer in layers],
        bias=any(one.current.any() for one in found.values()),
    ).double()
    _fill(copy, layers, [found[name].current for name in order])
    return copy


# -- what is there -----------------------------------------------------------------------------------------------------


class _Parts:
    """The objects of a network by what they are; raises `InputError` on one that a network in torch has not."""

    def __init__(self, network: Network) -> None:
        self.groups: dict[str, BrianObject] = {}
        self.synapses: list[BrianObject] = []
        self.regular: list[BrianObject] = []
        sources: list[BrianObject] = []
        for one in network.sorted_objects:
            kind = type(one).__name__
            if kind == "NeuronGroup":
                self.groups[one.name] = one
            elif kind in _SOURCES:
                sources.append(one)
            elif kind == "Synapses":
                self.synapses.append(one)
            elif kind == "CodeRunner":
                self.regular.append(one)
            elif kind not in _PARTS_OF_GROUPS and not is_monitor(one):
                raise _unknown(f"{one.name!r} is a {kind}", "groups of cells, synapses, and one source of spikes")
        if not self.groups:
            raise _unknown("the network has no NeuronGroup", "groups of cells")
        if len(sources) > 1:
            raise _unknown(f"several sources: {', '.join(one.name for one in sources)}", "one source of input spikes")
        self.source = sources[0] if sources else None
        clocked = [*self.groups.values(), *sources, *self.synapses, *self.regular]
        steps = sorted({float(f"{float(one.clock.dt_):.15g}") for one in clocked})
        if len(steps) > 1:
            raise _unknown(f"several time steps: {steps} s", "one dt")
        self.dt = steps[0]


@dataclass(frozen=True)
class _Connection:
    """Synapses from one group to another: weights (target, source) in pA or nS, delay in steps beside the order."""

    source: str
    target: str
    weights: Floats
    delay: int
    synapses: BrianObject


def _connection(synapses: BrianObject, found: Mapping[str, Population], parts: _Parts) -> _Connection:
    """Return the weights and the delay of synapses that only add a weight to the state of their kind."""
    name, source, target = synapses.name, synapses.source.name, synapses.target.name
    known = {*found, *([parts.source.name] if parts.source is not None else [])}
    for end in (source, target):
        if end not in known:
            raise _unknown(
                f"{name!r} connects {end!r}, a part of a group or what is not in the network", "whole groups"
            )
    if target not in found:
        raise _unknown(f"{name!r} acts on {target!r}, a source of spikes", "synapses onto cells")
    pathways, equations = list(synapses._pathways), synapses.equations
    code = pathways[0].code if len(pathways) == 1 else ""
    match = _ON_SPIKE.fullmatch(code)
    weight = match.group(2) if match else ""
    plain = len(pathways) == 1 and pathways[0].prepost == "pre" and match is not None
    own = [one for one in equations.values() if one.varname != "lastupdate"]
    if not plain or [(one.varname, one.type) for one in own] != [(weight, "parameter")]:
        whole = "; ".join([*(f"on_{one.prepost}: {one.code}" for one in pathways), *map(str, own)])
        raise _unknown(f"the synapses {name!r} do more than add a weight: {whole}", "on_pre='STATE_post += weight'")
    population = found[target]
    if match is None or match.group(1) != population.key:
        wanted = f"{population.key}_post += weight" if population.key else "a group with a state of synapses"
        raise _unknown(f"{name!r} acts by {code!r}", wanted)
    steps = np.unique(np.floor(synapses.pre.variables["delay"].get_value() / parts.dt + 0.5).astype(int))
    if len(steps) != 1:
        raise _unknown(f"{name!r} has delays from {steps.min()} to {steps.max()} time steps", "one delay")
    weights = np.zeros((len(synapses.target), len(synapses.source)))
    values = np.asarray(synapses.variables[weight].get_value()) / float(unit_called(population.synapse.unit))
    np.add.at(weights, (np.asarray(synapses.j[:]), np.asarray(synapses.i[:])), np.broadcast_to(values, len(synapses)))
    return _Connection(source, target, weights, int(steps[0]), synapses)


def _in_a_chain(parts: _Parts, connections: Sequence[_Connection]) -> list[str]:
    """Return the groups in the order in which they drive each other; raise `InputError` where that is no chain."""
    pairs = [(one.source, one.target) for one in connections]
    double = [pair for pair in pairs if pairs.count(pair) > 1]
    if double:
        raise _unknown(f"several synapses from {double[0][0]!r} to {double[0][1]!r}", "one Synapses for each pair")
    forward = [pair for pair in pairs if pair[0] != pair[1]]
    after = dict(forward)
    first = [name for name in parts.groups if name not in after.values()]
    start = parts.source.name if parts.source is not None else first[0] if first else ""
    order, now = [] if parts.source is not None else [start], start
    while now in after and after[now] not in order:
        now = after[now]
        order.append(now)
    if len(order) != len(parts.groups) or len(forward) != len(order) - (parts.source is None):
        arrows = ", ".join(f"{source} -> {target}" for source, target in forward) or "no synapses between groups"
        raise _unknown(f"the groups form no chain: {arrows}", "source -> first group -> second group -> ...")
    return order


# -- layers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """Weights from the layer below and within, and the delay in time steps of a layer in torch."""

    forward: Floats | None
    recurrent: Floats | None
    delay: int


def _layer(network: Network, one: Population, parts: _Parts, connections: Sequence[_Connection]) -> _Layer:
    """Return the weights onto a group and their delay, counted from spike to effect."""
    ranks = {name: 3 * index for index, name in enumerate(network.schedule)}
    group, name = one.group, one.group.name
    integrates = _rank(ranks, group.state_updater.when)
    fires = _rank(ranks, group.thresholder["spike"].when)
    resets = [_rank(ranks, resetter.when) for resetter in group.resetter.values()]
    cleared = _check_pulses(ranks, one, parts)
    if not (
        integrates < fires and all(fires < reset for reset in resets) and (cleared is None or integrates < cleared)
    ):
        raise _unknown(f"{name!r} runs in another order within a step", "integration, threshold, reset")
    forward = recurrent = None
    steps: dict[str, int] = {}
    for connection in connections:
        if connection.target != name:
            continue
        below = parts.source if parts.source is not None and connection.source == parts.source.name else None
        sender = below if below is not None else parts.groups[connection.source].thresholder["spike"]
        arrives = _rank(ranks, connection.synapses.pre.when)
        late = arrives > integrates
        if _rank(ranks, sender.when) >= arrives or (late and cleared is not None and cleared > arrives):
            raise _unknown(f"{connection.synapses.name!r} run in another order within a step", "threshold, synapses")
        if connection.source == name:
            recurrent, steps["recurrent"] = connection.weights, connection.delay + late
        else:
            forward, steps["forward"] = connection.weights, connection.delay + late
    delay = steps.get("forward", steps.get("recurrent", 1))
    if steps.get("recurrent", max(1, delay)) != max(1, delay):
        raise _unknown(
            f"spikes take {steps['recurrent']} time steps within {name!r} and {delay} from the layer below",
            f"{max(1, delay)} within, as a layer in torch has it",
        )
    return _Layer(forward, recurrent, delay)


def _rank(ranks: Mapping[str, int], when: str) -> int:
    shift = -1 if when.startswith("before_") else 1 if when.startswith("after_") else 0
    return ranks[when.removeprefix("before_").removeprefix("after_")] + shift


def _check_pulses(ranks: Mapping[str, int], one: Population, parts: _Parts) -> int | None:
    """Return when in a step the pulses of a group end, or ``None`` where there are none."""
    name, moment = one.group.name, None
    for runner in parts.regular:
        if runner.group.name != name:
            continue
        ends = isinstance(one.synapse, PulseSynapse) and one.key
        if not ends or "".join(runner.abstract_code.split()) != f"{one.key}=0*amp":
            raise _unknown(f"{name!r} runs {runner.abstract_code.strip()!r} regularly", "nothing beside its equations")
        moment = _rank(ranks, runner.when)
    if isinstance(one.synapse, PulseSynapse) and one.key and moment is None:
        wanted = f"run_regularly('{one.key} = 0 * amp', when='after_groups'), or an equation by which it decays"
        raise _unknown(f"{one.key!r} of {name!r} never ends", wanted)
    return moment


def _fill(copy: SpikingNeuralNetwork, layers: Sequence[_Layer], currents: Sequence[Floats]) -> None:
    with torch.no_grad():
        for part, layer, current in zip(copy.spiking_layers, layers, currents, strict=True):
            part.weight.copy_(torch.from_numpy(layer.forward) if layer.forward is not None else torch.zeros(()))
            if part.recurrent_weight is not None and layer.recurrent is not None:
                part.recurrent_weight.copy_(torch.from_numpy(layer.recurrent))
            if part.bias is not None:
                part.bias.copy_(torch.from_numpy(current))


def _unknown(met: str, expected: str) -> InputError:
    return InputError(
        f"no network in torch is like this one: {met}",
        expected=expected,
        fix="nm.adapt takes any Brian2 network as it is; from_brian2 records it",
    )
