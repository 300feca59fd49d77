"""Signals of two sides brought to one sampling rate, one length and one number, so that a metric treats them alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.fractals.probes.sequences import SiteSequences

MATCHES = ("length and sampling", "length", "none")
RESAMPLING = ("filter", "bins")
GROUPS = ("subject", "session")
"""Coordinates of units that say which of them were recorded together, the coarser first."""

_LARGEST_DENOMINATOR = 1000
_SAME_RATE = 1e-3
# Just below the slower rate: both sides then pass the same filter, and roll off alike at the new highest frequency.
_OF_SLOWER = Fraction(4, 5)
_FILTER_REACH = 10  # samples of the result, to either side: half the length of scipy's filter


@dataclass(frozen=True)
class UnitSignals:
    """Signals of the units of one side.

    Parameters
    ----------
    pieces : tuple of numpy.ndarray of shape (n_samples, n_units)
        One uninterrupted piece of time each: a trial, a sample of inputs, a session.
    rate : float or None
        Samples per second.
    groups : tuple of str
        Which units belong together, one label each; empty where nobody said.
    grouped_by : str
        What these labels are.
    binned : bool
        Whether a sample is a count or mean over its whole interval, as spikes in bins are.
    """

    pieces: tuple[Floats, ...]
    rate: float | None
    groups: tuple[str, ...] = ()
    grouped_by: str = ""
    binned: bool = False

    @property
    def lengths(self) -> list[int]:
        """Samples of each piece."""
        return [len(piece) for piece in self.pieces]


def signals_of_site(sequences: SiteSequences, rate: float | None) -> UnitSignals:
    """Return the signals at a site, without padding.

    Examples
    --------
    >>> x = SiteSequences.of("h", torch.zeros(2, 30, 4), ("sample", "time", "unit"))
    >>> signals_of_site(x, rate=None).lengths
    [30, 30]
    """
    values = sequences.values.cpu().numpy()
    kept = sequences.kept.cpu().numpy()
    pieces = tuple(one[mask] for one, mask in zip(values, kept, strict=True) if mask.any())
    return UnitSignals(pieces, rate)


def signals_of_recording(recording: Any) -> UnitSignals:
    """Return the signals of a recording, one piece for each trial, stimulus and repetition.

    Raises
    ------
    InputError
        No recording, no axes ``time`` and ``unit``, or values that are missing.

    Examples
    --------
    >>> recording = Recording(np.zeros((3, 50, 4)), ("trial", "time", "unit"), sampling_rate=100.0)
    >>> found = signals_of_recording(recording)
    >>> len(found.pieces), found.rate
    (3, 100.0)
    """
    array = recording.data if isinstance(recording, Recording) else recording
    if not isinstance(array, xr.DataArray) or not {"time", "unit"} <= set(array.dims):
        raise InputError(
            "the recording has no signals of units",
            expected="an nm.Recording (or xarray.DataArray) with axes 'time' and 'unit'",
            got=tuple(map(str, array.dims)) if isinstance(array, xr.DataArray) else type(recording).__name__,
        )
    values = array.transpose(..., "time", "unit").values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(
            "values of the recording are missing",
            expected="finite values",
            got=f"{int((~np.isfinite(values)).sum())} of {values.size} are not",
            fix="leave out these trials or units with recording.select or .query",
        )
    name = next((one for one in GROUPS if one in array.coords and array.coords[one].dims == ("unit",)), "")
    groups = tuple(map(str, array.coords[name].values)) if name else ()
    rate = array.attrs.get("sampling_rate")
    pieces = tuple(values.reshape(-1, *values.shape[-2:]))
    return UnitSignals(pieces, None if rate is None else float(rate), groups, name, "bin_width" in array.attrs)


def at_one_rate(
    model: UnitSignals, recording: UnitSignals, resampling: str = "filter"
) -> tuple[UnitSignals, UnitSignals]:
    """Return both sides at one sampling rate.

    Parameters
    ----------
    model, recording : UnitSignals
    resampling : {"filter", "bins"}
        ``filter``: where rates differ, both sides are brought to four fifths of the slower rate through the same
        filter (`scipy.signal.resample_poly`), so that it takes as much from either; the ends, where it reaches beyond
        the data, are left out. ``bins``: the faster side is averaged over whole samples of the slower.

    Raises
    ------
    InputError
        A rate is unknown, rates do not fit, or pieces are too short for the filter.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(1000, 1))
    >>> fast, slow = UnitSignals((x,), 1000.0), UnitSignals((x[:500],), 250.0)
    >>> [(one.rate, one.lengths) for one in at_one_rate(fast, slow)]
    [(200.0, [180]), (200.0, [380])]
    >>> [(one.rate, one.lengths) for one in at_one_rate(fast, slow, "bins")]
    [(250.0, [250]), (250.0, [500])]
    """
    check_option("resampling", resampling, RESAMPLING)
    if model.rate is None or recording.rate is None:
        side = "model" if model.rate is None else "recording"
        raise InputError(
            f"nobody said how fast the {side} is sampled, so that time cannot be matched",
            expected="sampling_rate=... of the model, in steps per second, and a recording with a sampling rate",
            got=f"{model.rate} and {recording.rate} Hz",
            fix="if a step of the model is to be compared with a sample of the recording: match='length'",
        )
    if abs(model.rate / recording.rate - 1) <= _SAME_RATE:
        return model, recording
    if resampling == "bins":
        slower = min(model.rate, recording.rate)
        return _binned(model, slower), _binned(recording, slower)
    target = float(_OF_SLOWER) * min(model.rate, recording.rate)
    return _resampled(model, target), _resampled(recording, target)


def _binned(side: UnitSignals, rate: float) -> UnitSignals:
    """Return means over as many samples as make one at the lower rate."""
    assert side.rate is not None
    n_bin = round(side.rate / rate)
    if abs(side.rate / rate / n_bin - 1) > _SAME_RATE or min(side.lengths) < n_bin:
        raise InputError(
            "the sampling rates do not fit",
            expected="the faster a whole multiple of the slower, and pieces of at least one of its samples",
            got=f"{side.rate:g} Hz, {rate:g} Hz, pieces of {min(side.lengths)} samples",
            fix="use resampling='filter', or bin spikes at a rate that divides the model's",
        )
    pieces = [piece[: len(piece) // n_bin * n_bin].reshape(-1, n_bin, piece.shape[1]).mean(1) for piece in side.pieces]
    return replace(side, pieces=tuple(pieces), rate=rate)


def _resampled(side: UnitSignals, rate: float) -> UnitSignals:
    from scipy.signal import resample_poly

    assert side.rate is not None
    ratio = Fraction(rate / side.rate).limit_denominator(_LARGEST_DENOMINATOR)
    if abs(float(ratio) * side.rate / rate - 1) > _SAME_RATE:
        raise InputError(
            "the sampling rates are too far apart",
            expected=f"rates whose ratio is at least 1 / {_LARGEST_DENOMINATOR}",
            got=f"{side.rate:g} Hz to {rate:g} Hz",
            fix="average the faster side over time bins first",
        )
    pieces: list[Floats] = []
    for piece in side.pieces:
        found = resample_poly(piece, ratio.numerator, ratio.denominator, axis=0, padtype="mean")
        pieces.append(found[_FILTER_REACH:-_FILTER_REACH])
    if min(map(len, pieces)) < 2:
        raise InputError(
            "signals are too short to be resampled",
            expected=f"more than {2 * _FILTER_REACH} samples at {rate:g} Hz",
            got=f"{min(side.lengths)} at {side.rate:g} Hz",
        )
    return replace(side, pieces=tuple(pieces), rate=rate)


def windows(side: UnitSignals, length: int) -> Floats:
    """Return all windows of a length that lie side by side in the pieces, ``(n_windows, n_units, length)``.

    Examples
    --------
    >>> windows(UnitSignals((np.zeros((7, 2)), np.zeros((3, 2))), None), 3).shape
    (3, 2, 3)
    """
    cut = [
        piece[start : start + length].T for piece in side.pieces for start in range(0, len(piece) - length + 1, length)
    ]
    return np.stack(cut)


def drawn(values: Floats, n_windows: int, rng: np.random.Generator) -> Floats:
    """Return some windows, drawn without replacement, in their order.

    Examples
    --------
    >>> drawn(np.arange(3)[:, None, None], 3, np.random.default_rng(0)).ravel().tolist()
    [0, 1, 2]
    """
    return values[np.sort(rng.permutation(len(values))[:n_windows])]


def as_rows(values: Floats) -> torch.Tensor:
    """Return windows as one signal per row.

    Examples
    --------
    >>> as_rows(np.zeros((2, 3, 7))).shape
    torch.Size([6, 7])
    """
    return torch.from_numpy(np.ascontiguousarray(values.reshape(-1, values.shape[-1])))
