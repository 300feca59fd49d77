"""What all questions about circuits on one pair of inputs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.adapters.base import BaseAdapter
from neuros_mechint.causal.circuits.edges import Kept
from neuros_mechint.causal.circuits.running import EdgeCircuits
from neuros_mechint.causal.interventions import check_can_intervene, measure
from neuros_mechint.causal.metrics import check_dependence, metric_values
from neuros_mechint.causal.paths.direct import DirectRuns, ablation_edits
from neuros_mechint.causal.paths.wiring import Wiring, find_wiring
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.statistics.sign_flips import sign_flip_p

_SMALLEST_RELATIVE_DENOMINATOR = 1e-4


class Runner(Protocol):
    """Runs circuits."""

    @property
    def names(self) -> list[str]:
        """Names of the edges or nodes that circuits are made of, in order of execution."""
        ...

    def values(self, circuits: Sequence[Kept], description: str = "circuits") -> torch.Tensor:
        """Return the metric of each circuit, ``(n_circuits, n_samples)``."""
        ...


@dataclass(frozen=True)
class NodeCircuits:
    """Run circuits of nodes: every node that is not in the circuit sends its ablated value.

    Parameters
    ----------
    model : Adapter
    inputs : inputs of the model
    alternatives : mapping of str to Edit
        By node, in order of execution: the edit that takes its information away.
    metric : callable
    """

    model: Adapter
    inputs: Any
    alternatives: Mapping[str, Edit]
    metric: Metric

    @property
    def names(self) -> list[str]:
        """Names of the nodes."""
        return list(self.alternatives)

    def values(self, circuits: Sequence[Kept], description: str = "circuits") -> torch.Tensor:
        """Return the metric of each circuit, ``(n_circuits, n_samples)``, in double precision on the CPU."""
        interventions = [
            [edit for edit, kept in zip(self.alternatives.values(), circuit, strict=True) if not kept]
            for circuit in circuits
        ]
        return measure(self.model, self.inputs, interventions, self.metric, description=description).values


@dataclass(frozen=True)
class Problem:
    """A model that can be run as any of its circuits, on one pair of inputs.

    Parameters
    ----------
    runner : Runner
    wiring : Wiring
    full, empty : torch.Tensor of shape (n_samples,)
        The metric of the circuit of everything, and of nothing.
    samples : list of str
        A hash of each clean sample.
    warnings : tuple of str
    """

    runner: Runner
    wiring: Wiring
    full: torch.Tensor
    empty: torch.Tensor
    samples: list[str]
    warnings: tuple[str, ...]

    @property
    def level(self) -> str:
        """``"edge"`` or ``"node"``."""
        return "edge" if isinstance(self.runner, EdgeCircuits) else "node"

    @property
    def difference(self) -> float:
        """What there is to explain: the mean metric of everything minus that of nothing."""
        return float(self.full.mean() - self.empty.mean())

    @property
    def p(self) -> float:
        """How often chance alone makes such a difference, by flipping its sign sample by sample; 1 for one value."""
        differences = (self.full - self.empty).numpy()
        return float(sign_flip_p(differences)) if differences.size > 1 else 1.0

    def faithfulness(self, values: torch.Tensor) -> npt.NDArray[np.float64]:
        """Return for the metric of circuits ``(n_circuits, n_samples)`` which part of the difference they restore."""
        return ((values.mean(1) - self.empty.mean()) / self.difference).numpy()

    def connected(self, kept: Kept) -> Kept:
        """Return the edges that lead from the input to the output; nodes stay as they are."""
        return self.runner.edges.connected(kept) if isinstance(self.runner, EdgeCircuits) else kept

    def random(self, size: int, random: np.random.Generator) -> Kept:
        """Return a random circuit of a size."""
        if isinstance(self.runner, EdgeCircuits):
            return self.runner.edges.random(size, random)
        kept = np.zeros(len(self.runner.names), dtype=bool)
        kept[random.choice(len(kept), size, replace=False)] = True
        return kept


def circuit_problem(
    model: Adapter,
    metric: Metric,
    clean: Any,
    corrupted: Any,
    ablation: str,
    nodes: Sequence[str] | Mapping[str, str] | None,
) -> Problem:
    """Prepare a model for being run as its circuits.

    Raises
    ------
    InputError
        Inputs that are no partners, or a metric that hardly differs between everything and nothing.
    CapabilityError
        The model cannot be edited, or its edges cannot be told apart.
    """
    check_can_intervene(model, metric, clean)
    output = model.run(clean).output
    metric_values(metric, output)
    wiring = find_wiring(model, clean, nodes)
    runs = DirectRuns(model, clean, wiring, wiring.receivers, None)
    other = None if corrupted is None else model.run(corrupted, capture=runs.sent)
    reference = None if other is None else other.activations
    alternatives = ablation_edits(runs, wiring.nodes, ablation, reference)
    if wiring.stream is not None:
        runner: Runner = EdgeCircuits(runs, alternatives, ablation == "resample", metric)
    else:
        inner = {node.name: alternatives[node.name] for node in wiring.nodes if node.kind != "input"}
        runner = NodeCircuits(model, clean, inner, metric)
    everything = np.ones(len(runner.names), dtype=bool)
    full, empty = runner.values([everything, ~everything])
    _check_difference(full, empty, metric, output)
    warnings: tuple[str, ...] = ()
    if other is not None and ablation == "resample":
        warnings = _bypass_warning(full, empty, metric_values(metric, other.output))
    return Problem(runner, wiring, full, empty, _hashes(model, clean), warnings)


def _check_difference(full: torch.Tensor, empty: torch.Tensor, metric: Metric, output: Any) -> None:
    everything, nothing = float(full.mean()), float(empty.mean())
    if abs(everything - nothing) > _SMALLEST_RELATIVE_DENOMINATOR * max(abs(everything), abs(nothing)):
        return
    check_dependence(metric, output)
    raise InputError(
        "the whole model and the empty circuit hardly differ in the metric, so there is nothing for a circuit to do",
        got=f"{everything:.6g} and {nothing:.6g}",
        fix="choose a corruption that changes the answer, and a metric that shows it",
    )


def _bypass_warning(full: torch.Tensor, empty: torch.Tensor, corrupted: torch.Tensor) -> tuple[str, ...]:
    if empty.shape != corrupted.shape:
        return ()
    bypassing = float((empty - corrupted).mean() / (full - empty).mean())
    if abs(bypassing) < 0.01:
        return ()
    return (
        f"with every node at its corrupted value the metric is still {abs(bypassing):.2g} of the difference away from "
        "that of the corrupted run: something passes around these nodes, and no circuit of them explains it",
    )


def _hashes(model: Adapter, clean: Any) -> list[str]:
    """Return a short hash of each sample, by which inputs are recognized."""
    if not isinstance(model, BaseAdapter):
        return []
    batch = model.prepared(clean, [])[0]
    return [batch.rows(row, row + 1).fingerprint() for row in range(batch.n_samples)]
