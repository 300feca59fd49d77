"""Where a result comes from: versions, platform, seed, model fingerprint, arguments and time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.fingerprint import fingerprint_array, fingerprint_module
from neuros_mechint.core.json_text import parse_json
from neuros_mechint.core.random import generator

if TYPE_CHECKING:
    import torch

# The first two always count; of the rest (distribution: module) only what the session has loaded.
_ALWAYS = ("numpy", "torch")
_IF_IMPORTED = {
    "transformers": "transformers",
    "transformer-lens": "transformer_lens",
    "nnsight": "nnsight",
    "sae-lens": "sae_lens",
    "brian2": "brian2",
    "rsatoolbox": "rsatoolbox",
    "nolds": "nolds",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "xarray": "xarray",
}
_LONGEST_LIST = 64


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from.

    Parameters
    ----------
    versions : mapping of str to str
        Version of each package that took part.
    python, platform : str
        Version of Python and name of the operating system.
    seed : int, str or None
        The seed, or what identifies the generator that was passed.
    model : str or None
        Fingerprint of the model, see `fingerprint_module`.
    arguments : mapping
        JSON-able summary of the call; arrays are kept as shape, dtype and a short hash.
    timestamp : str
        UTC time in ISO format, whole seconds.

    Examples
    --------
    >>> record = Provenance.record(seed=0, arguments={"method": "exact"})
    >>> record.seed, record.arguments["method"]
    (0, 'exact')
    >>> Provenance.from_json(record.to_json()) == record
    True
    """

    versions: Mapping[str, str]
    python: str
    platform: str
    seed: int | str | None
    model: str | None
    arguments: Mapping[str, Any]
    timestamp: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "versions", MappingProxyType(dict(self.versions)))
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {"versions": dict(self.versions), "arguments": dict(self.arguments)}
        return type(self), tuple(values.values())

    @classmethod
    def record(
        cls,
        seed: int | np.random.Generator | None = None,
        model: torch.nn.Module | str | None = None,
        arguments: Mapping[str, object] | None = None,
    ) -> Provenance:
        """Record the present moment.

        Parameters
        ----------
        seed : int or numpy.random.Generator, optional
            The seed that was used; None where nothing was random.
        model : torch.nn.Module or str, optional
            A torch module, or the fingerprint of a model.
        arguments : mapping, optional
            The arguments of the call by name; see `summarize_argument` for what is kept of each.

        Returns
        -------
        Provenance

        Raises
        ------
        InputError
            If ``seed`` is not a seed or ``model`` is neither a torch module nor a string.
        """
        return cls(
            versions=package_versions(),
            python=platform.python_version(),
            platform=_platform_name(),
            seed=_describe_seed(seed),
            model=model if model is None or isinstance(model, str) else fingerprint_module(model),
            arguments={name: summarize_argument(value) for name, value in (arguments or {}).items()},
            timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def with_seed(self, seed: int | np.random.Generator) -> Provenance:
        """Return the same record with the seed that a caller gave, where the work was done with another drawn from it.

        Examples
        --------
        >>> Provenance.record(seed=np.random.default_rng(3)).with_seed(3).seed
        3
        """
        return replace(self, seed=_describe_seed(seed))

    def to_json(self) -> str:
        """Return this record as one JSON object.

        Examples
        --------
        >>> '"seed": 3' in Provenance.record(seed=3).to_json()
        True
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["versions"] = dict(self.versions)
        fields["arguments"] = dict(self.arguments)
        return json.dumps(fields, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read what `to_json` wrote.

        Raises
        ------
        StorageError
            If ``text`` is not such a record.

        Examples
        --------
        >>> Provenance.from_json(Provenance.record(seed=3).to_json()).seed
        3
        """
        try:
            return cls(**parse_json(text))
        except (TypeError, ValueError) as error:
            raise StorageError(
                "this text is not a provenance record",
                expected="the JSON object that Provenance.to_json writes",
                got=repr(text[:80]) if isinstance(text, str) else type(text).__name__,
            ) from error


def package_versions() -> dict[str, str]:
    """Return the versions of this package, NumPy and torch, and of the model libraries loaded so far.

    Examples
    --------
    >>> "numpy" in package_versions()
    True
    """
    loaded = [name for name, module in _IF_IMPORTED.items() if module in sys.modules]
    own = {"neuros-mechint": str(sys.modules["neuros_mechint"].__version__)}
    return own | {name: _version(name) for name in (*_ALWAYS, *loaded)}


def summarize_argument(value: object) -> Any:
    """Return what is kept of an argument: something JSON can hold, short, and the same in every process.

    Numbers, strings and None stay; arrays and tensors become shape, dtype and hash; long lists become length
    and hash; dataclasses and mappings are summarized field by field; any other object becomes its qualified
    type name.

    Examples
    --------
    >>> summarize_argument(np.zeros((2, 3)))["shape"]
    [2, 3]
    >>> summarize_argument({"k": (1, 2.5)})
    {'k': [1, 2.5]}
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.generic)):
        return _summarize_number(value)
    if isinstance(value, Mapping):
        return {str(key): summarize_argument(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return _summarize_sequence(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _summarize_array(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__} | {name: summarize_argument(item) for name, item in fields.items()}
    return _type_name(value)


def _summarize_number(value: float | np.generic) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    # JSON has no NaN, infinity, complex or dates; their text says as much.
    if isinstance(plain, float) and not np.isfinite(plain):
        return repr(plain)
    return plain if isinstance(plain, (bool, int, float, str)) else str(plain)


def _summarize_sequence(value: list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]) -> Any:
    items = [summarize_argument(item) for item in value]
    if isinstance(value, (set, frozenset)):
        items.sort(key=lambda item: json.dumps(item, sort_keys=True))
    if len(items) <= _LONGEST_LIST:
        return items
    text = np.frombuffer(json.dumps(items, sort_keys=True).encode(), dtype=np.uint8)
    return {"length": len(items), "hash": fingerprint_array(text)[:16]}


def _summarize_array(value: Any) -> dict[str, Any]:
    summary: dict[str, Any] = {"shape": [int(n) for n in value.shape], "dtype": str(value.dtype)}
    # Arrays of arbitrary objects have no bytes of their own to hash; shape and dtype still say something.
    with contextlib.suppress(InputError):
        summary["hash"] = fingerprint_array(value)[:16]
    return summary


def _type_name(value: object) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', type(value).__qualname__)}"


def _describe_seed(seed: int | np.random.Generator | None) -> int | str | None:
    if seed is None:
        return None
    source = generator(seed)
    if source is not seed:
        return int(seed)  # type: ignore[arg-type]
    state = json.dumps(summarize_argument(source.bit_generator.state), sort_keys=True).encode()
    name = type(source.bit_generator).__name__
    return f"{name} generator, state {fingerprint_array(np.frombuffer(state, dtype=np.uint8))[:16]}"


@functools.cache
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def _platform_name() -> str:
    return platform.platform()
