"""Where a divergence curve is straight: the part whose slope is an exponent, and whether there is one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.dynamics.embedding.delays import Whole

BELOW_SATURATION = 1.5
"""How far below that of states drawn at random the logarithm of distances must be for growth to be free."""
GROWN = float(np.log(2))
"""Distances that have not even doubled have not been seen to grow."""
FEWEST_STEPS = 4
_NODES = 40
_SHORTEST = 1 / 3
_MOST_BEND = 1.0
_MOST_SPREAD = 0.5


class Windows(NamedTuple):
    """Stretches of the curve that a line is fitted to.

    Parameters
    ----------
    first, last : numpy.ndarray of shape (n_windows,)
        Steps, both inclusive.
    """

    first: Whole
    last: Whole


class Region(NamedTuple):
    """The straight part, and the slope.

    Parameters
    ----------
    first, last : int
        Steps, both inclusive.
    slope : float
        Per step; NaN where no part is straight.
    spread : float
        Half the width of the middle 68% of slopes, by weight, of all windows.
    reason : str
        Why there is no slope; empty where there is one.
    grown : float
        By how much the logarithm of distances grows within the region.
    saturates : bool
        Whether the curve reaches distances that can no longer grow freely.
    """

    first: int
    last: int
    slope: float
    spread: float
    reason: str
    grown: float
    saturates: bool


def free_steps(curve: Floats, saturation: float) -> int:
    """Return for how many steps from the beginning on distances can grow freely.

    Examples
    --------
    >>> free_steps(np.array([-4.0, -3.0, -2.0, -1.0, 0.0]), saturation=0.0)
    3
    """
    above = np.flatnonzero(curve >= saturation - BELOW_SATURATION)
    return int(above[0]) if len(above) else len(curve)


def candidate_windows(n_free: int) -> Windows:
    """Return windows between 40 points of the free part, each at least a third of it and four steps long.

    Examples
    --------
    >>> windows = candidate_windows(6)
    >>> list(zip(windows.first.tolist(), windows.last.tolist()))
    [(0, 4), (0, 5), (1, 5)]
    """
    nodes = np.unique(np.linspace(0, max(n_free - 1, 0), _NODES).round().astype(np.int64))
    first, last = (values.ravel() for values in np.meshgrid(nodes, nodes, indexing="ij"))
    long = last - first >= max(FEWEST_STEPS, _SHORTEST * (n_free - 1))
    return Windows(first[long], last[long])


def fitted_slopes(curves: Floats, windows: Windows) -> tuple[Floats, Floats]:
    """Return least-squares slopes and root mean squares of what is left, ``(n_curves, n_windows)`` each.

    Examples
    --------
    >>> slope, residual = fitted_slopes(3 * np.arange(10.0)[None], candidate_windows(10))
    >>> bool(np.allclose(slope, 3)), bool(residual.max() < 1e-7)
    (True, True)
    """
    # Sums over a window are differences of running sums; about the middle they lose fewer digits.
    steps = np.arange(curves.shape[1]) - curves.shape[1] / 2
    values = curves - curves.mean(1, keepdims=True)

    def over(terms: Floats) -> Floats:
        running = np.concatenate([np.zeros((*terms.shape[:-1], 1)), np.cumsum(terms, axis=-1)], axis=-1)
        return running[..., windows.last + 1] - running[..., windows.first]

    n = windows.last - windows.first + 1
    step, square = over(steps), over(steps**2)
    value, product, power = over(values), over(values * steps), over(values**2)
    variance = square - step**2 / n
    slope = (product - value * step / n) / variance
    residual = power - value**2 / n - slope**2 * variance
    return slope, np.sqrt(np.maximum(residual, 0) / n)


def weighted_median(slopes: Floats, weights: Floats, share: float = 0.5) -> Floats:
    """Return the slope below which lies a share of the weight, row by row.

    Examples
    --------
    >>> weighted_median(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 1.0, 5.0]])).tolist()
    [3.0]
    """
    order = np.argsort(slopes, axis=-1)
    ordered = np.take_along_axis(slopes, order, -1)
    running = np.cumsum(np.take_along_axis(weights, order, -1), -1)
    index = (running < share * running[..., -1:]).sum(-1, keepdims=True)
    return np.take_along_axis(ordered, index, -1)[..., 0]


def window_weights(windows: Windows, residual: Floats, noise: float) -> Floats:
    """Return weights: the length over the squared error, which chance alone keeps above ``noise``.

    Examples
    --------
    >>> window_weights(Windows(np.array([0]), np.array([4])), np.array([[0.1]]), noise=0.0).round(1).tolist()
    [[400.0]]
    """
    return (windows.last - windows.first) / (residual**2 + max(noise, 1e-9) ** 2)


def straight_region(curve: Floats, saturation: float, noise: float) -> tuple[Region, Windows]:
    """Return the part of a divergence curve that is straight, and the windows that were tried.

    All windows of the part before distances saturate are fitted. The slope is the median of theirs, weighted by length
    over squared error; the region is the window of most weight.

    Parameters
    ----------
    curve : numpy.ndarray of shape (n_steps,)
        Mean logarithm of distances.
    saturation : float
        That of states drawn at random.
    noise : float
        What chance makes of the curve: smaller errors of a fit do not tell.

    References
    ----------
    Deshmukh et al. 2021, Toward automated extraction and characterization of scaling regions in dynamical systems,
    doi:10.1063/5.0069365, whose mode of the slopes is a median here, which needs no smoothing

    Examples
    --------
    >>> curve = np.minimum(0.1 * np.arange(100.0) - 6, 0)
    >>> region, _ = straight_region(curve, saturation=0.0, noise=0.01)
    >>> round(region.slope, 6), region.reason
    (0.1, '')
    >>> noise = np.where(np.arange(100) == 0, -3.0, 0.0)  # as far as any states after one step
    >>> straight_region(noise, saturation=0.0, noise=0.01)[0].slope
    nan
    """
    n_free = free_steps(curve, saturation)
    saturates = n_free < len(curve)
    windows = candidate_windows(n_free)
    if not len(windows.first):
        unknown = float("nan")
        reason = (
            f"neighbours are nearly as far apart as any two states after {n_free} step{'' if n_free == 1 else 's'}: "
            "there is no time in which distances grow freely"
        )
        return Region(0, max(n_free - 1, 0), unknown, unknown, reason, unknown, saturates), windows
    slopes, residual = fitted_slopes(curve[None], windows)
    weights = window_weights(windows, residual, noise)
    low, slope, high = (float(weighted_median(slopes, weights, share)[0]) for share in (0.16, 0.5, 0.84))
    best = int(weights[0].argmax())
    first, last = int(windows.first[best]), int(windows.last[best])
    grown, spread = float(slopes[0, best] * (last - first)), (high - low) / 2
    reason = _objection(curve[first : last + 1], grown, spread, slope, saturates)
    return Region(first, last, float("nan") if reason else slope, spread, reason, grown, saturates), windows


def _objection(part: Floats, grown: float, spread: float, slope: float, saturates: bool) -> str:
    """Return why a part of the curve is no straight growth, if so."""
    if abs(grown) < GROWN:
        if not saturates:
            return ""  # distances stay as they are: an exponent of about zero
        factor = np.exp(grown)
        return f"the straightest part of the curve grows by a factor of {factor:.2f} only, before distances saturate"
    steps = np.linspace(-1, 1, len(part))
    bend = abs(4 * np.polyfit(steps, part, 2)[0] / grown)
    if bend > _MOST_BEND:
        return f"the curve bends: along its straightest part the slope changes by {100 * bend:.0f}% of itself"
    if spread > _MOST_SPREAD * abs(slope):
        return f"slopes depend on where the line is fitted: {slope:.3g} ± {spread:.2g} per step"
    return ""
