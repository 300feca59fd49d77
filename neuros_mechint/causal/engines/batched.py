"""Interventions stacked in the batch: several copies of the samples in one call, each under its own edits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neuros_mechint.adapters.base import BaseAdapter
from neuros_mechint.adapters.batches import Batch
from neuros_mechint.adapters.copies import UnstackableError
from neuros_mechint.causal.engines.reading import Reading
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.progress import progress_bar

_TOLERANCE = 1e-4
"""Of the metric's size. An intervention that shifts others by less than that goes unnoticed."""


def measure_batched(
    model: BaseAdapter,
    batch: Batch,
    interventions: Sequence[Sequence[Edit]],
    reading: Reading,
    baseline: torch.Tensor,
    copies_per_call: int,
    description: str,
) -> torch.Tensor:
    """Return the metric under each intervention, ``(n_interventions, n_samples)``.

    Parameters
    ----------
    model : BaseAdapter
    batch : Batch
        From ``model.prepared``.
    interventions : sequence of sequence of Edit
        From ``model.prepared``.
    reading : Reading
        The metric.
    baseline : torch.Tensor of shape (n_samples,)
        The metric without edits.
    copies_per_call : int
        How many copies to stack.
    description : str
        Shown before the progress bar.

    Raises
    ------
    UnstackableError
        Stacked copies do not keep apart.
    """
    calls = [interventions[start : start + copies_per_call] for start in range(0, len(interventions), copies_per_call)]
    values: list[torch.Tensor] = []
    for call in progress_bar(calls, description=description):
        # the first call carries a copy without edits at either end, the first of which must give the baseline
        guarded = [[], *call, []] if not values else call
        measured = reading.of_output(model.run_copies(batch, guarded), len(guarded))
        if not values:
            alone = reading.of_output(model.run_copies(batch, call[:1]), 1)
            _check_apart(measured[[0, -1, 1]], torch.stack([baseline, baseline, alone[0]]))
            measured = measured[1:-1]
        values.append(measured)
    return torch.cat(values) if values else baseline.new_zeros(0, baseline.numel())


def _check_apart(stacked: torch.Tensor, alone: torch.Tensor) -> None:
    """Raise unless copies in one call give what they give alone: rounding differs between batch sizes, no more."""
    size = float(alone.abs().max())
    if stacked.shape != alone.shape or float((stacked - alone).abs().max()) > _TOLERANCE * max(size, 1e-2):
        raise UnstackableError("copies of the samples in one batch influence each other in this model")
