"""What of a model's output a metric reads, so that no more of it is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.adapters.copies import split_copies
from neuros_mechint.adapters.tensors import Where, named_tensors, put
from neuros_mechint.causal.metrics import PositionMetric, metric_values, positions_read
from neuros_mechint.core.adapter import Metric
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.outputs import logits_of

_POISONS = (float("nan"), 1e4, -1e4)
"""NaN shows in whatever is computed with it, but not in comparisons, which large numbers of either sign turn over."""


@dataclass(frozen=True)
class Reading:
    """A metric, and the positions of the logits that it reads.

    Parameters
    ----------
    metric : callable
        ``metric(output)``.
    n_samples : int
        Samples of one copy.
    sample_axis : int
        Which axis of the output counts them.
    positions : torch.Tensor of shape (n_samples,), optional
        The one position of each sample that is read; ``None`` where all of the output is needed.
    template : object
        For a metric that is no `PositionMetric`: an output with NaN wherever it does not look.
    where : tuple
        Where in it the logits lie.
    """

    metric: Metric
    n_samples: int
    sample_axis: int = 0
    positions: torch.Tensor | None = None
    template: Any = None
    where: Where = ()

    def of_output(self, output: Any, copies: int) -> torch.Tensor:
        """Return the metric of each copy ``(copies, n_samples)`` from the whole output for all of them."""
        if isinstance(self.metric, PositionMetric):
            return metric_values(self.metric.copies(copies), output).reshape(copies, -1)
        parts = split_copies(output, copies, self.n_samples, self.sample_axis)
        return torch.stack([metric_values(self.metric, part) for part in parts])

    def of_logits(self, logits: torch.Tensor, copies: int) -> torch.Tensor:
        """Return the metric of each copy from the logits ``(copies * n_samples, n_logits)`` at the positions read."""
        if isinstance(self.metric, PositionMetric):
            metric = self.metric.copies(copies)
            return metric_values(lambda _: metric.read(logits), None).reshape(copies, -1)
        assert self.positions is not None
        values = []
        for own in logits.split(self.n_samples):
            whole = self._template_logits().clone()
            whole[torch.arange(self.n_samples), self.positions] = own
            values.append(metric_values(self.metric, put(self.template, self.where, whole)))
        return torch.stack(values)

    def _template_logits(self) -> torch.Tensor:
        return next(tensor for where, tensor in named_tensors(self.template) if where == self.where)


def find_reading(metric: Metric, output: Any, n_samples: int, sample_axis: int = 0) -> Reading:
    """Find out which positions of the logits a metric reads.

    A `PositionMetric` says it. Any other callable is tried: where its gradient is zero at all but one position of each
    sample, and NaN and large numbers in all other positions, and in whatever else the model returns, leave its value
    alone, it is given no more than that. In doubt it gets everything.

    Parameters
    ----------
    metric : callable
        ``metric(output)``.
    output : object
        The model's output without edits.
    n_samples : int
        Samples in it.
    sample_axis : int
        Which axis counts them.

    Examples
    --------
    >>> output = torch.randn(2, 5, 7)
    >>> find_reading(lambda logits: logits[:, 3, 0], output, 2).positions
    tensor([3, 3])
    >>> find_reading(lambda logits: logits.mean((1, 2)), output, 2).positions is None
    True
    """
    everything = Reading(metric, n_samples, sample_axis)
    try:
        logits = logits_of(output)
    except InputError:
        return everything
    if logits.ndim != 3 or logits.shape[0] != n_samples or sample_axis:
        return everything
    if isinstance(metric, PositionMetric):
        positions = positions_read(metric.position, n_samples, logits.shape[1])
        return Reading(metric, n_samples, sample_axis, positions)
    where = next(where for where, tensor in named_tensors(output) if tensor is logits)
    positions = _positions_with_gradient(metric, output, where, logits)
    if positions is None:
        return everything
    templates = [_poisoned(output, where, logits, positions, poison) for poison in _POISONS]
    with suppress(Exception):  # whatever a metric raises on such numbers, it has looked there
        expected = torch.as_tensor(metric(output))
        if all(torch.equal(torch.as_tensor(metric(one)), expected) for one in templates):
            return Reading(metric, n_samples, sample_axis, positions, templates[0], where)
    return everything


def _positions_with_gradient(metric: Metric, output: Any, where: Where, logits: torch.Tensor) -> torch.Tensor | None:
    """Return the one position of each sample at which the metric has a gradient, or ``None`` where there is no such."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = logits.detach().clone().requires_grad_()
        try:
            value = metric(put(output, where, leaf))
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        except Exception:  # a metric that is not differentiable, or not made with torch
            return None
    read = (slope != 0).any(-1)
    return read.int().argmax(1) if bool((read.sum(1) == 1).all()) else None


def _poisoned(output: Any, where: Where, logits: torch.Tensor, positions: torch.Tensor, poison: float) -> Any:
    """Return the output with other numbers everywhere but at the logits that are read."""
    for place, tensor in _floating(output):
        other = torch.full_like(tensor, poison)
        if place == where:
            samples = torch.arange(logits.shape[0], device=logits.device)
            other[samples, positions] = logits[samples, positions]
        output = put(output, place, other)
    return output


def _floating(output: Any) -> Iterator[tuple[Where, torch.Tensor]]:
    return ((where, tensor) for where, tensor in list(named_tensors(output)) if tensor.is_floating_point())
