"""The figures: bars, lines, heat maps, each with named axes and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.ticker import MaxNLocator

from neuros_mechint.core.errors import FigureError, InputError
from neuros_mechint.core.figures.colours import DIVERGING, INK, MUTED_INK, PALE, PALETTE, SEQUENTIAL, colour_scale
from neuros_mechint.core.figures.labels import (
    MOST_TICKS,
    axis_label,
    height_of_labels,
    is_text,
    label_logarithmic,
    label_ticks,
    upright_label,
)
from neuros_mechint.core.figures.style import FIGURE_WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

__all__ = [
    "DIVERGING",
    "INK",
    "MUTED_INK",
    "PALE",
    "PALETTE",
    "SEQUENTIAL",
    "axis_label",
    "bars",
    "draw",
    "figure_size",
    "heat_map",
    "histogram",
    "interval_bars",
    "label_logarithmic",
    "line",
]

_MOST_LINES_NAMED = 10


def figure_size(data: xr.Dataset) -> tuple[float, float]:
    """Return a fitting width and height in inches for a drawing of ``data``.

    Examples
    --------
    >>> figure_size(xr.Dataset({"effect": (("layer", "position"), np.zeros((12, 20)))}))
    (6.6, 4.6)
    """
    main = next(iter(data.data_vars.values()))
    below = main[main.dims[-1]] if main.dims else xr.DataArray(list(map(str, data.data_vars)))
    names = height_of_labels(list(map(str, below.values))) if is_text(below) else 0.0
    height = float(np.clip(1.4 + 0.27 * main.shape[0], 2.4, 7.5)) if main.ndim == 2 else 3.4
    return FIGURE_WIDTH, round(height + names, 1)


def draw(data: xr.Dataset, ax: Axes) -> None:
    """Draw the first variable: a number as a bar, one dimension as a line or bars, two as a heat map.

    Parameters
    ----------
    data : xarray.Dataset
        With no dimension, all variables without dimensions are drawn side by side.
    ax : matplotlib.axes.Axes

    Raises
    ------
    InputError
        If the first variable has more than two dimensions or is not numeric.
    """
    main = next(iter(data.data_vars.values()))
    if main.ndim == 0:
        _draw_numbers(data, ax)
    elif main.ndim == 1 and is_text(main[main.dims[0]]):
        bars(main, ax)
    elif main.ndim == 1:
        line(main, ax)
    elif main.ndim == 2:
        heat_map(main, ax)
    else:
        raise FigureError(
            f"a figure of {main.ndim} dimensions cannot be drawn",
            expected="a main variable of at most 2 dimensions",
            got=dict(main.sizes),
            fix=f"select or average first, along {' or '.join(map(repr, main.dims))}",
        )


def _draw_numbers(data: xr.Dataset, ax: Axes) -> None:
    numbers = {str(name): float(drawable(array)) for name, array in data.data_vars.items() if not array.dims}
    units = {array.attrs.get("units", "") for array in data.data_vars.values() if not array.dims}
    bars(xr.DataArray(list(numbers.values()), {"quantity": list(numbers)}, ("quantity",)), ax)
    ax.set(xlabel="", ylabel=units.pop() if len(units) == 1 else "")


def line(values: xr.DataArray, ax: Axes, along: str | None = None) -> list[Line2D]:
    """Draw one line, or one line per entry of the other dimension.

    Parameters
    ----------
    values : xarray.DataArray
        ``(x,)``, or two-dimensional together with ``along``.
    ax : matplotlib.axes.Axes
    along : str, optional
        The dimension of the horizontal axis; the last one if not given.

    Returns
    -------
    list of matplotlib.lines.Line2D

    Raises
    ------
    InputError
        If ``values`` has no or more than two dimensions, or is not numeric.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> len(line(xr.DataArray(np.zeros((3, 5)), dims=("unit", "time")), Figure().subplots()))
    3
    """
    if values.ndim not in (1, 2):
        raise InputError("lines need one or two dimensions", got=dict(values.sizes))
    numbers = drawable(values)
    along = along or str(values.dims[-1])
    if along not in values.dims:
        raise InputError(f"no dimension {along!r}", expected=f"one of {', '.join(map(str, values.dims))}")
    numbers = numbers.transpose(..., along)
    x = values[along]
    horizontal = np.arange(x.size) if is_text(x) else x.values
    rows = numbers.values.reshape(-1, x.size)
    names = values[values.dims[0] if values.dims[-1] == along else values.dims[-1]] if values.ndim == 2 else None
    lines = [ax.plot(horizontal, row, marker="o" if x.size <= MOST_TICKS else None)[0] for row in rows]
    if names is not None and len(lines) <= _MOST_LINES_NAMED:
        for drawn, name in zip(lines, names.values, strict=True):
            drawn.set_label(str(name))
        ax.legend(title=axis_label(names))
    ax.grid(axis="y")
    if is_text(x):
        label_ticks(ax, "x", x.values)
    elif x.dtype.kind in "iu":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(axis_label(x))
    ax.set_ylabel(upright_label(values, ax))
    return lines


def bars(values: xr.DataArray, ax: Axes) -> BarContainer:
    """Draw one bar per named entry.

    Parameters
    ----------
    values : xarray.DataArray
        ``(name,)``.
    ax : matplotlib.axes.Axes

    Returns
    -------
    matplotlib.container.BarContainer

    Raises
    ------
    InputError
        If ``values`` is not one-dimensional or not numeric.
    """
    if values.ndim != 1:
        raise InputError("bars need one dimension", got=dict(values.sizes))
    drawn = ax.bar(
        np.arange(values.size),
        drawable(values).values,
        width=min(0.7, 0.15 * values.size),
        color=PALETTE[0],
    )
    ax.set_xlim(-0.6, values.size - 0.4)
    ax.axhline(0, color=MUTED_INK, linewidth=0.8)
    ax.grid(axis="y")
    label_ticks(ax, "x", values[values.dims[0]].values)
    ax.set_xlabel(axis_label(values[values.dims[0]]))
    ax.set_ylabel(upright_label(values, ax))
    return drawn


def histogram(values: npt.NDArray[Any], ax: Axes) -> None:
    """Draw how values are distributed, in bins of about ten each."""
    bins = min(30, max(8, values.size // 10))
    ax.hist(values, bins=bins, color=PALETTE[0], edgecolor="white", linewidth=0.5)


def interval_bars(
    names: Sequence[str], table: Mapping[str, npt.ArrayLike], strong: npt.ArrayLike, ax: Axes
) -> BarContainer:
    """Draw named bars from top to bottom with their intervals, the strong ones dark.

    Parameters
    ----------
    names : sequence of str
    table : mapping of str to array_like
        ``value``, ``low`` and ``high``, ``(n_names,)`` each; without whiskers where an interval is not known.
    strong : array_like of bool, shape (n_names,)
    ax : matplotlib.axes.Axes

    Returns
    -------
    matplotlib.container.BarContainer
    """
    value, low, high = (np.asarray(table[name], dtype=float) for name in ("value", "low", "high"))
    error = np.stack([value - low, high - value])
    drawn = ax.barh(
        np.arange(value.size),
        value,
        xerr=None if np.isnan(error).any() else error.clip(0),
        color=np.where(np.asarray(strong, dtype=bool), PALETTE[0], PALE),
        error_kw={"ecolor": MUTED_INK, "lw": 1},
    )
    label_ticks(ax, "y", np.array(names, dtype=object))
    ax.invert_yaxis()
    ax.axvline(0, color=MUTED_INK, linewidth=0.8)
    ax.grid(axis="x")
    return drawn


def heat_map(values: xr.DataArray, ax: Axes, center: float | None = None, units: str | None = None) -> AxesImage:
    """Draw a matrix in colours, first row on top, with a labelled colour bar; missing values are grey.

    Values of both signs get a diverging map whose white is zero; values of one sign a sequential one whose
    light end is nearest to zero.

    Parameters
    ----------
    values : xarray.DataArray
        ``(row, column)``.
    ax : matplotlib.axes.Axes
    center : float, optional
        Force a diverging map that is white at this value.
    units : str, optional
        Units of the values, where ``values.attrs["units"]`` does not say.

    Returns
    -------
    matplotlib.image.AxesImage

    Raises
    ------
    InputError
        If ``values`` is not two-dimensional or not numeric.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> signed = xr.DataArray([[-1.0, 4.0]], dims=("layer", "position"))
    >>> float(heat_map(signed, Figure().subplots()).norm(0.0))
    0.5
    """
    if values.ndim != 2:
        raise InputError("a heat map needs two dimensions", got=dict(values.sizes))
    numbers = drawable(values).values
    colours, norm = colour_scale(numbers, center)
    image = ax.imshow(np.ma.masked_invalid(numbers), cmap=colours, norm=norm, aspect="auto", interpolation="none")
    for axis, dimension in zip("yx", values.dims, strict=True):
        label_ticks(ax, axis, values[dimension].values)
    ax.set_xlabel(axis_label(values[values.dims[1]]))
    ax.set_ylabel(upright_label(values[values.dims[0]], ax))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if ax.figure is not None:
        labelled = values.assign_attrs(units=units) if units else values
        label = upright_label(labelled, ax)
        bar = ax.figure.colorbar(image, ax=ax, label=label, pad=0.02, fraction=0.05, aspect=28)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.tick_params(length=0)
    return image


def drawable(values: xr.DataArray) -> xr.DataArray:
    """Return ``values`` as floats, or raise `FigureError` where they cannot be drawn.

    Examples
    --------
    >>> drawable(xr.DataArray([True, False])).values.tolist()
    [1.0, 0.0]
    """
    if values.dtype.kind not in "biuf":
        raise FigureError(
            f"{values.name or 'these values'} cannot be drawn",
            expected="real numbers",
            got=f"dtype {values.dtype}",
            fix="take abs() or .real of complex values" if values.dtype.kind == "c" else None,
        )
    return values.astype(float)
