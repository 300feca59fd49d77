"""Run circuits of edges in a transformer: what is not in a circuit carries its ablated value, node after node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.causal.circuits.calls import Calls
from neuros_mechint.causal.circuits.edges import EdgeSet, Kept
from neuros_mechint.causal.circuits.writing import output_map
from neuros_mechint.causal.interventions import measure
from neuros_mechint.causal.paths.direct import DirectRuns, base_names
from neuros_mechint.causal.paths.wiring import Node, Receiver
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Metric
from neuros_mechint.core.edits import Edit, Replace
from neuros_mechint.core.errors import CapabilityError
from neuros_mechint.core.progress import progress_bar

_MOST_BYTES = 512 * 2**20
_MOST_CIRCUITS = 256
_SUM = 1e-3

Numbers = npt.NDArray[np.int64]


@dataclass
class _Values:
    """What each node adds to the stream in some circuits, as a change against the clean run.

    ``known[node][i]`` is a change ``(sample, position, unit)``; entry 0 is the ablated one. ``which[node]`` says for
    each circuit which of them the node sends, so that circuits that agree are run once.
    """

    known: dict[str, list[torch.Tensor]]
    which: dict[str, Numbers] = field(default_factory=dict[str, Numbers])


class EdgeCircuits:
    """Run circuits of edges on one pair of inputs.

    Along an edge of the circuit the receiver gets what the sender now sends; along every other edge the sender's
    ablated value. The input itself is clean.

    Parameters
    ----------
    runs : DirectRuns
        Gives the clean values.
    alternatives : mapping of str to Edit
        By node: the edit that takes its information away.
    resampled : bool
        Whether ablated values come from one run on another input: then a node that only receives ablated values
        sends its own.
    metric : callable

    Raises
    ------
    CapabilityError
        The stream is not the sum of what the nodes add.
    """

    def __init__(self, runs: DirectRuns, alternatives: Mapping[str, Edit], resampled: bool, metric: Metric) -> None:
        self.wiring, self.edges = runs.wiring, EdgeSet(runs.wiring)
        self._alternatives, self._resampled = alternatives, resampled
        self._layers = _layers(self.wiring.receivers)
        self._clean = self._clean_values(runs)
        assert self.wiring.input is not None
        self._calls = Calls(runs.model, runs.inputs, self._clean[self.wiring.input.site])
        self._metric = metric
        self._maps = {layer: self._output_map(layer) for layer in self._layers if self._has_heads(layer)}
        self._ablated = {node.name: self._ablated_change(node) for node in self.wiring.nodes}
        self._check_sum()

    @property
    def names(self) -> list[str]:
        """Names of the edges."""
        return self.edges.names

    # -- values of single runs -----------------------------------------------------------------------------------

    def _clean_values(self, runs: DirectRuns) -> Activations:
        sites = set(runs.model.sites())
        wanted = base_names([*(one.site for one in self.wiring.receivers), *(one.site for one in self.wiring.nodes)])
        for layer in self._layers:
            wanted += [f"blocks.{layer}.{part}" for part in ("resid_pre", "resid_mid", "attn_out")]
        assert self.wiring.stream is not None
        wanted = [site for site in dict.fromkeys([*wanted, self.wiring.stream]) if site in sites]
        values = runs.model.capture(runs.inputs, wanted)
        assert isinstance(values, Activations)
        wrong = [site for site in wanted if values.dims(site)[:2] != ("sample", "position")]
        if wrong:
            raise CapabilityError(
                "circuits of edges need sites over (sample, position, ...)", got=f"{wrong[0]}: {values.dims(wrong[0])}"
            )
        return values

    def _has_heads(self, layer: int) -> bool:
        return any(node.kind == "head" and node.site.startswith(f"blocks.{layer}.") for node in self.wiring.nodes)

    def _output_map(self, layer: int) -> torch.Tensor:
        site = f"blocks.{layer}.z"
        ablated = clean = self._clean[site]
        if f"blocks.{layer}.attn_out" not in set(self._clean):
            raise CapabilityError(
                f"what the heads of block {layer} add to the stream cannot be seen",
                expected=f"a site blocks.{layer}.attn_out",
                fix="give nodes=[...] to run circuits of nodes",
            )
        for node in self.wiring.nodes:
            if node.site.startswith(f"{site}["):
                ablated = self._alternatives[node.name].apply(ablated, self._clean.dims(site))
        return output_map(self._calls, layer, [clean, ablated])

    def _ablated_change(self, node: Node) -> torch.Tensor:
        base = base_names([node.site])[0]
        clean, dims = self._clean[base], self._clean.dims(base)
        changed = self._alternatives[node.name].apply(clean, dims).double() - clean.double()
        if node.kind == "head":
            layer, head = _layer_of(node.site), _head_of(node.site)
            changed = changed[:, :, head] @ self._maps[layer][head]
        return changed.to(clean.dtype)

    def _check_sum(self) -> None:
        """Refuse a stream that is more than the input and what the nodes add: then parts are missing."""
        assert self.wiring.stream is not None
        all_at_once = [self._alternatives[node.name] for node in self.wiring.nodes]
        changed = self._calls.captured([all_at_once], self.wiring.stream)[0].double()
        clean = self._clean[self.wiring.stream].double()
        expected = clean + torch.stack([change.double() for change in self._ablated.values()]).sum(0)
        error, size = float((changed - expected).abs().max()), float(clean.abs().max())
        if error > _SUM * size:
            raise CapabilityError(
                "the residual stream is not the sum of the input and what the nodes add, so no edge can be cut",
                got=f"a difference of {error:.3g} in a stream of size {size:.3g}",
                expected="no norms on the stream, and no parts that add to it beside the nodes",
                fix="give nodes=[...] to run circuits of nodes",
            )

    # -- circuits ------------------------------------------------------------------------------------------------

    def values(self, circuits: Sequence[Kept], description: str = "circuits") -> torch.Tensor:
        """Return the metric of each circuit, ``(n_circuits, n_samples)``, in double precision on the CPU.

        Kept edges that lie on no path from the input to the output carry their ablated value too.
        """
        circuits = [self.edges.connected(circuit) for circuit in circuits]
        stream = self._clean[self.wiring.stream or ""]
        n_bytes = stream.numel() * stream.element_size() * len(self.wiring.nodes)
        at_once = int(np.clip(_MOST_BYTES / n_bytes, 1, _MOST_CIRCUITS))
        starts = range(0, len(circuits), at_once)
        found = [
            self._values_together(np.stack(circuits[start : start + at_once]))
            for start in progress_bar(starts, description=description, enabled=len(starts) > 1)
        ]
        return torch.cat(found)

    def _values_together(self, kept: npt.NDArray[np.bool_]) -> torch.Tensor:
        values = _Values({name: [change] for name, change in self._ablated.items()})
        assert self.wiring.input is not None
        first = self.wiring.input.name
        values.known[first].append(torch.zeros_like(self._ablated[first]))
        values.which[first] = np.ones(len(kept), dtype=np.int64)
        for layer, receivers in self._layers.items():
            channels = [one for one in receivers if not one.is_response]
            if channels:
                self._run_heads(layer, channels, kept, values)
            for entry, responses in self._responses(layer, receivers).items():
                self._run_responses(entry, responses, kept, values)
        assert self.wiring.stream is not None
        keys = self._keys(self.wiring.output, kept, values)
        distinct, which = np.unique(keys, axis=0, return_inverse=True)
        streams = self._streams(self.wiring.stream, self.wiring.output, distinct, values)
        interventions = [[Replace(self.wiring.stream, stream)] for stream in streams]
        measured = measure(self._calls.model, self._calls.inputs, interventions, self._metric, description="output")
        return measured.values[torch.as_tensor(which.reshape(-1))]

    def _keys(self, receiver: str, kept: npt.NDArray[np.bool_], values: _Values) -> Numbers:
        """Return, for each circuit, which value each sender sends to ``receiver``: ``(n_circuits, n_senders)``."""
        columns = [
            np.where(kept[:, edge], values.which[self.edges.pairs[edge][0]], 0) for edge in self.edges.into[receiver]
        ]
        return np.stack(columns, axis=1)

    def _streams(self, site: str, receiver: str, keys: Numbers, values: _Values) -> list[torch.Tensor]:
        """Return the stream that arrives at ``receiver`` for each row of ``keys``."""
        senders = [self.edges.pairs[edge][0] for edge in self.edges.into[receiver]]
        clean = self._clean[site]
        ablated = clean.double() + sum(self._ablated[sender].double() for sender in senders)
        streams = []
        for key in keys:
            stream = ablated.clone()
            for sender, number in zip(senders, key, strict=True):
                if number:
                    stream += values.known[sender][number].double() - self._ablated[sender].double()
            streams.append(stream.to(clean.dtype))
        return streams

    # -- attention -----------------------------------------------------------------------------------------------

    def _run_heads(self, layer: int, channels: list[Receiver], kept: npt.NDArray[np.bool_], values: _Values) -> None:
        """Find what the heads of a block send, given what arrives at their queries, keys and values."""
        groups = _groups(channels)
        used = [np.any([self._is_used(node, kept) for node in group.heads], axis=0) for group in groups]
        keys = {one.name: self._keys(one.name, kept, values) for one in channels}
        for group, wanted in zip(groups, used, strict=True):
            for one in group.receivers:  # what nobody reads need not be computed: as if nothing had arrived
                keys[one.name] = np.where(wanted[:, None], keys[one.name], 0)
        stacked = np.concatenate([keys[one.name] for one in channels])
        distinct, rows = np.unique(stacked, axis=0, return_inverse=True)
        arrived = dict(zip([one.name for one in channels], rows.reshape(len(channels), -1), strict=True))
        combined = [np.unique(np.stack([arrived[one.name] for one in group.receivers], 1), axis=0) for group in groups]
        entry = f"blocks.{layer}.resid_pre"
        streams = self._streams(entry, channels[0].name, distinct, values)
        sites = [f"blocks.{layer}.{channel}" for channel in "qkv"]
        entering = self._calls.captured_in_block(layer, [[Replace(entry, stream)] for stream in streams], sites)
        answers = self._answers(layer, groups, combined, entering)
        nothing = _row_of_zeros(distinct) if self._resampled else None
        for group, combination in zip(groups, combined, strict=True):
            own = np.stack([arrived[one.name] for one in group.receivers], 1)
            number = 1 + (own[:, None] == combination[None]).all(2).argmax(1)
            if nothing is not None:
                number[(own == nothing).all(1)] = 0
            for node in group.heads:
                values.which[node] = number
                head = _head_of(self.wiring.node(node).site)
                values.known[node] += [self._written(layer, head, z) for z in answers[: len(combination)]]

    def _is_used(self, node: str, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return in which circuits anything reads what ``node`` sends."""
        return np.any(kept[:, self.edges.out_of[node]], axis=1)

    def _answers(
        self, layer: int, groups: list[_Group], combined: list[Numbers], entering: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return ``z`` of all heads in as many runs as the group with most combinations needs."""
        interventions: list[list[Edit]] = []
        for run in range(max(map(len, combined))):
            put = {site: self._clean[site].clone() for site in entering}
            for group, combination in zip(groups, combined, strict=True):
                for receiver, row in zip(group.receivers, combination[min(run, len(combination) - 1)], strict=True):
                    site = base_names([receiver.site])[0]
                    head = _head_of(receiver.site)
                    put[site][:, :, head] = entering[site][row][:, :, head]
            interventions.append([Replace(site, value) for site, value in put.items()])
        z = f"blocks.{layer}.z"
        return self._calls.captured_in_block(layer, interventions, [z])[z]

    def _written(self, layer: int, head: int, z: torch.Tensor) -> torch.Tensor:
        clean = self._clean[f"blocks.{layer}.z"][:, :, head]
        change = (z[:, :, head].double() - clean.double()) @ self._maps[layer][head]
        return change.to(clean.dtype)

    # -- nodes that receive as a whole ---------------------------------------------------------------------------

    def _responses(self, layer: int, receivers: list[Receiver]) -> dict[str, list[Receiver]]:
        """Return the receivers that receive as a whole, by where the stream enters them."""
        middle = f"blocks.{layer}.resid_mid"
        entries: dict[str, list[Receiver]] = {}
        for one in receivers:
            if one.is_response:
                is_mlp = self.wiring.node(one.nodes[0]).kind == "mlp"
                entry = middle if is_mlp and middle in set(self._clean) else f"blocks.{layer}.resid_pre"
                entries.setdefault(entry, []).append(one)
        return entries

    def _run_responses(
        self, entry: str, receivers: list[Receiver], kept: npt.NDArray[np.bool_], values: _Values
    ) -> None:
        """Find what nodes send in response to the streams that arrive at them."""
        keys = []
        for one in receivers:
            used = self._is_used(one.nodes[0], kept)
            keys.append(np.where(used[:, None], self._keys(one.name, kept, values), 0))
        distinct, rows = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
        streams = self._streams(entry, receivers[0].name, distinct, values)
        layer, sites = _layer_of(entry), base_names([one.site for one in receivers])
        answers = self._calls.captured_in_block(layer, [[Replace(entry, stream)] for stream in streams], sites)
        nothing = _row_of_zeros(distinct) if self._resampled else None
        for one, number in zip(receivers, rows.reshape(len(receivers), -1), strict=True):
            site = base_names([one.site])[0]
            node = self.wiring.node(one.nodes[0])
            for answer in answers[site]:
                values.known[node.name].append(self._responded(node, site, answer))
            values.which[node.name] = np.where(number == nothing, 0, number + 1)

    def _responded(self, node: Node, site: str, answer: torch.Tensor) -> torch.Tensor:
        if node.kind == "head":
            return self._written(_layer_of(site), _head_of(node.site), answer)
        clean = self._clean[site]
        return (answer.double() - clean.double()).to(clean.dtype)


@dataclass(frozen=True)
class _Group:
    """Heads that share keys and values, and where they receive."""

    heads: tuple[str, ...]
    receivers: tuple[Receiver, ...]


def _groups(channels: Sequence[Receiver]) -> list[_Group]:
    """Return the heads of a block by the keys they share.

    Examples
    --------
    >>> q = [Receiver(f"a0.h{h}<q>", f"blocks.0.q[head={h}]", (f"a0.h{h}",), False) for h in range(2)]
    >>> kv = [Receiver(f"a0.kv0<{c}>", f"blocks.0.{c}[head=0]", ("a0.h0", "a0.h1"), False) for c in "kv"]
    >>> [(group.heads, len(group.receivers)) for group in _groups([*q, *kv])]
    [(('a0.h0', 'a0.h1'), 4)]
    """
    members = max((one.nodes for one in channels), key=len)
    owners = [one.nodes for one in channels if len(one.nodes) == len(members)]
    return [
        _Group(heads, tuple(one for one in channels if set(one.nodes) <= set(heads))) for heads in dict.fromkeys(owners)
    ]


def _layers(receivers: Sequence[Receiver]) -> dict[int, list[Receiver]]:
    layers: dict[int, list[Receiver]] = {}
    for one in receivers:
        layers.setdefault(_layer_of(one.site), []).append(one)
    return layers


def _layer_of(site: str) -> int:
    return int(site.split(".")[1])


def _head_of(site: str) -> int:
    return int(site[site.index("head=") + len("head=") : -1])


def _row_of_zeros(keys: Numbers) -> int:
    """Return which row holds nothing but ablated values; -1 where none does."""
    rows = np.flatnonzero(~keys.any(1))
    return int(rows[0]) if len(rows) else -1
