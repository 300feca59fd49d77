"""How far an estimate may be from the truth: learned from signals whose truth is known, or from blocks drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.standard_errors import t_reach

if TYPE_CHECKING:
    from neuros_mechint.neuro.fractals.metric import SignalMetric

Found = TypeVar("Found")

_NUMBERS_AT_ONCE = 4_000_000
_STEPS_BETWEEN_TRUTHS = 50


class Uncertainty(NamedTuple):
    """What is known about the error of estimates.

    Parameters
    ----------
    standard_error, low, high : torch.Tensor of shape (n_signals,)
        NaN where nothing is known.
    bias : torch.Tensor of shape (n_signals,), optional
        Mean error at the value that was estimated.
    origin : str
        Where it comes from, for a reader.
    warnings : tuple of str
    """

    standard_error: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    bias: torch.Tensor | None
    origin: str
    warnings: tuple[str, ...] = ()


class Calibration(NamedTuple):
    """Mean and standard deviation of the estimates of signals whose truth is known, ``(n_truths,)`` each."""

    truths: Floats
    means: Floats
    deviations: Floats


def calibrated(
    metric: SignalMetric, values: torch.Tensor, n_samples: int, level: float, n_simulated: int, seed: SeedLike
) -> Uncertainty:
    """Return the true values of which such estimates are not unusual, for the signals that the metric simulates.

    For each of ``metric.truths`` that many signals of the same length are made and measured; between them, mean and
    deviation of the estimates are interpolated. The interval holds all truths whose mean estimate is no further from
    the value than so many deviations. It so takes the bias of the metric into account, and covers the truth as often
    as it says if the signal is of the kind that was simulated.

    Parameters
    ----------
    metric : SignalMetric
    values : torch.Tensor of shape (n_signals,)
    n_samples : int
        Length of the signals.
    level, n_simulated, seed
        See `SignalMetric.estimate`.
    """
    known = _calibration(metric, n_samples, n_simulated, seed)
    # between two truths, in steps: fine enough that the ends of an interval do not jump
    fine = np.interp(
        np.linspace(0, len(known.truths) - 1, _STEPS_BETWEEN_TRUTHS * (len(known.truths) - 1) + 1),
        np.arange(len(known.truths)),
        known.truths,
    )
    means, deviations = (np.interp(fine, known.truths, of) for of in (known.means, known.deviations))
    found = values.numpy()
    # mean and deviation are themselves learned from so many signals
    reach = t_reach(np.sqrt(1 + 1 / n_simulated), n_simulated - 1, level)
    usual = np.abs(found[:, None] - means) <= reach * deviations
    low, high = np.where(usual, fine, np.inf).min(1), np.where(usual, fine, -np.inf).max(1)
    strange = np.asarray(~usual.any(axis=1))
    low[strange] = high[strange] = np.nan
    return Uncertainty(
        torch.from_numpy(np.interp(found, known.truths, known.deviations)),
        torch.from_numpy(low),
        torch.from_numpy(high),
        torch.from_numpy(np.interp(found, known.truths, known.means - known.truths)),
        f"{n_simulated} signals of {metric.simulated} at each of {len(known.truths)} true values",
        _warnings(metric, strange, np.asarray((low == fine[0]) | (high == fine[-1]))),
    )


def bootstrapped(
    metric: SignalMetric, rows: torch.Tensor, values: torch.Tensor, level: float, n_resamples: int, seed: SeedLike
) -> Uncertainty:
    """Return how far the metric scatters when blocks of each signal are drawn anew.

    Blocks of about the square root of the length are drawn with replacement, the same places for all signals. What
    reaches over more than a block is lost, so that long memory makes the error look smaller than it is.

    Parameters
    ----------
    metric : SignalMetric
    rows : torch.Tensor of shape (n_signals, n_samples)
    values : torch.Tensor of shape (n_signals,)
    level, n_resamples, seed
        See `SignalMetric.estimate`.
    """
    from scipy.stats import norm

    random, n_samples = generator(seed), rows.shape[1]
    length = max(2, round(n_samples**0.5))
    drawn = []
    for _ in progress_bar(range(n_resamples), n_resamples, "drawing blocks anew"):
        starts = random.integers(n_samples, size=-(-n_samples // length))
        places = ((starts[:, None] + np.arange(length)) % n_samples).ravel()[:n_samples]
        drawn.append(_measured(metric, metric._resampled(rows, torch.from_numpy(places))))
    deviation = torch.stack(drawn).std(0)
    reach = float(norm.ppf((1 + level) / 2)) * deviation
    origin = f"{n_resamples} times, blocks of {length} samples drawn anew"
    return Uncertainty(deviation, values - reach, values + reach, None, origin)


def remembered(simulation: Callable[..., Found]) -> Callable[..., Found]:
    """Return a function of which the last argument is a seed, and whose results are kept, but for generators.

    Examples
    --------
    >>> draws = remembered(lambda seed: generator(seed).random())
    >>> random = np.random.default_rng(0)
    >>> draws(0) == draws(0), draws(random) == draws(random)
    (True, False)
    """
    kept = lru_cache(maxsize=64)(simulation)

    @wraps(simulation)
    def call(*arguments: Any) -> Found:
        return (simulation if isinstance(arguments[-1], np.random.Generator) else kept)(*arguments)

    return call


def counted(texts: Mapping[str, npt.NDArray[np.bool_]]) -> tuple[str, ...]:
    """Return how many of the signals each text is about, without those that are about none.

    Examples
    --------
    >>> counted({"are odd": np.array([True, False, True]), "are even": np.zeros(3, dtype=bool)})
    ('2 of 3 signals are odd',)
    """
    return tuple(f"{which.sum()} of {which.size} signals {text}" for text, which in texts.items() if which.any())


@remembered
def _calibration(metric: SignalMetric, n_samples: int, n_simulated: int, seed: SeedLike) -> Calibration:
    random = generator(seed)
    truths = np.asarray(metric.truths, dtype=np.float64)
    at_once = max(1, _NUMBERS_AT_ONCE // n_samples)
    means, deviations = np.empty(len(truths)), np.empty(len(truths))
    for index, truth in enumerate(progress_bar(truths, len(truths), f"simulating {metric.simulated}")):
        sizes = [min(at_once, n_simulated - first) for first in range(0, n_simulated, at_once)]
        pieces = [_measured(metric, metric._simulate(float(truth), size, n_samples, random)) for size in sizes]
        found = torch.cat(pieces).numpy()
        means[index], deviations[index] = found.mean(), found.std(ddof=1)
    return Calibration(truths, means, deviations)


def _measured(metric: SignalMetric, rows: torch.Tensor) -> torch.Tensor:
    values = torch.cat([fit.value for fit in metric._fits(rows)])
    if not torch.isfinite(values).all():
        raise InputError(
            f"{metric!r} has no value for signals that were made to learn its error",
            got=f"{int((~torch.isfinite(values)).sum())} of {values.numel()} are NaN or infinite",
            fix="give longer signals; a call without .estimate needs none of these",
        )
    return values


def _warnings(
    metric: SignalMetric, strange: npt.NDArray[np.bool_], at_the_end: npt.NDArray[np.bool_]
) -> tuple[str, ...]:
    texts = {
        f"have a {metric.quantity} that {metric.simulated} of this length does not give: no interval": strange,
        f"have an interval that ends where {metric.simulated} does, at {metric.truths[0]:g} or "
        f"{metric.truths[-1]:g}": at_the_end & ~strange,
    }
    return counted(texts)
