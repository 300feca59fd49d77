"""The colours of every figure, which readers with any common colour blindness can tell apart."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, TwoSlopeNorm

# Okabe & Ito's palette, strongest contrast first.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
INK = "#22262b"
MUTED_INK = "#6b7280"
PALE = "#b9c4cf"
"""Controls, single samples and whatever else a figure shows beside its point."""
GRID = "#e3e5e8"
MISSING = "#c9ccd1"
_SEQUENTIAL_STOPS = ("#f6f9fc", "#d3e3f1", "#9dc3e0", "#5b9bc8", "#2672aa", "#0e4c80", "#082a4d")
_DIVERGING_STOPS = ("#0b4a86", "#3f85bd", "#a3cae2", "#f7f7f6", "#f3b896", "#d4672f", "#8f2a0c")
SEQUENTIAL = LinearSegmentedColormap.from_list("neuros_sequential", _SEQUENTIAL_STOPS).with_extremes(bad=MISSING)
DIVERGING = LinearSegmentedColormap.from_list("neuros_diverging", _DIVERGING_STOPS).with_extremes(bad=MISSING)


def colour_scale(numbers: np.ndarray, center: float | None = None) -> tuple[Colormap, Normalize]:
    """Return the colours: diverging around ``center``, or zero where both signs occur, else sequential.

    Examples
    --------
    >>> colour_scale(np.array([0.0, 2.0]))[0].name
    'neuros_sequential'
    """
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if center is None and low < 0 < high:
        center = 0.0
    if center is not None:
        reach = max(high - center, center - low) or 1.0
        return DIVERGING, TwoSlopeNorm(center, center - reach, center + reach)
    if low == high:
        low, high = (min(low, 0.0), max(high, 0.0)) if low else (0.0, 1.0)
    return SEQUENTIAL.reversed() if high <= 0 else SEQUENTIAL, Normalize(low, high)
