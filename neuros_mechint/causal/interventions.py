"""Measure one thing under many alternative interventions: what patching, ablation, paths and circuits are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from neuros_mechint.adapters.base import BaseAdapter
from neuros_mechint.adapters.batches import Batch, check_batch_size
from neuros_mechint.adapters.copies import UnstackableError
from neuros_mechint.adapters.replay.record import NotReplayableError
from neuros_mechint.adapters.torch_module import TorchAdapter
from neuros_mechint.causal.engines.batched import measure_batched
from neuros_mechint.causal.engines.cost import Costs, copies_per_call
from neuros_mechint.causal.engines.plan import Planner
from neuros_mechint.causal.engines.reading import Reading, find_reading
from neuros_mechint.causal.engines.suffix import SuffixEngine, measure_by_suffix
from neuros_mechint.causal.metrics import PositionMetric, check_one_per_sample, metric_values
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import CapabilityError, InputError, NeurosMechintError, check_option
from neuros_mechint.core.parallel import parallel_map

ENGINES = ("auto", "loop", "batched", "suffix")


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


def check_editable(model: Any) -> None:
    """Raise unless a model can be edited."""
    if not isinstance(model, Adapter):
        raise InputError("the model is no adapter", expected="nm.adapt(model)", got=type(model).__name__)
    if "intervene" not in model.capabilities:
        raise CapabilityError(f"{model!r} cannot be edited, so nothing can be patched into it")


def check_differentiable(model: Any, fix: str | None = None) -> None:
    """Raise unless a model can be edited and has gradients; ``fix`` says what does without them."""
    check_editable(model)
    if "gradient" not in model.capabilities:
        raise CapabilityError(
            f"{model!r} has no gradients", expected="a model with 'gradient' among `model.capabilities`", fix=fix
        )


def check_can_intervene(model: Any, metric: Any, inputs: Any = None) -> None:
    """Raise unless a model can be edited, a metric can be called, and reads no padding of the inputs, where given."""
    check_editable(model)
    if not callable(metric):
        raise InputError("the metric cannot be called", expected="metric(output)", got=type(metric).__name__)
    if inputs is not None and isinstance(model, BaseAdapter) and isinstance(metric, PositionMetric):
        batch = model.prepared(inputs, ())[0]
        if not any(name.startswith("decoder") for name in batch.kwargs):  # the mask is of the source text there
            metric.check_reads_tokens(batch.attention_mask)


def measure(
    model: Adapter,
    inputs: Any,
    interventions: Sequence[Sequence[Edit]],
    metric: Metric,
    *,
    engine: str = "auto",
    batch_size: int | None = None,
    n_jobs: int | None = None,
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
    engine : {"auto", "loop", "batched", "suffix"}
        How to compute it; the numbers do not depend on it. ``loop`` runs the model once per intervention, ``batched``
        stacks copies of the samples in one call, and ``suffix`` runs on from the first layer and position that an
        intervention changes. ``auto`` takes the fastest that the model allows; what does not hold on a model is
        found out, and the next slower engine used.
    batch_size : int, optional
        Samples per call of the model.
    n_jobs : int or None
        Batches of samples measured at the same time, so give ``batch_size`` too; with the engine ``loop``,
        interventions. See `neuros_mechint.core.parallel.parallel_map`.
    description : str
        Shown before the progress bar.

    Returns
    -------
    Measurements

    Raises
    ------
    InputError, SiteError, CapabilityError, OptionError

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Linear(2, 1, bias=False))
    >>> found = measure(model, torch.ones(3, 2), [[], [nm.Zero(":in")]], lambda output: output[:, 0])
    >>> found.values[1]
    tensor([0., 0., 0.], dtype=torch.float64)
    """
    check_can_intervene(model, metric, inputs)
    check_option("engine", engine, ENGINES)
    check_batch_size(batch_size)
    notes: list[str] = []
    if engine != "loop" and (len(interventions) > 1 or engine != "auto"):
        try:
            return _measure_in_parts(model, inputs, interventions, metric, engine, batch_size, n_jobs, description)
        except UnstackableError as error:
            notes.append(f"not batched: {error.problem}")
    return _measure_in_loop(model, inputs, interventions, metric, batch_size, n_jobs, description, tuple(notes))


def _measure_in_loop(
    model: Adapter,
    inputs: Any,
    interventions: Sequence[Sequence[Edit]],
    metric: Metric,
    batch_size: int | None,
    n_jobs: int | None,
    description: str,
    notes: tuple[str, ...],
) -> Measurements:
    baseline = metric_values(metric, model.run(inputs, batch_size=batch_size).output)
    if isinstance(model, BaseAdapter):
        check_one_per_sample(baseline, model.prepared(inputs, ())[0].n_samples)
    alone = partial(_measure_alone, model, inputs, metric, batch_size)
    values = parallel_map(alone, interventions, n_jobs, progress=True, description=description)
    stacked = torch.stack(values) if values else baseline.new_zeros(0, baseline.numel())
    return Measurements(stacked, baseline, "loop", notes)


def _measure_alone(
    model: Adapter, inputs: Any, metric: Metric, batch_size: int | None, edits: Sequence[Edit]
) -> torch.Tensor:
    return metric_values(metric, model.run(inputs, edits=list(edits), batch_size=batch_size).output)


