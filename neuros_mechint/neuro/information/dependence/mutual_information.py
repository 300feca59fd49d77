"""Mutual information by seven estimators, each with its error and the region where it fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.information.dependence.results import MutualInformation, as_variables
from neuros_mechint.neuro.information.estimators.binned import bins_by_rank, bins_that_fit, counts_information
from neuros_mechint.neuro.information.estimators.gaussian import SAMPLES_PER_VARIABLE, gaussian_information
from neuros_mechint.neuro.information.estimators.nearest import kraskov, kraskov_second, ross
from neuros_mechint.neuro.information.estimators.neural import BATCH, trained_bound
from neuros_mechint.neuro.information.estimators.repeats import check_neighbors, refuse_repeats
from neuros_mechint.neuro.information.split_error import HALF_PER_NEIGHBOR, split_error
from neuros_mechint.neuro.information.variables import (
    Whole,
    continuous,
    few_values,
    refuse_few_samples,
    with_categories,
)

_NEIGHBORS = 3
_MANY_FEATURES = 3
_NEAR_THE_MOST = 0.8
_FEWEST_TO_TRAIN = 500
_WEAK = 0.2
_SAMPLES_PER_FEATURES = {2: 300, 3: 3000}
_CITATIONS = {
    "ksg": ("kraskov2004", "holmes2019"),
    "ksg2": ("kraskov2004", "holmes2019"),
    "gaussian": ("misra2005", "schaefer2005"),
    "ross": ("ross2014", "holmes2019"),
    "binned": ("panzeri2007",),
    "mine": ("belghazi2018",),
    "infonce": ("oord2018", "poole2019"),
}
METHODS = tuple(_CITATIONS)


class _Found(NamedTuple):
    """An estimate: nats, standard error, degrees of freedom of the error, the most that could have been found."""

    value: float
    error: float
    degrees: float
    most: float | None
    sizes: str
    n_samples: int
    cautions: tuple[str, ...]


def mutual_information(
    x: Any,
    y: Any,
    method: str = "ksg",
    n_neighbors: int | None = None,
    n_bins: int | None = None,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> MutualInformation:
    """Return how many nats one variable tells of another.

    Parameters
    ----------
    x, y : array_like, torch.Tensor, xarray.DataArray or Recording
        ``(n_samples,)`` or ``(n_samples, n_features)``, with independent samples; labelled ones are paired by label.
    method : {"ksg", "ksg2", "gaussian", "ross", "binned", "mine", "infonce"}
        ``ksg``, ``ksg2``: nearest neighbours, of at most three features on each side (Kraskov et al. 2004).
        ``gaussian``: of normal distributions with the same correlations, up to many features. ``ross``: between a
        continuous ``x`` and categories ``y`` (Ross 2014). ``binned``: from a table of counts; continuous variables of
        one feature are sorted into bins. ``mine``, ``infonce``: lower bounds by a trained network, on held-out samples
        (Belghazi et al. 2018, Oord et al. 2018).
    n_neighbors : int, optional
        Of ``ksg``, ``ksg2`` and ``ross``; 3 by default. More err less by chance and are biased sooner.
    n_bins : int, optional
        Of ``binned``; by default as many as leave five samples for each cell of the table.
    level : float
        Coverage of the interval, which holds sampling error and no bias.
    seed : int or numpy.random.Generator
        Deals the samples to parts, from which the error of nearest neighbours is found, and trains networks.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    MutualInformation
        With ``.value`` in nats, ``.bits``, ``.error`` and ``.interval``, and ``.warnings`` where the estimator is known
        to fail.

    Raises
    ------
    InputError
        Values that are missing, constant columns, fewer than 50 samples, repeated samples (``ksg``), categories where
        distances are needed, or variables that cannot be paired.
    OptionError
        Unknown method, or an option that the method does not have.

    References
    ----------
    Kraskov et al. 2004, Estimating mutual information, doi:10.1103/PhysRevE.69.066138; Ross 2014,
    doi:10.1371/journal.pone.0087357; Holmes and Nemenman 2019, doi:10.1103/PhysRevE.100.022404

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> x, noise = np.random.default_rng(0).normal(size=(2, 3000))
    >>> found = nm.mutual_information(x, 0.9 * x + 0.19**0.5 * noise)
    >>> low, high = found.interval
    >>> bool(low < -0.5 * np.log(1 - 0.9**2) < high)
    True
    """
    check_option("method", method, METHODS)
    _refuse_unused(method, n_neighbors=n_neighbors, n_bins=n_bins)
    level, random = coverage(level), generator(seed)
    arguments = {"x": x, "y": y, "method": method, "n_neighbors": n_neighbors, "n_bins": n_bins, "level": level}
    provenance = Provenance.record(seed, arguments=arguments)
    neighbors = whole("n_neighbors", _NEIGHBORS if n_neighbors is None else n_neighbors)
    if method == "binned":
        found = _by_bins(x, y, None if n_bins is None else whole("n_bins", n_bins, 2))
    elif method == "ross":
        found = _by_categories(x, y, neighbors, random)
    else:
        first, second = continuous([("x", x), ("y", y)])
        sizes = f"{_features(first)} and {_features(second)}"
        estimate = {"gaussian": _by_correlations, "mine": _by_training, "infonce": _by_training}.get(
            method, _by_distance
        )
        found = estimate(first, second, method, neighbors, random, progress)._replace(sizes=sizes)
    return _result(found, method, level, provenance)


def _refuse_unused(method: str, **given: object) -> None:
    uses = {"n_neighbors": ("ksg", "ksg2", "ross"), "n_bins": ("binned",)}
    for name, value in given.items():
        if value is not None and method not in uses[name]:
            raise OptionError(
                f"{method!r} has no {name}", expected=f"method {' or '.join(uses[name])}", got=f"{name}={value!r}"
            )


def _features(values: Floats) -> str:
    return f"{values.shape[1]} feature{'s' if values.shape[1] > 1 else ''}"


def _by_distance(x: Floats, y: Floats, method: str, n_neighbors: int, random: np.random.Generator, _: bool) -> _Found:
    from scipy.special import digamma

    check_neighbors(n_neighbors, len(x))
    ties = refuse_repeats(np.hstack([x, y]), n_neighbors, [("x", x), ("y", y)])
    estimator: Callable[..., float] = partial({"ksg": kraskov, "ksg2": kraskov_second}[method], n_neighbors=n_neighbors)
    value = estimator(x, y)
    error, degrees = split_error(estimator, (x, y), random, 5 * n_neighbors, HALF_PER_NEIGHBOR * n_neighbors)
    most = float(digamma(len(x)) - digamma(n_neighbors))
    cautions = [*ties, *_too_many_features(x, y, value), *_near_the_most(value, most, f"{len(x)} samples")]
    return _Found(value, error, degrees, most, "", len(x), tuple(cautions))


def _too_many_features(x: Floats, y: Floats, value: float) -> list[str]:
    most = max(x.shape[1], y.shape[1])
    few = len(x) < _SAMPLES_PER_FEATURES.get(most, 0) and value > _WEAK
    if most > _MANY_FEATURES or (most == _MANY_FEATURES and value > 1) or few:
        return [
            f"{x.shape[1]} and {y.shape[1]} features are many for nearest neighbours of {len(x)} samples: the estimate "
            "is too low, of 200 by 10% at 2 features a side and by a quarter at 3, of 3,000 samples and strong "
            "dependence by 8% at 3 features a side, by 15% at 4, by a quarter at 5 and by three "
            'quarters at 20; method="gaussian" holds for correlations, "mine" and "infonce" are lower bounds'
        ]
    return []


def _near_the_most(value: float, most: float, of: str) -> list[str]:
    if value <= _NEAR_THE_MOST * most:
        return []
    return [f"{of} cannot show more than {most:.3g} nats: {value:.3g} is close to that, and may be far too low"]


def _by_categories(x: Any, y: Any, n_neighbors: int, random: np.random.Generator) -> _Found:
    values, found = with_categories(x, y)
    check_neighbors(n_neighbors, len(values))
    smallest = int(found.counts.min())
    if smallest <= n_neighbors:
        raise InputError(
            "a category has too few samples",
            expected=f"more than the {n_neighbors} neighbours in each",
            got=f"{smallest} of {found.values[found.counts.argmin()]}",
            fix="leave it out, or join it with another",
        )
    cautions = refuse_repeats(values, n_neighbors, [("x", values)], 'method="binned"')
    estimator = partial(ross, n_neighbors=n_neighbors)
    shares = found.counts / len(values)
    entropy = float(-(shares * np.log(shares)).sum())
    # each category must be there in each part, with enough samples
    fewest = int(np.ceil(3 * n_neighbors * len(values) / smallest))
    error, degrees = split_error(estimator, (values, found.codes), random, fewest)
    if values.shape[1] > _MANY_FEATURES:
        cautions.append(
            f"{values.shape[1]} features are many for nearest neighbours: the estimate is too low, the more so the "
            "more of them tell nothing"
        )
    sizes = f"{_features(values)} and {len(found.values)} categories"
    value = estimator(values, found.codes)
    return _Found(value, error, degrees, entropy, sizes, len(values), tuple(cautions))


def _by_bins(x: Any, y: Any, n_bins: int | None) -> _Found:
    sides = [few_values(values, name) for values, name in ((x, "x"), (y, "y"))]
    sorted_ones = [name for kind, name in zip(sides, ("x", "y"), strict=True) if kind is None]
    if len(sorted_ones) == 2:
        first, second = continuous([("x", x), ("y", y)])
        bins = n_bins or bins_that_fit(len(first))
        codes = [_one_column(values, name, bins) for values, name in ((first, "x"), (second, "y"))]
    elif sorted_ones:
        swapped = sorted_ones == ["y"]
        values, kinds = with_categories(*((y, x, ("y", "x")) if swapped else (x, y)))
        bins = n_bins or bins_that_fit(len(values), len(kinds.values))
        codes = [_one_column(values, sorted_ones[0], bins), kinds.codes]
    else:
        bins, codes = 0, [kind.codes for kind in sides if kind is not None]
        if n_bins is not None:
            raise OptionError(
                "both variables are categories: there is nothing to sort into bins", got=f"n_bins={n_bins}"
            )
        if len(codes[0]) != len(codes[1]):
            raise InputError("x and y have different numbers of samples", got=f"{len(codes[0])} and {len(codes[1])}")
    refuse_few_samples(len(codes[0]))
    found = counts_information(*codes)
    n_samples, n_cells = len(codes[0]), int(np.prod([code.max() + 1 for code in codes]))
    cautions = []
    if found.bias > 0.5 * max(found.value, 0.02):
        cautions.append(
            f"{found.bias:.3g} nats of bias were taken off an estimate of {found.value + found.bias:.3g}: {n_samples} "
            f"samples are few for {n_cells} cells"
        )
    if sorted_ones:
        cautions.append(
            f"binned values of {' and '.join(sorted_ones)} tell less than the values themselves: with {bins} bins no "
            f"more than {np.log(bins):.3g} nats, and strong dependence is too low (by 3% where it is 0.83 nats, of "
            "3,000 samples)"
        )
    sizes = f"{codes[0].max() + 1} and {codes[1].max() + 1} values"
    most = float(np.log(min(code.max() + 1 for code in codes)))
    return _Found(found.value, found.error, np.inf, most, sizes, n_samples, tuple(cautions))


def _one_column(values: Floats, name: str, n_bins: int) -> Whole:
    if values.shape[1] != 1:
        raise InputError(
            f"{name} has several features, which have no common bins", expected="one", got=f"{values.shape[1]}"
        )
    if n_bins > len(values) // 5:
        raise OptionError("n_bins is too large", expected=f"at most a fifth of the {len(values)} samples", got=n_bins)
    return bins_by_rank(values[:, 0], n_bins)


def _by_correlations(x: Floats, y: Floats, *_: object) -> _Found:
    found = gaussian_information(x, y)
    cautions = []
    if found.shrinkage:
        cautions.append(
            f"{len(x)} samples are fewer than {SAMPLES_PER_VARIABLE} for each of {x.shape[1] + y.shape[1]} variables: "
            f"correlations were shrunk by {100 * found.shrinkage:.0f}%, and the information is far too low"
        )
    return _Found(found.value, found.error, np.inf, None, "", len(x), tuple(cautions))


def _by_training(x: Floats, y: Floats, method: str, _: int, random: np.random.Generator, progress: bool) -> _Found:
    if len(x) < _FEWEST_TO_TRAIN:
        raise InputError("too few samples to train on", expected=f"at least {_FEWEST_TO_TRAIN}", got=len(x))
    found = trained_bound(x, y, method, random, progress)
    most = float(np.log(min(BATCH, found.n_held_out)))
    cautions = []
    if method == "infonce":
        cautions += _near_the_most(found.value, most, f"InfoNCE with batches of {min(BATCH, found.n_held_out)}")
    elif found.value > most:
        cautions.append(
            f"the exponential mean in MINE is uncertain above {most:.3g} nats (the logarithm of a batch): its error is "
            "larger than the interval says"
        )
    return _Found(found.value, found.error, found.n_held_out - 1, most, "", len(x), tuple(cautions))


def _result(found: _Found, method: str, level: float, provenance: Provenance) -> MutualInformation:
    reach = t_reach(found.error, found.degrees, level)
    for text in found.cautions:
        warnings.warn(text, UserWarning, stacklevel=3)
    return MutualInformation(
        xr.Dataset(as_variables("mutual information", found.value, found.error, reach)),
        "Mutual information",
        attributes={
            "name": "mutual information",
            "method": method,
            "level": level,
            "n_samples": found.n_samples,
            "sizes": found.sizes,
            "most": found.most,
        },
        provenance=provenance,
        citations=_CITATIONS[method],
        warnings=found.cautions,
    )
