"""What constraints do to a network: the same network without the law, and measures of activity and answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from neuros_mechint.neuro.biophysics.dale.compliance import compliance_of
from neuros_mechint.neuro.biophysics.dale.linear import DalesLinear
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentNetwork
from neuros_mechint.neuro.biophysics.dale.signs import DaleModule, SignedWeights
from neuros_mechint.neuro.biophysics.dale.training import TaskTrials
from neuros_mechint.neuro.fractals.priors.spectral import SpectralPrior
from neuros_mechint.neuro.fractals.signals import varying
from neuros_mechint.neuro.geometry.linear import participation_ratio, principal_variances
from neuros_mechint.neuro.geometry.points import Points
from neuros_mechint.workflows.biological.results import MEASURES
from neuros_mechint.workflows.biological.trials import variance_of_answers


class FreeLinear(DaleModule):
    """A layer with the weights of one that keeps Dale's law, and without the law."""

    signs: torch.Tensor
    mask: torch.Tensor | None

    def __init__(self, lawful: DalesLinear) -> None:
        super().__init__()
        self.weight = nn.Parameter(lawful.weight.detach().clone())
        self.bias = None if lawful.bias is None else nn.Parameter(lawful.bias.detach().clone())
        self.register_buffer("signs", lawful.signs.clone())
        self.register_buffer("mask", lawful.mask)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what targets receive."""
        return functional.linear(inputs, self.acting_weight(), self.bias)

    def acting_weight(self) -> torch.Tensor:
        """Return the weights, zero where there is no connection."""
        return self.weight if self.mask is None else self.weight * self.mask

    def project_(self) -> None:
        """Leave weights where the optimiser has put them."""

    def signed_weights(self) -> dict[str, SignedWeights]:
        """Return the weights as they act, with the signs that the law would have them keep."""
        return {"weight": SignedWeights(self.acting_weight().detach(), self.signs, self.mask)}


def without_law(network: EIRecurrentNetwork) -> EIRecurrentNetwork:
    """Return a copy of a network whose weights may take any sign."""
    free = deepcopy(network)
    free.cell.add_module("recurrent", FreeLinear(network.cell.recurrent))
    free.add_module("readout", FreeLinear(network.readout))
    return free


def activity_of(network: EIRecurrentNetwork, trials: Sequence[TaskTrials], prior: SpectralPrior) -> dict[str, float]:
    """Return the slope, the dimension and the mean of a network's rates, means over several draws of trials."""
    with torch.no_grad():
        return _means([_measured(network.run(one.inputs).rates, prior) for one in trials])


def _means(measured: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([one[key] for one in measured])) for key in MEASURES}


def _measured(rates: torch.Tensor, prior: SpectralPrior) -> dict[str, float]:
    """Return the measures of `TrackedDynamics` of rates ``(trial, time, unit)``; units that stand still have none."""
    series = rates.detach().transpose(1, 2).flatten(0, 1)
    moving = series[varying(series)]
    if not len(moving):
        return {"slope": math.nan, "dimension": math.nan, "rate": float(rates.mean())}
    states = rates.detach().flatten(0, 1).double()
    points = Points((states - states.mean(0)).numpy(), 1.0)
    dimension = participation_ratio(*principal_variances(points), points).value
    return {"slope": float(prior.metric(moving).mean()), "dimension": dimension, "rate": float(rates.mean())}


def at_the_end(network: EIRecurrentNetwork, trials: Sequence[TaskTrials], prior: SpectralPrior) -> dict[str, float]:
    """Return the measures over several draws of trials, and how far answers and signs are right.

    ``slope_error`` is the standard error of the slope, from how much it differs between draws; ``explained`` the share
    of the variance of the answers, each output about its own mean, see `variance_of_answers`; ``least_explained`` that
    of the output that does worst, of those that vary.
    """
    measured: list[dict[str, float]] = []
    variance = variance_of_answers(trials)
    missed = np.zeros_like(variance.counts)
    for one in trials:
        with torch.no_grad():
            outputs, rates = network.run(one.inputs)
        measured.append(_measured(rates, prior))
        missed += ((outputs - one.targets).double().square() * one.mask).sum((0, 1)).numpy()
    slopes = np.array([one["slope"] for one in measured])
    there = variance.values * variance.counts
    varying_outputs = there > 0
    return {
        **_means(measured),
        "slope_error": float(slopes.std(ddof=1) / math.sqrt(len(slopes))),
        "explained": float(1 - missed.sum() / there.sum()),
        "least_explained": float((1 - missed[varying_outputs] / there[varying_outputs]).min()),
        "compliance": compliance_of(network),
    }
