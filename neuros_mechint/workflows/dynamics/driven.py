"""A recurrent model that is driven by inputs, or any other system of which there are trajectories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from neuros_mechint.adapters.registry import adapt
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.random import generator
from neuros_mechint.datasets.tasks import context_decision, flip_flop
from neuros_mechint.neuro.dynamics.trajectories import Trajectories, trajectories
from neuros_mechint.workflows.runs.identity import identity
from neuros_mechint.workflows.runs.sources import EMBEDDED, Given, open_model, precision_of

N_TRIALS, N_TIMES = 64, 120
_SETTLED = 20  # times after which what is left of the start of a trial no longer counts
_REDRAWN = 0.1  # probability with which an input of no task takes another value, per time
_FEWEST_TIMES = 20


def _flip_flop(seed: int) -> torch.Tensor:
    return flip_flop(N_TRIALS, N_TIMES, seed=seed).inputs


def _decision(seed: int) -> torch.Tensor:
    return context_decision(N_TRIALS, seed=seed).inputs


_TASKS: Mapping[str, Callable[[int], torch.Tensor]] = {
    "flip_flop_rnn": _flip_flop,
    "flip_flop_gru": _flip_flop,
    "decision_rnn": _decision,
    "decision_dale_rnn": _decision,
}


@dataclass(frozen=True)
class DrivenSystem:
    """What an analysis of dynamics works on.

    Parameters
    ----------
    step : Adapter or callable
        ``step(states)`` or ``step(states, inputs)``.
    states : Trajectories
        Of a model that was run, without the beginning of its trials where they are long enough.
    inputs, activity, outputs : numpy.ndarray of shape (n_trials, n_times, n), or None
        Of a run from rest. Activity is ``None`` where states are more than the hidden units, or there was no run.
    driven_by : str
        Where the trajectories come from, in words.
    """

    step: Any
    states: Trajectories
    inputs: Floats | None
    activity: Floats | None
    outputs: Floats | None
    driven_by: str

    @property
    def module(self) -> nn.Module | None:
        """The network, where it is one."""
        found = getattr(self.step, "module", None)
        return found if isinstance(found, nn.Module) else None

    @property
    def alpha(self) -> float | None:
        """Time step divided by the time constant of a unit: 1 in simple recurrent layers, else to be estimated."""
        parts = self._layers()
        return 1.0 if parts and all(isinstance(part, (nn.RNN, nn.RNNCell)) for part in parts) else None

    @property
    def input_at_rest(self) -> Floats | None:
        """Zeros for the inputs of the recurrent layer; None where it is not known that there are any."""
        sizes = {int(part.input_size) for part in self._layers()[:1]}  # type: ignore[arg-type]
        return np.zeros(sizes.pop()) if sizes and "step" in getattr(self.step, "capabilities", ()) else None

    def _layers(self) -> list[nn.Module]:
        return [] if self.module is None else [part for part in self.module.modules() if _is_recurrent(part)]


def open_system(given: Any) -> Given[Any]:
    """Open a model that can be run step by step, or a step.

    Parameters
    ----------
    given : str, torch.nn.Module, Adapter or callable
        As for `open_model`; or ``step(states)`` or ``step(states, inputs)`` for rows of states.

    Returns
    -------
    Given

    Raises
    ------
    CapabilityError
        A model without steps.

    Examples
    --------
    >>> open_system(lambda states: states / 2).source.kind
    'object'
    """
    found = open_model(given, _adapted_or_step)
    if isinstance(found.value, Adapter) and "step" not in found.value.capabilities:
        module = getattr(found.value, "module", None)
        raise CapabilityError(
            f"{type(module or found.value).__name__} cannot be run step by step",
            expected="one recurrent layer or cell of torch, an adapter with 'step', or a function step(states)",
            fix="of a module that takes states to states, pass a function: lambda states: module(states)",
        )
    return found


def drive(given: Given[Any], inputs: Any, recorded: Any, seed: int) -> DrivenSystem:
    """Run a model on inputs, or take trajectories as they were recorded.

    Parameters
    ----------
    given : Given
        From `open_system`.
    inputs : array_like of shape (n_trials, n_times, n_inputs), or None
        Of the model, not of its recurrent layer. By default those of the task of an embedded model, and otherwise
        standard normal values that now and then jump.
    recorded : array_like or None
        Trajectories of states, for which no model is run.
    seed : int
        Of inputs that are drawn.

    Returns
    -------
    DrivenSystem

    Raises
    ------
    InputError
        Inputs that do not fit; a step without trajectories.

    Examples
    --------
    >>> system = drive(open_system("flip_flop_rnn"), None, None, 0)
    >>> system.driven_by, system.inputs.shape, system.states.n_units
    ('trials of its task, without the first 20 of 120 times', (64, 120, 3), 64)
    """
    if recorded is not None:
        seen = trajectories(recorded, least=_FEWEST_TIMES, why="for an analysis of dynamics")
        return DrivenSystem(given.value, seen, None, None, None, "trajectories that were given")
    adapter = given.value
    if not isinstance(adapter, Adapter) or "capture" not in adapter.capabilities:
        raise InputError(
            "of a step, trajectories are needed too", fix="pass trajectories=nm.simulate(step, states, 200)"
        )
    driven_by = "inputs that were given"
    if inputs is None:
        task = _TASKS.get(given.source.name) if given.source.kind == EMBEDDED else None
        inputs, driven_by = (
            (_jumps(adapter, seed), "random inputs") if task is None else (task(seed), "trials of its task")
        )
    values = real_array(inputs, "inputs")
    if values.ndim != 3 or values.shape[1] < _FEWEST_TIMES:
        raise InputError(
            "inputs of the wrong shape", expected=f"(trials, at least {_FEWEST_TIMES} times, inputs)", got=values.shape
        )
    return _run(adapter, values, driven_by)


def _run(adapter: Any, inputs: Floats, driven_by: str) -> DrivenSystem:
    sites = [str(name) for name in adapter.sites() if str(name).rpartition(".")[2] in ("hidden", "cell")]
    sites.sort(key=lambda name: name.endswith("cell"))  # as `step` orders its states
    module = getattr(adapter, "module", None)
    given = torch.from_numpy(np.ascontiguousarray(inputs)).to(precision_of(adapter) or torch.float32)
    if isinstance(module, nn.RNNBase) and not module.batch_first:
        given = given.transpose(0, 1)
    if not sites:
        raise InputError("it is not known which states this model has", fix="pass trajectories=(trials, times, states)")
    try:
        run = adapter.run(given, capture=sites)
    except RuntimeError as error:
        raise InputError("the model does not take these inputs", got=str(error).splitlines()[0]) from error
    parts = [run.activations.xarray(name).transpose("sample", "time", "unit").values for name in sites]
    states = np.concatenate(parts, axis=-1).astype(np.float64)
    later = states
    if states.shape[1] >= _SETTLED + _FEWEST_TIMES:
        later, driven_by = states[:, _SETTLED:], f"{driven_by}, without the first {_SETTLED} of {states.shape[1]} times"
    output = run.output
    is_series = isinstance(output, torch.Tensor) and output.shape[:2] == inputs.shape[:2] and output.ndim == 3
    # what a bare layer returns are its states
    outputs = output.detach().cpu().double().numpy() if is_series and not _is_recurrent(module) else None
    return DrivenSystem(adapter, trajectories(later), inputs, states if len(sites) == 1 else None, outputs, driven_by)


def _jumps(adapter: Any, seed: int) -> Floats:
    module = getattr(adapter, "module", None)
    parts = [part for part in module.modules() if _is_recurrent(part)] if isinstance(module, nn.Module) else []
    if not parts:
        raise InputError("it is not known which inputs this model takes", fix="pass inputs=(trials, times, inputs)")
    random = generator(seed)
    shape = (N_TRIALS, N_TIMES, int(parts[0].input_size))  # type: ignore[arg-type]
    jumped = random.random(shape) < _REDRAWN
    jumped[:, 0] = True
    values = np.where(jumped, random.standard_normal(shape), 0.0)
    last = np.maximum.accumulate(np.where(jumped, np.arange(N_TIMES)[:, None], 0), axis=1)
    return np.take_along_axis(values, last, axis=1)


def _is_recurrent(part: Any) -> bool:
    return isinstance(part, (nn.RNNBase, nn.RNNCellBase))


class _Step:
    """A step that tells its fingerprint."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.dt = getattr(function, "dt", None)

    def __call__(self, *arguments: torch.Tensor) -> torch.Tensor:
        return self.function(*arguments)

    def fingerprint(self) -> str:
        return identity(self.function)


def _adapted_or_step(given: Any) -> Any:
    if isinstance(given, (nn.Module, Adapter)) or hasattr(given, "step") or not callable(given):
        return adapt(given)
    return _Step(given)
