"""See which submodules run, how often, in which order, and what they return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from neuros_mechint.adapters.hooks import DimsOf
from neuros_mechint.adapters.running import evaluating
from neuros_mechint.adapters.tensors import named_tensors, pick
from neuros_mechint.core.sites import Site

DEPENDS_ON_INPUT = frozenset({"sample", "position", "query", "key", "time", "height", "width", "depth"})
"""Axes whose sizes change with the input: a table of sites leaves them open."""


def module_sites(module: nn.Module, call: Callable[[], Any], dims_of: DimsOf) -> list[Site]:
    """Run ``call`` and return a site for the output of every submodule that ran, in order of execution.

    A submodule that runs several times gives ``path#0``, ``path#1``, ...; a recurrent cell gives one site with a time
    axis.

    Parameters
    ----------
    module : torch.nn.Module
        The model.
    call : callable
        Runs it.
    dims_of : callable
        Names the axes of a tensor: ``dims_of(submodule, ndim, timed)``.

    Examples
    --------
    >>> from neuros_mechint.adapters.tensors import native_dims
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> [site.shape for site in module_sites(net, lambda: net(torch.zeros(1, 2)), native_dims)]
    [(None, 3), (None, 3)]
    """
    seen: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def record(path: str, submodule: nn.Module, _args: Any, output: Any) -> None:
        if any(True for _ in named_tensors(output)):
            seen.append((path, submodule, tuple(pick(output, None, path)[1].shape)))

    with evaluating(module), torch.no_grad():
        handles = [
            submodule.register_forward_hook(partial(record, path)) for path, submodule in module.named_modules() if path
        ]
        try:
            call()
        finally:
            for handle in handles:
                handle.remove()
    calls = Counter(path for path, _, _ in seen)
    counted: Counter[str] = Counter()
    sites: dict[str, Site] = {}
    for path, submodule, shape in seen:
        timed = isinstance(submodule, nn.RNNCellBase)
        name = path if timed or calls[path] == 1 else f"{path}#{counted[path]}"
        counted[path] += 1
        full = (shape[0], calls[path], *shape[1:]) if timed else shape
        dims = dims_of(submodule, len(full), timed)
        open_shape = open_sizes(dims, full)
        sites.setdefault(name, Site(name, f"{path}:out", dims, open_shape, order=len(sites)))
    return list(sites.values())


def open_sizes(dims: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int | None, ...]:
    """Return the sizes of the axes, ``None`` for those that depend on the input."""
    return tuple(None if axis in DEPENDS_ON_INPUT else int(size) for axis, size in zip(dims, shape, strict=True))
