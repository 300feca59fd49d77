"""Verify gradient estimates: measure some edges exactly, and flag those whose estimate is of another magnitude."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from neuros_mechint.causal.paths.effects import edge_name
from neuros_mechint.causal.paths.measuring import Edge, EdgeMeasurement, Pair

_SATURATION = 2.0
"""An estimate that is off by more than this factor is flagged."""
_NEGLIGIBLE = 0.05
"""Edges below this part of the largest verified effect are not worth a warning."""


class Found:
    """Edges with their effects, and what measuring some of them exactly has shown."""

    def __init__(self, edges: list[Edge]) -> None:
        self.edges = edges
        self.totals: torch.Tensor | None = None
        self.exact: dict[Pair, torch.Tensor] | None = None

    def saturated(self) -> list[Edge]:
        """Return the verified edges whose estimate is of another magnitude or sign."""
        exact = self.exact or {}
        verified = [(edge, float(exact[pair].mean())) for edge in self.edges if (pair := _pair(edge)) in exact]
        largest = max((max(abs(truth), abs(_mean(edge))) for edge, truth in verified), default=0.0)
        return [edge for edge, truth in verified if _disagree(_mean(edge), truth, _NEGLIGIBLE * largest)]

    def variables(self, units: Mapping[str, str]) -> dict[str, Any]:
        """Return what verification adds to the data."""
        if self.exact is None:
            return {}
        exact = torch.stack(
            [
                self.exact.get(_pair(edge), torch.full_like(edge.effect, torch.nan)).to(edge.effect)
                for edge in self.edges
            ]
        ).numpy()
        flagged = {_pair(edge) for edge in self.saturated()}
        label = {**units, "long_name": "measured effect of the edge"}
        return {
            "exact": ("edge", exact.mean(1), label),
            "exact_per_sample": (("edge", "sample"), exact, label),
            "saturated": ("edge", [_pair(edge) in flagged for edge in self.edges], {"long_name": "estimate is off"}),
        }

    def warnings(self) -> tuple[str, ...]:
        """Return what the reader must know before believing the estimates."""
        exact, flagged = self.exact or {}, self.saturated()
        if not flagged:
            return ()
        worst = max(flagged, key=lambda edge: abs(float(exact[_pair(edge)].mean()) - _mean(edge)))
        truth = float(exact[_pair(worst)].mean())
        return (
            f"saturation: {len(flagged)} of {len(exact)} verified edges have an effect that differs more than "
            f"{_SATURATION:g}-fold from the gradient's estimate, {edge_name(*_pair(worst))} most: "
            f"{_mean(worst):.3g} estimated, {truth:.3g} measured. Use method='exact' for these magnitudes.",
        )


def _pair(edge: Edge) -> Pair:
    return edge.sender, edge.receiver


def _mean(edge: Edge) -> float:
    return float(edge.effect.mean())


def _disagree(estimate: float, truth: float, negligible: float) -> bool:
    small, large = sorted((abs(estimate), abs(truth)))
    return large > negligible and (large > _SATURATION * small or estimate * truth < 0)


def verify_edges(found: Found, measurement: EdgeMeasurement, n_edges: int, whole: bool) -> None:
    """Measure the edges that look large, and those that could hide what the estimates leave unexplained.

    A saturated edge looks small, so the largest estimates alone would never show it. But then the effect of its
    sender as a whole exceeds the sum of the estimates. That gap is shared out among the sender's edges by how far
    each moves its receiver.
    """
    candidates = [edge for edge in found.edges if edge.change > 0]  # edges into the output are measured already
    if not n_edges or not candidates:
        return
    found.totals = measurement.totals()
    priority = {_pair(edge): abs(_mean(edge)) for edge in candidates}
    for node, total in zip(measurement.senders, found.totals.mean(1).tolist(), strict=True):
        own = [edge for edge in found.edges if edge.sender == node.name]
        gap = abs(total - sum(_mean(edge) for edge in own)) if whole else 0.0
        moved = {_pair(edge): edge.change for edge in own if edge.change > 0}
        for pair, change in moved.items():
            priority[pair] += gap * change / sum(moved.values())
    chosen = sorted(priority, key=lambda pair: -priority[pair])[:n_edges]
    found.exact = measurement.exactly(chosen)
