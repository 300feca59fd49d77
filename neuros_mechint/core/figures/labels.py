"""Names in figures: of axes, with units, and of their ticks, as many as fit."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from neuros_mechint.core.figures.style import FIGURE_WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MOST_TICKS = 24
_TWO_DECADES = 100
_CHARACTERS_PER_INCH = 13
_LONGEST_NAME = 40
_POINTS_PER_INCH = 72
# Of the labels of ticks, in points.
_CHARACTER_WIDTH = 5
_LINE_HEIGHT = 11
_MARGIN = 45  # what axes leave free for labels beside them
_TURN = 40  # degrees
_RUN, _RISE = math.cos(math.radians(_TURN)), math.sin(math.radians(_TURN))
_ROUND_STEPS = (2, 5, 10, 20, 25, 50, 100, 200, 250, 500)


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


def upright_label(array: xr.DataArray, ax: Axes) -> str:
    """Return the label in lines that are no longer than the axes are high."""
    inches = ax.bbox.height / ax.figure.dpi
    return textwrap.fill(axis_label(array), max(12, int(inches * _CHARACTERS_PER_INCH)))


def label_logarithmic(axis: Axis, values: npt.NDArray[Any]) -> None:
    """Label an axis that is logarithmic at 1, 2 and 5 where its values span less than two decades.

    On a decade or less matplotlib would label every minor tick, one over the other.
    """
    few = values.max() < _TWO_DECADES * values.min()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def is_text(coordinate: xr.DataArray) -> bool:
    """Return whether the labels of an axis are text."""
    return coordinate.dtype.kind in "UOST"


def label_ticks(ax: Axes, axis: str, labels: npt.NDArray[Any]) -> None:
    """Name positions 0, 1, 2, ... by ``labels``, as many as fit.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Whose vertical axis is labelled already: its names take room from the horizontal one.
    axis : {"x", "y"}
    labels : numpy.ndarray of shape (n_positions,)
    """
    if len(labels) > MOST_TICKS and labels.dtype.kind == "f" and np.allclose(np.diff(labels, 2), 0, atol=1e-6):
        # Evenly sampled time or frequency: round values read better than every n-th sample.
        round_values = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(labels[0], labels[-1])
        round_values = round_values[(round_values >= labels.min()) & (round_values <= labels.max())]
        positions = (round_values - labels[0]) / (labels[1] - labels[0])
        getattr(ax, f"set_{axis}ticks")(positions, [f"{value:g}" for value in round_values])
        return
    room = _room(ax, axis)
    shown = _every_nth(labels, MOST_TICKS if axis == "x" else int(room / _LINE_HEIGHT))
    turn: dict[str, Any] = {}
    texts = [_tick_text(labels[i]) for i in shown]
    if axis == "x" and _meet(texts, room):
        turn = {"rotation": _TURN, "ha": "right", "rotation_mode": "anchor"}
        room -= max(0, max(map(len, texts)) * _CHARACTER_WIDTH * _RUN - _MARGIN)
        shown = _every_nth(labels, min(MOST_TICKS, int(room * _RISE / _LINE_HEIGHT)))
    getattr(ax, f"set_{axis}ticks")(shown, [_tick_text(labels[i]) for i in shown], **turn)


def height_of_labels(names: Sequence[str]) -> float:
    """Return the inches below a figure that names of ticks take where they have to be turned.

    Examples
    --------
    >>> height_of_labels(["left", "right"])
    0.0
    """
    texts = [_tick_text(name) for name in names]
    if not _meet(texts, FIGURE_WIDTH * _POINTS_PER_INCH - 2 * _MARGIN):
        return 0.0
    return max(map(len, texts)) * _CHARACTER_WIDTH * _RISE / _POINTS_PER_INCH


def _room(ax: Axes, axis: str) -> float:
    """Return the length of an axis in points, as far as it is known before the layout."""
    scale = _POINTS_PER_INCH / ax.figure.dpi
    if axis == "y":
        return ax.bbox.height * scale
    beside = max((len(label.get_text()) for label in ax.get_yticklabels()), default=0) * _CHARACTER_WIDTH
    return ax.bbox.width * scale - max(0, beside - _MARGIN)


def _every_nth(labels: npt.NDArray[Any], most: int) -> list[int]:
    """Return the positions of at most about ``most`` labels, at round distances where they are whole numbers."""
    step = max(1, -(-len(labels) // max(2, most)))
    if step > 1 and labels.dtype.kind in "iu":
        # Counting by 5, 10, 20 reads better than by 3 or 7.
        step = next((s for s in _ROUND_STEPS if s >= step), step)
    shown = list(range(0, len(labels), step))
    if step > 1 and labels.dtype.kind not in "iuf":
        shown[-1] = len(labels) - 1  # names do not count on: the last one cannot be guessed
    return shown


def _tick_text(label: Any) -> str:
    """Return what stands at a tick: the beginning and the end of a long name, which tell it from others."""
    text = f"{label:.3g}" if isinstance(label, float | np.floating) else str(label)
    half = _LONGEST_NAME // 2
    return text if len(text) <= _LONGEST_NAME else f"{text[:half]} … {text[-half:]}"


def _meet(texts: Sequence[str], room: float) -> bool:
    """Return whether texts that share a length evenly would touch each other."""
    widest = max((len(one) + len(other) for one, other in pairwise(texts)), default=0) / 2 + 1
    return widest * _CHARACTER_WIDTH * len(texts) > room
