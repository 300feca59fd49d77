"""A network with the constraints of a brain, Dale's law, cheap activity and scale-free dynamics, and its controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import xarray as xr

from neuros_mechint.core.composite import pack
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.fingerprint import fingerprint_module
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.result import Result, load_result
from neuros_mechint.datasets.tasks import flip_flop
from neuros_mechint.neuro.biophysics.dale.compliance import sign_compliance
from neuros_mechint.neuro.biophysics.dale.history import TrainingHistory
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentNetwork
from neuros_mechint.neuro.biophysics.dale.training import TaskTrials, TrainedNetwork, train_biological
from neuros_mechint.neuro.fractals.priors.loss import FractalRegularizationLoss
from neuros_mechint.neuro.fractals.priors.spectral import SpectralPrior
from neuros_mechint.workflows.biological.measures import activity_of, at_the_end, without_law
from neuros_mechint.workflows.biological.results import (
    FULL,
    MEASURES,
    WITHOUT_LAW,
    WITHOUT_PRIOR,
    BiologicalTraining,
    TrackedDynamics,
    in_short,
)
from neuros_mechint.workflows.biological.trials import Draw, checked, drawn_apart, variance_of_answers
from neuros_mechint.workflows.runs.identity import identity
from neuros_mechint.workflows.runs.in_short import IN_SHORT
from neuros_mechint.workflows.runs.run import WorkflowOutcome, WorkflowRun
from neuros_mechint.workflows.runs.sources import CODE, EMBEDDED, OBJECT, Given, Source, absolute_code, is_code, opened
from neuros_mechint.workflows.runs.user_code import UserCode
from neuros_mechint.workflows.runs.weights import check_weights, load_weights, save_weights

FLIP_FLOP = "flip_flop"
"""The task that is known by name."""

_N_UNITS = 32
_HISTORY = "history.nc"
_N_JUDGED = 8  # draws of trials for the numbers at the end
_NEAR = 0.15  # of the target slope: what the prior reaches in its own tests
_SOLVED = 0.75  # of the variance of answers
_FEW_TIMES = 128  # which leave three octaves for the line through a spectrum


class BiologicalNetwork(NamedTuple):
    """A network trained under constraints, and what they did.

    Parameters
    ----------
    model : EIRecurrentNetwork
        In evaluation mode.
    result : BiologicalTraining
    outcome : WorkflowOutcome
        The same as a report, with the manifest of the run.
    """

    model: EIRecurrentNetwork
    result: BiologicalTraining
    outcome: WorkflowOutcome


def biological_training(
    network: EIRecurrentNetwork | str | Given[EIRecurrentNetwork] | None = None,
    draw: Draw | str | Given[Draw] = FLIP_FLOP,
    n_steps: int = 300,
    target_slope: float = -1.0,
    spectral_weight: float = 1.0,
    rate_weight: float = 0.01,
    learning_rate: float = 0.01,
    n_checks: int = 10,
    seed: SeedLike = 0,
    folder: str | Path | None = None,
    progress: bool = True,
) -> BiologicalNetwork:
    """Train a network under Dale's law and a prior on its spectrum, follow its dynamics, and train it without either.

    Three copies of the network are trained from the same weights on the same trials: with all constraints; without
    the prior (does the task alone make such spectra?); and without the law (would signs hold by themselves?).
    Dynamics are followed on trials that none of them is trained on, without noise of the units. The weights of each
    that do best on yet other trials are kept, and the numbers after training are theirs, on the trials of the dynamics.

    Parameters
    ----------
    network : EIRecurrentNetwork or str, optional
        Left as it is. Text is ``file.py:function``, which builds one. By default one of 32 units.
    draw : callable or str
        ``draw(random)`` returns trials with ``inputs``, ``targets`` and ``mask``; ``"flip_flop"``, two bits to
        remember, is ``lambda random: flip_flop(8, 128, 2, 0.4, seed=random)`` with
        `neuros_mechint.datasets.tasks.flip_flop`; other text is ``file.py:function``, which is such a function. They
        are tensors or arrays, of at least 32 time steps, so that there is a spectrum; of 128 and more it is a
        better one. All that is random in them comes from ``random``.
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
    folder : str or pathlib.Path, optional
        For ``report.html``, ``manifest.json``, the weights and the results. A run that was cut off goes on where it
        stopped: networks that were trained are not trained again.
    progress : bool
        Whether to show progress bars.

    Returns
    -------
    BiologicalNetwork
        ``model``, with all constraints, and ``result``, whose warnings tell what the controls say against it; and the
        ``outcome``, with the report.

    Raises
    ------
    InputError
        Another network, or weights that are not finite; trials too short for a spectrum, whose answers are all alike,
        or that are others for the same generator; or as for `train_biological`.
    OptionError
        Numbers out of range.
    StorageError
        A folder that holds another run.

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
    settings = _settings(n_steps, n_checks, target_slope, spectral_weight, rate_weight, learning_rate)
    task = open_task(draw)
    given = None if network is None else open_network(network)
    sources = {"draw": task.source} | ({} if given is None else {"network": given.source})
    run = WorkflowRun("biological_training", settings, sources, seed, folder, progress)
    drawn = checked(task.value)
    (watched, *judged), new = drawn_apart(drawn, [run.entropy + more for more in range(1, 2 + _N_JUDGED)])
    lawful = _network_for(judged[0], run.seed("network")) if given is None else given.value
    check_weights(lawful)
    _check(judged)
    training = _Training(drawn, watched, judged, SpectralPrior(target_slope, axis=1, average=(0,)), settings, run)
    begin = {FULL: lawful, WITHOUT_PRIOR: lawful, WITHOUT_LAW: without_law(lawful)}
    trained: dict[str, TrainedNetwork[EIRecurrentNetwork]] = {}
    tracked: dict[str, Result] = {}
    for name, start in begin.items():
        tracked[name], trained[name] = run.keeping_step(
            f"trained_{name.replace(' ', '_')}",
            partial(training.train, name, start),
            save=_save_network,
            load=partial(_load_network, start),
        )
    result = run.step("constraints", lambda: _told(tracked, trained, judged, new, training.prior, settings, seed))
    assert isinstance(result, BiologicalTraining)
    run.step(IN_SHORT, lambda: in_short(result, fingerprint_module(trained[FULL].model)))
    outcome = run.finish(
        "A network with the constraints of a brain",
        "Trained under Dale's law and a prior on its spectrum; and, as controls, with one constraint less.",
        {IN_SHORT: "How much of the answers each network explains, and how many weights keep their source's sign."},
        shown=(IN_SHORT, "constraints"),
    )
    return BiologicalNetwork(trained[FULL].model, result, outcome)


