"""The manifest of a run: what it was made of and what it found, so that it can be repeated and compared."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.fingerprint import fingerprint_array
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.core.result_files import write_atomically
from neuros_mechint.workflows.runs.sources import Source

MANIFEST = "manifest.json"
"""Name of the file in the folder of a run."""

_FORMAT, _VERSION = "neuros-mechint run", 1
_LONGEST_PATH = 4096
_LARGEST = 16 * 2**20  # bytes; runs of many steps have a few thousand
_DECISIVE = ("neuros-mechint", "numpy", "torch")  # packages whose version may change numbers
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FIX = "pass the manifest.json of a folder that a workflow wrote"
Made = TypeVar("Made")


@dataclass(frozen=True)
class StepRecord:
    """One step of a run.

    Parameters
    ----------
    name : str
    numbers : mapping of str to mapping
        For each variable of the result its ``digest``, and of real numbers the ``least``, ``mean`` and ``most``.
    findings : tuple of str
        What the result says in words.
    files : mapping of str to str
        Files of the step, relative to the folder of the run, each with its SHA-256.
    left_out : str
        Why there is no result; empty where there is one.
    """

    name: str
    numbers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    left_out: str = ""


@dataclass(frozen=True)
class Page:
    """How a finished run is shown.

    Parameters
    ----------
    title, subtitle : str
    captions : mapping of str to str
        By step: what to see in its figure.
    shown : tuple of str
        Steps that the report shows, in order.
    """

    title: str = ""
    subtitle: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What a run was made of, and what it found.

    Parameters
    ----------
    workflow : str
    arguments : mapping
        What JSON can hold.
    inputs : mapping of str to Source
        Models and data, by the name of the argument that took them.
    seed : int or str
        A string describes a generator, with which a run cannot be repeated.
    versions : mapping of str to str
        Of packages.
    python, platform, started, finished : str
        ``finished`` is empty while the run lasts, and after one that was cut off.
    steps : tuple of StepRecord
        Finished ones, in order.
    page : Page
    """

    workflow: str
    arguments: Mapping[str, Any]
    inputs: Mapping[str, Source]
    seed: int | str
    versions: Mapping[str, str]
    python: str
    platform: str
    started: str
    finished: str = ""
    steps: tuple[StepRecord, ...] = ()
    page: Page = field(default_factory=Page)

    @classmethod
    def begin(cls, workflow: str, arguments: Mapping[str, Any], inputs: Mapping[str, Source], seed: Any) -> Manifest:
        """Return the manifest of a run that starts now.

        Raises
        ------
        InputError
            Arguments that JSON cannot hold.
        """
        try:
            plain = json.loads(json.dumps(dict(arguments)))
        except (TypeError, ValueError) as error:
            raise InputError("arguments of a workflow cannot be stored", got=error) from error
        record = Provenance.record(seed)
        assert record.seed is not None
        about = (record.versions, record.python, record.platform, record.timestamp)
        return cls(workflow, plain, dict(inputs), record.seed, *about)

    @property
    def identity(self) -> dict[str, str]:
        """What two runs must share so that one can go on where the other stopped, in words."""
        return {
            "workflow": self.workflow,
            **{f"argument {name}": repr(value) for name, value in sorted(self.arguments.items())},
            **{f"input {name}": source.fingerprint for name, source in sorted(self.inputs.items())},
            "seed": str(self.seed),
            **{f"version of {name}": self.versions.get(name, "unknown") for name in _DECISIVE},
        }

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder of its run, in one step."""
        values = {name.name: getattr(self, name.name) for name in fields(self)}
        values["inputs"] = {name: asdict(source) for name, source in self.inputs.items()}
        values["steps"] = [asdict(step) for step in self.steps]
        values["page"] = asdict(self.page)
        values["versions"] = dict(self.versions)
        values = {"format": _FORMAT, "version": _VERSION} | values
        text = json.dumps(values | {"checksum": _checksum(values)}, indent=1) + "\n"
        write_atomically(folder / MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))


def read_manifest(path: str | Path) -> Manifest:
    """Read the manifest of a run.

    Parameters
    ----------
    path : str or pathlib.Path
        The file, or the folder of the run.

    Returns
    -------
    Manifest

    Raises
    ------
    StorageError
        Missing, too large, damaged, from a newer version, or with names that lead out of the folder.

    Examples
    --------
    >>> read_manifest("no_such_run")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.StorageError: there is no manifest no_such_run
      to fix:   pass the manifest.json of a folder that a workflow wrote
    """
    path = Path(path)
    path = path / MANIFEST if path.is_dir() else path
    if not path.is_file():
        raise StorageError(f"there is no manifest {path}", fix=_FIX)
    size = path.stat().st_size
    if size > _LARGEST:
        raise StorageError(f"{path} is too large for a manifest", expected=f"at most {_LARGEST} bytes", got=size)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _manifest(content)
    except (ValueError, TypeError, RecursionError) as error:  # UnicodeError and JSONDecodeError are ValueErrors
        raise StorageError(f"{path} is damaged or is no manifest", got=str(error)[:200], fix=_FIX) from error


def numbers_of(result: Result) -> dict[str, np.ndarray]:
    """Return all that is compared of a result: its variables, and the numbers among its attributes.

    Examples
    --------
    >>> import xarray as xr
    >>> list(numbers_of(Result(xr.Dataset({"score": 0.5}), "Score", attributes={"p": 0.1, "method": "exact"})))
    ['score', 'attribute p']
    """
    found = {str(name): np.asarray(variable.values) for name, variable in result.data.variables.items()}
    for name, value in result.attributes.items():
        if isinstance(value, (bool, int, float)):
            found[f"attribute {name}"] = np.asarray(value)
    return found


def describe_numbers(result: Result) -> dict[str, dict[str, Any]]:
    """Return a digest of each variable of a result, and where the real ones lie.

    Examples
    --------
    >>> import xarray as xr
    >>> about = describe_numbers(Result(xr.Dataset({"score": ("layer", [0.5, 1.5])}), "Score"))["score"]
    >>> about["least"], about["mean"], about["most"]
    (0.5, 1.0, 1.5)
    """
    return {name: described(values) for name, values in numbers_of(result).items()}


def described(values: np.ndarray) -> dict[str, Any]:
    """Return a digest of an array, and where its real numbers lie.

    Examples
    --------
    >>> described(np.array([1.0, np.nan, 3.0]))["mean"]
    2.0
    """
    about: dict[str, Any] = {"shape": list(values.shape), "digest": fingerprint_array(values)}
    finite = _finite(values)
    if len(finite):
        about |= {"least": float(finite.min()), "mean": float(finite.mean()), "most": float(finite.max())}
    return about


def check_step_name(name: Any) -> str:
    """Return the name of a step, which names files too.

    Raises
    ------
    InputError
        Anything but lower-case letters, digits and underscores.

    Examples
    --------
    >>> check_step_name("fixed_points")
    'fixed_points'
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise InputError("this cannot name a step", expected="lower-case letters, digits and underscores", got=repr(name))


