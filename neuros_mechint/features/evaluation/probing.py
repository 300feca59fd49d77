"""Sparse probing: how well a few features tell a label, on held-out observations and beside shuffled labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, adjust_p, p_of_draws

Integers = npt.NDArray[np.int64]
_N_FOLDS = 5
_MOST_NAMED = 4
# In training rows, a feature that varies by less than this share of its variance over all rows is constant.
_CONSTANT = 1e-10


class SparseProbe(Result):
    """How well the best ``k`` features tell a label.

    ``data`` holds ``accuracy`` over ``(k,)``, balanced over classes and held out; ``shuffled`` over ``(k, shuffle)``,
    the same with labels shuffled; ``p`` and, for all ``k`` together (Holm), ``p_adjusted`` over ``(k,)``; and
    ``chosen`` over ``(k, feature)``, the share of the folds in which each feature was chosen.
    """

    def _draw(self, ax: Any) -> None:
        number = np.arange(self.main.size)
        low, high = np.quantile(self.data["shuffled"].values, [0.025, 0.975], axis=1)
        significant = self.data["p_adjusted"].values <= SIGNIFICANT
        ax.plot(number, self.main.values, color=PALETTE[0], label="labels as they are")
        for filled, name in ((True, f"p <= {SIGNIFICANT}, all k together"), (False, "not significant")):
            at = number[significant == filled]
            if at.size:
                face = PALETTE[0] if filled else "white"
                ax.plot(at, self.main.values[at], "o", color=PALETTE[0], markerfacecolor=face, markersize=6, label=name)
        ax.vlines(number, low, high, color=MUTED_INK, alpha=0.35, linewidth=7, label="labels shuffled,\n95% of draws")
        ax.axhline(self.attributes["chance"], color=MUTED_INK, linewidth=0.8, linestyle=":", label="chance")
        ax.set_xlim(-0.4, number.size - 0.6)
        ax.set_xticks(number, [str(k) for k in self.data["k"].values])
        ax.set_xlabel(axis_label(self.data["k"]))
        ax.set_ylabel(axis_label(self.main))
        ax.grid(axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))

    def _summary_lines(self) -> list[str]:
        """Return, for each number of features, the accuracy, its p and the features."""
        lines = [
            f"held-out balanced accuracy, chance {self.attributes['chance']:.3g}; p of {self.data.sizes['shuffle']} "
            "shuffles of the labels, adjusted for the numbers of features tried (Holm)",
        ]
        for index, k in enumerate(self.data["k"].values):
            one = self.data.isel(k=index)
            lines.append(
                f"  {k} feature{'' if k == 1 else 's'}: {float(one['accuracy']):.3f} "
                f"(shuffled {float(one['shuffled'].mean()):.3f}), p = {float(one['p_adjusted']):.2g}; "
                f"{_described(one['chosen'].values, int(k))}"
            )
        return lines


def _described(share: Floats, k: int) -> str:
    """Return the k features that most folds chose, and the share of the folds where it is not all of them."""
    order = np.argsort(-share, kind="stable")[: min(k, 8)]
    names = [f"{one}" if share[one] == 1 else f"{one} ({share[one]:.0%} of folds)" for one in order if share[one] > 0]
    return f"feature{'' if len(names) == 1 else 's'} " + ", ".join(names) + (", ..." if k > order.size else "")


def sparse_probe(
    codes: Any, labels: Any, k: int | Sequence[int] = (1, 2, 4, 8), *, n_permutations: int = 199, seed: SeedLike = 0
) -> SparseProbe:
    """Fit logistic probes on the ``k`` features that tell a label best, and test them on held-out observations.

    Features are chosen by their F value, and the probe fitted, on the training folds alone (five folds, stratified).
    Each class counts the same, so that a rare label cannot be predicted by ignoring it.

    Parameters
    ----------
    codes : array of shape (n_observations, n_features) or (n_samples, ..., n_features)
        Features of an autoencoder, from ``sae.encode``. With axes between, such as positions, a sample is held out
        and shuffled as a whole, for what belongs to one sample is not independent.
    labels : array of shape (n_observations,) or (n_samples, ...)
        Integers, whole numbers, booleans or text: one for each row of ``codes``.
    k : int or sequence of int
        How many features a probe may use.
    n_permutations : int
        How often the labels are shuffled; p is at least ``1 / (n_permutations + 1)``, before it is adjusted for the
        number of ``k``.
    seed : int or numpy.random.Generator
        Draws the folds and the shuffles.

    Returns
    -------
    SparseProbe

    Raises
    ------
    InputError
        Fewer than two classes, fewer than five observations (or samples) of a class, labels of another shape, ``k``
        out of range, no shuffle, or codes that are not finite or all constant.

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
    n_permutations = whole("n_permutations", n_permutations)
    problem, sizes, classes = _checked(codes, labels, k, random := generator(seed))
    accuracy, chosen = _accuracy(problem, sizes, np.arange(len(problem.target)))
    shuffled = np.stack(
        [
            _accuracy(problem, sizes, problem.shuffled_rows(random))[0]
            for _ in progress_bar(range(n_permutations), description="probes with shuffled labels")
        ],
        axis=1,
    )
    p = p_of_draws(accuracy, shuffled.T)
    notes = _notes(len(sizes), n_permutations)
    for text in notes:
        warnings.warn(text, stacklevel=2)
    names = f" ({', '.join(map(str, classes))})" if len(classes) <= _MOST_NAMED else ""
    return SparseProbe(
        _labelled(sizes, accuracy, shuffled, p, chosen),
        f"Sparse probes of {len(classes)} classes{names} from {problem.codes.shape[1]} features",
        attributes={
            "chance": 1 / len(classes),
            "n_observations": len(problem.target),
            "n_samples": problem.n_samples,
            "n_folds": _N_FOLDS,
            "correction": "holm",
        },
        provenance=Provenance.record(seed=seed, arguments={"codes": problem.codes, "labels": labels, "k": list(sizes)}),
        citations=("gurnee2023",),
        warnings=tuple(notes),
    )


