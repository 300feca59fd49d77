"""A prior on the slope of the power spectrum."""

from __future__ import annotations

from collections.abc import Sequence

from neuros_mechint.core.errors import number
from neuros_mechint.neuro.fractals.priors.signal_prior import TargetPrior
from neuros_mechint.neuro.fractals.spectrum.slope import SpectralSlope

_TAPERS_FOR_SHORT_SIGNALS = SpectralSlope("multitaper", bandwidth=2.0)


class SpectralPrior(TargetPrior):
    r"""Squared distance of the spectral slope of signals from a target: a pull towards pink noise, by default.

    The loss is the mean over signals (or groups of them, see ``average``) of :math:`(s - s_0)^2`. It does not depend
    on the scale of the signals, so that its gradient is as much larger as they are smaller.

    Parameters
    ----------
    target_slope : float
        0 is white, -1 pink, -2 brown noise.
    metric : SpectralSlope, optional
        How the slope is estimated, and over which frequencies. Default: three tapers, which do well with 64 to 256
        steps; slopes below -2 look to them like about -2.
    axis : int
        The axis of time: 1 for activations ``(batch, time, unit)``.
    average : sequence of int
        Axes over which slopes are averaged before they are compared with the target; ``(0,)`` for a batch.

    Raises
    ------
    OptionError
        Parameters out of range.

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> white = torch.randn(8, 128, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    >>> loss = nm.SpectralPrior(-1.0, axis=1, average=(0,))(white)
    >>> loss.backward()
    >>> round(loss.item()), white.grad.shape
    (1, torch.Size([8, 128, 16]))
    """

    metric: SpectralSlope

    def __init__(
        self,
        target_slope: float = -1.0,
        metric: SpectralSlope | None = None,
        axis: int = -1,
        average: Sequence[int] = (),
    ) -> None:
        target = number("target_slope", target_slope, -100, 100)
        super().__init__(metric or _TAPERS_FOR_SHORT_SIGNALS, target, axis, average)
