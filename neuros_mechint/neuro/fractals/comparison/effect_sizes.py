"""How far two groups of values are apart: standardised differences of means, dominance, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import times_drawn


class EffectSizes(NamedTuple):
    """Effect sizes of two groups, positive where the first is larger.

    Parameters
    ----------
    difference : numpy.ndarray
        Of the means.
    hedges_g : numpy.ndarray
        Cohen's d by the pooled standard deviation, times ``1 - 3 / (4 df - 1)``, without its bias in small groups.
    cliffs_delta : numpy.ndarray
        How much more often a value of the first exceeds one of the second than the other way round, -1 to 1;
        ``(delta + 1) / 2`` is the area under the ROC curve.
    """

    difference: Floats
    hedges_g: Floats
    cliffs_delta: Floats


def effect_sizes(first: npt.ArrayLike, second: npt.ArrayLike) -> EffectSizes:
    """Return effect sizes of two groups of values.

    Parameters
    ----------
    first, second : array of shape (n_values,)

    Returns
    -------
    EffectSizes

    References
    ----------
    Hedges 1981, Distribution Theory for Glass's Estimator of Effect Size, doi:10.3102/10769986006002107;
    Cliff 1993, Dominance statistics, doi:10.1037/0033-2909.114.3.494

    Examples
    --------
    >>> found = effect_sizes([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
    >>> round(float(found.hedges_g), 2), round(float(found.cliffs_delta), 2)
    (0.8, 0.56)
    """
    x, y = (np.asarray(values, dtype=float) for values in (first, second))
    once = np.ones((1, len(x))), np.ones((1, len(y)))
    return EffectSizes(*(values[0] for values in _weighted(x, y, *once)))


def effect_intervals(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: SeedLike = 0,
    groups: Sequence[str] = (),
) -> tuple[EffectSizes, EffectSizes]:
    """Return the percentile bootstrap interval of each effect size: both groups of values are drawn anew.

    Parameters
    ----------
    first, second : array of shape (n_values,)
    level : float
    n_resamples : int
    seed : int or numpy.random.Generator
    groups : sequence of str, optional
        One label for each value of ``second``: all values of a label are then drawn together, because they are
        more alike than others.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> low, high = effect_intervals(random.normal(size=50), random.normal(size=50))
    >>> bool(low.hedges_g < 0 < high.hedges_g)
    True
    """
    x, y = (np.asarray(values, dtype=float) for values in (first, second))
    rng = generator(seed)
    counts = times_drawn(len(x), n_resamples, rng)
    if groups:
        names, member = np.unique(np.asarray(groups), return_inverse=True)
        other = times_drawn(len(names), n_resamples, rng)[:, member]
    else:
        other = times_drawn(len(y), n_resamples, rng)
    drawn = _weighted(x, y, counts.astype(float), other.astype(float))
    tails = [(1 - level) / 2, (1 + level) / 2]
    ends = [np.nanquantile(values, tails) if np.isfinite(values).any() else np.full(2, np.nan) for values in drawn]
    return EffectSizes(*(end[0] for end in ends)), EffectSizes(*(end[1] for end in ends))


def _weighted(x: Floats, y: Floats, x_counts: Floats, y_counts: Floats) -> EffectSizes:
    """Return effect sizes of values that come as often as counted, ``(n_resamples, n_values)``."""
    centre = np.concatenate([x, y]).mean()
    n_x, n_y = x_counts.sum(1), y_counts.sum(1)
    means, squares = [], []
    for values, counts, n in ((x - centre, x_counts, n_x), (y - centre, y_counts, n_y)):
        mean = counts @ values / n
        means.append(mean)
        squares.append(np.maximum(counts @ values**2 - n * mean**2, 0))
    freedom = n_x + n_y - 2
    difference, deviation = means[0] - means[1], np.sqrt((squares[0] + squares[1]) / freedom)
    undefined = np.full(difference.shape, np.nan)
    small = 1e-12 * max(np.abs(x).max(), np.abs(y).max())
    g = np.divide(difference, deviation, out=undefined, where=deviation > small) * (1 - 3 / (4 * freedom - 1))
    dominance = np.sign(x[:, None] - y[None, :])
    delta = ((x_counts @ dominance) * y_counts).sum(1) / (n_x * n_y)
    return EffectSizes(difference, g, delta)
