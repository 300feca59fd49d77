"""The sampling error of an estimator without a formula: how far its values on separate parts of the data lie apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neuros_mechint.core.arrays import Floats

_PARTS = 10
_FEWEST_IN_A_PART = 10
HALF_PER_NEIGHBOR = 10
"""``half`` of information between two variables, for each neighbour. Measured with 1, 3 and 10 neighbours, 1 to 3
features a side and correlations of 0, .6 and .9: of three neighbours and one feature at .9, the variance times the
number of samples is .33, .74, .99, 1.2 and 1.2 for 10, 20, 50, 100 and 1,000 of them."""


def split_error(
    estimator: Callable[..., float],
    variables: tuple[np.ndarray, ...],
    random: np.random.Generator | None,
    fewest: int = _FEWEST_IN_A_PART,
    half: float = 0.0,
) -> tuple[float, int]:
    """Return the standard error of an estimate, and the degrees of freedom of that error.

    The data are dealt into ten parts (in time: cut into ten stretches). The variance of an estimate falls as one over
    the number of samples, so that of all is a tenth of that of the parts. A jackknife would be wrong here:
    neighbourhoods change little where few samples are left out (and repeat where samples are drawn twice).

    Parameters
    ----------
    estimator : callable
        Takes the variables, returns one number.
    variables : tuple of numpy.ndarray of shape (n_samples, ...)
    random : numpy.random.Generator or None
        None for samples in time, which remember each other: parts are stretches then.
    fewest : int
        Samples in a part; there are fewer parts where that asks for it.
    half : float
        The variance of nearest neighbours falls more slowly than one over the number of samples: times that number it
        grows to what it tends to, and has come to a half at so many samples. Parts alone would tell too little.

    References
    ----------
    Holmes and Nemenman 2019, Estimation of mutual information for real-valued data with error bars and controlled
    bias, doi:10.1103/PhysRevE.100.022404

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=10_000)
    >>> error, degrees = split_error(np.mean, (values,), np.random.default_rng(1))
    >>> round(error, 3), degrees
    (0.01, 9)
    """
    n_samples = len(variables[0])
    n_parts = int(np.clip(n_samples // fewest, 2, _PARTS))
    order = np.arange(n_samples) if random is None else random.permutation(n_samples)
    parts = np.array_split(order, n_parts)
    found: Floats = np.array([estimator(*(variable[rows] for variable in variables)) for rows in parts])
    in_a_part = n_samples / n_parts
    growth = (1 + half / in_a_part) / (1 + half / n_samples)
    return float(np.sqrt(found.var(ddof=1) / n_parts * growth)), n_parts - 1
