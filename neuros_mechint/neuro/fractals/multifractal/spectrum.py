"""The multifractal spectrum of signals: which exponents they have, and how much of the time each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from neuros_mechint.core.errors import OptionError, check_option, number, whole
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
from neuros_mechint.neuro.fractals.multifractal.calibration import nearest_exponent, uncertainty_of_widths
from neuros_mechint.neuro.fractals.multifractal.leaders import log_leaders, n_leaders
from neuros_mechint.neuro.fractals.multifractal.mfdfa import log_fluctuations
from neuros_mechint.neuro.fractals.multifractal.moments import Moments, Spectrum, moments, spectrum_of
from neuros_mechint.neuro.fractals.multifractal.results import MultifractalEstimate, multifractal_estimate
from neuros_mechint.neuro.fractals.scale_sets import (
    FEWEST_WINDOWS,
    last_octave,
    octaves_between,
    windows_between,
)
from neuros_mechint.neuro.fractals.scaling import line_fit, scale_range
from neuros_mechint.neuro.fractals.uncertainty import Uncertainty
from neuros_mechint.neuro.fractals.wavelet_transform import MOST_VANISHING_MOMENTS, samples_for

METHODS = ("mfdfa", "leaders")
_MOMENTS = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)
_WINDOWS_PER_OCTAVE = 4
_SHORTEST = 16
_LONGEST_SHARE = 8
_FEWEST_SAMPLES = 2 * _SHORTEST * _LONGEST_SHARE
_FIRST_OCTAVE = 3
_FEWEST_LEADERS = 8
_MOST_ORDER = 10


class MultifractalSpectrum(SignalMetric):
    r"""Width of the multifractal spectrum: 0 where one exponent tells all, larger where it changes over time.

    Fluctuations :math:`F` of the **running sum** of a signal are measured in windows of :math:`s` samples. Their
    moments :math:`\langle F^q \rangle \propto s^{q h(q)}` give the generalised Hurst exponents :math:`h(q)`,
    :math:`\tau(q) = q h(q) - 1`, singularity strengths :math:`\alpha = \tau'(q)` and their dimensions
    :math:`f = q \alpha - \tau`. Large positive :math:`q` look at the strongest fluctuations, negative ones at the
    weakest. The value is :math:`\alpha` at the first moment less that at the last: signed, so that it scatters around
    zero where there is one exponent.

    Moments are weighted means, so that :math:`\alpha` is the exact derivative of the estimated :math:`\tau`.
    Differentiable.

    Parameters
    ----------
    method : {"mfdfa", "leaders"}
        Fluctuations around a polynomial trend, with windows laid from both ends (Kantelhardt); or wavelet leaders,
        the largest coefficients of all finer scales around a place (Jaffard).
    q : sequence of float
        Moments, ascending, at least two.
    fit_range : pair of float, optional
        Shortest and longest window in samples. From 16 to an eighth of the signal if not given, four lengths per
        octave; for leaders from 8 to the last octave with 8 leaders. The longest window must fit four times.
    order : int
        Of the polynomials of MFDFA: exponents up to ``order + 1`` can be seen.
    vanishing_moments : int
        Of the Daubechies wavelet whose leaders are taken: exponents up to this number can be seen.

    Raises
    ------
    OptionError
        An unknown method, moments that are not finite and ascending, or parameters out of range.

    References
    ----------
    Kantelhardt et al. 2002, Multifractal detrended fluctuation analysis of nonstationary time series,
    doi:10.1016/S0378-4371(02)01383-3; Wendt, Abry and Jaffard 2007, Bootstrap for empirical multifractal analysis,
    doi:10.1109/MSP.2007.4286563; Chhabra and Jensen 1989, Direct determination of the f(alpha) singularity spectrum,
    doi:10.1103/PhysRevLett.62.1327

    Examples
    --------
    >>> import neuros_mechint as nm, torch
    >>> one = nm.fractional_gaussian_noise(0.7, n_samples=2**14)
    >>> many = nm.multiplicative_cascade(14, p=0.75)  # 1.55 wide
    >>> nm.MultifractalSpectrum()(torch.cat([one, many])).round(decimals=1).tolist()
    [0.1, 1.6]
    >>> nm.MultifractalSpectrum(q=(-2, 2)).generalized_hurst(many).round(decimals=1).tolist()  # 1.58 and 0.84
    [[1.6, 0.8]]
    """

    quantity: ClassVar[str] = "width"
    long_name: ClassVar[str] = "width of the multifractal spectrum"
    citations: ClassVar[tuple[str, ...]] = ("kantelhardt2002", "wendt2007", "chhabra1989")

    def __init__(
        self,
        method: Literal["mfdfa", "leaders"] = "mfdfa",
        q: Sequence[float] = _MOMENTS,
        fit_range: tuple[float, float] | None = None,
        order: int = 1,
        vanishing_moments: int = 2,
    ) -> None:
        check_option("method", method, METHODS)
        self.method = method
        self.q = q if q is _MOMENTS else _checked_moments(q)
        self.order = _at_most("order", whole("order", order), _MOST_ORDER)
        self.vanishing_moments = _at_most(
            "vanishing_moments", whole("vanishing_moments", vanishing_moments, 2), MOST_VANISHING_MOMENTS
        )
        self.fit_range = scale_range(fit_range, least=order + 3 if method == "mfdfa" else 2)
        if self.fit_range is not None and method == "mfdfa":
            windows_between(*self.fit_range, _WINDOWS_PER_OCTAVE)

    @property
    def statistic_name(self) -> str:  # type: ignore[override]
        """What the fitted line goes through."""
        what = "fluctuation" if self.method == "mfdfa" else "wavelet leader"
        return f"root of the mean squared {what}"

    def generalized_hurst(self, x: Any) -> torch.Tensor:
        """Return the exponents of the moments.

        Parameters
        ----------
        x : torch.Tensor, array_like, xarray.DataArray or Recording
            As for a call.

        Returns
        -------
        torch.Tensor of shape (..., n_moments)
            Differentiable. At ``q = 2`` the Hurst exponent of noise, as `DetrendedFluctuationAnalysis` gives it.

        Raises
        ------
        InputError
            As for a call.

        Examples
        --------
        >>> import neuros_mechint as nm
        >>> noise = nm.fractional_gaussian_noise([0.3, 0.7], n_samples=2**14, n_channels=2)
        >>> nm.MultifractalSpectrum(q=(0, 2)).generalized_hurst(noise).round(decimals=1).tolist()
        [[0.3, 0.3], [0.7, 0.7]]
        """
        return self.spectrum(x).generalized_hurst

    def spectrum(self, x: Any) -> Spectrum:
        """Return all of the spectrum as tensors.

        Parameters
        ----------
        x : torch.Tensor, array_like, xarray.DataArray or Recording
            As for a call.

        Returns
        -------
        Spectrum
            ``q``, and over the axes of the signals and these moments ``generalized_hurst``, ``tau``, ``alpha``, ``f``;
            differentiable.

        Raises
        ------
        InputError
            As for a call.

        Examples
        --------
        >>> import neuros_mechint as nm
        >>> found = nm.MultifractalSpectrum(q=(-1, 0, 1)).spectrum(nm.multiplicative_cascade(12))
        >>> found.f[0, 1].item()  # the most frequent strength is nearly everywhere
        1.0
        """
        found = self._signals(x)
        pieces = [self._analysis(some)[0] for some in self._pieces(found.rows)]
        joined = (torch.cat(list(values)) for values in zip(*(piece[1:] for piece in pieces), strict=True))
        shape = (*found.values.shape[:-1], len(self.q))
        return Spectrum(pieces[0].q, *(values.reshape(shape) for values in joined))

    def estimate(self, x: Any, level: float = 0.95, n_simulated: int = 100, seed: SeedLike = 0) -> MultifractalEstimate:
        """Return the spectrum of each signal with its uncertainty.

        Errors come from signals of the same length and Hurst exponent, whose spectra are parabolas of known widths.

        Parameters
        ----------
        x : torch.Tensor, array_like, xarray.DataArray or Recording
            As for a call; computed in float64.
        level : float
            Coverage of the intervals.
        n_simulated : int
            How many signals are made for each width.
        seed : int or numpy.random.Generator

        Returns
        -------
        MultifractalEstimate
            With the range of widths that exact fractional Gaussian noise shows, which have no width.

        Raises
        ------
        InputError
            As for a call.

        Examples
        --------
        >>> import neuros_mechint as nm
        >>> noise = nm.fractional_gaussian_noise(0.5, n_samples=4096)
        >>> found = nm.MultifractalSpectrum().estimate(noise, n_simulated=40)
        >>> found.data["low"].item(), found.data["generalized_hurst"].dims
        (0.0, ('axis_0', 'q'))
        """
        base = super().estimate(x, level, n_simulated, seed)
        found = self._signals(x)
        with torch.no_grad():
            pieces = [self._analysis(some) for some in self._pieces(found.rows.detach().double().cpu())]
        return multifractal_estimate(self, base, found, pieces, level, n_simulated, seed)

    def _least(self) -> int:
        if self.method == "mfdfa":
            return _FEWEST_SAMPLES if self.fit_range is None else math.ceil(FEWEST_WINDOWS * self.fit_range[1])
        last = last_octave(self.fit_range, _FIRST_OCTAVE)
        fewest = (_FEWEST_LEADERS if self.fit_range is None else FEWEST_WINDOWS) + 2
        return samples_for(fewest, last, self.vanishing_moments)

    def _fit(self, rows: torch.Tensor) -> Fit:
        spectrum, found, scales = self._analysis(rows)
        # the moment that other methods look at: its slope is their exponent
        second = found.log_means[:, -1] / 2
        line = line_fit(scales.log(), second)
        every = torch.ones_like(scales, dtype=torch.bool)
        return Fit(spectrum.alpha[:, 0] - spectrum.alpha[:, -1], scales, second.exp(), every, line)

    def _analysis(self, rows: torch.Tensor) -> tuple[Spectrum, Moments, torch.Tensor]:
        """Return the spectrum of rows, their moments with that of q = 2 as one more, and the scales."""
        log_sizes, scales = self._log_sizes(rows - rows.mean(1, keepdim=True))
        q = torch.tensor([*self.q, 2.0], dtype=rows.dtype, device=rows.device)
        found = moments(log_sizes, q)
        found_of_q = found._replace(log_means=found.log_means[:, :-1], tilted_logs=found.tilted_logs[:, :-1])
        return spectrum_of(found_of_q, scales.log(), q[:-1]), found, scales

    def _log_sizes(self, rows: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return logarithms of the sizes of fluctuations at each scale, and the scales in samples."""
        n_samples = rows.shape[1]
        if self.method == "mfdfa":
            low, high = self.fit_range or (_SHORTEST, n_samples // _LONGEST_SHARE)
            windows = windows_between(low, high, _WINDOWS_PER_OCTAVE)
            return log_fluctuations(rows, windows, self.order), torch.tensor(windows).to(rows)
        counts = n_leaders(n_samples, self.vanishing_moments)
        octaves = octaves_between(counts, self.fit_range, _FIRST_OCTAVE, _FEWEST_LEADERS)
        scales = torch.tensor([2**octave for octave in octaves]).to(rows)
        return log_leaders(rows, octaves, self.vanishing_moments), scales

    def _uncertainty(self, rows: torch.Tensor, fit: Fit, level: float, n_simulated: int, seed: SeedLike) -> Uncertainty:
        assert fit.line is not None
        hurst = nearest_exponent(fit.line.slope)
        return uncertainty_of_widths(self, fit.value, hurst, rows.shape[1], level, n_simulated, seed)


def _checked_moments(q: Any) -> tuple[float, ...]:
    try:
        found = np.asarray(q, dtype=np.float64)
        valid = found.ndim == 1 and len(found) > 1 and np.isfinite(found).all() and (np.diff(found) > 0).all()
    except (TypeError, ValueError):
        found, valid = np.empty(0), False
    if not valid:
        raise OptionError("q is no set of moments", expected="at least two finite numbers, ascending", got=repr(q))
    return tuple(found.tolist())


def _at_most(name: str, value: int, most: int) -> int:
    return int(number(name, value, 0, most))
