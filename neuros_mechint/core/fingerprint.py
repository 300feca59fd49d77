"""Short stable hashes that tell one model or one array from another."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.core.errors import InputError

if TYPE_CHECKING:
    import torch

_DIGITS = 32
_SAMPLE = 4096
_FULL_TENSOR_BYTES = 2**20
_FULL_ARRAY_BYTES = 2**24
_PLAIN = (bool, int, float, str, type(None))
# What may differ between two copies of the same model without a difference in what it computes.
_INCIDENTAL = frozenset({"transformers_version", "_name_or_path", "name_or_path", "device"})


def fingerprint_array(array: object) -> str:
    """Return a 32-digit hash of the dtype, shape and values of an array.

    Arrays up to 16 MiB are hashed whole; of larger ones 4096 evenly spaced elements count, so that recording
    the provenance of a call stays cheap.

    Parameters
    ----------
    array : array_like
        NumPy array, xarray DataArray or torch tensor of numbers, booleans, strings or dates.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If the array holds arbitrary objects.

    Examples
    --------
    >>> fingerprint_array(np.arange(3)) == fingerprint_array(np.arange(3))
    True
    >>> fingerprint_array(np.arange(3)) == fingerprint_array(np.arange(3.0))
    False
    """
    digest = hashlib.sha256()
    if _is_tensor(array):
        _update_with_tensor(digest, array, _FULL_ARRAY_BYTES)
        return digest.hexdigest()[:_DIGITS]
    values = np.asarray(array)
    if values.dtype.hasobject or values.dtype.kind == "T":
        values = _as_fixed_width(values)
    digest.update(f"{values.dtype.str}{values.shape}".encode())
    if values.nbytes > _FULL_ARRAY_BYTES:
        values = values.reshape(-1)[:: -(-values.size // _SAMPLE)]
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:_DIGITS]


def fingerprint_module(module: torch.nn.Module) -> str:
    """Return a 32-digit hash of a torch module: its classes, settings, parameters and buffers.

    Tensors up to 1 MiB are hashed whole, of larger ones 4096 evenly spaced elements count, so that a model of
    GPT-2's size takes a fraction of a second. The hash of a tensor is kept while the tensor keeps its memory, its
    count of changes and those 4096 elements. The hash is the same in every process, on every device, and in
    training and evaluation mode; it differs when a class, a setting or a hashed value differs, and between
    attention implementations, because they offer different sites.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    str

    Raises
    ------
    InputError
        If ``module`` is not a torch module, or has parameters that are still uninitialized.

    Examples
    --------
    >>> import torch
    >>> first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    >>> fingerprint_module(first) == fingerprint_module(second)
    False
    >>> _ = second.load_state_dict(first.state_dict())
    >>> fingerprint_module(first) == fingerprint_module(second)
    True
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise InputError("only torch modules have a fingerprint", expected="torch.nn.Module", got=type(module).__name__)
    digest = hashlib.sha256()
    for name, part in module.named_modules(remove_duplicate=False):
        # extra_repr holds the settings of modules without parameters (a dropout rate, an RNN's nonlinearity).
        digest.update(f"{name}|{home_of(type(part))}.{type(part).__qualname__}|{part.extra_repr()}\n".encode())
        digest.update(_plain_settings(part).encode())
    digest.update(_configuration(module).encode())
    for tensors in (
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    ):
        for name, tensor in tensors:
            if torch.nn.parameter.is_lazy(tensor):
                raise InputError(
                    f"parameter {name!r} is not initialized yet",
                    fix="run one forward pass, then fingerprint the model",
                )
            digest.update(name.encode())
            digest.update(_tensor_digest(tensor))
    return digest.hexdigest()[:_DIGITS]


def home_of(code: object) -> str:
    """Return the name of the module of a class or function: of a script, the name of its file, as for who imports it.

    Examples
    --------
    >>> home_of(json.JSONDecoder)
    'json.decoder'
    """
    name = str(getattr(code, "__module__", ""))
    file = getattr(sys.modules.get("__main__"), "__file__", None) if name == "__main__" else None
    return name if file is None else Path(file).stem


