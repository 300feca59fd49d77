"""The circuit behind a context-dependent decision: found in a trained network, and tested by changing its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import nn

from neuros_mechint.adapters.registry import adapt
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.composite import CompositeResult, pack
from neuros_mechint.core.errors import CapabilityError, InputError, number, whole
from neuros_mechint.core.figures.colours import PALETTE
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.datasets.tasks import Trials, context_decision
from neuros_mechint.neuro.circuits.latent.channels import split_signed_channels
from neuros_mechint.neuro.circuits.latent.dynamics import simulate
from neuros_mechint.neuro.circuits.latent.model import LatentCircuitModel
from neuros_mechint.neuro.circuits.latent.perturbation import changed_run, latent_perturbation_test
from neuros_mechint.neuro.circuits.latent.selection import numbers_of_nodes, select_latent_size
from neuros_mechint.neuro.circuits.latent.validation import compare_with_pca
from neuros_mechint.workflows.dynamics.network_circuit import late

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANNELS = ("context motion", "context color", "motion +", "motion -", "color +", "color -")
"""Inputs of the circuit: cues, and either sign of either evidence. Nodes receive no negative inputs."""

CHOICES = ("choice +", "choice -")
"""Outputs of the circuit: evidence for either choice."""

CAPTIONS = {
    "size": "How well circuits of several sizes predict trials they were not fitted to.",
    "circuit": "Connections between the nodes, named after the input they receive or the choice they stand for.",
    "perturbation": "The circuit predicts what a change of the network's recurrent weights does to its choices; beside "
    "it, changes along other directions, which it should not predict.",
    "gating": "How much either evidence counts at the end of a trial, with the connections from the contexts to the "
    "evidence they should suppress in place and cut, in the network and in the circuit.",
    "pca": "The circuit beside linear dynamics of as many principal components.",
}
_N_INPUTS = 4  # of the task: motion, color and two cues
_ALPHA = 1.0  # torch's recurrent layers have no leak
_EVIDENCE = {"motion": 0, "color": 1}
_SUPPRESSED = {0: (4, 5), 1: (2, 3)}  # context: nodes of the evidence that does not count
_STRENGTH, _N_PROBES = 0.2, 5
_N_TESTED, _N_CONTROLS = 48, 5


class DecisionCircuit(CompositeResult):
    """The latent circuit of a network that makes context-dependent decisions, and its tests.

    ``data`` holds over ``part`` what each found first, and the data of all parts, their names preceded by that of the
    part. `parts` gives these as results of their own.
    """

    drawn = "circuit"
    captions = CAPTIONS

    def _summary_lines(self) -> Iterator[str]:
        yield f"{self.attributes['model']}, {self.attributes['n_trials']} trials"
        for part, found in zip(self.data["part"].values, self.data["finding"].values, strict=True):
            yield f"{part}: {found}"


class GatingTest(Result):
    """How a choice depends on evidence once contexts no longer suppress any.

    ``data`` holds the ``influence`` of evidence on the choice at the end of a trial, ``(system, wiring, context,
    evidence)``, by regression on its strength: in the ``network`` and in the ``circuit``; ``intact``; with the
    connections ``cut`` that go from a context to the evidence that does not count; with only the ``inhibition cut``
    among them; and, the control, ``elsewhere``: with changes of the same size between random directions of the same
    space (the median of five). The variable ``cut`` holds these connections, ``(context, suppressed)``.
    """

    def strength(self, system: str, wiring: str) -> tuple[float, float]:
        """Mean size of the influence of the evidence that counts, and of the one that does not."""
        found = np.abs(self.data["influence"].sel(system=system, wiring=wiring).values)
        return float(np.trace(found) / 2), float((found.sum() - np.trace(found)) / 2)

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 8.0, 3.6

    def _draw(self, ax: Axes) -> None:
        influence = self.data["influence"]
        wirings, systems = (list(influence[name].values) for name in ("wiring", "system"))
        for index, name in enumerate(("counts", "does not count")):
            values = np.abs(influence.values)
            means = [
                np.mean([values[s, w, c, c ^ index] for c in (0, 1)])
                for s in range(len(systems))
                for w in range(len(wirings))
            ]
            places = np.arange(len(means)) + 0.38 * index - 0.19
            ax.bar(places, means, width=0.36, color=PALETTE[index], label=f"evidence {name}")
        names = [f"{system}\n{wiring}" for system in systems for wiring in wirings]
        ax.set_xticks(np.arange(len(names)), names, fontsize=8)
        ax.set_ylabel("influence on the choice\n(output per unit of evidence)")
        ax.grid(axis="y")
        ax.legend()

    def _summary_lines(self) -> Iterator[str]:
        for system in ("network", "circuit"):
            pairs = {str(wiring): self.strength(system, wiring) for wiring in self.data["wiring"].values}
            told = ", ".join(f"{wiring} {counts:.2g} and {other:.2g}" for wiring, (counts, other) in pairs.items())
            yield f"influence of evidence that counts and that does not, {system}: {told}"
        weights = ", ".join(f"{weight:.2f}" for weight in self.data["cut"].values.ravel())
        yield f"connections that were cut: {weights}"


class _Recorded(NamedTuple):
    inputs: Floats
    activity: Floats
    outputs: Floats


def decision_circuit(
    network: nn.Module,
    sizes: Sequence[int] = (8, 9, 10),
    n_trials: int = 144,
    noise: float = 1.0,
    n_starts: int = 4,
    seed: SeedLike = 0,
    progress: bool = True,
) -> DecisionCircuit:
    """Find the latent circuit of a network that makes context-dependent decisions, and test it.

    Trials are run with independent noise on the evidence of every step: conditions without it, whose inputs are all
    alike, leave many wirings possible. Signed inputs and outputs are parted into one channel for either sign. The
    circuit is fitted; predicts what changes of the network's weights do; is relieved of the inhibition by which
    contexts would gate evidence, together with the network; and is compared with principal components.

    Parameters
    ----------
    network : torch.nn.Module
        With one simple recurrent layer, ``(trial, time, 4)`` to ``(trial, time, 1)``, such as
        ``nm.load_model("decision_rnn")`` and ``nm.load_model("decision_dale_rnn")``.
    sizes : sequence of int
        Numbers of nodes to choose from on held-out trials, which takes a minute or two; a single one is taken as it is.
        At least 8.
    n_trials : int
        Trials that the circuit is fitted to; as many others, up to 48, test it.
    noise : float
        Standard deviation of the evidence at each step.
    n_starts : int
        Most descents of the fit.
    seed : int or numpy.random.Generator
    progress : bool
        Show bars where it takes longer than two seconds.

    Returns
    -------
    DecisionCircuit

    Raises
    ------
    CapabilityError
        A network without one simple recurrent layer.
    InputError
        A network with other inputs or outputs than those of the task.
    OptionError
        Numbers out of range.

    References
    ----------
    Langdon & Engel 2025, Latent circuit inference from heterogeneous neural responses during cognitive tasks,
    doi:10.1038/s41593-025-01869-7

    Examples
    --------
    A quick look, at a circuit that is not fitted well yet:

    >>> import warnings
    >>> from neuros_mechint.datasets.embedded import load_model
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     found = decision_circuit(load_model("decision_rnn"), sizes=[8], n_trials=12, n_starts=1, progress=False)
    >>> list(found.parts)
    ['circuit', 'perturbation', 'gating', 'pca']
    """
    sizes = numbers_of_nodes(sizes, least=len(CHANNELS) + len(CHOICES))
    n_trials, noise, random = whole("n_trials", n_trials), number("noise", noise, 0, np.inf, "left"), generator(seed)
    trials = context_decision(n_trials, noise=noise, seed=random)
    recorded = _recorded(network, trials)
    parts: dict[str, Result] = {}
    n_nodes = sizes[0]
    if len(sizes) > 1:
        chosen = select_latent_size(*recorded, sizes=sizes, alpha=_ALPHA, seed=random, progress=progress)
        parts["size"], n_nodes = chosen, chosen.chosen
    model = LatentCircuitModel(n_nodes, alpha=_ALPHA, n_starts=n_starts, seed=random)
    model.fit(*recorded, progress=progress, input_names=CHANNELS, output_names=CHOICES)
    parts["circuit"] = model.result_
    test = context_decision(min(n_trials, _N_TESTED), noise=noise, seed=random).inputs.numpy()
    run = changed_run(network, test, read=split_signed_channels)
    parts["perturbation"] = latent_perturbation_test(model, run, channels(test), seed=random, progress=progress)
    parts["gating"] = gating_test(model, network, seed=random)
    parts["pca"] = compare_with_pca(model, *recorded, seed=random, progress=progress)
    return _told(parts, network, n_trials, seed)


def channels(inputs: Floats) -> Floats:
    """Return the inputs of the task with evidence parted by its sign: `CHANNELS`.

    Parameters
    ----------
    inputs : numpy.ndarray of shape (n_trials, n_times, 4)
        Motion evidence, color evidence, motion cue, color cue: as `context_decision` draws them.

    Returns
    -------
    numpy.ndarray of shape (n_trials, n_times, 6)

    Raises
    ------
    InputError
        Anything else.

    Examples
    --------
    >>> channels(np.array([[[0.5, -2.0, 1.0, 0.0]]])).ravel().tolist()
    [1.0, 0.0, 0.5, 0.0, 0.0, 2.0]
    """
    given = real_array(inputs, "inputs", finite=False)
    if given.ndim != 3 or given.shape[-1] != _N_INPUTS:
        raise InputError(
            "these are not the inputs of the task", expected=f"(n_trials, n_times, {_N_INPUTS})", got=given.shape
        )
    return np.concatenate([given[..., 2:], split_signed_channels(given[..., :2])], axis=-1)


def _recorded(network: nn.Module, trials: Trials) -> _Recorded:
    """Return what the circuit is fitted to: states and outputs before the input of the same time, from rest."""
    adapter = adapt(network)
    if "step" not in adapter.capabilities:
        raise CapabilityError("the network has no single recurrent layer", got=type(network).__name__)
    expected = f"(n_trials, n_times, {_N_INPUTS}) to (n_trials, n_times, 1): motion, color and two cues to a choice"
    try:
        run = adapter.run(trials.inputs, capture=["hidden"])
    except RuntimeError as error:
        raise InputError("the network does not take the inputs of the task", expected=expected, got=error) from error
    shape = tuple(run.output.shape) if isinstance(run.output, torch.Tensor) else type(run.output).__name__
    if shape != (*trials.inputs.shape[:2], 1):
        raise InputError(
            "the network does not return the choice of the task",
            expected=expected,
            got=shape,
            fix="wrap a bare recurrent layer in a module that reads one output from its states",
        )
    states, outputs = (late(values.double().numpy()) for values in (run.activations["hidden"], run.output))
    return _Recorded(channels(trials.inputs.double().numpy()), states, split_signed_channels(outputs))


def gating_test(model: LatentCircuitModel, network: nn.Module, seed: SeedLike = 0) -> GatingTest:
    """Cut the connections from contexts to the evidence they should suppress, in a circuit and in its network.

    Parameters
    ----------
    model : LatentCircuitModel
        Fitted, with `CHANNELS` as its inputs.
    network : torch.nn.Module
        It was found in; it stays as it is.
    seed : int or numpy.random.Generator
        For the directions of the control.

    Returns
    -------
    GatingTest

    Raises
    ------
    InputError
        A circuit that is not fitted, or has other inputs and outputs; a network that does not take those of the task.
    """
    _check_circuit(model)
    context, motion, color = _probes()
    probes = context_decision(len(context), noise=0.0).inputs.double().numpy()
    shown = probes[:1, :, :1] != 0  # the time of the evidence is the same in all trials
    probes[:, :, :2] = shown * np.stack([motion, color], axis=-1)[:, None]
    probes[:, :, 2:] = np.eye(2)[context][:, None]
    run = changed_run(network, probes)
    change = np.zeros_like(model.connectivity_)
    for source, targets in _SUPPRESSED.items():
        change[list(targets), source] = -model.connectivity_[list(targets), source]
    circuits = {
        "intact": [0 * change],
        "cut": [change],
        "inhibition cut": [change.clip(0)],
        "elsewhere": _turned(change, generator(seed)),
    }

    def influences(choice: Callable[[Floats], Floats]) -> Floats:
        found = [[_influence(choice(one), context, motion, color) for one in changes] for changes in circuits.values()]
        return np.stack([np.median(one, axis=0) for one in found])

    def network_choice(one: Floats) -> Floats:
        return run(model.alpha_ * model.embedding_ @ one @ model.embedding_.T)[:, -1, 0]

    influence = np.stack([influences(network_choice), influences(lambda one: _circuit_choice(model, probes, one))])
    cut = [model.connectivity_[list(targets), source] for source, targets in _SUPPRESSED.items()]
    about = {"long_name": "influence on the choice", "units": "output per unit of evidence"}
    data = xr.Dataset(
        {
            "influence": (("system", "wiring", "context", "evidence"), influence, about),
            "cut": (("context", "suppressed"), np.stack(cut), {"long_name": "connection weight", "units": "1"}),
        },
        {
            "system": ["network", "circuit"],
            "wiring": list(circuits),
            "context": list(_EVIDENCE),
            "evidence": list(_EVIDENCE),
        },
    )
    return GatingTest(
        data,
        "Do contexts gate evidence by inhibition?",
        provenance=Provenance.record(seed, model=network),
        citations=("langdon2025", "mante2013"),
        warnings=_gating_doubts(np.stack(cut), np.abs(influence[0])),
    )


def _check_circuit(model: LatentCircuitModel) -> None:
    """Raise `InputError` unless a circuit is fitted to `CHANNELS` and `CHOICES`, each with a node of its own."""
    least = len(CHANNELS) + len(CHOICES)
    connectivity = getattr(model, "connectivity_", None)
    sizes = () if connectivity is None else (model.input_weights_.shape[1], len(model.output_weights_))
    if sizes != (len(CHANNELS), len(CHOICES)) or len(model.connectivity_) < least:
        raise InputError(
            "this is no circuit of a context-dependent decision",
            expected=f"a fitted LatentCircuitModel of at least {least} nodes; inputs {CHANNELS}, outputs {CHOICES}",
            got=f"{model!r}" if sizes == () else f"{len(model.connectivity_)} nodes; inputs and outputs: {sizes}",
        )


def _gating_doubts(cut: Floats, influence: Floats) -> tuple[str, ...]:
    """Return what speaks against gating by inhibition; influence in the network is ``(wiring, context, evidence)``."""
    told = []
    excites = int((cut > 0).sum())
    if excites:
        told.append(f"{excites} of {cut.size} connections from contexts to the other evidence excite, not inhibit")
    intact, _, released, _ = influence.sum((1, 2)) - np.trace(influence, axis1=1, axis2=2)
    if released <= intact:
        told.append(
            "irrelevant evidence counts no more in the network once this inhibition is cut: no sign that it gates"
        )
    return tuple(told)


def _probes() -> tuple[Any, Floats, Floats]:
    levels = np.linspace(-_STRENGTH, _STRENGTH, _N_PROBES)
    grid = np.meshgrid(np.arange(2), levels, levels, indexing="ij")
    context, motion, color = (axis.ravel() for axis in grid)
    return context.astype(int), motion, color


def _turned(change: Floats, random: np.random.Generator) -> list[Floats]:
    """Return changes of the same size between other directions of the circuit's space."""
    turns = [np.linalg.qr(random.standard_normal(change.shape))[0] for _ in range(_N_CONTROLS)]
    return [turn @ change @ turn.T for turn in turns]


