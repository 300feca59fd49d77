"""Does linear noise of the same spectrum part its neighbours as slowly? A test with phase-randomised surrogates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.core.statistics.surrogates import phase_randomised
from neuros_mechint.neuro.dynamics.embedding.choices import EmbeddingChoice
from neuros_mechint.neuro.dynamics.embedding.delays import embed
from neuros_mechint.neuro.dynamics.lyapunov.divergence_curves import (
    longest_horizon,
    random_log_distance,
    rosenstein_divergence,
)

FEWEST_SURROGATES = 19
_REFERENCES = 1000
_MOST_CUT = 0.1
_CUTS = 200


class Comparison(NamedTuple):
    """Divergence of the data beside that of surrogates, below that of states drawn at random.

    Parameters
    ----------
    curve : numpy.ndarray of shape (n_steps,)
        Of the data, cut like the surrogates.
    surrogates : numpy.ndarray of shape (n_surrogates, n_steps)
    p : float
        Share of surrogates, the data counted as one, whose neighbours stay as close on average over these steps.
    """

    curve: Floats
    surrogates: Floats
    p: float


def compare_with_surrogates(
    trials: Sequence[Floats],
    choice: EmbeddingChoice,
    horizon: int,
    n_surrogates: int,
    random: np.random.Generator,
    progress: bool = False,
) -> Comparison:
    """Return whether neighbours stay closer than in surrogates with the same spectrum and random phases.

    Phases are randomised in each trial by itself, all units alike, so that correlations between units are kept.
    Trials are cut before, by up to a tenth at either end, so that they end as they begin: a jump between the ends
    would become noise in the surrogates.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, n_units)
    choice : EmbeddingChoice
        Of the data; surrogates are embedded alike.
    horizon : int
        Steps over which neighbours are followed.
    n_surrogates : int
    random : numpy.random.Generator
    progress : bool

    References
    ----------
    Theiler et al. 1992, Testing for nonlinearity in time series: the method of surrogate data,
    doi:10.1016/0167-2789(92)90102-S; Prichard and Theiler 1994, Generating surrogate data for time series with several
    simultaneously measured variables, doi:10.1103/PhysRevLett.73.951

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.embedding.choices import choose_embedding
    >>> from neuros_mechint.neuro.dynamics.trajectories import trajectories
    >>> given = trajectories(np.random.default_rng(0).normal(size=400))
    >>> choice = choose_embedding(given, delay=1, dimension=2)
    >>> compare_with_surrogates(given.trials, choice, 3, 19, np.random.default_rng(1)).p > 0.05
    True
    """
    cut = [matched_ends(trial) for trial in trials]
    curves = [_below_saturation(cut, choice, horizon, random)]
    for _ in progress_bar(range(n_surrogates), n_surrogates, "surrogates", progress):
        shuffled = [phase_randomised(trial.T[None], random, together=True)[0].T for trial in cut]
        curves.append(_below_saturation(shuffled, choice, len(curves[0]) - 1, random))
    means = np.array([curve.mean() for curve in curves])
    p = p_of_draws(-means[0], -means[1:]).item()  # chaos diverges more slowly than noise
    return Comparison(curves[0], np.array(curves[1:]), p)


def _below_saturation(
    trials: Sequence[Floats], choice: EmbeddingChoice, horizon: int, random: np.random.Generator
) -> Floats:
    states = embed(trials, choice.delay, choice.dimension)
    steps = longest_horizon(states, horizon)
    divergence = rosenstein_divergence(states, steps, choice.theiler, _REFERENCES)
    return divergence.curve() - random_log_distance(states, random)


def matched_ends(trial: Floats) -> Floats:
    """Return the part of a trial that goes on at its end most nearly as at its beginning, in value and slope.

    Examples
    --------
    >>> ramp = np.concatenate([np.arange(5.0), np.sin(2 * np.pi * np.arange(88) / 20)])[:, None]
    >>> len(matched_ends(ramp)) % 20
    0
    """
    most = int(_MOST_CUT * len(trial))
    if most < 2:
        return trial
    starts = np.unique(np.linspace(0, most - 1, min(most, _CUTS)).astype(np.int64))
    stops = len(trial) - 2 - starts
    slopes = np.diff(trial, axis=0)
    cost = np.zeros((len(starts), len(stops)))
    for values in (trial, slopes):
        scale = values.std(0)
        scaled = values / np.where(scale > 0, scale, 1)
        cost += ((scaled[starts, None] - scaled[None, stops]) ** 2).sum(-1)
    first, last = np.unravel_index(cost.argmin(), cost.shape)
    return trial[starts[first] : stops[last]]
