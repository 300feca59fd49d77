"""Regression of activity on itself some steps before, block by block, and the exponential through the slopes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.statistics.p_values import p_of_draws

# coarse where autocorrelation times hardly differ, fine towards 1, where they grow without bound
_GRID = np.concatenate([np.linspace(0.01, 0.95, 95), 1 - np.geomspace(0.05, 1e-4, 60)[1:], [1.0]])
_MOST_HALVINGS = 45


class BlockSums(NamedTuple):
    """Products of deviations from the mean, summed up within blocks of time.

    Parameters
    ----------
    products : numpy.ndarray of shape (n_blocks, k_max + 1)
        Of each step with the one ``k`` later, for k from 0; the pair belongs to the block of its first step.
    n_pairs : numpy.ndarray of shape (n_blocks, k_max + 1)
    """

    products: Floats
    n_pairs: Floats

    def slopes(self, weights: Floats | None = None) -> Floats:
        """Return the slope of activity on that ``k`` steps before, for k from 1, of blocks drawn so often.

        Examples
        --------
        >>> block_sums(np.array([[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]]), k_max=2, length=3).slopes().round(3).tolist()
        [-1.0, 1.0]
        """
        drawn = np.ones(len(self.products)) if weights is None else weights
        covariance = (drawn @ self.products) / np.maximum(drawn @ self.n_pairs, 1)
        return covariance[..., 1:] / covariance[..., :1]


def block_sums(activity: Floats, k_max: int, length: int, progress: bool = False) -> BlockSums:
    """Return sums of products within blocks of about ``length`` steps, which never cross trials.

    Parameters
    ----------
    activity : numpy.ndarray of shape (n_trials, n_steps)
        The mean over everything is taken off: trials share it.
    k_max : int
    length : int
    progress : bool

    Returns
    -------
    BlockSums

    Examples
    --------
    >>> block_sums(np.arange(12.0).reshape(2, 6), k_max=1, length=3).products.shape
    (4, 2)
    """
    n_trials, n_steps = activity.shape
    deviation = activity - activity.mean()
    n_blocks = max(1, n_steps // length)
    starts = np.arange(n_blocks) * n_steps // n_blocks
    products, n_pairs = (np.zeros((n_trials * n_blocks, k_max + 1)) for _ in range(2))
    for k in progress_bar(range(k_max + 1), description="regressions on earlier activity", enabled=progress):
        stop = n_steps - k
        inside = starts[starts < stop]
        found = np.zeros((n_trials, n_blocks))
        found[:, : inside.size] = np.add.reduceat(deviation[:, :stop] * deviation[:, k:], inside, axis=1)
        products[:, k] = found.ravel()
        counts = np.zeros(n_blocks)
        counts[: inside.size] = np.diff(np.append(inside, stop))
        n_pairs[:, k] = np.tile(counts, n_trials)
    return BlockSums(products, n_pairs)


class Exponential(NamedTuple):
    """Curves ``amplitude * ratio ** k + offset``, one per row."""

    ratio: Floats
    amplitude: Floats
    offset: Floats


def fit_exponential(slopes: Floats, offset: bool = False) -> Exponential:
    r"""Return the exponentials :math:`b m^k` (+ c) of the least squares through rows of slopes.

    For each :math:`m` the best :math:`b \ge 0` is known, so that only :math:`m`, from 0 to 1, is searched for.

    Parameters
    ----------
    slopes : numpy.ndarray of shape (n_rows, k_max)
    offset : bool
        Whether to fit a constant as well.

    Returns
    -------
    Exponential

    Examples
    --------
    >>> found = fit_exponential(0.3 * 0.9 ** np.arange(1, 20)[None])
    >>> found.ratio.round(6).tolist(), found.amplitude.round(6).tolist()
    ([0.9], [0.3])
    """
    explained = projections(slopes, _GRID, offset)
    best = explained.argmax(axis=1)
    low, high = _GRID[np.maximum(best - 1, 0)], _GRID[np.minimum(best + 1, _GRID.size - 1)]
    lag = np.arange(1, slopes.shape[1] + 1)

    along = _centred(slopes, offset)
    for _ in range(_MOST_HALVINGS):
        middle = (low + high) / 2
        curve = _centred(middle[:, None] ** lag, offset)
        steeper = _centred(lag * middle[:, None] ** lag, offset)  # the derivative, times the ratio
        rises = (along * steeper).sum(1) * (curve**2).sum(1) > (along * curve).sum(1) * (curve * steeper).sum(1)
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    ratio = (low + high) / 2
    curve = ratio[:, None] ** lag
    centred = _centred(curve, offset)
    amplitude = np.maximum((along * centred).sum(1) / np.maximum((centred**2).sum(1), 1e-300), 0)
    constant = (slopes - amplitude[:, None] * curve).mean(1) if offset else np.zeros(len(slopes))
    return Exponential(ratio, amplitude, constant)


def projections(slopes: Floats, ratios: Floats, offset: bool) -> Floats:
    """Return how much of each row of slopes lies along the exponential of each ratio, ``(n_rows, n_ratios)``.

    Of independent slopes of variance 1, each has a variance of 1.

    Examples
    --------
    >>> projections(np.array([[1.0, 0.0]]), np.array([0.5]), offset=False).round(3).tolist()
    [[0.894]]
    """
    curves = _centred(ratios[:, None] ** np.arange(1, slopes.shape[1] + 1), offset)
    norms = np.linalg.norm(curves, axis=1)
    along = _centred(slopes, offset) @ (curves / np.maximum(norms, 1e-300)[:, None]).T
    along[:, norms < 1e-9] = -np.inf  # with a constant, a curve that does not fall is none
    return along


def whiteness_p(slopes: Floats, n_pairs: int, offset: bool, random: np.random.Generator, n_draws: int = 1000) -> float:
    """Return how often uncorrelated activity has slopes as much like an exponential as these, ``(k_max,)``.

    Slopes of uncorrelated activity are independent and normal with the variance ``1 / n_pairs``.

    Examples
    --------
    >>> whiteness_p(0.3 * 0.9 ** np.arange(1, 20), 10_000, False, np.random.default_rng(0)) < 0.01
    True
    """
    observed = projections(slopes[None], _GRID, offset).max() * np.sqrt(n_pairs)
    drawn = projections(random.normal(size=(n_draws, slopes.size)), _GRID, offset).max(axis=1)
    return p_of_draws(observed, drawn).item()


def _centred(rows: Floats, offset: bool) -> Floats:
    return rows - rows.mean(axis=1, keepdims=True) if offset else rows
