"""Where an attribution is taken, and the metric as a differentiable function of the activation there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuros_mechint.causal.interventions import measure
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Apply, Edit, Replace
from neuros_mechint.core.errors import CapabilityError, InputError, SiteError
from neuros_mechint.core.sites import SiteReference

INPUT = ":in"
"""The input of the whole model, as adapters of torch modules name it."""


@dataclass(frozen=True)
class Place:
    """The part of a site that attributions are given to.

    Parameters
    ----------
    name : str
        Site with its index.
    dims : tuple of str
        Axes of the part, in the site's own order.
    values : torch.Tensor of shape (n_samples, ...)
        The activation there, samples first.
    coords : mapping of str to numpy.ndarray
        Which entries of the site lie along each axis of the part.
    """

    name: str
    dims: tuple[str, ...]
    values: torch.Tensor
    coords: Mapping[str, np.ndarray]

    @property
    def sample_axis(self) -> int:
        """Which axis of the site's own layout counts the samples."""
        return self.dims.index("sample")

    @property
    def samples_first(self) -> tuple[str, ...]:
        """Axes of `values`."""
        return ("sample", *(axis for axis in self.dims if axis != "sample"))

    def native(self, rows: torch.Tensor) -> torch.Tensor:
        """Return values with samples first in the site's own layout."""
        return rows.movedim(0, self.sample_axis)


def find_place(model: Adapter, inputs: Any, at: str | None) -> Place:
    """Return the place named ``at``, or the input of the model where it is ``None``.

    Raises
    ------
    InputError
        Whole numbers, which have no gradient.
    SiteError
        Several sites, or one that does not hold all samples.
    CapabilityError
        This kind of model has no site for its input.
    """
    if at is None:
        _check_float_input(inputs)
    reference = SiteReference.parse(INPUT if at is None else at)
    if "*" in reference.name or "?" in reference.name:
        raise SiteError("attributions are taken at one site", got=str(reference), fix="call attribute once per site")
    try:
        captured = model.capture(inputs, reference.name)
    except SiteError as error:
        if at is not None:
            raise
        raise CapabilityError(
            f"{model!r} has no site for its input", fix="name a site: at=..., one of `model.sites()`"
        ) from error
    (name,) = captured
    whole, dims = captured[name], captured.dims(name)
    if "sample" not in dims or "sample" in reference.index:
        raise SiteError(
            f"attributions at {reference} would not be per sample",
            expected="a site with an axis 'sample' that is not indexed",
            got=f"axes ({', '.join(dims)})",
            fix="give only the samples you want as inputs",
        )
    if not whole.is_floating_point():
        raise InputError(f"whole numbers at {name!r} have no gradient", got=whole.dtype, fix="name a later site")
    selection = reference.locate(dims, whole.shape)
    assert selection is not None  # a whole tensor is never outside its own window
    coords = {
        axis: np.arange(size)[here]
        for axis, size, here in zip(dims, whole.shape, selection.here, strict=True)
        if axis in selection.sizes
    }
    kept = tuple(selection.sizes)
    values = selection.pick(whole).movedim(kept.index("sample"), 0).detach().clone()
    return Place(str(SiteReference(name, reference.index)), kept, values, coords)


def _check_float_input(inputs: Any) -> None:
    """Refuse token ids and strings: what is interpolated between them is no input."""
    if isinstance(inputs, Mapping):
        inputs = tuple(inputs.values())
    first = next(iter(inputs), None) if isinstance(inputs, (tuple, list)) else inputs
    if isinstance(first, str) or (hasattr(first, "dtype") and not torch.as_tensor(first).is_floating_point()):
        raise InputError(
            "token ids have no gradient",
            expected="inputs of floating-point numbers, or a site to attribute to",
            got=getattr(first, "dtype", type(first).__name__),
            fix="attribute to the embedding, at='embed', or to another site of `model.sites()`",
        )


class Unit:
    """The activation of one unit, read like a metric: an edit that changes nothing sees it pass.

    Parameters
    ----------
    target : str
        Site with an index of every axis but the samples.
    """

    units = "activation"

    def __init__(self, target: str) -> None:
        self.target = str(SiteReference.parse(target))
        self._seen: torch.Tensor | None = None

    @property
    def edits(self) -> list[Edit]:
        """What a run needs for the unit to be read from it."""
        return [Apply(self.target, self._see)]

    def _see(self, values: torch.Tensor) -> torch.Tensor:
        self._seen = values
        return values

    def __call__(self, _output: Any) -> torch.Tensor:
        """Return the activation in the run that has just ended, ``(n_samples,)``."""
        seen, self._seen = self._seen, None
        if seen is None:
            raise CapabilityError(f"this model does not show {self.target!r} while it is differentiated")
        if seen.ndim != 1:
            raise InputError(
                f"{self.target!r} is not one unit",
                expected="an index of every axis but the samples, as in 'blocks.0.post[unit=7, position=-1]'",
                got=f"shape {tuple(seen.shape)}, samples included",
            )
        if seen.requires_grad or not torch.is_grad_enabled():
            return seen
        raise InputError(f"{self.target} does not depend on the site", expected="a unit that is computed after it")


class SiteFunction:
    """A metric as a function of the activation at one place: the form in which captum takes a model.

    captum uses only its gradient, so that alone is computed; the value is NaN, lest anything be made of it.

    Parameters
    ----------
    model : Adapter
    inputs : inputs of the model
    place : Place
    metric : callable
        ``metric(output)``, or a `Unit`.
    """

    def __init__(self, model: Adapter, inputs: Any, place: Place, metric: Metric | Unit) -> None:
        self.model, self.inputs, self.place, self.metric = model, inputs, place, metric
        self.responds = False

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return NaN of shape ``(n_rows,)``, whose gradient is that of the metric; ``rows`` has samples first."""
        return _GivenGradient.apply(rows, self.gradient)  # type: ignore[no-any-return]

    def gradient(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the derivative of the metric with respect to the activation where it is ``rows``."""
        name = self.place.name
        edits: list[Edit] = [Replace(name, self.place.native(rows))]
        if isinstance(self.metric, Unit):
            edits += self.metric.edits
        found = self.model.gradients(self.inputs, name, self.metric, edits=edits)
        gradient = found[name].movedim(self.place.sample_axis, 0)
        self.responds = self.responds or bool(gradient.any())
        return gradient

    def values(self, baselines: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the metric of the input, ``(n_samples,)`` or ``(1,)``, and of each baseline, one row each."""
        interventions = [[Replace(self.place.name, self.place.native(one))] for one in baselines]
        if not isinstance(self.metric, Unit):
            measured = measure(self.model, self.inputs, interventions, self.metric)
            return measured.baseline, measured.values
        target = self.metric.target
        runs = [self.model.run(self.inputs, edits=edits, capture=target) for edits in ([], *interventions)]
        values = torch.stack([run.activations[target].double().cpu() for run in runs])
        return values[0], values[1:]


class _GivenGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, gradient_at: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        ctx.save_for_backward(gradient_at(rows.detach()))
        return rows.new_full(rows.shape[:1], float("nan"))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0].reshape(-1, *[1] * (gradient.ndim - 1)), None