def _finite(values: np.ndarray) -> Floats:
    """Return the finite ones of real numbers; of anything else nothing."""
    if values.dtype.kind not in "biuf":
        return np.empty(0)
    flat = values.ravel().astype(np.float64)
    return flat[np.isfinite(flat)]


# -- reading: nothing in the file is trusted ---------------------------------------------------------------------


def _manifest(content: Any) -> Manifest:
    values = _typed(content, "the file", dict)
    if values.pop("checksum", None) != _checksum(values):
        raise ValueError("it changed after it was written")
    if values.pop("format", None) != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT!r}")
    if _typed(values.pop("version", None), "version", int) > _VERSION:
        raise ValueError("it was written by a newer version: pip install -U neuros-mechint")
    values.setdefault("page", {})  # of a run from before it was kept
    expected = {one.name for one in fields(Manifest)}
    if set(values) != expected:
        raise ValueError(f"expected the entries {sorted(expected)}, got {sorted(values)}")
    for name in ("workflow", "python", "platform", "started", "finished"):
        _typed(values[name], name, str)
    _typed(values["seed"], "seed", (int, str))
    _typed(values["arguments"], "arguments", dict)
    _table(values["versions"], "versions", lambda value: _typed(value, "a version", str))
    values["inputs"] = _table(values["inputs"], "inputs", _source)
    values["steps"] = tuple(_step(one) for one in _typed(values["steps"], "steps", list))
    names = [step.name for step in values["steps"]]
    if len(set(names)) < len(names):
        raise ValueError(f"it has the step {max(names, key=names.count)!r} twice")
    values["page"] = _page(values["page"], {step.name for step in values["steps"] if not step.left_out})
    return Manifest(**values)


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _source(content: Any) -> Source:
    values = _table(content, "an input", lambda value: _typed(value, "an entry of an input", str))
    if len(values.get("name", "")) > _LONGEST_PATH:
        raise ValueError("the name of an input is longer than any path")
    return Source(**values)


def _step(content: Any) -> StepRecord:
    step = StepRecord(**_typed(content, "a step", dict))
    check_step_name(step.name)
    _typed(step.left_out, "left_out", str)
    _table(step.numbers, "numbers", _check_numbers)
    files = _table(step.files, "files", lambda value: _typed(value, "a hash", str))
    for name in files:
        parts = Path(name).parts
        if Path(name).is_absolute() or ".." in parts or "\\" in name or parts[:1] != ("steps",):
            raise ValueError(f"the file {name!r} is not in the folder of the run")
    findings = _typed(step.findings, "findings", list)
    return StepRecord(step.name, step.numbers, tuple(map(str, findings)), files, step.left_out)


def _page(content: Any, steps: Collection[str]) -> Page:
    page = Page(**_typed(content, "page", dict))
    for name in ("title", "subtitle"):
        _typed(getattr(page, name), name, str)
    _table(page.captions, "captions", lambda value: _typed(value, "a caption", str))
    shown = tuple(_typed(page.shown, "shown", list))
    if set(shown) - set(steps):
        raise ValueError("it shows steps that the run has not")
    return replace(page, shown=shown)


def _check_numbers(about: Any) -> None:
    _typed(_typed(about, "numbers", dict).get("digest"), "digest", str)
    _typed(about.get("shape"), "shape", list)
    for name in ("least", "mean", "most"):
        value = _typed(about.get(name, 0.0), name, (int, float))
        if abs(value) > sys.float_info.max:
            raise ValueError(f"{name} is no number that a computer holds")


def _table(content: Any, what: str, check: Callable[[Any], Made]) -> dict[str, Made]:
    return {name: check(value) for name, value in _typed(content, what, dict).items()}


def _typed(value: Any, what: str, kind: Any) -> Any:
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise TypeError(f"{what} is {type(value).__name__}")
