"""The energy of signals in octaves of an orthogonal wavelet, and how well each is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from neuros_mechint.core.errors import InputError

# In units of the rounding of the largest value; below it are polynomials, of which the wavelet leaves nothing else.
_ROUNDINGS = 64


def octave_energies(
    rows: torch.Tensor, details: Sequence[torch.Tensor], octaves: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return the mean squares of wavelet coefficients, and the weights that their logarithms have in a line.

    The logarithm of a mean of :math:`n` squares is low by :math:`\psi(n / 2) - \ln(n / 2)` on average and has the
    variance :math:`\zeta(2, n / 2)`, for independent normal coefficients, which those of a scaling signal nearly are:
    the means are multiplied by what makes up for it.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_signals, n_samples)
    details : sequence of torch.Tensor of shape (n_signals, n_coefficients)
        Of their octaves, from 1 on.
    octaves : sequence of int
        Which to return.

    Returns
    -------
    energies : torch.Tensor of shape (n_signals, n_octaves)
    weights : torch.Tensor of shape (n_octaves,)
        Inverse variances.

    Raises
    ------
    InputError
        A signal that has no energy in one of these octaves.

    References
    ----------
    Veitch and Abry 1999, A wavelet-based joint estimator of the parameters of long-range dependence,
    doi:10.1109/18.761330

    Examples
    --------
    >>> import torch
    >>> coefficients = torch.ones(1, 1000)
    >>> energies, weights = octave_energies(coefficients, [coefficients], [1])
    >>> round(energies.item(), 3), round(weights.item())  # a thousandth more; half of 1000
    (1.001, 500)
    """
    from scipy.special import digamma, zeta

    means, corrections, weights = [], [], []
    for octave in octaves:
        coefficients = details[octave - 1]
        half = coefficients.shape[1] / 2
        means.append(coefficients.square().mean(1))
        corrections.append(half / np.exp(digamma(half)))
        weights.append(1 / zeta(2, half))
    energies = torch.stack(means, 1)
    rounding = _ROUNDINGS * torch.finfo(rows.dtype).eps * rows.detach().abs().amax(1, keepdim=True)
    nothing = energies.detach() <= rounding.square()
    if nothing.any():
        row, place = nothing.nonzero()[0].tolist()
        raise InputError(
            "a signal has no energy at some scales",
            expected="signals that change at all scales in the range of the fit",
            got=f"none in octave {octaves[place]} ({2 ** octaves[place]} samples) of signal {row}: a polynomial there",
            fix="leave these scales out of fit_range",
        )
    return energies * torch.as_tensor(corrections).to(energies), torch.as_tensor(weights)
