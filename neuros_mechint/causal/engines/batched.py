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
        The metric without edits: the first call carries a copy that must give it.
    copies_per_call : int
        How many copies to stack.
    description : str
        Shown before the progress bar.

    Raises
    ------
    UnstackableError
        Stacked copies do not keep apart.
    """
    control: list[Sequence[Edit]] = [[]]
    stacked = control + list(interventions)
    calls = [stacked[start : start + copies_per_call] for start in range(0, len(stacked), copies_per_call)]
    values = [
        reading.of_output(model.run_copies(batch, call), len(call))
        for call in progress_bar(calls, description=description)
    ]
    measured = torch.cat(values)
    # rounding differs between batch sizes; what one sample does to another is another order of magnitude
    size = float(baseline.abs().max()) + float(measured.std() if measured.numel() > 1 else 0)
    if float((measured[0] - baseline).abs().max()) > _TOLERANCE * max(size, 1e-3):
        raise UnstackableError("copies of the samples in one batch influence each other in this model")
    return measured[1:]