@dataclass(frozen=True)
class _Problem:
    """Codes ``(n, n_features)``, each of variance one; and, for each row, its class and the fold it is held out in.

    The rows of a sample are neighbours.
    """

    codes: Floats
    target: Integers
    fold: Integers
    n_samples: int

    def shuffled_rows(self, random: np.random.Generator) -> Integers:
        """Return, for each row, the row whose label and fold it gets: those of another sample, as a whole."""
        rows = np.arange(len(self.target)).reshape(self.n_samples, -1)
        return rows[random.permutation(self.n_samples)].ravel()


def _accuracy(problem: _Problem, sizes: Sequence[int], rows: Integers) -> tuple[Floats, Floats]:
    """Return the balanced accuracy ``(k,)`` and in which share of the folds each feature was chosen ``(k, feature)``.

    Labels and folds are those of ``rows``: shuffled together, every shuffle is as well stratified as the truth.
    """
    import sklearn

    target, fold = problem.target[rows], problem.fold[rows]
    f_values, mean, deviation = _training_statistics(problem.codes, target, fold)
    order = np.argsort(-f_values, axis=1, kind="stable")
    predicted = np.zeros((len(sizes), len(target)), dtype=int)
    chosen = np.zeros((len(sizes), problem.codes.shape[1]))
    # what was checked once need not be checked in each of a thousand fits
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        for held_out in range(_N_FOLDS):
            test = fold == held_out
            for index, number in enumerate(sizes):
                kept = order[held_out, :number]
                chosen[index, kept] += 1 / _N_FOLDS
                columns = (problem.codes[:, kept] - mean[held_out, kept]) / deviation[held_out, kept]
                predicted[index, test] = _predicted(columns[~test], target[~test], columns[test])
    right = predicted == target
    recall = np.stack([right[:, target == one].mean(1) for one in range(target.max() + 1)])
    return recall.mean(0), chosen


def _predicted(training: Floats, target: Integers, held_out: Floats) -> Integers:
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(target)
    if (counts > 0).sum() < 2:  # whole samples are held out: a class of few samples may be missing
        return np.full(len(held_out), target[0])
    weight = len(target) / ((counts > 0).sum() * counts[target])
    return LogisticRegression(max_iter=1000).fit(training, target, sample_weight=weight).predict(held_out)


def _training_statistics(codes: Floats, target: Integers, fold: Integers) -> tuple[Floats, Floats, Floats]:
    """Return F value, mean and standard deviation of each feature in the training rows of each fold.

    All are ``(n_folds, n_features)``, from sums over classes and folds: one pass over the codes, where scikit-learn's
    ``f_classif`` takes one for each fold.
    """
    from scipy.sparse import csr_matrix

    n, n_classes = len(target), int(target.max()) + 1
    group = csr_matrix((np.ones(n), (fold * n_classes + target, np.arange(n))), shape=(_N_FOLDS * n_classes, n))

    def in_training(per_group: Floats) -> Floats:
        one = per_group.reshape(_N_FOLDS, n_classes, -1)
        return one.sum(0) - one

    counts = in_training(np.bincount(fold * n_classes + target, minlength=_N_FOLDS * n_classes).astype(float))
    sums, squares = in_training(np.asarray(group @ codes)), in_training(np.asarray(group @ codes**2)).sum(1)
    size, present = counts.sum(1), (counts > 0).sum(1)
    mean = sums.sum(1) / size
    total = squares - size * mean**2
    between = (sums**2 / np.maximum(counts, 1)).sum(1) - size * mean**2
    varies = total > _CONSTANT * size
    # a feature that tells the classes without error has nothing within them but rounding
    within = np.maximum(total - between, np.finfo(float).eps * np.maximum(total, 1))
    f_values = between / within * (size - present) / np.maximum(present - 1, 1)
    return np.where(varies, f_values, 0.0), mean, np.sqrt(np.where(varies, total / size, 1.0))


def _notes(n_sizes: int, n_permutations: int) -> list[str]:
    lowest = n_sizes / (n_permutations + 1)
    if lowest <= SIGNIFICANT:
        return []
    return [
        f"no p below {lowest:.2g} is possible with {n_permutations} shuffles and {n_sizes} numbers of features: "
        f"n_permutations={round(n_sizes / SIGNIFICANT) - 1} or more can reach {SIGNIFICANT}"
    ]


