"""The look of every figure: one style, colours for colour-blind readers, labelled axes."""

from __future__ import annotations

import textwrap
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import xarray as xr
from cycler import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from neuros_mechint.core.errors import FigureError, InputError
from neuros_mechint.core.figures.colours import DIVERGING, GRID, INK, MUTED_INK, PALE, PALETTE, SEQUENTIAL, colour_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.container import BarContainer
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

__all__ = [
    "DIVERGING",
    "INK",
    "MUTED_INK",
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
    "new_axes",
    "style",
]

# Fonts of the same widths, so that a page shows text where it was laid out.
FONTS = ["Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"]
_STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "savefig.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": FONTS,
    "font.size": 10,
    "text.color": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED_INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.axisbelow": True,
    "xtick.color": MUTED_INK,
    "ytick.color": MUTED_INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "image.interpolation": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "neuros-mechint",
}
_MOST_TICKS = 24
_TWO_DECADES = 100
_MOST_TICK_CHARACTERS = 70
_CHARACTERS_PER_INCH = 13
_MOST_LINES_NAMED = 10
_LONGEST_NAME = 40
_FIGURE_WIDTH = 6.6


@contextmanager
def style() -> Generator[None]:
    """Draw in the package's style inside a ``with`` block; the caller's settings come back afterwards.

    Examples
    --------
    >>> before = mpl.rcParams["font.size"], mpl.rcParams["legend.frameon"]
    >>> with style():
    ...     mpl.rcParams["legend.frameon"]
    False
    >>> before == (mpl.rcParams["font.size"], mpl.rcParams["legend.frameon"])
    True
    """
    with mpl.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
        yield


def new_axes(ax: Axes | None = None, size: tuple[float, float] | None = None) -> Axes:
    """Return ``ax``, or the axes of a new pyplot figure, so that a notebook shows it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes, optional
    size : tuple of float, optional
        Width and height of a new figure, in inches.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size or (_FIGURE_WIDTH, 3.6), layout="constrained")[1]


def figure_size(data: xr.Dataset) -> tuple[float, float]:
    """Return a fitting width and height in inches for a drawing of ``data``.

    Examples
    --------
    >>> figure_size(xr.Dataset({"effect": (("layer", "position"), np.zeros((12, 20)))}))
    (6.6, 4.6)
    """
    main = next(iter(data.data_vars.values()))
    if main.ndim == 2:
        rows = main.sizes[main.dims[0]]
        return _FIGURE_WIDTH, round(float(np.clip(1.4 + 0.27 * rows, 2.4, 7.5)), 1)
    return _FIGURE_WIDTH, 3.4


def axis_label(array: xr.DataArray) -> str:
    """Return the name of a quantity with its units, from ``attrs["long_name"]`` and ``attrs["units"]``.

    Examples
    --------
    >>> axis_label(xr.DataArray(0.0, name="effect", attrs={"units": "nats"}))
    'effect (nats)'
    >>> axis_label(xr.DataArray(0.0, name="effect", attrs={"units": "log-probability (nats)"}))
    'effect, log-probability (nats)'
    """
    # a long name is text, in which names of sites keep their underscores
    name = str(array.attrs.get("long_name") or str(array.name or "").replace("_", " "))
    units = array.attrs.get("units")
    if not units:
        return name
    return f"{name}, {units}" if "(" in units else f"{name} ({units})".strip()


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
    lines = [ax.plot(horizontal, row, marker="o" if x.size <= _MOST_TICKS else None)[0] for row in rows]
    if names is not None and len(lines) <= _MOST_LINES_NAMED:
        for drawn, name in zip(lines, names.values, strict=True):
            drawn.set_label(str(name))
        ax.legend(title=axis_label(names))
    ax.grid(axis="y")
    if is_text(x):
        _label_ticks(ax, "x", x.values)
    elif x.dtype.kind in "iu":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(axis_label(x))
    ax.set_ylabel(_upright_label(values, ax))
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
    _label_ticks(ax, "x", values[values.dims[0]].values)
    ax.set_xlabel(axis_label(values[values.dims[0]]))
    ax.set_ylabel(_upright_label(values, ax))
    return drawn


def label_logarithmic(axis: Axis, values: npt.NDArray[Any]) -> None:
    """Label an axis that is logarithmic at 1, 2 and 5 where its values span less than two decades.

    On a decade or less matplotlib would label every minor tick, one over the other.
    """
    few = values.max() < _TWO_DECADES * values.min()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


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
    ax.set_yticks(np.arange(value.size), list(names))
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
        _label_ticks(ax, axis, values[dimension].values)
    ax.set_xlabel(axis_label(values[values.dims[1]]))
    ax.set_ylabel(_upright_label(values[values.dims[0]], ax))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if ax.figure is not None:
        labelled = values.assign_attrs(units=units) if units else values
        label = _upright_label(labelled, ax)
        bar = ax.figure.colorbar(image, ax=ax, label=label, pad=0.02, fraction=0.05, aspect=28)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.tick_params(length=0)
    return image


def _upright_label(array: xr.DataArray, ax: Axes) -> str:
    """Return the label in lines that are no longer than the axes are high."""
    inches = ax.bbox.height / ax.figure.dpi
    return textwrap.fill(axis_label(array), max(12, int(inches * _CHARACTERS_PER_INCH)))


def _shortened(text: str) -> str:
    """Return a name that leaves room for the drawing: its beginning and its end tell it from others."""
    half = _LONGEST_NAME // 2
    return text if len(text) <= _LONGEST_NAME else f"{text[:half]} … {text[-half:]}"


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


def is_text(coordinate: xr.DataArray) -> bool:
    """Return whether the labels of an axis are text."""
    return coordinate.dtype.kind in "UOST"


def _label_ticks(ax: Axes, axis: str, labels: np.ndarray) -> None:
    """Name positions 0, 1, 2, ... by ``labels``, as many as fit."""
    many = len(labels) > _MOST_TICKS
    if many and labels.dtype.kind == "f" and np.allclose(np.diff(labels, 2), 0, atol=1e-6):
        # Evenly sampled time or frequency: round values read better than every n-th sample.
        round_values = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(labels[0], labels[-1])
        round_values = round_values[(round_values >= labels.min()) & (round_values <= labels.max())]
        positions = (round_values - labels[0]) / (labels[1] - labels[0])
        getattr(ax, f"set_{axis}ticks")(positions, [f"{value:g}" for value in round_values])
        return
    step = max(1, -(-len(labels) // _MOST_TICKS))
    if many and labels.dtype.kind in "iu":
        # Counting by 5, 10, 20 reads better than by 3 or 7.
        step = next((s for s in (2, 5, 10, 20, 25, 50, 100, 200, 250, 500) if s >= step), step)
    shown = list(range(0, len(labels), step))
    if step > 1 and labels.dtype.kind not in "iuf":
        shown[-1] = len(labels) - 1  # names do not count on: the last one cannot be guessed
    texts = [f"{labels[i]:.3g}" if labels.dtype.kind == "f" else _shortened(str(labels[i])) for i in shown]
    crowded = axis == "x" and sum(map(len, texts)) > _MOST_TICK_CHARACTERS
    turn = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    getattr(ax, f"set_{axis}ticks")(list(shown), texts, **turn)
