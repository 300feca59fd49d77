"""How a model is run: by one thread at a time, in eval mode, with nothing fused past the hooks, and put back after."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from neuros_mechint.adapters.batches import Batch
from neuros_mechint.core.errors import InputError, NeurosMechintError

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()


def lock_of(module: nn.Module) -> threading.RLock:
    """Return the lock that a thread holds while it runs a model, or finds out what its sites are."""
    return _LOCKS.setdefault(module, threading.RLock())


_KERNELS_LOCK = threading.Lock()
_FUSED_BEFORE: list[bool] = []  # one entry per run that keeps the kernels open: PyTorch's switch is one for all threads


@contextmanager
def open_kernels() -> Generator[None]:
    """Keep PyTorch from fusing whole encoder layers, which would pass hooks by."""
    with _KERNELS_LOCK:
        _FUSED_BEFORE.append(_FUSED_BEFORE[0] if _FUSED_BEFORE else torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        with _KERNELS_LOCK:
            fused = _FUSED_BEFORE.pop()
            if not _FUSED_BEFORE:
                torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def evaluating(module: nn.Module) -> Generator[None]:
    """Let one thread at a time run a model, in eval mode; hooks are set inside: they are seen by whoever calls it.

    Every submodule gets its own flag back: batch-norm statistics must not move.
    """
    with lock_of(module):
        training = [submodule for submodule in module.modules() if submodule.training]
        for submodule in training:
            submodule.training = False
        try:
            yield
        finally:
            for submodule in training:
                submodule.training = True


def count_calls(module: nn.Module, call: Callable[[], Any], paths: Collection[str]) -> Counter[str]:
    """Run ``call`` and return how often the submodule at each path ran."""
    counts: Counter[str] = Counter()
    handles = [
        module.get_submodule(path).register_forward_pre_hook(lambda *_, path=path: counts.update([path]))
        for path in paths
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return counts


@contextmanager
def standing_in(module: nn.Module, forward: Callable[..., Any]) -> Generator[None]:
    """Let ``forward`` stand in for a module's own, its hooks still running.

    Other libraries may have put a ``forward`` on the instance, which comes back.

    Examples
    --------
    >>> linear = nn.Linear(1, 1)
    >>> with standing_in(linear, lambda x: x + 1):
    ...     linear(torch.zeros(1))
    tensor([1.])
    """
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own


@contextmanager
def explained(batch: Batch) -> Generator[None]:
    """Turn an error from inside a torch operation into one that names the inputs; the model's own errors pass."""
    try:
        yield
    except NeurosMechintError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError) or hasattr(error, "from_edit"):
            raise
        if not _raised_inside_torch(error):
            raise
        values = [*enumerate(batch.args), *batch.kwargs.items()]
        given = [
            f"{name}: {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
            for name, value in values
            if isinstance(value, torch.Tensor)
        ]
        raise InputError(
            f"the model could not run on these inputs: {error}",
            got="; ".join(given),
            fix="give inputs of the shape and dtype the model was built for",
        ) from error


def _raised_inside_torch(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    torch_folder = Path(torch.__file__).parent
    return trace is not None and torch_folder in Path(trace.tb_frame.f_code.co_filename).parents
