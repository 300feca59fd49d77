"""Results as JSON and back, and the results of a run wherever they were saved."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.json_text import parse_json
from neuros_mechint.core.result import Result, load_result, result_from, result_metadata

FORMAT, VERSION = "neuros-mechint report", 1


def result_to_json(result: Result) -> dict[str, Any]:
    """Return everything that belongs to a result in types that JSON knows.

    Examples
    --------
    >>> result = Result(xr.Dataset({"score": ("layer", [0.5, np.nan])}), "Scores")
    >>> result_to_json(result)["data"]["variables"]["score"]["values"]
    [0.5, 'nan']
    """
    about = result_metadata(result)
    return {
        **about,
        "provenance": json.loads(about["provenance"]),
        "citations": list(about["citations"]),
        "warnings": list(about["warnings"]),
        "data": {
            "attributes": dict(result.data.attrs),
            "coordinates": [str(name) for name in result.data.coords],
            "variables": {str(name): _variable_to_json(one) for name, one in result.data.variables.items()},
        },
    }


def result_from_json(about: Mapping[str, Any]) -> Result:
    """Return the result that `result_to_json` was given.

    Raises
    ------
    StorageError
        If it is something else, or its class is not known in this session.

    Examples
    --------
    >>> result = Result(xr.Dataset({"score": ("layer", [0.5, np.inf])}), "Scores")
    >>> result_from_json(result_to_json(result)) == result
    True
    """
    try:
        data = about["data"]
        variables = {name: _variable_from_json(one) for name, one in data["variables"].items()}
        dataset = xr.Dataset(variables).set_coords(data["coordinates"]).assign_attrs(data["attributes"])
        return result_from(dataset, {**about, "provenance": json.dumps(about["provenance"])})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StorageError("a result in this file is damaged", got=f"{type(error).__name__}: {error}") from error


def read_run(path: str | Path) -> dict[str, Result]:
    """Return the results of a run by name.

    Parameters
    ----------
    path : str or pathlib.Path
        A folder of files that `Result.save` wrote, that of a workflow, one such file, or a report saved as JSON.

    Returns
    -------
    dict of str to Result
        Named as the files or, those of a report, by their sections. Those of a workflow come in the order of its steps.

    Raises
    ------
    InputError
        If there are no results.
    StorageError
        If a file is missing or damaged.

    Examples
    --------
    >>> read_run("no such folder")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.StorageError: no such file: no such folder
      to fix:   pass the path that Result.save returned
    """
    path = Path(path)
    if path.is_dir():
        files = {file.stem: file for file in sorted([*path.glob("*.nc"), *path.glob("steps/*.nc")])}
        names = [name for name in _steps_in_order(path) if name in files]
        results = {name: load_result(files[name]) for name in dict.fromkeys([*names, *files])}
    elif path.suffix == ".json" and path.is_file():
        results = _results_of(read_report(path))
    else:
        results = {path.stem: load_result(path)}
    if not results:
        raise InputError(
            f"{path} holds no results",
            expected="a folder of files written by Result.save, or a report saved as .json",
        )
    return results


def manifest_in(folder: Path) -> dict[str, Any]:
    """Return the manifest of a run of a workflow as it stands in its folder, unchecked; of any other folder nothing.

    Examples
    --------
    >>> manifest_in(Path("no such folder"))
    {}
    """
    try:
        found = parse_json((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _steps_in_order(folder: Path) -> list[str]:
    """Return the names of the steps of a workflow as its manifest lists them; of any other folder none."""
    try:
        return [str(step["name"]) for step in manifest_in(folder)["steps"]]
    except (TypeError, KeyError):
        return []


class SavedSection(NamedTuple):
    """A section of a report that was saved as JSON.

    Parameters
    ----------
    title, caption : str
    text : str
        Of a section of words.
    results : mapping of str to Result
        By run, whose name is empty where there is one.
    """

    title: str
    caption: str
    text: str
    results: Mapping[str, Result]

    def named(self) -> Iterator[tuple[str, Result]]:
        """Yield each result with its run and the title of the section as its name."""
        for run, result in self.results.items():
            yield " · ".join(filter(None, (run, self.title))), result


class SavedReport(NamedTuple):
    """A report that was saved as JSON."""

    title: str
    subtitle: str
    sections: Sequence[SavedSection]


def read_report(path: Path) -> SavedReport:
    """Read a report that was saved as JSON; of what it shows, its words and results.

    Raises
    ------
    StorageError
        Another file, a damaged one, or one from a newer version.
    """
    try:
        told = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {path}", got=error) from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise StorageError(f"{path} is not a report", expected="a file written by Report.save")
    if not isinstance(told.get("version"), int) or told["version"] > VERSION:
        raise StorageError(f"{path} was written by a newer version", fix="pip install -U neuros-mechint")
    try:
        return SavedReport(str(told["title"]), str(told["subtitle"]), [_section(one) for one in told["sections"]])
    except (KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{path} is damaged", got=f"{type(error).__name__}: {error}") from error


def _section(about: Mapping[str, Any]) -> SavedSection:
    results = {str(one["run"]): result_from_json(one) for one in about.get("results", ())}
    text = str(about.get("body", {}).get("text", ""))
    return SavedSection(str(about["title"]), str(about["caption"]), text, results)


def _results_of(report: SavedReport) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for section in report.sections:
        for name, result in section.named():
            results[unused_name(name, results)] = result
    return results


def unused_name(name: str, taken: Mapping[str, Any]) -> str:
    """Return a name, or the first of "name 2", "name 3", ... that is not taken.

    Examples
    --------
    >>> unused_name("effects", {"effects": 0})
    'effects 2'
    """
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name} {number}"
    return candidate


def _variable_to_json(variable: xr.Variable) -> dict[str, Any]:
    values, kind = variable.values, variable.dtype.kind
    if kind == "c":
        plain: Any = [_plain(part.tolist()) for part in (np.real(values), np.imag(values))]
    elif kind in "mM":
        plain = values.astype("int64").tolist()
    else:
        plain = _plain(values.tolist())
    dtype = "object" if kind == "O" else variable.dtype.str
    return {"dims": list(map(str, variable.dims)), "dtype": dtype, "attributes": dict(variable.attrs), "values": plain}


def _variable_from_json(about: Mapping[str, Any]) -> xr.Variable:
    dtype, values = np.dtype(about["dtype"]), about["values"]
    if dtype.kind == "c":
        parts = np.stack([np.array(_numbers(part), dtype=np.float64) for part in values], -1)
        array = parts.view(np.complex128)[..., 0].astype(dtype)
    elif dtype.kind in "mM":
        array = np.array(values, dtype="int64").astype(dtype)
    elif dtype.kind == "f":
        array = np.array(_numbers(values), dtype=dtype)
    else:
        # Not as wide as a file says that its texts are, but as they are.
        array = np.array(values, dtype="U" if dtype.kind == "U" else dtype)
    return xr.Variable(about["dims"], array, about["attributes"])


def _plain(values: Any) -> Any:
    """Return nested lists in which numbers that JSON does not know are written out."""
    if isinstance(values, list):
        return [_plain(value) for value in values]
    return str(values) if isinstance(values, float) and not math.isfinite(values) else values


def _numbers(values: Any) -> Any:
    return [_numbers(value) for value in values] if isinstance(values, list) else float(values)
