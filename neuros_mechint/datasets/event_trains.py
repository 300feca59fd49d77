"""Spike counts made of planted events: each event adds its kernel to the log-rate, at a time that nobody told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.formatting import shapes_repr
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.random import SeedLike, generator

LINKS = ("poisson", "bernoulli", "gaussian")
"""How counts follow from the summed kernels: as rates through exp, as probabilities through the logistic, as means."""

_MOST_KERNELS = 4
_SHORTEST_KERNEL = 20
_LARGEST = 1e6
_MOST_COUNTS = 1e15  # per bin: above, not every whole number has a float of its own


@dataclass(frozen=True, eq=False)
class EventData:
    """Counts, and the events they were made of.

    Parameters
    ----------
    counts : numpy.ndarray of shape ([n_neurons,] n_trials, n_times)
        Per bin.
    kernels : numpy.ndarray of shape (n_kernels, kernel_length)
        What an event of amplitude 1 adds to the linear predictor (the log-rate, for Poisson counts), from the bin of
        the event on. The largest absolute value of each is 1.
    codes : numpy.ndarray of shape ([n_neurons,] n_trials, n_kernels, n_times)
        Amplitude of the event that begins at a bin, zero where there is none. Events end before their trial does.
    baseline : numpy.ndarray of shape ([n_neurons])
        The linear predictor where there is no event.
    link : {"poisson", "bernoulli", "gaussian"}

    Examples
    --------
    >>> data = planted_events(n_trials=5)
    >>> data.counts.shape, data.kernels.shape, data.codes.shape
    ((5, 400), (2, 40), (5, 2, 400))
    >>> data.event_times.shape[1], round(float(data.baseline), 3)
    (3, 0.693)
    """

    counts: Floats
    kernels: Floats
    codes: Floats
    baseline: Floats
    link: str

    def __repr__(self) -> str:
        """Return the shapes."""
        return shapes_repr(self)

    @property
    def event_times(self) -> npt.NDArray[np.intp]:
        """One row per event, ``(n_events, 3)``: its trial, its kernel and its first bin. All neurons share them."""
        happened = self.codes > 0
        return np.argwhere(happened.any(0) if happened.ndim == 4 else happened)

    @property
    def predictor(self) -> Floats:
        """The linear predictor, of the shape of the counts: the baseline and all events."""
        return self.baseline[..., None, None] + superpose(self.codes, self.kernels)


def planted_events(
    n_trials: int = 100,
    n_times: int = 400,
    n_kernels: int = 2,
    kernel_length: int = 40,
    base: float = 2.0,
    log_gain: tuple[float, float] = (1.0, 2.5),
    events: tuple[int, int] = (1, 2),
    link: str = "poisson",
    n_neurons: int | None = None,
    seed: SeedLike = 0,
) -> EventData:
    """Draw counts in which a few kernels occur at random times, with random amplitudes.

    With the defaults, nine in ten events can be found; with ``base=0.3`` half of them, even by who knows the kernels.

    Parameters
    ----------
    n_trials, n_times : int
        Trials, and bins of each.
    n_kernels : int
        Up to 4 of `event_kernels`.
    kernel_length : int
        In bins.
    base : float
        Expected count of a bin without events: a rate per bin, a probability for ``link="bernoulli"``, a mean in units
        of the noise for ``link="gaussian"``.
    log_gain : tuple of float
        Smallest and largest amplitude, drawn uniformly: an event of amplitude 1 multiplies a Poisson rate by e where
        its kernel is 1.
    events : tuple of int
        Fewest and most events per trial and kernel, both included. ``(0, 0)`` makes a control without events.
    link : {"poisson", "bernoulli", "gaussian"}
        Gaussian noise has the standard deviation 1.
    n_neurons : int, optional
        Counts of so many neurons, which share the times of events and the kernels and have amplitudes of their own.
    seed : int or numpy.random.Generator

    Returns
    -------
    EventData

    Raises
    ------
    InputError
        If kernels are longer than trials, trials too short for so many events, or counts too large to be drawn.
    OptionError
        If a number is out of range or the link unknown.

    Examples
    --------
    >>> data = planted_events(n_trials=50, seed=1)
    >>> float(data.counts.mean()) > 2, int((data.codes > 0).sum(-1).max())
    (True, 2)
    """
    random = generator(seed)
    check_option("link", link, LINKS)
    sizes = whole("n_trials", n_trials), whole("n_times", n_times)
    kernels = event_kernels(n_kernels, kernel_length)
    fewest, most = _two("events", events)
    fewest, most = whole("events[0]", fewest, 0), whole("events[1]", most, fewest)
    lowest, highest = _two("log_gain", log_gain)
    lowest = number("log_gain[0]", lowest, 0, _LARGEST, closed="neither")
    highest = number("log_gain[1]", highest, lowest, _LARGEST, closed="both")
    n_starts = n_times - kernel_length + 1
    if n_starts < max(most, 1):
        raise InputError(
            "trials are too short for these events",
            expected=f"n_times of at least {kernel_length + max(most, 1) - 1}",
            got=f"n_times={n_times}, kernel_length={kernel_length}, up to {most} events",
            fix="pass longer trials or shorter kernels",
        )
    neurons = () if n_neurons is None else (whole("n_neurons", n_neurons),)
    n_events = random.integers(fewest, most, size=(sizes[0], n_kernels, 1), endpoint=True)
    order = random.random((sizes[0], n_kernels, n_starts)).argsort(-1).argsort(-1)
    amplitudes = random.uniform(lowest, highest, size=(*neurons, *order.shape))
    codes = np.where(order < n_events, amplitudes, 0.0)
    codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, kernel_length - 1)])
    baseline = np.full(neurons, _linear_predictor(base, link))
    predictor = baseline[..., None, None] + superpose(codes, kernels)
    return EventData(_draw_counts(predictor, link, random), kernels, codes, baseline, link)


def event_kernels(n_kernels: int, length: int = 40) -> Floats:
    """Return up to four kernels that no shift makes alike: a burst, a biphasic one, a ripple and a dip, in this order.

    The largest cosine between two of them, over all shifts, is 0.28.

    Parameters
    ----------
    n_kernels : int
        From 1 to 4.
    length : int
        In bins, at least 20: shorter ones cannot hold a ripple.

    Returns
    -------
    numpy.ndarray of shape (n_kernels, length)
        Largest absolute value 1.

    Raises
    ------
    OptionError
        If a number is out of range.

    Examples
    --------
    >>> kernels = event_kernels(4)
    >>> unit = kernels / np.linalg.norm(kernels, axis=1, keepdims=True)
    >>> pairs = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    >>> [round(float(np.correlate(unit[i], unit[j], "full").max()), 2) for i, j in pairs]
    [0.27, 0.08, 0.02, 0.0, 0.28, 0.0]
    """
    if whole("n_kernels", n_kernels) > _MOST_KERNELS:
        raise OptionError("n_kernels is out of range", expected=f"1 to {_MOST_KERNELS}", got=n_kernels)
    time = (np.arange(whole("length", length, _SHORTEST_KERNEL)) + 0.5) / length
    centred = time - 0.5
    burst = np.exp(-np.clip(time - 0.31, 0, None) / 0.3) / (1 + np.exp(-(time - 0.31) / 0.025))
    shapes = (
        burst * np.minimum(1, (1 - time) / 0.2),
        -np.sin(2 * np.pi * centred / 0.45) * _bell(centred, 0.2),
        np.cos(2 * np.pi * centred / 0.18) * _bell(centred, 0.18),
        -_bell(centred, 0.15),
    )
    kernels = np.stack(shapes[:n_kernels])
    return kernels / np.abs(kernels).max(1, keepdims=True)


def _bell(time: Floats, width: float) -> Floats:
    return np.exp(-0.5 * (time / width) ** 2)


def superpose(codes: Floats, kernels: Floats) -> Floats:
    """Return the sum of kernels that begin where codes say, scaled as they say, and end with the trial.

    Parameters
    ----------
    codes : numpy.ndarray of shape (..., n_kernels, n_times)
    kernels : numpy.ndarray of shape (n_kernels, kernel_length)

    Returns
    -------
    numpy.ndarray of shape (..., n_times)

    Raises
    ------
    InputError
        Codes of another number of kernels, or no real numbers.

    Examples
    --------
    >>> superpose(np.array([[0.0, 2.0, 0.0, 1.0]]), np.array([[1.0, 3.0]])).tolist()
    [0.0, 2.0, 6.0, 1.0]
    """
    codes, kernels = real_array(codes, "codes"), real_array(kernels, "kernels")
    if codes.ndim < 2 or kernels.ndim != 2 or codes.shape[-2] != len(kernels):
        raise InputError(
            "codes do not fit the kernels",
            expected="(..., n_kernels, n_times) and (n_kernels, kernel_length)",
            got=f"{codes.shape} and {kernels.shape}",
        )
    n_times = codes.shape[-1]
    total = np.zeros((*codes.shape[:-2], n_times))
    for lag in range(min(kernels.shape[1], n_times)):
        total[..., lag:] += np.einsum("...kt,k->...t", codes[..., : n_times - lag], kernels[:, lag])
    return total


def permuted_bins(counts: Floats, seed: SeedLike = 0) -> Floats:
    """Return a control: the bins of each trial in random order, so that nothing is left that has a shape in time.

    Parameters
    ----------
    counts : numpy.ndarray of shape (..., n_times)
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (..., n_times)

    Raises
    ------
    InputError
        No real numbers, NaN, a mask, or no axis of time.

    Examples
    --------
    >>> counts = planted_events(n_trials=3).counts
    >>> shuffled = permuted_bins(counts)
    >>> bool((shuffled.sum(1) == counts.sum(1)).all()), bool((shuffled == counts).all())
    (True, False)
    """
    values = real_array(counts, "counts")
    if not values.ndim or not values.size:
        raise InputError("there are no bins", expected="time along the last axis", got=f"shape {values.shape}")
    return generator(seed).permuted(values, axis=-1)


def drifting_counts(
    n_trials: int = 100, n_times: int = 400, base: float = 2.0, depth: float = 0.4, seed: SeedLike = 0
) -> Floats:
    """Return a control: Poisson counts whose log-rate swings once per trial, with a phase of its own, without events.

    Parameters
    ----------
    n_trials, n_times : int
        Trials, and bins of each.
    base : float
        Counts per bin at the middle of the swing.
    depth : float
        Largest deviation of the log-rate.
    seed : int or numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (n_trials, n_times)

    Raises
    ------
    OptionError
        If a number is out of range.

    Examples
    --------
    >>> drifting_counts(n_trials=4, n_times=100).shape
    (4, 100)
    """
    random = generator(seed)
    log_base = _linear_predictor(base, "poisson")
    depth = number("depth", depth, 0, np.inf, closed="neither")
    phase = random.uniform(0, 2 * np.pi, size=(whole("n_trials", n_trials), 1))
    swing = np.sin(2 * np.pi * np.arange(whole("n_times", n_times)) / n_times + phase)
    return _draw_counts(log_base + depth * swing, "poisson", random)


def _linear_predictor(base: float, link: str) -> float:
    """Return what the link turns into ``base``."""
    if link == "gaussian":
        return number("base", base, -_LARGEST, _LARGEST, closed="both")
    if link == "bernoulli":
        probability = number("base", base, 0, 1, closed="neither")
        return float(np.log(probability / (1 - probability)))
    return float(np.log(number("base", base, 0, np.inf, closed="neither")))


def _draw_counts(predictor: Floats, link: str, random: np.random.Generator) -> Floats:
    if link == "gaussian":
        return predictor + random.standard_normal(predictor.shape)
    if link == "bernoulli":
        return (random.random(predictor.shape) < 0.5 + np.tanh(predictor / 2) / 2).astype(float)
    most = float(predictor.max())
    if most > np.log(_MOST_COUNTS):
        raise InputError(
            "counts are too large to be drawn",
            expected=f"up to {_MOST_COUNTS:g} per bin",
            got=f"exp({most:.4g}) expected in one",
            fix="lower base, log_gain or depth",
        )
    return random.poisson(np.exp(predictor)).astype(float)


def _two(name: str, values: Any) -> tuple[Any, Any]:
    if isinstance(values, list | tuple | np.ndarray) and len(values) == 2:
        return values[0], values[1]
    raise OptionError(f"{name} is no range", expected="two numbers, the smallest and the largest", got=repr(values))
