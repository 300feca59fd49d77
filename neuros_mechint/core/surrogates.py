"""Surrogate data: signals that keep some properties of others, and nothing else of them."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats


def phase_randomised(values: Floats, rng: np.random.Generator, together: bool = False) -> Floats:
    """Return signals with the same power spectra and random phases, each with its own: what is alike in all goes too.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_windows, n_units, length)
    rng : numpy.random.Generator
    together : bool
        Shift the phases of all units of a window alike, which keeps the correlations between them at all lags.

    References
    ----------
    Theiler et al. 1992, Testing for nonlinearity in time series: the method of surrogate data,
    doi:10.1016/0167-2789(92)90102-S; Prichard and Theiler 1994, Generating surrogate data for time series with several
    simultaneously measured variables, doi:10.1103/PhysRevLett.73.951

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(1, 2, 64))
    >>> y = phase_randomised(x, np.random.default_rng(1))
    >>> np.allclose(abs(np.fft.rfft(x)), abs(np.fft.rfft(y))), np.allclose(x, y)
    (True, False)
    """
    n_samples = values.shape[-1]
    spectrum = np.fft.rfft(values)
    n_windows, n_units, n_waves = spectrum.shape
    angle = rng.uniform(0, 2 * np.pi, size=(n_windows, 1 if together else n_units, n_waves))
    angle[..., 0] = 0  # the mean
    if n_samples % 2 == 0:
        angle[..., -1] = 0  # the fastest wave has no phase
    return np.fft.irfft(spectrum * np.exp(1j * angle), n=n_samples)
