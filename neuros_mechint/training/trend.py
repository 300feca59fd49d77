"""Curves that bend in one way only: what learning looks like while nothing new begins."""

from __future__ import annotations

import functools

import numpy as np

from neuros_mechint.core.arrays import Floats


class OneBend:
    """The best convex or concave fit, by least squares, to stretches of curves over the same steps.

    Exponentials, power laws, straight lines, and curves with one turn are of this kind; a plateau followed by a fall
    and another plateau is not.

    Parameters
    ----------
    x : numpy.ndarray of shape (n,)
        Steps, in increasing order.

    Examples
    --------
    >>> x = np.linspace(0, 1, 20)
    >>> bool(np.allclose(OneBend(x).fit(np.exp(-5 * x)), np.exp(-5 * x), atol=1e-6))
    True
    >>> float(abs(OneBend(x).fit(np.tanh(20 * x - 10)) - np.tanh(20 * x - 10)).max()) > 0.3
    True
    """

    def __init__(self, x: Floats) -> None:
        self.x = x
        self._basis = functools.cache(lambda start, stop: _hinges(x[start:stop]))

    def fit(self, y: Floats, start: int = 0, stop: int | None = None) -> Floats:
        """Return the fit to a stretch of a curve.

        Parameters
        ----------
        y : numpy.ndarray of shape (n,)
        start, stop : int
        """
        from scipy.optimize import nnls

        stop = len(y) if stop is None else stop
        basis, own = self._basis(start, stop), y[start:stop]
        convex, left = nnls(basis, own, maxiter=50 * basis.shape[1])
        concave, left_of_concave = nnls(basis, -own, maxiter=50 * basis.shape[1])
        return basis @ convex if left <= left_of_concave else -(basis @ concave)

    def left(self, y: Floats, start: int = 0, stop: int | None = None) -> float:
        """Return the sum of squares that the fit to a stretch leaves."""
        stop = len(y) if stop is None else stop
        return float(((y[start:stop] - self.fit(y, start, stop)) ** 2).sum())


def _hinges(x: Floats) -> Floats:
    """Return columns of which sums with positive weights are convex: both lines, and a bend at each inner point."""
    x = (x - x[0]) / (x[-1] - x[0])
    bends = np.maximum(x[:, None] - x[1:-1], 0)
    return np.column_stack([np.ones_like(x), -np.ones_like(x), x, -x, bends])
