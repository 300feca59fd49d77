"""The verdict on a circuit, with its reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.core.figures.colours import MUTED_INK, PALETTE
from neuros_mechint.core.figures.plotting import axis_label
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST = 0.5
"""A circuit that restores, or whose loss takes away, less than this part of the behaviour is not accepted."""


ONE_VALUE = "there is one value for all samples, so that a behaviour cannot be told from chance"


class Faithfulness(Result):
    """How well a circuit does the task of the whole model, against random circuits of the same size.

    ``data`` holds ``faithfulness`` over ``(fraction,)``, the curve of the best edges, and how many ``n_edges`` they
    are; ``random_sufficiency`` and ``random_necessity`` over ``(random,)``; ``low`` and ``high``, the bootstrap
    interval over samples, over ``(measure,)``; ``per_sample``, the metric of the whole model, the empty circuit, this
    circuit, and all but this circuit, over ``(run, sample)``.
    """

    @property
    def accepted(self) -> bool:
        """Whether the circuit stands on these inputs; ``warnings`` give the reasons where it does not."""
        return bool(self.attributes["accepted"])

    @property
    def sufficiency(self) -> float:
        """Part of the behaviour that the circuit restores on its own: its faithfulness."""
        return float(self.attributes["sufficiency"])

    @property
    def necessity(self) -> float:
        """Part of the behaviour that is lost when the circuit's edges alone are ablated."""
        return float(self.attributes["necessity"])

    @property
    def p(self) -> float:
        """How often a random circuit of this size is at least as sufficient and necessary: ``(b + 1) / (n + 1)``."""
        return float(self.attributes["p"])

    @property
    def n_as_good(self) -> int:
        """How many random circuits of this size are at least as sufficient and necessary."""
        return round(self.p * (self.attributes["n_null"] + 1)) - 1

    @property
    def cpr(self) -> float:
        """Area under the curve of faithfulness over the fraction of edges (circuit performance ratio)."""
        return float(self.attributes["cpr"])

    @property
    def cmd(self) -> float:
        """Area between that curve and 1 (circuit-model distance)."""
        return float(self.attributes["cmd"])

    def _draw(self, ax: Axes) -> None:
        curve, total = self.data["faithfulness"], self.attributes["n_total"]
        ax.plot(curve["fraction"], curve, color=PALETTE[0], marker="o", label=f"best {self.attributes['level']}s")
        place = self.attributes["n_kept"] / total
        random = self.data["random_sufficiency"].values
        ax.plot(np.full(random.size, place), random, "_", color=MUTED_INK, alpha=0.6, label="random, same size")
        ax.plot(place, self.sufficiency, "D", color=PALETTE[1], label="this circuit", markersize=7)
        for level in (0, 1):
            ax.axhline(level, color=MUTED_INK, linewidth=0.8, linestyle="--" if level else "-")
        ax.set_xscale("log")
        ax.set_xlabel(axis_label(curve["fraction"]))
        ax.set_ylabel(axis_label(curve))
        ax.grid(axis="y")
        ax.legend()
        ax.set_title(self.title + (": accepted" if self.accepted else ": rejected"))

    def _summary_lines(self) -> Iterator[str]:
        found, (low, high) = self.attributes, (self.data[name].values for name in ("low", "high"))
        yield f"verdict: {'accepted' if self.accepted else 'rejected'} on {found['n_samples']} samples"
        for at, name in enumerate(("sufficiency", "necessity")):
            yield f"{name} {found[name]:.3f} [{low[at]:.3f}, {high[at]:.3f}], p = {found[f'p_{name}']:.3g}"
        yield (
            f"both, against {found['n_null']} random circuits of {found['n_kept']} of {found['n_total']} "
            f"{found['level']}s, of which {self.n_as_good or 'none'} did as well: p = {self.p:.3g}"
        )
        yield (
            f"CPR {self.cpr:.3f}, CMD {self.cmd:.3f}; over distinct sizes only: CPR {found['cpr_unique']:.3f}, "
            f"CMD {found['cmd_unique']:.3f}"
        )


def reasons_to_reject(
    found: Mapping[str, float], discovery: Mapping[str, Any], n_shared: int, n_samples: int, alpha: float
) -> list[str]:
    """Return what speaks against a circuit; nothing where it is accepted."""
    reasons = list(_no_behaviour(found, discovery, alpha)) if n_samples > 1 else [ONE_VALUE]
    if n_shared == n_samples:
        reasons.append("it was judged on nothing but samples it was found on")
    return [*reasons, *_no_circuit(found, alpha)]


def _no_behaviour(found: Mapping[str, float], discovery: Mapping[str, Any], alpha: float) -> Iterator[str]:
    difference, before = found["full"] - found["empty"], discovery["full"] - discovery["empty"]
    for where, by, p in (("here", difference, found["p_behaviour"]), ("where it was found", before, discovery["p"])):
        if p > alpha:
            yield (
                f"there is no behaviour to explain {where}: the metric of the whole model and the empty circuit differ "
                f"by {by:.3g} (p = {p:.2g} over the samples)"
            )
    if difference * before < 0:
        yield f"the metric differs by {difference:.3g} here and by {before:.3g} on the inputs it was found on"


def _no_circuit(found: Mapping[str, float], alpha: float) -> Iterator[str]:
    if not found["n_kept"]:
        yield "it is empty"
    if found["p"] > alpha:
        yield f"random circuits of its size are as good (p = {found['p']:.2g})"
    for name in ("sufficiency", "necessity"):
        if found[name] < _LEAST:
            yield f"its {name} is only {found[name]:.2g}"
    if found["sufficiency"] > 2 - _LEAST:
        yield f"it overshoots: its sufficiency is {found['sufficiency']:.2g}"
