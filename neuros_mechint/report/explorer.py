"""Heat maps to read values off: labels and numbers of the cell below the pointer, and a choice among many matrices."""

from __future__ import annotations

import base64
import itertools
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from markupsafe import Markup
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from neuros_mechint.core.figures.colours import colour_scale
from neuros_mechint.core.figures.labels import axis_label
from neuros_mechint.core.figures.plotting import drawable, figure_size, heat_map
from neuros_mechint.core.figures.style import FIGURE_WIDTH, drawing, style
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_MATRIX = 2
_N_COLOURS = 128
_GREATEST_HEIGHT = 6.0  # inches
_MOST_VALUES = 1_000_000  # four bytes each
_ATTENTION = ("query", "key")


@dataclass(frozen=True)
class Explorer:
    """What is needed to read a heat map: where it lies in its figure, its labels and its numbers.

    Parameters
    ----------
    place : tuple of float
        Left, top, width and height of the cells as fractions of the figure.
    axes : tuple of (str, list of str)
        Name and labels of the rows, and of the columns.
    choices : tuple of (str, list of str)
        The same of the dimensions one entry of which is shown.
    values : numpy.ndarray of shape (n_choices, n_rows, n_columns)
        The first matrix is the one that is drawn.
    name : str
        What the values are.
    colours : tuple of (list of str, float, float)
        From the colour of the lowest value to that of the highest, and these values.
    drawn : str
        Which of several matrices is drawn, in words.
    """

    place: tuple[float, ...]
    axes: tuple[tuple[str, list[str]], ...]
    choices: tuple[tuple[str, list[str]], ...]
    values: npt.NDArray[np.float32]
    name: str
    colours: tuple[list[str], float, float]
    drawn: str = ""

    def around(self, drawing: Markup) -> Markup:
        """Return a drawing that the script of the page makes explorable; without it the drawing stays as it is."""
        scale, low, high = self.colours
        about = {
            "place": [round(100 * part, 3) for part in self.place],
            "axes": self.axes,
            "choices": self.choices,
            "shape": self.values.shape[1:],
            "values": base64.b64encode(self.values.astype("<f4").tobytes()).decode(),
            "name": self.name,
            "colours": scale if self.choices else [],
            "range": [low, high],
        }
        if self.drawn:
            drawing += Markup('<p class="note drawn">{}</p>').format(self.drawn)
        return Markup('<div class="explorer" data-explorer="{}">{}</div>').format(json.dumps(about), drawing)


def explorer_of(figure: Figure, result: Result) -> Explorer | None:
    """Return what is needed to read the heat map of a figure, or None where it shows anything else.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Already drawn once, so that its layout is settled.
    result : Result
        Which gives the labels: its variables are searched for one with the shape and the axes of the image.
    """
    axes = figure.axes[0] if figure.axes else None
    if axes is None or len(axes.images) != 1:
        return None
    image = axes.images[0]
    values = np.ma.asarray(image.get_array())
    coordinates = _coordinates(result, values.shape, axes)
    place = _place(image, axes, figure)
    if coordinates is None or place is None:
        return None
    name = " ".join(figure.axes[1].get_ylabel().split()) if figure.axes[1:] else ""
    numbers = values.astype(np.float32).filled(np.nan)[None]
    (row_name, rows), columns = map(_labels, coordinates)
    if image.origin == "lower":
        numbers, rows = numbers[:, ::-1], rows[::-1]
    return Explorer(place, ((row_name, rows), columns), (), numbers, name, _colours(image))


def matrices_of(result: Result) -> xr.DataArray | None:
    """Return the main variable of a result where it is a set of matrices to choose from.

    That is attention, over ``(..., query, key)``, and whatever has more than two dimensions and no drawing of its own.

    Examples
    --------
    >>> effect = xr.DataArray(np.zeros((2, 4, 8)), dims=("layer", "head", "position"), name="effect")
    >>> matrices_of(Result(effect.to_dataset(), "Effects")).shape
    (2, 4, 8)
    """
    main = result.main
    own_drawing = type(result)._draw is not Result._draw  # pyright: ignore[reportPrivateUsage]
    if main.ndim <= _MATRIX or not 0 < main.size <= _MOST_VALUES or main.dtype.kind not in "biuf":
        return None
    return main if not own_drawing or main.dims[-2:] == _ATTENTION else None


