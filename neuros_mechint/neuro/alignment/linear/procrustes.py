"""Procrustes and shape metrics: how far two geometries are apart once one is rotated onto the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.alignment.linear.estimator import Estimator, centred, features, principal_axes
from neuros_mechint.neuro.alignment.linear.held_out import folds
from neuros_mechint.neuro.alignment.samples import paired, same_kind

_FEWEST_SAMPLES = 2


@dataclass(frozen=True)
class Shape:
    """One side: its principal axes, and by how much they are stretched.

    Parameters
    ----------
    mean : numpy.ndarray of shape (n_features,)
    axes : numpy.ndarray of shape (n_features, rank)
    scores : numpy.ndarray of shape (n_samples, rank)
        Training data along the axes, stretched, of norm 1 in all.
    gains : numpy.ndarray of shape (rank,)
        Of the axes.
    rest : float
        Gain of directions along which the training data do not vary.
    """

    mean: Floats
    axes: Floats
    scores: Floats
    gains: Floats
    rest: float

    def along_axes(self, x: Floats) -> Floats:
        """Return data along the stretched axes, ``(n_samples, rank)``."""
        return (x - self.mean) @ self.axes * self.gains

    def norm(self, x: Floats) -> float:
        """Return the norm of data after centring and stretching, other directions than the axes included."""
        data = x - self.mean
        along = data @ self.axes
        outside = max(float((data**2).sum() - (along**2).sum()), 0.0)
        return float(np.sqrt(((along * self.gains) ** 2).sum() + self.rest**2 * outside))


def shape_of(x: Floats, alpha: float, name: str = "X") -> Shape:
    """Return data centred, brought to unit variance on the whole, and whitened as far as ``alpha`` says.

    Parameters
    ----------
    x : numpy.ndarray of shape (n_samples, n_features)
    alpha : float
        1 leaves the geometry as it is, 0 makes all directions alike.
    name : str
        What to call the data in errors.

    Returns
    -------
    Shape

    Raises
    ------
    InputError
        Nothing varies.

    Examples
    --------
    >>> shape = shape_of(np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]]), alpha=0.0)
    >>> np.abs(shape.scores).round(3).max(0).tolist()
    [0.5, 0.5]
    """
    data, mean = centred(x)
    left, sizes, right = principal_axes(data, name)
    unit = np.sqrt((sizes**2).mean())  # so that alpha means the same in any unit of measurement
    stretched = alpha * sizes / unit + (1 - alpha)
    total = float(np.linalg.norm(stretched))
    return Shape(mean, right.T, left * (stretched / total), stretched / total / sizes, alpha / unit / total)


class Procrustes(Estimator):
    r"""Rotate one set of responses onto another, and say how far apart they stay.

    Parameters
    ----------
    alpha : float
        From 1, orthogonal Procrustes: geometries as they are, to 0: both sides whitened, as in canonical correlation
        analysis. In between, each side is taken as :math:`Z = \alpha X + (1 - \alpha) X (X^\top X)^{-1/2}` with the
        mean variance of the principal axes of :math:`X` brought to 1.

    Attributes
    ----------
    distance_ : float
        Angle in radians between the two on the data it was fitted to, 0 to pi / 2; see `distance`.
    rotation_ : numpy.ndarray of shape (n_x_features, n_y_features)
        Orthogonal, of the rank that both sides have.
    x_mean_, y_mean_ : numpy.ndarray of shape (n_features,)

    References
    ----------
    Williams et al. 2021, Generalized shape metrics on neural representations, doi:10.48550/arXiv.2110.14739;
    Schönemann 1966, A generalized solution of the orthogonal Procrustes problem, doi:10.1007/BF02289451

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> X = random.standard_normal((60, 5))
    >>> rotation = np.linalg.qr(random.standard_normal((5, 5)))[0]
    >>> procrustes = nm.Procrustes()
    >>> round(procrustes.distance(X, 3 * X @ rotation + 1), 6)
    0.0
    >>> round(procrustes.score(X, 3 * X @ rotation + 1), 6)
    1.0
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(self, X: Any, Y: Any) -> Procrustes:
        """Find the rotation of ``X`` onto ``Y``.

        Parameters
        ----------
        X, Y : array_like, torch.Tensor, xarray.DataArray or Recording, (n_samples, n_features)
            Joined by label where they have labels, see `neuros_mechint.neuro.alignment.samples.paired`. They may have
            different numbers of features.

        Returns
        -------
        Procrustes

        Raises
        ------
        InputError
            ``alpha`` outside 0 to 1, nothing that varies on one side, or data that `paired` refuses.
        """
        x, y, _ = paired(X, Y)
        self._fit(x, y)
        return self

    def _fit(self, x: Floats, y: Floats) -> None:
        alpha = number("alpha", self.alpha, 0, 1, closed="both")
        if len(x) < _FEWEST_SAMPLES:
            raise InputError("too few samples", expected=f"at least {_FEWEST_SAMPLES}", got=len(x))
        self._x, self._y = shape_of(x, float(alpha), "X"), shape_of(y, float(alpha), "Y")
        left, sizes, right = np.linalg.svd(self._x.scores.T @ self._y.scores, full_matrices=False)
        self._turn = left @ right
        self.distance_ = float(np.arccos(np.clip(sizes.sum(), 0.0, 1.0)))
        self.x_mean_, self.y_mean_ = self._x.mean, self._y.mean

    @property
    def rotation_(self) -> Floats:
        """What turns the features of ``X`` to those of ``Y``."""
        self._require_fit("distance_")
        return self._x.axes @ self._turn @ self._y.axes.T

    def transform(self, X: Any, Y: Any = None) -> Any:
        """Return data centred, stretched and rotated into the space of ``Y``.

        Parameters
        ----------
        X, Y : (n_samples, n_features)
            ``X`` is rotated, ``Y`` only centred and stretched, so that both can be compared. What ``Y`` has no
            dimension for is dropped.

        Returns
        -------
        (n_samples, n_y_features) of the kind of ``X``, or a pair of them
        """
        self._require_fit("distance_")
        x = features(X, len(self.x_mean_))
        turned = same_kind(self._x.along_axes(x) @ self._turn @ self._y.axes.T, X)
        if Y is None:
            return turned
        y = features(Y, len(self.y_mean_), "Y")
        return turned, same_kind(self._y.along_axes(y) @ self._y.axes.T, Y)

    def distance(self, X: Any, Y: Any) -> float:
        """Return the angle between both shapes in radians: a metric, 0 for copies up to rotation, scale and shift.

        On the data themselves, nothing held out: with few samples and many features it is too small.

        Parameters
        ----------
        X, Y : (n_samples, n_features)

        Returns
        -------
        float
            0 to pi / 2. Near 0 it is exact to about 1e-7.
        """
        return self._copy().fit(X, Y).distance_

    def score(self, X: Any, Y: Any, cv: Any = 5, groups: Sequence[Any] | None = None, seed: SeedLike = 0) -> float:
        """Return the held-out similarity: the cosine between ``Y`` and the rotated ``X``, averaged over folds.

        Means, stretches and rotation come from the other folds only; around 0 where both share nothing.

        Parameters
        ----------
        X, Y : (n_samples, n_features)
        cv, groups, seed
            See `neuros_mechint.neuro.alignment.linear.held_out.folds`. ``groups`` go with the rows of ``X``.

        Returns
        -------
        float
            Between -1 and 1.
        """
        x, y, _ = paired(X, Y)
        found = [self._fold(x[train], y[train], x[test], y[test]) for train, test in folds(len(x), cv, groups, seed)]
        return float(np.mean(found))

    def score_in_sample(self, X: Any, Y: Any) -> float:
        """Return the cosine of `distance`: the similarity on the data it is fitted to."""
        return float(np.cos(self.distance(X, Y)))

    def _fold(self, x: Floats, y: Floats, x_test: Floats, y_test: Floats) -> float:
        fitted = self._copy()
        fitted._fit(x, y)
        product = float((fitted._x.along_axes(x_test) @ fitted._turn * fitted._y.along_axes(y_test)).sum())
        norms = fitted._x.norm(x_test) * fitted._y.norm(y_test)
        return product / norms if norms > 0 else 0.0
