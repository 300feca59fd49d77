"""How certain effects on a metric are: their intervals and tests over examples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.statistics.bootstrap import bootstrap_ci, interval_warning
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, adjust_p, p_of_draws
from neuros_mechint.core.statistics.sign_flips import sign_flip_p, smallest_sign_flip_p

ROUNDING = 1e-6
"""Of the largest metric: activations are in single precision."""
_PATTERNS_PER_TEST = 40  # so that p, multiplied by the number of tests, can still be half of the level


def with_statistics(
    per_sample: xr.DataArray, baseline: npt.NDArray[np.float64], correction: str, seed: int
) -> tuple[dict[str, xr.DataArray], tuple[str, ...]]:
    """Return mean, interval and p values of effects ``(..., sample)``, and what to warn of.

    To the test, changes within rounding of the metric are none: rounding has the same sign in every sample, and
    would pass for a small effect that is certain.
    """
    mean = per_sample.mean("sample")
    flat = per_sample.values.reshape(-1, per_sample.sizes["sample"])
    there = np.isfinite(flat).all(1)  # sites with fewer entries than others leave gaps
    low, high, p = (np.full(flat.shape[0], np.nan) for _ in range(3))
    warnings: tuple[str, ...] = ()
    if flat.shape[1] > 1:
        low[there], high[there] = bootstrap_ci(flat[there], seed=seed)
        size = max(np.abs(baseline).max(), np.abs(flat[there]).max(initial=0))
        p[there] = many_sign_flip_p(without_rounding(flat[there], size), seed)
        narrow = interval_warning(flat.shape[1], "expanded")
        warnings = (*([narrow] if narrow else []), *out_of_reach(int(there.sum()), flat.shape[1], correction))
    else:
        warnings = (
            "one value only: no interval and no test; give several inputs and a metric of one value per sample",
        )
    statistics = {"low": low, "high": high, "p": p, "p_adjusted": adjust_p(p, correction)}
    arrays = {name: mean.copy(data=values.reshape(mean.shape)) for name, values in statistics.items()}
    return {"effect": mean, **arrays}, warnings


def without_rounding(changes: npt.NDArray[np.float64], size: float) -> npt.NDArray[np.float64]:
    """Return changes of a metric whose largest value is ``size``, those within rounding of it as 0.

    Examples
    --------
    >>> without_rounding(np.array([0.1, -1e-8]), size=2.0).tolist()
    [0.1, 0.0]
    """
    return np.where(np.abs(changes) > ROUNDING * size, changes, 0.0)


def control_p(change: npt.NDArray[np.float64], controls: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ``(b + 1) / (n + 1)``, with ``b`` of ``n`` controls changing the metric at least as much.

    Parameters
    ----------
    change : numpy.ndarray of shape (...)
        Mean change by the intervention.
    controls : numpy.ndarray of shape (n_controls, ...)
        Mean change by each control.

    Examples
    --------
    >>> control_p(np.array(3.0), np.array([1.0, -1.0, 2.0])).item()
    0.25
    """
    # rounding must not make an intervention beat a control that does the same
    rounding = ROUNDING * max(np.nanmax(np.abs(change), initial=0), np.nanmax(np.abs(controls), initial=0))
    return p_of_draws(np.abs(change) - rounding, np.abs(controls))


def many_sign_flip_p(rows: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """Return p values of many tests; the small ones from more patterns of signs, to outlast a correction.

    Parameters
    ----------
    rows : numpy.ndarray of shape (n_tests, n_samples)
        Differences; what is NaN is left out, and a test of fewer than two has no p.
    seed : int

    Returns
    -------
    numpy.ndarray of shape (n_tests,)

    Examples
    --------
    >>> many_sign_flip_p(np.array([[1.0, 1.0, 1.0], [np.nan, np.nan, 1.0]]), seed=0).tolist()
    [0.25, nan]
    """
    p = np.full(len(rows), np.nan)
    there = np.isfinite(rows)
    patterns, n_patterns = np.unique(there, axis=0), _n_patterns(len(rows))
    for pattern in patterns[patterns.sum(1) > 1]:
        group = np.flatnonzero((there == pattern).all(1))
        p[group] = sign_flip_p(rows[group][:, pattern], seed=seed)
        promising = group[p[group] <= SIGNIFICANT]
        if promising.size:
            p[promising] = sign_flip_p(rows[promising][:, pattern], n_patterns, seed=seed)
    return p


def _n_patterns(n_tests: int) -> int:
    return max(2000, _PATTERNS_PER_TEST * n_tests)


def out_of_reach(n_tests: int, n_samples: int, correction: str = "holm") -> tuple[str, ...]:
    """Return a warning where no effect, however clear, could be significant.

    Examples
    --------
    >>> out_of_reach(2, 3)[0][:61]
    'with 3 samples and 2 tests no adjusted p can be below 0.5: gi'
    """
    smallest = smallest_sign_flip_p(n_samples, _n_patterns(n_tests)) * (n_tests if correction == "holm" else 1)
    if smallest <= SIGNIFICANT:
        return ()
    return (
        f"with {n_samples} samples and {n_tests} tests no adjusted p can be below {min(smallest, 1):.2g}: "
        "give more samples, or test fewer effects",
    )