def open_network(given: Any) -> Given[EIRecurrentNetwork]:
    """Open a network with excitatory and inhibitory units: the object, or ``file.py:function``, which builds one.

    Raises
    ------
    InputError
        Anything else.

    Examples
    --------
    >>> open_network(EIRecurrentNetwork(2, 20, 1)).source.name
    'EIRecurrentNetwork'
    """
    if isinstance(given, Given):
        return given
    if isinstance(given, str) and is_code(given):
        with UserCode(given) as code:
            return _network(code(), CODE, absolute_code(given))
    return _network(given, OBJECT, type(given).__name__)


def _network(given: Any, kind: str, name: str) -> Given[EIRecurrentNetwork]:
    if not isinstance(given, EIRecurrentNetwork):
        raise InputError(
            "the network has no excitatory and inhibitory units",
            expected="nm.EIRecurrentNetwork, or file.py:function, which builds one",
            got=type(given).__name__,
        )
    return opened(given, kind, name)


def open_task(given: Any) -> Given[Draw]:
    """Open a task: ``"flip_flop"``, a function that draws trials, or ``file.py:function``, which is one.

    Raises
    ------
    InputError
        Anything else.

    Examples
    --------
    >>> open_task("flip_flop").source.kind
    'embedded'
    """
    if isinstance(given, Given):
        return given
    kind, name = OBJECT, getattr(given, "__qualname__", type(given).__name__)
    if given == FLIP_FLOP:
        kind, name, given = EMBEDDED, FLIP_FLOP, _flip_flop
    elif isinstance(given, str) and is_code(given):
        with UserCode(given) as code:  # every call of it finds what lies beside the file
            return Given(code, Source(CODE, absolute_code(given), identity(code.function)))
    if not callable(given):
        raise InputError(
            f"there is no task {given!r}",
            expected=f"a function draw(random) -> trials; {FLIP_FLOP!r}; or file.py:function, which is such a function",
        )
    return opened(cast(Draw, given), kind, name)


