"""Gromov hyperbolicity: how much distances are like those in a tree."""

from __future__ import annotations

import warnings
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.core.statistics.standard_errors import jackknife_error, t_reach
from neuros_mechint.neuro.geometry.spaces import noise_like, space

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_QUADRUPLES = 1000
_FEWEST_SURROGATES = 19
_N_GROUPS = 10
_MANY_NOT_METRIC = 0.001
_ROUNDING = 1e-9
Whole = npt.NDArray[np.intp]


class Hyperbolicity(Result):
    """How far distances are from those in a tree.

    ``data`` holds, in units of half the diameter: ``mean_delta`` with ``low`` and ``high`` and its ``p``, and
    ``largest_delta``; ``delta`` and ``diameter`` in units of the data; and over ``surrogate``: ``noise_mean_delta``.
    """

    @property
    def delta(self) -> float:
        """Gromov's delta in units of the data; a lower bound where sets of four points were drawn."""
        return float(self.data["delta"])

    @property
    def relative(self) -> float:
        """Delta by half the diameter: 0 in a tree, 1 at most."""
        return float(self.data["largest_delta"])

    @property
    def mean(self) -> float:
        """Mean over sets of four points, by half the diameter."""
        return float(self.main)

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval of the mean, jackknifed over points."""
        return float(self.data["low"]), float(self.data["high"])

    @property
    def p(self) -> float:
        """The p of a mean as small: of being no more like a tree than normal points of the same covariance."""
        return float(self.data["p"])

    def _draw(self, ax: Axes) -> None:
        low, high = self.interval
        drawn = self.data["noise_mean_delta"].values
        ax.hist(drawn, bins=12, color=MUTED_INK, alpha=0.5, label="normal points of the same covariance")
        ax.axvspan(low, high, color=PALETTE[0], alpha=0.2, lw=0)
        ax.axvline(self.mean, color=PALETTE[0], lw=2, label=f"data, {self.mean:.3g} (p = {self.p:.2g})")
        ax.set_xlim(left=0)
        ax.set_ylim(0, 1.35 * ax.get_ylim()[1])
        ax.set_xlabel("mean delta (half diameters); 0 in a tree")
        ax.set_ylabel("surrogates")
        ax.legend(fontsize=8, loc="upper left")

    def _summary_lines(self) -> list[str]:
        """Return both deltas and the null in words."""
        about, (low, high) = self.attributes, self.interval
        drawn = self.data["noise_mean_delta"].values
        all_or_some = "all" if about["exact"] else "drawn"
        largest = "largest" if about["exact"] else "largest, at least"
        interval = f"{100 * about['level']:g}% interval {low:.3g} to {high:.3g}"
        return [
            f"mean delta {self.mean:.3g} half diameters ({interval}); 0 in a tree",
            f"normal points of the same covariance: {drawn.mean():.3g} (p = {self.p:.2g} of being as like a tree)",
            f"{largest}: {self.relative:.3g} half diameters, {self.delta:.3g} in units of the data",
            f"{about['n_quadruples']} sets of four, {all_or_some}, of {about['n_points']} points",
        ]


class _Quadruples(NamedTuple):
    """Gaps of sets of four points by half the diameter, and which points these are."""

    deltas: Floats
    rows: Whole
    diameter: float
    not_metric: float


def hyperbolicity(
    X: Any = None,
    distances: Any = None,
    n_quadruples: int = 50_000,
    n_surrogates: int = 19,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> Hyperbolicity:
    r"""Return Gromov's hyperbolicity of points, by the four-point condition.

    Of four points, the distances across can be summed in three ways, :math:`S_1 \ge S_2 \ge S_3`. In a tree the two
    larger sums are equal; :math:`\delta = (S_1 - S_2) / 2` says how far from that they are.

    Parameters
    ----------
    X : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
        ``(point, feature)``; or trajectories, see `intrinsic_dimension`.
    distances : array_like of shape (n_points, n_points), optional
        Instead of ``X``: along a graph, `geodesics`, or of another kind.
    n_quadruples : int
        All sets of four points are looked at where there are no more; else so many are drawn, at least 1,000.
    n_surrogates : int
        Sets of normal points of the same covariance (of distances: of their classical scaling), at least 19.
    level : float
        Coverage of the interval of the mean.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    Hyperbolicity
        With ``.delta``, ``.relative`` (to half the diameter), ``.mean``, ``.interval`` and ``.p``.

    Raises
    ------
    InputError
        What `persistent_homology` refuses.
    OptionError
        Too few quadruples or surrogates.

    References
    ----------
    Gromov 1987, Hyperbolic Groups, doi:10.1007/978-1-4613-9586-7_3; Fournier, Ismail and Vigneron 2015, Computing the
    Gromov hyperbolicity of a discrete metric space, doi:10.1016/j.ipl.2015.02.002

    Examples
    --------
    >>> place = np.arange(40)
    >>> star = np.where(place[:, None] == place, 0, place[:, None] + place)  # paths through one centre
    >>> hyperbolicity(distances=star).relative
    0.0
    """
    level, random = coverage(level), generator(seed)
    n_quadruples = whole("n_quadruples", n_quadruples, _FEWEST_QUADRUPLES)
    n_surrogates = whole("n_surrogates", n_surrogates, _FEWEST_SURROGATES)
    given = space(X, distances)
    rows = _rows(given.n_points, n_quadruples, random)
    found = _deltas(given.distances(), rows)
    drawn = np.array(
        [
            _deltas(noise_like(given, "gaussian", random).distances(), rows).deltas.mean()
            for _ in progress_bar(range(n_surrogates), description="normal points", enabled=progress)
        ]
    )
    mean = float(found.deltas.mean())
    reach = t_reach(_error(found, given.n_points, random), _N_GROUPS - 1, level)
    cautions = _cautions(found)
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    largest = float(found.deltas.max())
    unit, data_unit = {"units": "half diameters"}, {"units": "units of the data"}
    arguments = {"X": X, "distances": distances, "n_quadruples": n_quadruples, "n_surrogates": n_surrogates}
    return Hyperbolicity(
        xr.Dataset(
            {
                "mean_delta": ((), mean, {"long_name": "mean delta", **unit}),
                "low": ((), max(0.0, mean - reach), unit),
                "high": ((), mean + reach, unit),
                "p": ((), p_of_draws(-mean, -drawn).item(), {"long_name": "p of being as much like a tree"}),
                "largest_delta": ((), largest, {"long_name": "largest delta", **unit}),
                "delta": ((), largest * found.diameter / 2, {"long_name": "largest delta", **data_unit}),
                "diameter": ((), found.diameter, {"long_name": "diameter", **data_unit}),
                "noise_mean_delta": ("surrogate", drawn, {"long_name": "mean delta of normal points", **unit}),
            }
        ),
        "Gromov hyperbolicity",
        attributes={
            "level": level,
            "n_points": given.n_points,
            "n_repeats": given.n_repeats,
            "n_quadruples": len(rows),
            "exact": comb(given.n_points, 4) <= n_quadruples,
        },
        provenance=Provenance.record(seed, arguments={**arguments, "level": level}),
        citations=("gromov1987", "fournier2015"),
        warnings=cautions,
    )


def _rows(n_points: int, n_quadruples: int, random: np.random.Generator) -> Whole:
    """Return sets of four different points: all, or as many as asked for."""
    if comb(n_points, 4) <= n_quadruples:
        return np.array(list(combinations(range(n_points), 4)), dtype=np.intp)
    found = np.empty((0, 4), dtype=np.intp)
    while len(found) < n_quadruples:
        rows = random.integers(n_points, size=(n_quadruples, 4))
        ordered = np.sort(rows, axis=1)
        found = np.concatenate([found, rows[(np.diff(ordered, axis=1) > 0).all(1)]])
    return found[:n_quadruples]


def _deltas(distances: Floats, rows: Whole) -> _Quadruples:
    a, b, c, d = rows.T
    across = np.stack(
        [distances[a, b] + distances[c, d], distances[a, c] + distances[b, d], distances[a, d] + distances[b, c]]
    )
    ordered = np.sort(across, axis=0)
    diameter = float(distances.max())
    sides = distances[a, b], distances[b, c], distances[a, c]
    longest = np.max(sides, axis=0)
    broken = 2 * longest > np.sum(sides, axis=0) + _ROUNDING * diameter
    deltas = (ordered[2] - ordered[1]) / diameter
    return _Quadruples(np.where(deltas < _ROUNDING, 0.0, deltas), rows, diameter, float(broken.mean()))


def _error(found: _Quadruples, n_points: int, random: np.random.Generator) -> float:
    """Return the standard error of the mean: sets of four share points, so that it is points that are left out."""
    group = random.permutation(n_points) % _N_GROUPS
    without = [found.deltas[(group[found.rows] != one).all(1)].mean() for one in range(_N_GROUPS)]
    return float(jackknife_error(without))


def _cautions(found: _Quadruples) -> tuple[str, ...]:
    if found.not_metric <= _MANY_NOT_METRIC:
        return ()
    return (
        f"{100 * found.not_metric:.3g}% of the triangles have a side longer than the other two together: these are no "
        "metric distances, of which alone delta says something; take shortest paths: geodesics(distances=...)",
    )
