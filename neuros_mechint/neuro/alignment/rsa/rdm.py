"""Representational dissimilarity matrices of patterns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.neuro.alignment.rsa.crossnobis import crossnobis, from_products
from neuros_mechint.neuro.alignment.rsa.noise import Weigh, noise_weighting
from neuros_mechint.neuro.alignment.rsa.observations import Observations, observations
from neuros_mechint.neuro.alignment.rsa.stack import rdm_array, vectors
from neuros_mechint.neuro.alignment.samples import Labels

MEASURES = {
    "correlation": "correlation",
    "euclidean": "squared euclidean",
    "mahalanobis": "squared mahalanobis",
    "crossnobis": "crossnobis",
    "poisson": "poisson",
}
"""Methods of `compute_rdm`, and what rsatoolbox calls the dissimilarity."""

_PRIOR_RATE = 1.0
_PRIOR_WEIGHT = 0.1
"""Every count is moved towards this rate with this weight, so that silence has a logarithm; as in rsatoolbox."""


def compute_rdm(
    x: Any,
    method: str = "correlation",
    *,
    conditions: Any = None,
    folds: Any = None,
    noise: Any = None,
    residuals: Any = None,
) -> Any:
    """Return how dissimilar the patterns of all pairs of conditions are.

    Distances are squared and divided by the number of channels. Channels that are constant take part: they add nothing
    to a distance, and one value to every pattern's mean where patterns are correlated.

    Parameters
    ----------
    x : array_like, torch.Tensor, xarray.DataArray or Recording
        ``(n_observations, n_channels)``, see `samples`. Of labelled data, ``folds`` may name a second axis, such as
        the ``repetition`` of `Recording.repetitions`.
    method : {"correlation", "euclidean", "mahalanobis", "crossnobis", "poisson"}
        ``correlation``: 1 - Pearson correlation over channels. ``euclidean``: squared. ``mahalanobis``: the same in
        units of the noise. ``crossnobis``: cross-validated over folds, so that its expectation is the true distance
        (0 for equal patterns, so that estimates may be negative). ``poisson``: symmetrised Kullback-Leibler divergence
        of counts or rates, in nats, each moved towards 1 with a weight of 0.1.
    conditions : str or sequence, optional
        What was shown at each observation: ``(n_observations,)`` labels, or the name of a coordinate. Observations of
        one condition are averaged; conditions are in order of appearance. Without it each observation is a condition
        of its own, except for crossnobis: there it is the labels of the axis of observations.
    folds : str or sequence, optional
        For crossnobis, which independent measurement (run, session, repetition) each observation belongs to:
        ``(n_observations,)`` labels, or the name of a coordinate or axis. Every condition must be in every fold; within
        a fold its observations are averaged, and all folds count the same.
    noise : array_like or torch.Tensor of shape (n_channels, n_channels), optional
        Precision (inverse covariance) of the noise over channels, for mahalanobis and crossnobis.
    residuals : array_like or torch.Tensor of shape (n_residuals, n_channels), optional
        Or what the responses leave unexplained, from which the precision is estimated: with shrinkage to the diagonal,
        as in rsatoolbox, and without forming a matrix of channels where these are more than residuals. Without
        either, crossnobis counts all channels the same.

    Returns
    -------
    numpy.ndarray, torch.Tensor or xarray.DataArray of shape (n_conditions, n_conditions)
        Of the kind and floating dtype of ``x``; labelled where there are labels.

    Raises
    ------
    InputError
        Values that are not finite; fewer than two conditions; patterns that are constant (correlation) or negative
        (poisson); labels that are repeated without ``conditions``; a fold alone, or one that lacks a condition; a
        precision that is not symmetric, or settings that the method has no use for.
    OptionError
        Unknown method.

    References
    ----------
    Kriegeskorte, Mur and Bandettini 2008, doi:10.3389/neuro.06.004.2008; Walther et al. 2016, Reliability of
    dissimilarity measures for multi-voxel pattern analysis, doi:10.1016/j.neuroimage.2015.12.012; Schäfer and Strimmer
    2005, shrinkage of covariances, doi:10.2202/1544-6115.1175

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> nm.compute_rdm([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]], method="euclidean").tolist()
    [[0.0, 2.0, 2.0], [2.0, 0.0, 4.0], [2.0, 4.0, 0.0]]
    >>> patterns = np.random.default_rng(0).normal(size=(8, 50))
    >>> rdm = nm.compute_rdm(patterns, "crossnobis", conditions=list("abcdabcd"), folds=[1] * 4 + [2] * 4)
    >>> rdm.dims, rdm.condition.values.tolist()
    (('condition', 'other_condition'), ['a', 'b', 'c', 'd'])
    """
    check_option("method", method, MEASURES)
    _check_needed(method, folds, noise, residuals)
    seen = observations(x, conditions, folds, repeated=method == "crossnobis")
    n_channels = seen.values.shape[1]
    weigh = noise_weighting(noise, residuals, n_channels)
    if method == "crossnobis":
        pairs, labels = crossnobis(seen, weigh)
    else:
        patterns, labels = _averaged(seen)
        pairs = _DISTANCES[method](patterns, labels, weigh)
    rdm = rdm_array(pairs, labels, like=x)
    if isinstance(rdm, xr.DataArray):
        rdm.attrs = {"long_name": f"dissimilarity, {method}", "dissimilarity_measure": MEASURES[method]}
    return rdm


def _check_needed(method: str, folds: Any, noise: Any, residuals: Any) -> None:
    """Raise `InputError` where a setting is missing, or given to a method that would ignore it."""
    if (folds is not None) != (method == "crossnobis"):
        raise InputError(
            "crossnobis needs folds" if folds is None else f"{method} distances know no folds",
            expected="a label for each observation: its run, session or repetition" if folds is None else "no folds",
            fix="pass folds=..., or use mahalanobis, which is biased" if folds is None else "use method='crossnobis'",
        )
    given = (noise is not None) + (residuals is not None)
    if method == "mahalanobis" and not given:
        raise InputError(
            "mahalanobis distances need the noise",
            expected="noise=precision, or residuals=(n_residuals, n_channels)",
            fix="without noise they are euclidean: use method='euclidean'",
        )
    if given > (method in ("mahalanobis", "crossnobis")):
        raise InputError(
            "noise and residuals were both given" if given > 1 else f"{method} distances do not know noise",
            expected="one of noise and residuals, for mahalanobis or crossnobis",
        )


def _averaged(seen: Observations) -> tuple[Floats, Labels | None]:
    """Return the mean pattern of each condition and their labels."""
    if seen.conditions is None:
        _check_several(len(seen.values))
        return seen.values, None
    labels, codes = seen.coded()
    _check_several(len(labels))
    if len(labels) == len(codes):
        return seen.values, labels
    sums = np.zeros((len(labels), seen.values.shape[1]))
    np.add.at(sums, codes, seen.values)
    return sums / np.bincount(codes)[:, None], labels


def _check_several(n_conditions: int) -> None:
    if n_conditions < 2:
        raise InputError("one condition has no dissimilarity", expected="at least two conditions", got=n_conditions)


def _correlation(patterns: Floats, labels: Labels | None, weigh: Weigh) -> Floats:
    low, high = patterns.min(1), patterns.max(1)
    # what is left of a constant after its mean is taken out is rounding, and has a correlation nonetheless
    constant = np.flatnonzero(high - low <= 8 * np.finfo(float).eps * np.maximum(np.abs(low), np.abs(high)))
    if constant.size:
        names = constant if labels is None else [labels[place] for place in constant]
        raise InputError(
            "patterns are constant over channels, so that they correlate with nothing",
            expected="at least two different values in each pattern",
            got=f"conditions {', '.join(map(repr, list(map(_plain, names[:5]))))}"
            + (f", ... ({constant.size} in all)" if constant.size > 5 else ""),
            fix="leave these conditions out, or use method='euclidean'",
        )
    centred = patterns - patterns.mean(1, keepdims=True)
    centred /= np.sqrt(np.einsum("ij,ij->i", centred, centred))[:, None]
    return np.maximum(1 - vectors(centred @ centred.T), 0)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _squared(patterns: Floats, labels: Labels | None, weigh: Weigh) -> Floats:
    # distances do not change, and digits are not lost where all patterns share a large offset
    centred = patterns - patterns.mean(0)
    return np.maximum(from_products(centred @ weigh(centred).T, patterns.shape[1]), 0)


def _poisson(patterns: Floats, labels: Labels | None, weigh: Weigh) -> Floats:
    if patterns.min() < 0:
        raise InputError(
            "counts are negative", expected="counts or rates of at least 0", got=f"{patterns.min():g} among them"
        )
    rates = (patterns + _PRIOR_RATE * _PRIOR_WEIGHT) / (1 + _PRIOR_WEIGHT)
    return np.maximum(from_products(rates @ np.log(rates).T, patterns.shape[1]), 0)


_DISTANCES: dict[str, Callable[[Floats, Labels | None, Weigh], Floats]] = {
    "correlation": _correlation,
    "euclidean": _squared,
    "mahalanobis": _squared,
    "poisson": _poisson,
}
