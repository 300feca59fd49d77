"""What `InformationFlowAnalyzer` shows: information by layer and time, and over training."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, SEQUENTIAL
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DARKER = 0.25
_INFINITE = "one is a linear function of the other, and tells infinitely much"
_NONE = {
    ("gaussian", "categories"): "categories have no correlations",
    ("noise", "numbers"): "it tells of categories, and of what decides the states, only",
}


class InformationFlow(Result):
    """How many nats each site tells of the inputs and of labels, by several estimators side by side.

    ``data`` holds over ``about``, ``estimator``, ``site`` and ``time`` the ``information`` with its ``error`` and, of
    shuffled samples, ``null`` and ``p``; NaN where an estimator has no answer. A description: estimators of
    deterministic networks say how finely they look.
    """

    def _draw(self, ax: Axes) -> None:
        about = str(self.data["about"].values[-1])
        found = self.data.sel(about=about)
        sites = [str(site) for site in found["site"].values]
        for colour, estimator in zip(PALETTE, found["estimator"].values, strict=False):
            one = found.sel(estimator=estimator)
            values = one["information"].values
            if not np.isfinite(values).any():
                continue
            last = [_last(row) for row in values]
            errors = [_last(row) for row in one["error"].values]
            ax.errorbar(range(len(sites)), last, yerr=errors, color=colour, marker="o", capsize=3, label=str(estimator))
            if "null" in one:
                null = [_last(row) for row in one["null"].values]
                ax.plot(range(len(sites)), null, color=colour, lw=1, ls=":")
        ax.axhline(0, color=MUTED_INK, lw=1)
        ax.set_xticks(range(len(sites)), sites, rotation=20, ha="right")
        ax.set_ylabel(f"information about the {about} (nats)")
        title = "dotted: shuffled" if "null" in found else None
        ax.legend(fontsize=8, title=title, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)

    def _summary_lines(self) -> list[str]:
        """Return the estimates of each site in words."""
        data, how = self.data, self.attributes
        low, high = float(data["share"].min()), float(data["share"].max())
        lines = [
            f"{how['n_samples']} samples, principal components fitted on {how['n_fitted']} others; neighbours and bins "
            f"see {how['n_components']} ({_percent(low, high)} of the variance of a site), the noise is "
            f"{how['noise']:g} of a site's size"
        ]
        at_last = " at the last of its times" if data.sizes["time"] > 1 else ""
        for about in data["about"].values:
            for site in data["site"].values:
                one = data.sel(about=about, site=site)
                texts = [
                    f"{name} {_last(one['information'].sel(estimator=name).values):.3g}{_tested(one, str(name))}"
                    for name in one["estimator"].values
                    if np.isfinite(one["information"].sel(estimator=name).values).any()
                ]
                told = f"{', '.join(texts)} nats" if texts else "nothing that can be estimated"
                lines.append(f"{site} about the {about}{at_last}: {told}")
        return [*lines, *self._left_out()]

    def _left_out(self) -> list[str]:
        """Return why estimates are missing: one line for each reason."""
        found: dict[str, list[str]] = {}
        for about, name in product(map(str, self.data["about"].values), map(str, self.data["estimator"].values)):
            values = self.data["information"].sel(about=about, estimator=name)
            sites = values["site"].values
            infinite, empty = (
                sites[those] for those in (np.isinf(values.values).any(1), values.isnull().values.all(1))
            )
            kind = self.attributes.get("kinds", {}).get(about, "")
            for those, reason in ((infinite, _INFINITE), (empty, _why_none(name, kind, len(empty) == len(sites)))):
                if len(those):
                    where = "" if len(those) == len(sites) else f" of {', '.join(map(str, those))}"
                    found.setdefault(reason, []).append(f"{name}{where} about the {about}")
        return [f"left out: {', '.join(which)}: {reason}" for reason, which in found.items()]


def _why_none(estimator: str, kind: str, of_all_sites: bool) -> str:
    if kind == "tokens":
        return "tokens have no distances"
    if of_all_sites and (estimator, kind) in _NONE:
        return _NONE[estimator, kind]
    return "states that are all alike, or repeat, or a label that occurs once"


class InformationPlane(Result):
    """Information about inputs and labels over training, by several estimators side by side: a description.

    ``data`` holds over ``step``, ``about``, ``estimator`` and ``site`` the ``information`` and its ``error``.
    """

    def _draw(self, ax: Axes) -> None:
        data = self.data
        estimator = next(
            (str(name) for name in data["estimator"].values if _complete(data, str(name))),
            str(data["estimator"].values[0]),
        )
        one = data["information"].sel(estimator=estimator)
        for marker, site in zip("osD^v<>P*X", data["site"].values, strict=False):
            x, y = (one.sel(about=about, site=site).values for about in ("input", "label"))
            ax.plot(x, y, color=MUTED_INK, lw=0.8, zorder=1)
            place = np.linspace(_DARKER, 1, len(x))
            ax.scatter(x, y, c=SEQUENTIAL(place), marker=marker, s=28, zorder=2, label=str(site))
        ax.set_xlabel(f"information about the input (nats), {estimator}")
        ax.set_ylabel("information about the label (nats)")
        ax.legend(fontsize=8, title="darker: later", loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)

    def _summary_lines(self) -> list[str]:
        """Return the first and the last step in words."""
        data = self.data
        steps = data["step"].values
        lines = [f"{len(steps)} steps of training from {steps[0]} to {steps[-1]}; a description, not a law of learning"]
        for about in data["about"].values:
            for site in data["site"].values:
                one = data["information"].sel(about=about, site=site)
                texts = [
                    f"{name} {first:.3g} to {last:.3g}"
                    for name in data["estimator"].values
                    for first, last in [one.sel(estimator=name).values[[0, -1]]]
                    if np.isfinite(first) and np.isfinite(last)
                ]
                lines.append(f"{site} about the {about}: {', '.join(texts)} nats")
        return lines


def _percent(low: float, high: float) -> str:
    return f"{low:.0%}" if round(100 * low) == round(100 * high) else f"{low:.0%} to {high:.0%}"


def _tested(one: Any, estimator: str) -> str:
    """Return the p of an estimate, at its last time, where it was tested."""
    p = _last(one["p"].sel(estimator=estimator).values) if "p" in one else float("nan")
    return f" (p = {p:.2g})" if np.isfinite(p) else ""


def _last(values: Any) -> float:
    """Return the last of the values over time that is there."""
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")


def _complete(data: Any, estimator: str) -> bool:
    return bool(np.isfinite(data["information"].sel(estimator=estimator).values).all())
