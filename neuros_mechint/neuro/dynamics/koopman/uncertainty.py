"""How far frequencies and decay rates would move with other trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.arrays import Complexes, Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.statistics.standard_errors import jackknife_error

if TYPE_CHECKING:
    from neuros_mechint.neuro.dynamics.koopman.operator import KoopmanOperator

FEWEST_TRIALS = 8
"""With fewer, intervals by the jackknife leave out the truth too often."""
_MOST_GROUPS = 20


def standard_errors(
    fitted: KoopmanOperator, trials: Sequence[Floats], inputs: Sequence[Floats] | None, progress: bool
) -> tuple[Floats, int]:
    """Return standard errors of continuous eigenvalues by the jackknife over trials, and how many groups were left out.

    Each trial, or where they are many each of 20 groups, is left out in turn, and the operator fitted to the rest at
    the same rank; eigenvalues are matched with those of the whole fit. What all trials share, such as the pull of
    noise on eigenvalues, is not in these errors.

    Parameters
    ----------
    fitted : KoopmanOperator
        To all trials.
    trials : sequence of numpy.ndarray of shape (n_times, n_units)
    inputs : sequence of numpy.ndarray, optional
    progress : bool

    Returns
    -------
    errors : numpy.ndarray of shape (2, n_modes)
        Of the decay rate, and of the frequency in cycles per unit of time; NaN with fewer than 8 trials, for one says
        nothing of another, and where a rest has not the rank of the whole.
    n_groups : int
        0 where there are no errors.

    References
    ----------
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, doi:10.1201/9780429246593

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.koopman.operator import KoopmanOperator
    >>> trials = [size * 0.5 ** np.arange(6.0)[:, None] for size in range(1, 9)]
    >>> errors, n_groups = standard_errors(KoopmanOperator().fit(trials), trials, None, False)
    >>> bool(errors.max() < 1e-12), n_groups
    (True, 8)
    """
    unknown = np.full((2, len(fitted.eigenvalues_)), np.nan)
    if len(trials) < FEWEST_TRIALS:
        return unknown, 0
    n_groups = min(len(trials), _MOST_GROUPS)
    found = []
    for group in progress_bar(range(n_groups), description="trials left out", enabled=progress):
        kept = [number for number in range(len(trials)) if number % n_groups != group]
        driven = None if inputs is None else tuple(inputs[number] for number in kept)
        try:
            rest = fitted.refitted(tuple(trials[number] for number in kept), driven, fitted.rank_)
        except InputError:  # without a group the data have a smaller rank
            return unknown, 0
        found.append(rest.continuous_eigenvalues_[_matched(fitted.eigenvalues_, rest.eigenvalues_)])
    rates: Complexes = np.array(found)
    # conjugates may change places
    parts = np.stack([-rates.real, np.abs(rates.imag) / (2 * np.pi)])
    return jackknife_error(parts, axis=1), n_groups


def _matched(whole: Complexes, rest: Complexes) -> np.ndarray:
    """Return for each eigenvalue of the whole the place of its own among those of the rest."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(np.abs(whole[:, None] - rest))[1]
