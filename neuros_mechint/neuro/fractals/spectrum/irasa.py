"""The fractal part of a spectrum: what stays where it is when the signal is stretched and squeezed in time."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch

from neuros_mechint.neuro.fractals.spectrum.welch import frequencies_of, welch

STRETCHES = tuple(Fraction(numerator, 20) for numerator in range(22, 39))
"""Factors by which signals are stretched and squeezed, 1.1 to 1.9 in steps of 0.05 (Wen and Liu 2016)."""


def irasa(x: torch.Tensor, segment: int, sampling_rate: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return the power of the fractal part of signals by irregular resampling.

    A power law looks the same at any speed; a peak moves with it. With :math:`P_h` the power of the signal stretched
    in time by :math:`h`, the fractal part is the median over :math:`h` of :math:`\sqrt{P_h(f) P_{1/h}(f)}`.

    Parameters
    ----------
    x : torch.Tensor of shape (..., n_samples)
    segment : int
        Samples of a window of Welch's method; the squeezed signals, which are ``n_samples / 1.9`` long, must hold one.
    sampling_rate : float
        Samples per unit of time.

    Returns
    -------
    frequencies : torch.Tensor of shape (segment // 2 + 1,)
    power : torch.Tensor of shape (..., segment // 2 + 1)
        One-sided density; it means nothing beyond the highest frequency divided by 1.9, where the stretched signals
        hold no power.

    References
    ----------
    Wen and Liu 2016, Separating Fractal and Oscillatory Components in the Power Spectrum of Neurophysiological Signal,
    doi:10.1007/s10548-015-0448-0

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> noise = nm.colored_noise(1.0, 4096)[0]
    >>> noise = noise / noise.std() + torch.sin(torch.arange(4096) * torch.pi / 5)
    >>> (_, all_power), (_, fractal) = welch(noise, 256), irasa(noise, 256)
    >>> bool(all_power[26] > 20 * fractal[26])  # at 26 / 256 cycles per sample, next to the tone
    True
    """
    centred = x - x.mean(-1, keepdim=True)
    means = []
    for stretch in STRETCHES:
        slower = welch(resample(centred, stretch), segment, sampling_rate)[1]
        faster = welch(resample(centred, 1 / stretch), segment, sampling_rate)[1]
        # the slope of a root at 0 is infinite, and no number in a gradient
        means.append((slower * faster).clamp_min(torch.finfo(x.dtype).tiny).sqrt())
    return frequencies_of(segment, sampling_rate).to(x), torch.stack(means).median(0).values


def resample(x: torch.Tensor, stretch: Fraction) -> torch.Tensor:
    """Return signals with ``stretch`` times as many samples over the same time, as `scipy.signal.resample_poly` does.

    Parameters
    ----------
    x : torch.Tensor of shape (..., n_samples)
    stretch : fractions.Fraction

    Returns
    -------
    torch.Tensor of shape (..., ceil(n_samples * stretch))

    Examples
    --------
    >>> resample(torch.arange(6.0), Fraction(1, 2)).shape
    torch.Size([3])
    """
    up, down = stretch.numerator, stretch.denominator
    filters, before = _filters(up, down)
    n_samples = x.shape[-1]
    n_wanted = -(-n_samples * up // down)
    n_blocks = -(-n_wanted // up)
    # every block of `up` new samples is made from the old ones around the same `down`, by a filter for each
    reach = (n_blocks - 1) * down + filters.shape[-1] - before
    padded = torch.nn.functional.pad(x.reshape(-1, 1, n_samples), (before, max(0, reach - n_samples)))
    kernels = torch.from_numpy(filters).to(x)[:, None]
    blocks = torch.nn.functional.conv1d(padded, kernels, stride=down)[..., :n_blocks]
    return blocks.transpose(1, 2).reshape(*x.shape[:-1], n_blocks * up)[..., :n_wanted]


@lru_cache(maxsize=64)
def _filters(up: int, down: int) -> tuple[np.ndarray, int]:
    """Return filters ``(up, n_taps)``, one for each place between old samples, and how far they reach back."""
    most = max(up, down)
    half = 10 * most
    low_pass = np.sinc(np.arange(-half, half + 1) / most) * np.kaiser(2 * half + 1, 5.0)
    low_pass *= up / low_pass.sum()
    # new sample m lies at m * down on the grid that both share, old sample k at k * up
    before = -(-half // up)
    after = (half + (up - 1) * down) // up
    filters = np.zeros((up, before + after + 1))
    for place in range(up):
        taps = half + place * down - np.arange(-before, after + 1) * up
        inside = (taps >= 0) & (taps <= 2 * half)
        filters[place, inside] = low_pass[taps[inside]]
    return filters, before
