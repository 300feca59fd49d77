"""What is read of a model in an experiment: the rate of a population in a window of time, or any metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from neuros_mechint.adapters.base import BaseAdapter, Tensors
from neuros_mechint.adapters.copies import UnstackableError, split_copies
from neuros_mechint.causal.experiments.times import TimeAxis, time_axis
from neuros_mechint.causal.interventions import check_editable
from neuros_mechint.causal.metrics import check_one_per_sample, metric_values
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.directions import FEATURE_AXES
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.sites import SiteReference

Readout = str | Metric
"""A site, maybe with an index, of which the mean is read (of spikes, their rate); or ``metric(output)``."""

_MOST_BYTES = 2**28
_MOST_SAMPLES = 512
"""In one call: models that go step by step through time take as long for one sample as for hundreds."""
_APART = 1e-4
"""Of the size of what is read: by how much copies of the inputs that share a call may differ from one alone."""


@dataclass(frozen=True)
class Observation:
    """What came out of the untouched model, by which experiments find their way.

    Parameters
    ----------
    model : BaseAdapter
    inputs : inputs of the model
    tensors : mapping of str to torch.Tensor
        Whole sites.
    dims : mapping of str to tuple of str
        Their axes.
    activations : Activations
        The same with labels of time.
    output_bytes : int
        What the output of one copy of the inputs takes.
    """

    model: BaseAdapter
    inputs: Any
    tensors: Mapping[str, torch.Tensor]
    dims: Mapping[str, tuple[str, ...]]
    activations: Any
    output_bytes: int

    @classmethod
    def of(cls, model: Adapter, inputs: Any, sites: Sequence[str]) -> Observation:
        """Run the untouched model and read whole sites.

        Raises
        ------
        InputError, CapabilityError, SiteError
            No adapter, one that cannot be edited, or sites it does not have.
        """
        check_editable(model)
        if not isinstance(model, BaseAdapter):
            raise CapabilityError("experiments need an adapter that is built on BaseAdapter", got=type(model).__name__)
        names = list(dict.fromkeys(SiteReference.parse(site).name for site in sites))
        run = model.observe(inputs, capture=names)
        activations = run.activations
        tensors = {name: activations[name] for name in activations}
        dims = {name: activations.dims(name) for name in activations}
        return cls(model, inputs, tensors, dims, activations, _bytes_of(run.output))

    def located(self, site: str, index: Mapping[str, Any] | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what picks a block of one site out of the whole activation of any number of samples."""
        reference = SiteReference.parse(site)
        name, dims = self.name_of(site), self.dims[self.name_of(site)]
        reference = SiteReference(name, {**reference.index, **(index or {})})
        if "sample" in reference.index:
            raise InputError(
                f"{site!r} picks samples", expected="an index along other axes", fix="pick the inputs instead"
            )
        selection = reference.locate(dims, self.tensors[name].shape)
        assert selection is not None  # of a whole activation something is always selected
        return selection.pick

    def name_of(self, site: str) -> str:
        """Return the name of a site as the model has it."""
        return self.activations.resolve(SiteReference.parse(site).name)

    def units_of(self, site: str) -> str:
        """Return the units of a site, where the model has units."""
        return self.model.sites()[self.name_of(site)].units

    def time_axis(self, name: str, dt: Any = None) -> TimeAxis:
        """Return the time steps of a site; of one with a clock of its own as that site alone tells them."""
        alone = self.activations
        if dt is None and "time" not in alone.coords and len(self.tensors) > 1:
            alone = self.model.observe(self.inputs, capture=[name]).activations
        return time_axis(alone, name, dt)

    @property
    def n_samples(self) -> int:
        """Trials."""
        name, dims = next(iter(self.dims.items()))
        return self.tensors[name].shape[dims.index("sample")]

    @property
    def copies_at_once(self) -> int:
        """How many copies of the inputs may share a call, for the memory that what is read takes."""
        one = self.output_bytes + sum(tensor.nbytes for tensor in self.tensors.values())
        return max(1, _MOST_BYTES // max(one, 1))


@dataclass(frozen=True)
class Reading:
    """One readout of one model.

    Parameters
    ----------
    name : str
    unit : str
    site : str, optional
        The whole site that it needs; none for a metric.
    values : callable
        ``values(output, tensor)`` gives one number per sample.
    """

    name: str
    unit: str
    site: str | None
    values: Callable[[Any, torch.Tensor | None], torch.Tensor]

    def of(self, output: Any, tensors: Tensors) -> torch.Tensor:
        """Return one number per sample of a run."""
        return self.values(output, tensors[self.site] if self.site else None)


def sites_of(readouts: Sequence[Readout]) -> list[str]:
    """Return the sites among readouts."""
    return [readout for readout in readouts if isinstance(readout, str)]


def named_readouts(readouts: Any) -> dict[str, Readout]:
    """Return readouts by name.

    Parameters
    ----------
    readouts : str, callable, or sequence or mapping of these

    Raises
    ------
    InputError
        None, or something that is neither a site nor can be called.

    Examples
    --------
    >>> list(named_readouts(["E.spikes", "I.spikes"]))
    ['E.spikes', 'I.spikes']
    """
    if isinstance(readouts, str) or callable(readouts):
        readouts = [readouts]
    if not isinstance(readouts, Mapping):
        several = list(readouts) if isinstance(readouts, Sequence) else []
        names = [one if isinstance(one, str) else getattr(one, "__name__", "metric") for one in several]
        if len(set(names)) < len(names):
            raise InputError(
                "two readouts have one name",
                got=", ".join(names),
                fix='name them: {"choice": metric, "rate": "E.spikes"}',
            )
        readouts = dict(zip(names, several, strict=True))
    wrong = [one for one in readouts.values() if not isinstance(one, str) and not callable(one)]
    if not readouts or wrong:
        raise InputError(
            "there is nothing to read",
            expected="a site such as 'E.spikes', a metric, or several of them",
            got=repr(wrong[0] if wrong else readouts)[:80],
        )
    return dict(readouts)


def one_readout(readout: Any) -> tuple[str, Readout]:
    """Return the name of the only readout, and it.

    Raises
    ------
    InputError
        Several, or what `named_readouts` refuses.

    Examples
    --------
    >>> one_readout("E.spikes")
    ('E.spikes', 'E.spikes')
    """
    first, *others = named_readouts(readout).items()
    if others:
        raise InputError("one curve has one readout", expected="a site or a metric", got=f"{1 + len(others)} readouts")
    return first


def reading(found: Observation, name: str, readout: Readout, window: Any, dt: Any) -> Reading:
    """Return how a readout is read in a window of time.

    Raises
    ------
    InputError, CapabilityError
        A window outside the trial, or of a site without time.
    """
    if not isinstance(readout, str):
        return Reading(name, getattr(readout, "units", ""), None, partial(_metric_of_run, readout, found.n_samples))
    site = found.name_of(readout)
    spiking = is_spikes(site, found.tensors[site])
    axis = found.time_axis(site, dt) if window is not None or spiking else None
    index = axis.index(readout, window, "the window of the readout") if axis is not None else {}
    pick, scale = found.located(readout, index), 1 / axis.dt if axis is not None and spiking else 1.0
    samples = found.dims[site].index("sample")

    def mean(_: Any, tensor: torch.Tensor | None) -> torch.Tensor:
        assert tensor is not None
        block = pick(tensor).to(torch.float64).movedim(samples, 0)
        return block.flatten(1).mean(1) * scale

    units = axis.rate_unit if axis is not None and spiking else found.units_of(readout) or "activity"
    return Reading(name, units, site, mean)


def _metric_of_run(metric: Metric, n_samples: int, output: Any, _: torch.Tensor | None) -> torch.Tensor:
    values = metric_values(metric, output)
    check_one_per_sample(values, n_samples)
    return values


def is_spikes(site: str, values: torch.Tensor) -> bool:
    """Return whether a site holds spikes: it is named so, or holds true and false."""
    return values.dtype == torch.bool or site.rpartition(".")[2] == "spikes"


def spike_trains(found: Observation, spikes: str, dt: Any) -> tuple[Callable[[Any, Tensors], torch.Tensor], TimeAxis]:
    """Return what reads spikes as ``(trial, time, unit)``, and their time axis.

    Raises
    ------
    InputError, CapabilityError
        A site that holds no spikes, or has no time.
    """
    name = found.name_of(spikes)
    axis = found.time_axis(name, dt)
    if not is_spikes(name, found.tensors[name]):
        raise InputError(f"{spikes!r} holds no spikes", expected="a site of spikes", fix="see `model.sites('*spikes')`")
    pick, order = found.located(spikes), [found.dims[name].index(one) for one in ("sample", "time")]

    def trains(_: Any, tensors: Tensors) -> torch.Tensor:
        picked = pick(tensors[name]).movedim(order, (0, 1))
        return (picked != 0).reshape(*picked.shape[:2], -1)

    return trains, axis


def observe_each(
    found: Observation,
    interventions: Sequence[Sequence[Edit]],
    read: Callable[[Any, Tensors], torch.Tensor],
    description: str,
) -> torch.Tensor:
    """Return what is read under each of many interventions on the same inputs, ``(n_interventions, ...)``.

    Copies of the inputs share calls of the model where that gives the same as single calls.

    Parameters
    ----------
    found : Observation
        Its sites are what ``read`` is given.
    interventions : sequence of sequence of Edit
    read : callable
        ``read(output, tensors)`` of one copy of the inputs.
    description : str
        Shown before the progress bar.
    """
    model, sites = found.model, list(found.tensors)
    batch, resolved = model.prepared(found.inputs, interventions)

    def observed(part: Sequence[Sequence[Edit]]) -> torch.Tensor:
        output, tensors = model.observe_copies(batch, part, sites)
        outputs = split_copies(output, len(part), batch.n_samples, batch.sample_axis)
        captured = split_copies(dict(tensors), len(part), batch.n_samples)
        return torch.stack([read(*one) for one in zip(outputs, captured, strict=True)])

    at_once = min(found.copies_at_once, max(1, _MOST_SAMPLES // batch.n_samples))
    if at_once > 1 and len(resolved) > 1:
        try:
            parts = in_parts(resolved, at_once)
            first = observed([*parts[0], []])
            alone = torch.cat([observed(parts[0][:1]), observed([[]])])
            if _agree(first[[0, -1]], alone):
                rest = [observed(part) for part in progress_bar(parts[1:], description=description)]
                return torch.cat([first[:-1], *rest])
        except UnstackableError:
            pass
    return torch.cat([observed([edits]) for edits in progress_bar(resolved, description=description)])


def in_parts(interventions: Sequence[Sequence[Edit]], size: int) -> list[Sequence[Sequence[Edit]]]:
    """Return interventions in parts of at most ``size``."""
    return [interventions[start : start + size] for start in range(0, len(interventions), size)]


def _agree(together: torch.Tensor, alone: torch.Tensor) -> bool:
    if together.dtype == torch.bool:
        return torch.equal(together, alone)
    size = max(float(alone.nan_to_num(0).abs().max()), 1e-2)
    return torch.allclose(together, alone, rtol=0, atol=_APART * size, equal_nan=True)


def _bytes_of(output: Any) -> int:
    if isinstance(output, torch.Tensor):
        return output.nbytes
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return sum(_bytes_of(one) for one in parts)


def unit_axis(dims: Sequence[str], site: str) -> str:
    """Return the axis along which a site has its units.

    Raises
    ------
    CapabilityError
        There is none.
    """
    axis = next((axis for axis in FEATURE_AXES if axis in dims), None)
    if axis is None:
        raise CapabilityError(f"{site!r} has no units", expected=f"an axis {FEATURE_AXES[0]!r}", got=", ".join(dims))
    return axis
