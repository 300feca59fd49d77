"""A network with the constraints of a brain, Dale's law, cheap activity and scale-free dynamics, and its controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import nn
from torch.nn import functional

from neuros_mechint.core.composite import CompositeResult, pack
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.figures.colours import MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.biophysics.dale.compliance import compliance_of, sign_compliance
from neuros_mechint.neuro.biophysics.dale.history import TrainingHistory
from neuros_mechint.neuro.biophysics.dale.linear import DalesLinear
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentNetwork
from neuros_mechint.neuro.biophysics.dale.signs import DaleModule, SignedWeights
from neuros_mechint.neuro.biophysics.dale.training import TaskTrials, TrainedNetwork, train_biological
from neuros_mechint.neuro.fractals.priors.loss import FractalRegularizationLoss
from neuros_mechint.neuro.fractals.priors.spectral import SpectralPrior
from neuros_mechint.neuro.fractals.signals import varying
from neuros_mechint.neuro.geometry.linear import participation_ratio, principal_variances
from neuros_mechint.neuro.geometry.points import Points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FULL, WITHOUT_PRIOR, WITHOUT_LAW = "law and prior", "without prior", "without law"
"""The network with all constraints, and its two controls: same start, same trials, one constraint less."""

CAPTIONS = {
    "dynamics": "What the activity on test trials is like during training, with all constraints and with one less.",
    "training": "Losses and costs of the network with all constraints.",
    "signs": "Weights of the network with all constraints keep the signs of their sources.",
    "signs without law": "Weights of the same network, trained without the law, as a control.",
}
_MEASURES = {
    "slope": "spectral slope of the rates",
    "dimension": "participation ratio of the rates",
    "rate": "mean rate",
}
_N_JUDGED = 8  # draws of trials for the numbers at the end
_NEAR = 0.15  # of the target slope: what the prior reaches in its own tests
_SOLVED = 0.75  # of the variance of answers


class BiologicalTraining(CompositeResult):
    """What constraints did to a network during its training, beside the same training with one constraint less.

    ``data`` holds over ``network`` (all constraints, and the two controls) the values at the end: ``final_slope``,
    ``final_dimension``, ``final_rate``, ``final_explained`` and ``compliance``, the share of weights with the sign of
    their source; over ``part`` what each found first; and the data of all parts, their names preceded by that of the
    part. `parts` gives these as results of their own.
    """

    drawn = "dynamics"
    captions = CAPTIONS

    def _summary_lines(self) -> Iterator[str]:
        for name in self.data["network"].values:
            one = self.data.sel(network=name)
            yield (
                f"{name}: {100 * float(one['compliance']):.4g}% of weights keep their source's sign, slope "
                f"{float(one['final_slope']):.2f} (target {self.attributes['target_slope']:g}), explained variance of "
                f"answers {float(one['final_explained']):.2f}, mean rate {float(one['final_rate']):.3g}"
            )


class TrackedDynamics(Result):
    """Activity on the same test trials again and again during training.

    ``data`` holds over ``(network, step)``: the spectral ``slope`` of the rates, their ``dimension`` (participation
    ratio), and the mean ``rate``. Step 0 is the start.
    """

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.8

    def _draw(self, ax: Axes) -> None:
        for name, colour in zip(self.data["network"].values, PALETTE, strict=False):
            one = self.data["slope"].sel(network=name)
            ax.plot(self.data["step"].values, one.values, color=colour, marker="o", markersize=4, label=str(name))
        ax.axhline(self.attributes["target_slope"], color=MUTED_INK, linestyle="--", linewidth=1, label="target")
        ax.set(xlabel="step of training", ylabel=_MEASURES["slope"])
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    def _summary_lines(self) -> Iterator[str]:
        for name in self.data["network"].values:
            one = self.data.sel(network=name)
            told = [
                f"{key} {float(one[key][0]):.3g} to {float(one[key][-1]):.3g}" for key in ("slope", "dimension", "rate")
            ]
            yield f"{name}: {', '.join(told)}"


class BiologicalNetwork(NamedTuple):
    """A network trained under constraints, and what they did.

    Parameters
    ----------
    model : EIRecurrentNetwork
        In evaluation mode.
    result : BiologicalTraining
    """

    model: EIRecurrentNetwork
    result: BiologicalTraining


def biological_training(
    network: EIRecurrentNetwork,
    draw: Callable[[np.random.Generator], TaskTrials],
    n_steps: int = 300,
    target_slope: float = -1.0,
    spectral_weight: float = 1.0,
    rate_weight: float = 0.01,
    learning_rate: float = 0.01,
    n_checks: int = 10,
    seed: SeedLike = 0,
    progress: bool = True,
) -> BiologicalNetwork:
    """Train a network under Dale's law and a prior on its spectrum, follow its dynamics, and train it without either.

    Three copies of the network are trained from the same weights on the same trials: with all constraints; without
    the prior (does the task alone make such spectra?); and without the law (would signs hold by themselves?).
    Dynamics are followed on trials that none of them is trained on, without noise of the units, and the weights of each
    that do best on these are kept; the numbers at the end are of yet other trials.

    Parameters
    ----------
    network : EIRecurrentNetwork
        Left as it is.
    draw : callable
        ``draw(random)`` returns trials with ``inputs``, ``targets`` and ``mask``:
        ``lambda random: flip_flop(16, 128, 2, 0.4, seed=random)`` with `neuros_mechint.datasets.tasks.flip_flop`. Of
        at least 32 time steps, so that there is a spectrum; of 64 and more it is a better one.
    n_steps : int
        Steps of training.
    target_slope : float
        Of the spectra of the rates: -1 is pink.
    spectral_weight : float
        Of the prior.
    rate_weight : float
        Of the mean squared rate.
    learning_rate : float
    n_checks : int
        How often the dynamics are measured, besides before the training.
    seed : int or numpy.random.Generator
        Of the trials and of the noise of the units.
    progress : bool
        Whether to show progress bars.

    Returns
    -------
    BiologicalNetwork
        ``model``, with all constraints, and ``result``. Its warnings tell what the controls say against it.

    Raises
    ------
    InputError
        Another network, trials too short for a spectrum or whose answers are all alike, or as for `train_biological`.
    OptionError
        Numbers out of range.

    References
    ----------
    Song, H. F., Yang, G. R., & Wang, X.-J. (2016). Training excitatory-inhibitory recurrent neural networks for
    cognitive tasks. PLoS Computational Biology, 12(2), e1004792. https://doi.org/10.1371/journal.pcbi.1004792

    Examples
    --------
    A quick look, at a network that has not learned much yet:

    >>> from neuros_mechint.datasets.tasks import flip_flop
    >>> found = biological_training(
    ...     EIRecurrentNetwork(2, 20, 2, alpha=0.5), lambda random: flip_flop(4, 64, 2, 0.4, seed=random), n_steps=4,
    ...     n_checks=2, progress=False)
    >>> list(found.result.parts)
    ['dynamics', 'training', 'signs', 'signs without law']
    >>> found.result.data["compliance"].sel(network="law and prior").item()
    1.0
    """
    n_steps, n_checks = whole("n_steps", n_steps), whole("n_checks", n_checks)
    check_every = max(1, n_steps // n_checks)
    weight = float(number("spectral_weight", spectral_weight, 0, math.inf, closed="neither"))
    entropy = int(generator(seed).integers(2**62))
    watched, *judged = (draw(generator(entropy + more)) for more in range(1, 2 + _N_JUDGED))
    _check(network, judged)
    prior = SpectralPrior(target_slope, axis=1, average=(0,))
    begin = {FULL: network, WITHOUT_PRIOR: network, WITHOUT_LAW: _without_law(network)}
    at_first = _activity(network, watched, prior)
    trained: dict[str, TrainedNetwork[EIRecurrentNetwork]] = {}
    tracked: dict[str, list[dict[str, float]]] = {}
    for name, start in begin.items():
        seen = tracked[name] = [at_first]

        def note(step: int, model: EIRecurrentNetwork, seen: list[dict[str, float]] = seen) -> None:
            if step % check_every == 0 or step == n_steps:
                seen.append(_activity(model, watched, prior))

        trained[name] = train_biological(
            start,
            draw,
            n_steps,
            fractal=FractalRegularizationLoss({"spectral": (prior, 0.0 if name == WITHOUT_PRIOR else weight)}),
            rate_weight=rate_weight,
            learning_rate=learning_rate,
            validation=watched,
            check_every=check_every,
            after_step=note,
            seed=entropy,
            progress=progress,
        )
    parts = {
        "dynamics": _dynamics(tracked, trained[FULL].history, target_slope),
        "training": trained[FULL].history,
        "signs": sign_compliance(trained[FULL].model),
        "signs without law": sign_compliance(trained[WITHOUT_LAW].model),
    }
    found = {name: _at_the_end(one.model, judged, prior) for name, one in trained.items()}
    arguments = {
        "n_steps": n_steps,
        "target_slope": target_slope,
        "spectral_weight": weight,
        "rate_weight": rate_weight,
    }
    provenance = Provenance.record(seed, model=trained[FULL].model, arguments=arguments)
    return BiologicalNetwork(trained[FULL].model, _told(parts, found, target_slope, provenance))


class _FreeLinear(DaleModule):
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


def _without_law(network: EIRecurrentNetwork) -> EIRecurrentNetwork:
    free = deepcopy(network)
    free.cell.add_module("recurrent", _FreeLinear(network.cell.recurrent))
    free.add_module("readout", _FreeLinear(network.readout))
    return free


def _activity(network: EIRecurrentNetwork, trials: TaskTrials, prior: SpectralPrior) -> dict[str, float]:
    with torch.no_grad():
        return _measured(network.run(trials.inputs).rates, prior)


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


def _at_the_end(network: EIRecurrentNetwork, trials: Sequence[TaskTrials], prior: SpectralPrior) -> dict[str, float]:
    """Return the measures over several draws of trials, and how far answers and signs are right."""
    measured: list[dict[str, float]] = []
    missed, variance = 0.0, _variance(trials)
    for one in trials:
        with torch.no_grad():
            outputs, rates = network.run(one.inputs)
        measured.append(_measured(rates, prior))
        missed += float((outputs - one.targets)[one.mask].square().mean()) / len(trials)
    means = {key: float(np.mean([one[key] for one in measured])) for key in _MEASURES}
    return {**means, "explained": 1 - missed / variance, "compliance": compliance_of(network)}


def _variance(trials: Sequence[TaskTrials]) -> float:
    return float(torch.cat([one.targets[one.mask] for one in trials]).var(correction=0))


def _check(network: EIRecurrentNetwork, trials: Sequence[TaskTrials]) -> None:
    """Raise `InputError` on what is no network of this kind, and on trials that leave nothing to explain."""
    if not isinstance(network, EIRecurrentNetwork):
        raise InputError(
            "the network has no excitatory and inhibitory units",
            expected="nm.EIRecurrentNetwork",
            got=type(network).__name__,
        )
    if not _variance(trials):
        raise InputError("answers of these trials are all alike", expected="targets that vary where the mask is True")


def _dynamics(
    tracked: Mapping[str, Sequence[Mapping[str, float]]], history: TrainingHistory, target_slope: float
) -> TrackedDynamics:
    data = xr.Dataset(
        {
            key: (
                ("network", "step"),
                np.array([[one[key] for one in seen] for seen in tracked.values()]),
                {"long_name": text, "units": ""},
            )
            for key, text in _MEASURES.items()
        },
        {"network": list(tracked), "step": np.concatenate([[0], history.data["check"].values])},
    )
    attributes, title = {"target_slope": target_slope}, "Dynamics during training"
    return TrackedDynamics(data, title, attributes, history.provenance, ("gao2017",))


def _told(
    parts: dict[str, Result], found: Mapping[str, Mapping[str, float]], target_slope: float, provenance: Provenance
) -> BiologicalTraining:
    data, about = pack(parts)
    ends = xr.Dataset(
        {
            name: ("network", [one[key] for one in found.values()], {"long_name": text, "units": ""})
            for name, key, text in (
                *((f"final_{key}", key, text) for key, text in _MEASURES.items()),
                ("final_explained", "explained", "explained variance of the answers"),
                ("compliance", "compliance", "share of weights of the source's sign"),
            )
        },
        {"network": list(found)},
    )
    citations = dict.fromkeys(key for part in parts.values() for key in part.citations)
    return BiologicalTraining(
        ends.merge(data),
        "Training under the constraints of a brain",
        attributes={"parts": about, "target_slope": target_slope},
        provenance=provenance,
        citations=tuple(citations),
        warnings=_doubts(found, target_slope),
    )


def _doubts(found: Mapping[str, Mapping[str, float]], target_slope: float) -> tuple[str, ...]:
    """Return what speaks against constraints that work and matter."""
    full, plain, free = (found[name] for name in (FULL, WITHOUT_PRIOR, WITHOUT_LAW))
    told = []
    if not full["explained"] > _SOLVED:
        told.append(f"the task is not solved: {full['explained']:.2f} of the variance of answers is explained")
    if not abs(full["slope"] - target_slope) < _NEAR:
        told.append(f"the prior does not reach its target: slope {full['slope']:.2f} instead of {target_slope:g}")
    if abs(plain["slope"] - target_slope) < _NEAR:
        told.append(f"the task alone makes this slope ({plain['slope']:.2f}): the prior was not needed")
    if free["compliance"] == 1:
        told.append("the signs hold without the law: it was not needed")
    return tuple(told)
