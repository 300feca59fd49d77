"""From the growth of tangents to exponents: how sure they are, and what may be said about the motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.dynamics.lyapunov.tangent_growth import Growth

N_BLOCKS = 100
N_SEGMENTS = 20
FEWEST_TRAJECTORIES = 8
"""Scatter over fewer of them says too little about their mean."""
_UNLIKELY = 0.001
_ROUNDING = 4.0
# Sums over five times as long vary five times as much in a random walk, no more at all on a cycle.
_BOUNDED = 2.0
# More singular steps than so many times rounding (of all steps) are no accident of rounding.
_ACCIDENTS = 1e4
# The tangent grows by this many powers of e in the second half: polynomial growth of any common order does less.
_FEWEST_E_FOLDS = 5.0
_OUTGROWN = 10.0


@dataclass(frozen=True)
class Exponents:
    """Exponents with their errors; everything that is per exponent is in descending order of the mean.

    Parameters
    ----------
    mean, sem, sem_segments, sem_trajectories, low, high : numpy.ndarray of shape (exponent,)
        NaN where it is not known; exponents of minus infinity have no error.
    by_trajectory : numpy.ndarray of shape (trajectory, exponent)
    segments : numpy.ndarray of shape (segment, trajectory, exponent)
    running : numpy.ndarray of shape (block, exponent)
        The mean of everything up to the end of each block.
    time : numpy.ndarray of shape (block,)
    bounded : numpy.ndarray of shape (exponent,)
        Whether the error by time is told by how far sums of the growth stray, as on a cycle.
    n_accidents : int
        Singular steps that were put down to rounding.
    """

    mean: Floats
    sem: Floats
    sem_segments: Floats
    sem_trajectories: Floats
    low: Floats
    high: Floats
    by_trajectory: Floats
    segments: Floats
    running: Floats
    time: Floats
    bounded: npt.NDArray[np.bool_]
    n_accidents: int

    @property
    def sign(self) -> npt.NDArray[np.int64]:
        """1 or -1 where the interval excludes zero, else 0."""
        certain = np.where(self.low > 0, 1, np.where(self.high < 0, -1, 0))
        return np.where(np.isneginf(self.mean), -1, certain)

    @property
    def counted(self) -> Floats:
        """The exponents with 0 for those that cannot be told from it."""
        return np.where(self.sign == 0, 0.0, self.mean)


def exponents_of(growth: Growth, dt: float, rounding: float, level: float) -> Exponents:
    """Return exponents per unit of time with their errors.

    At least 8 trajectories that go their own ways give the error by their scatter. Where they are fewer, it comes from
    the scatter of segments, twentieths of the time, averaged over trajectories first, or, on a cycle, from how far sums
    of the growth stray (see `_scatter_over_time`); where they fluctuate together, so that they are no independent
    samples, from the larger of the two.

    Parameters
    ----------
    growth : Growth
    dt : float
        Time of a step.
    rounding : float
        Relative rounding error of the numbers, per step.
    level : float
        Coverage of the intervals.
    """
    steps = growth.block_steps
    total = growth.log_stretch.sum(0) / (steps.sum() * dt)
    infinite = growth.n_singular > _ACCIDENTS * rounding * steps.sum()
    by_trajectory = np.where(infinite, -np.inf, total)
    order = np.argsort(-by_trajectory.mean(0), kind="stable")
    by_trajectory, infinite = by_trajectory[:, order], infinite[:, order]
    log_stretch = growth.log_stretch[..., order]
    lost = infinite.any(0)
    segment_steps = steps.reshape(N_SEGMENTS, -1).sum(1)
    segments = log_stretch.reshape(N_SEGMENTS, -1, *log_stretch.shape[1:]).sum(1) / (segment_steps * dt)[:, None, None]
    running = log_stretch.mean(1).cumsum(0) / (steps.cumsum() * dt)[:, None]
    floor = _ROUNDING * rounding / dt
    over_time, bounded = _scatter_over_time(log_stretch.mean(1), segments.mean(1), (steps * dt).astype(np.float64))
    over_trajectories = _scatter_over_trajectories(np.where(infinite, 0, by_trajectory))
    by_segments = np.isnan(over_trajectories) | (_together(segments) & (over_time > over_trajectories))
    sem = np.maximum(np.where(by_segments, over_time, over_trajectories), floor)
    freedom = np.where(by_segments, N_SEGMENTS, len(by_trajectory)) - 1
    reach = t_reach(sem, freedom, level)
    mean = by_trajectory.mean(0)
    for values in (over_time, over_trajectories, sem, reach):
        values[lost] = np.nan
    running[:, lost] = -np.inf
    low, high = (np.where(lost, -np.inf, np.where(lost, 0, mean) + side * reach) for side in (-1, 1))
    accidents = int(growth.n_singular[:, order][~infinite].sum())
    return Exponents(
        mean, sem, over_time, over_trajectories, low, high,
        by_trajectory, segments, running, steps.cumsum() * dt, bounded & by_segments, accidents,
    )  # fmt: skip


def _scatter_over_time(
    log_stretch: Floats, segments: Floats, durations: Floats
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    r"""Return the standard error by time, and whether sums are bounded, ``(exponent,)`` each.

    Sums of a growth that fluctuates at random walk away from their trend, and segments are its independent samples. On
    a cycle sums stay within bounds: what one segment gains the next loses, and the error falls as 1 / T, not its root.
    Where segments vary hardly more than the blocks within them, the error is :math:`\sqrt{6 \overline{R^2}} / T`, by
    deviations R of the sums from their trend. Of a sine of amplitude a this is 1.7 a / T, and the interval twice as
    wide; from any phase to any other are 2 a at most. Of a random walk, whose R is a Brownian bridge, it would be the
    same error as that of segments, with more chance in it.
    """
    rates = log_stretch / durations[:, None]
    # variances of sums, as multiples of those of a block
    longer = (len(rates) / len(segments)) ** 2 * segments.var(0, ddof=1)
    bounded = longer < _BOUNDED * rates.var(0, ddof=1)
    by_segments = segments.std(0, ddof=1) / len(segments) ** 0.5
    time = durations.cumsum()[:, None]
    sums = log_stretch.cumsum(0)
    strays = sums - sums[-1] * time / time[-1]
    by_bounds = (6 * (strays**2).mean(0)) ** 0.5 / time[-1]
    bounded &= by_bounds < by_segments
    return np.where(bounded, by_bounds, by_segments), bounded


def _scatter_over_trajectories(values: Floats) -> Floats:
    n_trajectories = len(values)
    if n_trajectories < FEWEST_TRAJECTORIES:
        return np.full(values.shape[1], np.nan)
    return values.std(0, ddof=1) / n_trajectories**0.5


def _together(segments: Floats) -> npt.NDArray[np.bool_]:
    """Return for each exponent whether trajectories fluctuate together, more than independent ones would."""
    from scipy.stats import f

    n_trajectories = segments.shape[1]
    alone = segments.var(0, ddof=1).mean(0) / n_trajectories
    limit = f.ppf(1 - _UNLIKELY, N_SEGMENTS - 1, n_trajectories * (N_SEGMENTS - 1))
    return segments.mean(1).var(0, ddof=1) > limit * alone


def unsettled(found: Exponents) -> npt.NDArray[np.bool_]:
    """Return for each exponent whether it changes in time by more than chance.

    Told by a trend over segments; and where trajectories go their own ways also by the difference between the halves
    of each of them.
    """
    from scipy.stats import spearmanr

    half, n_trajectories, n_exponents = N_SEGMENTS // 2, found.segments.shape[1], found.mean.size
    means = found.segments.mean(1)
    changes = (found.segments[half:] - found.segments[:half]).mean(0)
    noticeable = np.abs(changes.mean(0)) > np.maximum(1e-3 * found.sem, 1e-9 * np.abs(found.segments).max())
    possible = noticeable & np.isfinite(found.mean)
    unlikely = _UNLIKELY / n_exponents
    moving = np.zeros(n_exponents, dtype=bool)
    for index in np.flatnonzero(possible):
        trend: Any = spearmanr(np.arange(N_SEGMENTS), means[:, index])
        moving[index] = trend.pvalue < unlikely
    if n_trajectories >= FEWEST_TRAJECTORIES:
        limit = t_reach(changes.std(0, ddof=1) / n_trajectories**0.5, n_trajectories - 1, 1 - unlikely)
        moving |= possible & ~_together(found.segments) & (np.abs(changes.mean(0)) > limit)
    return moving


def scattered(found: Exponents) -> npt.NDArray[np.bool_]:
    """Return for each exponent whether trajectories differ by more than their own segments explain."""
    from scipy.stats import f

    n_trajectories = found.by_trajectory.shape[0]
    known = np.isfinite(found.by_trajectory).all(0)
    if n_trajectories < 2:
        return np.zeros_like(known)
    between = N_SEGMENTS * found.segments.mean(0).var(0, ddof=1)
    within = found.segments.var(0, ddof=1).mean(0)
    freedom = n_trajectories - 1, n_trajectories * (N_SEGMENTS - 1)
    limit = f.ppf(1 - _UNLIKELY / known.size, *freedom)
    negligible = (1e-9 * np.abs(found.segments).max()) ** 2
    return known & (between > limit * within + negligible)


def memory_of_segments(found: Exponents) -> float | None:
    """Return the correlation of neighbouring segments of the largest exponent where it is clearly positive."""
    deviations = found.segments[..., 0] - found.segments[..., 0].mean(0)
    power = (deviations**2).mean()
    if np.isneginf(found.mean[0]) or power <= (1e-9 * np.abs(found.segments).max()) ** 2:
        return None
    correlation = float((deviations[1:] * deviations[:-1]).mean() / power)
    error = 1 / (deviations[1:].size) ** 0.5
    return correlation if correlation > max(0.2, 3 * error) else None


def kaplan_yorke_dimension(exponents: Floats, n_states: int) -> float:
    r"""Return :math:`j + \sum_{i \le j} \lambda_i / |\lambda_{j+1}|`, j as large as the sum is not negative.

    Parameters
    ----------
    exponents : numpy.ndarray of shape (n_exponents,)
        In descending order; 0 for those that cannot be told from it.
    n_states : int
        With fewer exponents than these, and a sum that is never negative, the dimension is not known: NaN.

    Examples
    --------
    >>> round(kaplan_yorke_dimension(np.array([0.9056, 0.0, -14.5723]), 3), 3)
    2.062
    >>> kaplan_yorke_dimension(np.array([0.0, -1.0]), 2), kaplan_yorke_dimension(np.array([-0.5]), 3)
    (1.0, 0.0)
    >>> kaplan_yorke_dimension(np.array([0.9, 0.0]), 3)
    nan
    """
    sums = exponents.cumsum()
    negative = np.flatnonzero(sums < 0)
    if not negative.size:
        return float(n_states) if len(exponents) == n_states else float("nan")
    j = int(negative[0])
    kept = float(sums[j - 1]) if j else 0.0
    return j + kept / float(-exponents[j])


def kaplan_yorke_sem(found: Exponents, n_states: int) -> float:
    """Return the standard error of the dimension, by leaving out each segment in turn."""
    means = found.segments.mean(1)
    kept = (means.sum(0) - means) / (N_SEGMENTS - 1)
    kept = np.where(np.isneginf(found.mean), -np.inf, np.where(found.sign == 0, 0.0, kept))
    dimensions = np.array([kaplan_yorke_dimension(-np.sort(-row), n_states) for row in kept])
    return float(np.sqrt((N_SEGMENTS - 1) * dimensions.var()))


def entropy(found: Exponents, n_states: int) -> tuple[float, float]:
    """Return the sum of the positive exponents and its standard error, NaN where more of them may be missing.

    The error is that of the sum itself, by segments and by trajectories; the larger of the two.
    """
    positive = found.sign > 0
    if len(found.mean) < n_states and positive.all():
        return float("nan"), float("nan")
    if not positive.any():
        return 0.0, 0.0
    sums = found.segments[..., positive].sum(-1)
    over_time = sums.mean(1).std(ddof=1) / N_SEGMENTS**0.5
    over_trajectories = _scatter_over_trajectories(found.by_trajectory[:, positive].sum(1, keepdims=True))[0]
    return float(found.mean[positive].sum()), float(np.fmax(over_time, over_trajectories))


def verdict(found: Exponents, growth: Growth, settled: bool, level: float) -> str:
    """Return what may be said about the motion: a key of `WORDS` in the results.

    "chaotic" needs a largest exponent above zero by its interval; tangents that go on growing in the second half, by
    more than polynomials do; and a motion that neither rests nor outgrows where it was.
    """
    if found.sign[0] <= 0:
        return "stable" if found.sign[0] < 0 else "neutral"
    if not growth.moves.any():
        return "at_rest"
    n = N_SEGMENTS // 2
    late = found.segments[n:, :, 0].mean(1)
    low = late.mean() - t_reach(late.std(ddof=1) / n**0.5, n - 1, level)
    if not settled or low <= 0 or late.mean() * found.time[-1] / 2 < _FEWEST_E_FOLDS:
        return "undecided"
    half = len(growth.size) // 2
    if growth.size[half:].max() > _OUTGROWN * max(growth.size[:half].max(), np.finfo(float).tiny):
        return "unbounded"
    return "chaotic"
