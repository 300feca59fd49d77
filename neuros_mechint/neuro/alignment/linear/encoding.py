"""What encoding models share: predictions, and scores of them on data that were not learned from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.alignment.linear.estimator import Estimator, features
from neuros_mechint.neuro.alignment.linear.held_out import (
    Indices,
    Splits,
    check_test_rows,
    correlations,
    folds,
    mean_over_folds,
    rows_of,
)
from neuros_mechint.neuro.alignment.samples import paired, same_kind

METRICS = ("r2", "correlation")
_FEWEST_FOR_CORRELATION = 3
_FEWEST_SAMPLES = 3


class EncodingModel(Estimator):
    """Base of models that predict the targets ``Y`` (voxels, neurons) from the features ``X``.

    Subclasses hold ``metric`` and define ``_fit`` and ``_predict``.
    """

    metric: str
    n_features_in_: int

    def fit(self, X: Any, Y: Any, groups: Sequence[Any] | None = None) -> Any:
        """Learn to predict.

        Parameters
        ----------
        X : array_like, torch.Tensor, xarray.DataArray or Recording, (n_samples, n_features)
        Y : the same, (n_samples, n_targets)
            Joined to ``X`` by label where both have labels, see `neuros_mechint.neuro.alignment.samples.paired`.
        groups : sequence of length n_samples, optional
            What must not be torn apart where parameters are chosen by cross-validation.

        Returns
        -------
        The estimator

        Raises
        ------
        InputError
            Parameters that do not fit the data, fewer than 3 samples, no feature or target that varies, or data that
            `paired` refuses.
        """
        x, y = checked_pair(X, Y)
        self._check_metric()
        self._fit(x, y, groups)
        return self

    def predict(self, X: Any) -> Any:
        """Return predicted targets.

        Parameters
        ----------
        X : (n_samples, n_features)

        Returns
        -------
        (n_samples, n_targets) of the kind of ``X``
        """
        self._require_fit("n_features_in_")
        return same_kind(self._predict(features(X, self.n_features_in_)), X)

    def score(self, X: Any, Y: Any, cv: Any = 5, groups: Sequence[Any] | None = None, seed: SeedLike = 0) -> float:
        """Return the held-out score, averaged over targets; the model itself is neither needed fitted nor changed.

        Parameters
        ----------
        X : (n_samples, n_features)
        Y : (n_samples, n_targets)
        cv, groups, seed
            See `neuros_mechint.neuro.alignment.linear.held_out.folds`. ``groups`` go with the rows of ``X`` and hold
            within the training data too.

        Returns
        -------
        float

        Raises
        ------
        InputError
            As for `fit`; also for folds of fewer than 3 samples where the metric is a correlation.
        """
        return float(np.nanmean(as_array(self.score_targets(X, Y, cv, groups, seed), "scores")))

    def score_targets(
        self, X: Any, Y: Any, cv: Any = 5, groups: Sequence[Any] | None = None, seed: SeedLike = 0
    ) -> Any:
        """Return the held-out score of each target; parameters as in `score`.

        ``r2`` is one minus the squared errors of all folds over those of the mean of the training data, so that 0 is
        what knowing no stimulus gives. ``correlation`` is that of predictions and data within each fold, averaged.

        Returns
        -------
        (n_targets,) of the kind of ``Y``
            NaN for targets that are constant, which a warning counts.
        """
        x, y = checked_pair(X, Y)
        self._check_metric()
        warn_of_constants(y)
        return same_kind(self._score_splits(x, y, folds(len(x), cv, groups, seed), groups), Y)

    def score_in_sample(self, X: Any, Y: Any) -> float:
        """Return the mean score on the data it is fitted to, which more features always raise."""
        x, y = checked_pair(X, Y)
        self._check_metric()
        warn_of_constants(y)
        every = np.arange(len(x))
        return float(np.nanmean(self._score_splits(x, y, [(every, every)], None)))

    def _score_splits(self, x: Floats, y: Floats, splits: Splits, groups: Sequence[Any] | None) -> Floats:
        if self.metric == "correlation":
            check_test_rows(splits, _FEWEST_FOR_CORRELATION, "a correlation")
        scorer = {"r2": pooled_r2, "correlation": mean_correlation}[self.metric]
        predictions = [self._predict_fold(x, y, train, test, groups) for train, test in splits]
        return scorer(predictions, y, splits)

    def _predict_fold(
        self, x: Floats, y: Floats, train: Indices, test: Indices, groups: Sequence[Any] | None
    ) -> Floats:
        fitted = self._copy()
        fitted._fit(x[train], y[train], rows_of(groups, train))
        return fitted._predict(x[test])

    def _check_metric(self) -> None:
        check_option("metric", self.metric, METRICS)

    def _fit(self, x: Floats, y: Floats, groups: Sequence[Any] | None) -> None:
        raise NotImplementedError

    def _predict(self, x: Floats) -> Floats:
        raise NotImplementedError


def pooled_r2(predictions: Sequence[Floats], y: Floats, splits: Splits) -> Floats:
    """Return the share of the squared deviations from the training mean that predictions take away, over all folds.

    Parameters
    ----------
    predictions : sequence of numpy.ndarray of shape (n_test, n_targets)
    y : numpy.ndarray of shape (n_samples, n_targets)
    splits : list of (train, test)

    Returns
    -------
    numpy.ndarray of shape (n_targets,)

    Examples
    --------
    >>> y = np.array([[1.0], [2.0], [3.0], [4.0]])
    >>> splits = [(np.array([0, 1]), np.array([2, 3])), (np.array([2, 3]), np.array([0, 1]))]
    >>> pooled_r2([y[2:], y[:2]], y, splits).tolist()
    [1.0]
    """
    errors, deviations = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    for predicted, (train, test) in zip(predictions, splits, strict=True):
        errors += ((y[test] - predicted) ** 2).sum(0)
        deviations += ((y[test] - y[train].mean(0)) ** 2).sum(0)
    known = judged(deviations, y)
    return np.where(known, 1 - errors / np.where(known, deviations, 1.0), np.nan)


def judged(deviations: Floats, y: Floats) -> npt.NDArray[np.bool_]:
    """Return which targets vary where they are judged, by their squared deviations ``(n_targets,)``, beyond rounding.

    Examples
    --------
    >>> judged(np.array([1e-28, 4.0]), np.array([[1.0, 1.0], [1.0, 3.0]])).tolist()
    [False, True]
    """
    return deviations > len(y) * (1e-13 * np.abs(y).max(0)) ** 2


def mean_correlation(predictions: Sequence[Floats], y: Floats, splits: Splits) -> Floats:
    """Return the correlation of predictions and data within each fold, averaged over folds.

    Parameters and returns as in `pooled_r2`.

    Examples
    --------
    >>> y = np.array([[1.0], [2.0], [4.0], [1.0], [5.0], [4.0]])
    >>> halves = np.arange(3), np.arange(3, 6)
    >>> mean_correlation([2 * y[3:], -y[:3]], y, [halves, halves[::-1]]).tolist()
    [0.0]
    """
    return mean_over_folds(
        [correlations(predicted, y[test]) for predicted, (_, test) in zip(predictions, splits, strict=True)]
    )


def checked_pair(X: Any, Y: Any) -> tuple[Floats, Floats]:
    """Return features and targets, joined, where both vary.

    Raises
    ------
    InputError
        Fewer than 3 samples, nothing that varies, or what `paired` refuses.

    Examples
    --------
    >>> checked_pair([1.0, 2.0, 3.0], [1.0, 0.0, 1.0])[0].shape
    (3, 1)
    """
    x, y, _ = paired(X, Y)
    if len(x) < _FEWEST_SAMPLES:
        raise InputError("too few samples to learn from", expected=f"at least {_FEWEST_SAMPLES}", got=len(x))
    for values, name in ((x, "X"), (y, "Y")):
        if (values == values[0]).all():
            what = "feature" if name == "X" else "target"
            raise InputError(f"no {what} of {name} varies", expected="values that differ between samples")
    return x, y


def warn_of_constants(y: Floats) -> None:
    """Warn of targets that are constant.

    Examples
    --------
    >>> warn_of_constants(np.array([[1.0], [2.0]]))
    """
    n_constant = int((y == y[0]).all(0).sum())
    if n_constant:
        warnings.warn(
            f"{n_constant} of {y.shape[1]} targets are constant: their scores are NaN, and means leave them out",
            UserWarning,
            stacklevel=3,
        )
