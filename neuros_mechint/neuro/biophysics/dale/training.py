"""Training of networks that keep Dale's law, with what their activity costs and how it should look in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.numbers import graph_tensor, refuse_not_finite
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator, torch_generator
from neuros_mechint.neuro.biophysics.costs import rate_cost, synaptic_cost
from neuros_mechint.neuro.biophysics.dale.compliance import compliance_of
from neuros_mechint.neuro.biophysics.dale.history import TrainingHistory, training_history
from neuros_mechint.neuro.biophysics.dale.optimisation import enforce_dales_law, parameter_groups
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentNetwork
from neuros_mechint.neuro.fractals.priors.loss import FractalRegularizationLoss

Network = TypeVar("Network", bound=EIRecurrentNetwork)


class TaskTrials(Protocol):
    """Trials of a task, as the functions of `neuros_mechint.datasets.tasks` draw them."""

    @property
    def inputs(self) -> torch.Tensor:
        """``(trial, time, n_inputs)``."""
        ...

    @property
    def targets(self) -> torch.Tensor:
        """``(trial, time, n_outputs)``."""
        ...

    @property
    def mask(self) -> torch.Tensor:
        """Where the answer counts; bool, the shape of ``targets``."""
        ...


class TrainedNetwork(NamedTuple, Generic[Network]):
    """A trained copy of a network, and how it was trained.

    Parameters
    ----------
    model : EIRecurrentNetwork
        In evaluation mode.
    history : TrainingHistory
    """

    model: Network
    history: TrainingHistory


def masked_squared_error(outputs: torch.Tensor, trials: TaskTrials) -> torch.Tensor:
    """Return the mean squared error where the answer counts.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> trials = SimpleNamespace(targets=torch.tensor([[[1.0], [1.0]]]), mask=torch.tensor([[[False], [True]]]))
    >>> masked_squared_error(torch.zeros(1, 2, 1), trials).item()
    1.0
    """
    return (outputs - trials.targets)[trials.mask].square().mean()


def train_biological(
    network: Network,
    draw: Callable[[np.random.Generator], TaskTrials],
    n_steps: int = 1000,
    task_loss: Callable[[torch.Tensor, TaskTrials], torch.Tensor] = masked_squared_error,
    fractal: FractalRegularizationLoss | None = None,
    rate_weight: float = 0.0,
    synapse_weight: float = 0.0,
    learning_rate: float = 1e-3,
    largest_gradient: float = 1.0,
    validation: TaskTrials | None = None,
    check_every: int = 50,
    patience: int | None = None,
    after_step: Callable[[int, Network], object] | None = None,
    seed: SeedLike = 0,
    progress: bool = True,
) -> TrainedNetwork[Network]:
    """Train a copy of a network on fresh trials at every step, by Adam, with Dale's law kept after each.

    The loss is ``task + fractal(rates) + rate_weight * rate_cost + synapse_weight * synaptic_cost``.

    Parameters
    ----------
    network : EIRecurrentNetwork
        Left as it is.
    draw : callable
        ``draw(random)`` returns the trials of one step, with ``inputs``, ``targets`` and ``mask``:
        ``lambda random: context_decision(64, seed=random)`` with `neuros_mechint.datasets.tasks.context_decision`.
    n_steps : int
        Most steps of training.
    task_loss : callable
        ``task_loss(outputs, trials)``, a scalar; by default the squared error where the answer counts.
    fractal : FractalRegularizationLoss, optional
        Priors on the rates ``(trial, time, unit)``, with their weights: time is axis 1. Annealed weights advance by
        one with each step.
    rate_weight, synapse_weight : float
        Of `rate_cost`, and of `synaptic_cost` of the recurrent weights: what signalling costs, in relative units.
    learning_rate : float
    largest_gradient : float
        Norm to which gradients are clipped.
    validation : trials, optional
        Trials on which the whole loss is measured every ``check_every`` steps, without noise of the units and with the
        weights of priors at which annealing ends, so that checks compare; the network's weights with the lowest one
        are returned.
    check_every : int
    patience : int, optional
        Training stops after so many checks in a row without improvement; needs ``validation``.
    after_step : callable, optional
        ``after_step(step, model)`` is called after each step of the optimiser, from 1 on, with the copy in training:
        to look at, not to change.
    seed : int or numpy.random.Generator
        Of the trials and of the noise of the units.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    TrainedNetwork
        ``model``, and ``history`` as a `TrainingHistory`.

    Raises
    ------
    OptionError
        Numbers out of range.
    InputError
        No network, trials that are not finite or not of its sizes, patience without validation, a loss or gradients
        that are not finite, or activity that grows without bounds.

    References
    ----------
    Song, H. F., Yang, G. R., & Wang, X.-J. (2016). Training excitatory-inhibitory recurrent neural networks for
    cognitive tasks. PLoS Computational Biology, 12(2), e1004792. https://doi.org/10.1371/journal.pcbi.1004792

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> def draw(random):
    ...     inputs = torch.from_numpy(random.normal(size=(8, 10, 1))).float()
    ...     targets = inputs.mean(1, keepdim=True).expand(-1, 10, -1)
    ...     return SimpleNamespace(inputs=inputs, targets=targets, mask=torch.ones(8, 10, 1, dtype=torch.bool))
    >>> trained = train_biological(EIRecurrentNetwork(1, 10, 1), draw, n_steps=5, progress=False)
    >>> trained.history.data["compliance"].values.tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    _check_parts(network, fractal, {"task_loss": task_loss, "after_step": after_step})
    n_steps, check_every = whole("n_steps", n_steps), whole("check_every", check_every)
    if not callable(draw):
        fix = "pass a function that draws new trials: lambda random: context_decision(64, seed=random)"
        raise InputError("draw is no function", expected="draw(random) -> trials", got=type(draw).__name__, fix=fix)
    rate = number("learning_rate", learning_rate, 0, math.inf, closed="neither")
    largest_gradient = number("largest_gradient", largest_gradient, 0, math.inf, closed="neither")
    _check_validation(validation, patience)
    numbers = generator(seed)
    noise = torch_generator(numbers)
    model = deepcopy(network).train()
    objective = _Objective(task_loss, deepcopy(fractal), *_weights(rate_weight, synapse_weight))
    optimizer = torch.optim.Adam(parameter_groups(model, rate))
    enforce_dales_law(optimizer, model)
    steps: list[dict[str, float]] = []
    checks = _Checks(objective.at_the_end(n_steps), validation, check_every, patience)
    for step in progress_bar(range(1, n_steps + 1), description="training", enabled=progress):
        optimizer.zero_grad()
        parts = objective(model, draw(numbers), noise)
        parts["total_loss"].backward()
        if not bool(torch.isfinite(nn.utils.clip_grad_norm_(model.parameters(), largest_gradient))):
            raise InputError(f"the gradients of step {step} are not finite", fix="a smaller learning rate, or trials")
        optimizer.step()
        if objective.fractal is not None:
            objective.fractal.advance()
        steps.append(
            {name: float(value.detach()) for name, value in parts.items()} | {"compliance": compliance_of(model)}
        )
        if after_step is not None:
            after_step(step, model)
        if checks.stop(model, step, last=step == n_steps):
            break
    if checks.best is not None:
        model.load_state_dict(checks.best)
    arguments = {"learning_rate": rate, "largest_gradient": largest_gradient, "patience": patience}
    provenance = Provenance.record(seed=seed, model=model, arguments=arguments | {"n_steps": n_steps})
    history = training_history(steps, checks.losses, objective.weights, n_steps, provenance)
    return TrainedNetwork(model.eval(), history)


