"""What a feature dashboard holds, and how it shows itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from markupsafe import Markup

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.figures.style import drawing
from neuros_mechint.core.result import Result
from neuros_mechint.features.dashboard import page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIGURE = (6.6, 2.6)
_NAMED = 3


class FeatureDashboard(Result):
    """Where each feature fires most, how often and how much, what it does to the output, and what is like it.

    ``data`` holds, over ``(feature, example)``, ``activation``, the largest that are not zero, and the ``sample`` and
    ``position`` (or ``time``) of each, -1 where there are no more; with tokens also ``token`` and ``token_activation``
    over ``(feature, example, offset)``. ``density`` and ``maximum`` are over ``(feature,)``; ``count`` and
    ``bin_centre``, the histogram of activations that are not zero, over ``(feature, bin)``. ``raised`` and ``lowered``
    over ``(feature, rank)`` are outputs, ``raised_unit`` their numbers and ``raised_by`` how many logits one unit of
    activation adds. ``decoder_neighbour`` and ``activation_neighbour`` over ``(feature, neighbour)`` are like it by
    direction (``decoder_cosine``) and by what they do (``activation_correlation``); ``correlation_by_chance`` is the
    largest correlation that 19 permutations of the observations give.
    """

    @property
    def features(self) -> list[int]:
        """The features shown.

        Examples
        --------
        >>> import xarray as xr
        >>> data = xr.Dataset({"activation": (("feature", "example"), [[1.0]])}, {"feature": [7]})
        >>> FeatureDashboard(data, "One feature").features
        [7]
        """
        return [int(one) for one in self.data["feature"].values]

    def plot(self, ax: Axes | None = None, feature: int | None = None) -> Axes:
        """Draw the histogram of the activations of one feature.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        feature : int, optional
            One of ``features``; the first by default.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        InputError
            The feature is not among those shown.
        """
        chosen = self.features[0] if feature is None else feature
        self._check(chosen)
        with drawing(ax, _FIGURE) as axes:
            self._draw_feature(axes, chosen)
        return axes

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches of one histogram."""
        return _FIGURE

    def _draw(self, ax: Axes) -> None:
        self._draw_feature(ax, self.features[0])

    def _draw_feature(self, ax: Axes, feature: int) -> None:
        own = self.data.sel(feature=feature)
        centres, counts = own["bin_centre"].values, own["count"].values
        shown = np.isfinite(centres)
        if shown.any():
            width = float(np.diff(centres[shown]).mean()) if shown.sum() > 1 else 1.0
            ax.bar(centres[shown], counts[shown], width=0.92 * width, color=PALETTE[0])
        ax.set_title(f"feature {feature}")
        ax.set_title(_share(float(own["density"])), loc="right", fontsize=9, fontweight="normal", color=MUTED_INK)
        ax.set_xlabel("activation, where it is not zero")
        ax.set_ylabel("observations")
        ax.grid(axis="y")

    def _check(self, feature: int) -> None:
        if feature not in self.features:
            raise InputError(
                f"feature {feature} is not on this dashboard",
                expected=f"one of {', '.join(map(str, self.features[:12]))}",
                fix="name it in feature_dashboard(..., features=[...])",
            )

    def _summary_lines(self) -> list[str]:
        """Return one line for each feature."""
        lines: list[str] = []
        if self.attributes.get("n_observations"):
            lines.append(f"observations: {self.attributes['n_observations']:,}")
        lines += [f"feature {feature}: {self._line(feature)}" for feature in self.features]
        return lines

    def _line(self, feature: int) -> str:
        own = self.data.sel(feature=feature)
        parts = [f"{_share(float(own['density']))}, at most {float(own['maximum']):.3g}"]
        if "raised" in own and own["raised"].size:
            parts += [f"raises {_quoted(own['raised'].values)}", f"lowers {_quoted(own['lowered'].values)}"]
        if "decoder_neighbour" in own and int(own["decoder_neighbour"][0]) >= 0:
            parts.append(f"points most like {int(own['decoder_neighbour'][0])} ({float(own['decoder_cosine'][0]):.2f})")
        if "activation_neighbour" in own and int(own["activation_neighbour"][0]) >= 0:
            number, value = int(own["activation_neighbour"][0]), float(own["activation_correlation"][0])
            chance = f", {float(own['correlation_by_chance']):.2f} by chance" if "correlation_by_chance" in own else ""
            parts.append(f"fires most like {number} (r = {value:.2f}{chance})")
        return "; ".join(parts)

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per example; with tokens, ``text`` holds them, the example between « and ».

        Returns
        -------
        pandas.DataFrame
        """
        table = super().to_dataframe()
        if "token" in self.data:
            texts = [self._text(one, k) for one in range(len(self.features)) for k in range(self.data.sizes["example"])]
            table["text"] = texts
        kept: pd.DataFrame = table.loc[table["activation"].notna()]
        return kept.reset_index(drop=True)

    def _text(self, feature: int, example: int) -> str:
        words, _, middle = self._window(feature, example)
        if middle < 0:
            return ""
        marked = [f"«{word}»" if place == middle else word for place, word in enumerate(words)]
        return ("" if self.attributes.get("words", True) else " ").join(marked)

    def _window(self, feature: int, example: int) -> tuple[list[str], list[float], int]:
        """Return tokens and activations of an example, and which of them it is about, by place in ``data``."""
        values = self.data["token_activation"].values[feature, example]
        there = np.isfinite(values)
        words = self.data["token"].values[feature, example][there]
        middle = int(np.searchsorted(self.data["offset"].values[there], 0)) if there.any() else -1
        return [str(word) for word in words], [float(value) for value in values[there]], middle

    # -- pages ---------------------------------------------------------------------------------------------------

    def report_blocks(self) -> Iterator[tuple[str, list[Markup | pd.DataFrame | Callable[[Axes], object]]]]:
        """Yield, for each feature, a heading and what is shown below it: HTML, tables and drawings."""
        for index, feature in enumerate(self.features):
            items: list[Any] = [
                self._examples(index),
                partial(self._draw_feature, feature=feature),
                *self._tables(index),
            ]
            yield f"feature {feature}: {_share(float(self.data['density'].values[index]))}", items

    def _examples(self, index: int) -> Markup | pd.DataFrame:
        if "token" not in self.data:
            own = self.data.isel(feature=index)
            axes = [name for name in own.data_vars if own[name].dims == ("example",) and own[name].dtype.kind == "i"]
            table = pd.DataFrame({str(name): own[name].values for name in ["activation", *axes]})
            return table.loc[table["activation"].notna()]
        rows: list[tuple[float, Markup]] = []
        largest, words = float(self.data["maximum"].values[index]), bool(self.attributes.get("words", True))
        for example, value in enumerate(self.main.values[index]):
            tokens, values, middle = self._window(index, example)
            if tokens:
                rows.append((float(value), page.token_strip(tokens, values, middle, largest, words=words)))
        return page.strips(rows)

    def _tables(self, index: int) -> list[pd.DataFrame]:
        own, tables = self.data.isel(feature=index), []
        if "raised" in own:
            columns = {
                "raises": own["raised"], "by (logits)": own["raised_by"],
                "lowers": own["lowered"], "by (logits) ": own["lowered_by"],
            }  # fmt: skip
            tables.append(pd.DataFrame({name: _shown(column.values) for name, column in columns.items()}))
        columns = {}
        if "decoder_neighbour" in own:
            columns |= {"points like": own["decoder_neighbour"], "cosine": own["decoder_cosine"]}
        if "activation_neighbour" in own:
            columns |= {"fires like": own["activation_neighbour"], "correlation": own["activation_correlation"]}
        if "correlation_by_chance" in own:
            columns["largest by chance"] = own["correlation_by_chance"]
        if columns:
            values = {name: column.values for name, column in columns.items()}
            tables.append(pd.DataFrame(values))
        return tables

    def _repr_html_(self) -> str:
        lines = Markup("").join(Markup("<div>{}</div>").format(line) for line in self._facts())
        blocks: list[Markup] = []
        for index, (heading, items) in enumerate(self.report_blocks()):
            shown = Markup("").join(self._for_notebook(index, item) for item in items)
            opened = Markup(" open") if not index else Markup("")
            blocks.append(Markup("<details{}><summary><b>{}</b></summary>{}</details>").format(opened, heading, shown))
        return str(Markup("<div><strong>{}</strong>{}{}</div>").format(self.title, lines, Markup("").join(blocks)))

    def _facts(self) -> list[str]:
        return [f"warning: {text}" for text in self.warnings]

    def _for_notebook(self, index: int, item: Any) -> Markup:
        if isinstance(item, pd.DataFrame):
            return Markup(item.to_html(index=False, border=0, float_format=lambda value: f"{value:.3g}"))
        if isinstance(item, Markup):
            return item
        own = self.data.isel(feature=index)
        return page.histogram_drawing(own["bin_centre"].values, own["count"].values, "histogram of activations")

    # -- files ---------------------------------------------------------------------------------------------------

    def to_neuronpedia(
        self, path: str | Path, model_id: str | None = None, sae_set: str | None = None, dataset: str | None = None
    ) -> Path:
        """Write the JSON that SAEDashboard writes and Neuronpedia imports, one file for all features.

        The layout is that of ``NeuronpediaDashboardBatch`` in ``sae_dashboard/neuronpedia/neuronpedia_dashboard.py``
        of sae-dashboard 0.8.0 (https://github.com/jbloomAus/SAEDashboard), with numbers as they are instead of rounded
        to three digits. It has no room for places of examples, neighbours by direction, numbers of outputs,
        chance and provenance: `save` keeps everything.

        Parameters
        ----------
        path : str or pathlib.Path
            A file that ends in ``.json``, or a folder, in which it is called ``batch-0.json``.
        model_id, sae_set, dataset : str, optional
            What Neuronpedia calls the model, the set of autoencoders and the texts.

        Returns
        -------
        pathlib.Path
            Of the file.

        Raises
        ------
        CapabilityError
            The dashboard has no tokens, which the format is about.
        StorageError
            A number is NaN or infinite, which JSON has not, or the file cannot be written.
        """
        from neuros_mechint.features.dashboard.neuronpedia import write

        return write(self, Path(path), {"model_id": model_id, "sae_set": sae_set, "dataset": dataset})

    @classmethod
    def from_neuronpedia(cls, path: str | Path) -> Self:
        """Open a file, or all ``batch-*.json`` of a folder, that `to_neuronpedia` or SAEDashboard wrote.

        Parameters
        ----------
        path : str or pathlib.Path

        Returns
        -------
        FeatureDashboard
            Of sae-dashboard's fields, those that are not shown are kept in ``attributes`` and written again.

        Raises
        ------
        StorageError
            Missing, damaged, or not of this layout; the message says what is missing.
        """
        from neuros_mechint.features.dashboard.neuronpedia import read

        data, title, attributes = read(Path(path))
        return cls(data, title, attributes, citations=("neuronpedia2023",))


def _share(density: float) -> str:
    return f"fires in {100 * density:.3g}% of observations"


def _quoted(words: np.ndarray) -> str:
    return ", ".join(repr(str(word)) for word in words[:_NAMED] if str(word))


def _shown(values: np.ndarray) -> np.ndarray:
    """Return text with its spaces visible, and numbers as they are."""
    return np.array([repr(str(word)) for word in values]) if values.dtype.kind in "UO" else values
