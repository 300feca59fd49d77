"""Petrosian's dimension: how often a signal turns."""

from __future__ import annotations

from math import log
from typing import ClassVar

import torch

from neuros_mechint.neuro.fractals.dimensions.steps import drawn_by_steps
from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric


class PetrosianFractalDimension(SignalMetric):
    r"""Petrosian's dimension: a count of the turns of a signal, on a scale from 1 to about 1.03.

    .. math:: D = \frac{\ln N}{\ln N + \ln \frac{N}{N + 0.4\,N_\delta}}

    with :math:`N` samples, of which the direction changes :math:`N_\delta` times: from falling to not falling, or
    back. The same as in antropy. It depends on the length of the signal, and is no dimension of any set: compare
    signals of one length only. Not differentiable, as a count is not: its gradient is missing.

    References
    ----------
    Petrosian 1995, Kolmogorov complexity of finite sequences and recognition of different preictal EEG patterns,
    doi:10.1109/CBMS.1995.465426

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> straight, zigzag = torch.arange(100.0), torch.arange(100.0) % 2
    >>> nm.PetrosianFractalDimension()(torch.stack([straight, zigzag]))
    tensor([1.0000, 1.0774])
    """

    quantity: ClassVar[str] = "dimension"
    long_name: ClassVar[str] = "Petrosian's fractal dimension"
    citations: ClassVar[tuple[str, ...]] = ("petrosian1995",)

    def _least(self) -> int:
        return 3

    def _fit(self, rows: torch.Tensor) -> Fit:
        n_samples = rows.shape[1]
        falling = rows.detach().diff(dim=1) < 0
        turns = (falling[:, 1:] != falling[:, :-1]).sum(1).to(rows.dtype)
        return Fit(log(n_samples) / (log(n_samples) - torch.log1p(0.4 * turns / n_samples)))

    def _resampled(self, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return drawn_by_steps(rows, places)
