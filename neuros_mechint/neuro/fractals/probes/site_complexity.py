"""A metric of signals at every unit of every site: how complex activations are over time or positions, by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, number, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import bootstrap_ci, coverage, interval_warning
from neuros_mechint.core.statistics.certainty import many_sign_flip_p, out_of_reach, without_rounding
from neuros_mechint.core.statistics.means import mean_of_defined
from neuros_mechint.core.statistics.p_values import adjust_p
from neuros_mechint.neuro.fractals.metric import SignalMetric
from neuros_mechint.neuro.fractals.probes.sequences import SiteSequences
from neuros_mechint.neuro.fractals.probes.site_results import SiteComplexity
from neuros_mechint.neuro.fractals.probes.site_values import (
    SignalFunction,
    SiteValues,
    check_metric,
    metric_name,
    ragged,
    site_values,
    sites_of,
)

OVER = ("sample", "unit")


def site_complexity(
    source: Any,
    metric: SignalFunction,
    sites: str | Iterable[str] | None = None,
    *,
    inputs: Any = None,
    axis: str | None = None,
    over: str = "sample",
    sampling_rate: float | None = None,
    n_controls: int = 1,
    level: float = 0.95,
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> SiteComplexity:
    r"""Return a metric of the signals at each site: its mean, interval, distribution over units, and a control.

    Each unit's activation over time (or positions) in each sample is one signal. The control is the same metric of the
    same values in random order, one order for all units of a sample: what a metric of so few steps gives where there
    is no order in time at all. Where the two do not differ, the value says nothing of time.

    Parameters
    ----------
    source : Activations, ActivationStore or Adapter
        Activations, or a model from ``nm.adapt``, which is then run on ``inputs``.
    metric : SignalMetric or callable
        E.g. ``nm.HurstExponent()``; a callable turns ``(n_signals, n_samples)`` into ``(n_signals,)`` values.
    sites : str or iterable of str, optional
        Names or patterns; by default all sites with an axis of time. A model needs them.
    inputs : inputs of the model, optional
    axis : {"time", "position"}, optional
        Along which activations are signals; by default the first of these that a site has.
    over : {"sample", "unit"}
        What is drawn anew for intervals and tests. ``sample``: inputs, for *these* units; the units of one network
        answer to the same inputs and to each other, so that their number is no number of observations. ``unit``: the
        units, as if they were a random part of a large population, for *these* inputs.
    sampling_rate : float, optional
        Steps per second, for metrics whose parameters are in Hz or seconds.
    n_controls : int
        How many random orders; 0 for none.
    level : float
        Coverage of the intervals.
    batch_size : int, optional
        Samples per call of the model.
    seed : int or numpy.random.Generator
        Draws orders, bootstrap samples and signs.

    Returns
    -------
    SiteComplexity

    Raises
    ------
    InputError
        No signals: no axis of time, activations that are not finite, constant everywhere, or too short for the metric;
        or a metric that does not give one value per signal.
    SiteError, OptionError

    References
    ----------
    Theiler et al. 1992, Testing for nonlinearity in time series: the method of surrogate data,
    doi:10.1016/0167-2789(92)90102-S

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> x = torch.randn(4, 100, 3, generator=torch.Generator().manual_seed(0))
    >>> dims = ("sample", "time", "unit")
    >>> acts = nm.Activations({"slow": x.cumsum(1), "fast": x}, {"slow": dims, "fast": dims})
    >>> def roughness(signals):
    ...     return signals.diff().std(-1) / signals.std(-1)
    >>> found = site_complexity(acts, roughness)
    >>> found.values.round(1).to_series().to_dict()
    {'slow': 0.3, 'fast': 1.4}
    """
    check_option("over", over, OVER)
    level, n_controls = coverage(level), whole("n_controls", n_controls, 0)
    if sampling_rate is not None:
        sampling_rate = number("sampling_rate", sampling_rate, 0, np.inf)
    check_metric(metric)
    activations, names = sites_of(source, sites, inputs, batch_size, axis)
    rng = generator(seed)
    found: dict[str, SiteValues] = {}
    controls: dict[str, Floats] = {}
    for site in progress_bar(names, description="complexity"):
        tensor, dims = activations[site], activations.dims(site)
        sequences = SiteSequences.of(site, tensor, dims, activations.attention_mask, axis)
        found[site] = site_values(site, sequences, metric, sampling_rate)
        draws = [
            site_values(site, _in_random_order(sequences, rng), metric, sampling_rate).values for _ in range(n_controls)
        ]
        if draws:
            controls[site] = np.mean(draws, axis=0)
    if not any(np.isfinite(one.values).any() for one in found.values()):
        raise InputError(
            "no signal has a value",
            got=", ".join(
                f"{int(one.constant.sum())} of {one.constant.size} constant at {site}"
                for site, one in list(found.items())[:4]
            ),
            fix="the metric is not defined for the others: choose another, or longer sequences",
        )
    data, warnings = _labelled(found, controls, over, level, int(rng.integers(2**31)))
    name = metric_name(metric)
    data["value"].attrs["long_name"] = name
    arguments = {"metric": repr(metric), "sites": list(found), "over": over, "axis": axis, "n_controls": n_controls}
    return SiteComplexity(
        data,
        f"{name[:1].upper()}{name[1:]} of each site",
        attributes={
            "metric": repr(metric) if isinstance(metric, SignalMetric) else name,
            "inference": f"over {over}s",
            "level": level,
            "n_controls": n_controls,
        },
        provenance=Provenance.record(seed, arguments=arguments),
        citations=(*getattr(metric, "citations", ()), *(("theiler1992",) if n_controls else ())),
        warnings=warnings,
    )


@dataclass(frozen=True)
class ComplexityProbe:
    """A metric of each site as one number, for whatever follows a model through its training.

    Parameters
    ----------
    metric : SignalMetric or callable
    sites : str or iterable of str, optional
        Names or patterns; by default all sites with an axis of time.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> acts = nm.Activations({"h": torch.eye(8)[None]}, {"h": ("sample", "time", "unit")})
    >>> ComplexityProbe(lambda signals: signals.amax(-1))(acts)
    {'h': 1.0}
    """

    metric: SignalFunction
    sites: str | Iterable[str] | None = None

    def __call__(self, activations: Any) -> dict[str, float]:
        """Return the mean over samples and units at each site; NaN where no signal has a value."""
        chosen, names = sites_of(activations, self.sites)
        found: dict[str, float] = {}
        for site in names:
            sequences = SiteSequences.of(site, chosen[site], chosen.dims(site), chosen.attention_mask)
            values = site_values(site, sequences, self.metric).values
            defined = values[np.isfinite(values)]
            found[site] = float(defined.mean()) if defined.size else float("nan")
        return found


def _in_random_order(sequences: SiteSequences, rng: np.random.Generator) -> SiteSequences:
    """Return the same sequences with the steps of each sample in another order, the same for all its units."""
    values = sequences.values.clone()
    for sample, kept in enumerate(sequences.kept):
        steps = torch.nonzero(kept)[:, 0]
        order = torch.from_numpy(rng.permutation(len(steps))).to(steps.device)
        values[sample, steps] = sequences.values[sample, steps[order]]
    return SiteSequences(values, sequences.kept, sequences.axis, sequences.dims, sequences.shape)


def _labelled(
    found: Mapping[str, SiteValues], controls: Mapping[str, Floats], over: str, level: float, seed: int
) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Return the labelled values of all sites, and what to warn of."""
    sites = list(found)
    per = {
        kind: ragged([mean_of_defined(one.values, axis) for one in found.values()])
        for kind, axis in (("sample", 1), ("unit", 0))
    }
    observed = per[over]
    interval = np.full((2, len(sites)), np.nan)
    narrow: set[str] = set()
    for index in range(len(sites)):
        row = observed[index][np.isfinite(observed[index])]
        if row.size > 1:
            interval[:, index] = bootstrap_ci(row, level, seed=seed)
            narrow |= {interval_warning(row.size, "expanded") or ""}
    variables: dict[str, Any] = {
        "value": ("site", mean_of_defined(observed, 1)),
        "low": ("site", interval[0], {"long_name": "lower limit"}),
        "high": ("site", interval[1], {"long_name": "upper limit"}),
        "per_sample": (("site", "sample"), per["sample"], {"long_name": "mean over the units of a sample"}),
        "per_unit": (("site", "unit"), per["unit"], {"long_name": "mean over the samples of a unit"}),
        "n_constant": ("site", [int(one.constant.sum()) for one in found.values()], {"long_name": "constant signals"}),
        "n_dead": ("site", [_n_dead(one) for one in found.values()], {"long_name": "units constant in all samples"}),
    }
    n_tests = 0
    if controls:
        control = mean_of_defined(ragged([controls[site].ravel() for site in sites]), 1)
        change = ragged([mean_of_defined(found[site].values - controls[site], int(over == "sample")) for site in sites])
        # a metric that does not depend on order differs by rounding, which has a sign but means nothing
        change = np.where(np.isnan(change), np.nan, without_rounding(change, float(np.nanmax(np.abs(observed)))))
        p = many_sign_flip_p(change, seed)
        n_tests = int(np.isfinite(p).sum())
        variables["control"] = ("site", control, {"long_name": "same values in random order"})
        variables["p"] = ("site", p, {"long_name": "sign-flip p of the difference from the control"})
        variables["p_adjusted"] = ("site", adjust_p(p), {"long_name": "p after Holm's correction"})
    warnings = [
        *_warnings(found),
        *sorted(narrow - {""}),
        *(out_of_reach(n_tests, observed.shape[1]) if n_tests else ()),
    ]
    if np.isnan(interval).all():
        warnings.append(f"one {over} only: no interval and no test" + _other_inference(over, per))
    return xr.Dataset(variables, {"site": sites}), tuple(warnings)


