"""FeatureTree: features and their special cases, as a table, a networkx graph and a drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.axes import Axes

_OF_PAIR = ("probability", "p_adjusted")
_MOST_DRAWN = 40
_SMALLEST_SHOWN = 1e-16
_INCHES_PER_LEAF = 0.52


class FeatureTree(Result):
    """Which feature of an earlier prefix each feature of a later one is a special case of: a forest.

    ``data`` holds, over ``(parent, child)``, ``probability`` P(parent active | child active), its ``p`` under shuffled
    observations and ``p_adjusted`` (NaN where no pair was tested); ``null`` over ``(parent,)``, the mean probability
    under shuffles; ``parent_of`` over ``(child,)``, -1 for none; ``rate`` and ``prefix`` over ``(feature,)``.
    """

    def edges(self) -> pd.DataFrame:
        """Return the edges as a table, the best supported first.

        Returns
        -------
        pandas.DataFrame
            ``parent``, ``child``, ``probability`` P(parent | child), ``null`` (the same when shuffled),
            ``p_adjusted``, and ``reverse`` P(child | parent): near 1, the two are one feature twice and no hierarchy.
        """
        import pandas as pd

        chosen = self.data["parent_of"]
        child = self.data["child"].values[chosen.values >= 0]
        parent = chosen.values[chosen.values >= 0]
        at = {name: self.data[name].values[parent, child - self.data["child"].values[0]] for name in _OF_PAIR}
        null = self.data["null"].values[parent]
        table = pd.DataFrame({"parent": parent, "child": child, "probability": at["probability"], "null": null})
        table["p_adjusted"] = at["p_adjusted"]
        rate = self.data["rate"].values
        table["reverse"] = table["probability"] * rate[child] / rate[parent]
        order = np.argsort((table["null"] - table["probability"]).to_numpy(), kind="stable")
        return table.iloc[order].reset_index(drop=True)

    def to_networkx(self) -> nx.DiGraph:
        """Return the forest: every feature that is ever active a node, an edge from parent to child.

        Returns
        -------
        networkx.DiGraph
            Nodes are feature numbers with ``rate`` and ``prefix``; edges have ``probability``, ``null``,
            ``p_adjusted`` and ``reverse``, see `edges`.
        """
        import networkx as nx

        graph = nx.DiGraph()
        for feature in range(self.data.sizes["feature"]):
            rate = float(self.data["rate"].values[feature])
            if rate > 0:
                graph.add_node(feature, rate=rate, prefix=int(self.data["prefix"].values[feature]))
        for row in self.edges().to_dict("records"):
            parent, child = int(row.pop("parent")), int(row.pop("child"))
            graph.add_edge(parent, child, **{str(name): float(value) for name, value in row.items()})
        return graph

    def _drawn(self) -> tuple[nx.DiGraph, int]:
        """Return the best supported edges as a graph, and how many are left out."""
        table = self.edges()
        graph = self.to_networkx()
        kept = table.head(_MOST_DRAWN)
        return graph.edge_subgraph(list(zip(kept["parent"], kept["child"], strict=True))), len(table) - len(kept)

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        graph = self._drawn()[0]
        leaves = sum(1 for _, children in graph.out_degree() if not children)
        levels = len({graph.nodes[node]["prefix"] for node in graph})
        return round(float(np.clip(_INCHES_PER_LEAF * leaves + 0.8, 6.6, 18)), 1), 1.2 + 1.3 * max(levels, 1)

    def _draw(self, ax: Axes) -> None:
        graph, hidden = self._drawn()
        ax.set_xticks([])
        ax.spines[:].set_visible(False)
        if not graph:
            ax.set_yticks([])
            ax.text(0.5, 0.5, "no edge", ha="center", va="center", color=MUTED_INK, transform=ax.transAxes)
            return
        widths = sorted({int(graph.nodes[node]["prefix"]) for node in graph})
        across = _across(graph)
        places = {node: (across[node], -float(widths.index(graph.nodes[node]["prefix"]))) for node in graph}
        for parent, child, edge in graph.edges(data=True):
            (x0, y0), (x1, y1) = places[parent], places[child]
            ax.plot([x0, x1], [y0, y1], color=PALETTE[0], linewidth=1.2, alpha=0.6, zorder=1)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
            middle = (x0 + 2 * x1) / 3, (y0 + 2 * y1) / 3  # nearer to the child: labels of siblings stand apart
            label = f"{edge['probability']:.2f}"
            ax.text(*middle, label, fontsize=7.5, color=INK, ha="center", va="center", bbox=box, zorder=2)
        for node, (x, y) in places.items():
            box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": MUTED_INK, "linewidth": 0.8}
            ax.text(x, y, str(node), fontsize=9, color=INK, ha="center", va="center", bbox=box, zorder=3)
        ax.set_xlim(min(across.values()) - 0.6, max(across.values()) + 0.6)
        ax.set_ylim(-len(widths) + 0.65, 0.35)
        ax.set_yticks([-float(level) for level in range(len(widths))], [f"prefix {width}" for width in widths])
        ax.tick_params(axis="y", length=0)
        note = f"edges: P(parent | child); {hidden} weaker not drawn" if hidden else "edges: P(parent | child)"
        ax.set_xlabel(note, fontsize=8, color=MUTED_INK)

    def _summary_lines(self) -> list[str]:
        """Return the best supported edges."""
        table = self.edges()
        active = int((self.data["rate"] > 0).sum())
        lines = [
            f"{len(table)} edges between {active} active features, of {self.attributes['n_tests']} pairs tested "
            f"in {self.attributes['n_observations']} observations",
        ]
        for row in table.head(8).to_dict("records"):
            lines.append(
                f"  {row['parent']:.0f} -> {row['child']:.0f}: P(parent | child) = {row['probability']:.3f}, "
                f"shuffled {row['null']:.3f}, {_p_text(row['p_adjusted'])}"
            )
        return lines


def _p_text(p: float) -> str:
    return f"p = {p:.2g}" if p >= _SMALLEST_SHOWN else f"p < {_SMALLEST_SHOWN:g}"


def _across(graph: nx.DiGraph) -> dict[int, float]:
    """Return horizontal places: leaves side by side with a gap between trees, parents above the middle of theirs."""
    import networkx as nx

    across: dict[int, float] = {}
    position = 0.0
    for root in (node for node, above in graph.in_degree() if not above):
        for node in nx.dfs_postorder_nodes(graph, root):
            below = [across[child] for child in graph.successors(node)]
            across[node] = float(np.mean(below)) if below else position
            position += 0 if below else 1
        position += 0.5
    return across
