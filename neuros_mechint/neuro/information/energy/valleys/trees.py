"""The disconnectivity graph: which minima are joined below which energy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = 16


class Branch(NamedTuple):
    """Two parts of the tree meet."""

    height: float
    left: int
    right: int
    """Minima, or ``n_minima`` + the number of an earlier branch."""


def branches(depths: Floats, barriers: Floats) -> list[Branch]:
    """Return in which order minima become connected as energy rises.

    Parameters
    ----------
    depths : numpy.ndarray of shape (n_minima,)
        Energies of the minima.
    barriers : numpy.ndarray of shape (n_minima, n_minima)
        From each (row) to each other one; infinite where there is no way, which leaves them apart.

    Examples
    --------
    >>> depths, barriers = np.array([0.0, 1.0, 2.0]), np.array([[0, 3, 5], [2, 0, 4], [3, 3, 0.0]])
    >>> [(branch.height, branch.left, branch.right) for branch in branches(depths, barriers)]
    [(3.0, 0, 1), (5.0, 3, 2)]
    """
    n_minima = len(depths)
    heights = depths[:, None] + barriers
    first, second = np.triu_indices(n_minima, 1)
    part, found = np.arange(n_minima), list[Branch]()
    for index in np.argsort(heights[first, second], kind="stable"):
        a, b = part[first[index]], part[second[index]]
        if a != b and np.isfinite(heights[first[index], second[index]]):
            part[(part == a) | (part == b)] = n_minima + len(found)
            found.append(Branch(float(heights[first[index], second[index]]), int(a), int(b)))
    return found


def draw_tree(depths: Floats, barriers: Floats, ax: Axes) -> None:
    """Draw the disconnectivity graph: each minimum hangs at its energy from the pass at which it is joined to others.

    Parameters
    ----------
    depths : numpy.ndarray of shape (n_minima,)
    barriers : numpy.ndarray of shape (n_minima, n_minima)
    ax : matplotlib.axes.Axes

    References
    ----------
    Becker and Karplus 1997, The topology of multidimensional potential energy surfaces, doi:10.1063/1.473299
    """
    found, n_minima = branches(depths, barriers), len(depths)
    members = {index: [index] for index in range(n_minima)}
    children = set[int]()
    for number, branch in enumerate(found):
        members[n_minima + number] = members[branch.left] + members[branch.right]
        children |= {branch.left, branch.right}
    order = [leaf for part in sorted(members) if part not in children for leaf in members[part]]
    place = {leaf: float(order.index(leaf)) for leaf in range(n_minima)}
    tops = {leaf: float(depths[leaf]) for leaf in range(n_minima)}
    for number, branch in enumerate(found):
        left, right = place[branch.left], place[branch.right]
        for child in (branch.left, branch.right):
            ax.plot([place[child]] * 2, [tops[child], branch.height], color=INK, lw=1.2)
        ax.plot([left, right], [branch.height] * 2, color=INK, lw=1.2)
        place[n_minima + number], tops[n_minima + number] = (left + right) / 2, branch.height
    reach = 0.08 * max([branch.height for branch in found] + [float(np.ptp(depths)), 1e-9])
    for part in sorted(members):
        if part not in children:
            ax.plot([place[part]] * 2, [tops[part], tops[part] + reach], color=MUTED_INK, lw=1.2, ls=":")
    ax.scatter([place[leaf] for leaf in range(n_minima)], depths, color=PALETTE[0], zorder=3, s=28)
    if n_minima <= _MOST_NAMED:
        ax.set_xticks([place[leaf] for leaf in range(n_minima)], [str(leaf) for leaf in range(n_minima)])
    else:
        ax.set_xticks([])
    ax.set_xlim(-0.6, n_minima - 0.4)
    ax.grid(axis="y")
    ax.set_xlabel("minimum")
