"""Several results in one dataset, so that what holds them is saved and loaded like any other result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from neuros_mechint.core.result import Result, result_from, result_metadata


def pack(parts: Mapping[str, Result]) -> tuple[xr.Dataset, dict[str, Any]]:
    """Return the data of all results, names preceded by that of the part, and what else belongs to each.

    Parameters
    ----------
    parts : mapping of str to Result

    Returns
    -------
    data : xarray.Dataset
    about : dict
        What `unpack` needs.

    Examples
    --------
    >>> score = Result(xr.Dataset({"score": ("layer", [0.5, 0.6])}), "Scores")
    >>> data, about = pack({"first": score})
    >>> list(data), unpack(data, about)["first"] == score
    (['first.score'], True)
    """
    joined: dict[str, xr.Variable] = {}
    about: dict[str, Any] = {}
    coordinates: list[str] = []
    for part, result in parts.items():
        names = {name: f"{part}.{name}" for name in [*result.data.variables, *result.data.dims]}
        joined |= {names[name]: _renamed(variable, names) for name, variable in result.data.variables.items()}
        coordinates += [names[name] for name in result.data.coords]
        about[part] = {
            **result_metadata(result),
            "variables": [str(name) for name in result.data.data_vars],
            "coordinates": [str(name) for name in result.data.coords],
            "data_attributes": dict(result.data.attrs),
        }
    return xr.Dataset(joined).set_coords(coordinates), about


def unpack(data: xr.Dataset, about: Mapping[str, Any]) -> dict[str, Result]:
    """Return the results that `pack` put together, by name.

    Examples
    --------
    >>> unpack(xr.Dataset(), {})
    {}
    """
    return {part: _unpacked(data, part, one) for part, one in about.items()}


def _unpacked(data: xr.Dataset, part: str, about: Mapping[str, Any]) -> Result:
    names = [*about["variables"], *about["coordinates"]]
    prefix = f"{part}."
    variables = {}
    for name in names:
        variable = data.variables[prefix + name]
        dims = [str(dim).removeprefix(prefix) for dim in variable.dims]
        variables[name] = xr.Variable(dims, variable.values, variable.attrs)
    own = xr.Dataset(variables).set_coords(about["coordinates"]).assign_attrs(about["data_attributes"])
    return result_from(own, about)


def _renamed(variable: xr.Variable, names: Mapping[Any, str]) -> xr.Variable:
    return xr.Variable([names[dim] for dim in variable.dims], variable.values, variable.attrs)
