"""Power-law tails: exponents by maximum likelihood, where the tail begins, and values drawn from them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError

FEWEST_IN_TAIL = 50
_MOST_CANDIDATES = 50
_FEWEST_DISTINCT = 3
_STEP = 1e-4
_MOST_STEPS = 60
_LARGEST_EXPONENT = 40.0
_TABLE = 2000


class TailFit(NamedTuple):
    """A power law fitted to all values from ``xmin`` on.

    Parameters
    ----------
    exponent : float
    xmin : float
    n_tail : int
        Number of values in the tail.
    distance : float
        Largest distance of the two distribution functions (Kolmogorov and Smirnov).
    """

    exponent: float
    xmin: float
    n_tail: int
    distance: float


def fit_tail(values: Floats, discrete: bool, xmin: float | None = None, fewest: int = FEWEST_IN_TAIL) -> TailFit:
    """Return the power law whose tail lies closest to the values.

    Where the tail begins is, without ``xmin``, the value at which the distance of Kolmogorov and Smirnov is smallest;
    of many distinct values, 50 are tried, spaced evenly in the logarithm of their rank.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_values,)
        Positive.
    discrete : bool
        Whether they are whole numbers.
    xmin : float, optional
    fewest : int
        Fewest values in a tail.

    Returns
    -------
    TailFit

    Raises
    ------
    InputError
        Fewer than ``fewest`` values, or fewer than three distinct ones, in every tail.

    Examples
    --------
    >>> values = np.random.default_rng(0).zipf(2.0, 5000).astype(float)
    >>> abs(fit_tail(values, discrete=True).exponent - 2) < 0.1
    True
    """
    distinct, counts = np.unique(values, return_counts=True)
    n_above = counts[::-1].cumsum()[::-1]
    mean_log = (counts * np.log(distinct))[::-1].cumsum()[::-1] / n_above
    starts = _candidates(distinct, n_above, xmin, fewest)
    borders = distinct[starts] if xmin is None else np.array([float(xmin)])
    found = exponents(mean_log[starts], borders, discrete)
    distances = [
        _distance(distinct[start:], n_above[start:], exponent, border, discrete)
        for start, exponent, border in zip(starts, found, borders, strict=True)
    ]
    best = int(np.argmin(distances))
    return TailFit(float(found[best]), float(borders[best]), int(n_above[starts[best]]), float(distances[best]))


def _candidates(distinct: Floats, n_above: npt.NDArray[np.int64], xmin: float | None, fewest: int) -> np.ndarray:
    """Return the indices of the distinct values at which a tail may begin."""
    start = 0 if xmin is None else int(np.searchsorted(distinct, xmin))
    enough = np.flatnonzero((n_above >= fewest) & (np.arange(distinct.size) <= distinct.size - _FEWEST_DISTINCT))
    enough = enough[enough >= start]
    if not enough.size:
        raise InputError(
            "too few values for a power law",
            expected=f"at least {fewest} values, {_FEWEST_DISTINCT} distinct ones among them, in the tail",
            got=f"{int(n_above[start]) if start < distinct.size else 0} values, {distinct.size - start} distinct ones"
            + ("" if xmin is None else f", from xmin = {xmin:g} on"),
        )
    if xmin is not None:
        return enough[:1]
    if enough.size > _MOST_CANDIDATES:
        ranks = np.unique(np.geomspace(1, enough.size, _MOST_CANDIDATES).astype(int))
        return enough[ranks - 1]
    return enough


def exponents(mean_log: Floats, xmin: Floats, discrete: bool) -> Floats:
    r"""Return the exponents of the highest likelihood, one for each tail.

    Continuous: :math:`1 + 1 / \langle \log(x / x_{min}) \rangle`. Discrete: where the derivative of
    :math:`\log \zeta(\alpha, x_{min}) + \alpha \langle \log x \rangle` is zero, by Newton's method.

    Examples
    --------
    >>> exponents(np.array([1.0]), np.array([1.0]), discrete=False).tolist()
    [2.0]
    """
    if not discrete:
        return 1 + 1 / (mean_log - np.log(xmin))
    exponent = np.clip(1 + 1 / (mean_log - np.log(xmin - 0.5)), 1.05, _LARGEST_EXPONENT)
    for _ in range(_MOST_STEPS):
        below, at, above = (_log_zeta(exponent + step, xmin) for step in (-_STEP, 0.0, _STEP))
        slope = (above - below) / (2 * _STEP) + mean_log
        curvature = np.maximum((above - 2 * at + below) / _STEP**2, 1e-6)
        # a step may not jump over the pole at 1, nor far beyond where the curvature is known
        new = np.clip(exponent - slope / curvature, 1 + (exponent - 1) / 3, np.minimum(exponent + 2, _LARGEST_EXPONENT))
        moved = np.abs(new - exponent).max()
        exponent = new
        if moved < 1e-9:
            break
    return exponent


def _log_zeta(exponent: Floats, first: Floats) -> Floats:
    from scipy.special import zeta

    with np.errstate(divide="ignore"):
        return np.log(np.maximum(zeta(exponent, first), np.finfo(float).tiny))


def survival(values: Floats, exponent: float, xmin: float, discrete: bool) -> Floats:
    r"""Return the probability of a value at least as large.

    Examples
    --------
    >>> survival(np.array([1.0, 2.0, 4.0]), 2.0, 1.0, discrete=False).tolist()
    [1.0, 0.5, 0.25]
    """
    if not discrete:
        return (values / xmin) ** (1 - exponent)
    from scipy.special import zeta

    return zeta(exponent, values) / zeta(exponent, xmin)


def log_likelihoods(values: Floats, exponent: float, xmin: float, discrete: bool) -> Floats:
    """Return the log-likelihood of each value.

    Examples
    --------
    >>> log_likelihoods(np.array([1.0, np.e]), 2.0, 1.0, discrete=False).tolist()
    [0.0, -2.0]
    """
    if discrete:
        norm = float(_log_zeta(np.array(exponent), np.array(xmin)))
    else:
        norm = (1 - exponent) * np.log(xmin) - np.log(exponent - 1)
    return -norm - exponent * np.log(values)


def standard_error(fit: TailFit, discrete: bool) -> float:
    """Return the standard error of an exponent whose tail begins at a known value.

    Examples
    --------
    >>> standard_error(TailFit(exponent=2.0, xmin=1.0, n_tail=100, distance=0.0), discrete=False)
    0.1
    """
    if not discrete:
        return float((fit.exponent - 1) / np.sqrt(fit.n_tail))
    at = np.array(fit.xmin)
    below, middle, above = (float(_log_zeta(np.array(fit.exponent + step), at)) for step in (-_STEP, 0.0, _STEP))
    return float(1 / np.sqrt(fit.n_tail * (above - 2 * middle + below) / _STEP**2))


def draw(exponent: float, xmin: float, n_values: int, discrete: bool, random: np.random.Generator) -> Floats:
    """Return values drawn from a power law.

    Discrete ones come from a table of the exact probabilities; beyond its end, where a power law of whole numbers is
    a rounded continuous one up to a share of 1e-7, from the latter.

    Examples
    --------
    >>> draw(2.5, 3.0, 4, True, np.random.default_rng(0)).tolist()
    [5.0, 3.0, 3.0, 3.0]
    """
    uniform = 1 - random.random(n_values)  # above 0, up to 1
    if not discrete:
        return xmin * uniform ** (-1 / (exponent - 1))
    table = survival(xmin + np.arange(_TABLE, dtype=np.float64), exponent, xmin, discrete=True)
    values = xmin + np.searchsorted(-table, -uniform, side="right") - 1.0
    far = uniform < table[-1]
    last = xmin + _TABLE - 1
    values[far] = np.floor((last - 0.5) * (uniform[far] / table[-1]) ** (-1 / (exponent - 1)) + 0.5)
    return np.minimum(values, 2.0**53)


def _distance(distinct: Floats, n_above: np.ndarray, exponent: float, xmin: float, discrete: bool) -> float:
    """Return the largest distance between the shares of values and of the power law at least as large."""
    observed = n_above / n_above[0]
    expected = survival(distinct, exponent, xmin, discrete)
    # shares jump at each value: what is compared is at least as large, and larger
    larger = np.append(observed[1:], 0.0)
    if discrete:
        expected_larger = expected - np.exp(log_likelihoods(distinct, exponent, xmin, discrete=True))
    else:
        expected_larger = expected
    distance = max(np.abs(observed - expected).max(), np.abs(larger - expected_larger).max())
    return float(distance) if np.isfinite(distance) else np.inf
