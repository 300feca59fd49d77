"""What the conformance checks share: the adapter, its inputs, a plain run of it, and how values are compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Adapter, Run
from neuros_mechint.core.errors import NeurosMechintError
from neuros_mechint.core.sites import Site, SiteTable

MOST_SITES = 16
"""Sites that are edited one by one; all are captured."""

Oracle = Callable[[str, Callable[[torch.Tensor], torch.Tensor] | None], tuple[torch.Tensor, Any]]
"""``oracle(site, change) -> (value, output)``: the same model run by hand (see `check_adapter`)."""


class ConformanceError(Exception):
    """A check that failed; its text goes into the report."""


class NotApplicableError(Exception):
    """A check that says nothing about this kind of model; its text goes into the report."""


def demand(holds: bool, problem: str) -> None:
    """Raise `ConformanceError` unless ``holds``."""
    if not holds:
        raise ConformanceError(problem)


class Probe:
    """One adapter under test.

    Parameters
    ----------
    adapter : Adapter
        What is checked.
    inputs : object
        What the adapter's model takes; at least two samples.
    oracle : callable, optional
        The same model read and edited by hand.
    """

    def __init__(self, adapter: Adapter, inputs: Any, oracle: Oracle | None = None) -> None:
        self.adapter, self.inputs, self.oracle = adapter, inputs, oracle
        self.generator = torch.Generator().manual_seed(0)

    @cached_property
    def base(self) -> Run:
        """One run without edits, in which every site is read."""
        return self.adapter.run(self.inputs, capture="*")

    @property
    def activations(self) -> Activations:
        """Every site, unedited."""
        return self.base.activations

    @cached_property
    def table(self) -> SiteTable:
        """The sites; read after a run, because some adapters name sites on the first batch."""
        _ = self.base
        return self.adapter.sites()

    @cached_property
    def sites(self) -> list[Site]:
        """Sites to edit one by one: every kind of site, from all over the model, and few enough to be quick."""
        listed = list(self.table.values())
        kinds = {re.sub(r"\d+", "*", site.name): site for site in listed}
        chosen = listed if len(listed) <= MOST_SITES or len(kinds) == 1 else list(kinds.values())
        evenly = np.unique(np.linspace(0, len(chosen) - 1, MOST_SITES).round().astype(int))
        return sorted((chosen[index] for index in evenly), key=lambda site: site.order)

    @property
    def n_samples(self) -> int:
        """Samples in the inputs, as the first site that has them counts them."""
        for name in self.activations:
            dims = self.activations.dims(name)
            if "sample" in dims:
                return self.activations[name].shape[dims.index("sample")]
        raise NotApplicableError("no site has an axis 'sample'")

    def run(self, edits: Any = (), capture: Any = (), batch_size: int | None = None) -> Run:
        """Run the adapter on the inputs."""
        return self.adapter.run(self.inputs, edits, capture, batch_size)

    def editable(self, site: Site) -> str:
        """Return the site, or its first time step: what is added there comes back changed at the later ones."""
        return f"{site.name}[time=0]" if "time" in self.activations.dims(site.name) else site.name

    def noise(self, like: torch.Tensor) -> torch.Tensor:
        """Return random values of the size and spread of ``like``: they pass no norm or softmax unseen.

        Truth values, such as spikes, are turned round.
        """
        if like.dtype == torch.bool:
            return ~like
        values = torch.randn(like.shape, generator=self.generator).to(like.device, like.dtype)
        spread = like.double().std() if like.numel() > 1 else like.double().abs().max()
        return values * (float(spread) or 1.0)


def tensors_in(value: Any, where: str = "output", detach: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every array of numbers in a model's output with its place there."""
    if isinstance(value, torch.Tensor):
        yield where, value.detach() if detach else value
    elif isinstance(value, (bool, int, float)) or (
        hasattr(value, "__array__") and np.asarray(value).dtype.kind in "biuf"
    ):
        yield where, torch.as_tensor(np.asarray(value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in(item, f"{where}[{key!r}]", detach)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from tensors_in(item, f"{where}[{index}]", detach)


def tolerance(dtype: torch.dtype) -> float:
    """Return the difference that rounding may make, relative to the largest value; 0 for integers."""
    return torch.finfo(dtype).eps ** (2 / 3) if dtype.is_floating_point else 0.0


def difference(got: torch.Tensor, expected: torch.Tensor) -> str | None:
    """Return how two tensors differ beyond rounding, or ``None``."""
    if got.shape != expected.shape:
        return f"shape {tuple(got.shape)} instead of {tuple(expected.shape)}"
    if got.numel() == 0:
        return None
    dtype = min((got.dtype, expected.dtype), key=lambda one: -tolerance(one))
    got, expected = got.detach().double().cpu(), expected.detach().double().cpu()
    finite = torch.isfinite(expected)
    if not torch.equal(finite, torch.isfinite(got)):
        return "other entries are not finite"
    error = float((got - expected)[finite].abs().max()) if finite.any() else 0.0
    scale = float(expected[finite].abs().max()) if finite.any() else 0.0
    return None if error <= tolerance(dtype) * scale else f"differs by {error:.2g} where values reach {scale:.2g}"


def demand_equal(got: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    """Raise `ConformanceError` unless two tensors agree up to rounding."""
    found = difference(got, expected)
    demand(found is None, f"{what}: {found}")


def demand_same_output(got: Any, expected: Any, what: str, exactly: bool = False) -> None:
    """Raise `ConformanceError` unless two outputs agree, up to rounding or bit for bit.

    What is in one only (a cache, a loss that means nothing across batches) is not compared.
    """
    have, want = dict(tensors_in(got)), dict(tensors_in(expected))
    common = have.keys() & want.keys()
    demand(bool(common), f"{what}: the output holds no tensor, array or number to compare")
    for place in sorted(common):
        if exactly:
            demand(_identical(have[place], want[place]), f"{what}: {place} is not bit-equal")
        else:
            demand_equal(have[place], want[place], f"{what}: {place}")


def _identical(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())


def output_differs(got: Any, expected: Any) -> bool:
    """Whether two outputs differ in any number."""
    want = dict(tensors_in(expected))
    return any(place in want and not _identical(tensor, want[place]) for place, tensor in tensors_in(got))


def along(tensor: torch.Tensor, dims: Sequence[str], axis: str, entries: Any) -> torch.Tensor:
    """Return ``tensor`` indexed along one named axis, as numpy would."""
    index: list[Any] = [slice(None)] * tensor.ndim
    index[dims.index(axis)] = entries
    return tensor[tuple(index)]


def demand_error(kind: type[NeurosMechintError], call: Callable[[], Any], what: str) -> NeurosMechintError:
    """Raise `ConformanceError` unless ``call`` raises ``kind``; return the error."""
    try:
        call()
    except kind as error:
        return error
    except Exception as error:
        raise ConformanceError(f"{what} raised {type(error).__name__} instead of {kind.__name__}: {error}") from error
    raise ConformanceError(f"{what} was accepted; it must raise {kind.__name__}")
