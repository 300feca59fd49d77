"""The alignment of a readout with a region, and how it varies when stimuli are left out."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.standard_errors import jackknife_error, t_reach
from neuros_mechint.neuro.alignment.linear.encoding import EncodingModel, mean_correlation, pooled_r2
from neuros_mechint.neuro.alignment.linear.estimator import check_method
from neuros_mechint.neuro.alignment.linear.held_out import Indices, Splits, folds

MOST_GROUPS = 20
"""Groups of stimuli that the jackknife leaves out in turn."""


@dataclass(frozen=True)
class Scorer:
    """One way to score, with the same folds and the same groups of stimuli for every component.

    Parameters
    ----------
    method : estimator with ``score(X, Y)``
    splits : list of (train, test), optional
        Where ``score`` takes ``cv``.
    left_out : list of numpy.ndarray
        Stimuli of each group that the jackknife leaves out.
    """

    method: Any
    splits: Splits | None
    left_out: list[Indices]

    def score(self, x: Floats, patterns: list[Floats]) -> float:
        """Return the alignment of a readout, averaged over subjects; a readout that does not vary has none: 0."""
        return self._score(x, patterns, np.arange(len(x)))

    def jackknife(self, x: Floats, patterns: list[Floats]) -> Floats:
        """Return the score ``(n_groups,)`` without each group of stimuli.

        Encoding models are fitted once, and their held-out predictions judged without each group: fitted anew they
        choose other penalties, whose jumps a jackknife would take for uncertainty, many times over.
        """
        every = np.arange(len(x))
        if isinstance(self.method, EncodingModel) and self.splits is not None and not (x == x[0]).all():
            return np.mean([self._of_predictions(x, pattern) for pattern in patterns], 0)
        return np.array([self._score(x, patterns, np.setdiff1d(every, group)) for group in self.left_out])

    def _of_predictions(self, x: Floats, y: Floats) -> Floats:
        assert self.splits is not None
        fresh = [type(self.method)(**self.method.get_params()) for _ in self.splits]
        models = [model.fit(x[train], y[train]) for model, (train, _) in zip(fresh, self.splits, strict=True)]
        predicted = [model.predict(x[test]) for model, (_, test) in zip(models, self.splits, strict=True)]
        judge = {"r2": pooled_r2, "correlation": mean_correlation}[self.method.metric]
        scores: list[float] = []
        for group in self.left_out:
            kept = [~np.isin(test, group) for _, test in self.splits]
            rows = [(train, test[keep]) for (train, test), keep in zip(self.splits, kept, strict=True)]
            given = [values[keep] for values, keep in zip(predicted, kept, strict=True)]
            some = [one for one in zip(given, rows, strict=True) if len(one[0])]
            scores.append(float(np.nanmean(judge([one[0] for one in some], y, [one[1] for one in some]))))
        return np.array(scores)

    def _score(self, x: Floats, patterns: list[Floats], rows: Indices) -> float:
        readout = x[rows]
        if (readout == readout[0]).all():
            return 0.0
        fitted = {} if self.splits is None else {"cv": among(self.splits, rows)}
        return float(np.mean([self.method.score(readout, pattern[rows], **fitted) for pattern in patterns]))


def scorer(method: Any, n_stimuli: int, cv: Any, seed: int) -> Scorer:
    """Return what scores readouts of so many stimuli.

    Raises
    ------
    InputError
        A method without ``score``, or too few stimuli.

    Examples
    --------
    >>> from neuros_mechint.neuro.alignment.linear.cka import CKA
    >>> len(scorer(CKA(), n_stimuli=12, cv=5, seed=0).left_out)
    12
    """
    check_method(method)
    fitted = "cv" in inspect.signature(method.score).parameters
    left_out = [test for _, test in folds(n_stimuli, min(MOST_GROUPS, n_stimuli), None, seed)]
    return Scorer(method, folds(n_stimuli, cv, None, seed) if fitted else None, left_out)


def among(splits: Splits, rows: Indices) -> Splits:
    """Return folds of some rows only, by their place among these rows.

    The fold of a stimulus stays what it was: dealing anew would change scores for no reason of the stimuli.

    Examples
    --------
    >>> among([(np.array([0, 1]), np.array([2])), (np.array([2]), np.array([0, 1]))], np.array([1, 2]))
    [(array([0]), array([1])), (array([1]), array([0]))]
    """
    kept = [tuple(np.flatnonzero(np.isin(rows, part)) for part in split) for split in splits]
    return [(train, test) for train, test in kept if train.size and test.size]


def jackknife_interval(effect: float, without: Floats, level: float = 0.95) -> tuple[float, float, float]:
    """Return the interval of an effect and the p value against 0, from its values without each group.

    Parameters
    ----------
    effect : float
        With all stimuli.
    without : numpy.ndarray of shape (n_groups,)

    Returns
    -------
    low, high, p : float
        From a t distribution with ``n_groups - 1`` degrees of freedom. An effect of exactly 0, whatever is left out,
        has p = 1.

    Examples
    --------
    >>> jackknife_interval(0.0, np.zeros(4))
    (0.0, 0.0, 1.0)
    """
    from scipy.stats import t

    n_groups = len(without)
    error = jackknife_error(without).item()
    if error == 0:
        return effect, effect, 1.0 if effect == 0 else 0.0
    reach = t_reach(error, n_groups - 1, level)
    return effect - reach, effect + reach, float(2 * t.sf(abs(effect) / error, n_groups - 1))
