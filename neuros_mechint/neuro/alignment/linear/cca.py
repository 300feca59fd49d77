"""Canonical correlation analysis: the directions of two sets of responses that go together most."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.alignment.linear.canonical_test import CanonicalTest, permute_canonical
from neuros_mechint.neuro.alignment.linear.estimator import (
    Estimator,
    centred,
    check_components,
    features,
    principal_axes,
)
from neuros_mechint.neuro.alignment.linear.held_out import (
    check_test_rows,
    correlations,
    folds,
    mean_over_folds,
)
from neuros_mechint.neuro.alignment.samples import paired, same_kind

_FEWEST_SAMPLES = 3


@dataclass(frozen=True)
class Whitened:
    """One side, centred and whitened.

    Parameters
    ----------
    scores : numpy.ndarray of shape (n_samples, rank)
        With ``reg=0`` of unit variance and uncorrelated.
    map : numpy.ndarray of shape (n_features, rank)
        Centred data times this give ``scores``.
    mean : numpy.ndarray of shape (n_features,)
    """

    scores: Floats
    map: Floats
    mean: Floats

    @property
    def rank(self) -> int:
        """Number of directions along which the data vary."""
        return self.scores.shape[1]


def whiten(x: Floats, reg: float, name: str = "X") -> Whitened:
    """Return data centred and multiplied by the inverse root of their (regularised) covariance.

    Parameters
    ----------
    x : numpy.ndarray of shape (n_samples, n_features)
    reg : float
        Times the mean variance of the features is added to the diagonal of the covariance.
    name : str
        What to call the data in errors.

    Returns
    -------
    Whitened

    Raises
    ------
    InputError
        Nothing varies.

    Examples
    --------
    >>> white = whiten(np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]), reg=0.0)
    >>> white.rank, round(float(white.scores.var(ddof=1)), 12)
    (1, 1.0)
    """
    reg = number("reg", reg, 0, np.inf, closed="left")
    data, mean = centred(x)
    left, sizes, right = principal_axes(data, name)
    variances = sizes**2 / (len(x) - 1)
    roots = np.sqrt(variances + reg * variances.sum() / x.shape[1])
    return Whitened(left * (sizes / roots), right.T / roots, mean)


class CCA(Estimator):
    r"""Canonical correlation analysis by QR and singular value decompositions, ridge-regularised where asked.

    Parameters
    ----------
    n_components : int
        Pairs of directions, the most correlated first.
    reg : float
        At least 0: this many times the mean variance of the features is added to the diagonal of each covariance.
        0 is classical; between about 0.01 and 1 it keeps directions of little variance out where samples are few.

    Attributes
    ----------
    correlations_ : numpy.ndarray of shape (n_components,)
        In sample, biased upwards; the more so the fewer the samples.
    x_weights_, y_weights_ : numpy.ndarray of shape (n_features, n_components)
        Centred data times these give the variates, of unit variance where ``reg=0``. A constant feature weighs 0.
    x_loadings_, y_loadings_ : numpy.ndarray of shape (n_features, n_components)
        Correlation of each feature with its own side's variates; NaN for a constant feature.
    x_mean_, y_mean_ : numpy.ndarray of shape (n_features,)

    References
    ----------
    Hotelling 1936, Relations between two sets of variates, doi:10.1093/biomet/28.3-4.321; Vinod 1976, Canonical ridge
    and econometrics of joint production, doi:10.1016/0304-4076(76)90010-5; Björck and Golub 1973, Numerical methods
    for computing angles between linear subspaces, doi:10.1090/S0025-5718-1973-0348991-3

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> shared = random.standard_normal((400, 1))
    >>> X = np.hstack([shared, random.standard_normal((400, 4))]) @ random.standard_normal((5, 5))
    >>> Y = np.hstack([shared + random.standard_normal((400, 1)), random.standard_normal((400, 3))])
    >>> cca = nm.CCA(n_components=1).fit(X, Y)
    >>> print(f"{cca.correlations_[0]:.2f} in sample, {cca.score(X, Y):.2f} held out; planted: {np.sqrt(0.5):.2f}")
    0.69 in sample, 0.67 held out; planted: 0.71
    """

    def __init__(self, n_components: int, reg: float = 0.0) -> None:
        self.n_components = n_components
        self.reg = reg

    def fit(self, X: Any, Y: Any) -> CCA:
        """Find the directions.

        Parameters
        ----------
        X, Y : array_like, torch.Tensor, xarray.DataArray or Recording, (n_samples, n_features)
            Joined by label where they have labels, see `neuros_mechint.neuro.alignment.samples.paired`.

        Returns
        -------
        CCA

        Raises
        ------
        InputError
            More components than the rank of either side, ``reg`` below 0, fewer than 3 samples, or data that `paired`
            refuses.

        Warns
        -----
        UserWarning
            Without regularisation, if the ranks add up to as many as there are samples: so many in-sample
            correlations are 1 whatever the data.
        """
        x, y, _ = paired(X, Y)
        white = self._fit(x, y)
        _warn_if_saturated(white, len(x), self.reg)
        return self

    def _fit(self, x: Floats, y: Floats) -> tuple[Whitened, Whitened]:
        """Fit without warnings."""
        one, other = self._whiten(x, y)
        most = min(one.rank, other.rank)
        count = check_components(self.n_components, most, f"X has rank {one.rank} and Y {other.rank} once centred")
        left, _, right = np.linalg.svd(one.scores.T @ other.scores, full_matrices=False)
        left, right = left[:, :count], right[:count].T
        x_weights, y_weights = one.map @ left, other.map @ right
        signs = np.sign(x_weights[np.abs(x_weights).argmax(0), range(count)])
        self.x_weights_, self.y_weights_ = x_weights * signs, y_weights * signs
        self.x_mean_, self.y_mean_ = one.mean, other.mean
        variates, others = one.scores @ left * signs, other.scores @ right * signs
        self.correlations_ = correlations(variates, others)
        self.x_loadings_, self.y_loadings_ = _loadings(x, variates), _loadings(y, others)
        return one, other

    def _whiten(self, x: Floats, y: Floats) -> tuple[Whitened, Whitened]:
        if len(x) < _FEWEST_SAMPLES:
            raise InputError("too few samples", expected=f"at least {_FEWEST_SAMPLES}", got=len(x))
        return whiten(x, self.reg, "X"), whiten(y, self.reg, "Y")

    def transform(self, X: Any, Y: Any = None) -> Any:
        """Return the variates of new data.

        Parameters
        ----------
        X, Y : (n_samples, n_features)
            One side, or both. They may have different numbers of samples: nothing is paired here.

        Returns
        -------
        (n_samples, n_components) of the kind of ``X``, or a pair of them
        """
        self._require_fit("x_weights_")
        x = (features(X, len(self.x_mean_)) - self.x_mean_) @ self.x_weights_
        if Y is None:
            return same_kind(x, X)
        y = (features(Y, len(self.y_mean_), "Y") - self.y_mean_) @ self.y_weights_
        return same_kind(x, X), same_kind(y, Y)

    def score(self, X: Any, Y: Any, cv: Any = 5, groups: Sequence[Any] | None = None, seed: SeedLike = 0) -> float:
        """Return the held-out canonical correlation, averaged over components and folds.

        Directions and means come from the other folds only; around 0 where the two sides share nothing.

        Parameters
        ----------
        X, Y : (n_samples, n_features)
        cv, groups, seed
            See `neuros_mechint.neuro.alignment.linear.held_out.folds`. ``groups`` go with the rows of ``X``.

        Returns
        -------
        float
            Between -1 and 1.

        Raises
        ------
        InputError
            As for `fit`, or folds of fewer than 3 samples.
        """
        return float(np.nanmean(self.score_components(X, Y, cv, groups, seed)))

    def score_components(
        self, X: Any, Y: Any, cv: Any = 5, groups: Sequence[Any] | None = None, seed: SeedLike = 0
    ) -> Any:
        """Return the held-out correlation of each component, averaged over folds; parameters as in `score`.

        Returns
        -------
        (n_components,) of the kind of ``X``
        """
        x, y, _ = paired(X, Y)
        splits = folds(len(x), cv, groups, seed)
        check_test_rows(splits, _FEWEST_SAMPLES, "a correlation")
        found: list[Floats] = []
        for fold, (train, test) in enumerate(splits):
            fitted = self._copy()
            white = fitted._fit(x[train], y[train])
            if not fold:
                _warn_if_saturated(white, len(train), self.reg, stacklevel=4)
            found.append(fitted._correlations(x[test], y[test]))
        return same_kind(mean_over_folds(found), X)

    def score_in_sample(self, X: Any, Y: Any) -> float:
        """Return the mean canonical correlation on the data it is fitted to: biased upwards, see the method card."""
        x, y, _ = paired(X, Y)
        fitted = self._copy()
        fitted._fit(x, y)
        return float(fitted.correlations_.mean())

    def _correlations(self, x: Floats, y: Floats) -> Floats:
        variates, others = (x - self.x_mean_) @ self.x_weights_, (y - self.y_mean_) @ self.y_weights_
        return correlations(variates, others)

    def permutation_test(self, X: Any, Y: Any, n_permutations: int = 999, seed: SeedLike = 0) -> CanonicalTest:
        """Test which components are more correlated than after shuffling the rows of one side.

        Both sides are whitened once; every permutation then costs one small matrix product. Of component k the test
        is stepwise: the k - 1 components before it are taken out of both sides, the rest is shuffled, and p counts how
        often its largest correlation is as large as component k's. Where p would fall from one component to the
        next it is raised, so that p bounds the chance of any false component among those tested.

        Parameters
        ----------
        X, Y : (n_samples, n_features)
            Rows must be exchangeable: not successive moments of one time series.
        n_permutations : int
        seed : int or numpy.random.Generator

        Returns
        -------
        CanonicalTest

        Raises
        ------
        InputError
            As for `fit`, or fewer than one permutation.

        References
        ----------
        Winkler et al. 2020, Permutation inference for canonical correlation analysis,
        doi:10.1016/j.neuroimage.2020.117065

        Examples
        --------
        >>> import numpy as np, neuros_mechint as nm
        >>> random = np.random.default_rng(0)
        >>> X = random.standard_normal((100, 3))
        >>> Y = np.hstack([X[:, :1], random.standard_normal((100, 2))]) + 0.5 * random.standard_normal((100, 3))
        >>> nm.CCA(n_components=2).permutation_test(X, Y, n_permutations=199).p.tolist()
        [0.005, 0.56]
        """
        x, y, _ = paired(X, Y)
        white = self._whiten(x, y)
        most = min(white[0].rank, white[1].rank)
        count = check_components(
            self.n_components, most, f"X has rank {white[0].rank} and Y {white[1].rank} once centred"
        )
        _warn_if_saturated(white, len(x), self.reg)
        arguments = {**self.get_params(), "n_permutations": n_permutations}
        return permute_canonical(white[0].scores, white[1].scores, count, n_permutations, seed, arguments)


def _loadings(x: Floats, variates: Floats) -> Floats:
    """Return correlations ``(n_features, n_components)`` of features with variates."""
    data, _ = centred(x)
    norms = np.linalg.norm(data, axis=0)[:, None]
    variates = variates / np.linalg.norm(variates, axis=0)
    return np.where(norms > 0, data.T @ variates / np.where(norms > 0, norms, 1.0), np.nan)


def _warn_if_saturated(white: tuple[Whitened, Whitened], n_samples: int, reg: float, stacklevel: int = 3) -> None:
    ranks = [side.rank for side in white]
    n_ones = sum(ranks) - (n_samples - 1)
    if reg == 0 and n_ones > 0:
        warnings.warn(
            f"with {n_samples} samples and ranks {ranks[0]} and {ranks[1]}, {n_ones} canonical correlations are "
            f"exactly 1 whatever the data: their directions mean nothing. Use fewer features (more than {sum(ranks)} "
            "samples per fit), or reg above 0, and trust held-out scores only",
            UserWarning,
            stacklevel=stacklevel,
        )
