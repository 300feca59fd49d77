"""Time as experiments have it: windows in seconds or steps, and quantities with units as plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, number
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.sites import SiteReference

_SAME = 1e-6
"""By how much of a time step a time may miss the beginning of one, because numbers are rounded."""


@dataclass(frozen=True)
class TimeAxis:
    """The time steps of a trial.

    Parameters
    ----------
    dt : float
        Length of a step, in s; 1 where it is not known.
    n_steps : int
        Steps of a trial.
    known : bool
        Whether ``dt`` is in s.
    """

    dt: float
    n_steps: int
    known: bool

    @property
    def unit(self) -> str:
        """Of times."""
        return "s" if self.known else "steps"

    @property
    def rate_unit(self) -> str:
        """Of the number of spikes per time."""
        return "spikes/s" if self.known else "spikes per step"

    def window(self, times: Any, what: str) -> slice:
        """Return the steps that begin within a window ``(start, stop)`` of trial time; ``None`` for all.

        Raises
        ------
        InputError
            No window, or one that is not within the trial.

        Examples
        --------
        >>> TimeAxis(0.1, 20, known=True).window((0.5, 1.0), "window")
        slice(5, 10, None)
        """
        if times is None:
            return slice(0, self.n_steps)
        try:
            start, stop = (seconds(time, what) for time in times)
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{what} is no window", expected="(start, stop)", got=repr(times)[:80]) from error
        length = self.n_steps * self.dt
        if not 0 <= start < stop <= length + _SAME * self.dt:
            raise InputError(
                f"{what} is not within the trial",
                expected=f"0 <= start < stop <= {length:.6g} {self.unit}",
                got=f"({start:.6g}, {stop:.6g})",
            )
        first, last = (math.ceil(time / self.dt - _SAME) for time in (start, stop))
        if first == last:
            raise InputError(f"no time step begins within {what}", expected=f"at least {self.dt:.6g} {self.unit}")
        return slice(first, last)

    def after(self, settle: Any) -> slice:
        """Return the steps from a time on, as `window` does.

        Examples
        --------
        >>> TimeAxis(0.1, 20, known=True).after(0.5)
        slice(5, 20, None)
        """
        return self.window((settle, self.n_steps * self.dt), "the time after settle")

    def index(self, site: str, times: Any, what: str) -> dict[str, slice]:
        """Return the index along time of a site for a `window`; empty for all of its time.

        Raises
        ------
        InputError
            The site has an index along time already.

        Examples
        --------
        >>> TimeAxis(0.1, 20, known=True).index("E.spikes", (0.5, 1.0), "window")
        {'time': slice(5, 10, None)}
        """
        if times is None:
            return {}
        if "time" in SiteReference.parse(site).index:
            raise InputError(f"{site!r} has a time of its own", expected="an index or a window, not both")
        return {"time": self.window(times, what)}


def time_axis(activations: Activations, site: str, dt: Any = None) -> TimeAxis:
    """Return the time steps of a site that was captured.

    Parameters
    ----------
    activations : Activations
        With labels of time in s where the model knows them.
    site : str
        Which of them.
    dt : float or Quantity, optional
        Length of a step in s, for models that do not know it.

    Raises
    ------
    CapabilityError
        The site has no axis of time.
    OptionError
        A time step that is not positive.
    InputError
        A time step that is not the model's own.
    """
    dims = activations.dims(site)
    if "time" not in dims:
        raise CapabilityError(
            f"{site!r} has no axis of time",
            expected="a site of a model that runs over time: an RNN, a spiking network, a Brian2 network",
            got=f"axes {', '.join(dims)}",
        )
    n_steps = activations[site].shape[dims.index("time")]
    given = None if dt is None else float(number("dt", seconds(dt, "dt"), 0, math.inf, closed="neither"))
    labels = activations.coords.get("time")
    if labels is not None and len(labels) == n_steps > 1:
        own = float(labels[-1] - labels[0]) / (n_steps - 1)
        if given is not None and not math.isclose(given, own, rel_tol=_SAME):
            raise InputError(
                "dt is not that of the model",
                expected=f"{own:.6g} s",
                got=f"{given:.6g} s",
                fix="leave dt out: this model knows its own",
            )
        return TimeAxis(own, n_steps, known=True)
    return TimeAxis(1.0 if given is None else given, n_steps, known=given is not None)


def seconds(time: Any, what: str) -> float:
    """Return a time as a plain number: of a Brian2 quantity its seconds.

    Raises
    ------
    InputError
        A quantity of another kind, or no finite number.

    Examples
    --------
    >>> seconds(0.25, "settle")
    0.25
    """
    if hasattr(time, "get_best_unit"):
        import brian2 as b2

        from neuros_mechint.adapters.brian2.units import in_base_units

        time = float(in_base_units(time, cast(Any, b2.second).dim, what))
    return float(number(what, time, -math.inf, math.inf, closed="neither"))


@dataclass(frozen=True)
class Amounts:
    """Strengths or currents as plain numbers, and the unit that makes them what they were.

    Parameters
    ----------
    numbers : numpy.ndarray of shape (n_amounts,)
    unit : object
        A unit of Brian2, or 1.
    name : str
        Of the unit; empty for none.
    """

    numbers: Floats
    unit: Any = 1.0
    name: str = ""


def amounts(values: Any, what: str) -> Amounts:
    """Return values as plain numbers with their unit.

    Raises
    ------
    InputError
        No finite numbers in a row, or quantities of different kinds.

    Examples
    --------
    >>> amounts([0, 2], "currents").numbers.tolist()
    [0.0, 2.0]
    """
    quantities = hasattr(values, "get_best_unit")
    if not quantities and isinstance(values, (list, tuple)) and any(hasattr(one, "get_best_unit") for one in values):
        from brian2 import DimensionMismatchError, Quantity

        try:
            values, quantities = Quantity(values), True
        except DimensionMismatchError as error:
            raise InputError(f"{what} are of different kinds: {error}", fix="give all the same unit") from error
    given: Any = values
    unit = given.get_best_unit() if quantities else 1.0
    array = real_array(np.asarray(given / unit) if quantities else given, what)
    if array.ndim != 1 or not array.size:
        raise InputError(f"{what} are no finite numbers in a row", got=f"shape {array.shape}: {array.tolist()!s:.60}")
    return Amounts(array, unit, str(unit) if quantities else "")


def rising(values: Any, what: str) -> Amounts:
    """Return values that must rise.

    Raises
    ------
    OptionError
        They do not, or are fewer than two.

    Examples
    --------
    >>> rising([1, 1], "currents")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.OptionError: currents do not rise
      expected: two or more numbers, each above the last
      got:      [1.0, 1.0]
    """
    found = amounts(values, what)
    if found.numbers.size < 2 or (np.diff(found.numbers) <= 0).any():
        raise OptionError(
            f"{what} do not rise" if found.numbers.size > 1 else f"one of {what} makes no curve",
            expected="two or more numbers, each above the last",
            got=f"{found.numbers.tolist()!s:.80}",
        )
    return found
