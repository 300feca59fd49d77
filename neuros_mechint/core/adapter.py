"""What every kind of model offers: the interface that analyses are written against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

    from neuros_mechint.core.activations import Activations
    from neuros_mechint.core.edits import Edit
    from neuros_mechint.core.sites import SiteTable
    from neuros_mechint.core.stores.store import ActivationStore

Metric = Callable[[Any], "torch.Tensor"]
"""``metric(output)`` gives one number per sample, ``(batch,)``, or a scalar."""

CAPABILITIES = {
    "capture": "activations can be read at named sites",
    "intervene": "activations can be edited while the model runs",
    "gradient": "gradients with respect to activations are available",
    "generate": "the model continues a sequence",
    "step": "one time step can be run on its own",
    "time": "sites have a time axis",
}


@dataclass(frozen=True)
class Run:
    """One run of a model.

    Parameters
    ----------
    output : object
        What the model itself returns, for all samples.
    activations : Activations
        What was captured, after the edits.
    """

    output: Any
    activations: Activations

    def __repr__(self) -> str:
        """Return the shape of the output rather than its numbers."""
        shape = getattr(self.output, "shape", None)
        output = type(self.output).__name__ + (f" {tuple(shape)}" if shape is not None else "")
        return f"Run(output: {output}; {len(self.activations)} sites captured)"


@runtime_checkable
class Adapter(Protocol):
    """One interface over every kind of model: named sites, capture, edits.

    ``capabilities`` says which of the methods work; the others raise `CapabilityError`. Inherit from
    `neuros_mechint.adapters.base.BaseAdapter`, which does the batching, the indices and the checks.
    """

    @property
    def capabilities(self) -> frozenset[str]:
        """Names from `CAPABILITIES`."""
        ...

    def sites(self, pattern: str | None = None) -> SiteTable:
        """Return the sites whose names match ``pattern``, in order of execution."""
        ...

    def capture(
        self,
        inputs: Any,
        sites: Any,
        batch_size: int | None = None,
        to: str | PathLike[str] | None = None,
    ) -> Activations | ActivationStore:
        """Run the model and return the activations at ``sites``; with ``to`` stream them to a store on disk."""
        ...

    def run(
        self,
        inputs: Any,
        edits: Sequence[Edit] = (),
        capture: Any = (),
        batch_size: int | None = None,
    ) -> Run:
        """Run the model with ``edits``, and return its output and what was captured."""
        ...

    def gradients(
        self,
        inputs: Any,
        sites: Any,
        metric: Metric,
        batch_size: int | None = None,
        edits: Sequence[Edit] = (),
    ) -> Activations:
        """Return the derivative of ``metric(output)`` with respect to the activation at each site."""
        ...

    def fingerprint(self) -> str:
        """Return a short stable identity of the model and its weights."""
        ...


@runtime_checkable
class Steps(Protocol):
    """A model that can be advanced by one time step: what tools for dynamics ask for."""

    def step(self, state: torch.Tensor, inputs: torch.Tensor | None = None) -> torch.Tensor:
        """Return the next state, ``(batch, n_states)`` or ``(n_states,)`` like ``state``."""
        ...
