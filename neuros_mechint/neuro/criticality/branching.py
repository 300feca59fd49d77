"""The branching ratio of activity, also where only few of its units are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import coverage, expanded_percentiles, times_drawn
from neuros_mechint.neuro.criticality.population import population
from neuros_mechint.neuro.criticality.regressions import (
    BlockSums,
    Exponential,
    block_sums,
    fit_exponential,
    whiteness_p,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = ("multistep", "one_step")
_FEWEST_LAGS = 10
_MOST_LAGS = 2000
_TIMES_TAU = 5
_BLOCK_TIMES_TAU = 20
_SHORTEST_BLOCK = 50
_FEWEST_STEPS = 20
_FEWEST_BLOCKS = 20
_WHITE = 0.01
# One step above the multistep ratio, and amplitudes above 1, come by chance as well, but not by so much.
_MANY_ERRORS, _MOST_AMPLITUDE = 3.0, 1.1
_HARDLY_FALLS = 0.5
_ROUNDS = 20


class BranchingRatio(Result):
    """How many active units follow one active unit on average.

    ``data`` holds ``branching_ratio`` by the method asked for with ``low`` and ``high``; both estimates, ``multistep``
    and ``one_step``; ``amplitude`` of the exponential and its ``offset``; ``autocorrelation_time`` in bins with its
    interval; and over ``lag``: ``slope``, of activity on that so many bins before, and the ``fitted`` exponential.
    """

    @property
    def ratio(self) -> float:
        """The branching ratio."""
        return float(self.main)

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval of the branching ratio."""
        return self.data["low"].item(), self.data["high"].item()

    def _draw(self, ax: Axes) -> None:
        lag, slope = self.data["lag"].values, self.data["slope"].values
        ax.plot(
            lag, slope, "o", color=PALETTE[0], markerfacecolor="none", label="slope of activity on earlier activity"
        )
        multistep, one_step = self.data["multistep"].item(), self.data["one_step"].item()
        if np.isfinite(multistep):
            ax.plot(lag, self.data["fitted"], color=PALETTE[1], label=f"exponential: branching ratio {multistep:.3f}")
        if one_step > 0:
            ax.plot(lag, one_step**lag, "--", color=PALETTE[2], label=f"one step, all units seen: {one_step:.3f}")
        ax.axhline(0, color=MUTED_INK, linewidth=0.8)
        ax.set_xlabel("lag (bins)")
        ax.set_ylabel("slope")
        ax.grid(axis="y")
        ax.legend()

    def _summary_lines(self) -> list[str]:
        """Return the ratio by both methods and the time scale in words."""
        about = self.attributes
        low, high = self.interval
        tau, short, long = (self.data[name].item() for name in ("autocorrelation_time", "time_low", "time_high"))
        seconds = "" if about["bin_seconds"] is None else f" = {tau * about['bin_seconds']:.3g} s"
        interval = f"{100 * about['level']:g}% interval {low:.4f} to {high:.4f} ({about['method']})"
        return [
            f"branching ratio {self.ratio:.4f}, {interval}" if np.isfinite(self.ratio) else "no ratio is known",
            f"multistep {self.data['multistep'].item():.4f}; one step {self.data['one_step'].item():.4f}, "
            "which is too low where not all units are seen",
            f"autocorrelation time {tau:.3g} bins ({short:.3g} to {long:.3g}){seconds}; amplitude "
            f"{self.data['amplitude'].item():.3f}",
            f"lags up to {about['k_max']}, {about['n_trials']} trials of {about['n_bins']} bins, "
            f"{about['n_blocks']} blocks drawn anew",
        ]


class _Draws(NamedTuple):
    """Estimates of the data, and of blocks drawn anew."""

    fit: Exponential
    slopes: Floats
    ratios: dict[str, Floats]
    n_blocks: int