@dataclass
class _Objective:
    """The loss that is minimised, and its parts."""

    task_loss: Callable[[torch.Tensor, TaskTrials], torch.Tensor]
    fractal: FractalRegularizationLoss | None
    rate_weight: float
    synapse_weight: float

    @property
    def weights(self) -> dict[str, float]:
        """What the costs are multiplied by; priors bring their own weights."""
        return {"rate_cost": self.rate_weight, "synaptic_cost": self.synapse_weight}

    def at_the_end(self, n_steps: int) -> _Objective:
        """Return the loss with the weights that priors have after all steps: only losses of like weights compare."""
        fractal = deepcopy(self.fractal)
        if fractal is not None:
            fractal.advance(n_steps)
        return replace(self, fractal=fractal)

    def __call__(
        self, model: EIRecurrentNetwork, trials: TaskTrials, random: torch.Generator | None
    ) -> dict[str, torch.Tensor]:
        _check_trials(trials)
        outputs, rates = model.run(trials.inputs, random)
        if outputs.shape != trials.targets.shape:
            raise InputError(
                "targets do not fit the network", expected=tuple(outputs.shape), got=tuple(trials.targets.shape)
            )
        if not bool(torch.isfinite(rates).all()):
            raise InputError(
                "the activity of the network grows without bounds",
                fix="a smaller learning rate, spectral radius or alpha, or a rate_weight above 0",
            )
        task = _checked_loss(self.task_loss(outputs, trials))
        fractal = rates.new_zeros(()) if self.fractal is None else self.fractal(rates)
        of_rates, of_synapses = rate_cost(rates), synaptic_cost(rates, model.cell.recurrent.acting_weight())
        return {
            "total_loss": task + fractal + self.rate_weight * of_rates + self.synapse_weight * of_synapses,
            "task_loss": task,
            "fractal_loss": fractal,
            "rate_cost": of_rates,
            "synaptic_cost": of_synapses,
        }


