"""Inputs: where stimuli are played, what fits there, and the namespace that equations are read in."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from inspect import isfunction
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.adapters.brian2.places import Kind, Place, places_of, site_table
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, near_names
from neuros_mechint.core.numbers import real_array

if TYPE_CHECKING:
    from brian2 import Network, TimedArray

_PACKAGE = f"{Path(__file__).parents[2]}{os.sep}"


def find_input(network: Network, namespace: Mapping[str, Any], name: str) -> VariableInput | PlayedArray:
    """Return where stimuli go, by the name of a variable ``GROUP.VARIABLE`` or of a TimedArray.

    Raises
    ------
    SiteError, OptionError
        Neither, or a variable that the network changes itself.
    """
    if not isinstance(name, str):
        raise OptionError("the input has no name", expected="'GROUP.VARIABLE' or that of a TimedArray", got=repr(name))
    played = PlayedArray.find(network, namespace, name)
    if played is not None:
        return played
    if "." not in name:
        arrays = PlayedArray.names(network, namespace)
        near = near_names(name, arrays)
        raise OptionError(
            f"no TimedArray {name!r} for the input",
            expected=f"'GROUP.VARIABLE' or a TimedArray of the namespace ({', '.join(arrays) or 'there is none'})",
            fix=f"did you mean {near[0]!r}?" if near else None,
        )
    places = places_of(network)
    site = site_table(network, places)[name].name
    place = next(one for one in places if one.name == site)
    if place.kind is not Kind.HELD:
        reasons = {
            Kind.STATE: "the network changes it itself",
            Kind.FIXED: "it stays fixed during a trial",
            Kind.SPIKES: "spikes come out of the network",
        }
        raise OptionError(
            f"a stimulus cannot be played into {name!r}: {reasons[place.kind]}",
            expected="a parameter that the equations only read, such as an input current 'I : amp'",
        )
    if np.dtype(place.variable.dtype).kind != "f":
        raise OptionError(
            f"a stimulus cannot be played into {name!r}: it holds no real numbers",
            expected="a parameter of real numbers",
            got=np.dtype(place.variable.dtype).name,
        )
    return VariableInput(place)


class VariableInput:
    """A variable of a group into which stimuli are played, one entry for each of its time steps.

    Parameters
    ----------
    place : Place
        Where they go.
    """

    def __init__(self, place: Place) -> None:
        self.name, self.place = place.name, place

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of a stimulus, with ``None`` for trials and times."""
        return (None, None) if self.place.shared else (None, None, self.place.size)

    @property
    def dt(self) -> float:
        """Seconds from one entry to the next."""
        return float(self.place.group.clock.dt_)

    @property
    def dim(self) -> Any:
        """Brian2's dimensions of the values."""
        return self.place.variable.dim


