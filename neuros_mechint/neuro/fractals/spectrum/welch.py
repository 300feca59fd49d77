"""Power spectra of signals, batched and differentiable: averages over windows of a segment, or over tapers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch


def welch(x: torch.Tensor, segment: int, sampling_rate: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the power of signals by Welch's method: Hann windows that overlap by half, without their means.

    Parameters
    ----------
    x : torch.Tensor of shape (..., n_samples)
    segment : int
        Samples of a window, at most ``n_samples``.
    sampling_rate : float
        Samples per unit of time.

    Returns
    -------
    frequencies : torch.Tensor of shape (segment // 2 + 1,)
        In cycles per unit of time.
    power : torch.Tensor of shape (..., segment // 2 + 1)
        One-sided density: it adds up to the variance when multiplied with the step of frequencies.

    References
    ----------
    Welch 1967, The use of fast Fourier transform for the estimation of power spectra, doi:10.1109/TAU.1967.1161901

    Examples
    --------
    >>> frequencies, power = welch(torch.sin(torch.arange(256) * torch.pi / 2), segment=64)
    >>> frequencies[power.argmax()].item()
    0.25
    """
    windows = x.unfold(-1, segment, segment - segment // 2)
    windows = windows - windows.mean(-1, keepdim=True)
    hann = torch.hann_window(segment, periodic=True, dtype=x.dtype, device=x.device)
    power = _density(windows * (hann / hann.norm()), sampling_rate).mean(-2)
    return frequencies_of(segment, sampling_rate).to(x), power


def multitaper(
    x: torch.Tensor, bandwidth: float = 4.0, n_tapers: int = 7, sampling_rate: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the power of signals, without their means, as the average over orthogonal tapers of the whole signal.

    Parameters
    ----------
    x : torch.Tensor of shape (..., n_samples)
    bandwidth : float
        Half the width over which power is smoothed, in steps of ``sampling_rate / n_samples``.
    n_tapers : int
        Discrete prolate spheroidal sequences to average over.
    sampling_rate : float
        Samples per unit of time.

    Returns
    -------
    frequencies : torch.Tensor of shape (n_samples // 2 + 1,)
    power : torch.Tensor of shape (..., n_samples // 2 + 1)
        One-sided density.

    References
    ----------
    Thomson 1982, Spectrum estimation and harmonic analysis, doi:10.1109/PROC.1982.12433

    Examples
    --------
    >>> frequencies, power = multitaper(torch.sin(torch.arange(256) * torch.pi / 2))
    >>> bool((frequencies[power > power.max() / 10] - 0.25).abs().max() <= 4 / 256)
    True
    """
    n_samples = x.shape[-1]
    centred = x - x.mean(-1, keepdim=True)
    tapers = torch.from_numpy(_slepian(n_samples, bandwidth, n_tapers)).to(x)
    power = _density(centred[..., None, :] * tapers, sampling_rate).mean(-2)
    return frequencies_of(n_samples, sampling_rate).to(x), power


def frequencies_of(length: int, sampling_rate: float = 1.0) -> torch.Tensor:
    """Return the frequencies of a transform of so many samples, ``(length // 2 + 1,)``.

    Examples
    --------
    >>> frequencies_of(4).tolist()
    [0.0, 0.25, 0.5]
    """
    return torch.fft.rfftfreq(length, 1 / sampling_rate, dtype=torch.float64)


def _density(windowed: torch.Tensor, sampling_rate: float) -> torch.Tensor:
    """Return the one-sided density of what was multiplied with windows whose squares add up to 1."""
    power = torch.view_as_real(torch.fft.rfft(windowed)).square().sum(-1)
    both_sides = torch.full(power.shape[-1:], 2.0, dtype=power.dtype, device=power.device)
    both_sides[0] = 1.0  # frequencies without a negative partner
    if windowed.shape[-1] % 2 == 0:
        both_sides[-1] = 1.0
    return power * (both_sides / sampling_rate)


@lru_cache(maxsize=8)
def _slepian(n_samples: int, bandwidth: float, n_tapers: int) -> np.ndarray:
    from scipy.signal.windows import dpss

    return np.ascontiguousarray(dpss(n_samples, bandwidth, n_tapers))
