"""What a report says about a result beside its figure: findings, data, and where it comes from."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pandas as pd

from neuros_mechint.core.formatting import describe_array, format_value
from neuros_mechint.core.result import Result

_LOG = logging.getLogger(__name__)
_LONGEST_NAME = 48
_MOST_ARRAYS = 3
# A comma, or a number that is no part of a name such as blocks.0.z[head=3]: then the words found something already.
_FINDING = re.compile(r"[,;]|(?<![\w.=-])[-+−]?\d")
Told = TypeVar("Told")


def attempt(what: str, tell: Callable[[], Told]) -> tuple[Told | None, str]:
    """Return what a result tells about itself, or None and the problem; a page is not lost to one faulty class.

    Examples
    --------
    >>> attempt("the figure", lambda: 1 + 1)
    (2, '')
    >>> attempt("the figure", lambda: {}["colour"])
    (None, "the figure could not be made: KeyError: 'colour'")
    """
    try:
        return tell(), ""
    except Warning:
        raise  # whoever turns warnings into errors wants to see them
    except Exception as error:
        _LOG.debug("a result could not tell %s", what, exc_info=True)
        first_line = str(error).partition("\n")[0]
        return None, f"{what} could not be made: {type(error).__name__}: {first_line}"


def findings_of(result: Result) -> list[tuple[str, str]]:
    """Return what was found as (name, value); the name is empty where a class says it in a sentence.

    Examples
    --------
    >>> import xarray as xr
    >>> findings_of(Result(xr.Dataset({"mean_effect": 0.5}), "Effect", attributes={"a: b": "c: d"}))
    [('mean effect', '0.5'), ('a: b', 'c: d')]
    """
    if type(result)._summary_lines is Result._summary_lines:  # pyright: ignore[reportPrivateUsage]
        described = [(str(name), describe_array(array)) for name, array in result.data.data_vars.items()]
        named = [*described, *((name, format_value(value)) for name, value in result.attributes.items())]
        return [(_readable(name), value) for name, value in named]
    lines = "\n".join(result.findings).splitlines()
    return [_parted(line) for line in lines if line.strip()]


def origin_of(result: Result) -> list[tuple[str, str]]:
    """Return the provenance of a result as (name, value).

    Examples
    --------
    >>> import xarray as xr
    >>> dict(origin_of(Result(xr.Dataset({"score": 0.5}), "Score")))["seed"]
    'none'
    """
    record = result.provenance
    return [
        ("recorded", record.timestamp),
        ("seed", "none" if record.seed is None else str(record.seed)),
        ("model fingerprint", record.model or "none"),
        *((f"argument {name}", argument_text(value)) for name, value in record.arguments.items()),
        ("packages", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
        ("platform", f"Python {record.python}, {record.platform}"),
    ]


def argument_text(value: Any) -> str:
    """Return an argument as `neuros_mechint.core.provenance` keeps it, for a reader.

    Examples
    --------
    >>> argument_text({"shape": [2, 3], "dtype": "float64"})
    'float64 array, 2 × 3'
    """
    if isinstance(value, Mapping) and "shape" in value and "dtype" in value:
        shape = " × ".join(map(str, value["shape"])) or "scalar"
        return f"{value['dtype']} array, {shape}" + (f", hash {value['hash']}" if "hash" in value else "")
    items = list(value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ())
    if len(items) > _MOST_ARRAYS and all(isinstance(one, Mapping) and {"shape", "hash"} <= set(one) for one in items):
        digest = hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
        return f"{len(items)} arrays, hash of all {digest}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {argument_text(item)}" for name, item in value.items())
    return format_value(value)


def data_of(result: Result) -> pd.DataFrame:
    """Return the data of a result as a table; where its class fails to make one, a table that says so."""
    table, problem = attempt("the table", result.to_dataframe)
    return table if table is not None else pd.DataFrame({"problem": [problem]})


def _readable(name: str) -> str:
    return name if "." in name else name.replace("_", " ")


def _parted(line: str) -> tuple[str, str]:
    """Part a line that a class wrote at its colon, where the name of something stands before it; no whole sentence."""
    name, colon, value = line.strip().partition(": ")
    is_name = bool(colon) and not value.endswith(".") and len(name) <= _LONGEST_NAME and not _FINDING.search(name)
    return (_readable(name), value) if is_name else ("", line)
