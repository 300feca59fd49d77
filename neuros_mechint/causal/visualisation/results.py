"""What was found to drive a unit most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neuros_mechint.causal.visualisation.stimuli import IMAGE
from neuros_mechint.core.figures.colours import MUTED_INK, SEQUENTIAL, colour_scale
from neuros_mechint.core.figures.plotting import bars, draw, figure_size, line
from neuros_mechint.core.formatting import format_value
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_OPTIMA = 4
_MOST_BARS = 60
_MOST_LINES = 8
_IN_ORDER = ("time", "position")
_HIGHEST = 4.5
_LOW = 3.4
_COLOURS = 3
_GAP = 1


class OptimalStimulus(Result):
    """The stimuli that drive a unit most, one from each start, the most effective first.

    ``data`` holds, over ``start``: ``stimulus``; its ``activation``; ``slack``, how much more is to be gained, to first
    order; under a norm ``norm_slope``, what a relative change of it would add; and which ``optimum`` it is. Optima of
    two starts have a ``similarity`` (cosine), and ``trace`` is the way there. ``random_activation`` is the control:
    random stimuli of the same energy, or random tokens.

    Of examples, ``example_activation``, and ``example_activation_rescaled`` at the norm of the optimum;
    ``example_similarity`` with it; and ``best_example``. Of tokens, ``nearest_token``, ``token_similarity`` (cosine),
    and ``token_activation``: what the nearest tokens reach where they are put in place of the optimum.
    """

    @property
    def best(self) -> xr.DataArray:
        """The stimulus that drives the unit most."""
        return self.data["stimulus"].isel(start=0)

    @property
    def activation(self) -> float:
        """What the best stimulus reaches."""
        return float(self.data["activation"][0])

    @property
    def spread(self) -> float:
        """Standard deviation of what the starts reach; NaN for a single start."""
        values = self.data["activation"].values
        return float(values.std(ddof=1)) if len(values) > 1 else float("nan")

    @property
    def n_optima(self) -> int:
        """How many different stimuli the starts have led to."""
        return int(self.data["optimum"].max()) + 1

    @property
    def agreement(self) -> float:
        """Median cosine between the optima of two starts; NaN for a single start."""
        similarity = self.data["similarity"].values
        pairs = similarity[np.triu_indices(len(similarity), 1)]
        return float(np.median(pairs)) if pairs.size else float("nan")

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the drawing."""
        best = self.best
        width, height = figure_size(xr.Dataset({"stimulus": best if best.ndim == 2 else self.data["activation"]}))
        if best.dims == IMAGE:
            n_panels = min(self.n_optima, _MOST_OPTIMA) + ("best_example" in self.data)
            return width, min(_HIGHEST, width * best.sizes["height"] / best.sizes["width"] / n_panels) + 1
        return width, height if best.ndim == 2 and not (self._is_time_course or self._has_tokens) else _LOW

    @property
    def _has_tokens(self) -> bool:
        return "nearest_token_text" in self.data

    @property
    def _compared_examples(self) -> str:
        """Which responses to examples the optimum is compared with: at its norm, where that is one number."""
        rescaled = "example_activation_rescaled"
        return rescaled if rescaled in self.data else "example_activation"

    @property
    def _is_time_course(self) -> bool:
        """Whether the best stimulus is drawn as a line for each of a few inputs."""
        axes = [str(axis) for axis in self.best.dims]
        return len(axes) == len(("time", "unit")) and axes[0] in _IN_ORDER and self.best.sizes[axes[1]] <= _MOST_LINES

    def _draw(self, ax: Axes) -> None:
        best = self.best
        if best.dims == IMAGE:
            self._draw_images(ax)
        elif self._has_tokens:
            self._draw_tokens(ax)
        elif self._is_time_course:
            line(best.T, ax, along=str(best.dims[0]))
        elif best.ndim == 1 and best.size <= _MOST_BARS:
            bars(best, ax)
        elif best.ndim <= len(("row", "column")):
            draw(xr.Dataset({"stimulus": best}), ax)
        else:
            line(xr.DataArray(best.values.ravel(), dims="entry", attrs=best.attrs), ax)

    def _draw_tokens(self, ax: Axes) -> None:
        """Draw how near the nearest tokens are: the less, the less they say about the unit."""
        near = self.data["token_similarity"].isel(start=0)
        names = self.data["nearest_token_text"].isel(start=0)
        shown = xr.DataArray(
            np.atleast_1d(near.values), {"token": np.atleast_1d(names.values)}, ("token",), attrs=near.attrs
        )
        bars(shown, ax)
        back = format_value(float(self.data["token_activation"][0]))
        ax.set(xlabel=f"nearest token (with these the unit reaches {back}, not {format_value(self.activation)})")
        ax.set_ylim(min(0.0, float(shown.min())), 1)

    def _draw_images(self, ax: Axes) -> None:
        """Draw the different optima side by side, then the most effective example, all on one scale."""
        starts = [int(np.flatnonzero(self.data["optimum"].values == group)[0]) for group in range(self.n_optima)]
        panels = [self.data["stimulus"].values[start] for start in starts[:_MOST_OPTIMA]]
        reached = [float(self.data["activation"][start]) for start in starts[:_MOST_OPTIMA]]
        counts = [int((self.data["optimum"].values == group).sum()) for group in range(len(panels))]
        names = [f"{count} of {self.data.sizes['start']} starts\nreach" for count in counts]
        if "best_example" in self.data:
            panels.append(self.data["best_example"].values)
            reached.append(float(self.data[self._compared_examples].max()))
            names.append("best example\nreaches")
        names = [
            f"{name} {value:.3g}\nnorm {float(np.linalg.norm(panel)):.3g}"
            for name, value, panel in zip(names, reached, panels, strict=True)
        ]
        largest = max(float(abs(panel).max()) for panel in panels)
        low, high = self.attributes["bounds"] or (-largest, largest)
        drawn = [_as_picture(panel, low, high) for panel in panels]
        width = drawn[0].shape[1]
        blank = np.full((drawn[0].shape[0], _GAP, *drawn[0].shape[2:]), 1.0 if drawn[0].ndim > 2 else np.nan)
        strip = np.concatenate([part for picture in drawn for part in (picture, blank)][:-1], 1)
        colours, norm = (None, None) if strip.ndim > 2 else colour_scale(strip, None)
        image = ax.imshow(strip, cmap=colours if colours is not SEQUENTIAL else "gray", norm=norm)
        if strip.ndim == 2:
            averaged = f"mean of {len(panels[0])} channels" if len(panels[0]) > 1 else "value of a pixel"
            bar = ax.figure.colorbar(image, ax=ax, label=averaged, pad=0.02, fraction=0.05, aspect=28)
            bar.outline.set_visible(False)  # type: ignore[operator]
        ax.set_xticks([(width + _GAP) * rank + (width - 1) / 2 for rank in range(len(names))], names)
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0, labelcolor=MUTED_INK)

    def _summary_lines(self) -> Iterable[str]:
        """Say what was reached, how sure it is, and beside what."""
        data, activation = self.data, self.data["activation"].values
        random = data["random_activation"].values
        yield f"{len(activation)} starts reach {_range(activation)}"
        yield f"different optima: {self.n_optima}; median cosine between two: {format_value(self.agreement)}"
        kind = "random tokens" if "token_activation" in data else "random stimuli of the same energy"
        yield f"{random.size} {kind}: mean {format_value(random.mean())}, at most {format_value(random.max())}"
        if "example_activation" in data:
            yield from self._example_lines()
        if "token_activation" in data:
            names = " ".join(np.atleast_1d(data["nearest_token_text"].values[0]).tolist())
            near = data["token_similarity"].values[0]
            yield f"nearest tokens: {names} (cosine {format_value(near.min())} to {format_value(near.max())})"
            back = float(data["token_activation"][0])
            yield f"with them in place of the optimum: {format_value(back)} instead of {format_value(self.activation)}"

    def _example_lines(self) -> Iterable[str]:
        data, top = self.data, int(self.data.attrs["best_example"])
        given = data["example_activation"].values
        yield f"{given.size} examples as they are: at most {format_value(given.max())}"
        if "example_activation_rescaled" in data:
            most = format_value(data["example_activation_rescaled"].values.max())
            norm = format_value(self.attributes["norm"])
            yield f"examples scaled to the optimum's norm of {norm}, as larger ones drive more: at most {most}"
        cosine = format_value(float(data["example_similarity"][top]))
        yield f"cosine of example {top}, the best, with the optimum: {cosine}"


def _range(values: np.ndarray) -> str:
    return f"{format_value(values.min())} to {format_value(values.max())}"


def _as_picture(stimulus: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return ``(height, width, 3)`` within 0 and 1 for three channels, else the mean over channels."""
    if len(stimulus) != _COLOURS:
        return stimulus.mean(0)
    return np.moveaxis(((stimulus - low) / (high - low)).clip(0, 1), 0, -1)
