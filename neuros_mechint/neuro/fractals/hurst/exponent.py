"""The Hurst exponent: how long a signal remembers."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch

from neuros_mechint.core.errors import OptionError, check_option, number, whole
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.fractals.fluctuations.dfa import DetrendedFluctuationAnalysis
from neuros_mechint.neuro.fractals.hurst.rescaled_range import (
    SHORTEST_WINDOW,
    expected_rescaled_range,
    rescaled_range,
)
from neuros_mechint.neuro.fractals.hurst.wavelet import octave_energies
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
from neuros_mechint.neuro.fractals.scale_sets import (
    FEWEST_WINDOWS,
    last_octave,
    octaves_between,
    windows_between,
)
from neuros_mechint.neuro.fractals.scaling import line_fit, scale_range
from neuros_mechint.neuro.fractals.stimuli.gaussian import fractional_brownian_motion, fractional_gaussian_noise
from neuros_mechint.neuro.fractals.wavelet_transform import (
    MOST_VANISHING_MOMENTS,
    detail_coefficients,
    n_coefficients,
    samples_for,
)

METHODS = ("dfa", "rs", "wavelet")
_WINDOWS_PER_OCTAVE = 2
_SHORTEST = 50
_FIRST_OCTAVE = 3
_SHORTEST_LONGEST = 100
_NOISE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_MOTION = tuple(round(1 + hurst, 2) for hurst in _NOISE)
# From here on rescaled ranges are low by more than a standard deviation of estimates.
_BIASED = 0.75


class HurstExponent(SignalMetric):
    r"""Hurst exponent: 0.5 without memory, above where rises follow rises, below where falls do.

    The spread of the running sum over :math:`n` samples grows like :math:`n^H`. It is read from

    - ``"dfa"``: fluctuations around straight lines, see `DetrendedFluctuationAnalysis`, with its dyadic scales. The
      least biased here, and the one to use: within .01 for fractional Gaussian noise of 10,000 samples;
    - ``"rs"``: rescaled ranges divided by what independent samples of the same number give (Anis and Lloyd). What is
      left of the bias is +.03 at 0.3, 0 at 0.5, -.03 at 0.7 and **-.07 at 0.9**: it can not tell strong memory, and
      never exceeds 1;
    - ``"wavelet"``: energies of octaves, whose slope is :math:`2H - 1`, weighted by how well they are known (Abry and
      Veitch). Within .02; -.09 at 0.1.

    Above 1 a signal is no noise but wanders: ``"dfa"`` and ``"wavelet"`` then give 1 plus the exponent of its
    increments (1.5 is a random walk), and ``"rs"`` something just below 1. Differentiable.

    Parameters
    ----------
    method : {"dfa", "rs", "wavelet"}
    fit_range : pair of float, optional
        Shortest and longest scale in samples. Without it, those of `DetrendedFluctuationAnalysis`; windows from 50 to a
        quarter of the signal, two lengths per octave, for ``"rs"``; octaves from 8 samples to the last with four
        coefficients for ``"wavelet"``. The longest window must fit four times.
    vanishing_moments : int
        Of the Daubechies wavelet of ``"wavelet"``: polynomials of so many terms (2: offset and straight trend) do not
        matter.

    Raises
    ------
    OptionError
        Unknown method, or parameters out of range.

    References
    ----------
    Peng et al. 1994, Mosaic organization of DNA nucleotides, doi:10.1103/PhysRevE.49.1685; Hurst 1951, Long-term
    storage capacity of reservoirs, doi:10.1061/TACEAT.0006518; Anis and Lloyd 1976, The expected value of the adjusted
    rescaled Hurst range of independent normal summands, doi:10.1093/biomet/63.1.111; Veitch and Abry 1999, A
    wavelet-based joint estimator of the parameters of long-range dependence, doi:10.1109/18.761330

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> noise = nm.fractional_gaussian_noise([0.3, 0.7], n_samples=20_000, n_channels=2)
    >>> nm.HurstExponent()(noise).round(decimals=1).tolist()
    [0.3, 0.7]
    >>> nm.HurstExponent("wavelet")(noise.cumsum(-1)).round(decimals=1).tolist()  # these wander
    [1.3, 1.7]
    """

    quantity: ClassVar[str] = "hurst"
    long_name: ClassVar[str] = "Hurst exponent"
    citations: ClassVar[tuple[str, ...]] = (
        *DetrendedFluctuationAnalysis.citations,
        "hurst1951",
        "anis1976",
        "veitch1999",
    )

    def __init__(
        self,
        method: Literal["dfa", "rs", "wavelet"] = "dfa",
        fit_range: tuple[float, float] | None = None,
        vanishing_moments: int = 2,
    ) -> None:
        check_option("method", method, METHODS)
        self.method = method
        moments = whole("vanishing_moments", vanishing_moments, 2)
        self.vanishing_moments = int(number("vanishing_moments", moments, 0, MOST_VANISHING_MOMENTS))
        if method != "wavelet" and self.vanishing_moments != 2:
            raise OptionError("only wavelets have vanishing moments", got=f"method={method!r}", fix="leave them out")
        self.fit_range = scale_range(fit_range, least=2 if method == "wavelet" else SHORTEST_WINDOW)
        if self.fit_range is not None and method == "rs":
            windows_between(*self.fit_range, _WINDOWS_PER_OCTAVE)
        self._dfa = None
        if method == "dfa":
            windows = "dyadic" if self.fit_range is None else tuple(windows_between(*self.fit_range, per_octave=1))
            self._dfa = DetrendedFluctuationAnalysis(scales=windows)

    @property
    def statistic_name(self) -> str:  # type: ignore[override]
        """What the fitted line goes through."""
        if self._dfa is not None:
            return self._dfa.statistic_name
        return "rescaled range, corrected" if self.method == "rs" else "energy of wavelet coefficients"

    @property
    def truths(self) -> tuple[float, ...]:  # type: ignore[override]
        """True values of which signals are simulated: rescaled ranges tell nothing beyond 1."""
        return _NOISE if self.method == "rs" else _NOISE + _MOTION

    @property
    def simulated(self) -> str:  # type: ignore[override]
        """What these signals are."""
        return "fractional Gaussian noise" + ("" if self.method == "rs" else " and motion")

    def _least(self) -> int:
        longest = 0 if self.fit_range is None else FEWEST_WINDOWS * math.ceil(self.fit_range[1])
        if self._dfa is not None:
            return max(longest, self._dfa._least())
        if self.method == "rs":
            return longest or FEWEST_WINDOWS * _SHORTEST_LONGEST
        return samples_for(FEWEST_WINDOWS, last_octave(self.fit_range, _FIRST_OCTAVE), self.vanishing_moments)

    def _fits(self, rows: torch.Tensor) -> list[Fit]:
        return super()._fits(rows) if self._dfa is None else self._dfa._fits(rows)

    def _fit(self, rows: torch.Tensor) -> Fit:
        if self._dfa is not None:
            return self._dfa._fit(rows)
        rows = rows - rows.mean(1, keepdim=True)
        return self._rescaled_ranges(rows) if self.method == "rs" else self._wavelet_energies(rows)

    def _rescaled_ranges(self, rows: torch.Tensor) -> Fit:
        low, high = self.fit_range or (_SHORTEST, rows.shape[1] // FEWEST_WINDOWS)
        windows = windows_between(low, high, _WINDOWS_PER_OCTAVE)
        # independent samples have an exponent of 1 / 2: what is divided out is put back in as its limit
        ranges = [rescaled_range(rows, size) * (size**0.5 / expected_rescaled_range(size)) for size in windows]
        scales, statistic = torch.tensor(windows).to(rows), torch.stack(ranges, 1)
        line = line_fit(scales.log(), statistic.log())
        return Fit(line.slope, scales, statistic, torch.ones_like(scales, dtype=torch.bool), line)

    def _wavelet_energies(self, rows: torch.Tensor) -> Fit:
        counts = n_coefficients(rows.shape[1], self.vanishing_moments)
        octaves = octaves_between(counts, self.fit_range, _FIRST_OCTAVE, FEWEST_WINDOWS)
        details = detail_coefficients(rows, self.vanishing_moments)
        energies, weights = octave_energies(rows, details, octaves)
        scales = torch.tensor([2**octave for octave in octaves]).to(rows)
        line = line_fit(scales.log(), energies.log(), weights)
        return Fit((line.slope + 1) / 2, scales, energies, torch.ones_like(scales, dtype=torch.bool), line)

    def _simulate(self, truth: float, n_signals: int, n_samples: int, seed: SeedLike) -> torch.Tensor:
        if truth > 1:
            return fractional_brownian_motion(truth - 1, n_samples, n_signals, seed)
        return fractional_gaussian_noise(truth, n_samples, n_signals, seed)

    def _cautions(self, fit: Fit) -> tuple[str, ...]:
        n_signals = len(fit.value)
        if self.method == "rs":
            biased = int((fit.value > _BIASED).sum())
            text = f"{biased} of {n_signals} rescaled ranges tell of strong memory, of which they give too little: "
            return (text + "use method='dfa'",) if biased else ()
        wandering = int((fit.value > 1).sum())
        text = f"{wandering} of {n_signals} signals wander, with exponents above 1: less 1, those of their increments"
        return (text,) if wandering else ()
