"""Groups and synapses of Brian2 made from the neurons and rules of `neuros_mechint.neuro.biophysics`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from keyword import iskeyword
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.errors import InputError, OptionError, whole
from neuros_mechint.core.numbers import graph_tensor, real_array
from neuros_mechint.neuro.biophysics.neurons.base import PointNeuron
from neuros_mechint.neuro.biophysics.plasticity.base import PlasticityRule, SynapseText
from neuros_mechint.neuro.biophysics.plasticity.short_term import ShortTermPlasticity
from neuros_mechint.neuro.biophysics.synapses import Synapse

_OF_THE_GROUP = ("I", "I_synapses", "lastspike", "not_refractory")


def in_units(constants: Mapping[str, tuple[float, str]]) -> dict[str, Any]:
    """Return numbers with their Brian2 units, by name.

    Parameters
    ----------
    constants : dict of str to (float, str)
        Number and name of a unit such as ``"ms"`` or ``"uA/cm**2"``; ``"1"`` for none.

    Raises
    ------
    OptionError
        A unit that Brian2 does not know.

    Examples
    --------
    >>> in_units({"tau": (20.0, "ms")})
    {'tau': 20. * msecond}
    """
    return {name: value * unit_called(unit) for name, (value, unit) in constants.items()}


def unit_called(text: str) -> Any:
    """Return a unit of Brian2 by its name: products and quotients of names and powers, or ``"1"``.

    Raises
    ------
    OptionError
        A name that is no unit of Brian2.
    """
    import brian2

    unit: Any = 1.0
    for position, factor in enumerate(str(text).replace("**", "^").split("/")):
        name, _, power = factor.partition("^")
        if name == "1":
            continue
        found = getattr(brian2, name, None)
        if not isinstance(found, brian2.Unit) or not re.fullmatch(r"(-?\d+)?", power):
            raise OptionError(
                f"Brian2 has no unit {factor!r}", expected="a unit such as 'ms', 'mV', 'uA/cm**2'", got=repr(text)
            )
        one = found ** int(power) if power else found
        unit = unit / one if position else unit * one
    return unit


def neuron_group(
    neuron: PointNeuron,
    n: int,
    synapses: Mapping[str, Synapse] | None = None,
    name: str = "neurongroup*",
    dt: float | None = None,
) -> Any:
    """Return a Brian2 group of neurons, at rest.

    Parameters
    ----------
    neuron : PointNeuron
        Such as `LIF`, `AdEx`, `Izhikevich` or `HodgkinHuxley`. Parameters that are arrays are each neuron's own.
    n : int
        Number of neurons.
    synapses : dict of str to Synapse, optional
        Kinds of synapses onto them. The key is the name of the state to which spikes add: ``on_pre="ampa += w"`` with
        weights in nS for a conductance ``{"ampa": nm.AMPA()}``, in pA for a current.
    name : str
        Of the group.
    dt : float, optional
        Time step, ms; by default that of Brian2's clock.

    Returns
    -------
    brian2.NeuronGroup
        With the external current ``I`` (a parameter, 0 at first) and the integrator that `PointNeuron.step` writes out.

    Raises
    ------
    InputError
        No neuron, or parameters of another number of neurons.
    OptionError
        A number of neurons below 1, a time step that is too long for them, a name that Brian2 does not take, or a
        synapse with the name of a variable of the neuron.

    Examples
    --------
    >>> from neuros_mechint.neuro.biophysics.neurons.lif import LIF
    >>> from neuros_mechint.neuro.biophysics.synapses import AMPA
    >>> group = neuron_group(LIF(rest=-65.0, threshold=-50.0, reset=-65.0), 3, {"ampa": AMPA()})
    >>> group.v[0], "ampa" in group.variables
    (-65. * mvolt, True)
    """
    import brian2

    if not isinstance(neuron, PointNeuron):
        raise InputError("this is no neuron", expected="a PointNeuron such as LIF()", got=repr(neuron))
    n, name = whole("n", n), _checked_name(name)
    neuron.check_number(n)
    neuron.check_step(round(float(brian2.defaultclock.dt_) * 1000, 9) if dt is None else dt)
    alike, differing = _told_apart(neuron)
    text, rest = alike.brian2_text(), neuron.initial_state(n)
    equations, constants = equations_of(alike, synapses or {})
    own = {name: values * unit_called(constants.pop(name)[1]) for name, values in differing.items()}
    group = brian2.NeuronGroup(
        n,
        "\n".join(
            [equations, *(f"{name} : {brian2.get_unit(values.dim)!r} (constant)" for name, values in own.items())]
        ),
        threshold=text.threshold,
        reset=text.reset or None,
        refractory=text.refractory or False,  # pyright: ignore[reportArgumentType]
        method=text.method,
        namespace=in_units(constants),
        name=name,
        dt=None if dt is None else float(dt) * brian2.ms,
    )
    for name_of_one, values in own.items():
        setattr(group, name_of_one, values)
    for variable, unit in neuron.units.items():
        if variable in group.variables:
            setattr(group, variable, rest[variable].numpy() * unit_called(unit))
    return group


def _told_apart(neuron: PointNeuron) -> tuple[PointNeuron, dict[str, Any]]:
    """Return a neuron whose parameters are all one number, and those that are each neuron's own, ``(n,)``."""
    own = {one.name: getattr(neuron, one.name) for one in fields(neuron)}
    several = {name: real_array(value, name) for name, value in own.items() if isinstance(value, torch.Tensor)}
    first = {name: float(values.flat[0]) for name, values in several.items()}
    return replace(neuron, **first), {name: values for name, values in several.items() if np.ptp(values)}


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*\*?", name):
        raise OptionError(
            "Brian2 takes no such name",
            expected="letters, digits and '_', no digit first; with '*' at the end Brian2 adds a number",
            got=repr(name),
        )
    return name


