"""Detrended fluctuation analysis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch

from neuros_mechint.core.errors import InputError, check_option, whole
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.fractals.fluctuations.scales import checked_scales, fewest_samples, window_lengths
from neuros_mechint.neuro.fractals.fluctuations.wavelet import SHORTEST, dyadic_mean_squares
from neuros_mechint.neuro.fractals.fluctuations.windows import mean_squares
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
from neuros_mechint.neuro.fractals.scaling import line_fit, scale_range
from neuros_mechint.neuro.fractals.stimuli.gaussian import fractional_brownian_motion, fractional_gaussian_noise

# What is worked on at a time: with what is made of it, it leaves the cache, but half as much takes longer.
_BYTES_AT_ONCE = 2_560_000
# glibc returns memory after each step, and has it zeroed again at the next, unless a larger piece was freed before.
_PIECE_TO_FREE = 2**24
_ROUNDINGS = 16


class DetrendedFluctuationAnalysis(SignalMetric):
    r"""How the fluctuations of the running sum of a signal around local trends grow with the length of windows.

    The running sum of deviations from the mean is cut into windows of :math:`n` samples, and in each a polynomial is
    fitted and removed. The root of the mean square of what is left, :math:`F(n)`, grows as :math:`n^\alpha`. The
    exponent is 0.5 for signals without memory, equals :math:`H` for fractional Gaussian noise and :math:`H + 1` for
    fractional Brownian motion, and is 1 for pink noise.

    Differentiable. Windows of 8, 16, 32, ... side by side, around lines, are computed in the precision of the signal;
    all others in float64.

    Parameters
    ----------
    scales : {"dyadic", "nolds", "antropy"} or sequence of int
        Lengths of windows in samples. ``"dyadic"``: powers of two from 8 to a tenth of the signal, or three of them
        where the longest fits four times; much the fastest. ``"nolds"``: those of ``nolds.dfa``, from 4 in steps of a
        factor of 1.2, where windows overlap by half. ``"antropy"``: those of ``antropy.detrended_fluctuation``, the
        same side by side.
    fit_range : pair of float, optional
        Shortest and longest window that the exponent is read from, in samples; all without.
    order : int
        Of the polynomials: 1 removes lines.
    overlap : bool, optional
        Whether windows overlap by half. Without it only those of ``"nolds"`` do.

    References
    ----------
    Peng et al. 1994, Mosaic organization of DNA nucleotides, doi:10.1103/PhysRevE.49.1685; Kantelhardt et al. 2001,
    Detecting long-range correlations with detrended fluctuation analysis, doi:10.1016/S0378-4371(01)00144-3

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> noise = nm.fractional_gaussian_noise([0.3, 0.7], n_samples=10_000, n_channels=2)
    >>> nm.DetrendedFluctuationAnalysis()(noise).round(decimals=1)
    tensor([0.3000, 0.7000], dtype=torch.float64)
    >>> estimate = nm.DetrendedFluctuationAnalysis(fit_range=(16, 300)).estimate(noise, n_simulated=10)
    >>> estimate.attributes["fit_range"], estimate.data["window"].values.tolist()
    ([16.0, 256.0], [8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0])
    """

    quantity: ClassVar[str] = "exponent"
    long_name: ClassVar[str] = "exponent of detrended fluctuation analysis"
    scale_name: ClassVar[str] = "window"
    statistic_name: ClassVar[str] = "fluctuation"
    citations: ClassVar[tuple[str, ...]] = ("peng1994dfa", "kantelhardt2001dfa")
    truths: ClassVar[tuple[float, ...]] = (*(step / 20 for step in range(1, 20)), 1.1, 1.2, 1.3, 1.5, 1.7, 1.9)
    simulated: ClassVar[str] = "fractional Gaussian noise or motion"

    def __init__(
        self,
        *,
        scales: Literal["dyadic", "nolds", "antropy"] | Sequence[int] = "dyadic",
        fit_range: tuple[float, float] | None = None,
        order: int = 1,
        overlap: bool | None = None,
    ) -> None:
        self.order = whole("order", order)
        self.scales = checked_scales(scales, self.order)
        self.fit_range = scale_range(fit_range)
        check_option("overlap", overlap, (None, True, False))
        self.overlap = overlap

    @property
    def _overlaps(self) -> bool:
        return self.scales == "nolds" if self.overlap is None else self.overlap

    def _least(self) -> int:
        return fewest_samples(self.scales, self._overlaps)

    def _fits(self, rows: torch.Tensor) -> list[Fit]:
        return [self._fit(rows)]

    def _fit(self, rows: torch.Tensor) -> Fit:
        lengths = window_lengths(self.scales, rows.shape[1])
        squares = self._squares(rows, lengths)
        log_fluctuation = squares.log() / 2
        scales = torch.tensor(lengths, dtype=torch.float64, device=rows.device)
        low, high = self.fit_range or (lengths[0], lengths[-1])
        fitted = (scales >= low) & (scales <= high)
        line = line_fit(scales[fitted].log(), log_fluctuation[:, fitted])
        return Fit(line.slope.to(rows.dtype), scales, log_fluctuation.exp(), fitted, line)

    def _squares(self, rows: torch.Tensor, lengths: tuple[int, ...]) -> torch.Tensor:
        """Return mean squares around trends, ``(n_signals, n_lengths)``, from some signals at a time."""
        octaves = tuple(SHORTEST << octave for octave in range(len(lengths)))
        by_wavelets = lengths == octaves and self.order == 1 and not self._overlaps
        torch.empty(_PIECE_TO_FREE, dtype=torch.uint8)
        found, sizes = [], []
        for some in rows.split(max(1, _BYTES_AT_ONCE // (rows.element_size() * rows.shape[1]))):
            precise = some if by_wavelets else some.double()
            away = precise - precise.mean(1, keepdim=True)
            if by_wavelets:
                found.append(dyadic_mean_squares(away, len(lengths)))
            else:
                found.append(mean_squares(away.cumsum(1), lengths, self.order, self._overlaps))
            sizes.append(torch.linalg.vector_norm(away.detach(), dim=1))
        squares = torch.cat(found)
        # a running sum is rounded at its own size, which may be that of the signal times its length
        roundings = _ROUNDINGS * (1 if by_wavelets else rows.shape[1]) * torch.finfo(squares.dtype).eps
        _check(squares, roundings * torch.cat(sizes) / rows.shape[1] ** 0.5, lengths)
        return squares

    def _simulate(self, truth: float, n_signals: int, n_samples: int, seed: SeedLike) -> torch.Tensor:
        if truth < 1:
            return fractional_gaussian_noise(truth, n_samples, n_signals, seed)
        return fractional_brownian_motion(truth - 1, n_samples, n_signals, seed)


def _check(squares: torch.Tensor, roundings: torch.Tensor, lengths: tuple[int, ...]) -> None:
    """Raise where windows hold nothing but their trend: the logarithm of rounding is no finding."""
    empty = squares.detach() <= roundings.square()[:, None]
    if empty.any():
        length = lengths[int(empty.any(0).nonzero()[0])]
        raise InputError(
            f"windows of {length} samples hold nothing but a trend",
            expected="signals that change within windows",
            got=f"{int(empty.any(1).sum())} of {len(empty)} signals that are constant there",
            fix="give scales that begin with longer windows",
        )
