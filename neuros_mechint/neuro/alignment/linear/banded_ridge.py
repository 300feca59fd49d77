"""Banded ridge regression: a penalty for each feature space and target, and how much each space explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.alignment.linear.encoding import checked_pair, pooled_r2, warn_of_constants
from neuros_mechint.neuro.alignment.linear.held_out import Splits, folds, inner_folds, rows_of
from neuros_mechint.neuro.alignment.linear.ridge import RidgeModel, checked_alphas
from neuros_mechint.neuro.alignment.linear.ridge_solvers import solve
from neuros_mechint.neuro.alignment.samples import same_kind

_MEASURES = ("product", "unique")
_CONCENTRATIONS = (0.1, 1.0)  # one band dominates; all mixtures alike
_SMALLEST_SCALE = 1e-10


class BandedRidge(RidgeModel):
    """Predict each target from several feature spaces, each with a penalty of its own.

    Ridge regression with one penalty lets the space with the most or largest features dominate. Here candidates for
    the shares of the bands are drawn at random, the first being equal shares, and each target takes the shares and
    the penalty that predict it best within the training data. himalaya or NumPy solve it, as for `RidgeEncoding`,
    with the same candidates.

    Parameters
    ----------
    bands : mapping of str to columns, or sequence of length n_features
        Columns of ``X`` of each band (a slice or column numbers), or the name of the band of each column. Every
        column belongs to one band.
    alphas : sequence of float
        Penalties to try, above 0; that of a band is ``alpha`` over its share.
    n_candidates : int
        Shares to try, at every penalty. Time grows with it; more bands need more.
    inner_cv : int
        Folds within the training data; fewer where there are fewer groups.
    metric : {"r2", "correlation"}
        What `score` returns, see `score_targets`.
    seed : int or numpy.random.Generator
        Draws the candidates and deals rows out to the inner folds.

    Attributes
    ----------
    bands_ : dict of str to numpy.ndarray
        Columns of each band.
    scales_ : numpy.ndarray of shape (n_bands, n_targets)
        Shares of the bands, of sum 1.
    alphas_ : numpy.ndarray of shape (n_targets,)
        The penalty of band b is ``alphas_ / scales_[b]``.
    coef_ : numpy.ndarray of shape (n_features, n_targets)
    intercept_ : numpy.ndarray of shape (n_targets,)
    inner_loss_ : numpy.ndarray of shape (n_targets,)
    solver_ : {"himalaya", "numpy"}

    References
    ----------
    Nunez-Elizalde et al. 2019, Voxelwise encoding models with non-spherical multivariate normal priors,
    doi:10.1016/j.neuroimage.2019.04.012; Dupré la Tour et al. 2022, doi:10.1016/j.neuroimage.2022.119728

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> X = np.hstack([random.standard_normal((100, 5)), 30 * random.standard_normal((100, 60))])
    >>> Y = X[:, :5] @ random.standard_normal((5, 3)) + random.standard_normal((100, 3))
    >>> model = nm.BandedRidge({"few": slice(0, 5), "many": slice(5, 65)}, n_candidates=10)
    >>> parts = model.score_bands(X, Y)
    >>> bool(parts["few"].mean() > 0.5 > 0.1 > parts["many"].mean())
    True
    """

    def __init__(
        self,
        bands: Mapping[str, Any] | Sequence[Any],
        alphas: Sequence[float] | None = None,
        n_candidates: int = 50,
        inner_cv: int = 5,
        metric: str = "r2",
        seed: SeedLike = 0,
    ) -> None:
        self.bands = bands
        self.alphas = alphas
        self.n_candidates = n_candidates
        self.inner_cv = inner_cv
        self.metric = metric
        self.seed = seed

    def _fit(self, x: Floats, y: Floats, groups: Sequence[Any] | None = None) -> None:
        bands, alphas = columns_of_bands(self.bands, x.shape[1]), checked_alphas(self.alphas, x)
        random = generator(self.seed)
        scales = _candidates(len(bands), whole("n_candidates", self.n_candidates), random)
        splits = inner_folds(len(x), self.inner_cv, groups, random)
        fitted = solve(x, y, list(bands.values()), scales, alphas, splits)
        self.bands_, self.scales_ = bands, fitted.scales
        self._keep(fitted, x)

    def score_bands(
        self,
        X: Any,
        Y: Any,
        measure: str = "product",
        cv: Any = 5,
        groups: Sequence[Any] | None = None,
        seed: SeedLike = 0,
    ) -> dict[str, Any]:
        """Return how much of the held-out variance of each target each band explains.

        Parameters
        ----------
        X, Y, cv, groups, seed
            As for `score`.
        measure : {"product", "unique"}
            ``product`` splits the R² of the whole model into parts of that sum, what bands share among them.
            ``unique`` is the R² of the whole model less that of a model fitted without the band: what bands
            share is in none of them.

        Returns
        -------
        dict of str to (n_targets,) of the kind of ``Y``
            By band; NaN for constant targets, which a warning counts.
        """
        check_option("measure", measure, _MEASURES)
        x, y = checked_pair(X, Y)
        warn_of_constants(y)
        splits = folds(len(x), cv, groups, seed)
        measured = self._product if measure == "product" else self._unique
        return {name: same_kind(values, Y) for name, values in measured(x, y, splits, groups).items()}

    def _product(self, x: Floats, y: Floats, splits: Splits, groups: Sequence[Any] | None) -> dict[str, Floats]:
        """Return each band's share of the R²: the covariance of its part with the data and with what is left."""
        names = list(columns_of_bands(self.bands, x.shape[1]))
        explained, deviations = np.zeros((len(names), y.shape[1])), np.zeros(y.shape[1])
        for train, test in splits:
            fitted = self._copy()
            fitted._fit(x[train], y[train], rows_of(groups, train))
            parts = np.stack(list(fitted._fitted.parts(x[test])))
            truth = y[test] - y[train].mean(0)
            explained += (parts * (2 * truth - parts.sum(0))).sum(1)
            deviations += (truth**2).sum(0)
        known = ~(y == y[0]).all(0)
        shares = np.where(known, explained / np.where(known, deviations, 1.0), np.nan)
        return dict(zip(names, shares, strict=True))

    def _unique(self, x: Floats, y: Floats, splits: Splits, groups: Sequence[Any] | None) -> dict[str, Floats]:
        bands = columns_of_bands(self.bands, x.shape[1])
        if len(bands) < 2:
            raise InputError("one band has no unique part", expected="two bands or more", got=list(bands))
        whole_model = self._r2(self, x, y, splits, groups)
        found: dict[str, Floats] = {}
        for name in bands:
            others = np.sort(np.concatenate([columns for other, columns in bands.items() if other != name]))
            labels = np.empty(x.shape[1], dtype=object)
            for other, columns in bands.items():
                labels[columns] = other
            reduced = self._copy().set_params(bands=labels[others].tolist())
            found[name] = whole_model - self._r2(reduced, x[:, others], y, splits, groups)
        return found

    @staticmethod
    def _r2(model: Any, x: Floats, y: Floats, splits: Splits, groups: Sequence[Any] | None) -> Floats:
        predictions = [model._predict_fold(x, y, train, test, groups) for train, test in splits]
        return pooled_r2(predictions, y, splits)


