"""Patterns that are fractal by definition: Cantor's set, Sierpinski's carpet, the Mandelbrot set."""

from __future__ import annotations

import numpy as np
import torch

from neuros_mechint.core.errors import OptionError, whole

_MOST_NUMBERS = 2**26
_ESCAPED = 2.0


def cantor_set(n_levels: int) -> torch.Tensor:
    r"""Return Cantor's set, whose dimension is :math:`\log 2 / \log 3`: 1 where it is, 0 in its gaps.

    Parameters
    ----------
    n_levels : int
        How often the middle third was taken out of all intervals; at most 16.

    Returns
    -------
    torch.Tensor of shape (3 ** n_levels,)
        In float64.

    Raises
    ------
    OptionError
        ``n_levels`` is no whole number, or too large.

    References
    ----------
    Mandelbrot 1982, The Fractal Geometry of Nature; Falconer 2003, Fractal Geometry, doi:10.1002/0470013850

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> nm.cantor_set(2).int().tolist()
    [1, 0, 1, 0, 0, 0, 1, 0, 1]
    """
    return _repeated(np.array([1.0, 0.0, 1.0]), n_levels)


def sierpinski_carpet(n_levels: int) -> torch.Tensor:
    r"""Return Sierpinski's carpet, whose dimension is :math:`\log 8 / \log 3`: 1 where it is, 0 in its holes.

    Parameters
    ----------
    n_levels : int
        How often the middle ninth was taken out of all squares; at most 8.

    Returns
    -------
    torch.Tensor of shape (3 ** n_levels, 3 ** n_levels)
        In float64.

    Raises
    ------
    OptionError
        ``n_levels`` is no whole number, or too large.

    References
    ----------
    Falconer 2003, Fractal Geometry, doi:10.1002/0470013850

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> nm.sierpinski_carpet(1).int().tolist()
    [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    return _repeated(np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]), n_levels)


def mandelbrot_set(size: int = 256, n_iterations: int = 200) -> torch.Tensor:
    r"""Return for how many steps of :math:`z \to z^2 + c` each point :math:`c` of the plane stays near.

    Row by row from the imaginary part 1.25 down to -1.25, from left to right from the real part -2 to 0.5; each
    pixel is the point in its middle.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    n_iterations : int
        After so many steps a point counts as one that stays: its number is ``n_iterations``. The set itself is
        ``mandelbrot_set(...) == n_iterations``; more steps make it smaller, towards the true one.

    Returns
    -------
    torch.Tensor of shape (size, size)
        In float64: for how many steps from ``z = 0`` on it stays within ``|z| <= 2``.

    Raises
    ------
    OptionError
        Numbers that are not whole, or too large.

    References
    ----------
    Mandelbrot 1980, Fractal aspects of the iteration of z -> lambda z (1 - z),
    doi:10.1111/j.1749-6632.1980.tb29690.x

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> inside = nm.mandelbrot_set(size=200, n_iterations=500) == 500
    >>> round(float(inside.double().mean()) * 2.5**2, 1)  # its area is 1.507
    1.5
    """
    size, n_iterations = whole("size", size), whole("n_iterations", n_iterations)
    _check_size(size**2)
    middles = (np.arange(size) - (size - 1) / 2) / size * 2.5
    points = ((middles - 0.75) - 1j * middles[:, None]).ravel()
    steps = np.full(points.size, float(n_iterations))
    left, z = np.arange(points.size), np.zeros(points.size, dtype=np.complex128)
    for step in range(n_iterations):
        z = z * z + points[left]
        # compared without the square root of abs
        stays = z.real**2 + z.imag**2 <= _ESCAPED**2
        steps[left[~stays]] = step
        left, z = left[stays], z[stays]
    return torch.from_numpy(steps.reshape(size, size))


def _repeated(pattern: np.ndarray, n_levels: int) -> torch.Tensor:
    """Return a pattern each part of which is a copy of the whole, so many times."""
    n_levels = whole("n_levels", n_levels)
    _check_size(pattern.size**n_levels)
    found = np.ones((1,) * pattern.ndim)
    for _ in range(n_levels):
        found = np.kron(found, pattern)
    return torch.from_numpy(found)


def _check_size(n_numbers: int) -> None:
    if n_numbers > _MOST_NUMBERS:
        raise OptionError("the pattern is too large", expected=f"at most {_MOST_NUMBERS} numbers", got=n_numbers)
