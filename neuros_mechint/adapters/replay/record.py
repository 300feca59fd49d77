"""See how the blocks of a model are called in one run, so that they can be called again."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from neuros_mechint.adapters.tensors import Where, pick
from neuros_mechint.core.errors import CapabilityError


class NotReplayableError(CapabilityError):
    """The model cannot be run from the middle; the message says why."""


@dataclass(frozen=True)
class BlockCall:
    """How one block was called in the recorded run.

    Parameters
    ----------
    path : str
        The block.
    args, kwargs : tuple, dict
        What it was given.
    where : tuple
        Where among ``(args, kwargs)`` the residual stream lies.
    stream : torch.Tensor of shape (n_samples, n_positions, width)
        The residual stream it was given.
    output : object
        What it returned.
    where_after : tuple
        Where in it the residual stream lies.
    after : torch.Tensor of shape (n_samples, n_positions, width)
        The residual stream it returned.
    """

    path: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    where: Where
    stream: torch.Tensor
    output: Any
    where_after: Where
    after: torch.Tensor


class Recorder:
    """Keeps how the blocks of a stack are called while the model runs.

    Parameters
    ----------
    module : torch.nn.Module
        The model.
    paths : sequence of str
        Its blocks, in order.
    """

    def __init__(self, module: nn.Module, paths: Sequence[str]) -> None:
        self.module, self.paths = module, paths
        self._given: dict[str, Any] = {}
        self._calls: list[tuple[str, Any, Any]] = []

    @contextmanager
    def recording(self) -> Generator[None]:
        """Record while the context lasts."""
        handles: list[torch.utils.hooks.RemovableHandle] = []
        try:
            for path in self.paths:
                block = self.module.get_submodule(path)
                handles.append(block.register_forward_pre_hook(partial(self._before, path), with_kwargs=True))
                handles.append(block.register_forward_hook(partial(self._after, path)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, path: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._given[path] = (args, dict(kwargs))

    def _after(self, path: str, _module: nn.Module, _args: Any, output: Any) -> None:
        self._calls.append((path, self._given[path], output))

    def blocks(self) -> list[BlockCall]:
        """Return the recorded calls.

        Raises
        ------
        NotReplayableError
            The blocks did not run once each, one after the other.
        """
        if [call[0] for call in self._calls] != list(self.paths):
            raise NotReplayableError("the blocks of this model do not run once each, in order")
        calls: list[BlockCall] = []
        for path, (args, kwargs), output in self._calls:
            where, stream = pick((args, kwargs), None, path)
            where_after, after = pick(output, None, path)
            if stream.ndim != 3 or stream.shape != after.shape:
                raise NotReplayableError(f"block {path!r} does not map (sample, position, unit) to the same shape")
            if calls and not torch.equal(calls[-1].after, stream):
                raise NotReplayableError(f"block {path!r} is not given what the block before it returns")
            calls.append(BlockCall(path, args, kwargs, where, stream, output, where_after, after))
        return calls
