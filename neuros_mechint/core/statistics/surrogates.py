"""Surrogate data: signals that keep some properties of others, and nothing else of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.random import SeedLike, generator


def phase_randomised(values: Any, seed: SeedLike = 0, together: bool = False) -> Floats:
    """Return signals with the same power spectra and random phases: linear noise that looks alike.

    Parameters
    ----------
    values : array_like of shape (..., n_units, n_samples) or (n_samples,)
        Time is the last axis.
    seed : int or numpy.random.Generator
    together : bool
        Shift the phases of all units alike, which keeps the correlations between them at all lags. Otherwise each has
        phases of its own, and what is alike in all of them goes too.

    Returns
    -------
    numpy.ndarray of the same shape

    Raises
    ------
    InputError
        No real numbers, values that are missing or infinite, or fewer than three samples.

    References
    ----------
    Theiler et al. 1992, Testing for nonlinearity in time series: the method of surrogate data,
    doi:10.1016/0167-2789(92)90102-S; Prichard and Theiler 1994, Generating surrogate data for time series with several
    simultaneously measured variables, doi:10.1103/PhysRevLett.73.951

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(1, 2, 64))
    >>> y = phase_randomised(x, seed=1)
    >>> np.allclose(abs(np.fft.rfft(x)), abs(np.fft.rfft(y))), np.allclose(x, y)
    (True, False)
    """
    check_option("together", together, (True, False))
    array = real_array(values, "values")
    if not array.ndim or array.shape[-1] < 3:
        raise InputError(
            "these signals have no surrogates",
            expected="(..., n_units, n_samples), at least 3 samples",
            got=f"shape {array.shape}",
        )
    n_samples = array.shape[-1]
    spectrum = np.fft.rfft(array)
    shape = spectrum.shape if not together or array.ndim == 1 else (*spectrum.shape[:-2], 1, spectrum.shape[-1])
    angle = generator(seed).uniform(0, 2 * np.pi, size=shape)
    angle[..., 0] = 0  # the mean
    if n_samples % 2 == 0:
        angle[..., -1] = 0  # the fastest wave has no phase
    return np.fft.irfft(spectrum * np.exp(1j * angle), n=n_samples)
