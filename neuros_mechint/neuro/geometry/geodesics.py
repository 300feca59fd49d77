"""Distances along the surface that points lie on: shortest paths through their neighbours."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, whole
from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.geometry.spaces import space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_NEIGHBORS = 2
_SHORTER = 0.55
"""Of the median: with few neighbours all paths zigzag, in rolled-up surfaces some lead round the folds."""
_PERCENT = 5
_MOST_DRAWN = 4000


class Geodesics(Result):
    """Distances along a surface.

    ``data`` holds, over ``point`` and ``other``: ``geodesic`` and ``straight`` (distances through space); and over
    ``setting``, numbers of neighbours: ``detour``, the mean ratio of both.
    """

    @property
    def distances(self) -> Floats:
        """Lengths of the shortest paths, ``(n_points, n_points)``."""
        return self.main.values

    @property
    def detour(self) -> float:
        """How much longer paths are than straight lines: mean of the ratio over pairs; 1 in flat space."""
        return float(self.data["detour"][0])

    @property
    def interval(self) -> tuple[float, float]:
        """Smallest and largest detour from half as many neighbours (or those that hold together) to twice as many."""
        values = self.data["detour"].values
        return float(values.min()), float(values.max())

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 5.2, 4.6

    def _draw(self, ax: Axes) -> None:
        first, second = np.triu_indices(self.data.sizes["point"], 1)
        step = -(-len(first) // _MOST_DRAWN)
        straight, along = (self.data[name].values[first, second][::step] for name in ("straight", "geodesic"))
        ax.plot(straight, along, "o", ms=2.5, mew=0, alpha=0.4, color=PALETTE[0])
        last = float(straight.max())
        ax.plot([0, last], [0, last], color=MUTED_INK, lw=1)
        ax.text(last, last, "straight", color=INK, fontsize=8, ha="right", va="top")
        ax.set_xlabel("distance through space (units of the data)")
        ax.set_ylabel("distance along the surface (units of the data)")
        ax.set_xlim(left=0)
        ax.set_ylim(bottom=0)

    def _summary_lines(self) -> list[str]:
        """Return the detour and how it depends on the neighbours."""
        about, low_high = self.attributes, self.interval
        settings = self.data["setting"].values.tolist()
        lines = [
            f"paths are on average {self.detour:.3g} times as long as straight lines; {low_high[0]:.3g} to "
            f"{low_high[1]:.3g} with {min(settings)} to {max(settings)} neighbours",
            f"{about['n_points']} points, each joined to its {about['n_neighbors']} nearest; the longest distance is "
            f"{float(self.main.max()):.3g}",
        ]
        if about["n_repeats"]:
            lines.append(f"{about['n_repeats']} points that repeat another one were left out: see data['point']")
        return lines


def geodesics(X: Any = None, distances: Any = None, n_neighbors: int = 10) -> Geodesics:
    """Return distances along the surface on which points lie, as Isomap finds them.

    Each point is joined to its nearest neighbours, and the length of the shortest path through such joints is taken for
    the distance.

    Parameters
    ----------
    X : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
        ``(point, feature)``; or trajectories, see `intrinsic_dimension`.
    distances : array_like of shape (n_points, n_points), optional
        Instead of ``X``.
    n_neighbors : int
        So few that no joint leads from one fold of the surface to the next, and so many that all points hang together.

    Returns
    -------
    Geodesics
        With ``.distances``, ``.detour`` and ``.warnings``.

    Raises
    ------
    InputError
        Points that do not hang together; or what `persistent_homology` refuses.
    OptionError
        As many neighbours as points.

    References
    ----------
    Tenenbaum, de Silva and Langford 2000, A Global Geometric Framework for Nonlinear Dimensionality Reduction,
    doi:10.1126/science.290.5500.2319

    Examples
    --------
    >>> angle = np.linspace(0, np.pi, 100)
    >>> half_circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> geodesics(half_circle, n_neighbors=4).distances[0, -1].round(2).item()  # pi; the straight line is 2 long
    3.14
    """
    count = whole("n_neighbors", n_neighbors, _FEWEST_NEIGHBORS)
    given = space(X, distances)
    straight = given.distances()
    if count >= given.n_points:
        raise OptionError("n_neighbors is too large", expected=f"fewer than the {given.n_points} points", got=count)
    along = _paths(straight, count)
    _refuse_parts(along, straight, count)
    fewest = _that_hold_together(straight, 1, count)
    others = {min(count, max(fewest, count // 2)), min(2 * count, given.n_points - 1)} - {count}
    compared = {k: _paths(straight, k) for k in sorted(others)}
    cautions = _cautions(along, straight, fewest, count)
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    detours = [_detour(paths, straight) for paths in (along, *compared.values())]
    unit = {"units": "units of the data"}
    points = np.arange(given.n_points) if given.kept is None else given.kept
    return Geodesics(
        xr.Dataset(
            {
                "geodesic": (("point", "other"), along, {"long_name": "distance along the surface", **unit}),
                "straight": (("point", "other"), straight, {"long_name": "distance through space", **unit}),
                "detour": ("setting", detours, {"long_name": "mean ratio of path and straight line"}),
            },
            coords={"point": points, "other": points, "setting": [count, *compared]},
        ),
        "Geodesic distances",
        attributes={"n_points": given.n_points, "n_repeats": given.n_repeats, "n_neighbors": count},
        provenance=Provenance.record(arguments={"X": X, "distances": distances, "n_neighbors": n_neighbors}),
        citations=("tenenbaum2000",),
        warnings=cautions,
    )


def _paths(straight: Floats, n_neighbors: int) -> Floats:
    """Return the lengths of shortest paths; infinite between points that do not hang together."""
    from scipy.sparse.csgraph import shortest_path

    return np.asarray(shortest_path(_graph(straight, n_neighbors), method="D", directed=False), dtype=np.float64)


def _graph(straight: Floats, n_neighbors: int) -> Any:
    from scipy.sparse import csr_array

    n_points = len(straight)
    near = np.argpartition(straight + np.diag(np.full(n_points, np.inf)), n_neighbors - 1, axis=1)[:, :n_neighbors]
    rows = np.repeat(np.arange(n_points), n_neighbors)
    graph = csr_array((straight[rows, near.ravel()], (rows, near.ravel())), shape=(n_points, n_points))
    return graph.maximum(graph.T)


def _refuse_parts(along: Floats, straight: Floats, n_neighbors: int) -> None:
    if np.isfinite(along).all():
        return
    left: npt.NDArray[np.bool_] = np.ones(len(along), dtype=bool)
    sizes = []
    while left.any():
        part = np.isfinite(along[np.flatnonzero(left)[0]])
        sizes.append(int(part.sum()))
        left &= ~part
    more = _that_hold_together(straight, n_neighbors, len(straight) - 1)
    raise InputError(
        "the points do not hang together: there is no path between some of them",
        expected="one piece",
        got=f"{len(sizes)} pieces, of {', '.join(map(str, sorted(sizes, reverse=True)[:5]))} points",
        fix=f"pass each piece by itself; or n_neighbors={more}, the fewest that join them, if they belong together",
    )


def _that_hold_together(straight: Floats, too_few: int, enough: int) -> int:
    """Return the smallest number of neighbours with which all points hang together, above one that is too few."""
    from scipy.sparse.csgraph import connected_components

    low, high = too_few, enough
    while high - low > 1:
        middle = (low + high) // 2
        if connected_components(_graph(straight, middle), directed=False)[0] == 1:
            high = middle
        else:
            low = middle
    return high


def _detour(along: Floats, straight: Floats) -> float:
    above = np.triu_indices(len(along), 1)
    return float((along[above] / straight[above]).mean())


def _cautions(along: Floats, straight: Floats, fewest: int, count: int) -> tuple[str, ...]:
    if fewest == count:
        return (
            f"fewer neighbours than {count} do not hold the points together, so that it was not tried whether joints "
            "take short cuts between folds: more points would tell",
        )
    above = np.triu_indices(len(along), 1)
    sparse = min(fewest + 1, count - 1)  # joints that hold just so are a tree, whose paths are long in flat space too
    ratio = along[above] / _paths(straight, sparse)[above]
    kept = float(np.percentile(ratio, _PERCENT) / np.median(ratio))
    if kept > _SHORTER:
        return ()
    return (
        f"with {count} neighbours instead of {sparse} some distances shrink to {100 * kept:.0f}% of their share: "
        "joints seem to take short cuts between folds (pass fewer neighbours or more points, or take outliers out), or "
        "they close the widest gap of a ring, which fewer leave open (a closed ring has a detour of 1.17: all is well)",
    )
