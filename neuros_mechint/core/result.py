"""Result: what every compound analysis returns: labelled data, where they come from, and how to show them."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from neuros_mechint.core.citations import bibliography
from neuros_mechint.core.errors import CapabilityError, InputError, StorageError
from neuros_mechint.core.formatting import describe_array, format_value
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result_files import check_storable, read_dataset, write_dataset

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_PACKAGE = "neuros_mechint"


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """Labelled data of one analysis, with what is needed to trust, show and keep them.

    Subclasses add properties and may override ``_draw(ax)``, ``_summary_lines()``, ``report_sections()`` and
    ``report_blocks()``; they add no fields, so that every result is saved and loaded the same way.

    Parameters
    ----------
    data : xarray.Dataset
        Numbers, text, booleans or dates. The first variable is the main one: it is what ``plot`` and
        ``to_dataframe`` show. ``attrs["units"]`` and ``attrs["long_name"]`` of a variable label its figures.
    title : str
        One line for a reader.
    attributes : mapping, optional
        Settings and scalar findings: None, bool, int, float, str, and lists or mappings of these.
    provenance : Provenance, optional
        Without it, the present moment is recorded.
    citations : tuple of str, optional
        BibTeX keys of the method's papers, see `neuros_mechint.core.citations`.
    warnings : tuple of str, optional
        What the reader must know before believing the numbers.

    Raises
    ------
    InputError
        If ``data`` is empty or holds what cannot be stored, or a citation key is unknown.

    Examples
    --------
    >>> effect = xr.Dataset({"effect": ("position", [0.0, 0.9], {"units": "nats"})})
    >>> result = Result(effect, "Effect of each position", attributes={"method": "patching"})
    >>> result
    <Result 'Effect of each position': effect (position: 2)>
    >>> result.to_dataframe()["effect"].tolist()
    [0.0, 0.9]
    """

    data: xr.Dataset
    title: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance.record)
    citations: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    _classes: ClassVar[dict[str, dict[str, type[Result]]]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Register the subclass by name and module, so that `load_result` finds it."""
        super().__init_subclass__(**keywords)
        Result._classes.setdefault(cls.__name__, {})[cls.__module__] = cls

    def __post_init__(self) -> None:
        """Check what was given, and keep copies that later changes of the caller's objects do not reach."""
        if not isinstance(self.data, xr.Dataset) or not self.data.data_vars:
            raise InputError(
                "a result needs data",
                expected="an xarray.Dataset with at least one variable",
                got=type(self.data).__name__ if not isinstance(self.data, xr.Dataset) else "no variables",
                fix="call .to_dataset(name=...) on a DataArray" if isinstance(self.data, xr.DataArray) else None,
            )
        check_storable(self.data)
        for name in ("citations", "warnings"):
            if isinstance(getattr(self, name), str):
                raise InputError(f"{name} is one string", expected="a tuple of strings")
            object.__setattr__(self, name, tuple(str(text) for text in getattr(self, name)))
        bibliography(self.citations)
        data = self.data.copy(deep=True).assign_attrs(_plain_json("data.attrs", self.data.attrs))
        for name, variable in data.variables.items():
            variable.attrs = _plain_json(f"attrs of {name}", variable.attrs)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "title", str(self.title))
        object.__setattr__(self, "attributes", MappingProxyType(_plain_json("attributes", self.attributes)))

    def __reduce__(self) -> tuple[Any, ...]:
        # for workers of a parallel map; mappings that cannot be written to cannot be sent either
        about = (dict(self.attributes), self.provenance, self.citations, self.warnings)
        return type(self), (self.data, self.title, *about)

    @property
    def main(self) -> xr.DataArray:
        """The first variable of ``data``.

        Examples
        --------
        >>> Result(xr.Dataset({"score": 0.5, "error": 0.1}), "Score").main.name
        'score'
        """
        return self.data[next(iter(self.data.data_vars))]

    def to_dataframe(self) -> pd.DataFrame:
        """Return the main variable as a table with one row per value, coordinates as columns.

        Other variables over the same dimensions, or fewer of them, are columns too; variables over dimensions
        that the main one lacks stay in ``data``.

        Returns
        -------
        pandas.DataFrame

        Examples
        --------
        >>> Result(xr.Dataset({"score": ("layer", [0.5, 0.6])}), "Scores").to_dataframe().columns.tolist()
        ['layer', 'score']
        """
        main = self.main
        names = [name for name, array in self.data.data_vars.items() if set(array.dims) <= set(main.dims)]
        selected = self.data[names]
        if not main.dims:
            return selected.expand_dims("row").to_dataframe().reset_index(drop=True)
        return selected.to_dataframe(dim_order=list(main.dims)).reset_index()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the result and return the axes; showing or saving the figure is up to the caller.

        ``result.plot().figure.savefig("scores.png", dpi=200)`` writes a picture, and with ``"scores.pdf"`` or
        ``"scores.svg"`` one that is sharp at any size. What a saved result, such as a step of a workflow, had to show:
        ``nm.load_result(path).plot()``.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; without it a new figure is made.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InputError
            If the main variable has more than two dimensions and the class has no drawing of its own, or ``ax`` is
            something else than axes.

        Examples
        --------
        >>> import matplotlib.figure
        >>> result = Result(xr.Dataset({"score": ("layer", [0.5, 0.6])}), "Scores")
        >>> result.plot(matplotlib.figure.Figure().subplots()).get_title(loc="left")
        'Scores'
        """
        from neuros_mechint.core.figures.style import drawing

        with drawing(ax, self.figure_size) as axes:
            self._draw(axes)
            if not axes.get_title() and not axes.get_title(loc="left"):
                beside = "\n" if axes.get_title(loc="right") else ""  # a note, which a long title would run into
                axes.set_title(self.title + beside, wrap=True)  # within the figure, as it is saved
        return axes

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the drawing."""
        from neuros_mechint.core.figures.plotting import figure_size

        return figure_size(self.data)

    def plot_interactive(self) -> Any:
        """Return the result as a plotly figure (needs the ``viz`` extra).

        Returns
        -------
        plotly.graph_objects.Figure

        Raises
        ------
        CapabilityError
            If the class draws in a way of its own that has no interactive form.
        MissingDependencyError
            If plotly is not installed.
        """
        from neuros_mechint.core.figures.interactive import interactive_figure

        if type(self)._draw is not Result._draw:
            raise CapabilityError(f"{type(self).__name__} has no interactive figure", fix="use .plot()")
        return interactive_figure(self.main, title=self.title)

    def _draw(self, ax: Axes) -> None:
        """Draw on ``ax``. Subclasses with a picture of their own override this."""
        from neuros_mechint.core.figures.plotting import draw

        draw(self.data, ax)

    def summary(self) -> str:
        """Return what a reader should know, as a few lines of plain text.

        Returns
        -------
        str

        Examples
        --------
        >>> print(Result(xr.Dataset({"score": 0.5}), "Held-out score", warnings=("only 3 trials",)).summary())
        Held-out score
        score: 0.5
        warning: only 3 trials
        """
        return "\n".join([self.title, *self._lines()])

    @property
    def findings(self) -> tuple[str, ...]:
        """The lines of the summary without title and warnings.

        Examples
        --------
        >>> Result(xr.Dataset({"score": 0.5}), "Held-out score").findings
        ('score: 0.5',)
        """
        return tuple(self._summary_lines())

    def report_sections(self) -> Iterable[tuple[Result, str, str]]:
        """Return the results that this one is made of, with a title and a caption for each; by default none.

        A result with parts is told in words in a report, and each part has a section of its own after it.
        """
        return ()

    def report_blocks(self) -> Iterable[tuple[str, Sequence[Any]]]:
        """Return how a report shows the result instead of its figure, see `neuros_mechint.report.bodies.Blocks`.

        By default nothing, and the figure is shown.
        """
        return ()

    def _lines(self) -> Iterator[str]:
        yield from self.findings
        for text in self.warnings:
            yield f"warning: {text}"

    def _summary_lines(self) -> Iterable[str]:
        """Yield what was found, without title and warnings. Subclasses that say it in words override this.

        A report shows ``name: value`` in two columns where the name holds no comma and no number of its own; all else
        is a sentence.
        """
        for name, array in self.data.data_vars.items():
            yield f"{name}: {describe_array(array)}"
        for name, value in self.attributes.items():
            yield f"{name}: {format_value(value)}"

    def save(self, path: str | Path) -> Path:
        """Write everything to one netCDF file, which other netCDF tools can open too.

        Parameters
        ----------
        path : str or pathlib.Path
            Customarily ending in ``.nc``. An existing file is replaced in one step.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        StorageError
            If the file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> result = Result(xr.Dataset({"score": 0.5}), "Score")
        >>> load_result(result.save(Path(tempfile.mkdtemp()) / "score.nc")) == result
        True
        """
        path = Path(path)
        write_dataset(path, self.data, result_metadata(self))
        return path

    def __eq__(self, other: object) -> bool:
        """Compare class, data (values, labels, attributes; NaN equals NaN) and everything around them."""
        if type(self) is not type(other) or not isinstance(other, Result):
            return NotImplemented
        names = [item.name for item in dataclasses.fields(Result) if item.name not in ("data", "attributes")]
        return (
            self.data.identical(other.data)
            and json.dumps(dict(self.attributes), sort_keys=True) == json.dumps(dict(other.attributes), sort_keys=True)
            and all(getattr(self, name) == getattr(other, name) for name in names)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return one line: class, title, main variable, number of warnings."""
        sizes = ", ".join(f"{dimension}: {size}" for dimension, size in self.main.sizes.items())
        plural = "s" if len(self.warnings) > 1 else ""
        warned = f"; {len(self.warnings)} warning{plural}" if self.warnings else ""
        shape = f" ({sizes})" if sizes else f" = {format_value(self.main.values.item())}"
        return f"<{type(self).__name__} {self.title!r}: {self.main.name}{shape}{warned}>"

    def _repr_html_(self) -> str:
        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self._lines())
        return (
            f"<div><strong>{html.escape(self.title)}</strong>{lines}"
            f"<details><summary>data</summary>{self.data._repr_html_()}</details></div>"  # pyright: ignore[reportPrivateUsage]
        )


def load_result(path: str | Path) -> Result:
    """Read a result that `Result.save` wrote.

    Parameters
    ----------
    path : str or pathlib.Path

    Returns
    -------
    Result
        Of the class that was saved.

    Raises
    ------
    StorageError
        If the file is missing, damaged, not a result, or of a class that is not known in this session.

    Examples
    --------
    >>> load_result("no_such_file.nc")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.StorageError: no such file: no_such_file.nc
      to fix:   pass the path that Result.save returned
    """
    data, metadata = read_dataset(Path(path))
    if "class" not in metadata:
        raise StorageError(
            f"{path} is not a saved result",
            expected="a file written by Result.save",
            got=str(metadata.get("kind", "another file of this package")),
        )
    return result_from(data, metadata)


def result_metadata(result: Result) -> dict[str, Any]:
    """Return what belongs to a result beside its data, for `result_from`.

    Examples
    --------
    >>> result_metadata(Result(xr.Dataset({"score": 0.5}), "Score"))["title"]
    'Score'
    """
    return {
        "class": type(result).__name__,
        "module": type(result).__module__,
        "title": result.title,
        "attributes": dict(result.attributes),
        "provenance": result.provenance.to_json(),
        "citations": result.citations,
        "warnings": result.warnings,
    }


def result_from(data: xr.Dataset, metadata: Mapping[str, Any]) -> Result:
    """Return the result of which these are the data and the metadata, in the class it had.

    Raises
    ------
    StorageError
        If the class is not known in this session.

    Examples
    --------
    >>> score = Result(xr.Dataset({"score": 0.5}), "Score")
    >>> result_from(score.data, result_metadata(score)) == score
    True
    """
    cls = _find_class(metadata["class"], metadata["module"])
    return cls(
        data,
        metadata["title"],
        attributes=metadata["attributes"],
        provenance=Provenance.from_json(metadata["provenance"]),
        citations=tuple(metadata["citations"]),
        warnings=tuple(metadata["warnings"]),
    )


def _find_class(name: str, module: str) -> type[Result]:
    if name == Result.__name__ and module == Result.__module__:
        return Result
    if module.partition(".")[0] == _PACKAGE and module not in Result._classes.get(name, {}):  # pyright: ignore[reportPrivateUsage]
        # Only this package's own modules are imported for a file; what a file names is not trusted further.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(module)
    known = Result._classes.get(name, {})  # pyright: ignore[reportPrivateUsage]
    if module in known:
        return known[module]
    if len(known) == 1:
        return next(iter(known.values()))
    raise StorageError(
        f"the class {name} of this result is not known in this session",
        expected=f"class {name}, defined in module {module}",
        fix=f"import {module}, then load the file again",
    )


def _plain_json(what: str, values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a deep copy made of plain JSON types: NumPy scalars and arrays become numbers and lists."""
    try:
        return json.loads(json.dumps(dict(values), default=_plain_scalar))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} cannot be stored",
            expected="None, bool, int, float, str, or lists and mappings of these",
            got=error,
        ) from error


def _plain_scalar(value: object) -> Any:
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind in "biufU":
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} {value!r:.60}")
