"""Inputs cut into batches, and outputs put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from neuros_mechint.adapters.tensors import rebuilt
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.fingerprint import fingerprint_array
from neuros_mechint.core.numbers import refuse_masked, refuse_units


@dataclass(frozen=True)
class Batch:
    """Inputs in the form in which the model takes them.

    Parameters
    ----------
    args : tuple
        Positional arguments.
    kwargs : dict
        Keyword arguments.
    n_samples : int
        How many samples they hold; every array of that length along ``sample_axis`` is cut with them.
    sample_axis : int
        Which axis of the inputs counts the samples.
    start, total : int
        Where these samples lie in the whole input.

    Examples
    --------
    >>> whole = Batch.of((torch.arange(6).view(3, 2),), {})
    >>> [part.args[0].shape[0] for part in whole.parts(2)]
    [2, 1]
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    n_samples: int = 0
    sample_axis: int = 0
    start: int = 0
    total: int = 0

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any], sample_axis: int = 0) -> Batch:
        """Check the inputs and count their samples by the first array.

        Raises
        ------
        InputError
            No array, no samples, or numbers that are not finite.
        """
        arrays = [(f"argument {i}", a) for i, a in enumerate(args)] + list(kwargs.items())
        arrays = [(name, array) for name, array in arrays if hasattr(array, "shape") and hasattr(array, "dtype")]
        if not arrays:
            raise InputError(
                "the inputs hold no array",
                expected="a tensor, a tuple of tensors, or a dict of them",
                got=", ".join(type(value).__name__ for value in (*args, *kwargs.values())) or "nothing",
            )
        for position, (name, array) in enumerate(arrays):
            _check_finite(name, array, mask=position > 0)
        shape = tuple(arrays[0][1].shape)
        if len(shape) <= sample_axis or 0 in shape:
            raise InputError("the inputs are empty", expected="at least one sample", got=f"shape {shape}")
        n_samples = int(shape[sample_axis])
        return cls(args, dict(kwargs), n_samples, sample_axis, 0, n_samples)

    def rows(self, start: int, stop: int) -> Batch:
        """Return the samples from ``start`` up to ``stop``."""
        stop = min(stop, self.n_samples)
        return Batch(
            tuple(self._cut(value, start, stop) for value in self.args),
            {name: self._cut(value, start, stop) for name, value in self.kwargs.items()},
            stop - start,
            self.sample_axis,
            self.start + start,
            self.total,
        )

    def parts(self, batch_size: int | None) -> Iterator[Batch]:
        """Yield consecutive batches of at most ``batch_size`` samples; all at once when it is ``None``."""
        if batch_size is None:
            yield self
            return
        for start in range(0, self.n_samples, batch_size):
            yield self.rows(start, start + batch_size)

    def copied(self) -> Batch:
        """Return the same samples in memory of their own, for a model that may write into its inputs."""
        return replace(
            self,
            args=tuple(_copy(value) for value in self.args),
            kwargs={name: _copy(value) for name, value in self.kwargs.items()},
        )

    @property
    def window(self) -> dict[str, tuple[int, int]]:
        """Where these samples lie in the whole input, as edits and indices need to know."""
        return {"sample": (self.start, self.total)}

    @property
    def attention_mask(self) -> torch.Tensor | None:
        """``(n_samples, n_positions)``, false at padding; ``None`` where no argument of that name says so."""
        mask = self.kwargs.get("attention_mask")
        if mask is None or not hasattr(mask, "shape") or tuple(mask.shape[:-1]) != (self.n_samples,):
            return None
        tokens = torch.as_tensor(mask).bool().cpu()
        return None if bool(tokens.all()) else tokens

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every array among the arguments."""
        named = [*enumerate(self.args), *self.kwargs.items()]
        return {str(name): tuple(value.shape) for name, value in named if hasattr(value, "shape")}

    def fingerprint(self) -> str:
        """Return a hash of the inputs."""
        named = [*enumerate(self.args), *sorted(self.kwargs.items())]
        return " ".join(f"{name}={_fingerprint(value)}" for name, value in named)

    def _cut(self, value: Any, start: int, stop: int) -> Any:
        if isinstance(value, (Mapping, tuple, list)):
            return map_items(lambda item: self._cut(item, start, stop), value)
        axis = self.axis_of_samples(value)
        return value if axis is None else value[(slice(None),) * axis + (slice(start, stop),)]

    def axis_of_samples(self, value: Any) -> int | None:
        """Return which axis of an argument counts the samples, or ``None`` where none does."""
        # the leading axis, for arguments of lower rank than the inputs (an attention mask, say)
        axis = self.sample_axis if getattr(value, "ndim", 0) > self.sample_axis else 0
        return axis if getattr(value, "ndim", 0) and value.shape[axis] == self.n_samples else None


def map_items(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to every item of a mapping, tuple or list, and return one of the same kind."""
    if isinstance(value, Mapping):
        return {key: function(item) for key, item in value.items()}
    return rebuilt(value, [function(item) for item in value])


