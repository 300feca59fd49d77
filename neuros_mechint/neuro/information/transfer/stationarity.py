"""Whether a recording is alike all along: what is estimated from one series takes for granted that it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats

_BLOCKS = 20
_FEWEST_IN_A_BLOCK = 5
_RARE, _UNUSUAL = 1e-3, 0.01


def changes_over_time(trials: Sequence[Floats]) -> list[str]:
    """Return what of a series is not alike all along, as texts; nothing where it is.

    Each trial is cut into twenty blocks. Their means, and the logarithms of their variances, are compared between the
    halves of the recording (Welch's test, p < .001); and blocks that follow each other must not be alike (p < .01),
    which they are where the series wanders more slowly than its length allows to tell. Trials too short to be cut are
    compared as wholes, the first half of them with the second.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, n_units)

    Returns
    -------
    list of str

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(1000, 1))
    >>> changes_over_time([noise]), changes_over_time([noise.cumsum(0)])
    ([], ['slow wandering'])
    """
    found = set[str]()
    blocks = [block for trial in trials for block in _cut(trial)]
    if len(blocks) < _BLOCKS:
        return []
    means = np.array([block.mean(0) for block in blocks])
    spreads = np.log(
        np.array([block.var(0) for block in blocks]) + 1e-12 * np.concatenate(trials).var(0) + np.finfo(float).tiny
    )
    for name, values in (("mean", means), ("variance", spreads)):
        if _halves_differ(values):
            found.add(name)
    if len(trials) == 1 and _remember(means):
        found.add("slow wandering")
    return sorted(found)


def _cut(trial: Floats) -> list[Floats]:
    return np.array_split(trial, _BLOCKS) if len(trial) >= _BLOCKS * _FEWEST_IN_A_BLOCK else [trial]


def _halves_differ(values: Floats) -> bool:
    from scipy.stats import ttest_ind

    half = len(values) // 2
    varying = np.ptp(values, axis=0) > 0
    if not varying.any():
        return False
    test: Any = ttest_ind(values[:half, varying], values[half:, varying], equal_var=False)
    return bool((test.pvalue < _RARE).any())


def _remember(means: Floats) -> bool:
    """Return whether blocks resemble those before them more than chance allows: the standard error is 1 / sqrt(n)."""
    from scipy.stats import norm

    deviations = means - means.mean(0)
    squares = (deviations**2).sum(0)
    products = (deviations[1:] * deviations[:-1]).sum(0)
    similar = np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0)
    return bool((similar * np.sqrt(len(means)) > norm.isf(_UNUSUAL)).any())
