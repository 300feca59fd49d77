"""Sample entropy: how often what was alike for some samples is not alike for one more."""

from __future__ import annotations

import warnings
from itertools import pairwise
from math import sqrt
from typing import Any, ClassVar

import torch

from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.statistics.standard_errors import jackknife_error, t_reach
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
from neuros_mechint.neuro.fractals.uncertainty import Uncertainty, counted

_N_BLOCKS = 20
# Pairs of samples that are compared at a time: their differences stay in the cache.
_PAIRS_AT_ONCE = 2**16


class SampleEntropy(SignalMetric):
    r"""Sample entropy, :math:`-\ln(A / B)`: how unpredictable a signal is from its own past.

    :math:`B` counts the pairs of moments from which on ``order`` samples are alike, :math:`A` those where the next
    sample is alike as well. Alike is closer than ``tolerance`` standard deviations (of the whole signal, with
    :math:`n` in the denominator); moments are not paired with themselves, and only those are that have a next
    sample. The same definition as in nolds and antropy. White Gaussian noise has :math:`-\ln \mathrm{erf}(r / 2)` for
    a tolerance :math:`r`, 2.18 for 0.2; a signal that repeats itself comes near to 0.

    Counts change in steps: there is no gradient.

    Parameters
    ----------
    order : int
        How many samples must be alike.
    tolerance : float
        In standard deviations of the signal, so that neither scale nor offset matter.

    Raises
    ------
    OptionError
        A parameter out of range.

    References
    ----------
    Richman and Moorman 2000, Physiological time-series analysis using approximate entropy and sample entropy,
    doi:10.1152/ajpheart.2000.278.6.H2039

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> time = torch.arange(1000, dtype=torch.float64)
    >>> noise = nm.fractional_gaussian_noise(0.5, n_samples=1000)[0]
    >>> nm.SampleEntropy()(torch.stack([torch.sin(0.3 * time), noise]))
    tensor([0.2316, 2.2524], dtype=torch.float64)
    """

    quantity: ClassVar[str] = "entropy"
    long_name: ClassVar[str] = "sample entropy"
    citations: ClassVar[tuple[str, ...]] = ("richman2000",)
    rows_at_once: ClassVar[int | None] = 1

    def __init__(self, order: int = 2, tolerance: float = 0.2) -> None:
        self.order = whole("order", order)
        self.tolerance = number("tolerance", tolerance, 0, float("inf"))

    def __call__(self, x: Any) -> torch.Tensor:
        """Return the sample entropy of each signal.

        Parameters
        ----------
        x : torch.Tensor, array_like, xarray.DataArray or Recording
            Signals ``(..., n_samples)``; labelled data may have time anywhere.

        Returns
        -------
        torch.Tensor of shape (...)
            Without gradient. Infinite where nothing stays alike, NaN where nothing is alike at all; a warning says
            how often that is so.

        Raises
        ------
        InputError
            Data that are no real numbers, not finite, constant, or too short.
        """
        found = super().__call__(x)
        for text in _few(found):
            warnings.warn(text, UserWarning, stacklevel=2)
        return found

    def _least(self) -> int:
        return self.order + 2

    def _fit(self, rows: torch.Tensor) -> Fit:
        counts = [self._counts(row) for row in rows.detach().double()]
        return Fit(_entropy(torch.tensor(counts, dtype=torch.float64)).to(rows))

    def _cautions(self, fit: Fit) -> tuple[str, ...]:
        return _few(fit.value)

    def _uncertainty(self, rows: torch.Tensor, fit: Fit, level: float, n_simulated: int, seed: SeedLike) -> Uncertainty:
        """Return the jackknife over blocks: put together anew, blocks that come twice would match themselves."""
        if rows.shape[1] < _N_BLOCKS * (self.order + 2):
            raise InputError(
                "the signals are too short for an error",
                expected=f"at least {_N_BLOCKS * (self.order + 2)} samples",
                got=rows.shape[1],
                fix="call the metric itself, without .estimate",
            )
        errors = [self._error(row) for row in progress_bar(rows, len(rows), "leaving out blocks")]
        error = torch.tensor(errors, dtype=torch.float64)
        reach = t_reach(error, _N_BLOCKS - 1, level)
        origin = f"leaving out each of {_N_BLOCKS} blocks of {rows.shape[1] // _N_BLOCKS} samples"
        unknown = int(error.isnan().sum())
        text = f"{unknown} of {len(error)} signals have so few moments that are alike that their error is not known"
        return Uncertainty(
            error, fit.value - reach, fit.value + reach, None, origin, warnings=(text,) if unknown else ()
        )

    def _error(self, signal: torch.Tensor) -> float:
        bounds = torch.linspace(0, len(signal), _N_BLOCKS + 1).round().long().tolist()
        counts = [self._counts(signal)]
        for first, last in pairwise(bounds):
            # NaN is like nothing, so that the ends of the gap are not joined
            left = signal.clone()
            left[first:last] = torch.nan
            counts.append(self._counts(left))
        tally = torch.tensor(counts, dtype=torch.float64)
        entropies = _entropy(tally)
        if not torch.isfinite(entropies).all():
            return float("nan")
        variance = jackknife_error(entropies[1:].numpy()).item() ** 2
        # A jackknife of pairs counts the chance of single pairs, which is binomial, twice.
        of_pairs = float(1 / tally[0, 1] - 1 / tally[0, 0])
        return sqrt(max(variance - of_pairs, of_pairs))

    def _counts(self, signal: torch.Tensor) -> tuple[int, int]:
        """Return how many pairs of moments are alike for ``order`` and for one more sample; NaN is like nothing."""
        present = ~signal.isnan()
        radius = self.tolerance * float(signal[present].std(correction=0))
        n, order = signal.shape[0], self.order
        later = torch.cat([signal, signal.new_full((n,), torch.nan)])
        exists = torch.cat([present, present.new_zeros(n)])
        n_first = n_second = 0
        lag = 1
        while lag < n - order:
            # row by row one lag more: all pairs that are so far apart
            width = n - lag
            n_lags = min(n - order - lag, max(1, _PAIRS_AT_ONCE // width))
            close = (_lagged(later, lag, n_lags, width) - signal[:width]).abs_() < radius
            alike = close[:, : width - order]
            for step in range(1, order):
                alike = alike & close[:, step : width - order + step]
            continued = alike & close[:, order:]
            alike = alike & present[order:width] & _lagged(exists, lag + order, n_lags, width - order)
            n_first += int(alike.sum())
            n_second += int(continued.sum())
            lag += n_lags
        return n_first, n_second


def _lagged(values: torch.Tensor, lag: int, n_lags: int, width: int) -> torch.Tensor:
    """Return a view ``(n_lags, width)`` whose rows begin at ``lag``, ``lag + 1`` and so on."""
    return values[lag : lag + n_lags + width - 1].unfold(0, width, 1)


def _entropy(counts: torch.Tensor) -> torch.Tensor:
    """Return the entropy from counts ``(n_signals, 2)``; none of both is NaN, none of the second infinite."""
    return torch.log(counts[:, 0]) - torch.log(counts[:, 1])


def _few(values: torch.Tensor) -> tuple[str, ...]:
    texts = {
        "have no moments that are alike: their sample entropy is NaN; raise the tolerance": values.isnan(),
        "have no moments that stay alike: their sample entropy is infinite; raise the tolerance": values.isinf(),
    }
    return counted({text: which.cpu().numpy() for text, which in texts.items()})
