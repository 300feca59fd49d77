"""Which scales to look at: windows and octaves within a range."""

from __future__ import annotations

import math

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.fractals.scaling import FEWEST_SCALES

FEWEST_WINDOWS = 4
"""The longest windows must fit this often into a signal: moments of fewer are no moments."""


def windows_between(low: float, high: float, per_octave: int) -> list[int]:
    """Return lengths of windows in equal ratios.

    Parameters
    ----------
    low, high : float
        In samples.
    per_octave : int
        How many, from one length to its double.

    Raises
    ------
    OptionError
        Fewer than three lengths.

    Examples
    --------
    >>> windows_between(16, 64, per_octave=2)
    [16, 23, 32, 45, 64]
    """
    n_steps = math.floor(math.log2(high / low) * per_octave + 1e-9)
    lengths = {math.floor(math.ceil(low) * 2 ** (step / per_octave) + 0.5) for step in range(n_steps + 1)}
    found = sorted(length for length in lengths if length <= high)
    if len(found) < FEWEST_SCALES:
        raise OptionError(
            "the range of the fit holds too few scales for a line",
            expected=f"at least {FEWEST_SCALES}, of {per_octave} per octave",
            got=f"{found} from {low:g} to {high:g}",
            fix="widen fit_range",
        )
    return found


def octaves_between(counts: list[int], fit_range: tuple[float, float] | None, first: int, fewest: int) -> list[int]:
    """Return the octaves of a wavelet transform that lie in a range.

    Parameters
    ----------
    counts : list of int
        How many coefficients each octave has, from 1 on.
    fit_range : pair of float or None
        In samples; without it from octave ``first`` to the last that has at least ``fewest`` coefficients.
    first, fewest : int

    Raises
    ------
    InputError
        Fewer than three octaves, or some that have less than four coefficients.

    Examples
    --------
    >>> octaves_between([31, 14, 6, 2], fit_range=(2, 10), first=3, fewest=4)
    [1, 2, 3]
    """
    if fit_range is None:
        found = [octave for octave, count in enumerate(counts, 1) if octave >= first and count >= fewest]
    else:
        found = list(range(math.ceil(math.log2(fit_range[0]) - 1e-9), math.floor(math.log2(fit_range[1]) + 1e-9) + 1))
        if found and (found[-1] > len(counts) or counts[found[-1] - 1] < FEWEST_WINDOWS):
            longest = sum(count >= FEWEST_WINDOWS for count in counts)
            raise InputError(
                "fit_range goes beyond the scales that the signals hold",
                expected=f"up to {2**longest} samples, where {FEWEST_WINDOWS} coefficients are left",
                got=f"{fit_range[1]:g} samples",
                fix="give longer signals, or a fit_range that ends sooner",
            )
    if len(found) < FEWEST_SCALES:
        raise InputError(
            "too few octaves for a line",
            expected=f"at least {FEWEST_SCALES} powers of two in the range of the fit",
            got=f"{[2**octave for octave in found]}",
            fix="widen fit_range, or give longer signals",
        )
    return found


def last_octave(fit_range: tuple[float, float] | None, first: int) -> int:
    """Return the longest octave of a range, or the least that a fit from ``first`` on needs.

    Examples
    --------
    >>> last_octave((8, 300), first=3), last_octave(None, first=3)
    (8, 5)
    """
    if fit_range is None:
        return first + FEWEST_SCALES - 1
    return max(1, math.floor(math.log2(fit_range[1]) + 1e-9))
