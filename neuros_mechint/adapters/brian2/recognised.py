"""Groups of Brian2 cells whose equations are those of a neuron that this package has in torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from neuros_mechint.adapters.brian2.factories import equations_of, unit_called
from neuros_mechint.adapters.brian2.places import BrianObject
from neuros_mechint.adapters.brian2.units import in_base_units
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.biophysics.neurons.adex import AdEx
from neuros_mechint.neuro.biophysics.neurons.base import Brian2Text, PointNeuron
from neuros_mechint.neuro.biophysics.neurons.hodgkin_huxley import HodgkinHuxley
from neuros_mechint.neuro.biophysics.neurons.izhikevich import Izhikevich
from neuros_mechint.neuro.biophysics.neurons.lif import LIF
from neuros_mechint.neuro.biophysics.synapses import NMDA, ConductanceSynapse, CurrentSynapse, PulseSynapse, Synapse

_NEURONS = (LIF(), AdEx(), Izhikevich(), HodgkinHuxley(), HodgkinHuxley.traub_miles())
_SYNAPSES = (PulseSynapse(), CurrentSynapse(), ConductanceSynapse(), NMDA())
_DIGITS = 15
"""Of a parameter: what a change of units and back leaves of a number that somebody typed."""


@dataclass(frozen=True)
class Population:
    """A group of cells as torch has them.

    Parameters
    ----------
    group : brian2.NeuronGroup
    neuron : PointNeuron
    synapse : Synapse
        `PulseSynapse` where the group has none.
    key : str
        Name of the synapses' state in the group; empty where there is none.
    current : array of shape (n_cells,)
        External current, pA.
    """

    group: BrianObject
    neuron: PointNeuron
    synapse: Synapse
    key: str
    current: Floats


def recognise(group: BrianObject, namespace: Mapping[str, Any]) -> Population:
    """Return the neuron, the synapses and their parameters that a group of Brian2 stands for.

    Equations are compared as they are written, up to blanks and brackets that change nothing: another order of
    operations is another rounding, and would not give the same spikes.

    Parameters
    ----------
    group : brian2.NeuronGroup
        At rest.
    namespace : dict
        What names in its equations mean that the group does not define itself.

    Raises
    ------
    InputError
        What the group has that no neuron here has, by its name; parameters that are not defined, or of other units.
    OptionError
        Parameters that are not physical.
    """
    prototype, key, synapse = _matching(group)
    text = prototype.brian2_text()
    _check_events(group, text, type(prototype).__name__)
    _, constants = equations_of(prototype, {key: synapse} if key else {})
    own_refractory = not isinstance(group._refractory, str)
    values = {
        name: _value(group, namespace, name, unit)
        for name, (_, unit) in constants.items()
        if not (name == "refractory" and own_refractory)
    }
    if own_refractory and "refractory" in constants:
        values["refractory"] = float(f"{float(group._refractory) * 1e3:.{_DIGITS}g}")
    neuron = _with(group, prototype, {name: values[name] for name in text.constants})
    parameters = {name.removesuffix(f"_{key}"): value for name, value in values.items() if name not in text.constants}
    found = Population(group, neuron, _with(group, synapse, parameters), key, np.asarray(group.I_[:]) / 1e-12)
    _check_rest(found)
    return found


# -- equations ---------------------------------------------------------------------------------------------------------

_Meaning = dict[str, tuple[Any, ...]]


def _matching(group: BrianObject) -> tuple[PointNeuron, str, Synapse]:
    """Return a neuron, the name of its synapses and their kind, whose equations are those of the group."""
    from brian2 import Equations

    own = _meaning(group.user_equations)
    near: list[tuple[int, str]] = []
    for neuron in _NEURONS:
        alone = Equations(equations_of(neuron, {})[0])
        keys = [name for name in own if name not in alone and name not in neuron.brian2_text().constants]
        for key, synapse in [("", PulseSynapse()), *((key, one) for key in keys for one in _SYNAPSES)]:
            text, constants = equations_of(neuron, {key: synapse} if key else {})
            wanted = _meaning(Equations(text))
            odd = [name for name in wanted if own.get(name) != wanted[name]]
            odd += [name for name in own if name not in wanted and not _is_parameter(own, name, constants)]
            if not odd:
                return neuron, key, synapse
            near.append((len(odd), f"{type(neuron).__name__} but for {', '.join(odd)}"))
    raise InputError(
        f"the equations of {group.name!r} are those of no neuron that this package has",
        expected=f"{', '.join(dict.fromkeys(type(one).__name__ for one in _NEURONS))} as nm.neuron_group writes them",
        got=f"{min(near)[1]}: {'; '.join(_in_one_line(group.user_equations))}",
        fix="nm.adapt takes any Brian2 network as it is; from_brian2 records it",
    )


def _is_parameter(own: _Meaning, name: str, constants: Mapping[str, tuple[float, str]]) -> bool:
    """Whether an equation only says that a parameter of the neuron differs between cells."""
    from brian2 import get_dimensions

    return name in constants and own[name] == ("parameter", get_dimensions(unit_called(constants[name][1])), "", ())


def _meaning(equations: Any) -> _Meaning:
    """Return type, dimensions, code and flags of each variable; whether a parameter is constant makes no difference."""
    found: _Meaning = {}
    for name, one in equations.items():
        code = "" if one.expr is None else _normal(one.expr.code)
        flags = tuple(
            sorted(flag for flag in one.flags if one.type != "parameter" or flag not in ("constant", "shared"))
        )
        found[name] = (one.type, one.dim, code, flags)
    return found


def _normal(code: str) -> str:
    """Return code without blanks and needless brackets; the order of operations stays."""
    return ast.unparse(ast.parse("\n".join(line.strip() for line in code.replace(";", "\n").splitlines())))


def _in_one_line(equations: Any) -> Iterator[str]:
    for one in equations.values():
        yield " ".join(str(one).split())


def _check_events(group: BrianObject, text: Brian2Text, kind: str) -> None:
    """Raise `InputError` where a group fires, resets or integrates otherwise than its neuron."""
    reset = group.event_codes.get("spike") or ""
    comparisons = [
        ("events", ", ".join(group.events), "spike"),
        ("threshold", _normal(group.events.get("spike", "")), _normal(text.threshold)),
        ("reset", _normal(reset), _normal(text.reset)),
        ("integrator", str(group.method_choice), text.method),
    ]
    if text.refractory != "refractory":  # a condition, or none
        comparisons.append(("refractoriness", str(group._refractory), str(text.refractory or False)))
    elif isinstance(group._refractory, str):
        comparisons.append(("refractoriness", group._refractory, "refractory"))
    for what, got, wanted in comparisons:
        if got != wanted:
            raise InputError(
                f"the {what} of {group.name!r} is not that of {kind}", expected=repr(wanted), got=repr(got)
            )


# -- parameters --------------------------------------------------------------------------------------------------------


def _value(group: BrianObject, namespace: Mapping[str, Any], name: str, unit: str) -> Any:
    """Return a parameter in the unit of this package: one number, or a tensor where cells differ."""
    from brian2 import get_dimensions

    one = unit_called(unit)
    if name in group.variables:
        base = np.asarray(group.variables[name].get_value(), dtype=np.float64)
    else:
        given = (group.namespace or {}).get(name, namespace.get(name))
        if given is None:
            fix = f"pass namespace={{{name!r}: ...}}"
            raise InputError(f"the parameter {name!r} of {group.name!r} is not defined", fix=fix)
        base = in_base_units(given, get_dimensions(one), f"the parameter {name!r} of {group.name!r}")
    numbers = [float(f"{value / float(one):.{_DIGITS}g}") for value in np.atleast_1d(base)]
    return numbers[0] if len(set(numbers)) == 1 else torch.tensor(numbers, dtype=torch.float64)


def _with(group: BrianObject, prototype: Any, values: Mapping[str, Any]) -> Any:
    """Return a neuron or a synapse with parameters in the place of its own."""
    single = {field.name for field in fields(prototype) if field.type != "Any"}
    for name, value in values.items():
        if name in single and isinstance(value, torch.Tensor):
            raise InputError(
                f"cells of {group.name!r} differ in {name}, which is one number for a layer in torch",
                expected="one value",
                got=f"{len(value.unique())} values",
                fix="one group for each value",
            )
    return replace(prototype, **values)


def _check_rest(found: Population) -> None:
    """Raise `InputError` where a group is not at rest, which is where a network in torch starts."""
    group, rest = found.group, found.neuron.initial_state(len(found.group))
    wanted = {name: (value.numpy(), found.neuron.units[name]) for name, value in rest.items() if name != "refractory"}
    wanted |= {found.key: (np.zeros(len(group)), found.synapse.unit)} if found.key else {}
    for name, (value, unit) in wanted.items():
        now = np.asarray(group.variables[name].get_value()) / float(unit_called(unit))
        if not np.allclose(now, value, rtol=1e-9, atol=1e-9):
            raise InputError(
                f"{group.name!r} is not at rest, where a network in torch starts",
                expected=f"{name} = {value[0]:.6g} {unit}",
                got=f"{now.min():.6g} to {now.max():.6g} {unit}",
                fix="take the network over before it runs, or after network.restore()",
            )
