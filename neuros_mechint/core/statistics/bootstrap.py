"""Bootstrap intervals of means over examples, and how far to trust them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.means import FEWEST_EXAMPLES, examples
from neuros_mechint.core.statistics.sign_flips import smallest_sign_flip_p

_MOST_TYPE_ONE_ERROR = 0.065
# Of 20,000 normal samples each, the share whose 95% interval left out the true mean (method card: resampling tests).
_TYPE_ONE_ERROR = {
    "percentile": {
        2: 0.496, 3: 0.248, 4: 0.199, 5: 0.164, 6: 0.141, 7: 0.126, 8: 0.113,
        10: 0.102, 12: 0.093, 16: 0.078, 20: 0.072, 25: 0.067, 30: 0.064, 50: 0.058,
    },
    "expanded": {2: 0.496, 3: 0.248, 4: 0.123, 5: 0.081, 6: 0.067, 7: 0.061, 8: 0.057, 12: 0.056, 20: 0.05},
    "t": {2: 0.05},
}  # fmt: skip


def bootstrap_ci(
    values: npt.ArrayLike, level: float = 0.95, n_resamples: int = 2000, seed: SeedLike = 0
) -> tuple[Floats, Floats]:
    """Return the expanded percentile bootstrap interval of the mean over the last axis.

    The same examples are drawn for every row, so that rows can be compared. Plain percentiles are too narrow for few
    examples (of six, they cover the mean in 83% of the cases instead of 95%); here they lie further out, as far as a t
    interval does beyond a normal one. To test something, `permutation_test` is exact; `interval_warning` says where
    intervals are still too narrow.

    Parameters
    ----------
    values : array of shape (..., n_samples)
        One value per example.
    level : float
        Coverage, between 0 and 1.
    n_resamples : int
        How often the examples are drawn anew.
    seed : int or numpy.random.Generator

    Returns
    -------
    low, high : numpy.ndarray of shape (...)

    Raises
    ------
    InputError
        Fewer than two examples, or values that are not finite.

    References
    ----------
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, doi:10.1201/9780429246593; Hesterberg 2015, What
    Teachers Should Know About the Bootstrap, doi:10.1080/00031305.2015.1089789

    Examples
    --------
    >>> low, high = bootstrap_ci([0.0, 1.0, 2.0, 3.0, 4.0])
    >>> bool(low < 2.0 < high)
    True
    """
    array = examples(values)
    level, n_resamples = coverage(level), whole("n_resamples", n_resamples)
    n_samples = array.shape[-1]
    # one matrix product gives all resampled means
    means = array @ times_drawn(n_samples, n_resamples, generator(seed)).T / n_samples
    return expanded_percentiles(means, level, n_samples)


def times_drawn(n_samples: int, n_resamples: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return how often each sample is drawn when all are drawn anew with replacement, ``(n_resamples, n_samples)``.

    Examples
    --------
    >>> times_drawn(4, 2, np.random.default_rng(0)).sum(1).tolist()
    [4, 4]
    """
    return random.multinomial(n_samples, np.full(n_samples, 1 / n_samples), size=n_resamples)


def expanded_percentiles(drawn: Floats, level: float, n_samples: int) -> tuple[Floats, Floats]:
    """Return percentiles of what was drawn anew, over the last axis, as far out as `bootstrap_ci` takes them.

    Examples
    --------
    >>> low, high = expanded_percentiles(np.arange(101.0), 0.9, n_samples=8)
    >>> bool(low < 5), bool(high > 95)
    (True, True)
    """
    from scipy.stats import norm, t

    reach = t.ppf((1 + level) / 2, n_samples - 1) * np.sqrt(n_samples / (n_samples - 1))
    low, high = np.quantile(drawn, [norm.cdf(-reach), norm.cdf(reach)], axis=-1)
    return low, high


def coverage(level: float) -> float:
    """Return how often an interval is to hold the truth.

    Raises
    ------
    OptionError
        Anything but a number between 0 and 1.

    Examples
    --------
    >>> coverage(0.95)
    0.95
    """
    if number("level", level, 0, 1) == 1:
        raise OptionError("level is no coverage", expected="a number between 0 and 1", got=level)
    return level


def interval_warning(n_samples: int, method: str = "percentile") -> str | None:
    """Return what to warn of where a 95% interval for a mean of so few samples is too narrow to be a test.

    Parameters
    ----------
    n_samples : int
        Subjects, sessions or examples that were drawn anew.
    method : {"percentile", "expanded", "t"}
        Plain percentiles of the bootstrap, those of `bootstrap_ci`, or the t interval.

    Returns
    -------
    str or None
        None where intervals of normal samples leave out the true mean in at most 6.5% of the cases. Skewed samples
        need more; see the method card on resampling tests.

    Raises
    ------
    OptionError
        Unknown method.
    InputError
        Fewer than two samples.

    Examples
    --------
    >>> interval_warning(40, "percentile") is None, interval_warning(8, "expanded") is None
    (True, True)
    >>> print(interval_warning(4, "percentile"))
    95% intervals from the percentile bootstrap of 4 samples leave out the true mean in about 20% of the cases (more
    where they are skewed), not 5%: to test, use permutation_test, which is exact (with 4 samples its p is at least
    0.12)
    """
    check_option("method", method, tuple(_TYPE_ONE_ERROR))
    if n_samples < FEWEST_EXAMPLES:
        raise InputError("one sample has no interval", expected="at least 2 samples", got=n_samples)
    measured = _TYPE_ONE_ERROR[method]
    sizes = np.array(list(measured))
    # close to a straight line in 1 / n
    error = float(np.interp(-1 / n_samples, -1 / sizes, list(measured.values())))
    if error <= _MOST_TYPE_ONE_ERROR:
        return None
    names = {"percentile": "the percentile bootstrap", "expanded": "the expanded percentile bootstrap"}
    return (
        f"95% intervals from {names[method]} of {n_samples} samples leave out the true mean in about "
        f"{100 * error:.2g}% of the cases (more where they are skewed), not 5%: to test, use permutation_test, "
        f"which is exact (with {n_samples} samples its p is at least {smallest_sign_flip_p(n_samples, 10_000):.2g})"
    )
