"""Diagrams of circuits: nodes or populations, who excites and who inhibits whom, and how strongly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.circuits.diagrams.drawing import COLOURS, draw_circuit, draw_key
from neuros_mechint.neuro.circuits.diagrams.layout import places
from neuros_mechint.neuro.circuits.wiring import EXCITATORY, INHIBITORY, MIXED, Wiring, as_wiring, one_of_each

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NODES = 24
_MOST_LINES = 12
_VERBS = {False: ("excites", "inhibits"), True: ("helps", "hinders")}


class CircuitDiagram(Result):
    """A circuit to be drawn: weights between nodes, or mean weights between populations.

    ``data`` holds ``weight`` over ``(target, source)``, and of each node (``target``) its ``population``, its ``kind``
    (excitatory, inhibitory or mixed) and ``n_units``, how many nodes of the circuit it stands for.
    """

    @property
    def weights(self) -> xr.DataArray:
        """Weights ``(target, source)``; zero where nothing is drawn."""
        return self.data["weight"]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 5.4

    def _draw(self, ax: Axes) -> None:
        weights = self.weights.values
        populations = [str(name) for name in self.data["population"].values]
        names = [str(name) for name in self.data["target"].values]
        if self.attributes["averaged"]:
            names = [f"{name} ({size})" for name, size in zip(names, self.data["n_units"].values, strict=True)]
        kinds = [str(kind) for kind in self.data["kind"].values]
        draw_circuit(ax, weights, places(weights, populations), names, kinds)
        shown = {EXCITATORY: (weights > 0).any(), INHIBITORY: (weights < 0).any(), MIXED: MIXED in kinds}
        more, less = _VERBS[self.attributes["effects"]]
        words = {EXCITATORY: more, INHIBITORY: less, MIXED: "both, or no targets"}
        quantity = "effect" if self.attributes["effects"] else str(self.weights.attrs["long_name"])
        draw_key(ax, weights, {kind: words[kind] for kind, there in shown.items() if there}, quantity)

    def _summary_lines(self) -> Iterator[str]:
        attributes, weights = self.attributes, self.weights.values
        kinds = self.data["kind"].values.tolist()
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in COLOURS if kind in kinds)
        what = "populations" if attributes["averaged"] else "nodes"
        left = f"; connections up to {attributes['threshold']:.3g} are not drawn" if attributes["threshold"] else ""
        counts = "" if attributes["effects"] else f" ({counts})"
        yield f"{len(kinds)} {what}{counts}, {int(np.count_nonzero(weights))} connections{left}"
        names = [str(name) for name in self.data["target"].values]
        more, less = _VERBS[attributes["effects"]]
        order = np.argsort(-np.abs(weights), axis=None)[:_MOST_LINES]
        for target, source in zip(*np.unravel_index(order, weights.shape), strict=True):
            weight = float(weights[target, source])
            if weight:
                does, to = more if weight > 0 else less, names[target]
                does = f"→ {to} {does}" if attributes["effects"] else f"{does} {to}"
                yield f"{names[source]} {does}: {weight:.3g}"


def circuit_diagram(
    connectivity: Any,
    populations: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    threshold: float = 0.0,
    title: str = "Circuit",
) -> CircuitDiagram:
    """Draw a circuit: arrows excite, bars inhibit, and width is strength.

    Of a graph of effects, such as a circuit discovered in a transformer, arrows are connections that help what the
    model was asked for, and bars those that hinder it.

    Parameters
    ----------
    connectivity : array_like, torch.Tensor, xarray.DataArray, networkx.DiGraph, or what holds one of these
        ``(target, source)``: the weights of a recurrent network, a fitted latent circuit, a circuit discovered in a
        transformer; see `neuros_mechint.neuro.circuits.wiring.as_wiring`.
    populations : sequence of str, optional
        Of each node. Nodes of a population are drawn side by side; with more than 24 nodes each population is one node
        of the diagram, and connections are means over all pairs. By default more than 24 nodes fall into those
        that excite, that inhibit, and that do both.
    names : sequence of str, optional
        Of each node.
    threshold : float
        Connections up to this strength are left out.
    title : str

    Returns
    -------
    CircuitDiagram

    Raises
    ------
    InputError
        No connectivity; populations or names that do not fit the nodes; or nothing left to draw.

    Examples
    --------
    >>> weights = np.array([[0.6, -1.1], [0.9, -0.5]])
    >>> print(circuit_diagram(weights, names=["E", "I"]).summary())
    Circuit
    2 nodes (1 excitatory, 1 inhibitory), 4 connections
    I inhibits E: -1.1
    E excites I: 0.9
    E excites E: 0.6
    I inhibits I: -0.5
    """
    threshold = number("threshold", threshold, 0, float("inf"), closed="left")
    wiring = as_wiring(connectivity, names)
    averaged = wiring.n_nodes > _MOST_NODES
    member = _members(wiring, populations)
    sizes = np.ones(wiring.n_nodes, dtype=np.int64)
    if averaged:
        wiring, sizes = _averaged(wiring, member)
        member = wiring.names
    weights = np.where(np.abs(wiring.weights) > threshold, wiring.weights, 0.0)
    if not weights.any():
        raise InputError(
            "there is no connection to draw",
            expected=f"weights beyond {threshold:.4g}",
            got=f"the strongest is {np.abs(wiring.weights).max():.4g}",
            fix="a lower threshold",
        )
    kinds = wiring._replace(weights=weights).kinds
    attributes = {"long_name": "mean weight" if averaged else "weight", "units": ""}
    data = xr.Dataset(
        {
            "weight": (("target", "source"), weights, attributes),
            "population": ("target", np.array(member, dtype=str)),
            "kind": ("target", np.array(kinds, dtype=str)),
            "n_units": ("target", sizes),
        },
        {"target": list(wiring.names), "source": list(wiring.names)},
    )
    return CircuitDiagram(
        data,
        title,
        attributes={"threshold": threshold, "averaged": averaged, "effects": wiring.effects},
        provenance=Provenance.record(arguments={"connectivity": wiring.weights, "threshold": threshold}),
    )


def _members(wiring: Wiring, populations: Sequence[str] | None) -> tuple[str, ...]:
    if populations is None:
        return wiring.kinds
    return one_of_each("populations", populations, wiring.n_nodes)


def _averaged(wiring: Wiring, member: Sequence[str]) -> tuple[Wiring, npt.NDArray[np.int64]]:
    """Return mean weights between populations, over all pairs of their nodes, and the sizes of populations."""
    names = list(dict.fromkeys(member))
    belongs: Floats = (np.array(member)[:, None] == np.array(names)).astype(np.float64)
    sizes = belongs.sum(0)
    means = belongs.T @ wiring.weights @ belongs / np.outer(sizes, sizes)
    return Wiring(means, tuple(names), wiring.effects), sizes.astype(np.int64)