def draw_matrices(matrices: xr.DataArray) -> Figure:
    """Draw the first of many matrices in colours that fit all of them."""
    first = _first(matrices)
    height = min(figure_size(first.to_dataset(name="value"))[1], _GREATEST_HEIGHT)
    with style():
        figure = Figure(figsize=(FIGURE_WIDTH, height), layout="constrained")
        axes = figure.subplots()
    with drawing(axes):
        image = heat_map(first, axes)
        colours, norm = colour_scale(drawable(matrices).values)
        image.set(cmap=colours, norm=norm)
    return figure


def explorer_of_matrices(figure: Figure, matrices: xr.DataArray) -> Explorer | None:
    """Return what is needed to choose among many matrices, where ``figure`` is that of `draw_matrices`."""
    image = figure.axes[0].images[0]
    place = _place(image, figure.axes[0], figure)
    if place is None:
        return None
    *choices, rows, columns = (matrices[dimension] for dimension in matrices.dims)
    values = drawable(matrices).values.reshape(-1, rows.size, columns.size).astype(np.float32)
    return Explorer(
        place,
        (_labels(rows), _labels(columns)),
        tuple(map(_labels, choices)),
        values,
        axis_label(matrices),
        _colours(image),
        _which_is_drawn(list(map(_labels, choices))),
    )


def _which_is_drawn(choices: list[tuple[str, list[str]]]) -> str:
    sizes = " × ".join(str(len(labels)) for _, labels in choices)
    return f"Drawn: {', '.join(f'{name} {labels[0]}' for name, labels in choices)} of {sizes}."


def _first(matrices: xr.DataArray) -> xr.DataArray:
    return matrices.isel(dict.fromkeys(matrices.dims[:-_MATRIX], 0), drop=True)


def _labels(coordinate: xr.DataArray) -> tuple[str, list[str]]:
    values = coordinate.values
    texts = [f"{value:.6g}" if values.dtype.kind == "f" else str(value) for value in values]
    return axis_label(coordinate), texts


def _colours(image: AxesImage) -> tuple[list[str], float, float]:
    norm: Any = image.norm
    colours: Any = image.cmap
    low, high = float(norm.vmin), float(norm.vmax)
    return [to_hex(colours(norm(value))) for value in np.linspace(low, high, _N_COLOURS)], low, high


def _place(image: AxesImage, axes: Axes, figure: Figure) -> tuple[float, ...] | None:
    """Return left, top, width and height of an image within its figure; None where a part of it is cut off."""
    left, right, bottom, top = image.get_extent()
    shown = [*sorted(axes.get_xlim()), *sorted(axes.get_ylim())]
    if not np.allclose(shown, [*sorted((left, right)), *sorted((bottom, top))]):
        return None
    corners = axes.transData.transform([(left, top), (right, bottom)])
    (x0, y0), (x1, y1) = corners / (figure.bbox.width, figure.bbox.height)
    place = (x0, 1 - y0, x1 - x0, y0 - y1)
    return tuple(map(float, place)) if all(math.isfinite(part) and part >= 0 for part in place) else None


def _coordinates(result: Result, shape: tuple[int, ...], axes: Axes) -> tuple[xr.DataArray, xr.DataArray] | None:
    """Return the coordinates of rows and columns of an image: axes of the result that have its sizes and its labels."""
    pairs = {
        tuple(map(str, pair)): (array[pair[0]], array[pair[1]])
        for array in result.data.data_vars.values()
        for pair in itertools.permutations(array.dims, _MATRIX)
        if tuple(array.sizes[dimension] for dimension in pair) == shape
    }
    if len(pairs) > 1:
        drawn = [_letters(text) for text in (axes.get_ylabel(), axes.get_xlabel())]
        pairs = {name: pair for name, pair in pairs.items() if [_letters(axis_label(one)) for one in pair] == drawn}
    return next(iter(pairs.values())) if len(pairs) == 1 else None


def _letters(text: Any) -> str:
    return "".join(str(text).split())
