"""Where the names of nodes are written, and how much room they take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats

_LONGEST_INSIDE = 3
_FILLED = 1.7  # of the radius of a node, by the letters within it
_CROWDED = 8  # nodes on a circle, above which their names are turned outward
_NARROWEST, _WIDEST = 1.15, 2.2
_LOWEST = 0.7
_ROOM = 0.06


class Label(NamedTuple):
    """A name, where and how it is written, and its size in points."""

    text: str
    at: Floats
    horizontal: str
    vertical: str
    turn: float
    width: float
    height: float


def place_labels(
    at: Floats,
    outward: Floats,
    beyond: Floats,
    names: Sequence[str],
    font: float,
    inches: tuple[float, float],
    radius: float,
) -> list[Label]:
    """Return the names of nodes: within where short ones have room, else beside, turned outward where that is crowded.

    Parameters
    ----------
    at, outward : numpy.ndarray of shape (n_nodes, 2)
        Places of nodes, and the directions in which names stand.
    beyond : numpy.ndarray of shape (n_nodes,)
        Distances of names from nodes.
    names : sequence of str
    font : float
        In points.
    inches : tuple of float
        Size of the axes.
    radius : float
        Of nodes.

    Examples
    --------
    >>> at = np.array([[0.0, 1.0], [0.0, -1.0]])
    >>> far = np.array([0.2, 0.2])
    >>> [[label.at[1].item() for label in place_labels(at, at, far, "ab", 9.0, size, 0.1)] for size in ((5, 5), (1, 1))]
    [[1.0, -1.0], [1.2, -1.2]]
    """
    on_circle = len(at) > _CROWDED and bool(np.allclose(np.linalg.norm(at, axis=1), 1))
    room = _FILLED * radius * 72 * min(inches) / (2 * (_NARROWEST + radius))
    sizes = [_size(name, font) for name in names]
    short = [len(name) <= _LONGEST_INSIDE for name in names]
    fit = all(math.hypot(*size) <= room for size, one in zip(sizes, short, strict=True) if one)
    labels = []
    for name, size, one, place, away, far in zip(names, sizes, short, at, outward, beyond, strict=True):
        if one and fit:
            labels.append(Label(name, place, "center", "center", 0.0, *size))
        elif on_circle:
            angle = math.degrees(math.atan2(away[1], away[0]))
            leftward = away[0] < -1e-9
            turn = angle + 180 if leftward else angle
            labels.append(Label(name, place + far * away, "right" if leftward else "left", "center", turn, *size))
        else:
            sides = "left" if away[0] > 0.3 else "right" if away[0] < -0.3 else "center"
            levels = "bottom" if away[1] > 0.3 else "top" if away[1] < -0.3 else "center"
            labels.append(Label(name, place + far * away, sides, levels, 0.0, *size))
    return labels


def half_sizes(labels: Sequence[Label], at: Floats, around: Floats, inches: tuple[float, float]) -> tuple[float, float]:
    """Return how far axes reach from their middle, across and up, so that nodes and names are within.

    Letters keep their size in points where the axes reach further: hence the iteration.

    Parameters
    ----------
    labels : sequence of Label
    at : numpy.ndarray of shape (n_nodes, 2)
    around : numpy.ndarray of shape (n_nodes,)
        How much room each node needs, loops included.
    inches : tuple of float
        Size of the axes.

    Examples
    --------
    >>> at, around = np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([0.1, 0.1])
    >>> beside = [Label(name, place, "center", "center", 0.0, 36.0, 9.0) for name, place in zip("EI", at)]
    >>> [round(float(value), 2) for value in half_sizes(beside, at, around, (4.0, 4.0))]
    [1.21, 0.7]
    """
    x, y = _NARROWEST, _NARROWEST
    nodes = np.abs(at) + around[:, None]
    for _ in range(6):
        unit = min(inches[0] / (2 * x), inches[1] / (2 * y))
        reach = np.vstack([nodes, *(_reach(label, 72 * unit) for label in labels)]).max(0) + _ROOM
        x, y = (float(value) for value in reach.clip((_NARROWEST, _LOWEST), _WIDEST))
    return x, y


def _size(text: str, font: float) -> tuple[float, float]:
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, size=font).get_extents().width) if text.strip() else 0.0, font


def _reach(label: Label, points: float) -> Floats:
    """Return how far a label reaches from the middle, across and up, where a unit has so many points."""
    width, height = label.width / points, label.height / points
    left = {"left": 0.0, "center": -width / 2, "right": -width}[label.horizontal]
    low = {"bottom": 0.0, "center": -height / 2, "top": -height}[label.vertical]
    corners = np.array([[left + dx, low + dy] for dx in (0, width) for dy in (0, height)])
    cosine, sine = math.cos(math.radians(label.turn)), math.sin(math.radians(label.turn))
    turned = corners @ np.array([[cosine, sine], [-sine, cosine]])
    return np.abs(label.at + turned).max(0)
