"""The Weierstrass function: continuous, without a slope anywhere, and of known dimension."""

from __future__ import annotations

from math import ceil, log, log2

import numpy as np
import torch

from neuros_mechint.core.errors import number, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.fractals.stimuli.gaussian import Exponents, per_channel

_NUMBERS_AT_ONCE = 4_000_000
# Waves that are faster than the samples are part of the function too: they are added until they hold less than this
# share of the change from one sample to the next, or their phase would be lost to rounding.
_SHARE_LEFT_OUT = 1e-3
_MOST_OCTAVES_BEYOND = 30


def weierstrass(
    dimension: Exponents, n_samples: int, n_channels: int = 1, ratio: float = 1.5, seed: SeedLike = 0
) -> torch.Tensor:
    r"""Return samples of Weierstrass's function with random phases, whose graph has a given dimension.

    :math:`W(t) \propto \sum_{k \ge 0} \gamma^{-(2 - D) k} \cos(2 \pi \gamma^k t + \varphi_k)` over one period of its
    slowest wave, with phases drawn uniformly. The sum goes on beyond the sampling rate, as far as it still matters:
    cut off there, the function would be smooth at the scale of the samples, and its dimension would seem too low.

    Parameters
    ----------
    dimension : float or sequence of float
        The box dimension :math:`D` of the graph, between 1 and 2, for all channels or one for each. Above 1.95 the
        waves decay so slowly that the fastest ones (30 octaves beyond the sampling rate) are missed.
    n_samples : int
        Length.
    n_channels : int
        Signals with phases of their own.
    ratio : float
        :math:`\gamma`, the ratio of neighbouring frequencies, above 1 and up to 4. Small ones make scaling smoother.
        A whole number makes waves beyond the sampling rate coincide with slow ones.
    seed : int or numpy.random.Generator

    Returns
    -------
    torch.Tensor of shape (n_channels, n_samples)
        In float64; the variance of all waves together is 1.

    Raises
    ------
    OptionError
        A dimension that is not between 1 and 2, or numbers that do not fit each other.

    References
    ----------
    Berry and Lewis 1980, On the Weierstrass-Mandelbrot fractal function, doi:10.1098/rspa.1980.0044; Hunt 1998, The
    Hausdorff dimension of graphs of Weierstrass functions, doi:10.1090/S0002-9939-98-04387-1

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> nm.weierstrass([1.2, 1.5], n_samples=1000, n_channels=2).shape
    torch.Size([2, 1000])
    """
    n_samples, ratio = whole("n_samples", n_samples, 2), number("ratio", ratio, 1, 4)
    roughness = 2 - per_channel("dimension", dimension, n_channels, above=1, below=2)
    beyond = min(_MOST_OCTAVES_BEYOND, -log2(_SHARE_LEFT_OUT) / (2 * roughness.min()))
    waves = np.arange(ceil((log2(n_samples) + beyond) * log(2) / log(ratio)) + 1)
    amplitudes = ratio ** (-roughness[:, None] * waves)
    amplitudes *= np.sqrt(2 / (amplitudes**2).sum(-1, keepdims=True))
    phases = generator(seed).uniform(0, 2 * np.pi, amplitudes.shape)
    # cos(a + b) = cos(a) cos(b) - sin(a) sin(b): the waves are computed once for all channels
    weights = np.concatenate([amplitudes * np.cos(phases), -amplitudes * np.sin(phases)], axis=-1)
    frequencies = ratio**waves
    found = np.empty((len(roughness), n_samples))
    at_once = max(1, _NUMBERS_AT_ONCE // (2 * len(waves)))
    for first in range(0, n_samples, at_once):
        times = np.arange(first, min(first + at_once, n_samples)) / n_samples
        angles = 2 * np.pi * (frequencies[:, None] * times % 1)
        found[:, first : first + at_once] = weights @ np.concatenate([np.cos(angles), np.sin(angles)])
    return torch.from_numpy(found)
