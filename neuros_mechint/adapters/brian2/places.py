"""What a Brian2 network offers as sites: variables and spikes, and at which moment of a time step each stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from neuros_mechint.core.errors import SiteError, SiteWithheldError, near_names
from neuros_mechint.core.sites import Site, SiteTable

if TYPE_CHECKING:
    from brian2 import Network

BrianObject = Any
"""Any object of a network; Brian2 is imported only where it is used."""

_ASSIGNMENT = re.compile(r"^\s*(\w+)\s*(\*\*|//|<<|>>|[-+*/%&|^])?=(?!=)(.*)$")
_KEPT_BY_BRIAN2 = {
    "lastspike": "Brian2 keeps it for refractoriness; edit the spikes",
    "not_refractory": "Brian2 keeps it for refractoriness; edit the spikes",
    "lastupdate": "Brian2 keeps it for event-driven equations",
}


class Kind(Enum):
    """How the values at a place come about, which decides how long an edit of them lasts."""

    STATE = "state"
    """Integrated or incremented: what an edit changes, the network carries on."""
    HELD = "held"
    """Stays as it is, or is assigned anew: an edit lasts for the steps that it names."""
    FIXED = "fixed"
    """The same during a whole trial, so without an axis of time."""
    SPIKES = "spikes"
    """Who crossed the threshold in a step."""


@dataclass(frozen=True)
class Place:
    """One site of a network.

    Parameters
    ----------
    name : str
        ``GROUP.VARIABLE`` or ``GROUP.spikes``.
    group : brian2 Group
        Whose variable it is.
    variable : brian2 ArrayVariable
        Holds the values; of spikes the indices of the cells that spike, and last their number.
    kind : Kind
    size : int
        Number of cells or synapses; 1 for a variable that they share.
    dims : tuple of str
        Names of the axes of what is captured.
    after : tuple of brian2 objects
        It is read and edited when these have run in a step; without any, before the equations are integrated.
    assigned : bool
        Whether code of the network assigns the variable while it runs.
    """

    name: str
    group: BrianObject
    variable: Any
    kind: Kind
    size: int
    dims: tuple[str, ...]
    after: tuple[BrianObject, ...] = ()
    assigned: bool = False

    @property
    def shared(self) -> bool:
        """Whether it is one number for the whole group."""
        return self.dims[-1] in ("sample", "time")

    @property
    def timed(self) -> bool:
        """Whether it has an axis of time."""
        return "time" in self.dims

    def site(self, order: int) -> Site:
        """Return its line in the table of sites."""
        sizes: dict[str, int | None] = {"sample": None, "time": None, self.dims[-1]: None if self.shared else self.size}
        moment = {
            Kind.STATE: "as the equations find it",
            Kind.HELD: "as the equations find it",
            Kind.FIXED: "as it is set before a trial",
            Kind.SPIKES: "after the threshold, before synapses and reset",
        }[self.kind]
        moment = "after its sum over synapses" if self.after and self.kind is not Kind.SPIKES else moment
        native = f"{self.group.name}._spikespace" if self.kind is Kind.SPIKES else f"{self.name}_"
        shape = tuple(sizes[axis] for axis in self.dims)
        return Site(self.name, native, self.dims, shape, order=order, check=moment, units=self.units)

    @property
    def units(self) -> str:
        """The base unit of its values; empty for spikes and plain numbers."""
        from brian2.units.fundamentalunits import DIMENSIONLESS, get_unit_for_display

        plain = self.kind is Kind.SPIKES or self.variable.dim is DIMENSIONLESS
        return "" if plain else get_unit_for_display(self.variable.dim)


class Brian2Sites(SiteTable):
    """The sites of a network; its errors know groups, subgroups, and what is no site and why.

    Parameters
    ----------
    sites : iterable of Site
    withheld : dict of str to str
        Variables that equations define and that are no sites, and why.
    elsewhere : dict of str to str
        Further names that a reader might try, and why they are no sites.
    title : str
    """

    def __init__(self, sites: Iterable[Site], withheld: dict[str, str], elsewhere: dict[str, str], title: str) -> None:
        super().__init__(sites, withheld, title)
        self.elsewhere = elsewhere

    def unknown(self, name: str) -> SiteError:
        """Return the error for a name that is no site: withheld with its reason, or unknown with near names."""
        group = name.rpartition(".")[0]
        reason = self.elsewhere.get(name) or self.elsewhere.get(f"{group}.*")
        if reason:
            return SiteWithheldError(f"{name!r} is no site of this network: {reason}")
        error = super().unknown(name)
        if isinstance(error, SiteWithheldError):
            return error
        groups = list(dict.fromkeys(site.rpartition(".")[0] for site in self))
        near = near_names(name, self) or [f"{one}.*" for one in near_names(group or name, groups)]
        problem = f"no site {name!r} in this network"
        return SiteError(
            problem if group in groups or "*" in group else f"{problem}: no group {group or name!r}",
            expected=f"GROUP.VARIABLE or GROUP.spikes, with the groups {', '.join(groups)}",
            fix="did you mean " + " or ".join(map(repr, near)) + "?" if near else "see `model.sites()`",
        )


def places_of(network: Network) -> list[Place]:
    """Return the sites of a network: what is fixed during a trial first, then in the order of a time step."""
    objects = network.sorted_objects
    writers = _Writers(objects)
    found = [place for group in _groups(objects) for place in _variables_of(group, writers)]
    found += [_spikes_of(group) for group in _groups(objects) if "_spikespace" in group.variables]
    rank = {id(one): position for position, one in enumerate(objects)}

    def moment(place: Place) -> tuple[int, int]:
        return int(place.kind is not Kind.FIXED), max((rank[id(one)] for one in place.after), default=-1)

    return sorted(found, key=moment)


def site_table(network: Network, places: Sequence[Place]) -> Brian2Sites:
    """Return the table of sites, with reasons for what is none."""
    withheld: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    offered = {place.name for place in places}
    for group in _groups(network.sorted_objects):
        for name, reason in _reasons(group):
            if f"{group.name}.{name}" not in offered:
                defined = name in getattr(group, "equations", ()) and name not in _KEPT_BY_BRIAN2
                (withheld if defined else elsewhere)[f"{group.name}.{name}"] = reason
        for end in ("source", "target"):
            part: Any = getattr(group, end, None)
            if hasattr(part, "start") and hasattr(part, "source"):
                whole = f"{part.source.name}.VARIABLE[unit={part.start}:{part.stop}]"
                elsewhere[f"{part.name}.*"] = f"{part.name} is a subgroup; name that part of its group: {whole!r}"
    sites = [place.site(order) for order, place in enumerate(places)]
    return Brian2Sites(sites, withheld, elsewhere, f"sites of network {network.name!r}")


def is_monitor(one: BrianObject) -> bool:
    """Whether an object only records."""
    from brian2 import EventMonitor, PopulationRateMonitor, StateMonitor

    return isinstance(one, (EventMonitor, PopulationRateMonitor, StateMonitor))


def is_operation(one: BrianObject) -> bool:
    """Whether an object runs Python code of the user, which may do anything."""
    from brian2 import NetworkOperation

    return isinstance(one, NetworkOperation)


def is_synapses(group: BrianObject) -> bool:
    """Whether a group's entries are synapses."""
    from brian2 import Synapses

    return isinstance(group, Synapses)


