"""Which way a path in a plane leads, and where it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuros_mechint.core.arrays import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_start_and_direction(ax: Axes, path: Floats, colour: Any) -> None:
    """Draw a dot where a path starts, and the head of an arrow half-way along it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    path : numpy.ndarray of shape (n_times, 2)
    colour : any colour of matplotlib

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> draw_start_and_direction(ax, np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), "black")
    >>> len(ax.lines), len(ax.texts)
    (1, 1)
    """
    ax.plot(*path[0], "o", color=colour, markersize=4, zorder=3)
    way = np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()
    if not len(way) or way[-1] == 0:
        return
    half = int(np.searchsorted(way, way[-1] / 2))
    arrow = {"arrowstyle": "-|>", "color": colour, "lw": 0, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 15}
    ax.annotate("", xy=tuple(path[half + 1]), xytext=tuple(path[half]), arrowprops=arrow, zorder=3)


def key_of_starts(ax: Axes, colour: Any, what: str) -> None:
    """Add to the legend of ``ax`` what dots and heads of arrows are.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> key_of_starts(ax, "black", "a trial")
    >>> ax.get_legend_handles_labels()[1]
    ['start of a trial', 'direction of time']
    """
    ax.plot([], [], "o", color=colour, markersize=4, label=f"start of {what}")
    ax.plot([], [], ">", color=colour, markersize=5, label="direction of time")
