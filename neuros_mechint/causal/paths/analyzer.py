"""PathAnalyzer: what passes along single edges of a model, and along chains of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
import xarray as xr

from neuros_mechint.causal.interventions import check_can_intervene
from neuros_mechint.causal.metrics import check_dependence, metric_values
from neuros_mechint.causal.partners import check_partners, difference_warnings
from neuros_mechint.causal.paths.chains import along_chain
from neuros_mechint.causal.paths.direct import DirectRuns, ablation_edits
from neuros_mechint.causal.paths.effects import EdgeEffects, edge_name
from neuros_mechint.causal.paths.measuring import EdgeMeasurement
from neuros_mechint.causal.paths.verification import Found, verify_edges
from neuros_mechint.causal.paths.wiring import Node, Receiver, Wiring, find_wiring
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Edit
from neuros_mechint.core.errors import InputError, check_option, near_names, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result

METHODS = ("auto", "exact", "eap", "eap-ig")
_MOST_EXACT_EDGES = 200
"""``method="auto"`` measures up to so many edges; beyond, a run for each costs more than gradients by far."""
_CITATIONS = {
    "exact": ("wang2022ioi", "goldowskydill2023"),
    "eap": ("syed2023", "hanna2024"),
    "eap-ig": ("hanna2024", "syed2023"),
}


class PathAnalyzer:
    """Find out what passes along the connections between parts of a model.

    Parts ("nodes") are the attention heads and MLPs of a transformer, the states of a recurrent model at each time
    step, or modules of your choice. An edge runs from what one node sends to what another receives directly, not
    through any third node. Its effect is what the metric of the clean run loses when the sender's contribution is
    taken away for this receiver alone.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar, e.g. from `logit_difference`.

    References
    ----------
    Goldowsky-Dill et al. 2023, Localizing model behavior with path patching, doi:10.48550/arXiv.2304.05969; Syed et
    al. 2023, Attribution patching outperforms automated circuit discovery, doi:10.48550/arXiv.2310.10348; Hanna et
    al. 2024, Have faith in faithfulness, doi:10.48550/arXiv.2403.17806

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1)))
    >>> analyzer = PathAnalyzer(model, lambda output: output[:, 0])
    >>> effects = analyzer.edges(torch.ones(3, 2), torch.zeros(3, 2), nodes=["0", "1", "2"])
    >>> effects.data["edge"].values.tolist()
    ['input->0', '0->1', '1->2', '2->output']
    >>> effects.graph()
    <CausalGraph: 5 nodes, 4 edges with an effect>
    """

    def __init__(self, model: Adapter, metric: Metric) -> None:
        check_can_intervene(model, metric)
        self.model = model
        self.metric = metric

    def edges(
        self,
        clean: Any,
        corrupted: Any = None,
        method: str = "auto",
        ablation: str = "resample",
        *,
        senders: str | Sequence[str] | None = None,
        receivers: str | Sequence[str] | None = None,
        nodes: Sequence[str] | Mapping[str, str] | None = None,
        steps: int = 5,
        verify: int = 16,
        batch_size: int | None = None,
    ) -> EdgeEffects:
        """Return the effect of every edge.

        Parameters
        ----------
        clean, corrupted : inputs of the model
            Of the same shape, sample by sample. Corrupted inputs are needed to resample; means are taken over them
            where they are given.
        method : {"auto", "exact", "eap", "eap-ig"}
            ``exact``: one run per edge. ``eap`` (edge attribution patching): gradient on the clean input times the
            change of the receiver's value. ``eap-ig``: that gradient averaged over inputs between clean and ablated.
            ``auto``: exact up to 200 edges, else ``eap-ig``.
        ablation : {"resample", "zero", "mean"}
            What takes the place of what a sender sends: its value on the corrupted input, nothing, or its mean.
        senders, receivers : str or sequence of str, optional
            Names or patterns, e.g. ``"a0.*"`` or ``["*<k>", "logits"]``; all by default.
        nodes : sequence of str or mapping of str to str, optional
            Sites that are the nodes of any other model, or names and their sites.
        steps : int
            Inputs over which ``eap-ig`` averages.
        verify : int
            After a gradient method, how many edges to measure exactly as well.
        batch_size : int, optional
            Samples per call of the model.

        Returns
        -------
        EdgeEffects

        Raises
        ------
        InputError, SiteError, CapabilityError, OptionError
        """
        check_option("method", method, METHODS)
        for name, number, least in (("steps", steps, 1), ("verify", verify, 0)):
            whole(name, number, least)
        problem = self._problem(clean, corrupted, ablation, nodes, batch_size)
        chosen = [node for node in problem.wiring.nodes if _matches(node.name, senders)]
        _check_chosen("senders", senders, chosen, [node.name for node in problem.wiring.nodes])
        names = [*(receiver.name for receiver in problem.wiring.receivers), problem.wiring.output]
        reading = [receiver for receiver in problem.wiring.receivers if _matches(receiver.name, receivers)]
        to_output = _matches(problem.wiring.output, receivers)
        _check_chosen("receivers", receivers, [*reading, *([problem.wiring.output] * to_output)], names)
        runs = problem.runs if len(reading) == len(problem.wiring.receivers) else problem.runs.reading(reading)
        measurement = EdgeMeasurement(runs, problem.alternatives, self.metric, chosen, to_output)
        if method == "auto":
            n_edges = _count(problem.wiring, chosen, reading, to_output)
            method = "exact" if n_edges <= _MOST_EXACT_EDGES else "eap-ig"
        if method == "exact":
            found = Found(measurement.exact())
        else:
            found = Found(measurement.estimated(steps if method == "eap-ig" else 0))
            verify_edges(found, measurement, verify, whole=len(reading) == len(problem.wiring.receivers) and to_output)
        settings = {"method": method, "ablation": ablation, "steps": steps if method == "eap-ig" else None}
        return self._effects(found, problem, measurement, settings)

    def path(
        self,
        clean: Any,
        corrupted: Any,
        chain: Sequence[str],
        ablation: str = "resample",
        *,
        nodes: Sequence[str] | Mapping[str, str] | None = None,
        batch_size: int | None = None,
    ) -> Result:
        """Return the effect of a change that travels along one chain of nodes only.

        What the first node sends is changed; the second is recomputed with nothing but this contribution changed; what
        it then sends is passed on to the third alone, and so on to the output. All other nodes stay as in the clean
        run.

        Parameters
        ----------
        clean, corrupted : inputs of the model
            As in `edges`; ``corrupted`` may be ``None`` unless values are resampled.
        chain : sequence of str
            Nodes in order, e.g. ``["a0.h0", "a1.h0<k>"]``; ``<q>``, ``<k>`` or ``<v>`` lets the change enter a head
            there only. The output comes last and need not be named.
        ablation, nodes, batch_size
            As in `edges`.

        Returns
        -------
        Result
            ``effect``: metric of the clean run minus metric with this path changed; ``per_sample`` and ``clean`` over
            ``(sample,)``.

        Raises
        ------
        InputError, SiteError, CapabilityError, OptionError

        Examples
        --------
        >>> import neuros_mechint as nm
        >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1)))
        >>> analyzer = PathAnalyzer(model, lambda output: output[:, 0])
        >>> analyzer.path(torch.ones(3, 2), torch.zeros(3, 2), ["0", "1", "2"], nodes=["0", "1", "2"]).data.sizes
        Frozen({'sample': 3})
        """
        problem = self._problem(clean, corrupted, ablation, nodes, batch_size)
        untouched, received, reached = along_chain(problem.runs, problem.alternatives, chain)
        effect = metric_values(self.metric, untouched.output) - metric_values(self.metric, received.output)
        units = getattr(self.metric, "units", "metric")
        data = xr.Dataset(
            {
                "effect": ((), float(effect.mean()), {"units": units, "long_name": "effect of the path"}),
                "per_sample": ("sample", effect.numpy(), {"units": units, "long_name": "effect of the path"}),
                "clean": ("sample", problem.clean.numpy(), {"units": units, "long_name": "metric of the clean run"}),
            }
        )
        title = "Effect along " + " -> ".join(chain)
        warnings = (
            problem.warnings if reached and effect.any() else (*problem.warnings, "nothing passes along this chain")
        )
        settings = {"chain": list(chain), "ablation": ablation}
        return Result(data, title, settings, self._provenance(settings), _CITATIONS["exact"], warnings)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _problem(
        self,
        clean: Any,
        corrupted: Any,
        ablation: str,
        nodes: Sequence[str] | Mapping[str, str] | None,
        batch_size: int | None,
    ) -> _Problem:
        check_can_intervene(self.model, self.metric, clean)
        if corrupted is not None:
            check_partners(self.model, clean, corrupted)
        output = self.model.run(clean, batch_size=batch_size).output
        baseline = metric_values(self.metric, output)
        wiring = find_wiring(self.model, clean, nodes)
        runs = DirectRuns(self.model, clean, wiring, wiring.receivers, batch_size)
        reference, other = None, None
        if corrupted is not None:
            run = self.model.run(corrupted, capture=runs.sent, batch_size=batch_size)
            reference, other = run.activations, metric_values(self.metric, run.output)
        alternatives = ablation_edits(runs, wiring.nodes, ablation, reference)
        warnings = _stream_warning(runs, alternatives)
        if ablation == "resample" and other is not None:
            warnings += difference_warnings(baseline, other)
        return _Problem(wiring, runs, alternatives, output, baseline, other, warnings)

    def _effects(
        self, found: Found, problem: _Problem, measurement: EdgeMeasurement, settings: dict[str, Any]
    ) -> EdgeEffects:
        edges, wiring = found.edges, problem.wiring
        if not edges:
            raise InputError(
                "no edge leads from these senders to these receivers",
                expected="senders that run before the receivers, and a corruption that changes what they send",
            )
        units = {"units": getattr(self.metric, "units", "metric")}
        per_sample = torch.stack([edge.effect for edge in edges]).numpy()
        if not per_sample.any():  # nothing ever changed it: is it a metric at all?
            check_dependence(self.metric, problem.output)
        variables: dict[str, Any] = {
            "effect": ("edge", per_sample.mean(1), {**units, "long_name": "effect of the edge"}),
            "change": ("edge", [edge.change for edge in edges], {"units": "", "long_name": "change of the receiver"}),
            **found.variables(units),
            "per_sample": (("edge", "sample"), per_sample, {**units, "long_name": "effect of the edge"}),
            "clean": ("sample", problem.clean.numpy(), {**units, "long_name": "metric of the clean run"}),
        }
        if problem.corrupted is not None and problem.corrupted.shape == problem.clean.shape:
            label = {**units, "long_name": "metric of the corrupted run"}
            variables["corrupted"] = ("sample", problem.corrupted.numpy(), label)
        if found.totals is not None:
            label = {**units, "long_name": "effect of the whole node"}
            variables["total"] = ("node", found.totals.mean(1).numpy(), label)
        coords: dict[str, Any] = {
            "edge": [edge_name(edge.sender, edge.receiver) for edge in edges],
            "sender": ("edge", [edge.sender for edge in edges]),
            "receiver": ("edge", [edge.receiver for edge in edges]),
        }
        if found.totals is not None:
            coords["node"] = [node.name for node in measurement.senders]
        attributes = {**settings, **_description(wiring, measurement)}
        title = f"Effects of edges ({settings['method']}, {settings['ablation']})"
        provenance = self._provenance(
            {**settings, "senders": attributes["senders"], "receivers": attributes["receivers"]}
        )
        warnings = (*problem.warnings, *found.warnings())
        dataset = xr.Dataset(variables, coords)
        return EdgeEffects(dataset, title, attributes, provenance, _CITATIONS[settings["method"]], warnings)

    def _provenance(self, settings: Mapping[str, Any]) -> Provenance:
        return Provenance.record(model=self.model.fingerprint(), arguments={"metric": self.metric, **settings})


@dataclass(frozen=True)
class _Problem:
    """What all questions about one pair of inputs share."""

    wiring: Wiring
    runs: DirectRuns
    alternatives: Mapping[str, Edit]
    output: Any
    clean: torch.Tensor
    corrupted: torch.Tensor | None
    warnings: tuple[str, ...]


def _matches(name: str, patterns: str | Sequence[str] | None) -> bool:
    if patterns is None:
        return True
    return any(fnmatchcase(name, _literal(one)) for one in ([patterns] if isinstance(patterns, str) else patterns))


def _literal(pattern: str) -> str:
    """Names of sites have brackets of their own: ``hidden[time=3]`` is no choice of letters."""
    return pattern.replace("[", "[[]")


def _check_chosen(what: str, patterns: str | Sequence[str] | None, chosen: Sequence[Any], names: Sequence[str]) -> None:
    asked = [] if patterns is None else [patterns] if isinstance(patterns, str) else list(patterns)
    for one in asked:
        if not any(_matches(name, one) for name in names):
            near = near_names(one, names)
            raise InputError(
                f"no {what.removesuffix('s')} matches {one!r}",
                expected="names such as " + ", ".join(names[:8]),
                fix="did you mean " + " or ".join(map(repr, near)) + "?" if near else None,
            )
    if not chosen:
        raise InputError(f"no {what} are chosen", expected="names such as " + ", ".join(names[:8]))


def _count(wiring: Wiring, senders: Sequence[Node], receivers: Sequence[Receiver], to_output: bool) -> int:
    """Return how many edges there can be at most."""
    names = {node.name for node in senders}, {receiver.name for receiver in receivers}
    if to_output:
        names[1].add(wiring.output)
    if wiring.pairs:
        return sum(sender in names[0] and receiver in names[1] for sender, receiver in wiring.pairs)
    return len(names[0]) * len(names[1])


def _description(wiring: Wiring, measurement: EdgeMeasurement) -> dict[str, Any]:
    """Return what a graph needs to know about nodes and receivers."""
    output = [wiring.output] if measurement.to_output else []
    depths = [node.depth for node in wiring.nodes if node.depth is not None]
    top = max(depths) + 1 if depths else None
    nodes = {node.name: {"kind": node.kind, "depth": node.depth} for node in wiring.nodes}
    return {
        "senders": [node.name for node in measurement.senders],
        "receivers": [receiver.name for receiver in measurement.runs.receivers] + output,
        "nodes": {**nodes, wiring.output: {"kind": "output", "depth": top}},
        "parts": {one.name: list(one.nodes) for one in wiring.receivers if not one.is_response},
    }


def _stream_warning(runs: DirectRuns, alternatives: Mapping[str, Edit]) -> tuple[str, ...]:
    """Warn unless the stream is the input plus what the nodes add: else parts that are no nodes carry something."""
    first = runs.wiring.input
    if first is None or runs.wiring.stream is None:
        return ()
    change = alternatives[first.name]
    before = runs.receive([]).stream
    after = runs.receive([change]).stream
    entering = runs.value(first.site)
    expected = change.apply(entering, runs.dims(first.site)).double() - entering.double()
    if before is None or after is None or before.shape != expected.shape:
        return ()
    passed = after.double() - before.double()
    allowed = 1e-3 * float(expected.abs().max()) + 1e-5 * float(before.abs().max())
    if float((passed - expected).abs().max()) <= allowed:
        return ()
    return (
        "the residual stream is not the sum of the input and what the nodes add (norms on the stream, or parts that "
        "are no nodes): an edge's effect includes what passes through those",
    )