def module_settings(module: torch.nn.Module) -> str:
    """Return a hash of what a module and its parts keep in plain attributes, without their weights.

    Examples
    --------
    >>> import torch
    >>> dropout = torch.nn.Dropout(0.1)
    >>> before = module_settings(dropout)
    >>> dropout.p = 0.2
    >>> module_settings(dropout) == before
    False
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        digest.update(f"{name}|{type(part).__qualname__}|{_plain_settings(part)}\n".encode())
    return digest.hexdigest()[:_DIGITS]


def _plain_settings(part: Any) -> str:
    """Return what a module keeps in plain attributes, such as its number of heads or its activation function."""
    settings: list[str] = []
    for name, value in vars(part).items():
        if name[0] == "_" or name == "training" or name in _INCIDENTAL:
            continue
        several = isinstance(value, (tuple, list)) and all(isinstance(item, _PLAIN) for item in value)
        if several or isinstance(value, _PLAIN):
            settings.append(f"{name}={value!r}")
        elif callable(value) and hasattr(value, "__qualname__"):
            settings.append(f"{name}={_stable_text(value)}")
    return "\n".join(sorted(settings))


@functools.cache
def _known_digests() -> MutableMapping[Any, tuple[object, bytes]]:
    from torch.utils.weak import WeakTensorKeyDictionary

    return WeakTensorKeyDictionary()


def _tensor_digest(tensor: Any) -> bytes:
    """Return the hash of a parameter or buffer, from memory where nothing says that it has changed.

    To torch, what is written through ``tensor.data`` is no change: hence the look at the elements.
    """
    import torch

    sample = _digest(tensor, 0)
    if tensor.numel() <= _SAMPLE or tensor.nbytes > _FULL_TENSOR_BYTES:
        return sample
    # torch counts no changes of the first, and gives the second no address
    if tensor.is_inference() or tensor.layout is not torch.strided:
        return _digest(tensor, _FULL_TENSOR_BYTES)
    state = (tensor.data_ptr(), tensor._version, sample)
    known = _known_digests().get(tensor)
    if known is None or known[0] != state:
        known = _known_digests()[tensor] = state, _digest(tensor, _FULL_TENSOR_BYTES)
    return known[1]


def _digest(tensor: Any, full_bytes: int) -> bytes:
    digest = hashlib.sha256()
    _update_with_tensor(digest, tensor, full_bytes)
    return digest.digest()


def _update_with_tensor(digest: Any, tensor: Any, full_bytes: int) -> None:
    import torch

    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    if tensor.is_meta:
        return
    values = tensor.detach()
    if values.layout is not torch.strided:
        values = values.to_dense()
    if values.numel() > _SAMPLE and values.nbytes > full_bytes:  # of so few, evenly spaced ones are all of them
        values = _evenly_spaced(values)
    if values.is_conj() or values.is_neg() or values.dtype is torch.bfloat16 or not values.is_contiguous():
        values = values.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    digest.update(values.cpu().numpy())


def _evenly_spaced(values: Any) -> Any:
    """Return at most about 4096 elements of a tensor, from all rows and columns where it has no more of either."""
    stride = max(1, -(-values.numel() // _SAMPLE))
    while values.ndim and math.gcd(stride, values.shape[-1]) > 1:  # else the same few columns, row after row
        stride += 1
    if values.is_contiguous():
        return values.view(-1)[::stride]
    import torch

    flat = torch.arange(0, values.numel(), stride, device=values.device)
    return values[torch.unravel_index(flat, values.shape)]


def _configuration(module: Any) -> str:
    """Return the settings as JSON: ``.config`` of HuggingFace, ``.cfg`` of TransformerLens, if any."""
    config = getattr(module, "config", None)
    if config is None:
        config = getattr(module, "cfg", None)
    settings = _settings(config)
    if not settings:
        return ""
    settings["attention"] = getattr(config, "_attn_implementation", None)
    return json.dumps(settings, sort_keys=True, default=_stable_text)


def _settings(config: Any) -> dict[str, Any]:
    if isinstance(config, Mapping):
        settings = dict(config)
    elif hasattr(config, "to_dict"):
        settings = config.to_dict()
    elif dataclasses.is_dataclass(config):
        settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    else:
        return {}
    return {str(name): value for name, value in settings.items() if name not in _INCIDENTAL}


def _stable_text(value: object) -> str:
    """Return text for what JSON cannot hold, without the memory address a plain repr would carry."""
    if type(value).__module__ == "torch":
        return str(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{home_of(named)}.{getattr(named, '__qualname__', '')}"


def _is_tensor(array: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def _as_fixed_width(values: np.ndarray) -> np.ndarray:
    if not all(isinstance(item, str) for item in values.ravel()):
        raise InputError(
            "an array of arbitrary objects has no stable hash",
            expected="numbers, booleans, strings or dates",
            got=f"dtype {values.dtype}",
        )
    return values.astype(np.str_)
