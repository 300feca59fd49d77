"""The pairwise maximum entropy model of binary units: maximum likelihood, and pseudo-likelihood of many units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.information.energy.binary.walsh import (
    as_matrix,
    pairwise_energies,
    pairwise_sets,
    state_numbers,
    walsh_transform,
)

_STEPS, _HALVINGS = 100, 30
_CLOSE = 1e-8
_DAMPED = 0.1
_FAR = 30.0
_TO_BEGIN_WITH = 4000
_AT_ONCE = 2000


class IsingFit(NamedTuple):
    """Fields and couplings with the covariance of their errors."""

    fields: Floats
    """In kT, ``(n_units,)``."""
    couplings: Floats
    """In kT, symmetric with zeros on the diagonal, ``(n_units, n_units)``."""
    fields_error: Floats
    couplings_error: Floats
    """Standard errors, of samples that are independent."""
    covariance: Floats | None
    """Of fields, then couplings of units i < j; None from pseudo-likelihood."""
    n_steps: int


def exact_fit(states: Floats, penalty: float = 0.0) -> IsingFit:
    """Return the model under which the states are most likely, by Newton's method with all states counted out.

    Means, correlations and their second derivatives are read off one Walsh transform of the probabilities, which takes
    N 2^N steps where a sum over states takes N^4 2^N.

    Parameters
    ----------
    states : numpy.ndarray of shape (n_samples, n_units)
        -1 and 1.
    penalty : float
        Of half the squared parameters, per sample: a normal prior, for pairs that leave no finite coupling.

    Raises
    ------
    InputError
        No finite parameters are most likely.

    References
    ----------
    Schneidman et al. 2006, Weak pairwise correlations imply strongly correlated network states in a neural population,
    doi:10.1038/nature04701

    Examples
    --------
    >>> states = np.repeat([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], [3, 3, 1, 1], axis=0)
    >>> fit = exact_fit(states)  # log(3) / 2
    >>> fit.couplings.round(4).tolist()
    [[0.0, 0.5493], [0.5493, 0.0]]
    """
    n_samples, n_units = states.shape
    sets = pairwise_sets(n_units)
    counts = np.bincount(state_numbers(states), minlength=2**n_units)
    wanted = walsh_transform(counts / n_samples)[sets]
    both = sets[:, None] ^ sets
    found = np.zeros(len(sets))
    found[:n_units] = np.arctanh(np.clip(wanted[:n_units], -1 + 1e-9, 1 - 1e-9))
    loss, moments = _loss(found, wanted, n_units, penalty)
    for step in range(1, _STEPS + 1):
        missing = wanted - moments[sets] - penalty * found
        curvature = moments[both] - np.outer(moments[sets], moments[sets]) + penalty * np.eye(len(sets))
        change = _newton_step(curvature, missing)
        if missing @ change < _CLOSE**2:
            covariance = np.linalg.inv(curvature) / n_samples
            return _fit(found, covariance, n_units, step)
        found, loss, moments = _line_search(found, change, loss, wanted, n_units, penalty)
        if np.abs(found).max() > _FAR:
            break
    raise no_finite_couplings()


def _newton_step(curvature: Floats, slope: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.solve(curvature, slope), dtype=float)
    except np.linalg.LinAlgError:  # flat: parameters that run off to infinity
        raise no_finite_couplings() from None


def _loss(parameters: Floats, wanted: Floats, n_units: int, penalty: float) -> tuple[float, Floats]:
    """Return the negative log likelihood per sample, and the means of all products of units."""
    weight = -pairwise_energies(*as_matrix(parameters, n_units))
    highest = weight.max()
    chance = np.exp(weight - highest)
    total = chance.sum()
    loss = highest + np.log(total) - parameters @ wanted + penalty / 2 * (parameters @ parameters)
    return float(loss), walsh_transform(chance / total)


def _line_search(
    found: Floats, change: Floats, loss: float, wanted: Floats, n_units: int, penalty: float
) -> tuple[Floats, float, Floats]:
    for halving in range(_HALVINGS):
        there = found + change / 2**halving
        new_loss, moments = _loss(there, wanted, n_units, penalty)
        if new_loss < loss + 1e-13 * abs(loss):
            return there, new_loss, moments
    return found, *_loss(found, wanted, n_units, penalty)


def _fit(parameters: Floats, covariance: Floats, n_units: int, n_steps: int) -> IsingFit:
    errors = np.sqrt(np.diag(covariance))
    return IsingFit(*as_matrix(parameters, n_units), *as_matrix(errors, n_units), covariance, n_steps)


def pseudo_fit(states: Floats, penalty: float = 0.0) -> IsingFit:
    """Return the model under which each unit is most likely given all others: a logistic regression for each unit.

    The two estimates of each coupling are averaged. Errors come from the spread of what each sample adds.

    Parameters
    ----------
    states : numpy.ndarray of shape (n_samples, n_units)
        -1 and 1.
    penalty : float
        As for `exact_fit`.

    Raises
    ------
    InputError
        No finite parameters are most likely.

    References
    ----------
    Aurell and Ekeberg 2012, Inverse Ising inference using all the data, doi:10.1103/PhysRevLett.108.090201

    Examples
    --------
    >>> states = np.repeat([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], [3, 3, 1, 1], axis=0)
    >>> pseudo_fit(states).couplings.round(4).tolist()
    [[0.0, 0.5493], [0.5493, 0.0]]
    """
    n_units = states.shape[1]
    words, times = np.unique(states, axis=0, return_counts=True)
    few = words[:: max(1, len(words) // _TO_BEGIN_WITH)]
    found, spread, n_steps = np.empty((n_units, n_units)), np.empty((n_units, n_units, n_units)), 0
    for unit in range(n_units):
        begin = np.zeros(n_units)
        if 2 * len(few) < len(words):  # near enough after a few cheap steps
            begin = _regression(few, unit, np.ones(len(few)), penalty + 1e-3, begin)[0]
        found[unit], spread[unit], steps = _regression(words, unit, times.astype(float), penalty, begin)
        n_steps = max(n_steps, steps)
    variance = _shared_variance(words, times.astype(float), found, spread)
    errors = np.sqrt(variance)
    fields, fields_error = np.diag(found).copy(), np.diag(errors).copy()
    np.fill_diagonal(found, 0)
    np.fill_diagonal(errors, 0)
    return IsingFit(fields, (found + found.T) / 2, fields_error, errors, None, n_steps)


def _inputs(words: Floats, unit: int) -> Floats:
    """Return all other units, and 1 for the field in the place of a unit itself."""
    inputs = words.copy()
    inputs[:, unit] = 1
    return inputs


def _regression(words: Floats, unit: int, times: Floats, penalty: float, found: Floats) -> tuple[Floats, Floats, int]:
    """Return parameters of one unit's logistic regression, and the inverse of its curvature."""
    inputs, target, n_samples = _inputs(words, unit), words[:, unit], times.sum()
    for step in range(1, _STEPS + 1):
        expected = np.tanh(inputs @ found)
        slope = (times * (target - expected)) @ inputs / n_samples - penalty * found
        weighted = inputs * (times * (1 - expected**2))[:, None]
        curvature = weighted.T @ inputs / n_samples + penalty * np.eye(len(found))
        change = _newton_step(curvature, slope)
        # a logistic loss is self-concordant: damped by this, Newton's steps always descend
        decrement = float(np.sqrt(max(slope @ change, 0)))
        if decrement < _CLOSE:
            return found + change, np.linalg.inv(curvature), step
        found = found + change / (1 + 2 * decrement if decrement > _DAMPED else 1)
        if np.abs(found).max() > _FAR:
            break
    raise no_finite_couplings()


