"""Exact tests: conditions that change their labels, and subjects whose scores change their sign."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import islice, permutations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.parallel import parallel_map
from neuros_mechint.core.statistics.p_values import share_as_far
from neuros_mechint.neuro.alignment.rsa.compare import directions, similarities
from neuros_mechint.neuro.alignment.rsa.inference.draws import Counts
from neuros_mechint.neuro.alignment.rsa.inference.general import LINEAR
from neuros_mechint.neuro.alignment.rsa.stack import square, vectors

_NUMBERS_AT_ONCE = 2**21
_ORDERS_AT_ONCE = 25


def null_scores(
    models: Floats,
    data: Floats,
    compare: str,
    n_resamples: int,
    random: np.random.Generator,
    n_jobs: int | None = None,
) -> Floats:
    """Return the scores ``(n_permutations, n_models)`` with the labels of the conditions permuted.

    The first row is the score with the labels as they are. Every permutation is tried where there are no more than
    ``n_resamples`` besides the first; otherwise that many are drawn.
    """
    n_conditions = len(square(data[:1])[0])
    orders = _orders(n_conditions, n_resamples, random)
    if compare in LINEAR:
        return np.concatenate(list(_linear(models, data, compare, orders)))
    blocks = iter(lambda: list(islice(orders, _ORDERS_AT_ONCE)), [])
    permuted = partial(_permuted, models, square(data), compare)
    return np.concatenate(parallel_map(permuted, blocks, n_jobs, progress=True, description="permutations"))


def _permuted(models: Floats, matrices: Floats, compare: str, orders: list[Counts]) -> Floats:
    shuffled = (vectors(matrices[:, order][:, :, order]) for order in orders)
    return np.stack([similarities(models, each, compare).mean(1) for each in shuffled])


def n_permutations(n_conditions: int, n_resamples: int) -> int:
    """Return how many permutations are compared, the observed order included.

    Examples
    --------
    >>> n_permutations(5, 1000), n_permutations(92, 1000)
    (120, 1001)
    """
    return math.factorial(n_conditions) if _all_orders(n_conditions, n_resamples) else n_resamples + 1


def permutation_p(scores: Floats) -> Floats:
    """Return two-sided p values ``(n_models,)``: the share of permutations that are as far from chance as the first.

    Chance is the mean of all, which is zero for correlations and is not for cosines. The observed labels are one of
    the permutations, so that p is never zero.

    References
    ----------
    Phipson and Smyth 2010, Permutation P-values should never be zero, doi:10.2202/1544-6115.1585

    Examples
    --------
    >>> permutation_p(np.array([[0.9], [0.1], [-0.2], [0.2]])).tolist()
    [0.25]
    """
    from_chance = scores - scores.mean(0)
    return share_as_far(from_chance[0], np.abs(from_chance[0]), [from_chance.T], exact=True)[0]


def _all_orders(n_conditions: int, n_resamples: int) -> bool:
    return n_conditions <= 20 and math.factorial(n_conditions) <= n_resamples + 1


def _orders(n_conditions: int, n_resamples: int, random: np.random.Generator) -> Iterator[Counts]:
    if _all_orders(n_conditions, n_resamples):
        yield from (np.array(order) for order in permutations(range(n_conditions)))
        return
    yield np.arange(n_conditions)
    for _ in range(n_resamples):
        yield random.permutation(n_conditions)


def _linear(models: Floats, data: Floats, compare: str, orders: Iterator[Counts]) -> Iterator[Floats]:
    """Yield scores of measures that are products of vectors of length one: one product for the mean of all subjects."""
    of_models, of_data = directions(models, compare), directions(data, compare).mean(0)
    matrix = square(of_data)
    first, second = np.triu_indices(len(matrix), 1)
    for some in iter(lambda: list(islice(orders, max(_NUMBERS_AT_ONCE // len(first), 1))), []):
        order = np.stack(some)
        yield matrix[order[:, first], order[:, second]] @ of_models.T
