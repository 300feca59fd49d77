"""Noise whose multifractal spectrum is known: what estimates are calibrated on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.fractals.stimuli.cascades import multiplicative_cascade
from neuros_mechint.neuro.fractals.stimuli.gaussian import (
    spectrum_of_noise,
)


def multifractal_noise(
    hurst: float, intermittency: float, n_samples: int, n_signals: int = 1, seed: SeedLike = 0
) -> torch.Tensor:
    r"""Return noise with a parabolic multifractal spectrum.

    White noise, whose size follows a log-normal cascade, is filtered so that its power is that of fractional Gaussian
    noise. The running sum has :math:`\alpha(q) = \alpha(0) - \lambda^2 q` up to :math:`|q| = \sqrt{2 / \lambda^2}`,
    beyond which one signal shows no stronger or weaker singularities, and :math:`h(2)` is the Hurst exponent.

    Parameters
    ----------
    hurst : float
        Between 0 and 1 for noise; between 1 and 2 for its running sum, with an exponent of one less.
    intermittency : float
        :math:`\lambda^2`, from 0 to 2. At 0 the noise is exactly fractional Gaussian.
    n_samples, n_signals : int
    seed : int or numpy.random.Generator

    Returns
    -------
    torch.Tensor of shape (n_signals, n_samples)
        In float64, in units of its own.

    References
    ----------
    Bacry, Delour and Muzy 2001, Multifractal random walk, doi:10.1103/PhysRevE.64.026103

    Examples
    --------
    >>> multifractal_noise(0.7, 0.05, n_samples=1000, n_signals=3).shape
    torch.Size([3, 1000])
    """
    from scipy.fft import irfft, rfft

    random, integrated = generator(seed), hurst > 1
    length = 2 * n_samples
    noise = random.standard_normal((n_signals, length))
    if intermittency:
        levels, spread = math.ceil(math.log2(length)), math.sqrt(intermittency * math.log(2))
        cascade = multiplicative_cascade(levels, "lognormal", sigma=spread, n_channels=n_signals, seed=random)
        noise *= cascade[:, :length].numpy()
    amplitudes = np.sqrt(spectrum_of_noise(hurst - 1 if integrated else hurst, n_samples).clip(0))
    filtered = torch.from_numpy(np.asarray(irfft(rfft(noise) * amplitudes, length)))[:, :n_samples]
    return filtered.cumsum(-1) if integrated else filtered


def width_of_model(intermittency: npt.ArrayLike, q: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return how wide the spectrum of `multifractal_noise` is between the first and the last moment.

    Examples
    --------
    >>> width_of_model([0.0, 0.05], q=(-2, 0, 2)).tolist()
    [0.0, 0.2]
    """
    strength = np.asarray(intermittency, dtype=np.float64)
    ends = [np.sign(end) * np.minimum(strength * abs(end), np.sqrt(2 * strength)) for end in (q[0], q[-1])]
    return ends[1] - ends[0]
