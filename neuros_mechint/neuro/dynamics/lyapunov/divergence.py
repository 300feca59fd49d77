"""The largest Lyapunov exponent of recorded trajectories, from how fast neighbouring states part."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import OptionError, check_option, number, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage, expanded_percentiles, times_drawn
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.neuro.dynamics.embedding.choices import EmbeddingChoice, choose_embedding
from neuros_mechint.neuro.dynamics.embedding.delays import States, embed
from neuros_mechint.neuro.dynamics.lyapunov.divergence_curves import (
    METHODS,
    Divergence,
    horizon_until,
    kantz_divergence,
    longest_horizon,
    random_log_distance,
    rosenstein_divergence,
)
from neuros_mechint.neuro.dynamics.lyapunov.divergence_region import (
    BELOW_SATURATION,
    FEWEST_STEPS,
    GROWN,
    Region,
    Windows,
    fitted_slopes,
    free_steps,
    straight_region,
    weighted_median,
    window_weights,
)
from neuros_mechint.neuro.dynamics.lyapunov.divergence_results import LargestLyapunovExponent
from neuros_mechint.neuro.dynamics.lyapunov.divergence_surrogates import (
    FEWEST_SURROGATES,
    Comparison,
    compare_with_surrogates,
)
from neuros_mechint.neuro.dynamics.trajectories import Trajectories
from neuros_mechint.neuro.dynamics.trajectories import trajectories as as_trajectories

_PAPERS = {"rosenstein": "rosenstein1993", "kantz": "kantz1994"}
_MOST_PERIODS = 20
# Slow growth (of the phase of a rhythm that wanders) can look exponential for so long, more so if no end is seen.
_GROWN_FOR_CHAOS, _GROWN_UNSATURATED = float(np.log(2.5)), float(np.log(4))
_SHORTEST_HORIZON = 10
_RESAMPLES = 500
_FEWEST_BLOCKS = 20
_FEWEST_TIMES = 10


def largest_lyapunov_exponent(
    trajectories: Any,
    method: str = "rosenstein",
    delay: int | None = None,
    dimension: int | None = None,
    theiler: int | None = None,
    horizon: int | None = None,
    region: tuple[int, int] | None = None,
    radius: float | None = None,
    n_surrogates: int = 19,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> LargestLyapunovExponent:
    r"""Return the largest Lyapunov exponent of recorded trajectories, or say that there is none to be read.

    States that are near to each other, but not in time, part as :math:`d(t) = d(0)\, e^{\lambda t}` where motion is
    chaotic, until they are as far apart as any two. The exponent is the slope of the mean of :math:`\ln d` in the part
    of the curve that is straight, found among all stretches before distances saturate. Neighbours may be of different
    trials; none is followed beyond the end of its trial.

    Parameters
    ----------
    trajectories : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
        ``(time,)``, ``(time, unit)``, ``(trial, time, unit)``, or a list of trials ``(time, unit)`` of any lengths.
        Units should have one scale: distances are Euclidean.
    method : {"rosenstein", "kantz"}
        ``rosenstein``: the one nearest neighbour of each state. ``kantz``: all within ``radius``, whose mean distance
        is taken before the logarithm.
    delay : int, optional
        Samples between those that make a state; see `delay_embedding` for the choice.
    dimension : int, optional
        Samples per state. By default one where there are several units, which are taken for the whole state, and
        otherwise chosen by false neighbours.
    theiler : int, optional
        Samples within which states of one trial are no neighbours; by default the mean period.
    horizon : int, optional
        Samples for which neighbours are followed; by default until distances saturate, at most 20 mean periods, and
        no longer than half of the states can be followed.
    region : tuple of int, optional
        First and last step of the straight part, both inclusive, instead of one that is found.
    radius : float, optional
        For ``kantz``, in units of the data; by default three out of four states have a neighbour so near.
    n_surrogates : int
        Phase-randomised surrogates that the data are compared with; at least 19, or 0, with which chaos is not claimed.
    level : float
        Coverage of the interval, by drawing blocks of states anew. It holds what chance does, not the bias of finite
        distances (see the method card).
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    LargestLyapunovExponent
        In nats per second if the sampling rate is known, else per sample. NaN, with a warning that says why, where no
        part of the curve is straight, so that one recording without an exponent does not stop the analysis of many.

    Raises
    ------
    InputError
        Values that are missing, data that are constant, or too few samples to embed or to follow.
    OptionError
        Unknown method, or a parameter out of range.

    References
    ----------
    Rosenstein, Collins and De Luca 1993, doi:10.1016/0167-2789(93)90009-P; Kantz 1994,
    doi:10.1016/0375-9601(94)90991-1; Deshmukh et al. 2021, doi:10.1063/5.0069365; Theiler et al. 1992,
    doi:10.1016/0167-2789(92)90102-S

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> x = nm.simulate(nm.logistic_map, torch.tensor([0.2], dtype=torch.float64), n_steps=1500)
    >>> found = nm.largest_lyapunov_exponent(x)
    >>> found.chaotic, bool(abs(found.exponent - np.log(2)) < 0.03)  # nats per step
    (True, True)
    """
    check_option("method", method, METHODS)
    settings = _settings(theiler, horizon, region, radius, n_surrogates, method)
    given = as_trajectories(trajectories, _FEWEST_TIMES, why="to follow neighbours")
    level, random = coverage(level), generator(seed)
    choice = choose_embedding(given, delay, dimension, settings.theiler, progress)
    states = embed(given.trials, choice.delay, choice.dimension)
    saturation = random_log_distance(states, random)
    n_steps = _horizon(states, saturation, choice.theiler, settings)
    if method == "rosenstein":
        divergence = rosenstein_divergence(states, n_steps, choice.theiler, progress=progress)
    else:
        divergence = kantz_divergence(states, n_steps, choice.theiler, radius, progress)
    estimate = _estimate(divergence, saturation, region, level, random)
    comparison = None
    if n_surrogates and np.isfinite(estimate.region.slope):
        comparison = compare_with_surrogates(given.trials, choice, estimate.region.last, n_surrogates, random, progress)
    verdict, cautions = _verdict(estimate, comparison, given.trials), _warnings(estimate, divergence, choice)
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    return LargestLyapunovExponent(
        _dataset(divergence, estimate, saturation, comparison, given),
        "Largest Lyapunov exponent",
        attributes={
            "method": method,
            "verdict": verdict,
            "region_rule": "found" if region is None else "given",
            "n_trials": len(given.trials),
            "n_surrogates": n_surrogates,
            "level": level,
            **_about(estimate.region, choice, divergence),
        },
        provenance=Provenance.record(
            seed,
            arguments={
                **{"trajectories": given.joined(), "lengths": list(given.lengths), "method": method, "delay": delay},
                **{"dimension": dimension, "theiler": theiler, "horizon": horizon, "region": region},
                **{"radius": radius, "n_surrogates": n_surrogates, "level": level},
            },
        ),
        citations=(_PAPERS[method], "deshmukh2021", "theiler1992", "prichard1994"),
        warnings=cautions,
    )


def _about(region: Region, choice: EmbeddingChoice, divergence: Divergence) -> dict[str, Any]:
    """Return what was found and chosen, for the attributes of the result."""
    return {
        "reason": region.reason,
        "first_step": region.first,
        "last_step": region.last,
        "grown": region.grown,
        "delay": choice.delay,
        "delay_rule": choice.delay_rule,
        "dimension": choice.dimension,
        "dimension_rule": choice.dimension_rule,
        "theiler": choice.theiler,
        "horizon": divergence.sums.shape[1] - 1,
        "radius": None if np.isinf(divergence.radius) else divergence.radius,
        "n_references": divergence.n_references,
        "n_pairs": divergence.n_pairs,
        "n_blocks": len(divergence.sums),
    }


class _Settings(NamedTuple):
    """What the caller fixed."""

    theiler: int | None
    horizon: int | None
    region: tuple[int, int] | None


class _Estimate(NamedTuple):
    """The slope per step, with its interval."""

    region: Region
    low: float
    high: float


def _settings(theiler: Any, horizon: Any, region: Any, radius: Any, n_surrogates: Any, method: str) -> _Settings:
    theiler = None if theiler is None else whole("theiler", theiler, 0)
    horizon = None if horizon is None else whole("horizon", horizon, FEWEST_STEPS)
    if whole("n_surrogates", n_surrogates, 0) and n_surrogates < FEWEST_SURROGATES:
        raise OptionError(
            "too few surrogates to tell the data from them",
            expected=f"0, or at least {FEWEST_SURROGATES}: p cannot be below 1 / (n_surrogates + 1)",
            got=n_surrogates,
        )
    if radius is not None:
        if method != "kantz":
            raise OptionError("Rosenstein's average has no radius", expected="method='kantz'", got=f"radius={radius}")
        number("radius", radius, 0, float("inf"))
    if region is None:
        return _Settings(theiler, horizon, None)
    if not isinstance(region, tuple | list) or len(region) != 2:
        raise OptionError("the region is no pair", expected="(first, last) in steps, both inclusive", got=repr(region))
    first = whole("first step of the region", region[0], 0)
    last = whole("last step of the region", region[1], first + 2)
    if horizon is not None and last > horizon:
        raise OptionError("the region ends after the horizon", expected=f"at most {horizon}", got=last)
    return _Settings(theiler, horizon, (first, last))


def _horizon(states: States, saturation: float, theiler: int, settings: _Settings) -> int:
    """Return for how many steps to follow neighbours."""
    if settings.horizon is not None:
        return settings.horizon
    most = longest_horizon(states, max(_SHORTEST_HORIZON, _MOST_PERIODS * theiler))
    most = max(most, FEWEST_STEPS)
    found = horizon_until(states, saturation - BELOW_SATURATION / 2, most, theiler, min(_SHORTEST_HORIZON, most))
    return found if settings.region is None else max(found, settings.region[1])


def _estimate(
    divergence: Divergence,
    saturation: float,
    region: tuple[int, int] | None,
    level: float,
    random: np.random.Generator,
) -> _Estimate:
    """Return the slope, and the interval that blocks of states drawn anew give it."""
    curve, n_blocks = divergence.curve(), len(divergence.sums)
    if np.isnan(curve).any() or divergence.counts[:, 0].sum() < divergence.n_references / 2:
        unknown = float("nan")
        reason = "neighbours are alike but for rounding: the data repeat themselves, or take few values"
        return _Estimate(Region(0, 0, unknown, unknown, reason, unknown, False), unknown, unknown)
    drawn = divergence.resampled(times_drawn(n_blocks, _RESAMPLES, random))
    drawn = drawn[np.isfinite(drawn).all(1)]
    free = drawn[:, : max(free_steps(curve, saturation), 1)]
    noise = float((free - free.mean(1, keepdims=True)).std(0).mean()) if len(free) else 0.0
    if region is None:
        found, windows = straight_region(curve, saturation, noise)
    else:
        windows = Windows(*(np.array([step]) for step in region))
        slope = float(fitted_slopes(curve[None], windows)[0][0, 0])
        grown = slope * (region[1] - region[0])
        found = Region(*region, slope, 0.0, "", grown, free_steps(curve, saturation) <= region[1])
    if np.isnan(found.slope) or n_blocks < 2 or not len(drawn):
        return _Estimate(found, float("nan"), float("nan"))
    slopes, residual = fitted_slopes(drawn, windows)
    medians = weighted_median(slopes, window_weights(windows, residual, noise))
    low, high = expanded_percentiles(medians, level, n_blocks)
    return _Estimate(found, float(low), float(high))


def _verdict(estimate: _Estimate, comparison: Comparison | None, trials: Sequence[Floats]) -> str:
    region = estimate.region
    if np.isnan(region.slope):
        return "no region"
    if abs(region.grown) < GROWN:
        return "neutral"
    if not (estimate.low > 0 or estimate.high < 0):
        return "undecided"
    if region.slope < 0:
        return "contracting"
    if _outgrown(trials) > GROWN:
        return "unbounded"
    if comparison is None:
        return "not compared"
    if region.grown < (_GROWN_FOR_CHAOS if region.saturates else _GROWN_UNSATURATED):
        return "slow"
    return "chaotic" if comparison.p <= SIGNIFICANT else "like noise"


def _outgrown(trials: Sequence[Floats]) -> float:
    """Return the logarithm of how much wider all states are spread in the last quarter of trials than in the first."""
    first, last = (
        np.concatenate([trial[part(len(trial))] for trial in trials])
        for part in (lambda n: slice(0, max(n // 4, 1)), lambda n: slice(n - max(n // 4, 1), n))
    )
    spread = [float(np.sqrt(part.var(0).sum())) for part in (first, last)]
    return float(np.log(spread[1] / spread[0])) if min(spread) > 0 else 0.0


def _warnings(estimate: _Estimate, divergence: Divergence, choice: EmbeddingChoice) -> tuple[str, ...]:
    found = list(choice.warnings)
    if np.isnan(estimate.region.slope):
        found.append(f"no exponent can be read, and none is given: {estimate.region.reason}")
    elif len(divergence.sums) < _FEWEST_BLOCKS:
        found.append(f"the interval rests on {len(divergence.sums)} blocks of states only, and may be too narrow")
    return tuple(found)


def _dataset(
    divergence: Divergence, estimate: _Estimate, saturation: float, comparison: Comparison | None, given: Trajectories
) -> xr.Dataset:
    dt, unit = given.dt, "s" if given.sampling_rate else "samples"
    rate = {"units": "1/s" if given.sampling_rate else "1/sample"}
    logarithm = {"units": "ln distance"}
    curve, region = divergence.curve(), estimate.region
    steps = np.arange(len(curve))
    fitted = np.full(len(curve), np.nan)
    if np.isfinite(region.slope):
        inside = slice(region.first, region.last + 1)
        centre = steps[inside].mean()
        fitted[inside] = curve[inside].mean() + region.slope * (steps[inside] - centre)
    data: dict[str, Any] = {
        "exponent": ((), region.slope / dt, {"long_name": "largest Lyapunov exponent", **rate}),
        "low": ((), estimate.low / dt, rate),
        "high": ((), estimate.high / dt, rate),
        "spread_of_slopes": ((), region.spread / dt, {"long_name": "spread of slopes over windows", **rate}),
        "saturation": ((), saturation, logarithm),
        "p_surrogates": ((), np.nan if comparison is None else comparison.p, {"units": "1"}),
        "divergence": ("time", curve, {"long_name": "mean logarithm of distance", **logarithm}),
        "fitted": ("time", fitted, {"long_name": "straight part", **logarithm}),
    }
    coordinates: dict[str, Any] = {"time": ("time", steps * dt, {"long_name": "time since neighbours", "units": unit})}
    if comparison is not None:
        less = {"units": "ln distance, less saturation"}
        data["surrogates"] = (("surrogate", "compared_time"), comparison.surrogates, less)
        data["compared"] = ("compared_time", comparison.curve, less)
        coordinates["compared_time"] = ("compared_time", np.arange(len(comparison.curve)) * dt, {"units": unit})
    return xr.Dataset(data, coordinates)
