"""What tells an input of a run from every other, to the last bit: a run that goes on must be of the same inputs."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import itertools
import logging
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.fingerprint import fingerprint_module, home_of
from neuros_mechint.core.recordings.recording import Recording

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
_OWN = __name__.partition(".")[0]


def identity(value: Any) -> str:
    """Return a hash of all that an input holds, the same in every process.

    Arrays and weights count whole, with their labels. A function is its source text, its defaults, what it encloses
    and the globals that it names; a class is its source text and that of its bases, and of what its methods name the
    numbers and arrays, and code in its own file and beside it; a module is its source text and that of the modules
    which it imports; an object is its class and its attributes. Code that is installed counts by name.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
        Of 32 digits.

    Examples
    --------
    >>> def scaled(by):
    ...     return lambda states: by * states
    >>> identity(scaled(2.0)) == identity(scaled(2.0)), identity(scaled(2.0)) == identity(scaled(3.0))
    (True, False)
    """
    digest, seen = hashlib.sha256(), dict[int, Any]()
    for part in _parts(value, seen):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.hexdigest()[:32]


def _parts(value: Any, seen: dict[int, Any]) -> Iterable[bytes]:
    """Yield all that a value holds as bytes; what was seen before counts by its place, so that circles end."""
    within = [iter((value,))]  # and no recursion: code may lead from one to the next a thousand times
    while within:
        part = next(within[-1], within)
        if part is within:
            within.pop()
        elif isinstance(part, bytes) and len(within) > 1:  # told by what holds it
            yield part
        elif isinstance(part, _PLAIN):
            yield f"{type(part).__name__} {part!r}".encode()
        elif id(part) in seen:
            yield f"as number {list(seen).index(id(part))}".encode()
        else:
            seen[id(part)] = part  # held, so that no other object gets its address
            within.append(iter(_held(part)))


def _held(value: Any) -> Iterable[Any]:
    """Yield the bytes and the objects that make up a value."""
    yield _name(value).encode()
    for kind, held in _HELD.items():
        if isinstance(value, kind):
            yield from held(value)
            return
    yield from _of_object(value)


def _of_tensor(tensor: torch.Tensor) -> Iterable[bytes]:
    yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    values = tensor.detach().to_dense() if tensor.layout is not torch.strided else tensor.detach()
    values = values.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    yield values.view(torch.uint8).numpy().tobytes() if values.numel() else b""


def _of_array(array: np.ndarray) -> Iterable[Any]:
    yield f"{array.dtype.str} {array.shape}".encode()
    if array.dtype.hasobject or array.dtype.kind == "T":
        yield array.ravel().tolist()
    else:
        yield np.ascontiguousarray(array).tobytes()


def _of_labelled(array: xr.DataArray) -> Iterable[Any]:
    yield from (array.dims, np.asarray(array.values))
    for name in sorted(array.coords, key=str):
        yield from (str(name), array.coords[name].dims, np.asarray(array.coords[name].values))


def _of_module(module: nn.Module) -> Iterable[Any]:
    yield fingerprint_module(module).encode()
    yield from (tensor for _, tensor in itertools.chain(module.named_parameters(), module.named_buffers()))
    yield from dict.fromkeys(type(part) for part in module.modules())


def _of_function(function: types.FunctionType) -> Iterable[Any]:
    yield from (function.__defaults__, function.__kwdefaults__, vars(function))
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            yield b"empty"
    if not _is_installed(function):
        code = function.__code__
        yield from _source(function) or (code.co_code, _names(code), _constants(code))
        yield from (function.__globals__[name] for name in _names(code) if name in function.__globals__)


def _names(code: types.CodeType) -> list[str]:
    """Return the names that code looks up, those in functions within it too."""
    inner = (_names(one) for one in code.co_consts if isinstance(one, types.CodeType))
    return [*code.co_names, *itertools.chain.from_iterable(inner)]


def _constants(code: types.CodeType) -> list[Any]:
    return [one for one in code.co_consts if isinstance(one, _PLAIN)]


def _of_type(kind: type) -> Iterable[Any]:
    if _is_installed(kind):
        return
    yield from _source(kind)
    yield from kind.__bases__
    for part in vars(kind).values():
        function = getattr(part, "__func__", getattr(part, "fget", part))  # of class methods and properties
        if isinstance(function, types.FunctionType):
            yield from (one for one in _looked_up(function) if isinstance(one, _COUNTED) and _is_near(one, kind))


def _is_near(value: Any, kind: type) -> bool:
    """Return whether a value is data, or code of the file of a class or beside it: else whole libraries would count."""
    if not isinstance(value, _CODE) or getattr(value, "__module__", None) == kind.__module__:
        return True
    try:
        return Path(inspect.getfile(kind)).parent in Path(inspect.getfile(value)).parents
    except (OSError, TypeError):  # typed at a prompt, or built in
        return False


def _looked_up(function: types.FunctionType) -> Iterable[Any]:
    """Yield what a function finds under the names that it uses: its globals, and what it encloses."""
    yield from (function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__)
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # not assigned yet
            yield cell.cell_contents


def _of_used_module(module: types.ModuleType) -> Iterable[Any]:
    if _is_installed(module):
        return
    yield from _source(module)
    for value in vars(module).values():
        used = value if isinstance(value, types.ModuleType) else sys.modules.get(str(getattr(value, "__module__", "")))
        if used is not None and not _is_installed(used):
            yield used


def _of_object(value: Any) -> Iterable[Any]:
    if isinstance(value, np.random.Generator):
        yield value.bit_generator.state
        return
    if isinstance(value, torch.Generator):
        yield value.get_state()
        return
    yield type(value)
    told = getattr(value, "fingerprint", None)
    if callable(told) and _is_installed(type(value)):
        yield str(told()).encode()
        return
    slots = [name for one in type(value).__mro__ for name in np.atleast_1d(getattr(one, "__slots__", ())).tolist()]
    yield {name: getattr(value, name) for name in slots if hasattr(value, name)}
    yield getattr(value, "__dict__", {})


def _of_adapter(adapter: Adapter) -> Iterable[Any]:
    yield adapter.fingerprint().encode()
    yield getattr(adapter, "module", None)


def _source(value: Any) -> tuple[bytes, ...]:
    """Return the source text of code that a user wrote, if it can be found."""
    if _is_installed(value):
        return ()
    try:
        return (inspect.getsource(value).encode(),)
    except (OSError, TypeError):  # typed at a prompt
        return ()


def _is_installed(value: Any) -> bool:
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    if (module or "").partition(".")[0] in (_OWN, "builtins"):
        return True
    try:
        return inspect.getfile(value).startswith(INSTALLED)
    except (OSError, TypeError):
        return False


def _name(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{home_of(named)}.{named.__qualname__}"


_HELD: dict[Any, Callable[[Any], Iterable[Any]]] = {
    torch.Tensor: _of_tensor,
    np.ndarray: _of_array,
    xr.DataArray: _of_labelled,
    Recording: lambda recording: _of_labelled(recording.data),
    Mapping: lambda mapping: itertools.chain.from_iterable(mapping.items()),
    list | tuple: iter,
    set | frozenset: lambda items: sorted(items, key=repr),
    nn.Module: _of_module,
    Adapter: _of_adapter,
    functools.partial: lambda call: (call.func, call.args, call.keywords),
    types.MethodType: lambda method: (method.__func__, method.__self__),
    types.FunctionType: _of_function,
    type: _of_type,
    types.ModuleType: _of_used_module,
    types.BuiltinFunctionType | logging.Logger: lambda _: (),
}
"""What makes up a value of a kind, in the order in which kinds are asked for."""

_CODE = (types.FunctionType, type, types.ModuleType)

_COUNTED = (*_PLAIN, *_HELD)
"""Kinds that count where a method names them: others may change while a program runs, and the class does not."""
