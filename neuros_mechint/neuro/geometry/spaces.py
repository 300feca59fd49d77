"""Points known by their coordinates or by their distances only, some of them chosen, and noise that looks alike."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.numbers import real_array
from neuros_mechint.neuro.geometry.arguments import refuse_extremes
from neuros_mechint.neuro.geometry.linear import principal_variances
from neuros_mechint.neuro.geometry.neighbours import pairwise
from neuros_mechint.neuro.geometry.points import FEWEST_POINTS, Points, distinct_points, points

NULLS = ("gaussian", "shuffled")
SUBSETS = ("farthest", "random")
_ASYMMETRY = 1e-6
_NOTHING = 1e-12


class Space(NamedTuple):
    """Distinct points between which there are distances.

    Parameters
    ----------
    points : numpy.ndarray of shape (n_points, n_features) or None
        In the unit of the data, around their mean.
    given : numpy.ndarray of shape (n_points, n_points) or None
        Distances, where they were given instead of points.
    n_repeats : int
        How many points were left out because they repeat another.
    ordered : bool
        Whether the points are samples of trajectories.
    kept : numpy.ndarray of shape (n_points,) or None
        Which of the points that were given these are.
    """

    points: Floats | None
    given: Floats | None
    n_repeats: int
    ordered: bool = False
    kept: npt.NDArray[np.intp] | None = None

    @property
    def n_points(self) -> int:
        """How many points there are."""
        return len(self.given if self.points is None else self.points)  # pyright: ignore[reportArgumentType]

    def distances(self, rows: npt.NDArray[np.intp] | None = None) -> Floats:
        """Return the distances between some of the points, or all.

        Examples
        --------
        >>> Space(np.array([[0.0], [3.0]]), None, 0).distances().tolist()
        [[0.0, 3.0], [3.0, 0.0]]
        """
        chosen = np.arange(self.n_points) if rows is None else rows
        if self.given is not None:
            return self.given[np.ix_(chosen, chosen)]
        return between(self.points[chosen])  # pyright: ignore[reportOptionalSubscript]

    def to_all(self, row: int) -> Floats:
        """Return the distances of one point to all.

        Examples
        --------
        >>> Space(np.array([[0.0], [3.0]]), None, 0).to_all(1).tolist()
        [3.0, 0.0]
        """
        if self.given is not None:
            return self.given[row]
        return np.linalg.norm(self.points - self.points[row], axis=1)  # pyright: ignore[reportOptionalSubscript, reportOptionalOperand]


def space(X: Any, distances: Any) -> Space:
    """Return points, or a matrix of distances, as a space; or say what is wrong with them.

    Raises
    ------
    InputError
        Both or neither given; what `points` refuses; distances that are not square, finite, symmetric, 0 from each
        point to itself and positive otherwise; or fewer than 30 distinct points.

    Examples
    --------
    >>> space(np.random.default_rng(0).normal(size=(40, 2)), None).n_points
    40
    """
    if (X is None) == (distances is None):
        raise InputError(
            "points or distances are needed", expected="X or distances", got="both" if X is not None else "neither"
        )
    if distances is None:
        data = points(X)
        kept = np.sort(np.unique(data.values, axis=0, return_index=True)[1])
        distinct = distinct_points(data)
        return Space(
            refuse_extremes(distinct.values * data.unit, "X"), None, len(data.values) - len(kept), data.ordered, kept
        )
    checked = distance_matrix(distances)
    kept = np.flatnonzero(~np.tril(checked == 0, -1).any(1))
    if len(kept) < FEWEST_POINTS:
        raise InputError(
            "too few points are distinct for their geometry",
            expected=f"at least {FEWEST_POINTS}",
            got=f"{len(kept)} of {len(checked)} points, the others are no distance away from them",
        )
    return Space(None, checked[np.ix_(kept, kept)], len(checked) - len(kept), kept=kept)


def distance_matrix(values: Any) -> Floats:
    """Return a matrix of distances, exactly symmetric, or say why it is none.

    Raises
    ------
    InputError

    Examples
    --------
    >>> distance_matrix([[0, 1], [1, 0]]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    array = refuse_extremes(real_array(values, "distances"), "distances")
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise InputError("distances are no square matrix", expected="(n_points, n_points)", got=f"shape {array.shape}")
    largest = np.abs(array).max()
    uneven = np.abs(array - array.T).max()
    if uneven > _ASYMMETRY * largest:
        raise InputError(
            "distances are not symmetric",
            expected="the same both ways",
            got=f"a difference of {uneven:.3g}",
            fix="of directed distances take a rule of your own, such as the mean with the transpose",
        )
    if array.min() < 0 or np.abs(np.diag(array)).max() > _ASYMMETRY * largest:
        raise InputError(
            "these are no distances",
            expected="0 from each point to itself, and no negative ones",
            got=f"{array.min():.3g} at least, up to {np.abs(np.diag(array)).max():.3g} on the diagonal",
            fix="of similarities s up to 1 take 1 - s, or arccos(s)",
        )
    array = (array + array.T) / 2
    np.fill_diagonal(array, 0.0)
    return array


def between(values: Floats) -> Floats:
    """Return the distances between points, symmetric and 0 on the diagonal.

    Examples
    --------
    >>> between(np.array([[0.0], [2.0]])).tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    found = pairwise(values, values)
    found = (found + found.T) / 2
    np.fill_diagonal(found, 0.0)
    return found


def chosen_rows(found: Space, n_chosen: int, how: str, random: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return some of the points: each the farthest from those before, or drawn at random.

    Parameters
    ----------
    found : Space
    n_chosen : int
        All where there are no more.
    how : {"farthest", "random"}
    random : numpy.random.Generator
        Draws the points, or the first one.

    Examples
    --------
    >>> line = Space(np.array([[0.0], [1.0], [5.0]]), None, 0)
    >>> sorted(chosen_rows(line, 2, "farthest", np.random.default_rng(0)).tolist())
    [0, 2]
    """
    if n_chosen >= found.n_points:
        return np.arange(found.n_points)
    if how == "random":
        return np.sort(random.permutation(found.n_points)[:n_chosen])
    rows = [int(random.integers(found.n_points))]
    nearest = found.to_all(rows[0])
    while len(rows) < n_chosen:
        rows.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, found.to_all(rows[-1]))
    return np.array(rows)


