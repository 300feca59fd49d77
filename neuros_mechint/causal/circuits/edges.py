"""Sets of edges: which belong together, which lead nowhere, and random ones of the same size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neuros_mechint.causal.paths.effects import edge_name
from neuros_mechint.causal.paths.wiring import Wiring

Kept = npt.NDArray[np.bool_]
"""Which edges (or nodes) belong to a circuit, ``(n_edges,)``."""

_TRIES = 30


class EdgeSet:
    """All edges of a transformer, in order of execution.

    Parameters
    ----------
    wiring : Wiring
        With all its pairs known.

    Examples
    --------
    >>> from neuros_mechint.causal.paths.wiring import transformer_wiring
    >>> from neuros_mechint.core.sites import Site, SiteTable
    >>> parts = [f"blocks.0.{part}" for part in ("resid_pre", "attn_out", "mlp_out", "resid_post")]
    >>> edges = EdgeSet(transformer_wiring(SiteTable([Site(name, name) for name in parts])))
    >>> edges.names
    ['input->a0', 'input->m0', 'input->logits', 'a0->logits', 'm0->logits']
    >>> edges.connected(np.array([True, True, False, True, False])).tolist()  # m0 is not read
    [True, False, False, True, False]
    """

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.receivers = [*(receiver.name for receiver in wiring.receivers), wiring.output]
        self.pairs = [
            (node.name, receiver)
            for receiver in self.receivers
            for node in wiring.nodes
            if (node.name, receiver) in wiring.pairs
        ]
        self.names = [edge_name(*pair) for pair in self.pairs]
        self.into: dict[str, list[int]] = {receiver: [] for receiver in self.receivers}
        self.out_of: dict[str, list[int]] = {node.name: [] for node in wiring.nodes}
        for index, (sender, receiver) in enumerate(self.pairs):
            self.into[receiver].append(index)
            self.out_of[sender].append(index)
        self.owners = {receiver.name: receiver.nodes for receiver in wiring.receivers}
        """The nodes that a receiver belongs to."""
        self.reception: dict[str, list[int]] = {node.name: [] for node in wiring.nodes}
        """The edges into each node, through any of its receivers."""
        for receiver, owners in self.owners.items():
            for owner in owners:
                self.reception[owner] += self.into[receiver]

    def connected(self, kept: Kept) -> Kept:
        """Return the edges among ``kept`` that lie on a path of kept edges from the input to the output."""
        assert self.wiring.input is not None
        found = np.zeros_like(kept)
        reached = {self.wiring.input.name}
        for receiver in self.receivers:
            alive = [edge for edge in self.into[receiver] if kept[edge] and self.pairs[edge][0] in reached]
            found[alive] = True
            if alive:
                reached |= set(self.owners.get(receiver, ()))
        wanted = {self.wiring.output}
        for receiver in reversed(self.receivers):
            if receiver in wanted or wanted & set(self.owners.get(receiver, ())):
                wanted |= {self.pairs[edge][0] for edge in self.into[receiver] if found[edge]}
            else:
                found[self.into[receiver]] = False
        return found

    def greedy(self, score: npt.NDArray[np.float64], n_edges: int, least: float) -> Kept:
        """Return up to ``n_edges`` edges that reach ``least``, grown backwards: always the largest one next."""
        kept = np.zeros(len(self.pairs), dtype=bool)
        open_to = set(self.into[self.wiring.output])
        for _ in range(n_edges):
            if not open_to:
                break
            best = max(open_to, key=lambda edge: (score[edge], -edge))
            if score[best] < least:
                break
            kept[best] = True
            open_to |= set(self.reception[self.pairs[best][0]])
            open_to -= set(np.flatnonzero(kept).tolist())
        return kept

    def random(self, n_edges: int, random: np.random.Generator) -> Kept:
        """Return a random circuit of ``n_edges`` edges, each on a path from the input to the output.

        Random paths are joined: from the output back to the input, each step along an edge drawn evenly. Paths that
        would make the circuit too large are drawn anew; what is still missing then comes edge by edge.
        """
        best = np.zeros(len(self.pairs), dtype=bool)
        for _ in range(_TRIES):
            kept = self._joined_paths(n_edges, random)
            if kept.sum() >= best.sum():
                best = kept
            if best.sum() == n_edges:
                break
        return best

    def _joined_paths(self, n_edges: int, random: np.random.Generator) -> Kept:
        """Return a random circuit of at most ``n_edges`` edges: fewer where no single edge extends it."""
        kept = np.zeros(len(self.pairs), dtype=bool)
        failed = 0
        while kept.sum() < n_edges and failed < _TRIES:
            larger = kept.copy()
            larger[self._random_path(random)] = True
            if kept.sum() < larger.sum() <= n_edges:
                kept = larger
            else:
                failed += 1
        while kept.sum() < n_edges and len(possible := self._extensions(kept)):
            kept[random.choice(possible)] = True
        return kept

    def _random_path(self, random: np.random.Generator) -> list[int]:
        assert self.wiring.input is not None
        path = [int(random.choice(self.into[self.wiring.output]))]
        while (sender := self.pairs[path[-1]][0]) != self.wiring.input.name:
            path.append(int(random.choice(self.reception[sender])))
        return path

    def _extensions(self, kept: Kept) -> list[int]:
        """Return the edges each of which alone extends a connected circuit to a larger connected one."""
        assert self.wiring.input is not None
        reached = {self.wiring.input.name, *(self.pairs[edge][0] for edge in np.flatnonzero(kept))}
        return [
            edge
            for edge, (sender, receiver) in enumerate(self.pairs)
            if not kept[edge]
            and sender in reached
            and (receiver == self.wiring.output or reached & set(self.owners[receiver]))
        ]

    def nodes(self, kept: Kept) -> list[str]:
        """Return the nodes that send along kept edges."""
        senders = {self.pairs[edge][0] for edge in np.flatnonzero(kept)}
        return [node.name for node in self.wiring.nodes if node.name in senders]


def largest_first(scores: npt.NDArray[np.float64], random: np.random.Generator) -> Sequence[int]:
    """Return indices by the size of their score, largest first; ties in random order.

    Examples
    --------
    >>> largest_first(np.array([0.1, -3.0, 2.0]), np.random.default_rng(0))
    [1, 2, 0]
    """
    shuffled = random.permutation(len(scores))
    return [int(shuffled[at]) for at in np.argsort(-np.abs(scores[shuffled]), kind="stable")]
