"""The slope of the power spectrum of signals: how fast power falls with frequency."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch

from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
from neuros_mechint.neuro.fractals.scaling import FEWEST_SCALES, line_fit, scale_range
from neuros_mechint.neuro.fractals.signals import Signals
from neuros_mechint.neuro.fractals.spectrum.irasa import STRETCHES, irasa
from neuros_mechint.neuro.fractals.spectrum.welch import multitaper, welch
from neuros_mechint.neuro.fractals.stimuli.gaussian import colored_noise

_METHODS = ("welch", "multitaper", "irasa")
_HANN_HALF_WIDTH = 2  # steps of frequency from the middle of the window's transform to its first zero
_SHORTEST_DEFAULT_SEGMENT = 64
_SEGMENTS, _SEGMENTS_OF_IRASA = 8, 4
_BANDWIDTH = 4.0
_NO_POWER = 1e4
# In cycles per sample: sampled processes follow their power law up to about here, and filters act above.
_HIGHEST = 0.25
# Leakage of tapers falls as fast as brown noise: what is steeper comes out like it.
_STEEPEST_FOR_TAPERS = -1.9


class SpectralSlope(SignalMetric):
    r"""Slope of the logarithm of power over the logarithm of frequency: 0 is white, -1 pink, -2 brown noise.

    The line is fitted by least squares to the logarithms at all frequencies :math:`f` of the range, with weights
    :math:`1 / f`, so that each octave counts alike; without them half of all points would lie in the highest octave.
    Logarithms of power are low by the same amount at all frequencies, which moves the line but does not tilt it.

    Parameters
    ----------
    method : {"welch", "multitaper", "irasa"}
        Averages over Hann windows, for slopes of all sizes; over Slepian tapers of the whole signal, which use short
        signals best but leak, so that slopes below -2 come out near -2; or the fractal part, without oscillations.
    fit_range : pair of float, optional
        Lowest and highest frequency of the fit, both included, in cycles per unit of ``sampling_rate``. Default: from
        the lowest frequency that a window resolves (twice the half width of its peak: ``4 / segment``, with tapers
        ``2 * bandwidth / n_samples``) to a quarter of the sampling rate. Estimates report it.
    sampling_rate : float, optional
        Samples per second. Default: that of the recording, and 1 where there is none: cycles per sample.
    segment : int, optional
        Samples of a window of Welch's method, also within IRASA. Default: the power of two that is at most an eighth
        of the signal (with IRASA a quarter: where windows are short, peaks are wide and stay in part), and at least
        64 or what the signal holds.
    bandwidth : float
        Of the tapers: half the width over which power is smoothed, in steps of frequency; they are
        ``2 * bandwidth - 1``.

    Raises
    ------
    OptionError
        Parameters out of range, or that the method does not take.

    References
    ----------
    Welch 1967, doi:10.1109/TAU.1967.1161901; Thomson 1982, doi:10.1109/PROC.1982.12433; Wen and Liu 2016,
    doi:10.1007/s10548-015-0448-0

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> noise = nm.colored_noise([0, 1, 2], n_samples=50_000, n_channels=3)
    >>> (nm.SpectralSlope()(noise) * 10).round().int().tolist()
    [0, -10, -20]
    """

    quantity: ClassVar[str] = "slope"
    long_name: ClassVar[str] = "slope of the power spectrum"
    scale_name: ClassVar[str] = "frequency"
    statistic_name: ClassVar[str] = "power per frequency"
    citations: ClassVar[tuple[str, ...]] = ("welch1967", "thomson1982", "wen2016irasa")
    truths = tuple(float(truth) for truth in np.arange(-3.0, 1.01, 0.5))
    simulated: ClassVar[str] = "colored noise"

    def __init__(
        self,
        method: Literal["welch", "multitaper", "irasa"] = "welch",
        fit_range: tuple[float, float] | None = None,
        sampling_rate: float | None = None,
        segment: int | None = None,
        bandwidth: float = _BANDWIDTH,
    ) -> None:
        check_option("method", method, _METHODS)
        self.method: Literal["welch", "multitaper", "irasa"] = method
        self.sampling_rate = None if sampling_rate is None else number("sampling_rate", sampling_rate, 0, np.inf)
        self.segment = None if segment is None else whole("segment", segment, 8)
        self.bandwidth = number("bandwidth", bandwidth, 1, 1000)
        self.fit_range = scale_range(fit_range, units="cycles per unit of sampling_rate")
        if segment is not None and method == "multitaper":
            raise OptionError("tapers span the whole signal", got=f"segment={segment}", fix="leave segment out")
        if method != "multitaper" and bandwidth != _BANDWIDTH:
            raise OptionError("only tapers have a bandwidth", got=f"method={method!r}", fix="leave bandwidth out")
        if self.fit_range is not None and self.sampling_rate is not None:
            self._check_highest(self.fit_range[1], self.sampling_rate)

    @property
    def scale_units(self) -> str:  # type: ignore[override]
        """Hz where the sampling rate is known."""
        return "cycles per sample" if self.sampling_rate is None else "Hz"

    def _on(self, found: Signals) -> SpectralSlope:
        rate = found.sampling_rate
        if rate is None or rate == self.sampling_rate:
            return self
        if self.sampling_rate is not None:
            raise InputError(
                "the signals were sampled at another rate",
                expected=f"{self.sampling_rate:g} Hz, as in {self!r}",
                got=f"{rate:g} Hz",
                fix="leave sampling_rate out: it is taken from the recording",
            )
        return type(self)(**{**self.get_params(), "sampling_rate": rate})

    def _least(self) -> int:
        """Return how many samples give three frequencies of the default range."""
        shortest = int(np.ceil((self._first_resolved + FEWEST_SCALES - 1) / _HIGHEST))
        if self.method == "multitaper":
            return shortest
        window = self.segment or shortest
        return window if self.method == "welch" else int(np.ceil(window * float(STRETCHES[-1])))

    def _fit(self, rows: torch.Tensor) -> Fit:
        frequencies, power = self._spectrum(rows - rows.mean(-1, keepdim=True))
        fitted = self._fitted(frequencies, rows.shape[-1])
        within = frequencies[fitted]
        # where there is no power at all, only rounding is left
        floor = torch.finfo(power.dtype).eps ** 2 * power.detach().mean(-1, keepdim=True)
        empty = (power[:, fitted].detach() < _NO_POWER * floor).any(-1)
        if empty.any():
            raise InputError(
                "there is no power but rounding at some frequencies",
                expected=f"signals with power from {within[0]:g} to {within[-1]:g} {self.scale_units}",
                got=f"{int(empty.sum())} of {len(empty)} signals without, as of a single sine",
            )
        line = line_fit(within.log(), (power[:, fitted] + floor).log(), 1 / within)
        return Fit(line.slope, frequencies, power, fitted, line)

    def _spectrum(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frequencies above zero, and the power of signals there."""
        rate, segment = self.sampling_rate or 1.0, self._window(rows.shape[-1])
        if self.method == "multitaper":
            frequencies, power = multitaper(rows, self.bandwidth, int(2 * self.bandwidth) - 1, rate)
        else:
            frequencies, power = (welch if self.method == "welch" else irasa)(rows, segment, rate)
        shown = (frequencies > 0) & (frequencies <= self._highest(rate) * (1 + 1e-9))
        return frequencies[shown], power[:, shown]

    def _window(self, n_samples: int) -> int:
        """Return the samples of a window."""
        if self.method == "multitaper":
            return n_samples
        if self.segment is not None:
            return self.segment
        holds = n_samples if self.method == "welch" else int(n_samples / STRETCHES[-1])
        # a peak must be narrower than it is shifted by the stretches, or IRASA leaves a part of it
        segments = _SEGMENTS if self.method == "welch" else _SEGMENTS_OF_IRASA
        return max(2 ** int(np.log2(n_samples / segments)), min(holds, _SHORTEST_DEFAULT_SEGMENT))

    @property
    def _first_resolved(self) -> float:
        """How many steps of frequency lie below the lowest that is not blurred with the mean."""
        return 2 * (self.bandwidth if self.method == "multitaper" else _HANN_HALF_WIDTH)

    def _fitted(self, frequencies: torch.Tensor, n_samples: int) -> torch.Tensor:
        """Return which frequencies lie in the range of the fit."""
        rate = self.sampling_rate or 1.0
        if self.fit_range is not None:
            self._check_highest(self.fit_range[1], rate)
        step = rate / self._window(n_samples)
        low, high = self.fit_range or (self._first_resolved * step, _HIGHEST * rate)
        # frequencies of a transform are multiples of a step, up to rounding
        fitted = (frequencies >= low - 1e-6 * step) & (frequencies <= high + 1e-6 * step)
        if int(fitted.sum()) < FEWEST_SCALES:
            raise InputError(
                "too few frequencies for a line",
                expected=f"at least {FEWEST_SCALES} from {low:g} to {high:g} {self.scale_units}",
                got=f"{int(fitted.sum())}, in steps of {step:g} (signals of {n_samples} samples)",
                fix="widen fit_range, or give longer signals" + (" or segments" if self.segment else ""),
            )
        return fitted

    def _highest(self, rate: float) -> float:
        """Return the highest frequency that the method sees."""
        return rate / 2 / (float(STRETCHES[-1]) if self.method == "irasa" else 1.0)

    def _check_highest(self, high: float, rate: float) -> None:
        most = self._highest(rate)
        if high > most * (1 + 1e-9):
            stretched = ", as signals stretched by 1.9 hold no higher frequencies" if self.method == "irasa" else ""
            raise OptionError(
                "fit_range goes beyond the frequencies that there are",
                expected=f"up to {most:g} at a sampling rate of {rate:g}{stretched}",
                got=f"{high:g}",
                fix="frequencies are in cycles per sample where no sampling rate is known",
            )

    def _simulate(self, truth: float, n_signals: int, n_samples: int, seed: SeedLike) -> torch.Tensor:
        return colored_noise(-truth, n_samples, n_signals, seed)

    def _cautions(self, fit: Fit) -> tuple[str, ...]:
        assert fit.scales is not None
        assert fit.fitted is not None
        low, step = float(fit.scales[fit.fitted][0]), float(fit.scales[1] - fit.scales[0])
        texts = []
        if low < (self._first_resolved - 1e-6) * step:
            texts.append(
                f"the fit begins at {low:g} {self.scale_units}, where power is blurred with that around zero: "
                f"windows of this length resolve frequencies from {self._first_resolved * step:g}"
                + ("" if self.method == "multitaper" else "; longer ones, segment=..., lower ones")
            )
        if self.method == "multitaper" and bool((fit.value < _STEEPEST_FOR_TAPERS).any()):
            texts.append(
                "tapers leak power to high frequencies, so that slopes below -2 come out near -2: method='welch' tells"
            )
        return tuple(texts)
