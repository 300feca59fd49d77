"""Nodes and connections drawn: arrows excite, bars inhibit, width is strength."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.colours import MUTED_INK, PALETTE
from neuros_mechint.neuro.circuits.wiring import EXCITATORY, INHIBITORY, MIXED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {EXCITATORY: PALETTE[1], INHIBITORY: PALETTE[0], MIXED: MUTED_INK}
_WIDEST, _THINNEST = 4.0, 0.5
_RADIUS = 0.11
_LOOP = 0.13
_BEND, _AROUND = 0.15, 0.4


def draw_circuit(ax: Axes, weights: Floats, at: Floats, names: Sequence[str], kinds: Sequence[str]) -> None:
    """Draw nodes at their places and every connection between them.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    weights : numpy.ndarray of shape (n_nodes, n_nodes)
        Row: target, column: source.
    at : numpy.ndarray of shape (n_nodes, 2)
    names, kinds : sequence of str
        Of each node.
    """
    widest = float(np.abs(weights).max()) or 1.0
    for target, source in zip(*np.nonzero(weights), strict=True):
        weight = float(weights[target, source])
        width = max(_THINNEST, _WIDEST * abs(weight) / widest)
        colour = COLOURS[EXCITATORY if weight > 0 else INHIBITORY]
        if source == target:
            _loop(ax, at[source], width, colour, weight > 0)
        else:
            bend = _AROUND if _passes_over(at[source], at[target], at) else _BEND
            _arrow(ax, at[source], at[target], width, colour, weight > 0, bend)
    loops = np.diag(weights) != 0
    for place, name, kind, loop in zip(at, names, kinds, loops, strict=True):
        _node(ax, place, name, COLOURS[kind], 2.2 * _LOOP if loop else 0.0)
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.6, 1.6))
    ax.set_aspect("equal")
    ax.set_axis_off()


def _passes_over(start: Floats, end: Floats, at: Floats) -> bool:
    """Return whether a straight line would run through another node."""
    along = end - start
    share = ((at - start) @ along / (along @ along)).clip(0, 1)
    distance = np.linalg.norm(start + share[:, None] * along - at, axis=1)
    return bool(((distance < 2 * _RADIUS) & (share > 0) & (share < 1)).any())


def _arrow(ax: Axes, start: Floats, end: Floats, width: float, colour: str, excites: bool, bend: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    head = "-|>,head_length=4,head_width=2.5" if excites else "|-|,widthA=0,widthB=3.5"
    direction = (end - start) / (np.linalg.norm(end - start) or 1.0)
    ax.add_patch(
        FancyArrowPatch(
            tuple(start + _RADIUS * direction),
            tuple(end - (_RADIUS + 0.02) * direction),
            arrowstyle=head,
            connectionstyle=f"arc3,rad={bend}",
            linewidth=width,
            color=colour,
            alpha=0.8,
            shrinkA=0,
            shrinkB=0,
            zorder=1,
        )
    )


def _loop(ax: Axes, at: Floats, width: float, colour: str, excites: bool) -> None:
    from matplotlib.patches import Arc

    centre = at + (_RADIUS + 0.6 * _LOOP) * _outward(at)
    style = "-" if excites else (0, (3, 1.5))
    ax.add_patch(
        Arc(tuple(centre), 2 * _LOOP, 2 * _LOOP, linewidth=width, color=colour, linestyle=style, alpha=0.8, zorder=0)
    )


def _outward(at: Floats) -> Floats:
    """Return the direction away from the middle; down from the axis on which layers stand."""
    return np.array([0.0, -1.0]) if abs(at[1]) < 1e-9 and abs(at[0]) <= 1 else at / np.linalg.norm(at)


def _node(ax: Axes, at: Floats, name: str, colour: str, beyond: float) -> None:
    from matplotlib.patches import Circle

    ax.add_patch(Circle(tuple(at), _RADIUS, facecolor="white", edgecolor=colour, linewidth=2.0, zorder=2))
    if len(name) <= 3:
        ax.text(at[0], at[1], name, ha="center", va="center", fontsize=9, zorder=3)
        return
    away = _outward(at)
    place = at + (1.35 * _RADIUS + beyond) * away
    sides = "left" if away[0] > 0.3 else "right" if away[0] < -0.3 else "center"
    levels = "bottom" if away[1] > 0.3 else "top" if away[1] < -0.3 else "center"
    ax.text(place[0], place[1], name, ha=sides, va=levels, fontsize=9, zorder=3)
