"""Ridge regression of many targets, the penalty of each chosen by cross-validation: himalaya's, or a few lines here.

Both take the same folds, candidates and criterion (squared error, averaged over folds), so that they choose the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.optional import soft_import
from neuros_mechint.neuro.alignment.linear.estimator import centred
from neuros_mechint.neuro.alignment.linear.held_out import Splits

_PURPOSE = "encoding models on its solvers"
_NUMBERS_AT_ONCE = 20_000_000  # in temporary arrays, 160 MB


Bands = list[npt.NDArray[np.intp]]


@dataclass(frozen=True)
class RidgeFit:
    """What was chosen, and how to predict with it.

    Parameters
    ----------
    bands : list of index arrays
        Columns of the features that share a penalty.
    scales : numpy.ndarray of shape (n_bands, n_targets)
        Of sum 1 for each target; the penalty of band b is ``alpha / scale_b``.
    alphas : numpy.ndarray of shape (n_targets,)
    losses : numpy.ndarray of shape (n_targets,)
        Mean squared error in the folds, of what was chosen.
    mean, target_mean : numpy.ndarray of shape (n_features,) and (n_targets,)
    basis : numpy.ndarray of shape (n_samples, n_features) or None
        Centred training data, where the weights are sums of its rows: with no more samples than features.
    solution : numpy.ndarray
        ``(n_samples, n_targets)`` weights of those rows, or where there is no basis ``(n_features, n_targets)``.
    """

    bands: Bands
    scales: Floats
    alphas: Floats
    losses: Floats
    mean: Floats
    target_mean: Floats
    basis: Floats | None
    solution: Floats

    @cached_property
    def weights(self) -> Floats:
        """Weights ``(n_features, n_targets)`` of centred features."""
        if self.basis is None:
            return self.solution
        weights = np.empty((len(self.mean), self.solution.shape[1]))
        for band, scale in zip(self.bands, self.scales, strict=True):
            weights[band] = (self.basis[:, band].T @ self.solution) * scale
        return weights

    def parts(self, x: Floats) -> Iterator[Floats]:
        """Yield what each band adds to the prediction, ``(n_samples, n_targets)``; the mean is in none of them."""
        x = x - self.mean
        for band, scale in zip(self.bands, self.scales, strict=True):
            if self.basis is None:
                yield x[:, band] @ self.solution[band]
            else:
                yield (x[:, band] @ self.basis[:, band].T) @ self.solution * scale

    def predict(self, x: Floats) -> Floats:
        """Return predictions ``(n_samples, n_targets)``."""
        total = np.tile(self.target_mean, (len(x), 1))
        for part in self.parts(x):
            total += part
        return total


def solver_for(n_samples: int, n_features: int) -> str:
    """Return which solver is used: himalaya where it is installed and there are no more samples than features.

    With more samples, himalaya's solver holds (penalties, test samples, training samples) numbers and was 2 to 150
    times slower than NumPy here on products of features.

    Examples
    --------
    >>> solver_for(100, 20)
    'numpy'
    """
    return "himalaya" if n_samples <= n_features and find_spec("himalaya") is not None else "numpy"


def solve(x: Floats, y: Floats, bands: Bands, scales: Floats, alphas: Floats, splits: Splits) -> RidgeFit:
    """Return the ridge regression whose penalties predict best in the folds; see `solver_for` for who solves it.

    Parameters
    ----------
    x : numpy.ndarray of shape (n_samples, n_features)
    y : numpy.ndarray of shape (n_samples, n_targets)
    bands : list of index arrays
        Columns of ``x`` that share a penalty.
    scales : numpy.ndarray of shape (n_candidates, n_bands)
        Shares to try, above 0 and of sum 1.
    alphas : numpy.ndarray of shape (n_alphas,)
        Penalties to try with each.
    splits : list of (train, test)

    Returns
    -------
    RidgeFit

    Examples
    --------
    >>> x = np.arange(6.0)[:, None]
    >>> folds = [(np.arange(3), np.arange(3, 6)), (np.arange(3, 6), np.arange(3))]
    >>> fit = solve(x, 2 * x, [np.array([0])], np.ones((1, 1)), np.array([1e-6, 10.0]), folds)
    >>> fit.weights.round(3).tolist(), fit.alphas.tolist()
    ([[2.0]], [1e-06])
    """
    solver = {"himalaya": solve_by_himalaya, "numpy": solve_here}[solver_for(*x.shape)]
    return solver(x, y, bands, scales, alphas, splits)


def solve_by_himalaya(x: Floats, y: Floats, bands: Bands, scales: Floats, alphas: Floats, splits: Splits) -> RidgeFit:
    """Return himalaya's solution by kernels, on the backend that is set in himalaya; parameters as in `solve`."""
    backend = soft_import("himalaya.backend", _PURPOSE, "encoding").get_backend()
    solver = soft_import("himalaya.kernel_ridge", _PURPOSE, "encoding").solve_multiple_kernel_ridge_random_search
    data, mean = centred(x)
    target, target_mean, units = _standardised(y)
    kernels = backend.stack([backend.asarray(data[:, band] @ data[:, band].T) for band in bands])
    found = solver(
        kernels,
        backend.asarray(target),
        n_iter=scales,
        alphas=alphas,
        cv=splits,
        fit_intercept=True,  # within the folds; everything together is centred already
        return_weights="dual",
        progress_bar=False,
        # the largest temporary arrays are (alphas, test samples, targets), then (alphas, samples, targets)
        n_targets_batch=max(1, _NUMBERS_AT_ONCE // (len(alphas) * max(len(test) for _, test in splits))),
        n_targets_batch_refit=max(1, _NUMBERS_AT_ONCE // (len(alphas) * len(x))),
    )
    deltas, dual, scores = (np.asarray(backend.to_numpy(array), dtype=float) for array in found[:3])
    shares = np.exp(deltas)
    inverse = shares.sum(0)  # himalaya keeps scale / alpha
    best = alphas[np.abs(np.log(alphas[:, None] * inverse)).argmin(0)]
    losses = -scores.max(0) * units**2
    return RidgeFit(bands, shares / inverse, best, losses, mean, target_mean, data, dual * (inverse * units))


def solve_here(x: Floats, y: Floats, bands: Bands, scales: Floats, alphas: Floats, splits: Splits) -> RidgeFit:
    """Return the same solution in NumPy; parameters as in `solve`."""
    data, mean = centred(x)
    target, target_mean, units = _standardised(y)
    n_targets = y.shape[1]
    losses, best_scale = np.full(n_targets, np.inf), np.zeros(n_targets, dtype=int)
    best_alpha = np.zeros(n_targets, dtype=int)
    for number, scale in enumerate(scales):
        scaled = _scaled(data, bands, scale)
        loss = np.mean([_fold_losses(scaled, target, train, test, alphas) for train, test in splits], axis=0)
        chosen = loss.argmin(0)
        least = np.take_along_axis(loss, chosen[None], 0)[0]
        better = least < losses - np.finfo(float).eps
        losses[better], best_alpha[better], best_scale[better] = least[better], chosen[better], number
    solution = np.zeros((min(x.shape) if _is_wide(x) else x.shape[1], n_targets))
    for number in np.unique(best_scale):
        scaled = _scaled(data, bands, scales[number])
        values, vectors, right = _spectrum(scaled, target)
        for alpha in np.unique(best_alpha[best_scale == number]):
            columns = (best_scale == number) & (best_alpha == alpha)
            solution[:, columns] = (vectors / (values + alphas[alpha])) @ right[:, columns]
    solution *= units
    shares = scales[best_scale].T
    if not _is_wide(x):
        for band, share in zip(bands, shares, strict=True):
            solution[band] *= np.sqrt(share)
    basis = data if _is_wide(x) else None
    return RidgeFit(bands, shares, alphas[best_alpha], losses * units**2, mean, target_mean, basis, solution)


def _is_wide(x: Floats) -> bool:
    """Return whether the weights are better written as sums of samples."""
    return len(x) <= x.shape[1]


def _standardised(y: Floats) -> tuple[Floats, Floats, Floats]:
    """Return targets with mean 0 and variance 1, means and units: himalaya takes losses above 1e5 for failures."""
    target, mean = centred(y)
    units = np.sqrt((target**2).mean(0))
    units[units == 0] = 1.0
    return target / units, mean, units


def _scaled(data: Floats, bands: Bands, scale: Floats) -> Floats:
    roots = np.empty(data.shape[1])
    for band, share in zip(bands, scale, strict=True):
        roots[band] = np.sqrt(share)
    return data * roots


def _spectrum(data: Floats, target: Floats) -> tuple[Floats, Floats, Floats]:
    """Return eigenvalues and vectors of the smaller Gram matrix, and the target in these vectors."""
    wide = _is_wide(data)
    values, vectors = np.linalg.eigh(data @ data.T if wide else data.T @ data)
    return np.maximum(values, 0.0), vectors, vectors.T @ (target if wide else data.T @ target)


def _fold_losses(
    data: Floats, target: Floats, train: npt.NDArray[np.intp], test: npt.NDArray[np.intp], alphas: Floats
) -> Floats:
    """Return the mean squared error ``(n_alphas, n_targets)`` on rows that were left out, means included."""
    learned, mean = centred(data[train])
    known, known_mean = centred(target[train])
    unseen, truth = data[test] - mean, target[test] - known_mean
    values, vectors, right = _spectrum(learned, known)
    left = unseen @ learned.T @ vectors if _is_wide(learned) else unseen @ vectors
    return np.stack([((truth - (left / (values + alpha)) @ right) ** 2).mean(0) for alpha in alphas])
