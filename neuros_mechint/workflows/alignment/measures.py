"""Which dissimilarity of patterns was taken, in words, and what it does not see."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from neuros_mechint.core.errors import OptionError, check_option
from neuros_mechint.neuro.alignment.rsa.rdm import MEASURES

RDMS = ("correlation", "euclidean")
"""Methods of `compute_rdm` that patterns alone determine, of either sign: those of layers as those of responses."""

CANONICAL = "canonical correlation"
REGRESSION = "regression"
CENTRED = "centred: without their mean over stimuli, which the recording does not have either"
"""What is said of units of the model that were centred."""

_AS_NEAR_ZERO = 2.0


_SEES = {
    "correlation distance": "correlation distance ignores what a stimulus adds to all units alike, and depends on the "
    "baseline of each unit",
    "euclidean distance": "euclidean distance counts how strongly stimuli drive the units, and ignores baselines",
    CANONICAL: "canonical correlation ignores baselines, scales and mixing of units, so that directions of little "
    "variance count as much as any",
    REGRESSION: "regression asks whether the responses follow from a layer, whatever else this holds",
}


def check_rdm(rdm: str) -> None:
    """Raise `OptionError` unless layers and responses can both have such dissimilarities.

    Examples
    --------
    >>> check_rdm("euclidian")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.OptionError: unknown rdm 'euclidian'
      expected: one of 'correlation', 'euclidean'
      to fix:   did you mean 'euclidean'?
    """
    if isinstance(rdm, str) and rdm in MEASURES and rdm not in RDMS:
        raise OptionError(
            f"layers of a model have no {rdm} dissimilarities: these need noise, folds or counts of a recording",
            expected="one of " + ", ".join(map(repr, RDMS)),
            got=repr(rdm),
            fix=f"pass the recording's own, nm.compute_rdm(responses, {rdm!r}, ...), as the recording, and "
            "rdm='euclidean' for the layers",
        )
    check_option("rdm", rdm, RDMS)


def other_rdm(rdm: str) -> str:
    """Return the other one of the two dissimilarities.

    Examples
    --------
    >>> other_rdm("correlation")
    'euclidean'
    """
    return next(one for one in RDMS if one != rdm)


def distance(rdm: str, centred: bool = False) -> str:
    """Return a dissimilarity in words.

    Examples
    --------
    >>> distance("correlation", centred=True)
    'correlation distance of centred units'
    """
    return f"{rdm} distance" + (" of centred units" if centred else "")


def without_means(responses: Any) -> bool:
    """Return whether the means of units over stimuli are zero, as after z-scoring or when a mean was subtracted.

    They count as zero where they are no larger than means of so many stimuli come to by chance, so that stimuli which
    were selected after all were z-scored count too. A correlation distance depends on these means: where they were
    taken out of the recording, it is like that of a layer only if they are taken out there as well. Euclidean
    distance, canonical correlation and regression never see them.

    Parameters
    ----------
    responses : array_like of shape (n_stimuli, n_units)

    Examples
    --------
    >>> rates = np.random.default_rng(0).gamma(2.0, size=(50, 20))
    >>> without_means(rates), without_means(rates - rates.mean(0))
    (False, True)
    """
    values = np.asarray(responses, dtype=float)
    of_means = len(values) * float((values.mean(0) ** 2).sum())
    return of_means <= _AS_NEAR_ZERO * float(values.var(0, ddof=1).sum())


def by_rsa(told: str) -> str:
    """Return the name of the measure that compares such distances.

    Examples
    --------
    >>> by_rsa(distance("euclidean"))
    'RSA (euclidean distance)'
    """
    return f"RSA ({told})"


def what_they_see(measures: Collection[str]) -> str:
    """Return to what each of some measures is blind, which explains why they may disagree.

    Examples
    --------
    >>> what_they_see(["regression"])
    'Regression asks whether the responses follow from a layer, whatever else this holds.'
    """
    told = [text for name, text in _SEES.items() if any(name in measure for measure in measures)]
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}."


def only_correlation(measures: Collection[str]) -> bool:
    """Return whether all of some measures are of correlation distances.

    Examples
    --------
    >>> only_correlation(["RSA (correlation distance)"]), only_correlation(["canonical correlation"])
    (True, False)
    """
    return all("correlation distance" in one for one in measures)


def what_to_try(measures: Collection[str], others: Collection[str]) -> str:
    """Return what to do where some measures name one layer, and others another.

    Examples
    --------
    >>> what_to_try(["RSA (correlation distance)"], ["canonical correlation"])[:47]
    'Only correlation distance depends on baselines:'
    """
    for side in (measures, others):
        if only_correlation(side):
            return (
                "Only correlation distance depends on baselines: where those of the recording are not those of the "
                "layers, as after subtracting the response before the stimulus, this is why. Try rdm='euclidean', or "
                "take the mean of each unit over stimuli out of the recording"
            )
    if all("RSA" in one for one in measures) or all("RSA" in one for one in others):
        return (
            "Directions of little variance decide, which distances hardly see: say which of the two questions is asked "
            "before looking at the answer"
        )
    return "Say which of these questions is asked before looking at the answer"
