"""Whether kernels and events are real: what they predict of other trials, and agreement with planted ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.circuits.dunl.encoding import greedy_codes
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels

_SEEN = 0.75
_LEAST_CONSTANT = 0.05


def held_out_score(values: torch.Tensor, kernels: Kernels, rates: torch.Tensor, seed: SeedLike = 0) -> float:
    """Return by how much events tell what trials hold that the kernels were not fitted to.

    Three quarters of the spikes, drawn at random, show where the events are; the events then predict when the other
    spikes come. They are compared with the better of two rates without events: a constant one, and one that varies so
    slowly that no kernel fits into its changes, as excitability drifts.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
        Counts of the held-out trials.
    kernels : Kernels
    rates : torch.Tensor of shape (n_neurons,)
        Mean counts per bin in the trials that kernels were fitted to.
    seed : int or numpy.random.Generator
        Draws the spikes.

    Returns
    -------
    float
        Nats per spike; 0 or less where events predict nothing.

    Examples
    --------
    >>> import torch
    >>> kernels = Kernels(torch.ones(1, 4).double(), torch.zeros(1).double())
    >>> values = torch.ones(1, 20, 50).double()
    >>> values[..., 20:24] = 10
    >>> held_out_score(values, kernels, values.mean((1, 2))) > 0.2
    True
    """
    random = generator(seed)
    seen = torch.from_numpy(random.binomial(values.numpy().astype(np.int64), _SEEN).astype(float))
    unseen = values - seen
    n_spikes = float(unseen.sum())
    if not n_spikes:
        return 0.0
    codes = greedy_codes(seen, kernels._replace(baseline=kernels.baseline + np.log(_SEEN)), sweeps=1)
    constant = rates[:, None, None].expand_as(values)
    rivals = (constant, _slow_rates(seen / _SEEN, constant, kernels.shapes.shape[-1]))
    known = max(_log_likelihood(unseen, rate) for rate in rivals)
    return (_log_likelihood(unseen, kernels.drive(codes).exp()) - known) / n_spikes


def _slow_rates(values: torch.Tensor, constant: torch.Tensor, kernel_length: int) -> torch.Tensor:
    """Return counts smoothed by a Gaussian with a kernel's length as standard deviation, never quite zero."""
    from scipy.ndimage import gaussian_filter1d

    smooth = gaussian_filter1d(values.numpy(), kernel_length, axis=-1, mode="reflect")
    return torch.from_numpy((1 - _LEAST_CONSTANT) * smooth) + _LEAST_CONSTANT * constant


def _log_likelihood(unseen: torch.Tensor, rates: torch.Tensor) -> float:
    """Return the log-likelihood of the unseen share of counts, without what no rate changes."""
    return float((unseen * rates.log() - (1 - _SEEN) * rates).sum())


class KernelMatch(NamedTuple):
    """Which found kernel is which true one.

    Parameters
    ----------
    order : numpy.ndarray of int, of shape (n_true,)
        The found kernel that each true one is matched with.
    cosines : numpy.ndarray of shape (n_true,)
        With it, at the best shift.
    shifts : numpy.ndarray of int, of shape (n_true,)
        By how many bins the found kernel comes late in its window: its events come so much too early.
    """

    order: npt.NDArray[np.intp]
    cosines: Floats
    shifts: npt.NDArray[np.intp]


def match_kernels(found: npt.ArrayLike, true: npt.ArrayLike) -> KernelMatch:
    """Match kernels one to one, so that the cosines at the best shifts have the largest sum.

    Parameters
    ----------
    found : array_like of shape (n_found, kernel_length)
        At least as many as there are true ones. A kernel of zeros has the cosine 0 with all.
    true : array_like of shape (n_true, kernel_length)

    Returns
    -------
    KernelMatch

    Raises
    ------
    InputError
        If there are too few kernels.

    Examples
    --------
    >>> match = match_kernels([[0.0, 0.0, 1.0], [2.0, 2.0, 0.0]], [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    >>> match.order.tolist(), match.cosines.round(3).tolist(), match.shifts.tolist()
    ([1, 0], [1.0, 1.0], [0, 2])
    """
    from scipy.optimize import linear_sum_assignment

    found, true = real_array(found, "found kernels"), real_array(true, "true kernels")
    if found.ndim != 2 or true.ndim != 2 or not true.size or not found.size or len(found) < len(true):
        raise InputError(
            "these kernels cannot be matched",
            expected="(n_kernels, kernel_length), and at least as many found as true ones",
            got=f"{found.shape} found and {true.shape} true",
        )
    cosines, shifts = largest_cosines(found, true)
    columns, rows = linear_sum_assignment(cosines.T, maximize=True)
    return KernelMatch(rows, cosines[rows, columns], shifts[rows, columns])