def principal_spreads(found: Space) -> Floats:
    """Return the standard deviations along the principal axes; of distances, those of classical scaling.

    Examples
    --------
    >>> points = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 2.0], [-1.0, 2.0]])
    >>> principal_spreads(Space(points - [0, 1], None, 0)).round(2).tolist()
    [1.0, 1.0]
    """
    if found.points is not None:
        variances = principal_variances(Points(found.points, 1.0))[0]
    else:
        squares = -(found.given**2) / 2  # pyright: ignore[reportOptionalOperand]
        centred = squares - squares.mean(0) - squares.mean(1, keepdims=True) + squares.mean()
        variances = np.linalg.eigvalsh(centred)[::-1] / found.n_points
    return np.sqrt(variances[variances > _NOTHING * variances[0]])


def noise_like(found: Space, null: str, random: np.random.Generator) -> Space:
    """Return as many points of noise.

    Parameters
    ----------
    found : Space
    null : {"gaussian", "shuffled"}
        Normal with the same covariance; or each feature in an order of its own, which keeps how it is distributed.
    random : numpy.random.Generator

    Raises
    ------
    OptionError
        Distances have no features to shuffle.

    Examples
    --------
    >>> given = Space(np.random.default_rng(0).normal(size=(500, 1)) * 3, None, 0)
    >>> round(noise_like(given, "gaussian", np.random.default_rng(1)).points.std())
    3
    """
    if null == "gaussian":
        spreads = principal_spreads(found)
        return Space(random.normal(size=(found.n_points, len(spreads))) * spreads, None, 0)
    if found.points is None:
        raise OptionError("distances have no features to shuffle", expected="null='gaussian'", got=f"null={null!r}")
    return Space(random.permuted(found.points, axis=0), None, 0)
