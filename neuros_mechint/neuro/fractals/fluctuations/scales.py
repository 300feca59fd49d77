"""Which lengths of windows detrended fluctuation analysis looks at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from neuros_mechint.core.errors import OptionError, check_option, whole
from neuros_mechint.neuro.fractals.fluctuations.wavelet import SHORTEST
from neuros_mechint.neuro.fractals.scaling import FEWEST_SCALES

SCALE_SETS = ("dyadic", "nolds", "antropy")
_WINDOWS_IN_LONGEST = 10
_FEWEST_WINDOWS = 4
_FACTOR = 1.2
# nolds has rules of its own for signals that are too short for ten of its windows
_SHORTEST_NOLDS, _SHORT_NOLDS = 11, 70


def checked_scales(scales: Any, order: int) -> str | tuple[int, ...]:
    """Return the name of a set of scales, or lengths of windows in ascending order.

    Raises
    ------
    OptionError
        Another name, fewer than three lengths, or a length that leaves nothing when the trend is removed.

    Examples
    --------
    >>> checked_scales([32, 8, 16], order=1)
    (8, 16, 32)
    """
    if isinstance(scales, str):
        check_option("scales", scales, SCALE_SETS)
        if order + 2 > 4 and scales != "dyadic":
            raise OptionError(
                f"the scales of {scales} begin with windows of 4 samples, too short for a trend of order {order}",
                fix="pass longer windows: scales=(8, 16, 32, ...)",
            )
        if order + 2 > SHORTEST:
            raise OptionError("order is out of range", expected=f"at most {SHORTEST - 2}", got=order)
        return scales
    if not isinstance(scales, Sequence) and not hasattr(scales, "tolist"):
        raise OptionError("scales are no sequence", expected="a name or whole numbers of samples", got=repr(scales))
    lengths = tuple(sorted({whole("a window", length, least=order + 2) for length in scales}))
    if len(lengths) < FEWEST_SCALES:
        raise OptionError("too few windows for a line", expected="at least 3 different lengths", got=repr(scales))
    return lengths


def fewest_samples(scales: str | tuple[int, ...], overlap: bool) -> int:
    """Return the length of the shortest signal that has three scales.

    Examples
    --------
    >>> fewest_samples("dyadic", overlap=False)
    128
    """
    if isinstance(scales, tuple):
        return scales[-1] + overlap
    if scales == "nolds":
        return _SHORTEST_NOLDS
    n_samples = _WINDOWS_IN_LONGEST * 4
    while len(window_lengths(scales, n_samples)) < FEWEST_SCALES:
        n_samples += 1
    return n_samples


def window_lengths(scales: str | tuple[int, ...], n_samples: int) -> tuple[int, ...]:
    """Return lengths of windows for a signal, in samples and ascending.

    Parameters
    ----------
    scales : {"dyadic", "nolds", "antropy"} or tuple of int
        Powers of two from 8 up; from 4 up in steps of a factor of 1.2, as the two packages have them; each to a tenth
        of the signal. Where that leaves fewer than three powers of two, three, to a quarter of the signal; nolds takes
        4 to 9 for signals of 11 to 70 samples.
    n_samples : int

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> window_lengths("dyadic", 1000)
    (8, 16, 32, 64)
    >>> window_lengths("antropy", 200)
    (4, 5, 6, 8, 9, 11, 14, 17)
    """
    if isinstance(scales, tuple):
        return scales
    if scales == "dyadic":
        usual, most = (
            (n_samples // (n_windows * SHORTEST)).bit_length() for n_windows in (_WINDOWS_IN_LONGEST, _FEWEST_WINDOWS)
        )
        return tuple(SHORTEST << octave for octave in range(max(usual, min(FEWEST_SCALES, most))))
    if scales == "nolds" and n_samples <= _SHORT_NOLDS:
        return tuple(range(4, 10))
    return _logarithmic(4, 0.1 * n_samples)


def _logarithmic(shortest: int, longest: float) -> tuple[int, ...]:
    """Return whole numbers in steps of a factor, rounded down, as nolds and antropy compute them."""
    steps = math.floor(math.log(longest / shortest) / math.log(_FACTOR))
    return tuple(sorted({math.floor(shortest * _FACTOR**step) for step in range(steps + 1)}))
