"""A prior on the fractal dimension of signals."""

from __future__ import annotations

from collections.abc import Sequence

from neuros_mechint.core.errors import number
from neuros_mechint.neuro.fractals.dimensions.higuchi import HiguchiFractalDimension
from neuros_mechint.neuro.fractals.priors.signal_prior import TargetPrior


class HiguchiPrior(TargetPrior):
    r"""Squared distance of Higuchi's fractal dimension of signals from a target.

    The loss is the mean over signals (or groups of them, see ``average``) of :math:`(D - D_0)^2`.

    Parameters
    ----------
    target_dimension : float
        Above 1 (a smooth curve) and up to 2 (white noise); 1.5 is a random walk.
    metric : HiguchiFractalDimension, optional
        With which intervals it is estimated. Default: up to 8 samples, for signals of 64 samples and more.
    axis : int
        The axis of time: 1 for activations ``(batch, time, unit)``.
    average : sequence of int
        Axes over which dimensions are averaged before they are compared with the target; ``(0,)`` for a batch.

    Raises
    ------
    OptionError
        Parameters out of range.

    References
    ----------
    Higuchi 1988, Approach to an irregular time series on the basis of the fractal theory,
    doi:10.1016/0167-2789(88)90081-4

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> walks = nm.fractional_brownian_motion(0.5, 256, n_channels=64)
    >>> [nm.HiguchiPrior(target, average=(0,))(walks).item() < 1e-3 for target in (1.5, 1.8)]
    [True, False]
    """

    metric: HiguchiFractalDimension

    def __init__(
        self,
        target_dimension: float = 1.5,
        metric: HiguchiFractalDimension | None = None,
        axis: int = -1,
        average: Sequence[int] = (),
    ) -> None:
        target = number("target_dimension", target_dimension, 1, 2)
        super().__init__(metric or HiguchiFractalDimension(k_max=8), target, axis, average)
