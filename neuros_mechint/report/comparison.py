"""The same results of several runs: their numbers, what differs in how they were made, and figures on one scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.result import Result
from neuros_mechint.report.about_runs import AboutRun, about_run, differing, in_common
from neuros_mechint.report.results import origin_of
from neuros_mechint.report.saved import read_run, unused_name

_MOST_ENTRIES = 12
_SUMMARIES = {"mean": np.mean, "smallest": np.min, "largest": np.max}


class Shown(NamedTuple):
    """A result that several runs have.

    Parameters
    ----------
    title : str
        What the titles in all runs share.
    results : mapping of str to Result
        By name of the run.
    own : mapping of str to str
        By name of the run, its own title and caption; empty where all are the same.
    """

    title: str
    results: Mapping[str, Result]
    own: Mapping[str, str]


class Runs(NamedTuple):
    """Several runs.

    Parameters
    ----------
    results : mapping of str to mapping of str to Result
        By name of the run.
    left_out : mapping of str to mapping of str to str
        By name of the run, what it left out and why.
    about : mapping of str to AboutRun
        By name of the run, what it says of itself.
    """

    results: Mapping[str, Mapping[str, Result]]
    left_out: Mapping[str, Mapping[str, str]]
    about: Mapping[str, AboutRun]

    def shared(self) -> Iterator[Shown]:
        """Yield each result that at least two runs have."""
        for name in self._names():
            found = {run: results[name] for run, results in self.results.items() if name in results}
            if len(found) > 1:
                yield self._shown(name, found)

    def overview(self) -> pd.DataFrame:
        """Return which run has which result, and why one has it not where the run says so."""
        columns = {run: [self._told(run, name) for name in self._names()] for run in self.results}
        return pd.DataFrame({"result": list(self._names()), **columns})

    def differences(self) -> pd.DataFrame | None:
        """Return the inputs and arguments of the runs that differ, or None where none does or none is known."""
        return differing(self.about)

    def made_alike(self) -> str:
        """Return what to say of a result whose origins are the same in all runs."""
        differences = self.differences()
        if differences is not None:
            names = ", ".join(differences["what differs"])
            return f"The results record the same seed, arguments and versions; between the runs these differ: {names}."
        if all(about.made_of for about in self.about.values()):
            return "Made with the same inputs, seed, arguments and versions."
        return "The results record the same seed, arguments and versions; the inputs of the runs are not known."

    def _shown(self, name: str, found: Mapping[str, Result]) -> Shown:
        titles = {run: result.title for run, result in found.items()}
        captions = {run: self.about[run].captions.get(name, "") for run in found}
        parts = [told for told in (titles, captions) if len(set(told.values())) > 1]
        own = {run: ". ".join(filter(None, (told[run].rstrip(".") for told in parts))) + "." for run in found if parts}
        return Shown(in_common(titles.values()), found, own)

    def _names(self) -> dict[str, None]:
        return dict.fromkeys(name for results in self.results.values() for name in results)

    def _told(self, run: str, name: str) -> str:
        if name in self.results[run]:
            return "yes"
        reason = self.left_out[run].get(name)
        return f"left out: {reason}" if reason else "no"


def runs_of(runs: Mapping[str, Any]) -> Runs:
    """Return the results of each run by name; those made of others are followed by their parts.

    Parameters
    ----------
    runs : mapping of str to results
        See `neuros_mechint.report.Report.compare`.

    Returns
    -------
    Runs

    Raises
    ------
    InputError
        If there are fewer than two runs, one without results, or something else than results.
    StorageError
        If a file is missing or damaged.

    Examples
    --------
    >>> score = Result(xr.Dataset({"score": 0.5}), "Score")
    >>> {run: list(results) for run, results in runs_of({"A": [score], "B": {"Score": score}}).results.items()}
    {'A': ['Score'], 'B': ['Score']}
    """
    if not isinstance(runs, Mapping) or len(runs) <= 1:
        got = f"{len(runs)} run(s)" if isinstance(runs, Mapping) else type(runs).__name__
        raise InputError("a comparison needs several runs", expected='{"run A": results, "run B": results}', got=got)
    results = {str(run): _with_parts(_named(str(run), one)) for run, one in runs.items()}
    left_out = {str(run): dict(getattr(one, "left_out", {})) for run, one in runs.items()}
    return Runs(results, left_out, {str(run): about_run(one) for run, one in runs.items()})


def key_numbers(result: Result) -> dict[str, tuple[float, str]]:
    """Return the numbers of a result that fit into a table, with their units.

    Single numbers and short named series as they are, and mean, smallest and largest value of everything else.

    Examples
    --------
    >>> key_numbers(Result(xr.Dataset({"effect": ("head", [0.1, 0.9])}), "Effects", attributes={"n_pairs": 8}))
    {'effect [head 0]': (0.1, ''), 'effect [head 1]': (0.9, ''), 'n pairs': (8.0, '')}
    """
    found: dict[str, tuple[float, str]] = {}
    for name, array in result.data.data_vars.items():
        if array.dtype.kind in "biuf":
            units = str(array.attrs.get("units", ""))
            found |= {label: (value, units) for label, value in _numbers(str(name).replace("_", " "), array).items()}
    for name, value in result.attributes.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[str(name).replace("_", " ")] = (float(value), "")
    return found


def number_table(results: Mapping[str, Result]) -> pd.DataFrame:
    """Return the key numbers of all runs beside each other, and their differences from the first run.

    A variable that has the same labels in all runs has one more row: the largest difference of any of its values.

    Examples
    --------
    >>> results = {run: Result(xr.Dataset({"score": value}), "Score") for run, value in {"A": 0.5, "B": 0.75}.items()}
    >>> number_table(results).values.tolist()
    [['score', 0.5, 0.75, 0.25]]
    """
    numbers = {run: key_numbers(result) for run, result in results.items()}
    first, *others = numbers
    rows: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for told in numbers.values() for name in told):
        told = {run: own.get(name, (np.nan, "")) for run, own in numbers.items()}
        units = next((unit for _, unit in told.values() if unit), "")
        values = {run: value for run, (value, _) in told.items()}
        differences = {f"{run} − {first}": values[run] - values[first] for run in others}
        rows[name] = {"quantity": _with_units(name, units), **values, **differences}
    for name in map(str, results[first].main.to_dataset().data_vars):
        rows |= _largest_difference(name, results)
    return pd.DataFrame(list(rows.values()))


def how_many_differ(table: pd.DataFrame) -> str:
    """Return in how many rows of a `number_table` any run differs from the first, in words.

    Examples
    --------
    >>> how_many_differ(pd.DataFrame({"quantity": ["a", "b"], "A": [1.0, 2], "B": [1.0, 3], "B − A": [0.0, 1]}))
    '1 of 2 differ'
    """
    differences = table.iloc[:, 1 + table.shape[1] // 2 :].astype(float).fillna(0)
    return f"{int((differences != 0).any(axis=1).sum())} of {len(table)} differ"


def origin_table(results: Mapping[str, Result]) -> pd.DataFrame | None:
    """Return what differs in how the runs were made, or None where nothing but the time does.

    Examples
    --------
    >>> from neuros_mechint.core.provenance import Provenance
    >>> score = xr.Dataset({"score": 0.5})
    >>> runs = {f"seed {n}": Result(score, "Score", provenance=Provenance.record(seed=n)) for n in (0, 1)}
    >>> origin_table(runs).values.tolist()
    [['seed', '0', '1']]
    """
    origins = {run: dict(origin_of(result)) for run, result in results.items()}
    names = dict.fromkeys(name for origin in origins.values() for name in origin if name != "recorded")
    rows = [{"what differs": name, **{run: origin.get(name, "–") for run, origin in origins.items()}} for name in names]
    differing = [row for row in rows if len({row[run] for run in origins}) > 1]
    return pd.DataFrame(differing) if differing else None


def share_scales(figures: Sequence[Figure]) -> bool:
    """Give figures of the same kind the same axes and colours; return whether colours mean the same in all.

    Examples
    --------
    >>> figures = [Figure(), Figure()]
    >>> for height, figure in enumerate(figures, start=1):
    ...     _ = figure.subplots().plot([0, height])
    >>> share_scales(figures), figures[0].axes[0].get_ylim() == figures[1].axes[0].get_ylim()
    (True, True)
    """
    axes = [figure.axes[0] for figure in figures if figure.axes]
    images = [image for ax in axes for image in ax.images[:1]]
    if images:
        norms: list[Any] = [image.norm for image in images]
        if len({(type(image.norm), image.cmap.name) for image in images}) > 1 or len(images) < len(axes):
            return False
        low, high = min(norm.vmin for norm in norms), max(norm.vmax for norm in norms)
        for image in images:
            image.set_clim(low, high)
        return True
    if (
        len({(ax.get_xscale(), ax.get_yscale(), ax.get_aspect()) for ax in axes}) == 1
        and axes[0].get_aspect() == "auto"
    ):
        for direction in "xy":
            limits = [getattr(ax, f"get_{direction}lim")() for ax in axes]
            if all(low < high for low, high in limits):
                shared = (min(low for low, _ in limits), max(high for _, high in limits))
                for ax in axes:
                    getattr(ax, f"set_{direction}lim")(shared)
    return True


def _named(run: str, results: Any) -> dict[str, Result]:
    results = read_run(results) if isinstance(results, (str, Path)) else getattr(results, "results", results)
    if isinstance(results, Result):
        results = [results]
    if not isinstance(results, Mapping):
        results = _by_title(run, results)
    wrong = [type(result).__name__ for result in results.values() if not isinstance(result, Result)]
    if wrong or not results:
        raise InputError(f"run {run!r} is not made of results", expected="Result objects by name", got=wrong or "none")
    return {str(name): result for name, result in results.items()}


def _by_title(run: str, results: Any) -> dict[str, Any]:
    if not isinstance(results, Iterable):
        raise InputError(f"run {run!r} is not made of results", expected="Result objects", got=type(results).__name__)
    named: dict[str, Any] = {}
    for result in results:
        named[unused_name(getattr(result, "title", "result"), named)] = result
    return named


def _with_parts(results: Mapping[str, Result]) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for name, result in results.items():
        found[name] = result
        parts = {title: part for part, title, _ in result.report_sections()}
        found |= {f"{name} · {title}": part for title, part in _with_parts(parts).items()}
    return found


def _numbers(name: str, array: xr.DataArray) -> dict[str, float]:
    if not array.dims:
        return {name: float(array)}
    if array.ndim == 1 and array.size <= _MOST_ENTRIES:
        dimension = array.dims[0]
        labels = (f"{name} [{dimension} {label}]" for label in array[dimension].values)
        return dict(zip(labels, map(float, array.values), strict=True))
    values = array.values[np.isfinite(array.values)]
    return {f"{name}, {what}": float(of(values)) if values.size else np.nan for what, of in _SUMMARIES.items()}


def _largest_difference(name: str, results: Mapping[str, Result]) -> dict[str, dict[str, Any]]:
    first, *others = results
    arrays = {run: result.data.get(name) for run, result in results.items()}
    own = arrays[first]
    if own is None or own.dtype.kind not in "biuf" or (own.ndim < 2 and own.size <= _MOST_ENTRIES):
        return {}
    units = str(own.attrs.get("units", ""))
    row: dict[str, Any] = {"quantity": _with_units(f"{name.replace('_', ' ')}, largest difference of a value", units)}
    for run in others:
        other = arrays[run]
        alike = other is not None and own.dims == other.dims and own.coords.equals(other.coords)
        same_shape = alike and other is not None and own.shape == other.shape and other.dtype.kind in "biuf"
        row[f"{run} − {first}"] = _most(own, other) if same_shape and other is not None else np.nan
    return {row["quantity"]: row} if any(np.isfinite(row[f"{run} − {first}"]) for run in others) else {}


def _with_units(name: str, units: str) -> str:
    return f"{name} ({units})" if units else name


def _most(own: xr.DataArray, other: xr.DataArray) -> float:
    """Return the signed difference that is largest in size."""
    differences = other.values.astype(float) - own.values.astype(float)
    differences = differences[np.isfinite(differences)]
    return float(differences[np.abs(differences).argmax()]) if differences.size else np.nan
