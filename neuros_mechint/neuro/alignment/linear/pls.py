"""Partial least squares regression, scikit-learn's, scored on held-out data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.alignment.linear.encoding import EncodingModel
from neuros_mechint.neuro.alignment.linear.estimator import centred, check_components, features
from neuros_mechint.neuro.alignment.samples import same_kind


class PLS(EncodingModel):
    """Predict targets from few directions of the features, those that go together most with the targets.

    A thin layer over `sklearn.cross_decomposition.PLSRegression` (PLS2 by NIPALS).

    Parameters
    ----------
    n_components : int
        Directions; 25 is customary for features of vision models.
    scale : bool
        Whether each feature and target is divided by its standard deviation first.
    metric : {"r2", "correlation"}
        What `score` returns, see `score_targets`.

    Attributes
    ----------
    regression_ : sklearn.cross_decomposition.PLSRegression
        With weights, loadings, rotations and coefficients.

    References
    ----------
    Wold, Sjöström and Eriksson 2001, PLS-regression: a basic tool of chemometrics,
    doi:10.1016/S0169-7439(01)00155-1; Yamins et al. 2014, doi:10.1073/pnas.1403112111

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> X = random.standard_normal((200, 30))
    >>> Y = X[:, :2] @ random.standard_normal((2, 10)) + random.standard_normal((200, 10))
    >>> nm.PLS(n_components=2).score(X, Y) > 0.3
    True
    """

    def __init__(self, n_components: int, scale: bool = True, metric: str = "r2") -> None:
        self.n_components = n_components
        self.scale = scale
        self.metric = metric

    def _fit(self, x: Floats, y: Floats, groups: Sequence[Any] | None = None) -> None:
        from sklearn.cross_decomposition import PLSRegression

        rank = _rank(centred(x)[0])
        count = check_components(self.n_components, rank, f"X has rank {rank} once centred")
        self.regression_ = PLSRegression(n_components=count, scale=bool(self.scale))
        with warnings.catch_warnings():
            # what is left of the targets is zero: fewer components predict as well, which is no fault
            warnings.filterwarnings("ignore", "y residual is constant", UserWarning)
            self.regression_.fit(x, y)
        self.n_features_in_ = x.shape[1]

    def _predict(self, x: Floats) -> Floats:
        return np.asarray(self.regression_.predict(x)).reshape(len(x), -1)

    def transform(self, X: Any) -> Any:
        """Return the components of new features.

        Parameters
        ----------
        X : (n_samples, n_features)

        Returns
        -------
        (n_samples, n_components) of the kind of ``X``
        """
        self._require_fit("regression_")
        return same_kind(self.regression_.transform(features(X, self.n_features_in_)), X)


def _rank(x: Floats) -> int:
    """Return the number of directions along which centred data vary, by the smaller of their Gram matrices."""
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x
    variances = np.linalg.eigvalsh(gram)
    return int((variances > variances[-1] * max(x.shape) * np.finfo(float).eps).sum())