def _circuit_choice(model: LatentCircuitModel, probes: Floats, change: Floats) -> Floats:
    states = simulate(model.connectivity_ + change, model.input_weights_, channels(probes), model.alpha_)
    positive, negative = model.output_weights_ @ states[:, -1].T
    return positive - negative


def _influence(choice: Floats, context: Any, motion: Floats, color: Floats) -> Floats:
    """Return slopes of the choice on either evidence, ``(context, evidence)``."""
    evidence, slopes = np.stack([motion, color], axis=-1), np.zeros((2, 2))
    for index in (0, 1):
        trials = context == index
        slopes[index] = np.linalg.lstsq(evidence[trials], choice[trials], rcond=None)[0]
    return slopes


def _told(parts: dict[str, Result], network: nn.Module, n_trials: int, seed: SeedLike) -> DecisionCircuit:
    data, about = pack(parts)
    findings = [part.summary().splitlines()[1] for part in parts.values()]
    whole_data = xr.Dataset({"finding": ("part", findings)}, {"part": list(parts)}).merge(data)
    citations = dict.fromkeys(key for part in parts.values() for key in part.citations)
    return DecisionCircuit(
        whole_data,
        "The latent circuit of a context-dependent decision",
        attributes={"parts": about, "model": type(network).__name__, "n_trials": n_trials},
        provenance=Provenance.record(seed, model=network, arguments={"n_trials": n_trials}),
        citations=tuple(citations),
    )
