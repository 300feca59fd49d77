"""Standard errors of what is computed from groups of data, and how far intervals reach that are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats


def t_reach(error: Any, degrees: npt.ArrayLike, level: float) -> Any:
    """Return how far a t interval reaches on either side of an estimate.

    Parameters
    ----------
    error : float, or an array or tensor of any shape
        Standard error of the estimate.
    degrees : float or array
        Of freedom of the standard error, infinite where it is known exactly: then the interval is a normal one.
    level : float
        Coverage, between 0 and 1.

    Returns
    -------
    float, or an array or tensor
        In the units of the error.

    Examples
    --------
    >>> round(t_reach(1.0, 4, 0.95), 2), round(t_reach(1.0, np.inf, 0.95), 2)
    (2.78, 1.96)
    """
    from scipy.stats import t

    reach = t.ppf((1 + level) / 2, degrees)
    return (reach.item() if reach.ndim == 0 else reach) * error


def jackknife_error(without: npt.ArrayLike, axis: int = 0) -> Floats:
    """Return the standard error of an estimate from its values without each group of the data in turn.

    Leaving out one of ``g`` groups changes an estimate by about ``1 / (g - 1)`` of what that group adds by chance,
    so the spread of these values is much smaller than the error: it is scaled up by ``(g - 1) / sqrt(g)``.

    Parameters
    ----------
    without : array of shape (..., n_groups, ...)
        The estimate without each group; of groups that are all of one size.
    axis : int
        Of the groups.

    Returns
    -------
    numpy.ndarray of shape (...)
        NaN where a value is not finite.

    References
    ----------
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, doi:10.1201/9780429246593

    Examples
    --------
    >>> values = np.array([1.0, 2.0, 4.0, 7.0])  # of a mean it is the usual error
    >>> without = [np.delete(values, left_out).mean() for left_out in range(4)]
    >>> bool(np.isclose(jackknife_error(without), values.std(ddof=1) / 2))
    True
    """
    values = np.asarray(without, dtype=float)
    n_groups = values.shape[axis]
    finite = np.isfinite(values).all(axis)
    defined = np.where(np.isfinite(values), values, 0.0)
    deviations = defined - defined.mean(axis, keepdims=True)
    return np.where(finite, np.sqrt((n_groups - 1) / n_groups * (deviations**2).sum(axis)), np.nan)
