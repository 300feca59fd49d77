"""Codes convolved with kernels, and its transpose: both ends of the network use the same kernels."""

from __future__ import annotations

import torch
from torch.nn.functional import pad


def convolve(codes: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Return the drive that codes make: every kernel begins where its code is not zero, and ends with the trial.

    Parameters
    ----------
    codes : torch.Tensor of shape (n_neurons, n_trials, n_kernels, n_times)
    kernels : torch.Tensor of shape (n_kernels, kernel_length) or (n_neurons, n_kernels, kernel_length)

    Returns
    -------
    torch.Tensor of shape (n_neurons, n_trials, n_times)

    Examples
    --------
    >>> import torch
    >>> codes = torch.zeros(1, 1, 1, 5)
    >>> codes[..., 1] = 2
    >>> convolve(codes, torch.tensor([[1.0, 0.5]])).round(decimals=6).tolist()
    [[[0.0, 2.0, 1.0, 0.0, 0.0]]]
    """
    # by FFT, ten times faster than conv1d in double precision
    n_times = codes.shape[-1]
    length = n_times + kernels.shape[-1]
    by_kernel = kernels if kernels.ndim == 2 else kernels[:, None]
    spectrum = (torch.fft.rfft(codes, length) * torch.fft.rfft(by_kernel, length)).sum(-2)
    return torch.fft.irfft(spectrum, length)[..., :n_times]


def correlate(residual: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Return how well each kernel fits at each time: the transpose of `convolve`.

    Parameters
    ----------
    residual : torch.Tensor of shape (n_neurons, n_trials, n_times)
    kernels : torch.Tensor of shape (n_kernels, kernel_length) or (n_neurons, n_kernels, kernel_length)

    Returns
    -------
    torch.Tensor of shape (n_neurons, n_trials, n_kernels, n_times)

    Examples
    --------
    >>> import torch
    >>> correlate(torch.tensor([[[0.0, 2.0, 1.0]]]), torch.tensor([[1.0, 0.5]])).tolist()
    [[[[1.0, 2.5, 1.0]]]]
    """
    windows = pad(residual, (0, kernels.shape[-1] - 1)).unfold(-1, kernels.shape[-1], 1)
    by_kernel = kernels if kernels.ndim == 2 else kernels[:, None]
    return (windows @ by_kernel.mT).mT


def gain_bound(kernels: torch.Tensor) -> torch.Tensor:
    """Return how much `convolve` can lengthen codes at most, squared: the largest spectral power, over neurons.

    Examples
    --------
    >>> import torch
    >>> gain_bound(torch.tensor([[1.0, 1.0]])).item()
    4.0
    """
    spectrum = torch.fft.rfft(kernels, n=8 * kernels.shape[-1])
    return spectrum.abs().square().sum(-2).max()
