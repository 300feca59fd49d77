"""Effects of edges: measured exactly, or estimated from gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.causal.interventions import check_differentiable, measure
from neuros_mechint.causal.metrics import metric_values
from neuros_mechint.causal.paths.direct import DirectRuns, Received, base_names, block, sum_per_sample
from neuros_mechint.causal.paths.wiring import Node, Receiver
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Metric
from neuros_mechint.core.edits import Edit, Replace
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar

_MOST_BYTES_WAITING = 256 * 2**20

Pair = tuple[str, str]
"""Names of sender and receiver."""


@dataclass
class Edge:
    """One edge while it is measured.

    Parameters
    ----------
    sender, receiver : str
        Names.
    change : float
        How far the receiver's value moves, from 0 (not at all) to 1; NaN for the output.
    effect : torch.Tensor of shape (n_samples,)
        Metric of the clean run minus metric without what passes along the edge.
    """

    sender: str
    receiver: str
    change: float
    effect: torch.Tensor


class EdgeMeasurement:
    """Everything about the edges between chosen senders and receivers on one input.

    Parameters
    ----------
    runs : DirectRuns
    alternatives : mapping of str to Edit
        By node: the edit that takes its information away.
    metric : callable
    senders : sequence of Node
    to_output : bool
        Whether edges into the output are asked for.
    """

    def __init__(
        self,
        runs: DirectRuns,
        alternatives: Mapping[str, Edit],
        metric: Metric,
        senders: Sequence[Node],
        to_output: bool,
    ) -> None:
        self.runs, self.alternatives, self.metric = runs, alternatives, metric
        self.senders, self.to_output = senders, to_output
        self._untouched = runs.receive([])
        self.clean = metric_values(metric, self._untouched.output)

    # -- contributions -------------------------------------------------------------------------------------------

    def contributions(self, senders: Iterable[Node], show: bool = True) -> Iterator[tuple[Node, Received]]:
        """Yield, for each sender, what arrives when only its own direct contribution is taken away."""
        for sender in progress_bar(senders, description="direct contributions", enabled=show):
            yield sender, self.runs.receive([self.alternatives[sender.name]])

    def changed(self, received: Received, receiver: Receiver) -> tuple[torch.Tensor, float]:
        """Return the change of a receiver's value, and its size relative to that of the value."""
        before, after = self._untouched.values[receiver.name], received.values[receiver.name]
        difference = after.double() - before.double()
        size = float(difference.norm())
        return difference, size / float(before.double().norm() + after.double().norm()) if size else 0.0

    def _output_edge(self, sender: Node, received: Received) -> list[Edge]:
        """Return the edge into the output: the run that shows a sender's contributions measures it."""
        if not self.to_output:
            return []
        effect = self.clean - metric_values(self.metric, received.output)
        kept = (sender.name, self.runs.wiring.output) in self.runs.wiring.pairs or bool(effect.any())
        return [Edge(sender.name, self.runs.wiring.output, float("nan"), effect)] if kept else []

    def _edges(self, sender: Node, received: Received) -> list[tuple[Edge, Receiver, torch.Tensor]]:
        """Return the edges that exist: by the architecture, or because something arrived."""
        found: list[tuple[Edge, Receiver, torch.Tensor]] = []
        for receiver in self.runs.receivers:
            difference, change = self.changed(received, receiver)
            if change or (sender.name, receiver.name) in self.runs.wiring.pairs:
                edge = Edge(sender.name, receiver.name, change, torch.zeros_like(self.clean))
                found.append((edge, receiver, difference))
        return found

    # -- exact ---------------------------------------------------------------------------------------------------

    def exact(self) -> list[Edge]:
        """Return all edges; each that changes its receiver is measured in a run of its own."""
        edges: list[Edge] = []

        def waiting() -> Iterator[tuple[Edge, Replace]]:
            for sender, received in self.contributions(self.senders):
                for edge, receiver, _ in self._edges(sender, received):
                    edges.append(edge)
                    if edge.change:
                        yield edge, Replace(receiver.site, received.values[receiver.name])
                edges.extend(self._output_edge(sender, received))

        for edge, effect in self._measured(waiting()):
            edge.effect = effect
        return edges

    def exactly(self, pairs: Sequence[Pair]) -> dict[Pair, torch.Tensor]:
        """Return the exact effects of some edges."""
        senders = {sender for sender, _ in pairs}
        receivers = {receiver.name: receiver for receiver in self.runs.receivers}

        def waiting() -> Iterator[tuple[Pair, Replace]]:
            chosen = [node for node in self.senders if node.name in senders]
            for sender, received in self.contributions(chosen, show=False):
                for pair in pairs:
                    if pair[0] == sender.name:
                        yield pair, Replace(receivers[pair[1]].site, received.values[pair[1]])

        return dict(self._measured(waiting()))

    def totals(self) -> torch.Tensor:
        """Return the effect of changing what each sender sends to everyone, ``(n_senders, n_samples)``."""
        measured = measure(
            self.runs.model,
            self.runs.inputs,
            [[self.alternatives[sender.name]] for sender in self.senders],
            self.metric,
            batch_size=self.runs.batch_size,
            description="whole nodes",
        )
        return measured.baseline - measured.values

    def _measured(self, edits: Iterable[tuple[Any, Replace]]) -> Iterator[tuple[Any, torch.Tensor]]:
        """Yield the effect of each edit alone; as many at a time as fit into memory."""
        waiting: list[tuple[Any, Replace]] = []
        n_bytes = 0
        for one in edits:
            waiting.append(one)
            n_bytes += one[1].value.numel() * one[1].value.element_size()
            if n_bytes >= _MOST_BYTES_WAITING:
                yield from self._measured_together(waiting)
                waiting, n_bytes = [], 0
        if waiting:
            yield from self._measured_together(waiting)

    def _measured_together(self, edits: Sequence[tuple[Any, Replace]]) -> Iterator[tuple[Any, torch.Tensor]]:
        measured = measure(
            self.runs.model,
            self.runs.inputs,
            [[edit] for _, edit in edits],
            self.metric,
            batch_size=self.runs.batch_size,
            description="edges",
        )
        yield from zip([key for key, _ in edits], measured.baseline - measured.values, strict=True)

    # -- estimated -----------------------------------------------------------------------------------------------

    def estimated(self, steps: int) -> list[Edge]:
        """Return all edges, their effects to first order: gradient times change of the receiver's value.

        Parameters
        ----------
        steps : int
            0 takes gradients on the clean input; else they are averaged over that many inputs on the way from the
            clean input to its ablated version.
        """
        gradients = self._gradients(steps)
        keep_samples = self.clean.numel() > 1 or self._n_samples() == 1
        edges: list[Edge] = []
        for sender, received in self.contributions(self.senders):
            for edge, receiver, difference in self._edges(sender, received):
                slope, dims = gradients(receiver.site)
                moved = difference * slope.to(difference)
                edge.effect = -sum_per_sample(moved, dims, keep_samples=keep_samples)
                edges.append(edge)
            edges.extend(self._output_edge(sender, received))
        return edges

    def _n_samples(self) -> int:
        site = self.runs.sent[0]
        dims = self.runs.dims(site)
        return self.runs.value(site).shape[dims.index("sample")] if "sample" in dims else 1

    def _gradients(self, steps: int) -> Callable[[str], tuple[torch.Tensor, tuple[str, ...]]]:
        """Return a function that gives the (mean) gradient of the metric at a receiver's site, and its axes."""
        model, runs = self.runs.model, self.runs
        check_differentiable(model, "use method='exact'")
        sites = base_names(receiver.site for receiver in runs.receivers)
        mean: dict[str, torch.Tensor] = {}
        held: Activations | None = None
        for edits in self._along_the_way(steps):
            held = model.gradients(runs.inputs, sites, self.metric, runs.batch_size, edits)
            for site in sites:
                mean[site] = mean.get(site, 0) + held[site].double() / max(steps, 1)
        assert held is not None
        averaged = Activations(mean, {site: held.dims(site) for site in sites})
        return lambda site: block(averaged, site)

    def _along_the_way(self, steps: int) -> Iterator[list[Edit]]:
        """Yield the edits that put each interpolated input in place: midpoints of ``steps`` equal parts."""
        if not steps:
            yield []
            return
        node = self.runs.wiring.input
        if node is None:
            raise InputError(
                "there is no input to interpolate",
                expected="a model whose input is one tensor of real numbers",
                fix="use method='eap' or 'exact'",
            )
        clean = self.runs.value(node.site)
        ablated = self.alternatives[node.name].apply(clean, self.runs.dims(node.site))
        for step in progress_bar(range(steps), description="interpolated inputs"):
            yield [Replace(node.site, clean + (step + 0.5) / steps * (ablated - clean))]
