"""What a user hands to a workflow, and where it can be found again: by name, by path, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch

from neuros_mechint.adapters.registry import adapt
from neuros_mechint.core.errors import InputError, StorageError, near_names
from neuros_mechint.datasets.embedded import embedded_models, load_model
from neuros_mechint.workflows.runs.identity import identity
from neuros_mechint.workflows.runs.user_code import UserCode

EMBEDDED, FOLDER, FILE, CODE, OBJECT = "embedded", "folder", "file", "code", "object"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Source:
    """Where an input of a run came from.

    Parameters
    ----------
    kind : {"embedded", "folder", "file", "code", "object"}
        A model that ships with the package, by name; a folder or file, by path; ``file.py:function``; or an object that
        was passed in Python, of which only the fingerprint tells whether another is the same.
    name : str
        Name, absolute path, or type.
    fingerprint : str
        Of all that it holds, see `neuros_mechint.workflows.runs.identity.identity`.
    """

    kind: str
    name: str
    fingerprint: str


class Given(NamedTuple, Generic[Value]):
    """An input, opened, and where it came from. Whatever opens inputs returns one that is open already as it is."""

    value: Value
    source: Source


def opened(value: Value, kind: str, name: str) -> Given[Value]:
    """Return an input that its own content identifies.

    Examples
    --------
    >>> opened([1.0], OBJECT, "list").source.kind
    'object'
    """
    return Given(value, Source(kind, name, identity(value)))


def read_from(path: Path, value: Value) -> Given[Value]:
    """Return an input that was read from a file, which identifies it."""
    return Given(value, Source(FILE, str(path.resolve()), file_hash(path)))


def open_model(given: Any, make: Callable[[Any], Any] = adapt) -> Given[Any]:
    """Open a model, adapted.

    Parameters
    ----------
    given : str, pathlib.Path, torch.nn.Module, Adapter or whatever `adapt` takes
        A string is the name of an embedded model, the folder of a HuggingFace model with its ``config.json``, or
        ``file.py:function``: a function of the user's own Python file, which is called without arguments. The file is
        run, and may import what lies beside it.
    make : callable
        What adapts objects; it returns one with a ``fingerprint()``.

    Returns
    -------
    Given
        ``value``, an adapter, and its ``source``.

    Raises
    ------
    InputError
        No such model.
    MissingDependencyError
        The user's file imports what is not there.

    Examples
    --------
    >>> open_model("flip_flop_rnn").source.kind
    'embedded'
    """
    if isinstance(given, Given):
        return given
    if not isinstance(given, (str, Path)):
        return opened(make(given), OBJECT, _type_name(getattr(given, "module", given)))
    name = str(given)
    if name in embedded_models():
        return opened(adapt(load_model(name)), EMBEDDED, name)
    if is_code(name):
        with UserCode(name) as code:  # what tells it from others looks into the modules that the file imported
            return opened(make(code()), CODE, absolute_code(name))
    if (Path(name) / "config.json").is_file():
        return opened(_huggingface(name), FOLDER, str(Path(name).resolve()))
    near = near_names(name, embedded_models())
    raise InputError(
        f"no model {name!r}",
        expected="one of "
        + ", ".join(embedded_models())
        + "; the folder of a HuggingFace model with its config.json; or file.py:function, which builds one",
        fix=f"did you mean {near[0]!r}?" if near else None,
    )


def open_array(given: Any) -> Given[Any]:
    """Open an array of numbers.

    Parameters
    ----------
    given : str, pathlib.Path, array_like, torch.Tensor, xarray.DataArray or Recording
        Text is the path of a ``.npy`` file.

    Returns
    -------
    Given
        ``value`` as it came, or as it is in the file.

    Raises
    ------
    InputError
        No numbers.
    StorageError
        No such file, or none that NumPy wrote.

    Examples
    --------
    >>> open_array([1.0, 2.0]).source.name
    'list'
    """
    if isinstance(given, Given):
        return given
    if not isinstance(given, (str, Path)):
        return opened(given, OBJECT, _type_name(given))
    path = Path(given)
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        problem = f"{path} cannot be read" if path.exists() else f"there is no file {path}"
        raise StorageError(problem, expected="numbers that numpy.save wrote (.npy)", got=error) from error
    if not isinstance(values, np.ndarray):
        raise StorageError(f"{path} holds several arrays", expected="one array (.npy)", got="an .npz file")
    return read_from(path, values)


def is_code(name: str) -> bool:
    """Return whether text names a function of a Python file.

    Examples
    --------
    >>> is_code("models/mine.py:build"), is_code("flip_flop_rnn")
    (True, False)
    """
    path, colon, function = name.rpartition(":")
    return bool(colon) and path.endswith(".py") and function.isidentifier()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def absolute_code(name: str) -> str:
    """Return ``file.py:function`` with the absolute path of the file.

    Examples
    --------
    >>> absolute_code("/models/mine.py:build")
    '/models/mine.py:build'
    """
    path, _, function = name.rpartition(":")
    return f"{Path(path).resolve()}:{function}"


def precision_of(model: Any) -> torch.dtype | None:
    """Return the floating type of the first weights of a model, in which it takes its inputs; None without weights.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> precision_of(nm.adapt(torch.nn.Linear(2, 2).half()))
    torch.float16
    """
    module = getattr(model, "module", None)
    weights = module.parameters() if isinstance(module, torch.nn.Module) else ()
    return next((one.dtype for one in weights if one.is_floating_point()), None)


def _huggingface(folder: str) -> Any:
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    architecture = getattr(transformers, (config.architectures or ["AutoModel"])[0])
    tokenizer = None
    if any((Path(folder) / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return adapt(architecture.from_pretrained(folder, local_files_only=True), tokenizer=tokenizer)


def _type_name(value: Any) -> str:
    return type(value).__name__
