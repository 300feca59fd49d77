"""Compare how complex the activity of a model and of a brain is, matched in length, sampling and number of signals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, number, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage, interval_warning
from neuros_mechint.core.statistics.means import mean_of_defined
from neuros_mechint.core.statistics.p_values import adjust_p
from neuros_mechint.core.statistics.permutation import permutation_test
from neuros_mechint.core.statistics.surrogates import phase_randomised
from neuros_mechint.neuro.fractals.comparison.effect_sizes import EffectSizes, effect_intervals, effect_sizes
from neuros_mechint.neuro.fractals.comparison.matching import (
    MATCHES,
    UnitSignals,
    as_rows,
    at_one_rate,
    drawn,
    signals_of_recording,
    signals_of_site,
    windows,
)
from neuros_mechint.neuro.fractals.comparison.results import ComplexityComparison
from neuros_mechint.neuro.fractals.metric import SignalMetric
from neuros_mechint.neuro.fractals.probes.sequences import SiteSequences
from neuros_mechint.neuro.fractals.probes.site_values import (
    SignalFunction,
    check_metric,
    measured,
    metric_name,
    ragged,
    sites_of,
)
from neuros_mechint.neuro.fractals.signals import varying

_FEWEST_UNITS = 2
_FEWEST_GROUPS = 2
_CITATIONS = ("hedges1981", "cliff1993", "theiler1992")


class _Side(NamedTuple):
    """One side of a comparison: a value for each unit, of its signals and of surrogates."""

    values: Floats
    surrogates: Floats
    n_left_out: int
    n_units: int


def compare_complexity(
    source: Any,
    recording: Any,
    metric: SignalFunction,
    sites: str | Iterable[str] | None = None,
    *,
    inputs: Any = None,
    sampling_rate: float | None = None,
    match: str = "length and sampling",
    resampling: str | None = None,
    n_samples: int | None = None,
    surrogates: bool = True,
    level: float = 0.95,
    n_resamples: int = 2000,
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> ComplexityComparison:
    r"""Compare the distribution of a metric over the units of a model with that over the units of a recording.

    Estimates of complexity depend on how long and how fast a signal is sampled, and scatter less the more signals they
    are averaged over: unmatched, two sides differ where nothing does. Both sides are therefore brought to one sampling
    rate through the same anti-aliasing filter, cut into windows of one length, and as many windows are taken of either.
    Each unit has one value, the mean over its windows.

    Parameters
    ----------
    source : Activations, ActivationStore or Adapter
        The model's activity; an adapter is run on ``inputs``.
    recording : Recording or xarray.DataArray
        With axes ``time`` and ``unit``; all others count pieces (trials, stimuli, repetitions).
    metric : SignalMetric or callable
        A callable turns ``(n_signals, n_samples)`` into ``(n_signals,)`` values.
    sites : str or iterable of str, optional
        Names or patterns; by default all sites with an axis of time. Each is compared by itself.
    inputs : inputs of the model, optional
    sampling_rate : float, optional
        Steps of the model per second.
    match : {"length and sampling", "length", "none"}
        ``length``: a step of the model is compared with a sample of the recording, whatever their rates.
        ``none``: signals as they are; differences may then come from their length alone.
    resampling : {"filter", "bins"}, optional
        How differing rates are matched. ``filter``: both sides pass one anti-aliasing filter, to four fifths of the
        slower rate. ``bins``: the faster side is averaged over whole samples of the slower, as is right for counts
        and means over intervals. By default bins for binned spikes, filter for all else. **What the device
        of a slow recording did to fast changes is not known**: metrics of the very shortest scales may differ for
        that alone.
    n_samples : int, optional
        Length of the windows after resampling. By default that of the shortest piece on either side; pieces that are
        shorter are left out.
    surrogates : bool
        Also compare surrogates of both sides, with the same power spectra and random phases. A difference that stays
        is one of spectra; one that goes away is not.
    level : float
        Coverage of the intervals.
    n_resamples : int
        Draws of the bootstrap and of the permutation test.
    batch_size : int, optional
    seed : int or numpy.random.Generator
        Draws windows, phases, bootstrap samples and permutations.

    Returns
    -------
    ComplexityComparison
        Differences are model minus recording. **Units are what is drawn and permuted**; where the recording says
        which units belong to one ``subject`` or ``session``, intervals draw these as a whole. The units of one
        network, and of one animal, are no independent samples: a small p says that these two populations differ, not
        that models and brains do.

    Raises
    ------
    InputError
        A sampling rate that is unknown, no signals on a side, fewer than two units with a value, or windows that are
        too short for the metric.
    SiteError, OptionError

    References
    ----------
    Hedges 1981, doi:10.3102/10769986006002107; Cliff 1993, doi:10.1037/0033-2909.114.3.494; Theiler et al. 1992,
    Testing for nonlinearity in time series: the method of surrogate data, doi:10.1016/0167-2789(92)90102-S

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> x = nm.fractional_gaussian_noise(0.5, 500, 20, seed=0).T
    >>> acts = nm.Activations({"h": x.cumsum(0)[None]}, {"h": ("sample", "time", "unit")})
    >>> brain = nm.Recording(nm.fractional_gaussian_noise(0.5, 400, 30, seed=1).T, ("time", "unit"))
    >>> def roughness(signals):
    ...     return signals.diff().std(-1) / signals.std(-1)
    >>> found = compare_complexity(acts, brain, roughness, match="length")
    >>> found.attributes["n_samples"], float(found.data["cliffs_delta"][0])  # all of the model are smoother
    ([400], -1.0)
    """
    check_metric(metric)
    check_option("match", match, MATCHES)
    level, n_resamples = coverage(level), whole("n_resamples", n_resamples)
    n_samples = None if n_samples is None else whole("n_samples", n_samples, 2)
    rate = None if sampling_rate is None else number("sampling_rate", sampling_rate, 0, np.inf)
    activations, names = sites_of(source, sites, inputs, batch_size)
    brain = signals_of_recording(recording)
    if resampling is None:
        resampling = "bins" if brain.binned else "filter"
    rng = generator(seed)
    rows: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    for site in progress_bar(names, description="compare complexity"):
        sequences = SiteSequences.of(site, activations[site], activations.dims(site), activations.attention_mask)
        pair = (signals_of_site(sequences, rate), brain)
        values, about = _matched_values(site, pair, metric, (match, resampling, n_samples, surrogates), rng)
        rows[site] = about | _compared(values, brain, level, n_resamples, int(rng.integers(2**31)))
        warnings += [f"{site}: {text}" for text in _warnings(values, about, match)]
    name = metric_name(metric)
    grouped = brain.grouped_by if len(set(brain.groups)) >= _FEWEST_GROUPS else ""
    return ComplexityComparison(
        _labelled(rows, name),
        f"{name[:1].upper()}{name[1:]}, model against recording",
        attributes={
            "metric": repr(metric) if isinstance(metric, SignalMetric) else name,
            "match": match,
            "resampling": resampling if match == "length and sampling" else None,
            "n_samples": [row["n_samples"] for row in rows.values()],
            "n_windows": [row["n_windows"] for row in rows.values()],
            "sampling_rate": [row["rate"] for row in rows.values()],
            "inference": "over units" + (f", those of the recording by {grouped}" if grouped else ""),
            "level": level,
        },
        provenance=Provenance.record(
            seed,
            arguments={"metric": repr(metric), "sites": names, "match": match, "sampling_rate": rate},
        ),
        citations=(*_CITATIONS[: 3 if surrogates else 2], *getattr(metric, "citations", ())),
        warnings=(*warnings, *_warnings_of_inference(brain, grouped, rows)),
    )


def _matched_values(
    site: str,
    pair: tuple[UnitSignals, UnitSignals],
    metric: SignalFunction,
    how: tuple[str, str, int | None, bool],
    rng: np.random.Generator,
) -> tuple[tuple[_Side, _Side], dict[str, Any]]:
    """Return the values of both sides, model first, and how they were matched."""
    match, resampling, n_samples, surrogates = how
    if match == "length and sampling":
        pair = at_one_rate(*pair, resampling)
    rate = pair[0].rate if match == "length and sampling" else None
    longest = min(max(side.lengths) for side in pair)
    length = min(min(side.lengths) for side in pair) if n_samples is None else n_samples
    if length > longest:
        raise InputError(
            "there are no windows of this length",
            expected=f"n_samples of at most {longest}" + (f", at {rate:g} Hz" if rate else ""),
            got=length,
        )
    if match == "none":
        cut = [[windows(UnitSignals((piece,), None), len(piece)) for piece in side.pieces] for side in pair]
        count = available = (len(cut[0]), len(cut[1]))
    else:
        all_windows = [windows(side, length) for side in pair]
        available = (len(all_windows[0]), len(all_windows[1]))
        fewest = min(available)
        cut = [[drawn(one, fewest, rng)] for one in all_windows]
        count = (fewest, fewest)
    # step by step, neither side has a rate: a metric in Hz on one of them alone would compare unlike things
    rates = (pair[0].rate, pair[1].rate) if match == "none" else (rate, rate)
    sides = [
        _side(f"{name} of {site}", one, metric, own, surrogates, rng)
        for name, one, own in zip(("model", "recording"), cut, rates, strict=True)
    ]
    about = {
        "n_samples": length if match != "none" else [sorted(set(side.lengths)) for side in pair],
        "n_windows": count[0] if count[0] == count[1] else list(count),
        "n_available": available,
        "rate": rate,
    }
    return (sides[0], sides[1]), about


def _side(
    name: str,
    cut: list[Floats],
    metric: SignalFunction,
    rate: float | None,
    surrogates: bool,
    rng: np.random.Generator,
) -> _Side:
    values = np.concatenate([_per_signal(name, one, metric, rate) for one in cut])
    others = [_per_signal(name, phase_randomised(one, rng), metric, rate) for one in cut] if surrogates else []
    per_unit = mean_of_defined(values, 0)
    defined = np.isfinite(per_unit)
    if defined.sum() < _FEWEST_UNITS:
        raise InputError(
            f"the {name} has too few units to compare",
            expected=f"at least {_FEWEST_UNITS} whose signals change and have a value",
            got=f"{int(defined.sum())} of {defined.size}",
        )
    surrogate = mean_of_defined(np.concatenate(others), 0) if others else np.full(len(per_unit), np.nan)
    return _Side(per_unit, surrogate, int((~defined).sum()), len(per_unit))


def _per_signal(name: str, cut: Floats, metric: SignalFunction, rate: float | None) -> Floats:
    """Return the metric of windows ``(n_windows, n_units, length)``, NaN where they are constant."""
    rows = as_rows(cut)
    changing = varying(rows)
    values = np.full(len(rows), np.nan)
    if bool(changing.any()):
        values[changing.numpy()] = measured(name, metric, rows[changing], rate)
    return values.reshape(cut.shape[:2])


def _compared(
    sides: tuple[_Side, _Side], brain: UnitSignals, level: float, n_resamples: int, seed: int
) -> dict[str, Any]:
    """Return effect sizes, intervals and p of two sides."""
    defined = [np.isfinite(side.values) for side in sides]
    first, second = (side.values[mask] for side, mask in zip(sides, defined, strict=True))
    groups = [group for group, one in zip(brain.groups, defined[1], strict=True) if one] if brain.groups else []
    groups = groups if len(set(groups)) >= _FEWEST_GROUPS else []
    found = effect_sizes(first, second)
    low, high = effect_intervals(first, second, level, n_resamples, seed, groups)
    test = permutation_test(first, second, kind="independent", n_resamples=n_resamples, seed=seed)
    others = [side.surrogates[np.isfinite(side.surrogates)] for side in sides]
    enough = min(map(len, others)) >= _FEWEST_UNITS
    surrogate = effect_sizes(*others) if enough else EffectSizes(*[np.array(np.nan)] * 3)
    return {
        "found": found,
        "low": low,
        "high": high,
        "p": float(test.p),
        "surrogate": surrogate,
        "model": sides[0].values,
        "recording": sides[1].values,
    }


def _labelled(rows: dict[str, dict[str, Any]], name: str) -> xr.Dataset:
    texts = {
        "hedges_g": "Hedges' g, model minus recording",
        "cliffs_delta": "Cliff's delta",
        "difference": f"difference of {name}",
    }
    variables: dict[str, Any] = {}
    for size, text in texts.items():
        variables[size] = ("site", [float(getattr(row["found"], size)) for row in rows.values()], {"long_name": text})
        for end in ("low", "high"):
            values = [float(getattr(row[end], size)) for row in rows.values()]
            variables[f"{size}_{end}"] = (
                "site",
                values,
                {"long_name": f"{text}, {'lower' if end == 'low' else 'upper'} limit"},
            )
        values = [float(getattr(row["surrogate"], size)) for row in rows.values()]
        variables[f"{size}_surrogate"] = ("site", values, {"long_name": f"{text}, of surrogates"})
    p = np.array([row["p"] for row in rows.values()])
    variables["p"] = ("site", p, {"long_name": "permutation p"})
    variables["p_adjusted"] = ("site", adjust_p(p), {"long_name": "p after Holm's correction"})
    for side in ("model", "recording"):
        values = ragged([row[side] for row in rows.values()])
        variables[side] = (("site", f"{side}_unit"), values, {"long_name": f"{name}, units of the {side}"})
    return xr.Dataset(variables, {"site": list(rows)})


def _warnings(sides: tuple[_Side, _Side], about: dict[str, Any], match: str) -> list[str]:
    found = [
        f"{side.n_left_out} of {side.n_units} units of the {name} are constant or without a value, and left out"
        for name, side in zip(("model", "recording"), sides, strict=True)
        if side.n_left_out
    ]
    if match == "none" and about["n_samples"][0] != about["n_samples"][1]:
        found.append("signals of different lengths are compared: estimates differ by length alone")
    for name, n_available in zip(("model", "recording"), about["n_available"], strict=True):
        if match != "none" and n_available > about["n_windows"]:
            found.append(
                f"{about['n_windows']} of {n_available} windows of the {name} are compared, as many as the other side "
                "has: which ones is left to chance, so that other seeds may find otherwise; try several"
            )
    return found


def _warnings_of_inference(brain: UnitSignals, grouped: str, rows: dict[str, dict[str, Any]]) -> list[str]:
    if grouped:
        n_groups = len(set(brain.groups))
        return [
            f"units are pooled over {n_groups} {grouped}s: intervals draw whole {grouped}s, but p takes units as "
            "independent and is too small where those of one are alike"
            + (f"; {n_groups} are few for an interval" if interval_warning(n_groups) else "")
        ]
    fewest = min(int(np.isfinite(row[side]).sum()) for row in rows.values() for side in ("model", "recording"))
    narrow = interval_warning(fewest)
    return [narrow] if narrow else []
