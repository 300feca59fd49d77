"""Ridge regression from features to neural responses, with a penalty of its own for each target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.alignment.linear.encoding import EncodingModel
from neuros_mechint.neuro.alignment.linear.held_out import inner_folds
from neuros_mechint.neuro.alignment.linear.ridge_solvers import RidgeFit, solve, solver_for

_DEFAULT_ALPHAS = 10.0 ** np.arange(-2, 11, dtype=np.float64)
"""Penalties to try, in units of the mean variance of the features: from none to all but ignoring them."""


class RidgeModel(EncodingModel):
    """Base of ridge regressions: what is kept of a fit, and what it predicts."""

    def _keep(self, fitted: RidgeFit, x: Floats) -> None:
        self._fitted = fitted
        self.alphas_, self.inner_loss_ = fitted.alphas, fitted.losses
        self.n_features_in_ = x.shape[1]
        self.solver_ = solver_for(*x.shape)

    def _predict(self, x: Floats) -> Floats:
        return self._fitted.predict(x)

    @property
    def coef_(self) -> Floats:
        """Weights of the features."""
        self._require_fit("n_features_in_")
        return self._fitted.weights

    @property
    def intercept_(self) -> Floats:
        """What is predicted where all features are 0."""
        self._require_fit("n_features_in_")
        return self._fitted.target_mean - self._fitted.mean @ self.coef_


class RidgeEncoding(RidgeModel):
    """Predict each target from all features, with the penalty that predicts it best within the training data.

    With no more samples than features himalaya solves it where it is installed (the ``encoding`` extra), on the
    backend that is set there (``himalaya.backend.set_backend("torch_cuda")`` for a GPU). Otherwise a few lines of NumPy
    do, which take the same folds and choose the same penalties. Features and targets are centred, not scaled.

    Parameters
    ----------
    alphas : sequence of float, optional
        Penalties to try, above 0: ``alpha`` times the sum of squared weights is added to the squared error. Default: 13
        powers of ten, from 0.01 to 1e10 times the mean variance of the features.
    inner_cv : int
        Folds within the training data by which penalties are chosen; fewer where there are fewer groups.
    metric : {"r2", "correlation"}
        What `score` returns, see `score_targets`.
    seed : int or numpy.random.Generator
        Deals rows out to the inner folds.

    Attributes
    ----------
    alphas_ : numpy.ndarray of shape (n_targets,)
        The penalty of each target.
    coef_ : numpy.ndarray of shape (n_features, n_targets)
    intercept_ : numpy.ndarray of shape (n_targets,)
    inner_loss_ : numpy.ndarray of shape (n_targets,)
        Mean squared error in the inner folds.
    solver_ : {"himalaya", "numpy"}

    References
    ----------
    Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634; Dupré la Tour et al. 2022, Feature-space selection
    with banded ridge regression, doi:10.1016/j.neuroimage.2022.119728

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> X = random.standard_normal((120, 300))
    >>> Y = X @ random.standard_normal((300, 4)) / 10
    >>> Y[:, 3] = random.standard_normal(120)  # a unit that has nothing to do with X
    >>> encoding = nm.RidgeEncoding()
    >>> bool(encoding.score_targets(X, Y)[3] < 0.1 < encoding.score(X, Y))
    True
    """

    def __init__(
        self,
        alphas: Sequence[float] | None = None,
        inner_cv: int = 5,
        metric: str = "r2",
        seed: SeedLike = 0,
    ) -> None:
        self.alphas = alphas
        self.inner_cv = inner_cv
        self.metric = metric
        self.seed = seed

    def _fit(self, x: Floats, y: Floats, groups: Sequence[Any] | None = None) -> None:
        alphas = checked_alphas(self.alphas, x)
        splits = inner_folds(len(x), self.inner_cv, groups, self.seed)
        fitted = solve(x, y, [np.arange(x.shape[1])], np.ones((1, 1)), alphas, splits)
        self._keep(fitted, x)


def checked_alphas(alphas: Sequence[float] | None, x: Floats) -> Floats:
    """Return penalties in ascending order; by default such that the units of the features ``x`` do not matter.

    Raises
    ------
    InputError
        None, or one that is not above 0.

    Examples
    --------
    >>> checked_alphas([10, 1], np.eye(2)).tolist()
    [1.0, 10.0]
    """
    if alphas is None:
        return np.asarray(_DEFAULT_ALPHAS * x.var(0).mean(), dtype=np.float64)
    values = np.unique(np.asarray(alphas, dtype=float))
    if not values.size or not (np.isfinite(values) & (values > 0)).all():
        raise InputError(
            "alphas are no penalties",
            expected="numbers above 0",
            got=np.asarray(alphas).tolist(),
            fix="pass numpy.logspace(-2, 10, 13); 1e-6 is as good as no penalty",
        )
    return values
