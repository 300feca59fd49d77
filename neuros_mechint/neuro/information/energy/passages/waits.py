"""How long passages took that were seen, of which trials cut many off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats

_TRANSITS = 2.0


class Observed(NamedTuple):
    """Times that were seen."""

    mean: float
    """NaN where there was no arrival."""
    error: float
    n: int


class _Waits(NamedTuple):
    """Times from place 0 on, in samples."""

    lasted: Floats
    arrived: npt.NDArray[np.bool_]
    transits: Floats
    """Of those that arrived, the time from leaving place 0 for the last time."""


def observed_passage(trials: Sequence[npt.NDArray[np.int8]], dt: float) -> Observed:
    r"""Return how long it took from place 0, reached after the last visit to place 1, to place 1.

    Ways that a trial's end cuts off count with the time they lasted. All of it by the number of arrivals would be the
    mean of waits that may end at any time, and too long for ways that take some time at least: each that is cut off
    has spent it once more. So the mean is :math:`\int_0^d S(t)\,dt + S(d) / \lambda`, with the share :math:`S` that has
    not arrived (Kaplan and Meier) up to :math:`d`, twice the median time in transit, and a constant rate
    :math:`\lambda` from then on.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times,)
        0 and 1 at the two places, -1 elsewhere.
    dt : float

    References
    ----------
    Kaplan and Meier 1958, Nonparametric Estimation from Incomplete Observations, doi:10.1080/01621459.1958.10501452

    Examples
    --------
    >>> observed_passage([np.array([0, -1, 0, -1, 1, -1, 0, 1])], dt=0.5).mean  # 4 and 1 samples
    1.25
    """
    waits = _waits_of(trials)
    n_arrivals = int(waits.arrived.sum())
    if not n_arrivals:
        return Observed(float("nan"), float("nan"), 0)
    delay = _TRANSITS * float(np.median(waits.transits))
    late = waits.lasted > delay
    if not waits.arrived[late].any():
        delay, late = 0.0, waits.lasted > 0
    until, left = _held_until(waits, delay)
    rate = waits.arrived[late].sum() / (waits.lasted[late] - delay).sum()
    mean = dt * (until + left / float(rate))
    return Observed(mean, mean / n_arrivals**0.5, n_arrivals)


def _waits_of(trials: Sequence[npt.NDArray[np.int8]]) -> _Waits:
    lasted, arrived, transits = [], [], []
    for places in trials:
        at = np.flatnonzero(places >= 0)
        first = np.flatnonzero(np.diff(places[at], prepend=-2))
        begin, place = at[first], places[at[first]]
        waiting, ended = place == 0, np.arange(len(place)) < len(place) - 1
        lasted.append(np.diff(begin, append=len(places) - 1)[waiting])
        arrived.append(ended[waiting])
        arrivals = np.flatnonzero(waiting & ended) + 1
        transits.append(begin[arrivals] - at[first[arrivals] - 1])
    return _Waits(np.concatenate(lasted).astype(float), np.concatenate(arrived), np.concatenate(transits).astype(float))


def _held_until(waits: _Waits, delay: float) -> tuple[float, float]:
    """Return the mean time before arrival or a delay, whichever comes first, and the share that arrives later."""
    order = np.argsort(waits.lasted, kind="stable")
    lasted, arrived = waits.lasted[order], waits.arrived[order]
    early = lasted <= delay
    staying = 1 - arrived / (len(lasted) - np.arange(len(lasted)))
    share = np.concatenate([[1.0], np.cumprod(staying[early])])
    times = np.concatenate([[0.0], lasted[early], [delay]])
    return float(share @ np.diff(times)), float(share[-1])
