"""What metrics of signals compute with: time along the last axis, checked, with its labels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr

from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.labels import HALF_PRECISION
from neuros_mechint.core.numbers import graph_tensor
from neuros_mechint.core.recordings.recording import Recording

TIME_AXES = ("time", "position")
"""Axes along which labelled data are signals, the first that is there."""
# Beyond the rounding of the values themselves, and of what was subtracted to make them.
_ROUNDINGS = 16
# Squares of larger signals, or of smaller ones than its inverse, would leave the range of floats.
_LARGEST = {torch.float32: 1e12, torch.float64: 1e100}


@dataclass(frozen=True)
class Signals:
    """Signals with time along their last axis.

    Parameters
    ----------
    values : torch.Tensor of shape (..., n_samples)
        In float32 or float64.
    dims : tuple of str
        Names of the axes before the last.
    coords : mapping
        Labels along these, as xarray takes them.
    sampling_rate : float or None
        Samples per second, where it is known.
    """

    values: torch.Tensor
    dims: tuple[str, ...]
    coords: Mapping[Hashable, Any]
    sampling_rate: float | None

    @property
    def rows(self) -> torch.Tensor:
        """One signal per row, ``(n_signals, n_samples)``."""
        return self.values.reshape(-1, self.values.shape[-1])


def signals(x: Any, least: int = 2, name: str = "x", why: str | None = None, constant: str = "raise") -> Signals:
    """Return data as signals.

    Parameters
    ----------
    x : torch.Tensor, array_like, xarray.DataArray or Recording
        The last axis is time; of labelled data it is the axis of `TIME_AXES`, wherever it stands. Tensors stay on
        their device, in float32 or float64, and keep their gradients; all else becomes float64.
    least : int
        Fewest samples that will do.
    name : str
        What to call the data in errors.
    why : str, optional
        What needs so many samples, for the error.
    constant : {"raise", "keep"}
        What to do with signals that do not vary.

    Returns
    -------
    Signals

    Raises
    ------
    InputError
        Data that are no real numbers, not finite, empty, too short or constant, or labelled data without time.

    Examples
    --------
    >>> import numpy as np
    >>> found = signals(xr.DataArray(np.eye(3)[:, :2], dims=("time", "unit")))
    >>> found.values.shape, found.dims
    (torch.Size([2, 3]), ('unit',))
    """
    check_option("constant", constant, ("raise", "keep"))
    array = x.data if isinstance(x, Recording) else x
    dims, coords, rate = None, {}, None
    if isinstance(array, xr.DataArray):
        array = _time_last(array, name)
        dims, rate = tuple(map(str, array.dims[:-1])), array.attrs.get("sampling_rate")
        coords = {key: held for key, held in array.coords.items() if set(held.dims) <= set(dims)}
        array = array.values
    values = real_tensor(array, name)
    low, high = _extremes(values)
    _check_finite(values, low, high, name)
    if values.shape[-1] < least:
        raise InputError(
            f"{name} is too short",
            expected=f"at least {least} samples along time" + (f", {why}" if why else ""),
            got=f"{values.shape[-1]} (shape {tuple(values.shape)})",
            fix="time is the last axis: transpose arrays where it is another" if values.ndim > 1 else None,
        )
    if constant == "raise":
        _check_varying(_differ(low, high), values.ndim, name)
    values = _in_range(values, torch.maximum(low.abs(), high.abs()))
    dims = dims if dims is not None else tuple(f"axis_{axis}" for axis in range(values.ndim - 1))
    return Signals(values, dims, coords, None if rate is None else float(rate))


def varying(values: torch.Tensor) -> torch.Tensor:
    """Return which signals change by more than rounding.

    Parameters
    ----------
    values : torch.Tensor of shape (..., n_samples)

    Returns
    -------
    torch.Tensor of bool, shape (...)
        False also for changes so small that their gradients would be infinite.

    Examples
    --------
    >>> import torch
    >>> varying(torch.tensor([[0.0, 1.0], [3.0, 3.0]])).tolist()
    [True, False]
    """
    return _differ(*_extremes(values))


def _extremes(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # aminmax takes one pass instead of two, and ten times as long
    return values.detach().amin(-1), values.detach().amax(-1)


def _differ(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    rounding = torch.finfo(low.dtype)
    least = _ROUNDINGS * rounding.eps * torch.maximum(low.abs(), high.abs())
    return high - low > least.clamp_min(rounding.tiny / rounding.eps)


def _in_range(values: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Return signals whose squares and sums floats can hold: huge and tiny ones in another unit.

    No metric depends on the unit, and powers of two are exact. Nearly all signals stay as they came.
    """
    limit, rounding = _LARGEST[values.dtype], torch.finfo(values.dtype)
    # still smaller ones count as constant: see `varying`
    outside = (size > limit) | ((size < 1 / limit) & (size > rounding.tiny / rounding.eps))
    if not outside.any():
        return values
    exponent = torch.where(outside, torch.frexp(size)[1], 0)[..., None]
    half = exponent // 2  # the whole power of two may itself be too large for a float
    for step in (half, exponent - half):
        values = values * torch.exp2(-step.to(values.dtype))
    return values


def _time_last(array: xr.DataArray, name: str) -> xr.DataArray:
    axis = next((axis for axis in TIME_AXES if axis in array.dims), None)
    if axis is None:
        raise InputError(
            f"{name} has no axis of time",
            expected=f"one of the axes {', '.join(map(repr, TIME_AXES))}",
            got=f"axes {tuple(map(str, array.dims))}",
            fix="rename the axis along which it is a signal: x.rename(old='time')",
        )
    return array.transpose(..., axis)


def real_tensor(array: Any, name: str) -> torch.Tensor:
    """Return real numbers as a tensor of floats with at least one axis.

    Raises
    ------
    InputError
        No real numbers, none at all, rows of different lengths, or a masked array.

    Examples
    --------
    >>> real_tensor([[1, 2], [3, 4]], "x").dtype
    torch.float64
    """
    tensor = graph_tensor(array, name)
    tensor = tensor.double() if tensor.dtype in HALF_PRECISION else tensor
    if not tensor.ndim or not tensor.numel():
        raise InputError(f"{name} is empty", expected="time along the last axis", got=f"shape {tuple(tensor.shape)}")
    return tensor


def _check_finite(values: torch.Tensor, low: torch.Tensor, high: torch.Tensor, name: str) -> None:
    if torch.isfinite(low).all() and torch.isfinite(high).all():  # NaN is both the lowest and the highest
        return
    missing = int((~torch.isfinite(values.detach())).sum())
    raise InputError(
        f"{name} is not finite",
        got=f"{missing} of {values.numel()} values are NaN or infinite",
        fix="cut the signal there, or fill the gap by a rule that you state",
    )


def _check_varying(changing: torch.Tensor, n_axes: int, name: str) -> None:
    if not changing.all():
        places = (~changing).nonzero()
        where = f", the first at {tuple(places[0].tolist())}" if n_axes > 1 else ""
        raise InputError(
            f"{name} is constant",
            expected="signals that change over time",
            got=f"{len(places)} of {changing.numel()} signals do not{where}",
            fix="leave them out" if n_axes > 1 else None,
        )
