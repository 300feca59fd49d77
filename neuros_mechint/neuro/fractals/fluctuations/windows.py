"""Mean squares around polynomials in windows of any length, side by side or overlapping by half."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats

# Where one way of computing becomes faster than the other, on one core.
_SHORT_WINDOW = 16
_SHORT_HALF = 4


def mean_squares(walk: torch.Tensor, lengths: Sequence[int], order: int, overlap: bool) -> torch.Tensor:
    """Return the mean square of what is left when a polynomial is removed from each window.

    Parameters
    ----------
    walk : torch.Tensor of shape (n_signals, n_samples)
        The running sum of a signal minus its mean, in float64.
    lengths : sequence of int
        Samples of the windows, ascending and at least ``order + 2``.
    order : int
        Of the polynomials.
    overlap : bool
        Whether a window begins at every half of the last, as in nolds: at multiples of ``length // 2`` before
        ``n_samples - length``. Otherwise windows lie side by side from the beginning, and what is left over at the end
        is not used.

    Returns
    -------
    torch.Tensor of shape (n_signals, n_lengths)

    Notes
    -----
    Of windows that overlap, each half is reduced to its own polynomial, and the square of what that leaves over, once.
    What a window adds to the squares of its halves is what one polynomial leaves over of two.

    Examples
    --------
    >>> import torch
    >>> walk = torch.tensor([[0.0, 1.0, 0.0, 1.0, 7.0, 8.0, 7.0, 8.0]], dtype=torch.float64)
    >>> mean_squares(walk, [4], order=1, overlap=False)  # around 0.2, 0.4, 0.6, 0.8
    tensor([[0.2000]], dtype=torch.float64)
    """
    of_windows = _half_apart if overlap else _side_by_side
    return torch.stack([of_windows(walk, length, order) for length in lengths], 1)


def _side_by_side(walk: torch.Tensor, length: int, order: int) -> torch.Tensor:
    windows = _cut(walk, length, walk.shape[1] // length)
    if length <= _SHORT_WINDOW:
        squares = _energy(_times(_matrix(_left_over, length, order, walk.device), windows.mT))
    else:
        away, trends, _ = _trends(windows, order)
        squares = _energy(away) - _energy(trends)
    return squares / (windows.shape[1] * length)


def _half_apart(walk: torch.Tensor, length: int, order: int) -> torch.Tensor:
    half = length // 2
    n_windows = -((length - walk.shape[1]) // half)
    halves = _cut(walk, half, n_windows + 1)
    if half <= max(_SHORT_HALF, order + 1):
        left, coordinates, squares = _matrix(_left_over, length, order, walk.device), halves.mT, 0.0
    else:
        left = _matrix(_left_over_of_halves, length, order, walk.device)
        away, trends, anchors = _trends(halves, order)
        # all but the first and the last half are in two windows
        squares = 2 * (_energy(away) - _energy(trends))
        for end in (0, -1):
            squares = squares - _energy(away[:, end]) + _energy(trends[:, :, end])
        heights = torch.add(trends[:, 0], anchors, alpha=half**0.5)
        coordinates = torch.cat([heights[:, None], trends[:, 1:]], 1)
    width = coordinates.shape[1]
    both = _times(torch.cat([left[:, :width], left[:, width : 2 * width]]), coordinates)
    rest = both[:, : len(left), :-1] + both[:, len(left) :, 1:]
    if length % 2:
        last = walk[:, 2 * half :: half][:, :n_windows]
        rest = torch.addcmul(rest, left[:, -1:], last[:, None])
    return (squares + _energy(rest)) / (n_windows * length)


def _cut(walk: torch.Tensor, length: int, n_windows: int) -> torch.Tensor:
    return walk[:, : n_windows * length].view(len(walk), n_windows, length)


def _trends(windows: torch.Tensor, order: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return windows minus their middle samples, coefficients of polynomials in that, and the middle samples.

    The walk may be far from zero: without that the difference of squares would cost digits.
    """
    length = windows.shape[2]
    anchors = windows[:, :, length // 2]
    away = windows - anchors[:, :, None]
    return away, _times(_matrix(polynomials, length, order, windows.device), away.mT), anchors


def _times(matrix: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return ``matrix @ columns`` for each signal, without the copies that broadcasting makes."""
    return torch.bmm(matrix.expand(len(columns), *matrix.shape), columns)


def _energy(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of squares of each signal."""
    # in one pass, where a product and its sum would take two
    return torch.linalg.vector_norm(values.flatten(1), dim=1).square()


@lru_cache(maxsize=4096)
def _matrix(function: Callable[[int, int], Floats], length: int, order: int, device: torch.device) -> torch.Tensor:
    """Return what the function returns, on the device; its columns as rows."""
    return torch.from_numpy(np.ascontiguousarray(function(length, order).T)).to(device)


def polynomials(length: int, order: int) -> Floats:
    """Return orthonormal polynomials on ``length`` samples as columns; the first is constant and positive.

    Examples
    --------
    >>> polynomials(4, order=1).round(2).tolist()
    [[0.5, -0.67], [0.5, -0.22], [0.5, 0.22], [0.5, 0.67]]
    """
    time = np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
    columns, triangle = np.linalg.qr(np.vander(time, min(order + 1, length), increasing=True))
    return columns * np.sign(np.diag(triangle))


def _left_over(length: int, order: int) -> Floats:
    return missing(polynomials(length, order))


def _left_over_of_halves(length: int, order: int) -> Floats:
    half = length // 2
    pieces = np.split(polynomials(length, order), [half, 2 * half, length][: 1 + length % 2])
    return missing(np.concatenate([polynomials(len(piece), order).T @ piece for piece in pieces]))


def missing(columns: Floats) -> Floats:
    """Return orthonormal columns for all that these orthonormal columns leave over.

    Examples
    --------
    >>> abs(missing(polynomials(3, order=1))).round(2).tolist()  # what is bent
    [[0.41], [0.82], [0.41]]
    """
    return np.linalg.qr(columns, mode="complete")[0][:, columns.shape[1] :]
