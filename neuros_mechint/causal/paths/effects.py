"""Effects of edges as a result: how much each connection between two parts of a model carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neuros_mechint.causal.partners import difference_between
from neuros_mechint.causal.paths.graph import CausalGraph, graph_of
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.plotting import heat_map
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import bootstrap_ci

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EDGES_AT_ONCE = 1000
_MOST_NAMED = 8


class EdgeEffects(Result):
    """Effect of every edge: the metric of the clean run minus that without what passes along the edge.

    ``data`` holds, over ``(edge,)`` with the names of ``sender`` and ``receiver``: ``effect``; ``change``, how far
    the receiver's value moves relative to its size, from 0 (nothing arrives, and the effect is exactly 0) to 1; and,
    after a gradient method, ``exact``, the measured effect of those edges that were verified, and ``saturated``, where
    it differs from the estimate more than twofold. ``per_sample`` is over ``(edge, sample)``, as is
    ``exact_per_sample``, NaN for edges that were not verified; ``clean`` and ``corrupted`` are over ``(sample,)``,
    ``total`` over ``(node,)``: the effect of changing what a node sends to everyone.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean effect of each edge, ``(edge,)``: as measured where it was measured, else as estimated."""
        if "exact" not in self.data:
            return self.data["effect"]
        best = self.data["exact"].fillna(self.data["effect"])
        return best.rename("effect").assign_attrs(self.data["effect"].attrs)

    @property
    def saturated(self) -> list[str]:
        """Names of the verified edges whose gradient estimate is off more than twofold."""
        if "saturated" not in self.data:
            return []
        return [str(name) for name in self.data["edge"].values[self.data["saturated"].values]]

    def effect(self, sender: str, receiver: str) -> float:
        """Return the mean effect of one edge; 0 where the two do not communicate.

        Raises
        ------
        InputError
            No such sender or receiver.
        """
        for role, name in (("sender", sender), ("receiver", receiver)):
            known = self.attributes[f"{role}s"]
            if name not in known:
                raise InputError(f"no {role} {name!r}", expected="one of " + ", ".join(known))
        label = edge_name(sender, receiver)
        return float(self.values.sel(edge=label)) if label in self.data["edge"].values else 0.0

    def interval(self, level: float = 0.95, n_resamples: int = 2000, seed: SeedLike = 0) -> xr.Dataset:
        """Return ``low`` and ``high`` of each edge's effect in `values`: bootstrap over samples.

        Raises
        ------
        InputError
            Fewer than two samples.
        """
        rows = self.data["per_sample"].values
        if "exact_per_sample" in self.data:
            measured = self.data["exact_per_sample"].values
            rows = np.where(np.isnan(measured), rows, measured)
        seed = int(np.random.default_rng(seed).integers(2**31)) if isinstance(seed, np.random.Generator) else seed
        parts = [
            bootstrap_ci(rows[start : start + _EDGES_AT_ONCE], level, n_resamples, seed)
            for start in range(0, len(rows), _EDGES_AT_ONCE)
        ]
        low, high = (np.concatenate(bound) for bound in zip(*parts, strict=True))
        attributes = self.data["effect"].attrs
        bounds = {"low": ("edge", low, attributes), "high": ("edge", high, attributes)}
        return xr.Dataset(bounds, coords=self.data["effect"].coords)

    def normalized(self) -> xr.DataArray:
        """Return effects as fractions of the difference between the clean and the corrupted run.

        Raises
        ------
        InputError
            There is no corrupted run, or it hardly differs.
        """
        if "corrupted" not in self.data:
            raise InputError("there is no corrupted run to compare with", fix="read `.values`")
        clean, corrupted = float(self.data["clean"].mean()), float(self.data["corrupted"].mean())
        return (self.values / difference_between(clean, corrupted)).assign_attrs(
            units="fraction of the difference", long_name="effect"
        )

    def graph(self, top: int | None = None, minimum: float = 0.0) -> CausalGraph:
        """Return the edges along which something passes as a graph.

        Parameters
        ----------
        top : int, optional
            Only so many edges with the largest effects, of either sign.
        minimum : float
            Leave out edges whose effect is smaller, whatever its sign.

        Returns
        -------
        CausalGraph
        """
        effects = self.values
        strength = np.abs(effects.values)
        order = np.argsort(-strength, kind="stable")
        order = [int(one) for one in order if strength[one] >= minimum and self.data["change"].values[one] != 0]
        kept = sorted(order[:top])
        extra = [name for name in ("exact", "saturated") if name in self.data]
        edges = {
            (str(effects["sender"].values[one]), str(effects["receiver"].values[one])): {
                "effect": float(effects.values[one]),
                **{name: self.data[name].values[one].item() for name in extra},
            }
            for one in kept
        }
        return graph_of(edges, self.attributes["nodes"], self.attributes["parts"], self._units)

    @property
    def _units(self) -> str:
        return str(self.data["effect"].attrs.get("units", ""))

    def _table(self) -> xr.DataArray:
        """Return effects as a matrix, sender by receiver, NaN where there is no edge."""
        effects = self.values
        senders, receivers = self.attributes["senders"], self.attributes["receivers"]
        matrix = np.full((len(senders), len(receivers)), np.nan)
        rows, columns = ({name: at for at, name in enumerate(names)} for names in (senders, receivers))
        for sender, receiver, value in zip(
            effects["sender"].values, effects["receiver"].values, effects.values, strict=True
        ):
            matrix[rows[str(sender)], columns[str(receiver)]] = value
        attributes = {"long_name": "effect of the edge", "units": self._units}
        return xr.DataArray(
            matrix, {"sender": senders, "receiver": receivers}, ("sender", "receiver"), "effect", attributes
        )

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the matrix of effects."""
        n_senders, n_receivers = len(self.attributes["senders"]), len(self.attributes["receivers"])
        return float(np.clip(3 + 0.22 * n_receivers, 5, 12)), float(np.clip(1.6 + 0.24 * n_senders, 2.6, 9))

    def _draw(self, ax: Axes) -> None:
        heat_map(self._table(), ax)

    def _summary_lines(self) -> list[str]:
        """Return the largest effects, and what was verified."""
        effects, clean = self.values, float(self.data["clean"].mean())
        lines = [f"metric of the clean run: {clean:.4g} {self._units}".rstrip()]
        if "corrupted" in self.data:
            lines.append(f"metric of the corrupted run: {float(self.data['corrupted'].mean()):.4g}")
        lines.append(f"largest of {effects.size} effects (clean minus without the edge):")
        for one in np.argsort(-np.abs(effects.values))[:_MOST_NAMED]:
            lines.append(f"  {effects['edge'].values[one]}: {float(effects.values[one]):+.4g}")
        return lines


def edge_name(sender: str, receiver: str) -> str:
    """Return the name of an edge.

    Examples
    --------
    >>> edge_name("a0.h0", "a1.h0<k>")
    'a0.h0->a1.h0<k>'
    """
    return f"{sender}->{receiver}"