def equations_of(neuron: PointNeuron, synapses: Mapping[str, Synapse]) -> tuple[str, dict[str, tuple[float, str]]]:
    """Return the equations of a neuron with its synapses and external current, and all constants in them."""
    text, state = neuron.brian2_text(), neuron.units
    equations, currents, constants = [text.equations, "I : amp"], ["0 * amp"], dict(text.constants)
    if not isinstance(synapses, Mapping) or not all(isinstance(one, Synapse) for one in synapses.values()):
        raise InputError("these are no synapses", expected="a dict such as {'ampa': AMPA()}", got=repr(synapses))
    for key, synapse in synapses.items():
        if key in state or key in constants or key in _OF_THE_GROUP or not _is_variable(key):
            raise OptionError(
                f"a synapse cannot be called {key!r}",
                expected="a name that is no variable or parameter of the neuron, and means nothing to Brian2",
                fix=f"call it {key + '_synapse'!r}" if str(key).isidentifier() else None,
            )
        own, current, more = synapse.brian2_equations(key)
        equations.append(own)
        currents.append(current)
        constants |= more
    equations.append("I_synapses = " + " + ".join(currents) + " : amp")
    return "\n".join(equations), constants


def _is_variable(name: Any) -> bool:
    """Return whether Brian2 takes a name for a variable: no unit, function, constant or word of its own or Python's."""
    from brian2 import Equations

    if not isinstance(name, str) or not name.isidentifier() or iskeyword(name):
        return False
    try:
        Equations.check_identifier(name)
    except (SyntaxError, ValueError):
        return False
    return True


