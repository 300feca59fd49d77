"""Conditional mutual information by four estimators, with a test of conditional independence."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import OptionError, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.alignment.samples import joined
from neuros_mechint.neuro.information.dependence.local_permutation import permuted_locally, permuted_within
from neuros_mechint.neuro.information.dependence.methods import (
    CITATIONS,
    FOR_CATEGORIES,
    Question,
    check_method,
    combined,
)
from neuros_mechint.neuro.information.dependence.results import ConditionalMutualInformation, as_variables, beside_null
from neuros_mechint.neuro.information.estimate import n_draws
from neuros_mechint.neuro.information.estimators.binned import bins_by_rank
from neuros_mechint.neuro.information.variables import (
    Categories,
    Whole,
    categories,
    continuous,
    few_values,
    is_text,
    refuse_few_samples,
)

_SAMPLES_PER_CELL = 5
_FEWEST_BINS, _MOST_BINS = 3, 64


def conditional_mutual_information(
    x: Any,
    y: Any,
    z: Any,
    method: str = "ksg",
    n_neighbors: int | None = None,
    n_bins: int | None = None,
    n_permutations: int = 200,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> ConditionalMutualInformation:
    """Return how many nats one variable tells of another where a third is known already.

    Parameters
    ----------
    x, y, z : array_like, torch.Tensor, xarray.DataArray or Recording
        ``(n_samples,)`` or ``(n_samples, n_features)``, with independent samples; labelled ones are paired by label.
    method : {"ksg", "gaussian", "binned", "mixed"}
        ``ksg``: nearest neighbours, of continuous variables with few features (Frenzel and Pompe 2007). ``gaussian``:
        of normal distributions with the same correlations. ``binned``: from a table of counts, of categories or of
        single numbers sorted into bins; of a continuous ``z`` dependence remains within bins. ``mixed``: nearest
        neighbours of numbers that may repeat, in any mixture, and of categories given as text or booleans (Mesner and
        Shalizi 2021); it shrinks towards 0 rather than err to either side.
    n_neighbors : int, optional
        Of ``ksg`` and ``mixed``; 3 by default.
    n_bins : int, optional
        Of ``binned``; by default as many as leave five samples for each cell of the table.
    n_permutations : int
        How often ``x`` is rearranged among samples alike in ``z``, to test that x and y are independent given z: among
        the five most alike (Runge 2018), of ``binned`` among those of the same ``z``. 0 makes no test.
    level : float
        Coverage of the interval, which holds sampling error and no bias.
    seed : int or numpy.random.Generator
        Rearranges, and deals the samples to parts from which the error of nearest neighbours is found.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    ConditionalMutualInformation
        With ``.value`` in nats, ``.error``, ``.interval``, ``.p``, ``.null``, and ``.warnings`` where the estimator is
        known to fail.

    Raises
    ------
    InputError
        Values that are missing, constant columns, fewer than 50 samples, repeated samples (``ksg``), or variables that
        cannot be paired.
    OptionError
        Unknown method, or an option that the method does not have.

    References
    ----------
    Frenzel and Pompe 2007, doi:10.1103/PhysRevLett.99.204101; Mesner and Shalizi 2021, doi:10.1109/TIT.2020.3024886;
    Runge 2018, Conditional independence testing based on a nearest-neighbor estimator of conditional mutual
    information, https://proceedings.mlr.press/v84/runge18a.html

    Examples
    --------
    >>> x, noise, more_noise = np.random.default_rng(0).normal(size=(3, 500))
    >>> z = x + noise
    >>> y = z + more_noise
    >>> found = conditional_mutual_information(x, y, z, n_permutations=99)
    >>> bool(found.p > 0.05)  # all that x tells of y it tells through z
    True
    """
    neighbors = check_method(method, n_neighbors, n_bins)
    level, random = coverage(level), generator(seed)
    n_permutations = n_draws("n_permutations", n_permutations)
    named = [("x", x), ("y", y), ("z", z)]
    settings = {"method": method, "n_neighbors": n_neighbors, "n_bins": n_bins, "level": level}
    provenance = Provenance.record(seed, arguments=dict(named) | settings | {"n_permutations": n_permutations})
    variables, cautions = _prepared(named, method, n_bins)
    x_values, y_values, z_values = variables
    question = Question(x_values, y_values, z_values, method, neighbors)
    cautions += question.cautions()
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    value = question.estimator(*variables)
    error, degrees = question.sampling_error(random)
    data = as_variables("conditional mutual information", value, error, t_reach(error, degrees, level))
    if n_permutations:
        rearranged = permuted_within if method == "binned" else permuted_locally
        data |= beside_null(value, question.of_draws(rearranged(question.z, n_permutations, random), progress))
    return ConditionalMutualInformation(
        xr.Dataset(data),
        "Conditional mutual information",
        attributes={
            "name": "conditional mutual information",
            "method": method,
            "level": level,
            "n_samples": len(question.x),
            "sizes": _sizes(variables),
            "most": None,
        },
        provenance=provenance,
        citations=(*CITATIONS[method], *(("runge2018",) if n_permutations else ())),
        warnings=tuple(cautions),
    )


def _prepared(named: list[tuple[str, Any]], method: str, n_bins: int | None) -> tuple[list[Any], list[str]]:
    if method == "binned":
        return _coded(named, n_bins)
    if method == "mixed":
        return [*_indicators_or_numbers(named)], []
    return [*continuous(named, instead=FOR_CATEGORIES)], []


def _sizes(variables: list[Any]) -> str:
    sizes = [
        f"{v.shape[1]} feature{'s'[: v.shape[1] > 1]}" if v.ndim > 1 else f"{v.max() + 1} values" for v in variables
    ]
    return f"{sizes[0]} and {sizes[1]} given {sizes[2]}"


def _indicators_or_numbers(named: list[tuple[str, Any]]) -> list[Floats]:
    """Return numbers as `continuous` does; text and booleans as one column per category, all as far apart as can be."""
    kinds = {name: categories(data, name) for name, data in named if is_text(data, name)}
    found = joined([(name, _with_codes(data, kinds[name]) if name in kinds else data) for name, data in named])
    refuse_few_samples(len(found[0]))
    return [
        _indicators(values, len(kinds[name].values)) if name in kinds else continuous([(name, values)])[0]
        for (name, _), values in zip(named, found, strict=True)
    ]


def _indicators(codes: Floats, n_values: int) -> Floats:
    """Return categories as columns of 0 and 1 in which all are as far apart; for two one is enough."""
    return (codes == np.arange(n_values if n_values > 2 else 1)).astype(float)


def _coded(named: list[tuple[str, Any]], n_bins: int | None) -> tuple[list[Whole], list[str]]:
    """Return each variable as one code per sample: its categories, or the bins of its columns together."""
    kinds = {name: found for name, data in named if (found := few_values(data, name)) is not None}
    values = joined([(name, _with_codes(data, kinds[name]) if name in kinds else data) for name, data in named])
    n_samples = len(values[0])
    refuse_few_samples(n_samples)
    sorted_ones = [name for name, _ in named if name not in kinds]
    if n_bins is not None and not sorted_ones:
        raise OptionError("all variables are categories: there is nothing to sort into bins", got=f"n_bins={n_bins}")
    n_columns = sum(part.shape[1] for (name, _), part in zip(named, values, strict=True) if name not in kinds)
    n_categories = int(np.prod([len(found.values) for found in kinds.values()]))
    bins = whole("n_bins", n_bins, 2) if n_bins is not None else bins_of_tables(n_samples, n_columns, n_categories)
    codes = []
    for (name, _), part in zip(named, values, strict=True):
        if name in kinds:
            codes.append(part[:, 0].astype(np.intp))
            continue
        columns = continuous([(name, part)])[0].T
        codes.append(combined([bins_by_rank(column, bins) for column in columns], n_samples))
    if not sorted_ones:
        return codes, []
    return codes, [
        f"{' and '.join(sorted_ones)} sorted into {bins} bins: strong dependence is too low, and what z leaves open "
        "within a bin counts as dependence given z"
    ]


def bins_of_tables(n_samples: int, n_columns: int, n_categories: int = 1) -> int:
    """Return into how many bins to sort each column so that a cell of the table holds five samples on average.

    Examples
    --------
    >>> bins_of_tables(3000, 3), bins_of_tables(3000, 1, n_categories=4)
    (8, 64)
    """
    cells = n_samples / _SAMPLES_PER_CELL / n_categories
    return int(np.clip(cells ** (1 / max(n_columns, 1)), _FEWEST_BINS, _MOST_BINS))


def _with_codes(data: Any, found: Categories) -> Any:
    return data.copy(data=found.codes) if isinstance(data, xr.DataArray) else found.codes