def _copy(value: Any) -> Any:
    if isinstance(value, (Mapping, tuple, list)):
        return map_items(_copy, value)
    return value.clone() if isinstance(value, torch.Tensor) else value


def _fingerprint(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_fingerprint(item)}' for key, item in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_fingerprint, value))})"
    return fingerprint_array(value) if hasattr(value, "shape") else repr(value)


def check_batch_size(batch_size: int | None) -> None:
    """Raise unless ``batch_size`` is ``None`` or a positive integer."""
    if batch_size is not None:
        whole("batch_size", batch_size)


def join_outputs(outputs: Sequence[Any], sizes: Sequence[int], sample_axis: int = 0) -> Any:
    """Put the outputs of consecutive batches together.

    Tensors and arrays with one row per sample along ``sample_axis`` are concatenated, containers likewise item by
    item; what has no row per sample (a loss, a cache) is ``None`` in the joined output, because it means nothing
    across batches.

    Examples
    --------
    >>> join_outputs([torch.zeros(2, 1), torch.ones(1, 1)], [2, 1]).flatten()
    tensor([0., 0., 1.])
    """
    if len(outputs) == 1:
        return outputs[0]
    first = outputs[0]
    if isinstance(first, (torch.Tensor, np.ndarray)):
        axis = sample_axis if first.ndim > sample_axis else 0
        per_sample = all(one.ndim and one.shape[axis] == size for one, size in zip(outputs, sizes, strict=True))
        concatenate = torch.cat if isinstance(first, torch.Tensor) else np.concatenate
        return concatenate(list(outputs), axis) if per_sample else None
    if isinstance(first, Mapping):
        joined = {key: join_outputs([one[key] for one in outputs], sizes, sample_axis) for key in first}
        return joined if type(first) is dict else type(first)(**joined)  # keys of a plain dict need not be names
    if isinstance(first, (tuple, list)):
        return rebuilt(first, [join_outputs(items, sizes, sample_axis) for items in zip(*outputs, strict=True)])
    return None


def _check_finite(name: str, array: Any, mask: bool) -> None:
    """Refuse NaN and infinity; minus infinity is how PyTorch's own attention masks say "never"."""
    values = torch.as_tensor(array) if not isinstance(array, torch.Tensor) else array
    if not values.is_floating_point():
        return
    fine = torch.isfinite(values) | (values == float("-inf")) if mask else torch.isfinite(values)
    if not bool(fine.all()):
        raise InputError(
            f"the inputs are not finite: {name} holds NaN or infinity",
            fix="clean or mask these samples before running",
        )


def at_least_two_samples(batch: Batch) -> Batch:
    """Add to a single sample one that is shifted along its positions: proofs need two that differ."""
    if batch.n_samples > 1 or batch.sample_axis:
        return batch

    def doubled(name: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.ndim or value.shape[0] != 1:
            return value
        shifts = value.ndim > 1 and "mask" not in name
        return torch.cat([value, value.roll(1, 1) if shifts else value])

    return Batch.of(
        tuple(doubled("", value) for value in batch.args),
        {name: doubled(name, value) for name, value in batch.kwargs.items()},
    )


def on_device(value: Any, device: torch.device) -> Any:
    """Return an array as a tensor on a device, and anything else as it is; raise where it holds no numbers."""
    if hasattr(value, "__array__") and not isinstance(value, torch.Tensor):
        refuse_masked(value, "the inputs")
        refuse_units(value, "the inputs")
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError) as error:
            got = f"{type(value).__name__} of {getattr(value, 'dtype', 'unknown type')}"
            raise InputError("this array holds no numbers", expected="an array of numbers", got=got) from error
    return value.to(device) if isinstance(value, torch.Tensor) else value
