"""Katz's dimension: how much longer a path is than it is wide."""

from __future__ import annotations

from math import log
from typing import ClassVar

import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.fractals.dimensions.steps import drawn_by_steps
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric

_ROUNDINGS = 16


class KatzFractalDimension(SignalMetric):
    r"""Katz's dimension of a signal, from the length of its path and how far it gets.

    .. math:: D = \frac{\ln (L / a)}{\ln (d / a)}, \qquad L = \sum_i |x_{i+1} - x_i|, \quad d = \max_i |x_i - x_1|

    with the mean step :math:`a = L / (N - 1)`. Distances are differences of values alone, as in antropy, so that the
    units of the signal do not matter. Katz's own, between points ``(time, value)``, change with them. 1 for a straight
    line. It depends on the length of the signal and has no upper limit: for white noise it is far above 2. Compare
    signals of one length only. Differentiable.

    References
    ----------
    Katz 1988, Fractals and the analysis of waveforms, doi:10.1016/0010-4825(88)90041-8; Esteller et al. 2001, A
    comparison of waveform fractal dimension algorithms, doi:10.1109/81.904882

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> up, back = torch.arange(5.0), torch.tensor([0.0, 1.0, 2.0, 1.0, 0.0])
    >>> nm.KatzFractalDimension()(torch.stack([up, back]))  # back: ln 4 / ln 2
    tensor([1., 2.])
    """

    quantity: ClassVar[str] = "dimension"
    long_name: ClassVar[str] = "Katz's fractal dimension"
    citations: ClassVar[tuple[str, ...]] = ("katz1988", "esteller2001")

    def _least(self) -> int:
        return 3

    def _fit(self, rows: torch.Tensor) -> Fit:
        step = rows.diff(dim=1).abs().mean(1)
        reach = (rows - rows[:, :1]).abs().amax(1) / step
        lost = reach.detach() <= 1 + _ROUNDINGS * torch.finfo(rows.dtype).eps
        if lost.any():
            raise InputError(
                "Katz's dimension has no value for signals that never get further than one mean step",
                expected="signals that move away from their first sample",
                got=f"{int(lost.sum())} of {len(rows)} signals that do not",
                fix="use HiguchiFractalDimension for signals that only jump to and fro",
            )
        return Fit(log(rows.shape[1] - 1) / reach.log())

    def _resampled(self, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return drawn_by_steps(rows, places)
