"""Which dissimilarity of patterns was taken, in words, and what it does not see."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuros_mechint.core.errors import OptionError, check_option
from neuros_mechint.neuro.alignment.rsa.rdm import MEASURES

RDMS = ("correlation", "euclidean")
"""Methods of `compute_rdm` that patterns alone determine, of either sign: those of layers as those of responses."""

CENTRED = "centred: without their mean over stimuli, which the recording does not have either"
"""What is said of units of the model that were centred."""

_AS_NEAR_ZERO = 2.0


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