def branching_ratio(
    activity: Any,
    method: str = "multistep",
    k_max: int | None = None,
    offset: bool = False,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> BranchingRatio:
    r"""Return the branching ratio of the activity of a population, of which only a part need be observed.

    In a branching process the slope of the regression of activity on activity :math:`k` bins before is
    :math:`r_k = m^k`. If only some units are observed, all slopes are smaller by the same factor,
    :math:`r_k = b m^k`, and the multistep estimator finds :math:`m` from their decay. The one-step estimator takes
    :math:`m = r_1` and is too low then; it is given beside the other, for comparison.

    Parameters
    ----------
    activity : array_like, torch.Tensor, xarray.DataArray or Recording
        ``(time,)``, ``(unit, time)``, which are summed up, or labelled, with trials along all axes but time and units.
        Trials share one mean.
    method : {"multistep", "one_step"}
        Which of the two is the result and has an interval.
    k_max : int, optional
        Largest lag. By default five autocorrelation times, at least 10 bins, found in rounds; at most half a trial.
    offset : bool
        Fit :math:`b m^k + c`: for activity whose mean drifts slowly, or differs between trials.
    n_resamples : int
        How often blocks of 20 autocorrelation times, or trials where these are shorter, are drawn anew.
    level : float
        Coverage of the interval.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    BranchingRatio
        NaN, with a warning, where activity cannot be told from activity without any memory.

    Raises
    ------
    InputError
        Values that are missing, negative counts, activity that does not vary, or trials of fewer than 20 bins.
    OptionError
        Unknown method, or ``k_max`` beyond half a trial.

    References
    ----------
    Wilting and Priesemann 2018, Inferring collective dynamical states from widely unobserved systems,
    doi:10.1038/s41467-018-04725-4

    Examples
    --------
    >>> from neuros_mechint.neuro.criticality.generators import branching_process
    >>> seen = branching_process(0.9, n_steps=20_000, sampled=0.1)
    >>> found = branching_ratio(seen)
    >>> abs(found.ratio - 0.9) < 0.05, found.data["one_step"].item() < 0.5
    (True, True)
    """
    check_option("method", method, METHODS)
    check_option("offset", offset, (True, False))
    given = population(activity)
    values = given.summed()
    values = values / (np.abs(values).max() or 1.0)  # no ratio depends on the unit, but squares must stay in range
    n_trials, n_steps = values.shape
    _check(values)
    level, n_resamples, random = coverage(level), whole("n_resamples", n_resamples, 10), generator(seed)
    lags, tau = _lags(values, k_max, offset)
    length = int(max(_BLOCK_TIMES_TAU * tau, 2 * lags, _SHORTEST_BLOCK))
    sums = block_sums(values, lags, length, progress)
    drawn = _drawn_anew(sums, offset, n_resamples, random)
    p_white = whiteness_p(drawn.slopes, values.size, offset, random)
    warnings = _warnings(drawn, p_white, method)
    if p_white > _WHITE:
        drawn.ratios["multistep"][:] = np.nan
    return BranchingRatio(
        _dataset(drawn, method, level, offset),
        "Branching ratio",
        attributes={
            "method": method,
            "k_max": lags,
            "k_max_rule": "five autocorrelation times" if k_max is None else "given",
            "with_offset": offset,
            "level": level,
            "n_trials": n_trials,
            "n_bins": n_steps,
            "n_blocks": drawn.n_blocks,
            "block_bins": min(length, n_steps),
            "bin_seconds": None if given.sampling_rate is None else 1 / given.sampling_rate,
            "p_no_memory": p_white,
        },
        provenance=Provenance.record(
            seed,
            arguments={
                "activity": given.values,
                "method": method,
                "k_max": k_max,
                "offset": offset,
                "n_resamples": n_resamples,
                "level": level,
            },
        ),
        citations=("wilting2018",),
        warnings=warnings,
    )


def _check(values: Floats) -> None:
    if values.shape[1] < _FEWEST_STEPS:
        raise InputError("the trials are too short", expected=f"at least {_FEWEST_STEPS} bins", got=values.shape[1])
    if values.min() == values.max():
        raise InputError("the activity of the population does not vary", got=f"{values.flat[0]:g} throughout")


def _lags(values: Floats, k_max: int | None, offset: bool) -> tuple[int, float]:
    """Return the largest lag, and the autocorrelation time of a first fit."""
    half = values.shape[1] // 2
    if k_max is not None:
        fewest = 3 if offset else 2
        lags = whole("k_max", k_max, fewest)
        if lags > half:
            raise OptionError("k_max is too large", expected=f"at most half a trial, {half} bins", got=k_max)
        slopes = block_sums(values, lags, values.shape[1]).slopes()[None]
        return lags, _time(fit_exponential(slopes, offset).ratio[0])
    most = min(half, _MOST_LAGS)
    slopes, lags, tau = _autocovariance(values, most), min(_FEWEST_LAGS, most), 1.0
    for _ in range(_ROUNDS):
        tau = _time(fit_exponential(slopes[None, :lags], offset).ratio[0])
        wanted = int(np.clip(np.ceil(_TIMES_TAU * tau), _FEWEST_LAGS, most))
        if wanted <= lags:
            break
        lags = min(wanted, 2 * lags)
    return lags, tau


def _autocovariance(values: Floats, most: int) -> Floats:
    """Return slopes at lags from 1 to ``most``, by way of the Fourier transform."""
    from scipy.fft import irfft, next_fast_len, rfft

    n_steps = values.shape[1]
    size = next_fast_len(2 * n_steps, real=True)
    spectrum = np.asarray(rfft(values - values.mean(), size, axis=1))
    covariance = np.asarray(irfft((np.abs(spectrum) ** 2).sum(0), size))[: most + 1] / (n_steps - np.arange(most + 1))
    return covariance[1:] / covariance[0]


def _time(ratio: float) -> float:
    """Return the autocorrelation time in bins."""
    return float(-1 / np.log(np.clip(ratio, 1e-6, 1 - 1e-6)))


def _drawn_anew(sums: BlockSums, offset: bool, n_resamples: int, random: np.random.Generator) -> _Draws:
    """Return the estimates, first, and those of blocks drawn anew."""
    n_blocks = len(sums.products)
    weights = times_drawn(n_blocks, n_resamples, random)
    slopes = sums.slopes(np.concatenate([np.ones((1, n_blocks)), weights.astype(np.float64)]))
    fits = fit_exponential(slopes, offset)
    first = Exponential(*(values[:1] for values in fits))
    return _Draws(first, slopes[0], {"multistep": fits.ratio, "one_step": slopes[:, 0].copy()}, n_blocks)


def _interval(draws: Floats, level: float, n_blocks: int) -> tuple[float, float]:
    """Return percentiles, further out the fewer blocks there are."""
    if np.isnan(draws).any() or n_blocks < 2:
        return np.nan, np.nan
    low, high = expanded_percentiles(draws, level, n_blocks)
    return float(low), float(high)


def _warnings(drawn: _Draws, p_white: float, method: str) -> tuple[str, ...]:
    found = []
    if p_white > _WHITE:
        found.append(
            "the slopes do not fall like an exponential, or activity without any memory has such in "
            f"{100 * p_white:.2g}% of the cases (1% is allowed): the branching ratio is not known"
        )
    elif _no_exponential(drawn):
        found.append(
            f"the slopes are those of no branching process (amplitude {drawn.fit.amplitude[0]:.2f}, one step "
            f"{drawn.slopes[0]:.2f}, where none can be above 1, and one step not above the ratio): activity that "
            "oscillates, for one, has such; do not rely on the ratio"
        )
    elif drawn.fit.ratio[0] ** drawn.slopes.size > _HARDLY_FALLS:
        found.append(
            "the slopes hardly fall within the lags: take a larger k_max, longer trials, or, where activity drifts, "
            "offset=True"
        )
    if drawn.n_blocks < _FEWEST_BLOCKS:
        found.append(f"the interval rests on {drawn.n_blocks} blocks or trials only, and may be too narrow")
    if method == "one_step":
        found.append("the one-step estimate is too low where not all active units are observed")
    return tuple(found)


def _no_exponential(drawn: _Draws) -> bool:
    """Return whether the decay contradicts ``b m ** k`` with b from 0 to 1, by more than chance."""
    ratios, one_step = drawn.ratios["multistep"], drawn.ratios["one_step"]
    if np.isnan(ratios).any():
        return False
    below = one_step - ratios
    return bool(below[0] > _MANY_ERRORS * below[1:].std() and drawn.fit.amplitude[0] > _MOST_AMPLITUDE)


def _dataset(drawn: _Draws, method: str, level: float, offset: bool) -> xr.Dataset:
    lag = np.arange(1, drawn.slopes.size + 1)
    ratio = float(drawn.ratios["multistep"][0])
    low, high = _interval(drawn.ratios[method][1:], level, drawn.n_blocks)
    span = _interval(drawn.ratios["multistep"][1:], level, drawn.n_blocks)
    times = [_time(value) if np.isfinite(value) else np.nan for value in (ratio, *span)]
    numbers = {
        "branching_ratio": float(drawn.ratios[method][0]),
        "low": low,
        "high": high,
        "multistep": ratio,
        "one_step": float(drawn.ratios["one_step"][0]),
        "amplitude": float(drawn.fit.amplitude[0]) if np.isfinite(ratio) else np.nan,
        "offset": float(drawn.fit.offset[0]) if offset and np.isfinite(ratio) else 0.0,
    }
    data = {name: ((), value, {"units": "1", "long_name": name.replace("_", " ")}) for name, value in numbers.items()}
    names = ("autocorrelation_time", "time_low", "time_high")
    data |= {name: ((), value, {"units": "bins"}) for name, value in zip(names, times, strict=True)}
    fitted = numbers["amplitude"] * ratio**lag + numbers["offset"]
    data |= {
        "slope": ("lag", drawn.slopes, {"long_name": "slope", "units": "1"}),
        "fitted": ("lag", fitted, {"long_name": "exponential", "units": "1"}),
    }
    return xr.Dataset(data, {"lag": ("lag", lag, {"long_name": "lag", "units": "bins"})})
