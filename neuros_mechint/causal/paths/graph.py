"""CausalGraph: effects of edges as a networkx graph, drawn and exported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.json_text import parse_json
from neuros_mechint.core.result_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FORMAT = "neuros-mechint causal graph 1"
_MOST_DRAWN = 40
_WIDEST = 4.5


class CausalGraph:
    """Parts of a model and the effects of the edges between them.

    Parameters
    ----------
    graph : networkx.DiGraph
        Edges from the outputs of nodes to receivers carry ``effect``; where a head receives queries, keys and values
        separately, these are nodes of their own (``a1.h0<k>``), joined to the head by edges without an effect and
        with ``kind="within"``, so that every path in the graph is a path in the model. Nodes carry ``kind`` and
        ``depth``.

    Raises
    ------
    InputError
        No directed graph.

    Examples
    --------
    >>> graph = nx.DiGraph()
    >>> graph.add_edge("input", "logits", kind="effect", effect=0.5)
    >>> CausalGraph(graph)
    <CausalGraph: 2 nodes, 1 edge with an effect>
    """

    def __init__(self, graph: nx.DiGraph) -> None:
        if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
            raise InputError("this is no directed graph", expected="a networkx.DiGraph", got=type(graph).__name__)
        self.graph = graph

    def __repr__(self) -> str:
        n_edges = len(self.effects)
        plural = "edges" if n_edges != 1 else "edge"
        return f"<CausalGraph: {self.graph.number_of_nodes()} nodes, {n_edges} {plural} with an effect>"

    @property
    def effects(self) -> dict[tuple[str, str], float]:
        """Effect by sender and receiver."""
        return {(u, v): float(data["effect"]) for u, v, data in self.graph.edges(data=True) if "effect" in data}

    def paths(self, source: str = "input", target: str = "logits") -> list[list[str]]:
        """Return all directed paths between two nodes.

        Raises
        ------
        InputError
            A node that is not in the graph.

        Examples
        --------
        >>> CausalGraph(nx.DiGraph([("input", "m0"), ("m0", "logits")])).paths()
        [['input', 'm0', 'logits']]
        """
        for name in (source, target):
            if name not in self.graph:
                raise InputError(f"no node {name!r} in this graph", expected=", ".join(map(str, self.graph)))
        return [list(path) for path in nx.all_simple_paths(self.graph, source, target)]

    def to_graphml(self, path: str | Path) -> Path:
        """Write the graph as GraphML, which Gephi, Cytoscape and yEd read.

        Parameters
        ----------
        path : str or pathlib.Path
            An existing file is replaced in one step.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        path = Path(path)
        write_atomically(path, lambda temporary: nx.write_graphml(self.graph, temporary))
        return path

    def to_json(self, path: str | Path) -> Path:
        """Write the graph as JSON: lists of nodes and edges with their attributes.

        Parameters
        ----------
        path : str or pathlib.Path
            An existing file is replaced in one step.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        path = Path(path)
        content = {"format": _FORMAT, **nx.node_link_data(self.graph, edges="edges")}
        text = json.dumps(content, indent=1, allow_nan=False)
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        return path

    @classmethod
    def from_json(cls, path: str | Path) -> CausalGraph:
        """Read what `to_json` wrote.

        Raises
        ------
        StorageError
            No such file, or no causal graph.

        Examples
        --------
        >>> import tempfile
        >>> graph = CausalGraph(nx.DiGraph([("input", "logits")]))
        >>> CausalGraph.from_json(graph.to_json(Path(tempfile.mkdtemp()) / "graph.json")).paths()
        [['input', 'logits']]
        """
        try:
            content = parse_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot read {path}", got=error, fix="pass the path that to_json returned") from error
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise StorageError(f"{path} holds no causal graph", expected=f'"format": "{_FORMAT}"')
        return cls(nx.node_link_graph(content, edges="edges"))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the nodes by depth, input at the bottom, and the strongest edges; width shows size, dashes a minus.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; without it a new figure is made.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from neuros_mechint.core.figures.style import drawing

        edges = self._drawn_edges()
        places = _places(self.graph, [name for edge in edges for name in edge[:2]])
        levels = {y for _, y in places.values()}
        with drawing(ax, (6.6, float(np.clip(1.2 + 0.9 * len(levels), 2.4, 9)))) as axes:
            _draw_edges(axes, edges, places)
            _draw_nodes(axes, places)
            hidden = len(self.effects) - _MOST_DRAWN
            if hidden > 0:
                axes.text(1, 1, f"{hidden} weaker edges not drawn", transform=axes.transAxes, ha="right", fontsize=8)
            if not axes.get_title(loc="left"):
                units = self.graph.graph.get("units")
                axes.set_title("Effects of edges" + (f" ({units})" if units else ""))
        return axes

    def _drawn_edges(self) -> list[tuple[str, str, str, float]]:
        """Return ``(sender, node, channel, effect)`` of the strongest edges, weakest first."""
        strongest = sorted(self.effects.items(), key=lambda item: -abs(item[1]))[:_MOST_DRAWN]
        edges: list[tuple[str, str, str, float]] = []
        for (sender, receiver), effect in reversed(strongest):
            owners = [v for _, v, data in self.graph.out_edges(receiver, data=True) if data.get("kind") == "within"]
            channel = str(self.graph.nodes[receiver].get("kind", "")) if owners else ""
            edges += [(sender, owner, channel, effect) for owner in owners or [receiver]]
        return edges


def graph_of(
    edges: Mapping[tuple[str, str], Mapping[str, Any]],
    nodes: Mapping[str, Mapping[str, Any]],
    parts: Mapping[str, Sequence[str]],
    units: str,
) -> CausalGraph:
    """Build the graph of some edges.

    Parameters
    ----------
    edges : mapping of (sender, receiver) to attributes
        Each with ``effect``; NaN attributes are left out.
    nodes : mapping of str to attributes
        ``kind`` and ``depth`` of each node.
    parts : mapping of str to sequence of str
        Receivers that are parts of nodes, and these nodes.
    units : str
        Of the effects.

    Examples
    --------
    >>> nodes = {"input": {"kind": "input", "depth": 0}, "a0.h0": {"kind": "head", "depth": 1}}
    >>> graph = graph_of({("input", "a0.h0<k>"): {"effect": 1.0}}, nodes, {"a0.h0<k>": ["a0.h0"]}, "nats")
    >>> graph.paths("input", "a0.h0")
    [['input', 'a0.h0<k>', 'a0.h0']]
    """
    graph = nx.DiGraph(units=units)
    used = {name for edge in edges for name in edge}
    used |= {owner for receiver in used for owner in parts.get(receiver, ())}
    for name, attributes in nodes.items():
        if name in used:
            graph.add_node(name, **_known(attributes))
    for receiver, owners in parts.items():
        if receiver in used:
            graph.add_node(receiver, kind=receiver[receiver.index("<") + 1 : -1], **_known(nodes[owners[0]], "depth"))
            graph.add_edges_from([(receiver, owner) for owner in owners], kind="within")
    for (sender, receiver), attributes in edges.items():
        graph.add_edge(sender, receiver, kind="effect", **_known(attributes))
    return CausalGraph(graph)


def _known(attributes: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return attributes without those that are missing: neither GraphML nor JSON has a word for them."""
    chosen = names or tuple(attributes)
    return {
        name: attributes[name]
        for name in chosen
        if attributes[name] is not None and attributes[name] == attributes[name]
    }


