"""The discrete wavelet transform of batches of signals: an orthogonal pyramid of convolutions, differentiable."""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np
import numpy.typing as npt
import torch

MOST_VANISHING_MOMENTS = 10
"""Beyond this the filters, which are made of the roots of a polynomial, lose digits."""


def detail_coefficients(rows: torch.Tensor, vanishing_moments: int) -> list[torch.Tensor]:
    r"""Return the coefficients of an orthogonal Daubechies wavelet at each octave.

    The filters only go where they fit: no coefficient sees anything but the signal. The coefficient :math:`k` of
    octave :math:`j`, counted from 1, belongs to the time :math:`2^j (k + (L - 1) / 2)` or so, with :math:`L` the
    length of the filter.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_signals, n_samples)
    vanishing_moments : int
        The wavelet is blind to polynomials with this many terms; the filters are twice as long.

    Returns
    -------
    list of torch.Tensor of shape (n_signals, n_coefficients)
        Finest octave first; each has about half the coefficients of the one before.

    References
    ----------
    Mallat 1989, A theory for multiresolution signal decomposition, doi:10.1109/34.192463; Daubechies 1988,
    Orthonormal bases of compactly supported wavelets, doi:10.1002/cpa.3160410705

    Examples
    --------
    >>> import torch
    >>> line = torch.arange(64.0, dtype=torch.float64)[None]
    >>> [tuple(found.shape) for found in detail_coefficients(line, 2)]
    [(1, 31), (1, 14), (1, 6), (1, 2)]
    >>> all(found.abs().max() < 1e-12 for found in detail_coefficients(line, 2))
    True
    """
    low_pass = daubechies(vanishing_moments)
    high_pass = low_pass[::-1] * (-1.0) ** np.arange(len(low_pass))
    kernels = torch.from_numpy(np.stack([low_pass, high_pass])).to(rows)[:, None]
    approximation, details = rows, []
    while approximation.shape[1] >= len(low_pass):
        both = torch.nn.functional.conv1d(approximation[:, None], kernels, stride=2)
        approximation, detail = both[:, 0], both[:, 1]
        details.append(detail)
    return details


def n_coefficients(n_samples: int, vanishing_moments: int) -> list[int]:
    """Return how many coefficients each octave has.

    Examples
    --------
    >>> n_coefficients(64, 2)
    [31, 14, 6, 2]
    """
    counts = []
    while n_samples >= 2 * vanishing_moments:
        n_samples = (n_samples - 2 * vanishing_moments) // 2 + 1
        counts.append(n_samples)
    return counts


def samples_for(count: int, octave: int, vanishing_moments: int) -> int:
    """Return the fewest samples that give so many coefficients of an octave.

    Examples
    --------
    >>> samples_for(6, 3, 2), n_coefficients(62, 2), n_coefficients(61, 2)
    (62, [30, 14, 6, 2], [29, 13, 5, 1])
    """
    for _ in range(octave):
        count = 2 * (count - 1) + 2 * vanishing_moments
    return count


@lru_cache(maxsize=MOST_VANISHING_MOMENTS)
def daubechies(vanishing_moments: int) -> npt.NDArray[np.float64]:
    """Return the low-pass filter of the shortest orthogonal wavelet with so many vanishing moments.

    Parameters
    ----------
    vanishing_moments : int

    Returns
    -------
    numpy.ndarray of shape (2 * vanishing_moments,)
        Of length 1 and sum ``sqrt(2)``; of all such filters the one whose energy comes first.

    References
    ----------
    Daubechies 1988, Orthonormal bases of compactly supported wavelets, doi:10.1002/cpa.3160410705

    Examples
    --------
    >>> bool(np.allclose(daubechies(2) * 4 * 2**0.5, [1 + 3**0.5, 3 + 3**0.5, 3 - 3**0.5, 1 - 3**0.5]))
    True
    """
    # the half-band polynomial in y = (2 - z - 1/z) / 4; each of its roots gives a pair z, 1 / z: the inner one is kept
    half_band = [comb(vanishing_moments - 1 + power, power) for power in range(vanishing_moments)]
    middle = 1 - 2 * np.roots(half_band[::-1]).astype(np.complex128)
    pairs = middle + np.outer([1, -1], np.sqrt(middle**2 - 1))
    inner = np.where(np.abs(pairs[0]) < 1, pairs[0], pairs[1])
    taps = np.real(np.poly(np.concatenate([inner, -np.ones(vanishing_moments)])))
    return taps * np.sqrt(2) / taps.sum()
