"""A small metric with a known answer, for tests of what is done with any metric."""

import torch

from neuros_mechint.neuro.fractals.metric import Fit, SignalMetric
from neuros_mechint.neuro.fractals.scaling import line_fit


class LagVariance(SignalMetric):
    """The Hurst exponent of a noise from ``E |X(t + lag) - X(t)|^2 ~ lag^2H`` of its running sum X."""

    quantity = "hurst"
    long_name = "Hurst exponent"

    def _least(self):
        return 32

    def _fit(self, rows):
        walk, lags = rows.sub(rows.mean(-1, keepdim=True)).cumsum(-1), torch.tensor([1, 2, 4, 8])
        moments = torch.stack([(walk[:, lag:] - walk[:, :-lag]).square().mean(-1) for lag in lags.tolist()], -1)
        return Fit(line_fit(lags.double().log(), moments.log()).slope / 2)