class PlayedArray:
    """A ``TimedArray`` of a network, whose values are replaced while trials run.

    Parameters
    ----------
    name : str
        Of the TimedArray in the equations.
    original : brian2.TimedArray
        What it means there.
    spaces : sequence of dict
        Namespaces of groups that define it.
    """

    def __init__(self, name: str, original: TimedArray, spaces: Sequence[dict[str, Any]]) -> None:
        self.name, self.original, self._spaces = name, original, spaces
        self.dt, self.dim = float(original.dt), original.dim
        self._values: Any = None
        self._offset = 0

    @classmethod
    def find(cls, network: Network, namespace: Mapping[str, Any], name: str) -> PlayedArray | None:
        """Return the TimedArray of that name from the groups' namespaces or that of the run, or ``None``."""
        from brian2 import TimedArray

        spaces = [space for space in _own_namespaces(network) if isinstance(space.get(name), TimedArray)]
        original = next((space[name] for space in spaces), namespace.get(name))
        return cls(name, original, spaces) if isinstance(original, TimedArray) else None

    @staticmethod
    def names(network: Network, namespace: Mapping[str, Any]) -> list[str]:
        """Return the names of all TimedArrays that equations may mean."""
        from brian2 import TimedArray

        spaces = [namespace, *_own_namespaces(network)]
        return sorted({name for space in spaces for name, value in space.items() if isinstance(value, TimedArray)})

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of a stimulus, with ``None`` for trials and times."""
        return (None, None, *self.original.values.shape[1:])

    @contextmanager
    def in_place(self, n_times: int, start: float) -> Generator[dict[str, Any]]:
        """Put an array of our own in the place of the TimedArray; yield what to add to the namespace of the run."""
        from brian2 import Quantity, TimedArray, second

        old = self.original
        self._offset = round(start / old.dt)  # a TimedArray knows the network's time, a stimulus that of its trial
        values = np.zeros((self._offset + n_times, *old.values.shape[1:]))
        array = TimedArray(Quantity(values, dim=old.dim, copy=False), dt=old.dt * second)
        self._values = array.values
        kept = [(space, space[self.name]) for space in self._spaces]
        try:
            for space in self._spaces:
                space[self.name] = array
            yield {self.name: array}
        finally:
            for space, value in kept:
                space[self.name] = value

    def play(self, stimulus: Floats) -> None:
        """Set the values of the next trial."""
        self._values[self._offset :] = stimulus


def checked_stimulus(values: Any, shape: Sequence[int | None], name: str, dt: float) -> None:
    """Raise `InputError` where a stimulus has other axes than (trial, time, unit), or labels of another time step."""
    axes, what = ("trial", "time", "unit")[: len(shape)], f"the stimulus for {name!r}"
    have = _shape(values, what)
    named = tuple(getattr(values, "dims", ()))
    fits = (
        ("time" not in named or named.index("time") == 1)
        and len(have) == len(shape)
        and all(want in (None, size) for want, size in zip(shape, have, strict=False))
    )
    if not fits:
        sizes = ", ".join(axis if size is None else f"{axis}={size}" for axis, size in zip(axes, shape, strict=True))
        raise InputError(
            f"{what} has the wrong shape",
            expected=f"({sizes}), one entry of time for each {dt * 1e3:.6g} ms",
            got=f"{have} for {named}" if named else have,
        )
    times = getattr(values, "coords", {}).get("time")
    if times is not None and len(times) > 1:
        given = np.diff(real_array(np.asarray(times), f"times of {what}"))
        if not np.allclose(given, dt, rtol=1e-4, atol=0):
            raise InputError(
                f"{what} has another time step than the network",
                expected=f"times in seconds that are {dt:.6g} s apart",
                got=f"{given.min():.6g} to {given.max():.6g} s",
                fix="resample the stimulus, or set the dt of the network",
            )


def _shape(values: Any, what: str) -> tuple[int, ...]:
    """Return the shape of a stimulus, which may be lists of quantities; raise `InputError` where rows are uneven."""
    if hasattr(values, "shape"):
        return tuple(values.shape)
    try:
        return np.shape(values)
    except ValueError as error:
        raise InputError(f"{what}: this is no array", expected="rows of one length", got=str(error)) from error


def as_namespace(namespace: Any) -> dict[str, Any]:
    """Return what names in equations mean, by default what they mean to the caller; raise `InputError` for no dict."""
    if namespace is None:
        return callers_namespace()
    if not isinstance(namespace, Mapping):
        got = type(namespace).__name__
        raise InputError("the namespace is no dict", expected="such as namespace={'tau': 10*ms}", got=got)
    return dict(namespace)


def callers_namespace() -> dict[str, Any]:
    """Return the names that equations may mean, from the first frame outside this package, as Brian2's run does."""
    from brian2 import Function

    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    names = {**frame.f_globals, **frame.f_locals}

    def may_be_meant(value: Any) -> bool:
        if isinstance(value, np.ndarray):
            return value.size == 1
        return isinstance(value, (Number, Function)) or (isfunction(value) and hasattr(value, "_arg_units"))

    return {name: value for name, value in names.items() if not name.startswith("_") and may_be_meant(value)}


def _own_namespaces(network: Network) -> list[dict[str, Any]]:
    """Return the namespaces that groups bring with them, each once."""
    spaces = [getattr(one, "namespace", None) for one in network]
    return list({id(space): space for space in spaces if isinstance(space, dict)}.values())
