"""What an evaluation of models found, in a table, a figure and words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE, axis_label, bars
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_MODELS = 12
_MOST_BEATEN = 6
_HEADROOM = 0.06


class RSAEvaluation(Result):
    """How well models explain dissimilarities, and how surely.

    ``data`` holds over ``(model,)`` the ``score``, its standard ``error``, 95% interval ``low`` to ``high``, and ``p``
    against zero with ``p_adjusted`` for the number of models; over ``(model, other_model)`` the ``difference`` with
    ``difference_low``, ``difference_high``, ``difference_p`` and so on; the numbers ``lower_ceiling`` and
    ``upper_ceiling``, and over ``(model,)`` ``from_lower_ceiling`` and ``from_upper_ceiling``, the score minus the
    ceiling, with the same endings. NaN stands where nothing can be said. ``subject_score`` over ``(subject, model)``
    are the scores in each subject; ``resampled_score`` over ``(drawn, repeat, resample, model)`` and
    ``resampled_ceiling`` over ``(drawn, repeat, resample, bound)`` what the resamples gave, NaN where a draw was
    degenerate; ``n_dropped`` over ``(model,)`` counts these. ``permuted_score`` over ``(permutation, model)`` are the
    scores with permuted conditions, the first with the observed ones.
    """

    @property
    def comparisons(self) -> pd.DataFrame:
        """Every pair of models once, the largest difference first.

        Columns: ``model``, ``other_model``, ``difference`` (of the better one, so that it is positive), ``low``,
        ``high``, ``p`` and ``p_adjusted``.
        """
        names = self.data["model"].values.tolist()
        rows = []
        for first, second in zip(*np.triu_indices(len(names), 1), strict=True):
            one, other = (first, second) if self.data["difference"].values[first, second] >= 0 else (second, first)
            entries = {name: float(self.data[f"difference_{name}"].values[one, other]) for name in _ENDINGS}
            difference = float(self.data["difference"].values[one, other])
            rows.append({"model": names[one], "other_model": names[other], "difference": difference, **entries})
        table = pd.DataFrame(rows, columns=["model", "other_model", "difference", *_ENDINGS])
        return table.sort_values("difference", ascending=False, ignore_index=True)

    @property
    def ceilings(self) -> tuple[float, float]:
        """Lower and upper noise ceiling; NaN where there is one subject."""
        return float(self.data["lower_ceiling"]), float(self.data["upper_ceiling"])

    def _draw(self, ax: Axes) -> None:
        scores, low, high = (self.data[name].values for name in ("score", "low", "high"))
        lower, upper = self.ceilings
        if np.isfinite(lower):
            ax.axhspan(lower, upper, color=MUTED_INK, alpha=0.22, linewidth=0, label="noise ceiling,\nlower to upper")
        bars(self.main, ax)
        places = np.arange(scores.size)
        if np.isfinite(low).any():
            reach = np.abs([scores - low, high - scores])
            ax.errorbar(places, scores, reach, fmt="none", color=INK, linewidth=1.2, capsize=2, label="95% interval")
        top = np.fmax(np.fmax(scores, high), 0.0)
        if "subject_score" in self.data and self.data.sizes["subject"] > 1:
            points = self.data["subject_score"].values
            top = np.fmax(top, points.max(0))
            where = np.broadcast_to(places, points.shape) + np.linspace(-0.12, 0.12, len(points))[:, None]
            ax.plot(
                where.ravel(), points.ravel(), linestyle="none", marker=".", color=PALETTE[5], markeredgecolor="white",
                markeredgewidth=0.4, markersize=7, label="each subject",
            )  # fmt: skip
        self._marks(ax, top)
        ax.set_ylabel(axis_label(self.main))
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))

    def _marks(self, ax: Axes, top: np.ndarray) -> None:
        """Put a star over models that differ from zero, and a ring over those not below the lower ceiling."""
        bottom, highest = ax.get_ylim()
        gap = _HEADROOM * (max(highest, float(top.max())) - bottom)
        different = self.data["p_adjusted"].values <= SIGNIFICANT
        reached = self._reaches_ceiling()
        for marks, symbol, face, offset, text in (
            (different, "*", INK, 0.5, "differs from zero\n(adjusted p <= .05)"),
            (reached, "o", "none", 1.3, "not below\nthe lower ceiling"),
        ):
            places = np.flatnonzero(marks)
            if places.size:
                height = top[places] + offset * gap
                ax.plot(
                    places, height, linestyle="none", marker=symbol, color=INK, markerfacecolor=face, label=text
                )  # fmt: skip
        ax.set_ylim(bottom, max(highest, float(top.max()) + 2.2 * gap))

    def _reaches_ceiling(self) -> np.ndarray:
        below = self.data["from_lower_ceiling"].values < 0
        p = self.data["from_lower_ceiling_p_adjusted"].values
        return np.isfinite(p) & ~(below & (p <= SIGNIFICANT))

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return min(3.9 + 0.62 * self.data.sizes["model"], 13.0) + (1.5 if self.data.sizes["model"] < 4 else 0.0), 3.8

    def _summary_lines(self) -> list[str]:
        """Return what was found, model by model, in words."""
        return [*self._setting(), *self._models(), *self._comparison_lines()]

    def _setting(self) -> Iterator[str]:
        about = self.attributes
        yield (
            f"{about['n_subjects']} {_plural('subject', about['n_subjects'])}, {about['n_conditions']} conditions, "
            f"{about['compare']}; {about['test']}; p adjusted ({about['correction']})"
        )
        lower, upper = self.ceilings
        if np.isfinite(lower):
            yield f"noise ceiling: {lower:.3f} (lower) to {upper:.3f} (upper)"
        if (about.get("inference"), about.get("over")) == ("bootstrap", "both"):
            yield "careful: it finds something by chance in at most 0.5% of the cases; inference='dual' misses less"
        if about["n_degenerate"] or about["n_degenerate_ceilings"]:
            yield (
                f"{about['n_degenerate']} of {about['n_resamples']} resamples were degenerate and dropped, and "
                f"{about['n_degenerate_ceilings']} had no noise ceiling"
            )

    def _models(self) -> Iterator[str]:
        order = np.argsort(-self.main.values, kind="stable")
        names = self.data["model"].values
        for place in order[:_MOST_MODELS]:
            entry = self.data.isel(model=int(place), other_model=0)
            yield f"  {names[place]}: {_one_model(entry)}{self._of_ceiling(entry)}"
        if order.size > _MOST_MODELS:
            yield f"  and {order.size - _MOST_MODELS} more, in .to_dataframe()"

    def _of_ceiling(self, entry: xr.Dataset) -> str:
        lower, upper = self.ceilings
        if not np.isfinite(lower) or lower <= 0:
            return ""
        score = float(entry["score"])
        text = f"; {score / lower:.0%} of the lower and {score / upper:.0%} of the upper ceiling"
        p = float(entry["from_lower_ceiling_p_adjusted"])
        if np.isnan(p):
            return text
        if p > SIGNIFICANT:
            return f"{text}, not told apart from the lower one (p {_p(p)})"
        return f"{text}, {'below' if score < lower else 'above'} the lower one (p {_p(p)})"

    @property
    def _noun(self) -> str:
        """What the models are: layers of one, say."""
        return self.data["model"].attrs.get("long_name", "model")

    def _comparison_lines(self) -> Iterator[str]:
        table = self.comparisons
        if table.empty:
            return
        if np.isnan(table["p"].to_numpy()).all():
            ask = "for these conditions ask over='subjects', else 'dual'"
            yield f"{self._noun}s were not compared with each other: {ask}"
            return
        surely = table[table["p_adjusted"] <= SIGNIFICANT]
        if surely.empty:
            yield f"no two {self._noun}s are told apart"
        for name, group in surely.groupby("model", sort=False):
            beaten = [one for one in self.data["model"].values.tolist() if one in set(group["other_model"])]
            more = f" and {len(beaten) - _MOST_BEATEN} more" if len(beaten) > _MOST_BEATEN else ""
            yield f"  {name} is better than {', '.join(map(str, beaten[:_MOST_BEATEN]))}{more}"


_ENDINGS = ("low", "high", "p", "p_adjusted")


def _one_model(entry: xr.Dataset) -> str:
    score, low, high, p = (float(entry[name]) for name in ("score", "low", "high", "p_adjusted"))
    interval = f" (95% interval {low:.3f} to {high:.3f})" if np.isfinite(low) else ""
    told = "differs from" if p <= SIGNIFICANT else "not told apart from"
    tested = "" if np.isnan(p) else f", {told} zero (p {_p(p)})"
    return f"{score:.3f}{interval}{tested}"


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"= {p:.3f}"


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else f"{noun}s"
