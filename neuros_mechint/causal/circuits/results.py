"""A circuit as a result: which edges or nodes it holds, how it was found, and on what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neuros_mechint.causal.circuits.edges import Kept
from neuros_mechint.causal.paths.graph import CausalGraph, graph_of
from neuros_mechint.core.errors import CapabilityError
from neuros_mechint.core.figures.colours import GRID, PALETTE
from neuros_mechint.core.figures.plotting import bars
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = 12


class Circuit(Result):
    """A part of a model that is claimed to do a task.

    ``data`` holds, over ``(edge,)`` with the names of ``sender`` and ``receiver``, or over ``(node,)``: ``score``, by
    which edges were chosen, and ``kept``, whether an edge belongs to the circuit. ``attributes["discovery"]`` tells
    on what it was found.
    """

    @property
    def level(self) -> str:
        """``"edge"``, or ``"node"`` where the model is cut at nodes only."""
        return str(self.attributes["level"])

    @property
    def scores(self) -> xr.DataArray:
        """Score of every edge or node of the model, in the circuit or not."""
        return self.data["score"]

    @property
    def kept(self) -> Kept:
        """Whether each edge or node belongs to the circuit."""
        return self.data["kept"].values

    @property
    def size(self) -> int:
        """Number of edges, or nodes, in the circuit."""
        return int(self.kept.sum())

    @property
    def names(self) -> list[str]:
        """Names of what the circuit is made of: edges or nodes."""
        return [str(name) for name in self.data[self.level].values[self.kept]]

    @property
    def edges(self) -> list[str]:
        """Names of the edges in the circuit; empty for a circuit of nodes."""
        return self.names if self.level == "edge" else []

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes that send something in the circuit."""
        if self.level == "node":
            return self.names
        senders = set(self.data["sender"].values[self.kept])
        return [name for name in self.attributes["nodes"] if name in senders]

    def graph(self) -> CausalGraph:
        """Return the edges of the circuit as a graph, with their scores as effects.

        Raises
        ------
        CapabilityError
            A circuit of nodes.
        """
        if self.level == "node":
            raise CapabilityError(
                "a circuit of nodes has no edges", fix="PathAnalyzer(...).edges(..., nodes=[...]).graph() shows them"
            )
        chosen = self.data.isel(edge=np.flatnonzero(self.kept))
        edges = {
            (str(sender), str(receiver)): {"effect": float(score)}
            for sender, receiver, score in zip(
                chosen["sender"].values, chosen["receiver"].values, chosen["score"].values, strict=True
            )
        }
        units = str(self.scores.attrs.get("units", ""))
        return graph_of(edges, self.attributes["nodes"], self.attributes["parts"], units)

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        if self.level == "node":
            return 6.6, 3.4
        depths = {self.attributes["nodes"][name]["depth"] for name in self.nodes}
        return 6.6, float(np.clip(2.1 + 0.9 * len(depths), 2.4, 9))

    def _draw(self, ax: Axes) -> None:
        if self.level == "edge":
            self.graph().plot(ax)
            ax.set_title(self.title)
            return
        for bar, kept in zip(bars(self.scores, ax), self.kept, strict=True):
            bar.set_color(PALETTE[0] if kept else GRID)

    def _summary_lines(self) -> Iterator[str]:
        discovery = self.attributes["discovery"]
        shown = self.names[:_MOST_NAMED]
        more = f" and {self.size - len(shown)} more" if self.size > len(shown) else ""
        yield f"{self.size} of {self.scores.size} {self.level}s: {', '.join(shown) or 'none'}{more}"
        difference = f"{discovery['full'] - discovery['empty']:.4g} {self.scores.attrs.get('units', '')}".rstrip()
        yield (
            f"found on {discovery['n_samples']} samples, on which it restores {discovery['faithfulness']:.1%} of the "
            f"difference of {difference}; not judged yet: use faithfulness() on others"
        )
