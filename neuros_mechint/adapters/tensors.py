"""Find and replace tensors in what torch modules take and return, and name their axes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from neuros_mechint.core.errors import SiteError

Where = tuple[Any, ...]
"""Path of keys into nested tuples, lists and mappings; empty for the tensor itself."""


def named_tensors(value: Any, where: Where = ()) -> Iterator[tuple[Where, torch.Tensor]]:
    """Yield every tensor in ``value`` with the keys that lead to it.

    Examples
    --------
    >>> [where for where, _ in named_tensors((torch.zeros(1), {"h": torch.zeros(1)}))]
    [(0,), (1, 'h')]
    """
    if isinstance(value, torch.Tensor):
        yield where, value
    elif isinstance(value, (tuple, list)):
        for key, item in enumerate(value):
            yield from named_tensors(item, (*where, key))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from named_tensors(item, (*where, key))


def pick(value: Any, key: int | str | None, path: str) -> tuple[Where, torch.Tensor]:
    """Return the tensor under ``key`` and where it lies; without a key, the first floating-point tensor.

    Raises
    ------
    SiteError
        There is no such tensor.
    """
    found = sorted(named_tensors(value), key=lambda pair: len(pair[0]))  # an item comes before what is nested in it
    if key is None:
        found = [pair for pair in found if pair[1].is_floating_point()] or found
        if found:
            return found[0]
    for where, tensor in found:
        if (where and where[-1] == key) or (not where and key == 0):
            return where, tensor
    raise SiteError(
        f"module {path!r} has no tensor {key!r} there",
        expected="one of " + (", ".join(str(where[-1]) for where, _ in found if where) or "a single tensor"),
        got=type(value).__name__ if not found else None,
    )


def put(value: Any, where: Where, tensor: torch.Tensor) -> Any:
    """Return ``value`` with the tensor at ``where`` replaced; containers on the way are rebuilt.

    Examples
    --------
    >>> put((1, [2, 3]), (1, 0), torch.tensor(9))
    (1, [tensor(9), 3])
    """
    if not where:
        return tensor
    key, *rest = where
    item = put(value[key], tuple(rest), tensor)
    if isinstance(value, (tuple, list)):
        return rebuilt(value, [item if index == key else old for index, old in enumerate(value)])
    own = copy.copy(value)  # the module may hand out a mapping that it keeps
    own[key] = item
    return own


def rebuilt(like: Any, items: list[Any]) -> Any:
    """Return ``items`` in a tuple, named tuple or list like ``like``.

    Examples
    --------
    >>> rebuilt((1, 2), [3, 4])
    (3, 4)
    """
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)


def native_dims(module: nn.Module, ndim: int, timed: bool = False) -> tuple[str, ...]:
    """Name the axes of a tensor by the kind of module it comes from and its rank.

    Examples
    --------
    >>> native_dims(nn.Conv2d(1, 1, 1), 4), native_dims(nn.Linear(1, 1), 3)
    (('sample', 'channel', 'height', 'width'), ('sample', 'position', 'unit'))
    """
    if timed:
        return ("sample", "time", *_inner(ndim - 2))
    if ndim == 4:
        return ("sample", "channel", "height", "width")
    if ndim == 5:
        return ("sample", "channel", "depth", "height", "width")
    channels_first = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d)
    if ndim == 3 and isinstance(module, channels_first):
        return ("sample", "channel", "position")
    if ndim == 3:
        return ("sample", "position", "unit")
    return ("sample", *_inner(ndim - 1)) if ndim else ()


def _inner(ndim: int) -> tuple[str, ...]:
    if ndim == 1:
        return ("unit",)
    return tuple(f"axis_{axis}" for axis in range(1, ndim + 1))
