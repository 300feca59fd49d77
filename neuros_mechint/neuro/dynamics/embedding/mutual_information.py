"""What a sample tells of a later one, and the delay at which it first tells least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.dynamics.embedding.delays import Whole
from neuros_mechint.neuro.information.estimators.binned import bins_by_rank, bins_that_fit, counts_information

_FEWEST_SAMPLES = 50
_ONE_E = float(np.exp(-1))


class DelayChoice(NamedTuple):
    """A delay, why it was chosen, and the curve it was read from.

    Parameters
    ----------
    delay : int
        Samples.
    why : str
    information : numpy.ndarray of shape (n_lags,)
        Average mutual information at lags of 0, 1, ... samples, in nats.
    """

    delay: int
    why: str
    information: Floats


def choose_delay(trials: Sequence[Floats]) -> DelayChoice:
    """Return the delay by the first minimum of the average mutual information.

    It counts only where less than half of the entropy of the (binned) signal is left: without noise a signal that
    repeats itself tells all about itself at every lag. Then, or where there is no minimum, the delay is the first
    zero of the autocorrelation, or where it first falls below 1/e if it has none. Where samples are hardly correlated
    with the next (below 1/e), as those of a map, the delay is one sample.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, n_units)
        The information is that between a unit and itself later on, averaged over units that vary.

    Raises
    ------
    InputError
        Fewer than 50 samples in all, or none that vary.

    References
    ----------
    Fraser and Swinney 1986, Independent coordinates for strange attractors from mutual information,
    doi:10.1103/PhysRevA.33.1134

    Examples
    --------
    >>> wave = np.sin(2 * np.pi * np.arange(2000) / 39.5)[:, None]
    >>> choose_delay([wave]).delay
    10
    """
    check_varies(trials)
    n_samples = sum(map(len, trials))
    if n_samples < _FEWEST_SAMPLES:
        raise InputError(
            "too few samples to choose a delay",
            expected=f"at least {_FEWEST_SAMPLES} in all trials",
            got=n_samples,
            fix="pass the delay",
        )
    most = max(1, min(map(len, trials)) // 4)
    correlation = autocorrelation(trials, most)
    zero, fallen = _first(correlation <= 0), _first(correlation < _ONE_E)
    n_lags = min(most, 2 * zero + 5) if zero else most
    information = mutual_information(trials, n_lags)
    if fallen == 1:
        return DelayChoice(1, "a sample hardly tells of the next: its autocorrelation is below 1/e", information)
    minimum = _first_minimum(information)
    if minimum:
        return DelayChoice(minimum, "first minimum of the average mutual information", information)
    if zero:
        why = "no minimum of the average mutual information; first zero of the autocorrelation"
        return DelayChoice(zero, why, information)
    if fallen:
        why = "no minimum of the average mutual information; autocorrelation first below 1/e"
        return DelayChoice(fallen, why, information)
    why = "neither the average mutual information nor the autocorrelation falls far enough: a quarter of a trial"
    return DelayChoice(most, why, information)


def check_varies(trials: Sequence[Floats]) -> None:
    """Refuse data that never change.

    Raises
    ------
    InputError

    Examples
    --------
    >>> check_varies([np.arange(3.0)[:, None]])
    """
    first = trials[0][0]
    if all((trial == first).all() for trial in trials):
        raise InputError("the trajectories are constant", expected="at least one unit that varies", got=f"{first[:3]}")


def mutual_information(trials: Sequence[Floats], n_lags: int) -> Floats:
    """Return the information between samples and those 0 to ``n_lags`` later in the same trial, in nats.

    Values are binned by rank into as many equally filled bins as leave five samples for each pair of bins. What
    independent samples have by chance, ``(n_bins - 1) ** 2 / (2 n)``, is taken off.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, n_units)
    n_lags : int
        Below the length of the shortest trial.

    Returns
    -------
    numpy.ndarray of shape (n_lags + 1,)
        Average over the units that vary.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(2000, 1))
    >>> information = mutual_information([noise], 3)
    >>> bool(information[0] > 2.9), bool((abs(information[1:]) < 0.05).all())
    (True, True)
    """
    joined = np.concatenate(trials)
    n_bins = bins_that_fit(len(joined))
    ends = np.cumsum([len(trial) for trial in trials])[:-1]
    curves = []
    for values in joined.T:
        if values.min() < values.max():
            curves.append(_information(np.split(bins_by_rank(values, n_bins), ends), n_bins, n_lags))
    return np.mean(curves, axis=0)


def _information(binned: Sequence[Whole], n_bins: int, n_lags: int) -> Floats:
    found = np.empty(n_lags + 1)
    for lag in range(n_lags + 1):
        first, later = (np.concatenate([trial[start:][: len(trial) - lag] for trial in binned]) for start in (0, lag))
        counted = counts_information(first, later)
        found[lag] = counted.value + counted.bias
        if lag:  # the same at all lags, so that the curve has no steps where cells fall empty
            found[lag] -= (n_bins - 1) ** 2 / (2 * len(first))
    return found


def autocorrelation(trials: Sequence[Floats], n_lags: int) -> Floats:
    """Return the autocorrelation of all units together at lags of 0 to ``n_lags`` samples.

    Examples
    --------
    >>> wave = np.sin(2 * np.pi * np.arange(400) / 40)[:, None]
    >>> autocorrelation([wave], 20)[[0, 10, 20]].round(1).tolist()
    [1.0, 0.0, -1.0]
    """
    from scipy.fft import irfft, next_fast_len, rfft

    mean = np.concatenate(trials).mean(0)
    total, count = np.zeros(n_lags + 1), np.zeros(n_lags + 1)
    for trial in trials:
        size = next_fast_len(len(trial) + n_lags + 1, real=True)
        spectrum = np.asarray(rfft(trial - mean, size, axis=0))
        total += np.asarray(irfft((np.abs(spectrum) ** 2).sum(1), size))[: n_lags + 1]
        count += np.maximum(len(trial) - np.arange(n_lags + 1), 0)
    covariance = total / count
    return covariance / covariance[0] + 0.0


def _first(which: np.ndarray) -> int:
    """Return the first lag, from 1 on, at which something holds; 0 where it never does."""
    return int(which[1:].argmax()) + 1 if which[1:].any() else 0


def _first_minimum(information: Floats) -> int:
    inside = information[1:-1]
    lowest = (inside <= information[:-2]) & (inside < information[2:]) & (inside < information[0] / 2)
    return _first(np.concatenate([[False], lowest])) if len(inside) else 0
