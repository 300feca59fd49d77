"""A metric of every signal at a site of a model, and which activations are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.labels import LabelledTensors
from neuros_mechint.neuro.fractals.metric import SignalMetric
from neuros_mechint.neuro.fractals.probes.sequences import SiteSequences
from neuros_mechint.neuro.fractals.signals import TIME_AXES, varying

SignalFunction = Callable[[Any], torch.Tensor]
"""A `SignalMetric`, or any callable that turns signals ``(n_signals, n_samples)`` into ``(n_signals,)`` values."""
_NUMBERS_AT_ONCE = 2**22


@dataclass(frozen=True)
class SiteValues:
    """A metric of every signal at a site.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_samples, n_units)
        NaN where a signal is constant, too short, or the metric is not defined.
    constant : numpy.ndarray of bool, shape (n_samples, n_units)
    too_short : numpy.ndarray of bool, shape (n_samples,)
    lengths : tuple of int
        The smallest and the largest number of steps of the others.
    """

    values: Floats
    constant: npt.NDArray[np.bool_]
    too_short: npt.NDArray[np.bool_]
    lengths: tuple[int, int]


def sites_of(
    source: Any,
    sites: str | Iterable[str] | None = None,
    inputs: Any = None,
    batch_size: int | None = None,
    axis: str | None = None,
) -> tuple[LabelledTensors, list[str]]:
    """Return activations, of a model's run or as they were captured, and the sites meant; see `site_complexity`.

    Raises
    ------
    InputError
        Neither activations nor a model with inputs and sites, or no site with an axis of time.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> both = {"h": torch.zeros(2, 5, 3), "out": torch.zeros(2, 3)}
    >>> acts = nm.Activations(both, {"h": ("sample", "time", "unit"), "out": ("sample", "unit")})
    >>> sites_of(acts)[1]
    ['h']
    """
    if isinstance(source, LabelledTensors):
        if inputs is not None:
            raise InputError("activations are there already", expected="no inputs, or a model", got="both")
        if axis is not None:
            check_option("axis", axis, TIME_AXES)
        wanted = (axis,) if axis is not None else TIME_AXES
        timed = [name for name in source if set(wanted) & set(source.dims(name))]
        patterns = [sites] if isinstance(sites, str) else timed if sites is None else list(sites)
        if not patterns:
            raise InputError(
                "no site has an axis of time",
                expected=f"sites with an axis {' or '.join(map(repr, wanted))}",
                got=", ".join(f"{name} ({', '.join(source.dims(name))})" for name in list(source)[:4]) or "no sites",
            )
        return source, list(dict.fromkeys(name for pattern in patterns for name in source.matching(pattern)))
    if isinstance(source, Adapter):
        if inputs is None or sites is None:
            raise InputError("a model has no activations without inputs", expected="inputs=... and sites=...")
        captured = source.capture(inputs, sites, batch_size=batch_size)
        assert isinstance(captured, LabelledTensors)
        return captured, list(captured)
    raise InputError(
        "there are no activations", expected="nm.Activations, a store, or nm.adapt(model)", got=type(source).__name__
    )


def metric_name(metric: SignalFunction) -> str:
    """Return what a metric is called in figures.

    Examples
    --------
    >>> metric_name(torch.var)
    'var'
    """
    return str(getattr(metric, "long_name", None) or getattr(metric, "__name__", type(metric).__name__))


def check_metric(metric: Any) -> None:
    """Raise `InputError` unless a metric can be called.

    Examples
    --------
    >>> check_metric(torch.var)
    """
    if not callable(metric):
        raise InputError("the metric cannot be called", expected="nm.HurstExponent(), say", got=type(metric).__name__)


def site_values(
    site: str, sequences: SiteSequences, metric: SignalFunction, sampling_rate: float | None = None
) -> SiteValues:
    """Return a metric of every signal at a site.

    Sequences that are too short for a `SignalMetric` are left out, unless all are: then its own error says so.

    Examples
    --------
    >>> x = torch.tensor([[[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]]])
    >>> sequences = SiteSequences.of("h", x, ("sample", "time", "unit"))
    >>> site_values("h", sequences, lambda signals: signals.amax(-1)).values.tolist()
    [[4.0, nan]]
    """
    n_samples, _, n_units = sequences.values.shape
    values = np.full((n_samples, n_units), np.nan)
    constant = np.zeros((n_samples, n_units), dtype=bool)
    lengths = sequences.lengths.cpu().numpy()
    least = metric._least() if isinstance(metric, SignalMetric) else 2
    too_short = lengths < least
    if too_short.all():
        least, too_short = 0, lengths < 1
    for samples, steps in sequences.groups():
        if len(steps) < least:
            continue
        at_once = max(1, _NUMBERS_AT_ONCE // (len(steps) * n_units))
        for some in samples.split(at_once):
            rows = sequences.values[some, steps].mT.reshape(-1, len(steps))
            changing = varying(rows)
            where = some[:, 0].cpu().numpy()
            constant[where] = ~changing.cpu().numpy().reshape(-1, n_units)
            if bool(changing.any()):
                found = np.full(len(rows), np.nan)
                found[changing.cpu().numpy()] = measured(site, metric, rows[changing], sampling_rate)
                values[where] = found.reshape(-1, n_units)
    used = lengths[~too_short]
    return SiteValues(values, constant, too_short, (int(used.min()), int(used.max())))


def measured(site: str, metric: SignalFunction, rows: torch.Tensor, sampling_rate: float | None = None) -> Floats:
    """Return a metric of signals that change, ``(n_signals, n_samples)``, NaN where it is not finite.

    Raises
    ------
    InputError
        Not one real number per signal.

    Examples
    --------
    >>> measured("h", lambda signals: signals.amax(-1), torch.eye(2)).tolist()
    [1.0, 1.0]
    """
    signals: Any = rows
    if sampling_rate is not None and isinstance(metric, SignalMetric):
        attributes = {"sampling_rate": sampling_rate}
        signals = xr.DataArray(rows.cpu().numpy(), dims=("signal", "time"), attrs=attributes)
    try:
        with torch.no_grad():
            found = metric(signals)
    except Exception as error:
        error.add_note(f"in the metric of the signals at {site!r}, of shape {tuple(rows.shape)}")
        raise
    try:
        value = torch.as_tensor(found)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError("the metric gives no numbers", got=type(found).__name__) from error
    if value.shape != rows.shape[:1] or value.is_complex():
        raise InputError(
            "the metric does not give one real number per signal",
            expected=f"shape ({len(rows)},) of signals {tuple(rows.shape)}",
            got=f"shape {tuple(value.shape)}, {value.dtype}",
        )
    numbers = value.detach().double().cpu().numpy()
    return np.where(np.isfinite(numbers), numbers, np.nan)


def ragged(rows: list[Floats]) -> Floats:
    """Return rows of different lengths as one array, NaN at their ends.

    Examples
    --------
    >>> ragged([np.ones(1), np.ones(2)]).tolist()
    [[1.0, nan], [1.0, 1.0]]
    """
    array = np.full((len(rows), max(map(len, rows))), np.nan)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array