def largest_cosines(first: Floats, second: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return the largest cosine over shifts of each kernel of the first set with each of the second, and the shift.

    A positive shift says that the first kernel is the second one moved to the right. What a shift moves out of the
    window still counts in the norm.

    Parameters
    ----------
    first, second : numpy.ndarray of shape (n_kernels, kernel_length)

    Returns
    -------
    cosines, shifts : numpy.ndarray of shape (n_first, n_second)

    Examples
    --------
    >>> cosines, shifts = largest_cosines(np.array([[0.0, 3.0]]), np.array([[1.0, 0.0], [1.0, 1.0]]))
    >>> cosines.round(3).tolist(), shifts.tolist()
    ([[1.0, 0.707]], [[1, 0]])
    """
    units = [_of_norm_one(kernels) for kernels in (first, second)]
    length = second.shape[1]
    products = np.array([[np.correlate(one, other, "full") for other in units[1]] for one in units[0]])
    return products.max(-1), products.argmax(-1) - (length - 1)


def _of_norm_one(kernels: Floats) -> Floats:
    peak = np.abs(kernels).max(1, keepdims=True)
    shapes = np.divide(kernels, peak, out=np.zeros_like(kernels), where=peak > 0)  # first, or squares may overflow
    return shapes / np.maximum(np.linalg.norm(shapes, axis=1, keepdims=True), 1.0)


class EventScores(NamedTuple):
    """Agreement of found events with true ones, kernel by kernel, each ``(n_kernels,)``.

    Parameters
    ----------
    recall : numpy.ndarray
        Share of the true events that were found.
    precision : numpy.ndarray
        Share of the found events that are true; NaN where none was found.
    amplitude_r : numpy.ndarray
        Correlation of amplitudes over the matched events; NaN with fewer than three.
    """

    recall: Floats
    precision: Floats
    amplitude_r: Floats


def score_events(
    codes: npt.ArrayLike, true_codes: npt.ArrayLike, match: KernelMatch | None = None, tolerance: int = 1
) -> EventScores:
    """Compare found events with true ones; each is matched once, nearest first, in the same trial.

    Parameters
    ----------
    codes : array_like of shape (..., n_found, n_times)
        Amplitudes where events begin, zero elsewhere.
    true_codes : array_like of shape (..., n_true, n_times)
    match : KernelMatch, optional
        Which kernel is which, and how its events are shifted; by default kernels are in order, and not shifted.
    tolerance : int
        Bins by which matched events may differ.

    Returns
    -------
    EventScores

    Raises
    ------
    InputError
        If codes are of different shapes.

    Examples
    --------
    >>> true, found = np.zeros((1, 1, 30)), np.zeros((1, 1, 30))
    >>> true[0, 0, [3, 20]], found[0, 0, [4, 10]] = 1.0, 2.0
    >>> scores = score_events(found, true)
    >>> scores.recall.tolist(), scores.precision.tolist()
    ([0.5], [0.5])
    """
    codes, true_codes = real_array(codes, "codes"), real_array(true_codes, "true codes")
    tolerance = whole("tolerance", tolerance, 0)
    if codes.ndim < 2 or codes.shape[:-2] != true_codes.shape[:-2] or codes.shape[-1] != true_codes.shape[-1]:
        raise InputError(
            "these codes cannot be compared", expected=f"trials and times as in {true_codes.shape}", got=codes.shape
        )
    n_found, n_true = codes.shape[-2], true_codes.shape[-2]
    if match is None:
        match = KernelMatch(np.arange(n_true), np.ones(n_true), np.zeros(n_true, dtype=np.intp))
    order, _, shifts = _checked_match(match, n_found, n_true)
    n_times = codes.shape[-1]
    by_kernel = []
    for kernel in range(n_true):
        found = codes[..., order[kernel], :].reshape(-1, n_times)
        true = true_codes[..., kernel, :].reshape(-1, n_times)
        by_kernel.append(_score_one(found, true, int(shifts[kernel]), tolerance))
    return EventScores(*np.array(by_kernel).T)


def _checked_match(match: KernelMatch, n_found: int, n_true: int) -> KernelMatch:
    if not isinstance(match, KernelMatch) or len(match.order) != n_true or max(match.order, default=-1) >= n_found:
        raise InputError(
            "the match is of other kernels",
            expected=f"match_kernels(found, true) of {n_true} true kernels and up to {n_found} found",
            got=match,
            fix=f"pass it; without, kernel k is compared with kernel k, of which {n_true} must be there",
        )
    return match


def _score_one(found: Floats, true: Floats, shift: int, tolerance: int) -> tuple[float, float, float]:
    n_true, n_found = np.count_nonzero(true), np.count_nonzero(found)
    pairs = []
    for trial in np.flatnonzero(true.any(1) & found.any(1)):
        times, true_times = np.flatnonzero(found[trial]), np.flatnonzero(true[trial])
        for at, true_at in _nearest_pairs(times + shift, true_times, tolerance):
            pairs.append((found[trial, times[at]], true[trial, true_times[true_at]]))
    amplitudes = np.array(pairs).reshape(-1, 2)
    enough = len(amplitudes) > 2 and np.ptp(amplitudes, axis=0).all()
    return (
        len(pairs) / n_true if n_true else np.nan,
        len(pairs) / n_found if n_found else np.nan,
        float(np.corrcoef((amplitudes / np.abs(amplitudes).max(0)).T)[0, 1]) if enough else np.nan,
    )


def _nearest_pairs(
    times: npt.NDArray[np.intp], true_times: npt.NDArray[np.intp], tolerance: int
) -> list[tuple[int, int]]:
    apart = np.abs(times[:, None] - true_times[None]).astype(float)
    pairs = []
    while apart.min() <= tolerance:
        at, true_at = np.unravel_index(apart.argmin(), apart.shape)
        pairs.append((int(at), int(true_at)))
        apart[at], apart[:, true_at] = np.inf, np.inf
    return pairs
