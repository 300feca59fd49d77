"""Gaussian signals of a known exponent: fractional noise and motion, exact, and noise of any colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, whole
from neuros_mechint.core.random import SeedLike, generator

Exponents = float | Sequence[float]

_NUMBERS_AT_ONCE = 2_000_000
# Rounding of the autocovariance; a circle whose spectrum is more negative than that would not be this process.
_MOST_NEGATIVE = 1e-8


def fractional_gaussian_noise(
    hurst: Exponents, n_samples: int, n_channels: int = 1, seed: SeedLike = 0
) -> torch.Tensor:
    r"""Return exact fractional Gaussian noise of variance 1.

    Its autocovariance is :math:`\gamma(k) = \frac12(|k+1|^{2H} - 2|k|^{2H} + |k-1|^{2H})` exactly, at every lag: the
    noise is drawn on a circle of twice its length, whose covariance the Fourier transform makes diagonal, and cut.

    Parameters
    ----------
    hurst : float or sequence of float
        Between 0 and 1, for all channels or one for each: below 0.5 neighbours are anticorrelated, 0.5 is white,
        above they are correlated for ever.
    n_samples : int
        Length.
    n_channels : int
        Independent signals.
    seed : int or numpy.random.Generator
        A channel does not depend on how many come after it.

    Returns
    -------
    torch.Tensor of shape (n_channels, n_samples)
        In float64.

    Raises
    ------
    OptionError
        An exponent that is not between 0 and 1, or numbers that do not fit each other.

    References
    ----------
    Davies and Harte 1987, Tests for Hurst effect, doi:10.1093/biomet/74.1.95; Mandelbrot and Van Ness 1968,
    doi:10.1137/1010093

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> noise = nm.fractional_gaussian_noise(0.75, n_samples=100_000)
    >>> noise.shape, round(float((noise[0, 1:] * noise[0, :-1]).mean()), 2)  # 2 ** 0.5 - 1
    (torch.Size([1, 100000]), 0.41)
    """
    n_samples = whole("n_samples", n_samples)
    values = per_channel("hurst", hurst, n_channels, above=0, below=1)
    return _on_circle(values, n_samples, spectrum_of_noise, seed)


def fractional_brownian_motion(
    hurst: Exponents, n_samples: int, n_channels: int = 1, seed: SeedLike = 0
) -> torch.Tensor:
    """Return exact fractional Brownian motion: the running sum of `fractional_gaussian_noise`.

    It was 0 one step before the first sample, has variance ``t ** (2 * hurst)`` after ``t`` steps, and its graph the
    dimension ``2 - hurst``.

    Parameters
    ----------
    hurst : float or sequence of float
        Between 0 and 1, for all channels or one for each.
    n_samples, n_channels, seed
        See `fractional_gaussian_noise`.

    Returns
    -------
    torch.Tensor of shape (n_channels, n_samples)
        In float64.

    Raises
    ------
    OptionError
        An exponent that is not between 0 and 1, or numbers that do not fit each other.

    References
    ----------
    Mandelbrot and Van Ness 1968, Fractional Brownian Motions, Fractional Noises and Applications,
    doi:10.1137/1010093

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> walks = nm.fractional_brownian_motion(0.3, n_samples=64, n_channels=20_000)
    >>> round(float(walks[:, -1].std() / walks[:, 0].std()), 1)  # 64 ** 0.3
    3.5
    """
    return fractional_gaussian_noise(hurst, n_samples, n_channels, seed).cumsum(-1)


def colored_noise(exponent: Exponents, n_samples: int, n_channels: int = 1, seed: SeedLike = 0) -> torch.Tensor:
    """Return Gaussian noise whose power falls as ``1 / frequency ** exponent``.

    0 is white, 1 pink, 2 brown; negative exponents rise. It is cut from a circle twice as long, so that its end does
    not meet its beginning; the power of the circle is exact at each of its frequencies, without a constant term, and
    adds up to 1. Beyond exponents of about 1 most of that is slower than the signal is long: its own variance is
    smaller.

    Parameters
    ----------
    exponent : float or sequence of float
        For all channels or one for each.
    n_samples, n_channels, seed
        See `fractional_gaussian_noise`.

    Returns
    -------
    torch.Tensor of shape (n_channels, n_samples)
        In float64.

    Raises
    ------
    OptionError
        An exponent that is not finite, or numbers that do not fit each other.

    References
    ----------
    Timmer and Koenig 1995, On generating power law noise, Astronomy and Astrophysics 300, 707

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> nm.colored_noise([0, 1, 2], n_samples=1000, n_channels=3).shape
    torch.Size([3, 1000])
    """
    n_samples = whole("n_samples", n_samples)
    values = per_channel("exponent", exponent, n_channels, above=-np.inf, below=np.inf)
    return _on_circle(values, n_samples, _spectrum_of_colour, seed)


def per_channel(name: str, value: Exponents, n_channels: int, above: float, below: float) -> Floats:
    """Return one number for each channel, or say what is wrong with them.

    Raises
    ------
    OptionError
        Numbers out of range, or neither one nor as many as there are channels.

    Examples
    --------
    >>> per_channel("hurst", 0.5, n_channels=2, above=0, below=1).tolist()
    [0.5, 0.5]
    """
    n_channels = whole("n_channels", n_channels)
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} is no number", got=repr(value)) from error
    if numbers.shape not in ((), (n_channels,)):
        raise OptionError(
            f"{name} does not fit n_channels",
            expected=f"one number, or {n_channels}, one for each channel",
            got=f"shape {numbers.shape}",
        )
    if not ((numbers > above) & (numbers < below)).all():
        wanted = "a finite number" if np.isinf(above) else f"a number between {above} and {below}"
        raise OptionError(f"{name} is out of range", expected=wanted, got=repr(value))
    return np.broadcast_to(numbers, (n_channels,))


def _on_circle(
    exponents: Floats, n_samples: int, spectrum: Callable[[float, int], Floats], seed: SeedLike
) -> torch.Tensor:
    """Return a half of Gaussian circles ``(n_channels, 2 * n_samples)`` of given power at each frequency."""
    from scipy.fft import irfft

    random = generator(seed)
    length = 2 * n_samples
    amplitudes = {exponent: _amplitudes(spectrum(exponent, n_samples)) for exponent in np.unique(exponents)}
    found = np.empty((len(exponents), n_samples))
    at_once = max(1, _NUMBERS_AT_ONCE // length)
    for first in range(0, len(exponents), at_once):
        some = exponents[first : first + at_once]
        # real and imaginary parts of frequencies 0 to n_samples; the outermost two are real
        drawn = random.standard_normal((len(some), n_samples + 1, 2)).view(np.complex128)[..., 0]
        drawn *= np.stack([amplitudes[exponent] for exponent in some])
        found[first : first + at_once] = np.asarray(irfft(drawn, length, norm="ortho"))[:, :n_samples]
    return torch.from_numpy(found)


def _amplitudes(power: Floats) -> Floats:
    if power.min() < -_MOST_NEGATIVE * power.max():
        raise InputError("no circle has this covariance", got=f"a power of {power.min():.3g}")
    amplitudes = np.sqrt(power.clip(0) / 2)
    amplitudes[[0, -1]] *= np.sqrt(2)  # the transform drops the imaginary parts of these
    return amplitudes


def spectrum_of_noise(hurst: float, n_samples: int) -> Floats:
    """Return the power of fractional Gaussian noise on a circle twice as long, ``(n_samples + 1,)``.

    Examples
    --------
    >>> spectrum_of_noise(0.5, 2).tolist()  # white
    [1.0, 1.0, 1.0]
    """
    from scipy.fft import rfft

    lags = np.arange(n_samples + 2, dtype=np.float64) ** (2 * hurst)
    middle, above = lags[:-1], lags[1:]
    below = np.concatenate([lags[1:2], lags[:-2]])  # lag -1 is as far as lag 1
    covariance = (above - 2 * middle + below) / 2
    return np.real(np.asarray(rfft(np.concatenate([covariance, covariance[-2:0:-1]]))))


def _spectrum_of_colour(exponent: float, n_samples: int) -> Floats:
    """Return a power law over the frequencies of a circle, ``(n_samples + 1,)``, whose mean over them is 1."""
    power = np.zeros(n_samples + 1)
    # relative to the middle, so that steep laws stay within what a float holds
    log_power = -exponent * (np.log(np.arange(1, n_samples + 1)) - np.log(n_samples) / 2)
    power[1:] = np.exp(log_power - log_power.max())
    both_sides = 2 * power.sum() - power[-1]
    return power * (2 * n_samples) / both_sides
