"""Manifolds: the points of each class, around a centre, without what all centres share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, whole
from neuros_mechint.core.joining import codes_of, label_list
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.neuro.alignment.samples import samples
from neuros_mechint.neuro.geometry.arguments import CONDITIONS, REPEATS, UNITS, by_axes, refuse_extremes

_FEWEST_MANIFOLDS = 2
_N_ORDERS = 100
_NOTHING = 1e-10
_AXES = (("point", *REPEATS), UNITS)


class Manifolds(NamedTuple):
    """Points of each manifold around the mean of all centres.

    Parameters
    ----------
    points : tuple of numpy.ndarray of shape (n_points, n_units)
    names : tuple
    """

    points: tuple[Floats, ...]
    names: tuple[Any, ...]

    @property
    def centres(self) -> Floats:
        """Mean of each manifold, ``(n_manifolds, n_units)``."""
        return np.array([each.mean(0) for each in self.points])

    def regrouped(self, random: np.random.Generator) -> Manifolds:
        """Return manifolds of the same sizes, to which all points were dealt at random.

        Examples
        --------
        >>> found = Manifolds((np.zeros((2, 1)), np.ones((3, 1))), ("a", "b"))
        >>> [len(each) for each in found.regrouped(np.random.default_rng(0)).points]
        [2, 3]
        """
        joined = random.permutation(np.concatenate(self.points))
        ends = np.cumsum([len(each) for each in self.points])[:-1]
        return manifolds_around(np.split(joined, ends), self.names)


def manifolds(X: Any, labels: Sequence[Any] | None = None) -> Manifolds:
    """Return data as manifolds, or say what is wrong with them.

    Parameters
    ----------
    X : array_like, torch.Tensor, xarray.DataArray or Recording, or a list of arrays
        With labels, ``(n_samples, n_features)``. Without, one array ``(n_points, n_units)`` for each manifold, or
        ``(manifold, point, unit)``.
    labels : sequence of length n_samples, optional
        To which manifold each sample belongs.

    Raises
    ------
    InputError
        No real numbers, values that are missing, manifolds of different units, fewer than two manifolds, labels that
        do not fit, or centres that are all the same.

    Examples
    --------
    >>> found = manifolds(np.arange(12.0).reshape(6, 2), labels=["a", "b", "a", "b", "a", "b"])
    >>> found.names, [each.shape for each in found.points]
    (('a', 'b'), [(3, 2), (3, 2)])
    """
    if labels is not None:
        values = refuse_extremes(samples(X).values, "X")
        names, codes = codes_of(label_list(labels, "labels"))
        if len(codes) != len(values):
            raise InputError("labels do not fit the samples", expected=f"{len(values)} labels", got=f"{len(codes)}")
        parts = [values[codes == code] for code in range(len(names))]
    else:
        if isinstance(X, list | tuple):
            parts = [by_axes(each, _AXES, "a manifold") for each in X]
        else:
            together = by_axes(X, (("manifold", "class", *CONDITIONS), *_AXES), "X")
            parts = list(together) if together.ndim else [together]
        names = tuple(range(len(parts)))
    shapes = {each.shape[1:] for each in parts}
    if any(each.ndim != 2 or not each.size for each in parts) or len(shapes) > 1:
        raise InputError(
            "these are no manifolds",
            expected="one array (n_points, n_units) for each, of the same units; or X with labels",
            got=f"shapes {sorted({each.shape for each in parts})[:4]}",
        )
    if len(parts) < _FEWEST_MANIFOLDS:
        raise InputError("one manifold has nothing to be told apart from", expected="at least 2", got=len(parts))
    return manifolds_around(parts, names)


def manifolds_around(parts: Sequence[Floats], names: tuple[Any, ...]) -> Manifolds:
    """Return manifolds around the mean of their centres.

    Raises
    ------
    InputError
        All centres are the same.

    Examples
    --------
    >>> manifolds_around([np.array([[1.0]]), np.array([[3.0]])], ("a", "b")).centres.ravel().tolist()
    [-1.0, 1.0]
    """
    middle = np.mean([each.mean(0) for each in parts], axis=0)
    found = Manifolds(tuple(each - middle for each in parts), names)
    largest = max(float(np.abs(each).max()) for each in found.points)
    if np.linalg.norm(found.centres, axis=1).min() <= _NOTHING * largest:
        raise InputError(
            "a manifold lies around the mean of all: it has no direction",
            expected="centres that differ from their mean",
            got="one that is the same",
        )
    return found


def shared_axes(found: Manifolds, n_shared: int | None, random: np.random.Generator) -> Floats:
    """Return the directions along which centres are correlated, which the theory does not allow.

    Parameters
    ----------
    found : Manifolds
    n_shared : int, optional
        By default as many principal axes of the centres, from the first on, as hold more variance than the first one of
        centres whose units were shuffled over manifolds (parallel analysis).
    random : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of shape (n_shared, n_units)

    Raises
    ------
    OptionError
        So many that fewer than two would be left.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> centres = random.normal(size=(40, 60)) + 3 * random.normal(size=(40, 1)) * random.normal(size=60)
    >>> shared_axes(manifolds_around(list(centres[:, None]), tuple(range(40))), None, random).shape
    (1, 60)
    """
    centres = found.centres
    _, sizes, axes = np.linalg.svd(centres, full_matrices=False)
    if n_shared is None:
        largest = [np.linalg.svd(random.permuted(centres, axis=0), compute_uv=False)[0] for _ in range(_N_ORDERS)]
        n_shared = int(np.argmin(np.append(sizes > np.quantile(largest, 1 - SIGNIFICANT), False)))
        n_shared = min(n_shared, max(0, len(centres) - _FEWEST_MANIFOLDS - 1))
    elif whole("n_shared", n_shared, 0) > len(centres) - _FEWEST_MANIFOLDS:
        raise OptionError("n_shared is too large", expected=f"at most {len(centres) - _FEWEST_MANIFOLDS}", got=n_shared)
    return axes[:n_shared]


def without(found: Manifolds, axes: Floats) -> Manifolds:
    """Return manifolds without what lies along some orthonormal axes.

    Examples
    --------
    >>> given = Manifolds((np.ones((2, 2)), -np.ones((2, 2))), ("a", "b"))
    >>> without(given, np.array([[1.0, 0.0]])).points[0].tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """
    return found._replace(points=tuple(each - each @ axes.T @ axes for each in found.points))


def generators(points: Floats) -> tuple[Floats, float]:
    """Return the points of a manifold in its own coordinates, in units of the norm of its centre, and this norm.

    Returns
    -------
    numpy.ndarray of shape (n_dimensions + 1, n_points)
        The last coordinate is along the centre, and 1 on average: points that vary along it, as by a gain, are nearer
        to one ray from the middle of all manifolds than their distances tell.
    float

    Examples
    --------
    >>> found, norm = generators(np.array([[2.0, 1.0], [2.0, -1.0]]))
    >>> np.abs(found).tolist(), norm
    ([[0.5, 0.5], [1.0, 1.0]], 2.0)
    """
    centre = points.mean(0)
    norm = float(np.linalg.norm(centre))
    along = points @ centre / norm**2
    left, sizes, _ = np.linalg.svd((points - along[:, None] * centre) / norm, full_matrices=False)
    varies = sizes > _NOTHING * max(1.0, sizes.max(initial=0.0))
    return np.vstack([(left[:, varies] * sizes[varies]).T, along]), norm


def sizes_of(found: Manifolds) -> npt.NDArray[np.intp]:
    """Return how many points each manifold has.

    Examples
    --------
    >>> sizes_of(Manifolds((np.zeros((2, 1)), np.ones((3, 1))), ("a", "b"))).tolist()
    [2, 3]
    """
    return np.array([len(each) for each in found.points])
