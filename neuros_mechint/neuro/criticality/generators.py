"""Branching processes whose ratio is known: driven and subsampled, or one avalanche at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.random import SeedLike, generator

_STEPS_TO_FORGET = 20


def branching_process(
    ratio: float,
    n_steps: int,
    drive: float = 10.0,
    n_units: int | None = None,
    sampled: float = 1.0,
    seed: SeedLike = 0,
) -> npt.NDArray[np.int64]:
    r"""Return the activity of a driven branching process, as seen by a share of its units.

    Every active unit activates ``ratio`` units of the next step on average, and ``drive`` more become active from
    outside: :math:`\mathrm E[A_{t+1} \mid A_t] = m A_t + h`, whatever the number of units. Without ``n_units``
    :math:`A_{t+1}` has a Poisson distribution; with :math:`N` units each of them is active with the probability
    :math:`(m A_t + h) / N`. Activity starts from its mean and the start is forgotten before the first step returned.

    Parameters
    ----------
    ratio : float
        Branching ratio :math:`m`, at least 0 and below 1 (at 1 a driven process never comes to rest;
        `branching_avalanches` makes critical avalanches).
    n_steps : int
    drive : float
        Units activated from outside per step, :math:`h`.
    n_units : int, optional
        Size of the network; infinite by default.
    sampled : float
        Share of the units that are observed. In a network the same ones are observed throughout; otherwise each
        activation is observed with this probability.
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray of int64, shape (n_steps,)
        Number of observed active units.

    Raises
    ------
    OptionError
        A parameter out of its range.
    InputError
        A network that is too small for its mean activity.

    References
    ----------
    Wilting and Priesemann 2018, Inferring collective dynamical states from widely unobserved systems,
    doi:10.1038/s41467-018-04725-4

    Examples
    --------
    >>> activity = branching_process(0.9, n_steps=5000, drive=10)
    >>> abs(float(activity.mean()) - 100) < 10  # drive / (1 - ratio)
    True
    """
    ratio, drive = number("ratio", ratio, 0, 1, closed="left"), number("drive", drive, 0, np.inf)
    n_steps, sampled = whole("n_steps", n_steps), number("sampled", sampled, 0, 1)
    mean, random = drive / (1 - ratio), generator(seed)
    if n_units is not None:
        n_units = whole("n_units", n_units)
        if mean >= n_units:
            raise InputError(
                "the network is too small for its activity",
                expected=f"n_units above drive / (1 - ratio) = {mean:g}",
                got=n_units,
            )
    activity = np.empty(n_steps, dtype=np.int64)
    active = round(mean)
    for step in range(-round(_STEPS_TO_FORGET / (1 - ratio)), n_steps):
        expected = ratio * active + drive
        active = random.poisson(expected) if n_units is None else random.binomial(n_units, min(1, expected / n_units))
        if step >= 0:
            activity[step] = active
    if sampled == 1:
        return activity
    if n_units is None:
        return random.binomial(activity, sampled)
    # which units are active is exchangeable, so that the observed ones among them are drawn without replacement
    return random.hypergeometric(activity, n_units - activity, max(1, round(sampled * n_units)))


def branching_avalanches(ratio: float = 1.0, n_avalanches: int = 1000, seed: SeedLike = 0) -> npt.NDArray[np.int64]:
    r"""Return activity made of single avalanches with one silent step before, between and after them.

    Each begins with one active unit; every active unit activates a Poisson number of others with the mean ``ratio``,
    until none is active. Their sizes have Borel's distribution, :math:`P(S) = e^{-m S} (m S)^{S-1} / S!`; at the
    critical ratio of 1 it falls as :math:`S^{-3/2}`, durations as :math:`T^{-2}`, and the mean size of avalanches of
    one duration grows as :math:`T^2`.

    Parameters
    ----------
    ratio : float
        Branching ratio :math:`m`, at least 0 and up to 1: beyond, avalanches need not end.
    n_avalanches : int
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray of int64, shape (n_steps,)
        Number of active units; pass it to `detect_avalanches`.

    Raises
    ------
    OptionError
        A parameter out of its range.

    References
    ----------
    Otter 1949, The Multiplicative Process, doi:10.1214/aoms/1177730031

    Examples
    --------
    >>> activity = branching_avalanches(n_avalanches=3, seed=1)
    >>> int(activity[0]), int(activity[1]), int(activity[-1])
    (0, 1, 0)
    """
    ratio, n_avalanches = number("ratio", ratio, 0, 1, closed="both"), whole("n_avalanches", n_avalanches)
    random = generator(seed)
    alive, active = np.arange(n_avalanches), np.ones(n_avalanches, dtype=np.int64)
    generations = []
    while alive.size:
        generations.append((alive, active))
        active = random.poisson(ratio * active)
        lasting = active > 0
        alive, active = alive[lasting], active[lasting]
    durations = np.zeros(n_avalanches, dtype=np.int64)
    for alive, _ in generations:
        durations[alive] += 1
    starts = np.cumsum(durations + 1) - durations
    activity = np.zeros(int(durations.sum()) + n_avalanches + 1, dtype=np.int64)
    for step, (alive, active) in enumerate(generations):
        activity[starts[alive] + step] = active
    return activity
