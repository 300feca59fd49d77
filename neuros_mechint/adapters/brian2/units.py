"""Units: what has them is checked and put into base units, which activations are in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import InputError

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
        Units that are missing or do not fit, with Brian2's own text.
    """
    from brian2 import DimensionMismatchError, Quantity, get_dimensions, get_unit
    from brian2.units.fundamentalunits import fail_for_dimension_mismatch

    if isinstance(values, (list, tuple)) and any(isinstance(value, Quantity) for value in values):
        values = Quantity(values)
    if not isinstance(values, Quantity):
        plain = np.asarray(values, dtype=np.float64)  # a tensor's own `dim` is no dimension
        values = plain if unit is None else Quantity(plain * float(unit), dim=get_dimensions(unit))
    try:
        fail_for_dimension_mismatch(values, get_unit(dimensions), f"{what} has other units than the variable")
    except DimensionMismatchError as error:
        wanted = get_unit(dimensions)
        fix = f"multiply the numbers by a unit of the same kind as {wanted!r}"
        raise InputError(str(error), fix=f"{fix}, or say unit= for plain stimuli" if unit is None else fix) from error
    return np.array(values, dtype=np.float64)


def edit_in_base_units(edit: Edit, dimensions: Callable[[], Any]) -> Edit:
    """Return an edit whose quantities are plain numbers in base units, as captured activations are.

    Raises
    ------
    InputError
        A quantity whose unit is not that of the site.
    """
    from brian2 import Quantity
    from brian2.units.fundamentalunits import DIMENSIONLESS

    changed: dict[str, Any] = {}
    for field in fields(edit):
        value = getattr(edit, field.name)
        listed = isinstance(value, (list, tuple)) and any(isinstance(one, Quantity) for one in value)
        if isinstance(value, Quantity) or listed:
            wanted = dimensions() if field.name in _LIKE_THE_SITE else DIMENSIONLESS
            numbers = in_base_units(value, wanted, f"{field.name} of {type(edit).__name__}({edit.site!r})")
            changed[field.name] = float(numbers) if field.name in ("minimum", "maximum") else numbers
    return replace(edit, **changed) if changed else edit