def _flip_flop(random: np.random.Generator) -> TaskTrials:
    return flip_flop(8, 128, 2, 0.4, seed=random)


def _network_for(trials: TaskTrials, seed: int) -> EIRecurrentNetwork:
    return EIRecurrentNetwork(trials.inputs.shape[-1], _N_UNITS, trials.targets.shape[-1], alpha=0.5, seed=seed)


def _settings(
    n_steps: int, n_checks: int, target_slope: float, spectral_weight: float, rate_weight: float, learning_rate: float
) -> dict[str, float]:
    return {
        "n_steps": whole("n_steps", n_steps),
        "n_checks": whole("n_checks", n_checks),
        "target_slope": number("target_slope", target_slope, -math.inf, math.inf, closed="neither"),
        "spectral_weight": number("spectral_weight", spectral_weight, 0, math.inf, closed="neither"),
        "rate_weight": number("rate_weight", rate_weight, 0, math.inf, closed="left"),
        "learning_rate": number("learning_rate", learning_rate, 0, math.inf, closed="neither"),
    }


class _Training(NamedTuple):
    """What the three trainings share."""

    draw: Draw
    watched: TaskTrials  # that choose the weights
    judged: Sequence[TaskTrials]  # that measure, and choose nothing
    prior: SpectralPrior
    settings: Mapping[str, Any]
    run: WorkflowRun

    def train(self, name: str, start: EIRecurrentNetwork) -> tuple[Result, TrainedNetwork[EIRecurrentNetwork]]:
        """Train one network, and follow its dynamics."""
        settings = self.settings
        check_every = max(1, settings["n_steps"] // settings["n_checks"])
        seen = [activity_of(start, self.judged, self.prior)]

        def note(step: int, model: EIRecurrentNetwork) -> None:
            if step % check_every == 0 or step == settings["n_steps"]:
                seen.append(activity_of(model, self.judged, self.prior))

        weight = 0.0 if name == WITHOUT_PRIOR else settings["spectral_weight"]
        trained = train_biological(
            start,
            self.draw,
            settings["n_steps"],
            fractal=FractalRegularizationLoss({"spectral": (self.prior, weight)}),
            rate_weight=settings["rate_weight"],
            learning_rate=settings["learning_rate"],
            validation=self.watched,
            check_every=check_every,
            after_step=note,
            seed=self.run.entropy,
            progress=self.run.progress,
        )
        return _dynamics({name: seen}, trained.history, settings["target_slope"]), trained


def _save_network(trained: TrainedNetwork[EIRecurrentNetwork], folder: Path) -> None:
    save_weights(trained.model, folder)
    trained.history.save(folder / _HISTORY)


def _load_network(start: EIRecurrentNetwork, folder: Path) -> TrainedNetwork[EIRecurrentNetwork]:
    history = load_result(folder / _HISTORY)
    assert isinstance(history, TrainingHistory)
    return TrainedNetwork(load_weights(start, folder).eval(), history)


def _check(trials: Sequence[TaskTrials]) -> None:
    """Raise `InputError` on trials that leave nothing to explain."""
    if not variance_of_answers(trials).values.any():
        raise InputError("answers of these trials are all alike", expected="targets that vary where the mask is True")


def _dynamics(
    tracked: Mapping[str, Sequence[Mapping[str, float]]], history: TrainingHistory, target_slope: float
) -> TrackedDynamics:
    checks = history.data["check"].values
    kept = int(checks[history.data["validation_loss"].values.argmin()])
    data = xr.Dataset(
        {
            key: (
                ("network", "step"),
                np.array([[one[key] for one in seen] for seen in tracked.values()]),
                {"long_name": text, "units": ""},
            )
            for key, text in MEASURES.items()
        }
        | {"kept": ("network", [kept] * len(tracked), {"long_name": "step whose weights are kept"})},
        {"network": list(tracked), "step": np.concatenate([[0], checks])},
    )
    attributes, title = {"target_slope": target_slope}, "Dynamics during training"
    return TrackedDynamics(data, title, attributes, history.provenance, ("gao2017",))


def _told(
    tracked: Mapping[str, Result],
    trained: Mapping[str, TrainedNetwork[EIRecurrentNetwork]],
    judged: Sequence[TaskTrials],
    new_trials: bool,
    prior: SpectralPrior,
    settings: Mapping[str, Any],
    seed: SeedLike,
) -> BiologicalTraining:
    found = {name: at_the_end(one.model, judged, prior) for name, one in trained.items()}
    if not new_trials:  # the same trials again differ by nothing, which is no error of 0
        found = {name: one | {"slope_error": math.nan} for name, one in found.items()}
    first, target_slope = next(iter(tracked.values())), settings["target_slope"]
    together = xr.concat([one.data for one in tracked.values()], "network")
    signs, free = (sign_compliance(trained[name].model) for name in (FULL, WITHOUT_LAW))
    parts: dict[str, Result] = {
        "dynamics": replace(first, data=together),
        "training": trained[FULL].history,
        "signs": replace(signs, title=f"{signs.title}, with all constraints"),
        "signs without law": replace(free, title=f"{free.title}, in the network trained without it"),
    }
    data, about = pack(parts)
    ends = xr.Dataset(
        {
            name: ("network", [one[key] for one in found.values()], {"long_name": text, "units": ""})
            for name, key, text in (
                *((f"final_{key}", key, text) for key, text in MEASURES.items()),
                ("final_slope_error", "slope_error", "standard error of the slope, from draws of trials"),
                ("final_explained", "explained", "explained variance of the answers"),
                ("final_least_explained", "least_explained", "explained variance of the output that does worst"),
                ("compliance", "compliance", "share of weights of the source's sign"),
            )
        },
        {"network": list(found)},
    )
    citations = dict.fromkeys(key for part in parts.values() for key in part.citations)
    return BiologicalTraining(
        ends.merge(data),
        "Training under the constraints of a brain",
        attributes={"parts": about, "target_slope": target_slope, "new_trials": new_trials},
        provenance=Provenance.record(seed, model=trained[FULL].model, arguments=settings),
        citations=tuple(citations),
        warnings=_doubts(
            found,
            target_slope,
            variance_of_answers(judged).between_trials,
            min(one.inputs.shape[1] for one in judged),
            new_trials,
        ),
    )


def _doubts(
    found: Mapping[str, Mapping[str, float]],
    target_slope: float,
    between_trials: bool = True,
    n_times: int = _FEW_TIMES,
    new_trials: bool = True,
) -> tuple[str, ...]:
    """Return what speaks against constraints that work and matter."""
    full, plain, free = (found[name] for name in (FULL, WITHOUT_PRIOR, WITHOUT_LAW))
    told = []
    if not new_trials:
        told.append(
            "draw returns the same trials whatever generator it is passed: all numbers are of the trials that the "
            "networks were trained on, and say nothing of others; a slope has no error, as draws do not differ"
        )
    if not full["explained"] > _SOLVED:
        told.append(
            f"the task is not solved: {full['explained']:.0%} of the variance of answers is explained; slopes are "
            "those of a network in the middle of learning, and say little of one that has learned: train it longer"
        )
    elif not full["least_explained"] > _SOLVED:
        told.append(f"not every output is solved: of one {full['least_explained']:.0%} of the variance is explained")
    if n_times < _FEW_TIMES:
        told.append(
            f"trials of {n_times} time steps leave few frequencies for the line through a spectrum: slopes are rough, "
            f"and say little of a power law; {_FEW_TIMES} steps and more are better"
        )
    if not between_trials:
        told.append(
            "answers at the same time are alike in all trials, or cannot be compared, as trials differ in length: "
            "explained is the variance over time"
        )
    if not abs(full["slope"] - target_slope) < _NEAR:
        told.append(f"the prior does not reach its target: slope {full['slope']:.2f} instead of {target_slope:g}")
    if abs(plain["slope"] - target_slope) < _NEAR:
        told.append(f"the task alone makes this slope ({plain['slope']:.2f}): the prior was not needed")
    if free["compliance"] == 1:
        told.append("the signs hold without the law: it was not needed")
    return tuple(told)
