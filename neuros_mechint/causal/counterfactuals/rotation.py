"""A rotation that is learned, and the gradient that an interchange intervention gives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn.utils.parametrizations import orthogonal

from neuros_mechint.adapters.base import BaseAdapter
from neuros_mechint.causal.counterfactuals.answers import Answers
from neuros_mechint.causal.counterfactuals.interchange import InterchangeIntervention, within
from neuros_mechint.causal.counterfactuals.one_site import SitePlace
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.edits import Apply
from neuros_mechint.core.errors import CapabilityError
from neuros_mechint.core.random import torch_generator


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Some pairs: base inputs, the source run's activation, and the counterfactual answers."""

    base: Any
    source: SitePlace
    answers: Answers

    def backward(self, model: Adapter, rotation: Rotation) -> float:
        """Add the gradient of the mean loss to that of the rotation; return the summed loss.

        The model gives the gradient with respect to the activation after the swap. What the rotation contributes to
        that activation is computed here, so that the chain rule leads on to the rotation, whatever kind of model it is.
        """
        seen: list[torch.Tensor] = []
        losses: list[torch.Tensor] = []

        def see(values: torch.Tensor) -> torch.Tensor:
            seen.append(values.detach())
            return values

        def loss(output: Any) -> torch.Tensor:
            losses.append(self.answers.loss(output))
            return losses[-1]

        weight = rotation.weight
        swap = InterchangeIntervention(self.source.name, weight.detach().T)
        edits = [Apply(self.source.name, see), *swap.edits(self.source)]
        gradient = model.gradients(self.base, self.source.name, loss, edits=edits)[self.source.name]
        if not seen:
            raise CapabilityError(f"{model!r} does not show its activations while it is differentiated")
        # a recurrent site passes once per time step
        before = torch.cat(seen, self.source.dims.index("time")) if len(seen) > 1 else seen[0]
        features = self.source.features(self.source.name)
        swapped = within(self.source.values - before, weight, features)
        (swapped * gradient).sum().div(len(self.answers)).backward()
        return float(losses[-1].detach().sum())


class Rotation(torch.nn.Module):
    """The first columns of an orthogonal matrix, ``weight`` ``(n_units, n_dimensions)``, in double precision."""

    weight: torch.Tensor

    def __init__(self, n_units: int, n_dimensions: int, random: np.random.Generator) -> None:
        super().__init__()
        start = torch.randn(n_units, n_dimensions, generator=torch_generator(random), dtype=torch.float64)
        self.weight = torch.nn.Parameter(start)
        # without trivialization, which would draw from torch's global generator
        orthogonal(self, "weight", orthogonal_map="householder", use_trivialization=False)


def pair_batches(
    model: Adapter, base: Any, place: SitePlace, answers: Answers, batch_size: int | None
) -> Iterator[PairBatch]:
    """Yield the training pairs in batches."""
    if batch_size is None or batch_size >= len(answers):
        yield PairBatch(base, place, answers)
        return
    if not isinstance(model, BaseAdapter):
        raise CapabilityError(f"{model!r} cannot be given parts of its inputs", fix="leave batch_size out")
    axis = place.dims.index("sample")
    for part in model.prepared(base, ())[0].parts(batch_size):
        rows = slice(part.start, part.start + part.n_samples)
        values = place.values.narrow(axis, part.start, part.n_samples)
        inputs = part.args or dict(part.kwargs)
        yield PairBatch(inputs, replace(place, values=values), answers.rows(rows.start, rows.stop))