def plastic_synapses(
    rule: PlasticityRule | ShortTermPlasticity, source: Any, target: Any, weights: Any, name: str = "synapses*"
) -> Any:
    """Return Brian2 synapses that follow a rule of plasticity.

    Parameters
    ----------
    rule : STDP, TripletSTDP, BCM, HomeostaticScaling or ShortTermPlasticity
        BCM reads a variable ``rate`` of both groups.
    source, target : brian2.NeuronGroup or another group that spikes
    weights : array of shape (n_target, n_source)
        As torch has them. Pairs whose weight is NaN are not connected.
    name : str
        Of the synapses.

    Returns
    -------
    brian2.Synapses
        The weight is ``w``; what a spike does to the target is the caller's.

    Raises
    ------
    InputError
        Weights of another shape, infinite ones or such outside the bounds of the rule, or no connection at all; no
        rule, or groups that lack a variable that it reads.
    OptionError
        A name that Brian2 does not take.

    Examples
    --------
    >>> import brian2
    >>> brian2.prefs.codegen.target = "numpy"  # nothing to compile
    >>> from neuros_mechint.neuro.biophysics.plasticity.stdp import STDP
    >>> groups = [brian2.NeuronGroup(n, "v : 1", threshold="v > 1", reset="v = 0") for n in (2, 3)]
    >>> synapses = plastic_synapses(STDP(), *groups, weights=np.ones((3, 2)))
    >>> len(synapses)
    6
    """
    import brian2

    text = _checked_rule(rule, source, target)
    name, dense = _checked_name(name), real_array(weights, "weights", finite=False)
    if dense.shape != (len(target), len(source)):
        raise InputError(
            "weights do not fit the groups",
            expected=f"(n_target, n_source) = ({len(target)}, {len(source)})",
            got=f"shape {dense.shape}",
        )
    to, of = np.nonzero(~np.isnan(dense))
    if not len(to):
        raise InputError("there is no connection", expected="at least one weight that is not NaN")
    if np.isinf(dense).any():
        raise InputError("weights are infinite", expected="finite numbers, and NaN where there is no connection")
    if isinstance(rule, PlasticityRule):
        rule.check_weights(graph_tensor(weights, "weights"))
    synapses = brian2.Synapses(
        source,
        target,
        model=text.model,
        on_pre=text.on_pre or None,
        on_post=text.on_post or None,
        method=text.method,
        namespace=in_units(text.constants),
        name=name,
        clock=target.clock,
    )
    synapses.connect(i=of, j=to)
    synapses.w = dense[to, of]
    if text.each_step:
        synapses.run_regularly(text.each_step, when="after_groups", clock=target.clock)
    if "x" in synapses.variables:  # the resource of a synapse that has rested
        synapses.x = 1.0
    return synapses


def _checked_rule(rule: Any, source: Any, target: Any) -> SynapseText:
    """Return the text of a rule; raise `InputError` for what is none, or for groups that it cannot connect."""
    from brian2.core.spikesource import SpikeSource
    from brian2.units.fundamentalunits import DIMENSIONLESS

    if not isinstance(rule, (PlasticityRule, ShortTermPlasticity)):
        raise InputError("this is no rule of plasticity", expected="such as STDP()", got=repr(rule))
    text, groups = rule.brian2_text(), {"source": source, "target": target}
    for role, group in groups.items():
        if not isinstance(group, SpikeSource):
            raise InputError(f"the {role} is no group of Brian2 that spikes", got=type(group).__name__)
    for variable, end in sorted(set(re.findall(r"\b(\w+)_(pre|post)\b", text.model))):
        role = "source" if end == "pre" else "target"
        there: Any = groups[role]
        if variable not in there.variables:
            raise InputError(
                f"the {role} has no variable {variable!r}, which {type(rule).__name__} reads",
                expected=f"a group with the equation '{variable} : 1'",
                got=", ".join(sorted(there.variables)),
            )
        if there.variables[variable].dim is not DIMENSIONLESS:
            raise InputError(
                f"the variable {variable!r} of the {role} has a unit, which {type(rule).__name__} cannot read",
                expected=f"'{variable} : 1', as a multiple of some rate",
                got=repr(there.variables[variable].unit),
            )
    return text