def columns_of_bands(bands: Mapping[str, Any] | Sequence[Any], n_features: int) -> dict[str, npt.NDArray[np.intp]]:
    """Return the columns of each band.

    Raises
    ------
    InputError
        Columns of no band or of two, that do not exist, or a band without any.

    Examples
    --------
    >>> {name: columns.tolist() for name, columns in columns_of_bands(["a", "b", "a"], 3).items()}
    {'a': [0, 2], 'b': [1]}
    """
    every = np.arange(n_features)
    if isinstance(bands, Mapping):
        try:
            chosen = {str(name): np.atleast_1d(every[columns]).astype(np.intp) for name, columns in bands.items()}
        except (IndexError, TypeError) as error:
            raise InputError(
                "a band names columns that are not there", expected=f"0 to {n_features - 1}", got=error
            ) from error
    else:
        labels = [str(label) for label in bands]
        if len(labels) != n_features:
            raise InputError("bands do not fit the features", expected=f"{n_features} names", got=len(labels))
        chosen = {name: every[np.array(labels) == name] for name in dict.fromkeys(labels)}
    counts = np.bincount(np.concatenate([*chosen.values(), every[:0]]), minlength=n_features)
    if (counts != 1).any() or not all(map(len, chosen.values())):
        raise InputError(
            "bands do not divide the features up",
            expected="every column in one band, and no band empty",
            got=f"{int((counts == 0).sum())} columns in none, {int((counts > 1).sum())} in several; "
            f"sizes {[len(columns) for columns in chosen.values()]}",
        )
    return chosen


def _candidates(n_bands: int, n_candidates: int, random: np.random.Generator) -> Floats:
    """Return shares ``(n_candidates, n_bands)`` to try, equal ones first."""
    if n_bands == 1:
        return np.ones((1, 1))
    drawn = [random.dirichlet(np.full(n_bands, _CONCENTRATIONS[turn % 2])) for turn in range(n_candidates - 1)]
    shares = np.vstack([np.full((1, n_bands), 1 / n_bands), *drawn])
    shares = np.maximum(shares, _SMALLEST_SCALE)
    return shares / shares.sum(1, keepdims=True)