def _places(graph: nx.DiGraph, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return where each node is drawn: in rows by depth, evenly spread."""
    drawn = [name for name in graph if name in set(names)]
    depth: dict[str, int] = {name: graph.nodes[name]["depth"] for name in drawn if "depth" in graph.nodes[name]}
    if len(depth) < len(drawn):
        depth = _generations(graph)
    # MLPs in a column of their own, out of the way of edges that skip them
    aside = {name for name in drawn if graph.nodes[name].get("kind") == "mlp"}
    width = 0.85 if aside else 1.0
    rows = sorted({depth[name] for name in drawn})
    places: dict[str, tuple[float, float]] = {}
    for y, level in enumerate(rows):
        row = [name for name in drawn if depth[name] == level and name not in aside]
        places |= {name: (0.92, float(y)) for name in aside if depth[name] == level}
        for at, name in enumerate(row):
            places[name] = (width * (at + 1) / (len(row) + 1), float(y))
    return places


def _generations(graph: nx.DiGraph) -> dict[str, int]:
    """Return how many edges the longest path to each node has; in a graph with loops, the shortest from anywhere."""
    if nx.is_directed_acyclic_graph(graph):
        return {name: level for level, names in enumerate(nx.topological_generations(graph)) for name in names}
    condensed = nx.condensation(graph)
    members = enumerate(nx.topological_generations(condensed))
    return {name: level for level, groups in members for one in groups for name in condensed.nodes[one]["members"]}


def _draw_edges(
    ax: Axes, edges: Sequence[tuple[str, str, str, float]], places: Mapping[str, tuple[float, float]]
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyArrowPatch

    from neuros_mechint.core.figures.colours import MUTED_INK, PALETTE

    colours = {"": MUTED_INK, "q": PALETTE[0], "k": PALETTE[1], "v": PALETTE[2]}
    bend = {"": 0.05, "q": -0.16, "k": 0.0, "v": 0.16}
    widest = max((abs(effect) for *_, effect in edges), default=1.0) or 1.0
    for sender, receiver, channel, effect in edges:
        arrow = FancyArrowPatch(
            places[sender],
            places[receiver],
            arrowstyle="-|>,head_length=4,head_width=2",
            connectionstyle=f"arc3,rad={bend[channel] + 0.06 * (places[receiver][1] - places[sender][1] - 1)}",
            linewidth=max(0.4, _WIDEST * abs(effect) / widest),
            linestyle="-" if effect >= 0 else "--",
            color=colours.get(channel, MUTED_INK),
            alpha=0.85,
            shrinkA=13,
            shrinkB=13,
            zorder=1,
        )
        ax.add_patch(arrow)
    used = {channel for _, _, channel, _ in edges if channel}
    names = {"q": "into queries", "k": "into keys", "v": "into values"}
    lines = [Line2D([], [], color=colours[one], label=names[one]) for one in "qkv" if one in used]
    if lines:
        ax.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=3)


def _draw_nodes(ax: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    from neuros_mechint.core.figures.colours import INK

    for name, (x, y) in places.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": INK, "linewidth": 0.8}
        ax.text(x, y, name, ha="center", va="center", fontsize=9, bbox=box, zorder=2)
    top = max((y for _, y in places.values()), default=0.0)
    ax.set(xlim=(0, 1), ylim=(-0.5, top + 0.5))
    ax.set_axis_off()