def _shared_variance(words: Floats, times: Floats, found: Floats, spread: Floats) -> Floats:
    """Return the variance of the mean of both estimates of each coupling, from what each word adds to them."""
    n_units, variance = words.shape[1], np.zeros_like(found)
    for first in range(0, len(words), _AT_ONCE):
        part, weight = words[first : first + _AT_ONCE], times[first : first + _AT_ONCE]
        added = np.empty((n_units, len(part), n_units))
        for unit in range(n_units):
            inputs = _inputs(part, unit)
            missed = part[:, unit] - np.tanh(inputs @ found[unit])
            added[unit] = (missed[:, None] * inputs) @ spread[unit]
        shared = (added + added.transpose(2, 1, 0)) / 2
        variance += (weight[:, None] * shared**2).sum(1)
    return variance / times.sum() ** 2


def no_finite_couplings() -> InputError:
    """Return the error of states that no finite fields and couplings explain best.

    Examples
    --------
    >>> no_finite_couplings().problem
    'no finite couplings make these states most likely'
    """
    return InputError(
        "no finite couplings make these states most likely",
        expected="all patterns of activity of few units among the samples",
        got="patterns that never occur, which only infinite couplings explain",
        fix="pass more samples, leave out units that are rarely active, or give penalty=1e-3 (a prior on parameters)",
    )
