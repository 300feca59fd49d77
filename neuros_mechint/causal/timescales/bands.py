"""Bands of time scales, and the part of a sequence that lies in one: by its Fourier series, or from the past alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from neuros_mechint.core.errors import InputError

METHODS = ("fourier", "causal")
FASTEST = 2.0
"""The shortest period that samples can hold, in samples."""
_TOLERANCE = 1e-9  # a period in seconds times a rate in Hz is a whole number of samples up to rounding only


@dataclass(frozen=True)
class Band:
    """Periods from ``shortest`` up to, but not including, ``longest``, both in samples.

    The mean over time has an infinite period: it belongs to bands without a longest one.

    Parameters
    ----------
    name : str
    shortest, longest : float
        Periods in samples; ``longest`` may be infinite, and both are for the mean alone.

    Examples
    --------
    >>> Band("fast", 2, 8).frequencies(16).tolist()  # periods inf, 16, 8, 5.3, 4, 3.2, 2.7, 2.3, 2
    [False, False, False, True, True, True, True, True, True]
    """

    name: str
    shortest: float
    longest: float

    def frequencies(self, n_samples: int) -> torch.Tensor:
        """Return which frequencies ``0, 1 / n_samples, ..., 1 / 2`` per sample lie in the band.

        Examples
        --------
        >>> Band("constant", math.inf, math.inf).frequencies(4)
        tensor([ True, False, False])
        """
        periods = n_samples / torch.arange(1, n_samples // 2 + 1, dtype=torch.float64)
        low, high = self.shortest * (1 - _TOLERANCE), self.longest * (1 - _TOLERANCE)
        inside = (periods >= low) & (periods < high)
        return torch.cat([torch.tensor([math.isinf(self.longest)]), inside])


def octaves(n_samples: int, method: str = "fourier") -> list[tuple[float, float]]:
    """Return bands of one octave each that together hold every period of a sequence, in samples.

    The Fourier series tells the mean over time from all that varies, so that it is a band of its own; from the past
    alone it cannot be told from the slowest.

    Examples
    --------
    >>> octaves(9)
    [(2, 4), (4, 8), (8, 16), (inf, inf)]
    >>> octaves(9, method="causal")
    [(2, 4), (4, 8), (8, inf)]
    """
    starts = [2**octave for octave in range(1, int(math.log2(n_samples)) + 1)]
    bands: list[tuple[float, float]] = [(start, 2 * start) for start in starts]
    return [*bands, (math.inf, math.inf)] if method == "fourier" else [*bands[:-1], (starts[-1], math.inf)]


def checked_bands(bands: Any, n_samples: int, method: str, rate: float) -> list[Band]:
    """Return bands in samples, from the shortest periods to the longest, or say what is wrong with them.

    Parameters
    ----------
    bands : mapping of str to (shortest, longest), sequence of such pairs, or None
        Periods in units of ``1 / rate`` samples; None for `octaves`, which are in samples.
    n_samples : int
        Length of the longest sequence.
    method : {"fourier", "causal"}
    rate : float
        Samples per unit of time; 1 where time is counted in samples.

    Raises
    ------
    InputError
        Nothing, no periods, bands that hold none of the sequence, that overlap, or that need the future.

    Examples
    --------
    >>> [band.name for band in checked_bands([(0.4, math.inf), (0.02, 0.4)], 100, "fourier", rate=100.0)]
    ['0.02 to 0.4', '0.4 and more']
    """
    if n_samples < FASTEST:
        raise InputError("one sample has no time scales", expected="at least 2 along time", got=n_samples)
    if bands is None:
        bands = [(low / rate, high / rate) for low, high in octaves(n_samples, method)]
    named = bands if isinstance(bands, Mapping) else {_named(pair): pair for pair in _listed(bands)}
    if not named:
        raise InputError("there are no bands", expected="at least one (shortest, longest) period")
    found = sorted((_band(name, pair, rate) for name, pair in named.items()), key=lambda band: band.shortest)
    _check_apart(found)
    for band in found:
        _check_filled(band, n_samples, method, rate)
    return found


def part_in_band(values: torch.Tensor, band: Band, method: str) -> torch.Tensor:
    """Return the part of sequences that lies in a band; the parts in bands that hold all periods add up to them.

    Parameters
    ----------
    values : torch.Tensor of shape (n_sequences, n_samples, n_features)
        In double precision.
    band : Band
    method : {"fourier", "causal"}
        ``fourier``: the terms of the Fourier series of the whole sequence; parts are orthogonal, so that their
        energies add up too. ``causal``: the mean of the last ``shortest / 2`` samples less that of the last
        ``longest / 2``, which uses the past alone; parts are not orthogonal, and the edges of bands are soft.

    Examples
    --------
    >>> x = torch.tensor([1.0, 2.0, 6.0, 3.0], dtype=torch.float64).reshape(1, 4, 1)
    >>> part_in_band(x, Band("constant", math.inf, math.inf), "fourier").flatten().tolist()
    [3.0, 3.0, 3.0, 3.0]
    >>> part_in_band(x, Band("fast", 2, 4), "causal").flatten().tolist()
    [0.0, 0.5, 2.0, -1.5]
    """
    if method == "causal":
        return _past_mean(values, band.shortest) - _past_mean(values, band.longest)
    n_samples = values.shape[1]
    kept = band.frequencies(n_samples).to(values.device)
    return torch.fft.irfft(torch.fft.rfft(values, dim=1) * kept[:, None], n=n_samples, dim=1)


def window_length(period: float) -> int:
    """Return how many samples the running mean has that lets longer periods through.

    Examples
    --------
    >>> window_length(2), window_length(16)
    (1, 8)
    """
    return max(1, round(period / 2))


def _past_mean(values: torch.Tensor, period: float) -> torch.Tensor:
    """Return the mean of the last samples at each time, of as many as there are at the start."""
    if math.isinf(period):
        return torch.zeros_like(values)
    length, n_samples = window_length(period), values.shape[1]
    if length == 1:
        return values.clone()
    sums = torch.cat([torch.zeros_like(values[:, :1]), values.cumsum(1)], dim=1)
    stops = torch.arange(1, n_samples + 1, device=values.device)
    starts = (stops - length).clamp(min=0)
    return (sums[:, stops] - sums[:, starts]) / (stops - starts)[:, None]


def _listed(bands: Any) -> list[Any]:
    if isinstance(bands, str) or not isinstance(bands, Sequence):
        raise InputError(
            "bands are no list", expected="{'slow': (16, 64)} or [(2, 16), (16, 64)]", got=repr(bands)[:60]
        )
    return list(bands)


def _named(pair: Any) -> str:
    shortest, longest = _numbers(pair)
    if math.isinf(shortest):
        return "constant"
    return f"{shortest:g} and more" if math.isinf(longest) else f"{shortest:g} to {longest:g}"


def _numbers(pair: Any) -> tuple[float, float]:
    try:
        shortest, longest = (float(one) for one in pair)
    except (TypeError, ValueError) as error:
        raise InputError("a band is no pair of periods", expected="(shortest, longest)", got=repr(pair)[:60]) from error
    return shortest, longest


def _band(name: Any, pair: Any, rate: float) -> Band:
    shortest, longest = _numbers(pair)
    if not 0 < shortest <= longest or (shortest == longest and math.isfinite(shortest)):
        raise InputError(
            f"the band {name!r} holds no periods",
            expected="0 < shortest < longest, or (inf, inf) for the mean over time",
            got=f"({shortest:g}, {longest:g})",
        )
    return Band(str(name), shortest * rate, longest * rate)


def _check_apart(bands: Sequence[Band]) -> None:
    for before, after in pairwise(bands):
        overlap = before.longest > after.shortest * (1 + _TOLERANCE)
        if overlap or (math.isinf(before.longest) and math.isinf(after.longest)):
            raise InputError(
                f"the bands {before.name!r} and {after.name!r} overlap",
                expected="bands that share no period: their energies then add up",
                fix="a band ends where the next one starts: (2, 16) and (16, 64)",
            )


def _check_filled(band: Band, n_samples: int, method: str, rate: float) -> None:
    if method == "fourier":
        if not band.frequencies(n_samples).any():
            raise InputError(
                f"the band {band.name!r} holds no period of {n_samples} samples",
                expected=f"some of {n_samples / rate:g}, {n_samples / 2 / rate:g}, {n_samples / 3 / rate:g}, ..., "
                f"{FASTEST / rate:g}",
                got=f"{band.shortest / rate:g} to {band.longest / rate:g}",
            )
        return
    if math.isinf(band.shortest):
        raise InputError(
            "the mean over all of time is not known before its end",
            expected="with method='causal' a band that starts at a finite period",
            fix="use method='fourier', or a slow band such as (16, inf)",
        )
    ends = window_length(band.longest) if math.isfinite(band.longest) else n_samples + 1
    if window_length(band.shortest) == ends or window_length(band.shortest) > n_samples:
        raise InputError(
            f"the band {band.name!r} is too narrow or too slow for running means over {n_samples} samples",
            expected="periods whose halves, in whole samples, differ and fit the sequence",
            got=f"means over {window_length(band.shortest)} and {ends} samples",
        )