def _measure_in_parts(
    model: Adapter,
    inputs: Any,
    interventions: Sequence[Sequence[Edit]],
    metric: Metric,
    engine: str,
    batch_size: int | None,
    n_jobs: int | None,
    description: str,
) -> Measurements:
    """Measure some samples at a time, every intervention on them."""
    if not isinstance(model, BaseAdapter):
        raise UnstackableError("this adapter is not built on BaseAdapter")
    batch, resolved = model.prepared(inputs, interventions)
    _check_names(model, resolved)
    parts = list(_parts(batch, metric, batch_size))
    of_part = partial(_measure_part, model, resolved, engine, description)
    measured = parallel_map(of_part, parts, n_jobs, progress=len(parts) > 1, description=description)
    values, baselines, engines, reasons = zip(*measured, strict=True)
    for (part, _), baseline in zip(parts, baselines, strict=True):
        check_one_per_sample(baseline, part.n_samples)
    notes = tuple(dict.fromkeys(reason for part in reasons for reason in part))
    return Measurements(torch.cat(values, 1), torch.cat(baselines), engines[0], notes)


def _check_names(model: BaseAdapter, interventions: Sequence[Sequence[Edit]]) -> None:
    """Raise where an intervention edits one tensor under two names: copies would not keep their order of edits."""
    if not isinstance(model, TorchAdapter):
        return
    for edits in interventions:
        if model.overlap({edit.reference.name for edit in edits}):
            raise UnstackableError("an intervention edits one tensor under two names")


def _parts(batch: Batch, metric: Metric, batch_size: int | None) -> Iterator[tuple[Batch, Metric]]:
    if batch_size is None or batch_size >= batch.n_samples:
        yield batch, metric
        return
    if not isinstance(metric, PositionMetric):
        raise UnstackableError("this metric cannot be told which samples it is given")
    for start in range(0, batch.n_samples, batch_size):
        yield batch.rows(start, start + batch_size), metric.rows(start, start + batch_size)


def _measure_part(
    model: BaseAdapter,
    interventions: Sequence[Sequence[Edit]],
    engine: str,
    description: str,
    part: tuple[Batch, Metric],
) -> tuple[torch.Tensor, torch.Tensor, str, list[str]]:
    """Return the metric and its baseline on some samples, how they were computed, and why not faster."""
    batch, metric = part
    notes: list[str] = []
    if engine != "batched":
        try:
            values, baseline = _measure_suffix(model, batch, interventions, metric, description, notes)
            return values, baseline, "suffix", notes
        except NotReplayableError as error:
            notes.append(f"run from the start: {error.problem}")
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            if isinstance(error, NeurosMechintError):
                raise
            # either a shape that the blocks do not take after all, or an error that will come again
            notes.append(f"run from the start: the blocks could not be run by themselves ({error})")
    reading = Reading(metric, batch.n_samples, batch.sample_axis)
    baseline = reading.of_output(model.run_copies(batch, [[]]), copies=1)[0]
    copies = copies_per_call(batch)
    values = measure_batched(model, batch, interventions, reading, baseline, copies, description)
    return values, baseline, "batched", notes


def _measure_suffix(
    model: BaseAdapter,
    batch: Batch,
    interventions: Sequence[Sequence[Edit]],
    metric: Metric,
    description: str,
    notes: list[str],
) -> tuple[torch.Tensor, torch.Tensor]:
    suffix = _suffix_engine(model, batch, interventions, metric)
    values, elsewhere = measure_by_suffix(interventions, suffix, description)
    notes += [suffix.plan.shortcuts.reason] if suffix.plan.shortcuts.reason else []
    if elsewhere:
        notes.append(f"{len(elsewhere)} interventions touch sites outside of the blocks and ran from the start")
        chosen = [interventions[label] for label in elsewhere]
        values[elsewhere] = measure_batched(
            model, batch, chosen, suffix.reading, suffix.baseline, copies_per_call(batch), description
        )
    return values, suffix.baseline


def _suffix_engine(
    model: BaseAdapter, batch: Batch, interventions: Sequence[Sequence[Edit]], metric: Metric
) -> SuffixEngine:
    if not isinstance(model, TorchAdapter):
        raise NotReplayableError("this kind of model has no stack of blocks")
    sites = dict.fromkeys(edit.reference.name for edits in interventions for edit in edits)
    replay, recorded = model.replay(batch, list(sites))
    shortcuts = model.proofs.shortcuts(replay)
    reading = find_reading(metric, replay.output, batch.n_samples, batch.sample_axis)
    if not shortcuts.by_position:
        reading = Reading(metric, batch.n_samples, batch.sample_axis)
    if reading.positions is None and not shortcuts.tail:
        raise NotReplayableError("the output depends on more than the last residual stream")
    baseline = reading.of_output(replay.output, copies=1)[0]
    stream = replay.blocks[0].stream
    costs = Costs.of_blocks(model.module, [block.path for block in replay.blocks], stream.shape[-1], stream.device)
    return SuffixEngine(Planner(replay, recorded, shortcuts, model.proofs, reading, costs), baseline)