def _labelled(sizes: Sequence[int], accuracy: Floats, shuffled: Floats, p: Floats, chosen: Floats) -> xr.Dataset:
    of_accuracy = {"units": "fraction", "long_name": "held-out balanced accuracy"}
    return xr.Dataset(
        {
            "accuracy": ("k", accuracy, of_accuracy),
            "shuffled": (("k", "shuffle"), shuffled, {**of_accuracy, "long_name": "accuracy with shuffled labels"}),
            "p": ("k", p, {"long_name": "p value by shuffled labels"}),
            "p_adjusted": ("k", adjust_p(p), {"long_name": "p value, for all numbers of features together"}),
            "chosen": (("k", "feature"), chosen, {"units": "fraction", "long_name": "folds that chose the feature"}),
        },
        {"k": ("k", list(sizes), {"long_name": "features used"}), "feature": np.arange(chosen.shape[1])},
    )


def _checked(
    codes: Any, labels: Any, k: int | Sequence[int], random: np.random.Generator
) -> tuple[_Problem, tuple[int, ...], np.ndarray]:
    array = _numbers(codes)
    given = np.asarray(labels.detach().cpu() if isinstance(labels, torch.Tensor) else labels)
    if given.shape != array.shape[:-1]:
        raise InputError(
            "one label for each row of the codes",
            expected=f"shape {array.shape[:-1]}",
            got=f"shape {given.shape}",
            fix="repeat the label of a sample for each of its positions, or take one position of each"
            if given.shape == array.shape[:1]
            else None,
        )
    matrix = array.reshape(-1, array.shape[-1])
    classes, target = _classes(given)
    several = list(k) if isinstance(k, (Sequence, np.ndarray)) and np.ndim(k) else [k]
    wanted = tuple(whole("k", one) for one in several)
    if not wanted or min(wanted) < 1 or max(wanted) > matrix.shape[1]:
        raise InputError("k is out of range", expected=f"1 to {matrix.shape[1]} features", got=f"k={wanted}")
    deviation = matrix.std(0)
    standard = (matrix - matrix.mean(0)) / np.where(deviation > 0, deviation, 1.0)
    return _Problem(standard, target.ravel(), _folds(target, random), len(array)), wanted, classes


def _numbers(codes: Any) -> Floats:
    array = real_array(codes, "codes")
    if array.ndim < 2 or array.shape[0] < 2 or not array.size:
        raise InputError(
            "the codes are no rows of features",
            expected="shape (n_observations, n_features) or (n_samples, n_positions, n_features), two rows or more",
            got=f"shape {array.shape}",
        )
    if not np.ptp(array.reshape(-1, array.shape[-1]), axis=0).any():
        raise InputError("every feature is constant, so none tells anything", fix="check whether the features are dead")
    return array


def _classes(given: np.ndarray) -> tuple[np.ndarray, Integers]:
    """Return the classes and, in the shape of the labels, which each one is."""
    if given.dtype.kind == "f" and np.isfinite(given).all() and (given == np.round(given)).all():
        given = given.astype(np.int64)  # 0.0 and 1.0 are classes
    classes, target = np.unique(given, return_inverse=True)
    target = target.reshape(given.shape)
    by_sample = target.reshape(len(target), -1)
    n_with = np.array([(by_sample == one).any(1).sum() for one in range(min(len(classes), len(target)))])
    if given.dtype.kind in "biuUS" and len(classes) >= 2 and n_with.min() >= _N_FOLDS:
        return classes, target
    what = "observation" if target.ndim == 1 else "sample"
    raise InputError(
        "these labels cannot be probed",
        expected="integers, whole numbers, booleans or text; two classes or more, "
        f"{_N_FOLDS} {what}s with each or more",
        got=f"{len(classes)} class{'' if len(classes) == 1 else 'es'} of {given.dtype}, the rarest with {n_with.min()} "
        f"{what}{'' if n_with.min() == 1 else 's'}",
        fix=_fix(given, classes),
    )


def _fix(given: np.ndarray, classes: np.ndarray) -> str:
    if len(classes) < 2:
        return "give observations of two classes"
    if given.dtype.kind == "f":
        return "bin continuous values" if np.isfinite(given).all() else "leave out observations whose label is NaN"
    return "leave out rare classes, or give more observations of them"


def _folds(target: Integers, random: np.random.Generator) -> Integers:
    """Return the fold of each row; all rows of a sample are in one."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels = target.ravel()
    options = {"n_splits": _N_FOLDS, "shuffle": True, "random_state": int(random.integers(2**31))}
    if target.ndim == 1:
        splits = StratifiedKFold(**options).split(labels[:, None], labels)
    else:
        samples = np.repeat(np.arange(len(target)), labels.size // len(target))
        splits = StratifiedGroupKFold(**options).split(labels[:, None], labels, samples)
    fold = np.zeros(labels.size, dtype=np.int64)
    for index, (_, held_out) in enumerate(splits):
        fold[held_out] = index
    return fold
