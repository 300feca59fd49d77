"""Sign-flip tests of means over examples: exact where there are few patterns of signs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.means import examples
from neuros_mechint.core.statistics.p_values import share_as_far

_PATTERNS_AT_ONCE = 2048


def sign_flip_p(values: npt.ArrayLike, n_resamples: int = 2000, seed: SeedLike = 0) -> Floats:
    """Return two-sided p values of the hypothesis that values are symmetric around zero, over the last axis.

    Every pattern of signs is tried where there are no more than ``n_resamples`` of them; otherwise that many are
    drawn, and p is ``(b + 1) / (n + 1)``, which is never zero.

    Parameters
    ----------
    values : array of shape (..., n_samples)
        One difference per example.
    n_resamples : int
        Most patterns of signs to try.
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (...)

    Raises
    ------
    InputError
        Fewer than two examples, or values that are not finite.

    References
    ----------
    Phipson and Smyth 2010, Permutation P-values should never be zero, doi:10.2202/1544-6115.1585

    Examples
    --------
    >>> sign_flip_p([1.0, 1.0, 1.0]).item()  # two of eight patterns are as far from zero
    0.25
    """
    array = examples(values)
    rows = array.reshape(-1, array.shape[-1])
    sums = (rows @ signs.T for signs in sign_patterns(array.shape[-1], n_resamples, seed))
    exact = _all_patterns(array.shape[-1], n_resamples)
    return share_as_far(rows.sum(-1), np.abs(rows).sum(-1), sums, exact)[0].reshape(array.shape[:-1])


def smallest_sign_flip_p(n_samples: int, n_resamples: int = 2000) -> float:
    """Return the smallest p that `sign_flip_p` can give for so many examples.

    Examples
    --------
    >>> smallest_sign_flip_p(3), smallest_sign_flip_p(30, n_resamples=999)
    (0.25, 0.001)
    """
    return 2 / 2**n_samples if _all_patterns(n_samples, n_resamples) else 1 / (n_resamples + 1)


def _all_patterns(n_samples: int, n_resamples: int) -> bool:
    return n_samples < 63 and 2**n_samples <= n_resamples


def sign_patterns(n_samples: int, n_resamples: int, seed: SeedLike) -> Iterator[Floats]:
    """Yield patterns of signs ``(n, n_samples)``, a few thousand at a time: all there are, or so many drawn ones.

    All there are begin with the one that changes nothing, which need not be among drawn ones.

    Examples
    --------
    >>> next(sign_patterns(2, 10, seed=0)).tolist()
    [[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
    """
    exact, random = _all_patterns(n_samples, n_resamples), generator(seed)
    total = 2**n_samples if exact else n_resamples
    for first in range(0, total, _PATTERNS_AT_ONCE):
        numbers = np.arange(first, min(first + _PATTERNS_AT_ONCE, total))[:, None]
        negative = numbers >> np.arange(n_samples) & 1 if exact else random.integers(2, size=(len(numbers), n_samples))
        yield np.where(negative, -1.0, 1.0)
