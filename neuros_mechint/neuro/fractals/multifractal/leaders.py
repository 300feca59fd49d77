"""Wavelet leaders: the largest coefficient in the neighbourhood of each place, over all finer scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neuros_mechint.neuro.fractals.multifractal.mfdfa import running_sum
from neuros_mechint.neuro.fractals.wavelet_transform import detail_coefficients, n_coefficients


def log_leaders(rows: torch.Tensor, octaves: Sequence[int], vanishing_moments: int) -> list[torch.Tensor]:
    r"""Return logarithms of the wavelet leaders of the running sum of signals.

    With :math:`|d_{j,k}|` the coefficients, normalised so that a jump has the same size at all scales, the leader of
    octave :math:`j` and place :math:`k` is the largest coefficient of this and all finer octaves within the three
    dyadic intervals around that place. Near a singularity of exponent :math:`h` it grows like :math:`2^{jh}`.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_signals, n_samples)
    octaves : sequence of int
        Which to return; 1 is the finest.
    vanishing_moments : int
        Must be larger than any exponent of the running sum.

    Returns
    -------
    list of torch.Tensor of shape (n_signals, n_leaders)
        Minus infinity where nothing but rounding is left.

    References
    ----------
    Jaffard 2004, Wavelet techniques in multifractal analysis, doi:10.1090/pspum/072.2/2112122; Wendt, Abry and
    Jaffard 2007, Bootstrap for empirical multifractal analysis, doi:10.1109/MSP.2007.4286563

    Examples
    --------
    >>> import torch
    >>> impulse = torch.zeros(1, 256, dtype=torch.float64)
    >>> impulse[0, 100] = 1.0  # its running sum jumps: exponent 0
    >>> [round(logs.exp().max().item(), 2) for logs in log_leaders(impulse, [2, 3, 4], 2)]
    [0.25, 0.28, 0.28]
    """
    walk, rounding = running_sum(rows)
    largest, found = None, {}
    details = detail_coefficients(walk, vanishing_moments)[: max(octaves)]
    for octave, coefficients in enumerate(details, start=1):
        sizes = coefficients.abs() * 2 ** (-octave / 2)
        largest = sizes if largest is None else _with_finer(sizes, largest, vanishing_moments)
        if octave in octaves:
            leaders = torch.maximum(torch.maximum(largest[:, :-2], largest[:, 1:-1]), largest[:, 2:])
            nothing = leaders.detach() <= rounding
            found[octave] = torch.where(nothing, -torch.inf, torch.where(nothing, 1.0, leaders).log())
    return [found[octave].to(rows) for octave in octaves]


def n_leaders(n_samples: int, vanishing_moments: int) -> list[int]:
    """Return how many leaders each octave has.

    Examples
    --------
    >>> n_leaders(64, 2)  # both neighbours must be there
    [29, 12, 4, 0]
    """
    return [max(0, count - 2) for count in n_coefficients(n_samples, vanishing_moments)]


def _with_finer(sizes: torch.Tensor, finer: torch.Tensor, vanishing_moments: int) -> torch.Tensor:
    """Return the larger of each coefficient and the two of the next finer octave at the same place."""
    # the middle of the wavelet at k of this octave is that between 2 k + half - 1 and 2 k + half of the finer one,
    # with half the length of the filter
    count = sizes.shape[1]
    first, last = (finer[:, vanishing_moments - 1 + step :: 2][:, :count] for step in (0, 1))
    return torch.maximum(sizes, torch.maximum(first, last))
