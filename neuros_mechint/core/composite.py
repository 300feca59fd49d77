"""Results made of others: several in one dataset, so that the whole is saved and loaded like any other result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import xarray as xr

from neuros_mechint.core.errors import FigureError
from neuros_mechint.core.result import Result, result_from, result_metadata

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class CompositeResult(Result):
    """A result made of others.

    ``data`` is what `pack` makes of them, maybe with more; ``attributes["parts"]`` is what it says about them.
    Subclasses name the part that stands for all in a figure, and give each a caption in a report.
    """

    drawn: ClassVar[str]
    captions: ClassVar[Mapping[str, str]]

    @cached_property
    def parts(self) -> Mapping[str, Result]:
        """The results by name, in the order of the report."""
        return MappingProxyType(unpack(self.data, self.attributes["parts"]))

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches of the part that is drawn."""
        part = self.parts.get(self.drawn)
        return super().figure_size if part is None else part.figure_size

    def report_sections(self) -> Iterator[tuple[Result, str, str]]:
        """Yield each result with its title and caption, for `neuros_mechint.report.Report.add`."""
        for name, part in self.parts.items():
            yield part, part.title, self._caption(name)

    def _caption(self, name: str) -> str:
        return self.captions[name]

    def _draw(self, ax: Axes) -> None:
        if self.drawn not in self.parts:
            raise FigureError(f"there is no {self.drawn.replace('_', ' ')}", fix="plot one of .parts")
        self.parts[self.drawn]._draw(ax)


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
