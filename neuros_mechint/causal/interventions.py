"""Measure one thing under many alternative interventions: what patching, ablation, paths and circuits are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.causal.metrics import metric_values
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.core.progress import progress_bar


@dataclass(frozen=True)
class Measurements:
    """The metric under each intervention.

    Parameters
    ----------
    values : torch.Tensor of shape (n_interventions, n_samples)
        In double precision, on the CPU; one column where the metric is a scalar.
    baseline : torch.Tensor of shape (n_samples,)
        The metric without any edit.
    engine : str
        How it was computed.
    notes : tuple of str
        Why something faster was not used.
    """

    values: torch.Tensor
    baseline: torch.Tensor
    engine: str
    notes: tuple[str, ...] = ()


def check_can_intervene(model: Any, metric: Any) -> None:
    """Raise unless ``model`` is an adapter that can be edited and ``metric`` can be called."""
    if not isinstance(model, Adapter):
        raise InputError("the model is no adapter", expected="nm.adapt(model)", got=type(model).__name__)
    if "intervene" not in model.capabilities:
        raise CapabilityError(f"{model!r} cannot be edited, so nothing can be patched into it")
    if not callable(metric):
        raise InputError("the metric cannot be called", expected="metric(output)", got=type(metric).__name__)


def measure(
    model: Adapter,
    inputs: Any,
    interventions: Sequence[Sequence[Edit]],
    metric: Metric,
    *,
    engine: str = "auto",
    batch_size: int | None = None,
    description: str = "intervene",
) -> Measurements:
    """Return the metric under each of many interventions on the same inputs.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    inputs : inputs of the model
    interventions : sequence of sequence of Edit
        Each is a set of edits made together, in one run of its own.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar.
    engine : {"auto", "loop"}
        How to compute it; the numbers do not depend on it.
    batch_size : int, optional
        Samples per call of the model.
    description : str
        Shown before the progress bar.

    Returns
    -------
    Measurements
    """
    check_can_intervene(model, metric)
    baseline = metric_values(metric, model.run(inputs, batch_size=batch_size).output)
    values = [
        metric_values(metric, model.run(inputs, edits=list(edits), batch_size=batch_size).output)
        for edits in progress_bar(interventions, description=description)
    ]
    stacked = torch.stack(values) if values else baseline.new_zeros(0, baseline.numel())
    return Measurements(stacked, baseline, "loop")
