"""Units: what has them is checked and put into base units, which activations are in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.numbers import real_array

_LIKE_THE_SITE = ("value", "values_from", "minimum", "maximum")
"""Fields of edits that have the unit of the site; all others are plain numbers."""


def in_base_units(values: Any, dimensions: Any, what: str, unit: Any = None) -> Floats:
    """Return numbers in base units: volts, amperes, seconds.

    Parameters
    ----------
    values : Quantity, array or tensor
        A quantity, a list of quantities, or plain numbers in multiples of ``unit``.
    dimensions : brian2 Dimension
        That they must have.
    what : str
        What they are, for the error.
    unit : brian2 Unit, optional
        Of plain numbers; without it plain numbers fit only what has no unit.

    Raises
    ------
    InputError
        Units that are missing or do not fit, with Brian2's own text; what is no array of real numbers.
    """
    from brian2 import DimensionMismatchError, Quantity, get_dimensions, get_unit
    from brian2.units.fundamentalunits import fail_for_dimension_mismatch

    if not holds_quantities(values):  # a tensor's own `dim` is no dimension
        plain = real_array(values, what, finite=False)
        values = plain if unit is None else Quantity(plain * float(unit), dim=get_dimensions(unit))
    try:
        values = Quantity(values)
        fail_for_dimension_mismatch(values, get_unit(dimensions), f"{what} has other units than needed")
    except DimensionMismatchError as error:
        problem = str(error) if str(error).startswith(what) else f"{what}: {error}"
        fix = _fix_of_units(dimensions)
        if unit is None and what.startswith("the stimulus"):
            fix += ", or say unit= for plain stimuli"
        raise InputError(problem, fix=fix) from error
    except (TypeError, ValueError) as error:  # uneven rows, or quantities beside plain numbers
        problem = f"{what}: this is no array of quantities"
        raise InputError(problem, expected="rows of one length, all with units", got=str(error)) from error
    return real_array(np.asarray(values), what, finite=False)  # without the unit, which is that of the variable


def positive_seconds(time: Any, what: str) -> float:
    """Return one time above 0 as a number of seconds.

    Raises
    ------
    InputError
        No time.
    OptionError
        Several, or one that is not above 0 and finite.
    """
    from brian2 import get_dimensions, second

    seconds = in_base_units(time, get_dimensions(second), what)
    if seconds.ndim or not np.isfinite(seconds) or seconds <= 0:
        raise OptionError(f"{what} is out of range", expected="a positive time such as 100*ms", got=repr(time))
    return float(seconds)


def holds_quantities(values: Any) -> bool:
    """Return whether values are a quantity, or lists that hold one: as plain numbers they would lose their unit."""
    from brian2 import Quantity

    if isinstance(values, (list, tuple)):
        return any(holds_quantities(part) for part in values)
    return isinstance(values, Quantity)


def _fix_of_units(dimensions: Any) -> str:
    from brian2 import get_unit
    from brian2.units.fundamentalunits import DIMENSIONLESS

    if dimensions is DIMENSIONLESS:
        return "pass plain numbers, without a unit: the variable has none"
    return f"multiply the numbers by a unit of the same kind as {get_unit(dimensions)!r}"


def edit_in_base_units(edit: Edit, dimensions: Callable[[], Any]) -> Edit:
    """Return an edit whose quantities are plain numbers in base units, as captured activations are.

    Raises
    ------
    InputError
        A quantity whose unit is not that of the site.
    """
    from brian2.units.fundamentalunits import DIMENSIONLESS

    changed: dict[str, Any] = {}
    for field in fields(edit):
        value = getattr(edit, field.name)
        if holds_quantities(value):
            wanted = dimensions() if field.name in _LIKE_THE_SITE else DIMENSIONLESS
            numbers = in_base_units(value, wanted, f"{field.name} of {type(edit).__name__}({edit.site!r})")
            changed[field.name] = float(numbers) if field.name in ("minimum", "maximum") else numbers
    return replace(edit, **changed) if changed else edit