@dataclass
class _Checks:
    """The losses on validation trials, and the weights that were best."""

    objective: _Objective
    trials: TaskTrials | None
    every: int
    patience: int | None
    losses: dict[int, float] = field(default_factory=dict[int, float])
    best: dict[str, torch.Tensor] | None = None

    def stop(self, model: EIRecurrentNetwork, step: int, last: bool) -> bool:
        """Check where a check is due; return whether patience is over."""
        if self.trials is None or (step % self.every and not last):
            return False
        with torch.no_grad():
            loss = float(self.objective(model, self.trials, None)["total_loss"])
        if loss < min(self.losses.values(), default=math.inf):
            self.best = deepcopy(model.state_dict())
        self.losses[step] = loss
        since_best = len(self.losses) - 1 - int(np.argmin(list(self.losses.values())))
        return self.patience is not None and since_best >= self.patience


def _weights(rate_weight: float, synapse_weight: float) -> tuple[float, float]:
    return (
        float(number("rate_weight", rate_weight, 0, math.inf, closed="left")),
        float(number("synapse_weight", synapse_weight, 0, math.inf, closed="left")),
    )


def _check_parts(network: Any, fractal: Any, functions: dict[str, Any]) -> None:
    if not isinstance(network, EIRecurrentNetwork):
        got = type(network).__name__
        raise InputError("this network cannot be trained here", expected="EIRecurrentNetwork", got=got)
    if fractal is not None and not isinstance(fractal, FractalRegularizationLoss):
        raise InputError("these are no priors", expected="FractalRegularizationLoss", got=type(fractal).__name__)
    for name, function in functions.items():
        if not callable(function) and not (name == "after_step" and function is None):
            raise InputError(f"{name} is no function", expected="a callable", got=repr(function))


def _check_validation(validation: TaskTrials | None, patience: int | None) -> None:
    if validation is not None:
        _check_trials(validation)
    if patience is not None:
        whole("patience", patience)
        if validation is None:
            raise InputError("patience needs validation trials", fix="pass validation=draw(generator(seed))")


def _checked_loss(loss: Any) -> torch.Tensor:
    if not isinstance(loss, torch.Tensor) or loss.ndim or not bool(torch.isfinite(loss)):
        got = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) and loss.ndim else repr(loss)
        raise InputError("task_loss gave no loss", expected="a finite tensor of shape ()", got=got)
    if torch.is_grad_enabled() and not loss.requires_grad:
        fix = "compute the loss from the outputs in torch; parameters may be frozen, but not all"
        raise InputError("no gradient leads from the loss to the network", fix=fix)
    return loss


def _check_trials(trials: TaskTrials) -> None:
    lacking = [
        name for name in ("inputs", "targets", "mask") if not isinstance(getattr(trials, name, None), torch.Tensor)
    ]
    if lacking:
        raise InputError(
            "these are no trials of a task",
            expected="tensors inputs, targets and mask, as the functions of neuros_mechint.datasets.tasks draw them",
            got=f"{type(trials).__name__} without {', '.join(lacking)}",
        )
    for name in ("inputs", "targets", "mask"):
        called = f"{name} of the trials"
        refuse_not_finite(graph_tensor(getattr(trials, name), called), called)
    if trials.mask.dtype != torch.bool or trials.mask.shape != trials.targets.shape:
        raise InputError(
            "the mask of the trials does not fit",
            expected=f"bool, shape {tuple(trials.targets.shape)} as the targets have",
            got=f"{trials.mask.dtype}, shape {tuple(trials.mask.shape)}",
        )
    if not bool(trials.mask.any()):
        raise InputError("no answer of these trials counts", expected="a mask that is True somewhere")
