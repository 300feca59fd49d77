"""What comparing a model with a recording found, each with a drawing of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.colours import SEQUENTIAL
from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.neuro.alignment.rsa.stack import square
from neuros_mechint.workflows.alignment.measures import (
    CENTRED,
    distance,
    only_correlation,
    what_they_see,
    what_to_try,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from xarray import DataArray

_DRAWN_RDMS = 12
_PER_ROW = 4
_LABEL_WIDTH = 3  # in matrices
_GAP = 0.16  # of the side of a matrix


class LayerGeometry(Result):
    """How a model tells stimuli apart, layer by layer.

    ``data`` holds ``dissimilarity`` over ``(site, pair)``, pairs in the order of ``numpy.triu_indices(n, 1)``, and
    ``component`` over ``(site, stimulus, component)``, the principal components of each layer, NaN where there are
    fewer. Where there are responses, ``other_dissimilarity`` is the other one of correlation and euclidean distance,
    NaN for layers that have none.
    """

    @property
    def distance(self) -> str:
        """What the dissimilarities are, in words."""
        return distance(self.attributes["rdm"], self.attributes["centred"])

    @property
    def other(self) -> str | None:
        """What the other dissimilarities are, where there are any."""
        return self.attributes.get("other_distance")

    @property
    def rdms(self) -> dict[str, Floats]:
        """Dissimilarities by site, ``(n_pairs,)``."""
        return {str(site): self.data["dissimilarity"].sel(site=site).values for site in self.data["site"].values}

    def components(self, site: str, n_components: int) -> Floats:
        """Return the first principal components of a layer, ``(n_stimuli, n_components)``, or as many as it has."""
        values = self.data["component"].sel(site=site).values
        return values[:, np.isfinite(values).all(0)][:, :n_components]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 1.75 * -(-min(self.data.sizes["site"], _DRAWN_RDMS) // _PER_ROW) + 0.5

    def _draw(self, ax: Axes) -> None:
        """Draw RDMs beside each other, each by its ranks; of many layers some, evenly spaced."""
        names = list(self.rdms)
        chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), _DRAWN_RDMS)).round().astype(int))
        image = None
        for number, place in enumerate(chosen):
            ranks = np.argsort(np.argsort(self.rdms[names[place]]))
            left, top = (number % _PER_ROW) * (1 + _GAP), (number // _PER_ROW) * (1 + 2 * _GAP)
            matrix = square(ranks / max(1, len(ranks) - 1))
            image = ax.imshow(matrix, cmap=SEQUENTIAL, vmin=0, vmax=1, extent=(left, left + 1, top + 1, top))
            ax.text(left, top - 0.03, names[place].partition("[")[0], fontsize=8, va="bottom")
        n_rows, n_columns = -(-len(chosen) // _PER_ROW), min(len(chosen), _PER_ROW)
        beside = max(0, _LABEL_WIDTH - n_columns) / 2 * (1 + _GAP) + 0.02  # room for the label below one or two
        ax.set_xlim(-beside, n_columns * (1 + _GAP) - _GAP + beside)
        ax.set_ylim(n_rows * (1 + 2 * _GAP) - 2 * _GAP + 0.02, -0.2)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel("rows and columns: stimuli, in the order of the recording")
        for spine in ax.spines.values():
            spine.set_visible(False)
        assert image is not None
        ax.figure.colorbar(image, ax=ax, label="rank of dissimilarity", fraction=0.03, pad=0.02)

    def _summary_lines(self) -> Iterator[str]:
        yield f"layers: {self.data.sizes['site']}, {self.data.sizes['stimulus']} stimuli"
        yield f"dissimilarity: {self.distance}"
        if self.attributes["centred"]:
            yield f"units: {CENTRED}"
        yield f"of sequences: {self.attributes['reduced']}"


class ChanceLevel(Result):
    """What scores layers reach when stimuli are shuffled.

    ``data`` holds over ``(site,)`` the ``score``, the ``typical`` score of shuffled stimuli (their median) and the
    ``high`` one (95% are lower), and ``p``, how often the best of all layers is as high with shuffled stimuli;
    ``best_p``, the p of the best layer, is a number. ``order`` is the rank correlation of each layer's dissimilarities
    with the distance of stimuli in the order of the recording, and ``order_p`` its p; ``attributes`` hold those of the
    recording, ``order_of_recording`` and ``order_of_recording_p``, and whether stimuli were ``shown_at_random``.
    """

    @property
    def best(self) -> str:
        """The layer with the highest score."""
        return _best(self.data["score"])

    def doubted(self, layer: str) -> bool:
        """Return whether neighbours in the order are alike in recording and layer, so that drift looks like a match."""
        p = float(self.data["order_p"].sel(site=layer)), self.attributes["order_of_recording_p"]
        return bool(max(p) <= SIGNIFICANT) and not self.attributes.get("shown_at_random")

    @property
    def may_be_order(self) -> bool:
        """Whether neighbours in the order are alike in recording and best layer, so that drift looks like a match."""
        return self.doubted(self.best)

    @property
    def is_more_than_chance(self) -> bool:
        """Whether the best layer is better than the best of all layers with shuffled stimuli."""
        return bool(self.attributes["best_p"] <= SIGNIFICANT)

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return _width_for(self.data.sizes["site"]), 3.6

    def _draw(self, ax: Axes) -> None:
        places = np.arange(self.data.sizes["site"])
        ax.fill_between(
            places, self.data["typical"], self.data["high"], color=MUTED_INK, alpha=0.22, linewidth=0,
            label="shuffled stimuli,\nmedian to 95%",
        )  # fmt: skip
        ax.plot(places, self.data["score"], "-o", color=PALETTE[0], markersize=4, label="as they were")
        _label_sites(ax, self.data["site"].values)
        ax.set_ylabel(str(self.data["score"].attrs["long_name"]))
        ax.grid(axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))

    def _summary_lines(self) -> Iterator[str]:
        yield f"measure: {_measure(self)}"
        told, n_layers = "more" if self.is_more_than_chance else "no more", self.data.sizes["site"]
        best = "" if n_layers == 1 else f"the best of {n_layers} layers "
        yield (
            f"layer {self.best} scores {float(self.data['score'].max()):.3f}: {told} than {best}with shuffled stimuli "
            f"(p = {self.attributes['best_p']:.2g})"
        )


class LayerChoice(Result):
    """Which layer is chosen without what it is judged on.

    ``data`` holds over ``(left_out,)``, subjects, repetitions or parts of the stimuli: ``chosen``, the layer that is
    best in all others, and ``held_out_score``, its score in the one left out; ``score`` over ``(site, left_out)``; and
    ``lower_ceiling`` and ``upper_ceiling``, NaN where they are not known.
    """

    @property
    def best(self) -> str:
        """The layer with the highest mean score."""
        return _best(self.data["score"].mean("left_out"))

    @property
    def alone(self) -> bool:
        """Whether there is one layer, so that none is chosen."""
        return self.data.sizes["site"] == 1

    @property
    def held_out(self) -> float:
        """Mean score of the layers chosen, in what had no say in the choice."""
        return float(self.data["held_out_score"].mean())

    @property
    def ceilings(self) -> tuple[float, float]:
        """Lower and upper noise ceiling, NaN where there is one measurement."""
        return float(self.data["lower_ceiling"]), float(self.data["upper_ceiling"])

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return _width_for(self.data.sizes["site"]), 3.8

    def _draw(self, ax: Axes) -> None:
        scores = self.data["score"].values
        places, (lower, upper) = np.arange(len(scores)), self.ceilings
        if np.isfinite(lower):
            ax.axhspan(lower, upper, color=MUTED_INK, alpha=0.22, linewidth=0, label="noise ceiling,\nlower to upper")
        ax.plot(places, scores, ".", color=PALETTE[5], markersize=6, label=None)
        ax.plot([], [], ".", color=PALETTE[5], label=f"each {self.attributes['counted']}")
        ax.plot(places, scores.mean(1), "-o", color=PALETTE[0], markersize=4, label="mean")
        if not self.alone:
            self._mark_chosen(ax)
        _label_sites(ax, self.data["site"].values)
        ax.axhline(0, color=MUTED_INK, linewidth=0.8)
        ax.set_ylabel(str(self.data["score"].attrs["long_name"]))
        ax.grid(axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))

    def _mark_chosen(self, ax: Axes) -> None:
        scores = self.data["score"].values
        names, counts = np.unique(self.data["chosen"].values, return_counts=True)
        at = [list(self.data["site"].values).index(name) for name in names]
        ax.plot(at, scores.mean(1)[at], "o", color=INK, markerfacecolor="none", markersize=11, label="chosen")
        for place, count in zip(at, counts, strict=True):
            text = f"{count} of {counts.sum()}"
            ax.annotate(
                text, (place, scores.mean(1)[place]), (0, 9), textcoords="offset points", ha="center", fontsize=9
            )

    def _summary_lines(self) -> Iterator[str]:
        yield f"measure: {_measure(self)}"
        yield from self._on_choice()
        lower, upper = self.ceilings
        if np.isfinite(lower):
            yield f"noise ceiling: {lower:.3f} (lower) to {upper:.3f} (upper)"

    def _on_choice(self) -> Iterator[str]:
        counted = self.attributes["counted"]
        if self.alone:
            yield f"mean score over each {counted}: {self.held_out:.3f}"
            return
        names, counts = np.unique(self.data["chosen"].values, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        told = ", ".join(f"{names[one]} {counts[one]} of {counts.sum()}" for one in order)
        yield f"chosen, leaving out each {counted}: {told}"
        yield f"score where it had no say in the choice: {self.held_out:.3f}"
        mean = float(self.data["score"].mean("left_out").max())
        yield f"highest mean score over each {counted}: {self.best}, {mean:.3f}"


class LayerCorrelations(Result):
    """Canonical correlations of each layer with the responses.

    ``data`` holds over ``(site,)`` the ``score``, the mean held-out correlation of the components, and ``p`` and
    ``p_adjusted``, of the first component with shuffled stimuli.
    """

    @property
    def best(self) -> str:
        """The layer with the highest score."""
        return _best(self.data["score"])

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return _width_for(self.data.sizes["site"]), 3.6

    def _draw(self, ax: Axes) -> None:
        places, scores = np.arange(self.data.sizes["site"]), self.data["score"].values
        ax.bar(places, scores, width=0.7, color=PALETTE[0])
        sure = self.data["p_adjusted"].values <= SIGNIFICANT
        ax.plot(
            places[sure], np.fmax(scores[sure], 0) + 0.04, linestyle="none", marker="*", color=INK,
            label="more than with\nshuffled stimuli\n(adjusted p <= .05)",
        )  # fmt: skip
        ax.axhline(0, color=MUTED_INK, linewidth=0.8)
        ax.set_ylim(min(0.0, float(scores.min()) - 0.05), max(0.3, float(scores.max()) + 0.1))
        _label_sites(ax, self.data["site"].values)
        ax.set_ylabel("canonical correlation, held out")
        ax.grid(axis="y")
        if sure.any():
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))

    def _summary_lines(self) -> Iterator[str]:
        order = np.argsort(-self.data["score"].values, kind="stable")[:8]
        yield (
            f"{self.attributes['n_components']} components of {self.attributes['n_principal']} principal ones on "
            "either side"
        )
        for one in order:
            site = self.data.isel(site=int(one))
            yield f"{site['site'].item()}: {float(site['score']):.3f}, adjusted p = {float(site['p_adjusted']):.2g}"


class MeasureAgreement(Result):
    """Which layer each measure finds best, and which measures disagree.

    ``data`` holds ``score`` over ``(measure, site)`` and ``best`` over ``(measure,)``, the layer of the highest score;
    over ``(measure, other_measure)`` the ``difference``, how much higher a measure is in its own best layer than in
    that of the other, its standard ``error`` over stimuli, and ``p``, adjusted for the number of layers and of pairs;
    NaN where both find the same layer.
    """

    @property
    def disagreeing(self) -> dict[str, tuple[str, ...]]:
        """Layers about which measures disagree, with all measures that find them; empty if none do."""
        sure, best = self.data["p"].values <= SIGNIFICANT, self.data["best"].values
        return self._by_layer(np.isin(best, best[np.logical_and(sure, sure.T).any(1)]))

    @property
    def undecided(self) -> dict[str, tuple[str, ...]]:
        """Measures that do not surely prefer their own layer to that of others which do, with these others."""
        sure = self.data["p"].values <= SIGNIFICANT
        names = self.data["measure"].values
        found = {str(one): names[np.logical_and(sure[:, row], ~sure[row])] for row, one in enumerate(names)}
        return {one: tuple(map(str, others)) for one, others in found.items() if len(others)}

    @property
    def sentences(self) -> tuple[str, ...]:
        """Whether measures agree, in words: if they do not, which, why that can be, and what to try."""
        layers = self._by_layer(np.ones(self.data.sizes["measure"], dtype=bool))
        if len(layers) == 1:
            ((layer, names),) = layers.items()
            return (f"All measures find layer {layer}: {_listed(names)}.",)
        if self.disagreeing:
            first, *rest = self.disagreeing.values()
            others = [name for names in rest for name in names]
            return (
                f"Measures disagree about the layer, by more than other stimuli would change: "
                f"{_told(self.disagreeing)}.",
                what_they_see([*first, *others]),
                f"{what_to_try(first, others)}.",
            )
        if self.undecided:
            return tuple(self._on_undecided())
        return (f"Measures find different layers, which other stimuli could change: {_told(layers)}.",)

    def with_warning(self) -> MeasureAgreement:
        """Return the same with the disagreement as a warning, if there is one."""
        return replace(self, warnings=(*self.warnings, " ".join(self.sentences))) if self.disagreeing else self

    def _by_layer(self, which: Any) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for measure, layer in zip(self.data["measure"].values[which], self.data["best"].values[which], strict=True):
            found[str(layer)] = (*found.get(str(layer), ()), str(measure))
        return found

    def _on_undecided(self) -> Iterator[str]:
        for measure, others in self.undecided.items():
            own = self.data["best"].sel(measure=measure).item()
            better = self._by_layer(np.isin(self.data["measure"].values, others))
            told = "; nor from ".join(f"{one}, which is better by {_listed(names)}" for one, names in better.items())
            yield f"{measure[0].upper()}{measure[1:]} does not surely tell its layer {own} from {told}."
            if only_correlation([measure]):
                yield f"{what_to_try([measure], others)}."

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return _width_for(self.data.sizes["site"]), 3.8

    def _draw(self, ax: Axes) -> None:
        names = list(self.data["site"].values)
        aside = np.linspace(-0.08, 0.08, self.data.sizes["measure"])  # where scores are the same, none hides another
        for number, measure in enumerate(self.data["measure"].values):
            scores = self.data["score"].values[number]
            places, best = np.arange(len(names)) + aside[number], names.index(self.data["best"].values[number])
            colour = PALETTE[number % len(PALETTE)]
            ax.plot(places, scores, "-o", color=colour, markersize=4, label=_in_lines(str(measure)))
            ax.plot(places[best], scores[best], "*", color=colour, markersize=13, markeredgecolor="white")
        ax.plot([], [], "*", color=MUTED_INK, markersize=10, label="its best layer")
        ax.axhline(0, color=MUTED_INK, linewidth=0.8)
        _label_sites(ax, names)
        ax.set_ylabel("score")
        ax.grid(axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))

    def _summary_lines(self) -> Iterator[str]:
        for measure, layer in zip(self.data["measure"].values, self.data["best"].values, strict=True):
            yield f"{measure}: {layer}, {float(self.data['score'].sel(measure=measure, site=layer)):.3f}"
        yield from () if self.disagreeing else self.sentences


def _told(layers: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{layer} by {_listed(names)}" for layer, names in layers.items())


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _in_lines(name: str) -> str:
    return name.replace(" (", "\n(").replace(" of centred", "\nof centred")


def _measure(found: Result) -> str:
    return f"RSA: {found.attributes['distance']}, compared by {found.attributes['compare']}"


def _width_for(n_sites: int) -> float:
    return float(min(5.5 + 0.15 * n_sites, 9.5))


def _best(scores: DataArray) -> str:
    """Return the layer with the highest score."""
    return str(scores["site"].values[int(scores.values.argmax())])


def _label_sites(ax: Axes, sites: Any) -> None:
    names = [str(one) for one in sites]
    few = len(names) <= 5 and max(map(len, names)) <= 14
    ax.set_xticks(np.arange(len(names)), names, rotation=0 if few else 60, ha="center" if few else "right", fontsize=8)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_xlabel("layer")
