"""Nodes and connections drawn: arrows excite, bars inhibit, width is strength."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.colours import MUTED_INK, PALETTE
from neuros_mechint.neuro.circuits.diagrams.labels import Label, half_sizes, place_labels
from neuros_mechint.neuro.circuits.wiring import EXCITATORY, INHIBITORY, MIXED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {EXCITATORY: PALETTE[1], INHIBITORY: PALETTE[0], MIXED: MUTED_INK}
_WIDEST, _THINNEST = 4.0, 0.5
_RADIUS, _LOOP = 0.11, 0.13
_NEAREST = 0.36  # radius of a node as a share of the distance to the next one
_BEND, _AROUND = 0.15, 0.4
_FULL_SIZE = 4.0  # inches, of axes in which widths and letters have their full size
_FONT, _SMALLEST_FONT = 9.0, 5.0
_LONGEST_LABEL = 0.25  # of the width of the axes
_LETTER = 0.6  # width of a letter as a share of the size of the font
_KEY_COLUMN = 1.2  # inches


class Look(NamedTuple):
    """Sizes in a diagram.

    Parameters
    ----------
    scale : float
        Of widths and heads, 1 in axes of full size.
    font : float
        In points.
    radius, loop : float
        Of nodes, and of connections to themselves, where nodes stand within -1 to 1.
    """

    scale: float
    font: float
    radius: float
    loop: float

    @classmethod
    def of(cls, ax: Axes, at: Floats, names: Sequence[str]) -> Look:
        """Return sizes that suit the axes, the distances of nodes and the lengths of their names."""
        scale, longest = _scale(ax), max(map(len, names))
        fits = _LONGEST_LABEL * _inches(ax)[0] * 72 / (_LETTER * max(longest, 1))
        font = max(_SMALLEST_FONT, min(_FONT * math.sqrt(scale), fits))
        apart = np.linalg.norm(at[:, None] - at[None], axis=2)[~np.eye(len(at), dtype=bool)]
        size = min(1.0, _NEAREST * float(apart.min(initial=np.inf)) / _RADIUS)
        return cls(scale, font, size * _RADIUS, size * _LOOP)


def draw_circuit(ax: Axes, weights: Floats, at: Floats, names: Sequence[str], kinds: Sequence[str]) -> None:
    """Draw nodes at their places and every connection between them, in sizes that suit the axes.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    weights : numpy.ndarray of shape (n_nodes, n_nodes)
        Row: target, column: source.
    at : numpy.ndarray of shape (n_nodes, 2)
    names, kinds : sequence of str
        Of each node.
    """
    look, inches = Look.of(ax, at, names), _inches(ax)
    outward = _outward(at, 2.6 * look.radius + 2.6 * look.font / 72 / min(inches))
    around = 1.3 * look.radius + np.where(np.diag(weights) != 0, 1.7 * look.loop, 0.0)
    labels = place_labels(at, outward, around, names, look.font, inches, look.radius)
    x, y = half_sizes(labels, at, around, inches)
    for target, source in zip(*np.nonzero(weights), strict=True):
        excites = bool(weights[target, source] > 0)
        width = _width(float(weights[target, source]), weights) * look.scale
        if source == target:
            _loop(ax, at[source], outward[source], width, excites, look)
        else:
            bend = _AROUND if _passes_over(at[source], at[target], at, look) else _BEND
            _arrow(ax, at[source], at[target], width, excites, look, bend)
    for place, kind in zip(at, kinds, strict=True):
        _node(ax, place, COLOURS[kind], look)
    for label in labels:
        _write(ax, label, look)
    ax.set(xlim=(-x, x), ylim=(-y, y))
    ax.set_aspect("equal")
    ax.set_axis_off()


def draw_key(ax: Axes, weights: Floats, words: Mapping[str, str], quantity: str) -> None:
    """Say below the axes what colours mean, and how strong the widest line and one of a quarter of its width are.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    weights : numpy.ndarray of shape (n_nodes, n_nodes)
    words : mapping of str to str
        For each kind of line or node that is drawn.
    quantity : str
        What width is.
    """
    from matplotlib.lines import Line2D

    scale = _scale(ax)
    lines = [Line2D([], [], color=COLOURS[kind], label=word, linewidth=1.5) for kind, word in words.items()]
    strengths = np.abs(weights[weights != 0])
    shares = (1.0, 0.25) if strengths.min() < strengths.max() else (1.0,)
    for strength in strengths.max() * np.array(shares):
        width = _width(float(strength), weights) * scale
        lines.append(Line2D([], [], color=MUTED_INK, linewidth=width, label=f"{quantity} {strength:.2g}"))
    n_columns = max(1, min(len(lines), int(_inches(ax)[0] / (_KEY_COLUMN * math.sqrt(scale)))))
    ax.legend(
        handles=lines,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=n_columns,
        fontsize=max(_SMALLEST_FONT, _FONT * math.sqrt(scale)),
        columnspacing=1.2,
        handlelength=1.6,
    )


def _inches(ax: Axes) -> tuple[float, float]:
    box = ax.get_window_extent()
    return box.width / ax.figure.dpi, box.height / ax.figure.dpi


def _scale(ax: Axes) -> float:
    return min(*_inches(ax), _FULL_SIZE) / _FULL_SIZE


def _width(weight: float, weights: Floats) -> float:
    """Return the width of a line in points, in axes of full size."""
    return max(_THINNEST, _WIDEST * abs(weight) / float(np.abs(weights).max()))


def _outward(at: Floats, room: float) -> Floats:
    """Return where names and loops go from each node: off a circle; out of the outer of layers; down, or to the right.

    Down is where the next node of the layer is further than ``room``.
    """
    lengths = np.linalg.norm(at, axis=1)
    if len(at) > 2 and np.allclose(lengths, 1):
        return at / lengths[:, None]
    outer = (np.abs(at[:, 0]) > 1 - 1e-9) & (len(at) > 2)
    below = at[:, None, 1] - at[None, :, 1]
    in_layer = (np.abs(at[:, None, 0] - at[None, :, 0]) < 1e-9) & (below > 1e-9)
    crowded = np.where(in_layer, below, np.inf).min() < room
    inner = np.array([1.0, 0.0] if crowded else [0.0, -1.0])
    return np.where(outer[:, None], np.column_stack([np.sign(at[:, 0]), np.zeros(len(at))]), inner)


def _passes_over(start: Floats, end: Floats, at: Floats, look: Look) -> bool:
    """Return whether a straight line would run through another node."""
    along = end - start
    share = ((at - start) @ along / (along @ along)).clip(0, 1)
    distance = np.linalg.norm(start + share[:, None] * along - at, axis=1)
    return bool(((distance < 2 * look.radius) & (share > 0) & (share < 1)).any())


def _arrow(ax: Axes, start: Floats, end: Floats, width: float, excites: bool, look: Look, bend: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    head = "-|>,head_length=4,head_width=2.5" if excites else "|-|,widthA=0,widthB=3.5"
    direction = (end - start) / (np.linalg.norm(end - start) or 1.0)
    ax.add_patch(
        FancyArrowPatch(
            tuple(start + look.radius * direction),
            tuple(end - 1.2 * look.radius * direction),
            arrowstyle=head,
            mutation_scale=math.sqrt(look.scale),
            connectionstyle=f"arc3,rad={bend}",
            linewidth=width,
            color=COLOURS[EXCITATORY if excites else INHIBITORY],
            alpha=0.8,
            shrinkA=0,
            shrinkB=0,
            zorder=1,
        )
    )


def _loop(ax: Axes, at: Floats, outward: Floats, width: float, excites: bool, look: Look) -> None:
    from matplotlib.patches import Arc

    centre = at + (look.radius + 0.6 * look.loop) * outward
    size, style = 2 * look.loop, "-" if excites else (0, (3, 1.5))
    colour = COLOURS[EXCITATORY if excites else INHIBITORY]
    ax.add_patch(Arc(tuple(centre), size, size, linewidth=width, color=colour, linestyle=style, alpha=0.8, zorder=0))


def _node(ax: Axes, at: Floats, colour: str, look: Look) -> None:
    from matplotlib.patches import Circle

    width = 2.0 * math.sqrt(look.scale)
    ax.add_patch(Circle(tuple(at), look.radius, facecolor="white", edgecolor=colour, linewidth=width, zorder=2))


def _write(ax: Axes, label: Label, look: Look) -> None:
    from matplotlib.patheffects import withStroke

    ax.text(
        float(label.at[0]),
        float(label.at[1]),
        label.text,
        ha=label.horizontal,
        va=label.vertical,
        rotation=label.turn,
        rotation_mode="anchor",
        fontsize=look.font,
        path_effects=[withStroke(linewidth=look.font / 5, foreground="white")],
        zorder=3,
    )
