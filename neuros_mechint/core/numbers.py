"""Real numbers from whatever a caller passed, with nothing dropped on the way."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError

if TYPE_CHECKING:
    import torch

_MAY_HOLD_MASKS = (list, tuple, np.ma.MaskedArray)


def real_array(values: Any, name: str, *, finite: bool = True) -> Floats:
    """Return a fresh array of real numbers in double precision, or say why the values are none.

    Parameters
    ----------
    values : array_like or torch.Tensor
        Booleans count as 0 and 1. Tensors are detached.
    name : str
        What to call them in the error.
    finite : bool
        Whether NaN and infinite values are refused.

    Returns
    -------
    numpy.ndarray
        Never the caller's own memory.

    Raises
    ------
    InputError
        A mask or a unit, also of one entry of a list; complex numbers, text or objects; rows of different lengths;
        sparse tensors; NaN or infinite values.

    Examples
    --------
    >>> real_array([[1, 2], [3, 4]], "sizes").tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    found = plain_numbers(values, name)
    with np.errstate(over="ignore"):  # of longer floats: they become infinite
        array = np.array(found, dtype=np.float64)
    if finite and found.dtype.kind == "f":
        refuse_not_finite(array, name)
    return array


def plain_numbers(values: Any, name: str) -> npt.NDArray[Any]:
    """Return values as an array of real numbers of the type they have; it may be the caller's own memory.

    Raises
    ------
    InputError
        As `real_array`, but NaN and infinite values pass.

    Examples
    --------
    >>> plain_numbers([True, False], "spikes").dtype
    dtype('bool')
    """
    array = as_array(values, name)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: these are no real numbers", expected="real numbers", got=f"dtype {array.dtype}")
    return array


def as_array(values: Any, name: str) -> npt.NDArray[Any]:
    """Return values as an array, or say why they are none: named arrays, a mask, a unit, rows of different lengths.

    Examples
    --------
    >>> as_array(["left", "right"], "conditions").shape
    (2,)
    """
    _refuse_named(values, name)
    refuse_masked(values, name)
    refuse_units(values, name)
    try:
        if is_tensor(values):
            from neuros_mechint.core.labels import as_numpy

            return as_numpy(values)
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:  # uneven rows; sparse; graphs in lists
        raise InputError(f"{name}: this is no array", expected="rows of one length", got=str(error)) from error


def real_tensor(values: Any, name: str) -> torch.Tensor:
    """Return a fresh tensor of finite real numbers: tensors of floats keep their type, all else is float64.

    Raises
    ------
    InputError
        As `real_array`.

    Examples
    --------
    >>> real_tensor([[1, 2]], "states").dtype
    torch.float64
    """
    tensor = graph_tensor(values, name).detach().clone()
    refuse_not_finite(tensor, name)
    return tensor


def graph_tensor(values: Any, name: str) -> torch.Tensor:
    """Return real numbers as a tensor through which gradients flow back to the caller's.

    Parameters
    ----------
    values : array_like or torch.Tensor
        Tensors of floats come back as they are; all else is copied to float64.
    name : str
        What to call them in the error.

    Raises
    ------
    InputError
        As `real_array`, but NaN and infinite values pass.

    Examples
    --------
    >>> import torch
    >>> graph_tensor(torch.ones(2, requires_grad=True), "x").requires_grad
    True
    """
    import torch

    if not isinstance(values, torch.Tensor):
        return torch.from_numpy(real_array(values, name, finite=False))
    if values.is_complex() or values.is_quantized or values.layout is not torch.strided:
        raise InputError(
            f"{name}: these are no real numbers" if values.is_complex() else f"{name}: this is no array",
            expected="a dense tensor of real numbers",
            got=f"dtype {values.dtype}, layout {values.layout}",
        )
    return values if values.is_floating_point() else values.double()


def _refuse_named(values: Any, name: str) -> None:
    """Raise `InputError` for arrays by name, of which NumPy would take the names."""
    if isinstance(values, Mapping):
        names = list(map(str, values))
        raise InputError(
            f"{name}: these are arrays by name",
            expected="one array",
            got=f"{type(values).__name__} of {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}",
            fix=f"pass one of them, such as values[{names[0]!r}]" if names else None,
        )


def refuse_masked(values: Any, name: str) -> None:
    """Raise `InputError` for a masked array, or a list that holds one: NumPy would go on with what lies under the mask.

    Examples
    --------
    >>> refuse_masked([np.zeros(3), np.zeros(3)], "x")
    """
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(
            f"{name} has a mask, which would be lost",
            got=f"{int(np.ma.getmaskarray(values).sum())} masked of {values.size} values",
            fix="pass array.compressed(), or fill the gaps by a rule that you state",
        )
    # the few types first: a list of a million numbers is not walked number by number
    if isinstance(values, list | tuple) and any(issubclass(kind, _MAY_HOLD_MASKS) for kind in set(map(type, values))):
        for part in values:
            refuse_masked(part, name)


def refuse_units(values: Any, name: str) -> None:
    """Raise `InputError` for a quantity with a unit, or a list that holds one: NumPy would go on with its SI number.

    Examples
    --------
    >>> refuse_units([1.0, 2.0], "currents")
    """
    if isinstance(values, list | tuple):
        kinds = set(map(type, values)) - {int, float, bool, str}
        for part in values if kinds else ():
            refuse_units(part, name)
    elif _has_unit(values):
        raise InputError(
            f"{name} has a unit, which would be lost",
            expected="plain numbers, in the unit that is documented",
            got=f"{values!r:.60}",
            fix="divide by that unit: values / brian2.pA, for instance",
        )


def _has_unit(values: Any) -> bool:
    """Return whether values are a quantity of Brian2, of pint or quantities, or of astropy."""
    kind = type(values)
    if hasattr(kind, "get_best_unit"):
        return not values.is_dimensionless
    return (hasattr(kind, "units") and hasattr(kind, "magnitude")) or hasattr(kind, "to_value")


def refuse_not_finite(values: Any, name: str) -> None:
    """Raise `InputError` where a value is NaN or infinite.

    Examples
    --------
    >>> refuse_not_finite(np.zeros(3), "x")
    """
    finite: Any = values.isfinite() if is_tensor(values) else np.isfinite(values)
    if not finite.all():
        n_values = int(np.prod(values.shape))
        raise InputError(
            f"{name}: some values are not finite",
            expected="finite numbers",
            got=f"{n_values - int(finite.sum())} of {n_values} are NaN or infinite",
        )


def is_tensor(values: Any) -> bool:
    """Return whether values are a torch tensor, without importing torch where nobody has.

    Examples
    --------
    >>> is_tensor(np.zeros(3))
    False
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)
