"""Sparse probing: how well a few features tell a label, on held-out observations and beside shuffled labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.plotting import MUTED_INK, axis_label
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.features.observations import as_rows

_N_FOLDS = 5


class SparseProbe(Result):
    """How well the best ``k`` features tell a label.

    ``data`` holds ``accuracy`` over ``(k,)``, balanced over classes and held out; ``shuffled`` over ``(k, shuffle)``,
    the same with labels shuffled; ``p`` over ``(k,)``; and ``chosen`` over ``(k, feature)``, the share of the folds
    in which each feature was chosen.
    """

    def _draw(self, ax: Any) -> None:
        number = np.arange(self.main.size)
        low, high = np.quantile(self.data["shuffled"].values, [0.025, 0.975], axis=1)
        ax.plot(number, self.main.values, marker="o", label="labels as they are")
        ax.fill_between(
            number, low, high, color=MUTED_INK, alpha=0.25, linewidth=0, label="labels shuffled,\n95% of draws"
        )
        ax.axhline(self.attributes["chance"], color=MUTED_INK, linewidth=0.8, linestyle=":")
        ax.set_xticks(number, [str(k) for k in self.data["k"].values])
        ax.set_xlabel(axis_label(self.data["k"]))
        ax.set_ylabel(axis_label(self.main))
        ax.grid(axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))


def sparse_probe(
    codes: Any, labels: Any, k: int | Sequence[int] = (1, 2, 4, 8), *, n_shuffles: int = 19, seed: SeedLike = 0
) -> SparseProbe:
    """Fit logistic probes on the ``k`` features that tell a label best, and test them on held-out observations.

    Features are chosen by their F value, and the probe fitted, on the training folds alone (five folds, stratified).
    Each class counts the same, so that a rare label cannot be predicted by ignoring it.

    Parameters
    ----------
    codes : array of shape (n_observations, n_features)
        Features of an autoencoder, from ``sae.encode``.
    labels : array of shape (n_observations,)
        Integers, booleans or text.
    k : int or sequence of int
        How many features a probe may use.
    n_shuffles : int
        How often the labels are shuffled; p is at least ``1 / (n_shuffles + 1)``.
    seed : int or numpy.random.Generator
        Draws the folds and the shuffled labels.

    Returns
    -------
    SparseProbe

    Raises
    ------
    InputError
        Fewer than two classes, fewer than five observations of a class, labels of another number, ``k`` out of range,
        or codes that are not finite or all constant.

    References
    ----------
    Gurnee et al. 2023, Finding Neurons in a Haystack, doi:10.48550/arXiv.2305.01610

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> codes = np.maximum(random.normal(size=(200, 6)), 0)
    >>> probe = nm.sparse_probe(codes, codes[:, 4] > 0, k=1)
    >>> float(probe.main[0]), int(probe.data["chosen"].values.argmax())
    (1.0, 4)
    """
    from sklearn.model_selection import StratifiedKFold, cross_validate, permutation_test_score

    matrix, target, sizes = _checked(codes, labels, k)
    random = generator(seed)
    folds = StratifiedKFold(_N_FOLDS, shuffle=True, random_state=int(random.integers(2**31)))
    shuffle_seed = int(random.integers(2**31))
    accuracy, p = np.zeros(len(sizes)), np.zeros(len(sizes))
    shuffled, chosen = np.zeros((len(sizes), n_shuffles)), np.zeros((len(sizes), matrix.shape[1]))
    for index, number in enumerate(sizes):
        probe = _probe(number)
        options: dict[str, Any] = {"cv": folds, "scoring": "balanced_accuracy"}
        accuracy[index], shuffled[index], p[index] = permutation_test_score(
            probe, matrix, target, n_permutations=n_shuffles, random_state=shuffle_seed, **options
        )
        fitted = cross_validate(probe, matrix, target, return_estimator=True, **options)["estimator"]
        chosen[index] = np.mean([one[0].get_support() for one in fitted], axis=0)
    of_accuracy = {"units": "fraction", "long_name": "held-out balanced accuracy"}
    data = xr.Dataset(
        {
            "accuracy": ("k", accuracy, of_accuracy),
            "shuffled": (("k", "shuffle"), shuffled, {**of_accuracy, "long_name": "accuracy with shuffled labels"}),
            "p": ("k", p, {"long_name": "p value by shuffled labels"}),
            "chosen": (("k", "feature"), chosen, {"units": "fraction", "long_name": "folds that chose the feature"}),
        },
        {"k": ("k", list(sizes), {"long_name": "features used"}), "feature": np.arange(matrix.shape[1])},
    )
    n_classes = len(np.unique(target))
    return SparseProbe(
        data,
        f"Sparse probes of {n_classes} classes from {matrix.shape[1]} features",
        attributes={"chance": 1 / n_classes, "n_observations": len(target), "n_folds": _N_FOLDS},
        provenance=Provenance.record(seed=seed, arguments={"codes": matrix, "labels": target, "k": list(sizes)}),
        citations=("gurnee2023",),
    )


def _checked(codes: Any, labels: Any, k: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    matrix = as_rows(codes).double().cpu().numpy()
    target = np.asarray(labels)
    if target.shape != (len(matrix),):
        raise InputError("one label per observation", expected=f"shape ({len(matrix)},)", got=f"shape {target.shape}")
    if not np.isfinite(matrix).all():
        raise InputError("the codes are not finite", got=f"{int((~np.isfinite(matrix)).sum())} of {matrix.size} values")
    classes, sizes = np.unique(target, return_counts=True)
    if target.dtype.kind not in "biuUS" or len(classes) < 2 or sizes.min() < _N_FOLDS:
        raise InputError(
            "these labels cannot be probed",
            expected=f"integers, booleans or text; two classes or more, {_N_FOLDS} observations of each or more",
            got=f"{len(classes)} classes of {target.dtype}, the rarest with {sizes.min()} observations",
            fix="bin continuous values; leave out rare classes",
        )
    if not np.ptp(matrix, axis=0).any():
        raise InputError("every feature is constant, so none tells anything", fix="check whether the features are dead")
    wanted = tuple(int(one) for one in np.atleast_1d(np.asarray(k)))
    if not wanted or min(wanted) < 1 or max(wanted) > matrix.shape[1]:
        raise InputError("k is out of range", expected=f"1 to {matrix.shape[1]} features", got=f"k={wanted}")
    return matrix, target, wanted


def _probe(k: int) -> Any:
    from sklearn.feature_selection import SelectKBest
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = LogisticRegression(class_weight="balanced", max_iter=1000)
    return make_pipeline(SelectKBest(_f_values, k=k), StandardScaler(), classifier)


def _f_values(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the F value of each feature; 0 for those that are constant, as dead features are."""
    from sklearn.feature_selection import f_classif

    alive = np.ptp(matrix, axis=0) > 0
    values = np.zeros(matrix.shape[1])
    with np.errstate(divide="ignore"):  # a feature that tells the classes without error has an F of infinity
        values[alive] = f_classif(matrix[:, alive], target)[0]
    return np.nan_to_num(values, nan=0.0, posinf=np.finfo(float).max)
