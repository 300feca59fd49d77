"""Priors on how fluctuations grow with their time scale: along a straight line, or with smooth moments."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neuros_mechint.core.errors import OptionError, number
from neuros_mechint.neuro.fractals.fluctuations.dfa import DetrendedFluctuationAnalysis
from neuros_mechint.neuro.fractals.metric import SignalMetric
from neuros_mechint.neuro.fractals.multifractal.spectrum import MultifractalSpectrum
from neuros_mechint.neuro.fractals.priors.signal_prior import SignalPrior
from neuros_mechint.neuro.fractals.scaling import line_fit

_WINDOWS_FOR_SHORT_SIGNALS = (6, 8, 11, 16)
_MOMENTS_FOR_SHORT_SIGNALS = MultifractalSpectrum(q=(-2.0, -1.0, 0.0, 1.0, 2.0), fit_range=(4, 16))


class TemporalScaleInvariance(SignalPrior):
    r"""How far the log-log plot of fluctuations over time scales is from a straight line: 0 is a perfect power law.

    With :math:`F(s)` the fluctuation at :math:`k` scales, and :math:`a + \alpha \log s` the line through their
    logarithms, the loss is the mean over signals of
    :math:`\frac1k \sum_s (\log F(s) - a - \alpha \log s)^2`, plus :math:`(\alpha - \alpha_0)^2` if a target is given.

    Parameters
    ----------
    target_exponent : float, optional
        Which exponent it should be. Without, any power law will do.
    metric : SignalMetric, optional
        Any that reads a slope off a log-log plot. Default: detrended fluctuation analysis with windows of 6 to 16
        samples, for signals of 64 samples and more.
    axis : int
        The axis of time: 1 for activations ``(batch, time, unit)``.
    average : sequence of int
        Axes over which logarithms are averaged before they are compared with a line; ``(0,)`` for a batch.

    Raises
    ------
    OptionError
        Parameters out of range.

    References
    ----------
    Peng et al. 1994, Mosaic organization of DNA nucleotides, doi:10.1103/PhysRevE.49.1685

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> pink = nm.colored_noise(1.0, 512, 64)
    >>> tone = torch.sin(torch.arange(512) * torch.pi / 8)
    >>> prior = nm.TemporalScaleInvariance(average=(0,))
    >>> bool(prior(pink + tone) > 5 * prior(pink))  # a tone has a time scale
    True
    """

    def __init__(
        self,
        target_exponent: float | None = None,
        metric: SignalMetric | None = None,
        axis: int = -1,
        average: Sequence[int] = (),
    ) -> None:
        super().__init__(metric or DetrendedFluctuationAnalysis(scales=_WINDOWS_FOR_SHORT_SIGNALS), axis, average)
        self.target = None if target_exponent is None else number("target_exponent", target_exponent, -100, 100)

    def _measure(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the residuals at each scale and the slope; both are linear in the logarithms, as averages are."""
        found = []
        for fit in self.metric._fits(rows):
            if fit.scales is None or fit.statistic is None or fit.fitted is None:
                raise OptionError("the metric has no log-log plot", got=repr(self.metric), fix="use another metric")
            logs = fit.statistic[:, fit.fitted].log()
            log_scales = fit.scales[fit.fitted].to(logs).log()
            line = line_fit(log_scales, logs)
            residuals = logs - line.intercept[:, None] - line.slope[:, None] * log_scales
            found.append(torch.cat([residuals, line.slope[:, None]], dim=1))
        return torch.cat(found)

    def _penalty(self, measured: torch.Tensor) -> torch.Tensor:
        bent = measured[:, :-1].square().mean(1)
        return bent if self.target is None else bent + (measured[:, -1] - self.target).square()

    def extra_repr(self) -> str:
        """Return what the module was made of."""
        return f"target={self.target}, {super().extra_repr()}"


class MultifractalSmoothness(SignalPrior):
    r"""Roughness of the generalised Hurst exponents over moments: 0 where they lie on a straight line.

    The loss is the mean over signals and inner moments of :math:`(h''(q))^2`, with :math:`h''` from divided
    differences of each three neighbours. One exponent for all moments, :math:`h(q) = H`, costs nothing, nor does
    :math:`h(q)` that falls along a line (a log-normal cascade): it is a prior for smooth, not for narrow spectra.

    Parameters
    ----------
    metric : MultifractalSpectrum, optional
        Method, moments (at least three) and scales. Default: moments -2 to 2 over windows of 4 to 16 samples, for
        signals of 64 samples and more.
    axis : int
        The axis of time: 1 for activations ``(batch, time, unit)``.
    average : sequence of int
        Axes over which exponents are averaged before their roughness is taken; ``(0,)`` for a batch.

    Raises
    ------
    OptionError
        Fewer than three moments, or axes that are no integers.

    References
    ----------
    Kantelhardt et al. 2002, Multifractal detrended fluctuation analysis of nonstationary time series,
    doi:10.1016/S0378-4371(02)01383-3

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> prior = nm.MultifractalSmoothness(nm.MultifractalSpectrum())
    >>> one_exponent = nm.fractional_gaussian_noise(0.7, n_samples=4096)
    >>> bool(prior(nm.multiplicative_cascade(12)) > 5 * prior(one_exponent))
    True
    """

    metric: MultifractalSpectrum

    def __init__(self, metric: MultifractalSpectrum | None = None, axis: int = -1, average: Sequence[int] = ()) -> None:
        super().__init__(metric or _MOMENTS_FOR_SHORT_SIGNALS, axis, average)
        if len(self.metric.q) < 3:
            raise OptionError("too few moments to be smooth or rough", expected="at least 3", got=self.metric.q)

    def _measure(self, rows: torch.Tensor) -> torch.Tensor:
        return self.metric.generalized_hurst(rows)

    def _penalty(self, measured: torch.Tensor) -> torch.Tensor:
        q = torch.tensor(self.metric.q, dtype=measured.dtype, device=measured.device)
        slopes = measured.diff(dim=1) / q.diff()
        curvature = 2 * slopes.diff(dim=1) / (q[2:] - q[:-2])
        return curvature.square().mean(1)
