"""A second device on a machine that has one: it computes on the CPU, and refuses what an accelerator refuses.

Its tensors say that they are on ``meta``. An operation on one of them and a tensor of the CPU raises, and so do NumPy,
which reads the CPU's memory, and a generator of the CPU that is to fill it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
_ACROSS = {"aten::copy_", "aten::_to_copy", "aten::set_"}
_CPU_INDICES = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}


class Elsewhere(torch.Tensor):
    """A tensor of the second device."""

    here: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> Elsewhere:
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(cls, here.shape, dtype=here.dtype, device=DEVICE, **layout)

    def __init__(self, here: torch.Tensor) -> None:
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(_as_index(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_as_index(key), value)

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=self.device)

    def numpy(self, force: bool = False) -> Any:
        if force:
            return self.here.detach().numpy()
        raise TypeError("can't convert a tensor of the device meta to numpy")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.here.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Elsewhere:
        with torch.no_grad():
            copied = (
                torch.nn.Parameter(self.clone(), self.requires_grad) if hasattr(self, "_is_param") else self.clone()
            )
        memo[id(self)] = copied
        return copied


def _made_at_home(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Let what makes a tensor of numbers make it on the CPU and send it: on ``meta`` torch leaves the numbers out."""

    def made(data: Any, *args: Any, device: Any = None, **settings: Any) -> torch.Tensor:
        if isinstance(data, Elsewhere):
            return data.to(device=device, dtype=settings.get("dtype"))
        found = make(data, *args, **settings)
        return found if device is None else found.to(device)

    return made


class SecondDevice(TorchDispatchMode):
    """While it is entered, ``device="meta"`` means the second device."""

    def __enter__(self) -> SecondDevice:
        self._original = torch.tensor, torch.as_tensor
        torch.tensor, torch.as_tensor = map(_made_at_home, self._original)
        self._one_thread = torch.autograd.set_multithreading_enabled(False)  # another would not know of this mode
        self._one_thread.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch.tensor, torch.as_tensor = self._original
        self._one_thread.__exit__(*error)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    given = tree_flatten((args, kwargs))[0]
    elsewhere = [one for one in given if isinstance(one, Elsewhere)]
    at_home = [one for one in given if isinstance(one, torch.Tensor) and not isinstance(one, Elsewhere) and one.ndim]
    target = kwargs.get("device")
    if elsewhere and at_home and name not in _ACROSS:
        first = args[0] if isinstance(args[0], torch.Tensor) else None
        indices = name in _CPU_INDICES and isinstance(first, Elsewhere) and not _values_at_home(name, args)
        if not indices:
            raise RuntimeError(f"{name}: expected all tensors on the same device, found meta and cpu")
    away = torch.device(target).type == "meta" if target is not None else bool(elsewhere)
    if kwargs.get("generator") is not None and away:
        raise RuntimeError(f"{name}: expected a generator of the device meta, found one of cpu")
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(one.here): one for one in elsewhere}
    found = func(*tree_map(_home, args), **tree_map(_home, kwargs))
    if name == "aten::copy_":
        return args[0]
    return tree_map(lambda one: _back(one, known, away), found)


def _values_at_home(name: str, args: Any) -> bool:
    """Return whether the values put into a tensor, unlike the indices, are on the CPU."""
    put = args[2] if "put" in name else None
    return isinstance(put, torch.Tensor) and not isinstance(put, Elsewhere) and put.ndim > 0


def _as_index(key: Any) -> Any:
    """Return lists as tensors: torch makes them on the device of what is indexed, and leaves the numbers out."""
    if isinstance(key, list):
        return torch.as_tensor(key)
    return tuple(map(_as_index, key)) if isinstance(key, tuple) else key


def _home(one: Any) -> Any:
    return one.here if isinstance(one, Elsewhere) else one


def _back(one: Any, known: dict[int, Elsewhere], away: bool) -> Any:
    if not isinstance(one, torch.Tensor) or isinstance(one, Elsewhere) or not away:
        return one
    return known.get(id(one)) if id(one) in known else Elsewhere(one)


def send(module: torch.nn.Module) -> torch.nn.Module:
    """Move a module to the second device."""
    for one in module.modules():
        for name, weights in one._parameters.items():
            if weights is not None:
                one._parameters[name] = torch.nn.Parameter(Elsewhere(weights.detach().clone()), weights.requires_grad)
        for name, buffer in one._buffers.items():
            if buffer is not None:
                one._buffers[name] = Elsewhere(buffer.detach().clone())
    return module


def to_device(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the second device."""
    return Elsewhere(tensor.detach().clone())
