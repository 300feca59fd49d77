"""How often a swapped subspace made the counterfactual answer come true, beside controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.figures.colours import PALE
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import bootstrap_ci
from neuros_mechint.core.statistics.certainty import control_p

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CITATIONS = ("geiger2024das", "geiger2021", "makelov2024")
_COLOURS = {"learned": PALETTE[0]}
_MOST_SHARED = 0.01


class InterchangeAccuracy(Result):
    """Interchange intervention accuracy on held-out pairs.

    ``data`` holds ``accuracy`` over ``(swap,)`` with its bootstrap interval ``low`` and ``high`` and ``per_pair`` over
    ``(swap, pair)``, for the ``learned`` subspace, the ``whole site`` and ``no intervention``; ``random`` over
    ``(subspace,)``, the accuracy of random subspaces of the same dimension; and ``untrained`` over ``(network,)``, that
    of searches in networks with shuffled weights. ``attributes["p_random"]`` is the share of random subspaces that do
    as well, counting the learned one.
    """

    @property
    def accuracy(self) -> float:
        """Accuracy of the learned subspace."""
        return float(self.data["accuracy"].sel(swap="learned"))

    def _draw(self, ax: Axes) -> None:
        swaps = [str(name) for name in self.data["swap"].values]
        for rank, name in enumerate(swaps):
            row = self.data.sel(swap=name)
            height = float(row["accuracy"])
            error = [[height - float(row["low"])], [float(row["high"]) - height]]
            whiskers = {"ecolor": MUTED_INK, "lw": 1}
            ax.bar(rank, height, 0.6, color=_COLOURS.get(name, PALE), yerr=error, error_kw=whiskers)
        groups = [name for name in ("random", "untrained") if name in self.data]
        for rank, name in enumerate(groups, start=len(swaps)):
            values = self.data[name].values
            spread = np.linspace(-0.2, 0.2, values.size) if values.size > 1 else np.zeros(1)
            ax.scatter(rank + spread, values, s=14, color=PALETTE[1], alpha=0.7, linewidth=0)
        chance = self.attributes["chance"]
        ax.axhline(chance, color=MUTED_INK, linestyle=":", linewidth=1, label=f"chance {chance:.2g}")
        labels = {"random": "random\nsubspaces", "untrained": "shuffled\nweights"}
        names = [*(name.replace(" ", "\n") for name in swaps), *(labels[name] for name in groups)]
        ax.set_xticks(range(len(names)), names)
        ax.set_ylim(0, 1.05)
        ax.set_ylabel("interchange intervention accuracy")
        ax.grid(axis="y")
        ax.legend()

    def _summary_lines(self) -> list[str]:
        """Return the accuracy and that of the controls."""
        lines: list[str] = []
        for name in self.data["swap"].values:
            row = self.data.sel(swap=name)
            low, high = float(row["low"]), float(row["high"])
            lines.append(f"{name}: {float(row['accuracy']):.3f}, 95% interval [{low:.3f}, {high:.3f}]")
        random = self.data["random"].values
        lines.append(
            f"{random.size} random subspaces: {random.mean():.3f} on average, {random.max():.3f} at most, "
            f"p = {self.attributes['p_random']:.2g}"
        )
        if "untrained" in self.data:
            found = ", ".join(f"{value:.3f}" for value in self.data["untrained"].values)
            lines.append(f"searched in networks with shuffled weights: {found}")
        lines.append(f"chance (most frequent answer): {self.attributes['chance']:.3f}")
        return lines


def accuracy_result(
    per_pair: Mapping[str, np.ndarray],
    random: np.ndarray,
    untrained: np.ndarray,
    attributes: Mapping[str, Any],
    provenance: Provenance,
    seed: int,
) -> InterchangeAccuracy:
    """Return the result: right or wrong per pair for each swap, and the accuracies of the controls."""
    right = np.stack(list(per_pair.values()))
    low, high = bootstrap_ci(right, seed=seed)
    units = {"units": "fraction of pairs", "long_name": "interchange intervention accuracy"}
    variables: dict[str, Any] = {
        "accuracy": ("swap", right.mean(1), units),
        "low": ("swap", low, units),
        "high": ("swap", high, units),
        "per_pair": (("swap", "pair"), right, units),
        "random": ("subspace", random, units),
    }
    if untrained.size:
        variables["untrained"] = ("network", untrained, units)
    accuracy = float(right[0].mean())
    attributes = {**attributes, "p_random": float(control_p(np.array(accuracy), random))}
    data = xr.Dataset(variables, coords={"swap": list(per_pair)})
    title = f"Alignment with {attributes['n_dimensions']} dimensions of {attributes['site']}"
    warnings = _warnings(accuracy, float(low[0]), random, untrained, attributes)
    return InterchangeAccuracy(data, title, attributes, provenance, CITATIONS, warnings)


def _warnings(
    accuracy: float, low: float, random: np.ndarray, untrained: np.ndarray, attributes: Mapping[str, Any]
) -> tuple[str, ...]:
    chance, shared = attributes["chance"], attributes["pairs_seen_in_training"]
    texts = []
    if low <= chance:
        texts.append(f"no better than chance: {accuracy:.3g}, and the most frequent answer has {chance:.3g}")
    if random.max() >= accuracy:
        texts.append(f"random subspaces do as well ({random.max():.3g})")
    if untrained.size and untrained.max() >= low:
        texts.append(
            f"a search in a network with shuffled weights reaches {untrained.max():.3g}: the alignment may be the "
            "search's own work"
        )
    if shared >= _MOST_SHARED:
        texts.append(f"{shared:.0%} of these pairs were used for fitting: the accuracy is not held out")
    return tuple(texts)