def _groups(objects: Iterable[BrianObject]) -> list[BrianObject]:
    """Return the groups of cells and of synapses among the objects of a network."""
    from brian2 import Group, Synapses
    from brian2.core.spikesource import SpikeSource

    groups = [one for one in objects if isinstance(one, Group) and not is_monitor(one)]
    return [one for one in groups if isinstance(one, (SpikeSource, Synapses)) or hasattr(one, "equations")]


def _variables_of(group: BrianObject, writers: _Writers) -> Iterator[Place]:
    from brian2.core.variables import ArrayVariable

    synapses = is_synapses(group)
    event_driven = _event_driven(group)
    for name, variable in group.variables.items():
        own = isinstance(variable, ArrayVariable) and variable.owner is not None and variable.owner.name == group.name
        if not own or variable.read_only or name.startswith("_") or name in _KEPT_BY_BRIAN2 or name in event_driven:
            continue
        fixed = variable.constant or (synapses and not writers.writes(variable))
        kind = Kind.FIXED if fixed else Kind.STATE if writers.carries_on(variable) else Kind.HELD
        axis = () if variable.scalar else ("synapse",) if synapses else ("unit",)
        yield Place(
            name=f"{group.name}.{name}",
            group=group,
            variable=variable,
            kind=kind,
            size=1 if variable.scalar else len(group),
            dims=("sample", *(() if fixed else ("time",)), *axis),
            after=() if fixed else writers.summed(variable),
            assigned=writers.writes(variable) or writers.operations,
        )


