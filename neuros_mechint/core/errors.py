"""The few exceptions this package raises, each of which teaches: what was expected, what came, what to do."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable
from numbers import Integral, Real
from typing import Any


class NeurosMechintError(Exception):
    """Base of every error raised on purpose by neuros-mechint.

    Parameters
    ----------
    problem : str
        One sentence: what went wrong.
    expected, got, fix : str, optional
        What would have been right, what came instead, and what the caller can do.

    Examples
    --------
    >>> print(InputError("inputs are empty", expected="at least 1 sample", got="shape (0, 7)", fix="pass a batch"))
    inputs are empty
      expected: at least 1 sample
      got:      shape (0, 7)
      to fix:   pass a batch
    """

    def __init__(self, problem: str, *, expected: object = None, got: object = None, fix: object = None) -> None:
        self.problem = problem
        lines = [problem]
        for label, text in (("expected:", expected), ("got:", got), ("to fix:", fix)):
            if text is not None:
                lines.append(f"  {label:<9} {text}")
        super().__init__("\n".join(lines))

    def __str__(self) -> str:
        # KeyError and OSError print their arguments in ways of their own; an error that teaches must stay readable.
        return str(self.args[0])


class InputError(NeurosMechintError, ValueError):
    """Data of the wrong type, shape, dtype or content."""


class OptionError(InputError):
    """An option string or parameter value that does not exist."""


class FigureError(InputError):
    """Values that have no figure: too many dimensions, or no real numbers."""


class SiteError(NeurosMechintError, LookupError):
    """A site name that is unknown, or an index that does not fit the site."""


class SiteWithheldError(SiteError):
    """A site that exists by name but failed the identity that would have proven it."""


class CapabilityError(NeurosMechintError, TypeError):
    """What was asked is beyond this kind of model (an edit on a recording, a gradient through a simulator)."""


class UnknownModelError(NeurosMechintError, TypeError):
    """No adapter is registered for this kind of object."""


class StorageError(NeurosMechintError, OSError):
    """A file or store that is missing, damaged, half-written, or does not fit on the disk."""


class MissingDependencyError(NeurosMechintError, ImportError):
    """An optional library is not installed."""


def near_names(name: str, names: Iterable[str], n: int = 3) -> list[str]:
    """Return the ``n`` entries of ``names`` most like ``name``, best first.

    Examples
    --------
    >>> near_names("blocks.0.resid_pree", ["blocks.0.resid_pre", "embed"])
    ['blocks.0.resid_pre']
    """
    return difflib.get_close_matches(name, list(names), n=n, cutoff=0.5)


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return an integer of at least ``least``, NumPy's included.

    Raises
    ------
    OptionError
        Anything else.

    Examples
    --------
    >>> import numpy as np
    >>> whole("n_features", np.int64(8))
    8
    """
    if _is(Integral, value) and value >= least:
        return int(value)
    raise OptionError(f"{name} is out of range", expected=f"an integer of at least {least}", got=repr(value))


def number(name: str, value: Any, least: float, most: float, closed: str = "right") -> float:
    """Return a finite number from an interval; integers stay integers.

    Parameters
    ----------
    name : str
        What to call it in the error.
    value : object
    least, most : float
        Ends of the interval; infinite ones are no bounds.
    closed : {"right", "left", "both", "neither"}
        Which ends belong to it.

    Raises
    ------
    OptionError
        Anything else.

    Examples
    --------
    >>> number("validation", 0.5, 0, 1)
    0.5
    >>> number("share", 0, 0, 1)
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.OptionError: share is out of range
      expected: a number above 0 and up to 1
      got:      0
    """
    with_least, with_most = closed in ("left", "both"), closed in ("right", "both")
    if _is(Real, value) and _is_finite(value):
        above = least <= value if with_least else least < value
        if above and (value <= most if with_most else value < most):
            return int(value) if isinstance(value, Integral) else float(value)
    bounds = [
        f"{'of at least' if with_least else 'above'} {least:.4g}" if math.isfinite(least) else "",
        f"{'up to' if with_most else 'below'} {most:.4g}" if math.isfinite(most) else "",
    ]
    wanted = " and ".join(bound for bound in bounds if bound)
    finite = "" if all(bounds) else "finite "
    raise OptionError(f"{name} is out of range", expected=f"a {finite}number {wanted}".rstrip(), got=repr(value))


def _is(kind: type, value: Any) -> bool:
    """Return whether a value is such a number, NumPy's included; a boolean is none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def check_option(parameter: str, value: object, allowed: Collection[object]) -> None:
    """Raise `OptionError` unless ``value`` is one of ``allowed``.

    Examples
    --------
    >>> check_option("method", "exact", ["exact", "eap"])
    >>> check_option("method", "exat", ["exact", "eap"])
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.OptionError: unknown method 'exat'
      expected: one of 'exact', 'eap'
      to fix:   did you mean 'exact'?
    """
    if _is_one_of(value, allowed):
        return
    near = near_names(str(value), [str(option) for option in allowed])
    raise OptionError(
        f"unknown {parameter} {value!r}",
        expected="one of " + ", ".join(repr(option) for option in allowed),
        fix=f"did you mean {near[0]!r}?" if near else None,
    )


def _is_one_of(value: object, allowed: Collection[object]) -> bool:
    """Return whether a value is among others; an array, which compares entry by entry, never is."""
    if hasattr(value, "__array__") and getattr(value, "shape", ()) != ():
        return False
    try:
        hash(value)  # arrays of no dimension have none; NumPy's scalars do
        return bool(value in allowed)
    except (TypeError, ValueError):
        return False