def _other_inference(over: str, per: Mapping[str, Floats]) -> str:
    if over == "sample" and per["unit"].shape[1] > 1:
        return "; over='unit' gives those for a population of units, given this one sample"
    return ""


def _warnings(found: Mapping[str, SiteValues]) -> list[str]:
    n_signals = sum(one.values.size for one in found.values())
    short = max(int(one.too_short.sum()) for one in found.values())
    n_constant = sum(int(one.constant.sum()) for one in found.values())
    n_dead = sum(_n_dead(one) for one in found.values())
    undefined = sum(
        int((np.isnan(one.values) & ~one.constant & ~one.too_short[:, None]).sum()) for one in found.values()
    )
    shortest = min(one.lengths[0] for one in found.values())
    longest = max(one.lengths[1] for one in found.values())
    empty = [site for site, one in found.items() if not np.isfinite(one.values).any()]
    texts = {
        f"no signal has a value at {', '.join(empty)}": len(empty),
        f"{n_constant} of {n_signals} signals are constant and left out ({n_dead} units are constant in every sample)":
            n_constant,
        f"of {undefined} of {n_signals} signals the metric is not defined; they are left out": undefined,
        f"{short} samples are too short for the metric and left out": short,
        f"sequences have from {shortest} to {longest} steps: metrics of few steps are biased and scatter more":
            longest - shortest,
    }  # fmt: skip
    return [text for text, count in texts.items() if count]


def _n_dead(one: SiteValues) -> int:
    used = ~one.too_short
    return int(one.constant[used].all(0).sum())