def _spikes_of(group: BrianObject) -> Place:
    thresholders = getattr(group, "thresholder", None)
    return Place(
        name=f"{group.name}.spikes",
        group=group,
        variable=group.variables["_spikespace"],
        kind=Kind.SPIKES,
        size=len(group),
        dims=("sample", "time", "unit"),
        after=(thresholders["spike"] if thresholders else group,),
    )


def _event_driven(group: BrianObject) -> set[str]:
    return set(getattr(getattr(group, "event_driven", None), "diff_eq_names", ()))


def _reasons(group: BrianObject) -> Iterator[tuple[str, str]]:
    """Yield the variables of a group that are no sites, and why."""
    from brian2.core.variables import Subexpression

    for name, variable in group.variables.items():
        owner = getattr(variable.owner, "name", group.name)
        if name.startswith("_"):
            continue
        if name in _KEPT_BY_BRIAN2:
            yield name, _KEPT_BY_BRIAN2[name]
        elif owner != group.name:
            yield name, f"it belongs to {owner}: ask for '{owner}.{variable.name}'"
        elif isinstance(variable, Subexpression):
            yield name, "a subexpression, computed where it is used; edit what it is made of, or add (constant over dt)"
        elif name in _event_driven(group):
            yield name, "event-driven: between events its value is out of date; (clock-driven) makes it a site"
        else:
            yield name, "read-only: Brian2 sets it"
    if "_spikespace" not in group.variables and not is_synapses(group):
        yield "spikes", "the group has no threshold, so it never spikes"


class _Writers:
    """Which code of a network assigns which variable while it runs."""

    def __init__(self, objects: Sequence[BrianObject]) -> None:
        self.operations = any(is_operation(one) for one in objects)
        self._written: set[int] = set()
        self._carried: set[int] = set()
        self._sums: dict[int, list[BrianObject]] = {}
        for one in objects:
            if not is_monitor(one):
                self._read(one)

    def writes(self, variable: Any) -> bool:
        """Whether any code assigns the variable."""
        return id(variable) in self._written

    def carries_on(self, variable: Any) -> bool:
        """Whether the next value of the variable depends on the present one."""
        return id(variable) in self._carried

    def summed(self, variable: Any) -> tuple[BrianObject, ...]:
        """Return what sums synapses into the variable."""
        return tuple(self._sums.get(id(variable), ()))

    def _read(self, one: BrianObject) -> None:
        target = getattr(one, "target_var", None)
        if hasattr(target, "owner"):  # a summed variable; a PoissonInput keeps a name there
            self._written.add(id(target))
            self._sums.setdefault(id(target), []).append(one)
            return
        group = getattr(one, "group", None)
        if group is None:
            return
        for name, integrated in _assigned(one, group):
            variable = group.variables.get(name)
            self._written.add(id(variable))
            if integrated:
                self._carried.add(id(variable))


def _assigned(one: BrianObject, group: BrianObject) -> Iterator[tuple[str, bool]]:
    """Yield the names that the code of an object assigns, and whether from their present value."""
    if type(one).__name__ == "StateUpdater":
        yield from ((name, True) for name in group.equations.diff_eq_names)
        return
    if type(one).__name__ == "SpatialStateUpdater":  # the cable equation is no equation of the group
        yield from (("v", True), ("Ic", False))
        return
    code = getattr(one, "code", None) or getattr(one, "abstract_code", None) or ""
    if not code and hasattr(one, "event"):
        code = group.event_codes.get(one.event, "") if hasattr(group, "event_codes") else ""
    for statement in re.split(r"[;\n]", code):
        match = _ASSIGNMENT.match(statement)
        if match:
            name, augmented, value = match.groups()
            yield name, bool(augmented) or re.search(rf"\b{name}\b", value) is not None
