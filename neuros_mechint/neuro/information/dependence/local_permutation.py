"""Rearrangements of one variable that keep what it has to do with a third."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.information.estimators.neighbours import neighbours_of
from neuros_mechint.neuro.information.variables import Whole

_NEAREST = 5


def permuted_locally(given: Floats, n_draws: int, random: np.random.Generator) -> Whole:
    """Return rearrangements in which each sample takes the place of one of the five most alike in a variable.

    A sample is taken again only where all five have been taken, so that few occur twice.

    Parameters
    ----------
    given : numpy.ndarray of shape (n_samples, n_features)
        The variable whose dependence with the rearranged one is kept.
    n_draws : int
    random : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (n_draws, n_samples)
        Which sample takes the place of each.

    References
    ----------
    Runge 2018, Conditional independence testing based on a nearest-neighbor estimator of conditional mutual
    information, https://proceedings.mlr.press/v84/runge18a.html

    Examples
    --------
    >>> given = np.repeat([0.0, 100.0], 10)[:, None] + np.random.default_rng(0).normal(size=(20, 1))
    >>> draws = permuted_locally(given, 3, np.random.default_rng(1))
    >>> bool(((draws < 10) == (np.arange(20) < 10)).all())
    True
    """
    n_samples = len(given)
    near = np.hstack([np.arange(n_samples)[:, None], neighbours_of(given, _NEAREST - 1)])
    draws = np.empty((n_draws, n_samples), dtype=np.intp)
    taken = np.zeros((n_draws, n_samples), dtype=bool)
    rows = np.arange(n_draws)
    orders = random.permuted(np.tile(np.arange(n_samples), (n_draws, 1)), axis=1)
    for samples in orders.T:  # one sample of every rearrangement at a time
        choices = near[samples]
        preference = random.random(choices.shape)
        preference[taken[rows[:, None], choices]] -= 1.0
        chosen = choices[rows, preference.argmax(1)]
        draws[rows, samples] = chosen
        taken[rows, chosen] = True
    return draws


def permuted_within(codes: Whole, n_draws: int, random: np.random.Generator) -> Whole:
    """Return rearrangements among the samples of each category: the test is exact.

    Parameters
    ----------
    codes : numpy.ndarray of shape (n_samples,)
        The category of each sample.
    n_draws, random
        See `permuted_locally`.

    Raises
    ------
    InputError
        Every category has one sample only.

    Examples
    --------
    >>> codes = np.array([0, 1, 0, 1, 0])
    >>> draws = permuted_within(codes, 10, np.random.default_rng(0))
    >>> bool((codes[draws] == codes).all())
    True
    """
    order = np.argsort(codes, kind="stable")
    if len(np.unique(codes)) == len(codes):
        raise InputError(
            "z has another value in every sample: nothing can be rearranged",
            expected="values that occur several times",
            got=f"{len(codes)} values of {len(codes)} samples",
            fix="take fewer bins, or a method of nearest neighbours",
        )
    draws = np.empty((n_draws, len(codes)), dtype=np.intp)
    keys = random.random((n_draws, len(codes)))
    # sorting by category first and a random number second rearranges within categories
    draws[:, order] = np.argsort(codes + keys, axis=1)
    return draws
