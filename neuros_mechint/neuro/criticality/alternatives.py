"""What else could have made a tail: exponential, log-normal, power law with a cut-off."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.optional import soft_import
from neuros_mechint.neuro.criticality.tails import TailFit, log_likelihoods

ALTERNATIVES = ("exponential", "lognormal", "truncated_power_law")
_FIRST_TERMS = 100
_NODES = 160
_NEGLIGIBLE = 40.0


class Comparison(NamedTuple):
    """A power law against another distribution of the same tail.

    Parameters
    ----------
    ratio : float
        Log-likelihood of the power law less that of the alternative, in nats: below 0 the alternative is better.
    p : float
        How easily a ratio that far from 0 comes about by chance.
    """

    ratio: float
    p: float


def compare(values: Floats, fit: TailFit, discrete: bool) -> dict[str, Comparison]:
    """Return how a power law compares with each of `ALTERNATIVES` in likelihood.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_values,)
        All of them; those below ``fit.xmin`` play no part.
    fit : TailFit
    discrete : bool

    Returns
    -------
    dict of str to Comparison
        Vuong's test; for the cut-off, of which a power law is the special case without, the likelihood-ratio test.

    Raises
    ------
    MissingDependencyError
        The library powerlaw is not installed.

    Examples
    --------
    >>> values = np.random.default_rng(0).geometric(0.1, 2000).astype(float)
    >>> found = compare(values, TailFit(exponent=1.42, xmin=1.0, n_tail=2000, distance=0.3), discrete=True)
    >>> found["exponential"].ratio < 0, found["exponential"].p < 0.001
    (True, True)
    """
    powerlaw = soft_import("powerlaw", "comparisons of power laws with other distributions", "criticality")
    tail = np.sort(values[values >= fit.xmin])
    found = {}
    for name in ALTERNATIVES:
        own = log_likelihoods(tail, fit.exponent, fit.xmin, discrete)
        if name == "exponential":
            other = _exponential(tail, fit.xmin, discrete)
        elif name == "lognormal":
            other = _lognormal(powerlaw, tail, fit.xmin, discrete)
        else:
            other = _with_cut_off(tail, fit, discrete)
        nested = name == "truncated_power_law"
        if nested and other.sum() < own.sum():  # without a cut-off it fits best
            other = own.copy()
        if not np.isfinite(other).all():  # a search that ended nowhere says nothing
            found[name] = Comparison(0.0, 1.0)
            continue
        ratio, p = powerlaw.loglikelihood_ratio(own, other, nested=nested)
        found[name] = Comparison(float(ratio), float(p) if np.isfinite(p) else 1.0)
    return found


def _exponential(tail: Floats, xmin: float, discrete: bool) -> Floats:
    """Return log-likelihoods under the best exponential, whose rate is known in closed form.

    powerlaw searches for it, and cuts likelihoods off at the smallest number a computer knows: the longest avalanches
    of a heavy tail would count too much for the exponential.
    """
    beyond = tail - xmin
    if discrete:
        rate = np.log1p(1 / beyond.mean())
        return np.log(-np.expm1(-rate)) - rate * beyond
    rate = 1 / beyond.mean()
    return np.log(rate) - rate * beyond


def _lognormal(powerlaw: Any, tail: Floats, xmin: float, discrete: bool) -> Floats:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # about its search; a fit that failed has a low likelihood
        distribution = powerlaw.Lognormal(data=tail, xmin=xmin, discrete=discrete, verbose=0)
        return np.asarray(distribution.loglikelihoods(tail), dtype=np.float64)


def _with_cut_off(tail: Floats, fit: TailFit, discrete: bool) -> Floats:
    r"""Return log-likelihoods under the best :math:`x^{-\alpha} e^{-\lambda x}`, whose sum stays in range.

    powerlaw's own divides by zero on some tails, takes seconds, and its search may stop far from the best.
    """
    from scipy.optimize import minimize

    beyond, logs = tail - fit.xmin, np.log(tail)

    def cost(parameters: Floats) -> float:
        exponent, rate = parameters[0], np.exp(parameters[1])
        return _log_sum(exponent, rate, fit.xmin, discrete) + exponent * logs.mean() + rate * beyond.mean()

    starts = [np.array([fit.exponent * share, np.log(1 / beyond.mean() * share)]) for share in (1.0, 0.5, 0.1)]
    bounds = [(0.0, None), (None, None)]
    best = minimize(cost, min(starts, key=cost), method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-6}).x
    rate = np.exp(best[1])
    return -_log_sum(best[0], rate, fit.xmin, discrete) - best[0] * logs - rate * beyond


def _log_sum(exponent: float, rate: float, xmin: float, discrete: bool) -> float:
    r"""Return the logarithm of the sum, or integral, of :math:`x^{-\alpha} e^{-\lambda (x - x_{min})}` from xmin on."""
    first = xmin + np.arange(_FIRST_TERMS) if discrete else np.empty(0)
    begin = xmin + _FIRST_TERMS if discrete else xmin
    # the rest is an integral over y = log(x / begin), up to where nothing is left
    rate = max(rate, 1e-300)
    end = np.log1p(_NEGLIGIBLE / (rate * begin))
    if exponent > 1:
        end = min(end, _NEGLIGIBLE / (exponent - 1))
    nodes, weights = _legendre(_NODES)
    y = end * (nodes + 1) / 2
    logs = np.log(weights * end / 2) + (1 - exponent) * (y + np.log(begin)) - rate * (begin * np.exp(y) - xmin)
    terms = [logs]
    if discrete:
        terms.append(-exponent * np.log(first) - rate * (first - xmin))
        # Euler and Maclaurin: half of the first value, and a twelfth of the slope there
        correction = 0.5 + (exponent / begin + rate) / 12
        terms.append(np.array([np.log(correction) - exponent * np.log(begin) - rate * (begin - xmin)]))
    return float(np.logaddexp.reduce(np.concatenate(terms)))


@lru_cache(maxsize=1)
def _legendre(n_nodes: int) -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(n_nodes)
