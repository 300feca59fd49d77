"""What nearest neighbours cannot stand: samples that repeat, and more neighbours than lie near."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.information.variables import Whole

_MANY_TIED = 0.01


def check_neighbors(n_neighbors: int, n_samples: int) -> None:
    """Raise `OptionError` where so many neighbours would not be near.

    Examples
    --------
    >>> check_neighbors(3, 100)
    """
    if n_neighbors >= n_samples // 10:
        raise OptionError(
            "n_neighbors is too large", expected=f"less than a tenth of the {n_samples} samples", got=n_neighbors
        )


def refuse_repeats(
    joint: Floats, n_neighbors: int, named: list[tuple[str, Floats]], instead: str = 'method="ross" or "binned"'
) -> list[str]:
    """Refuse samples that repeat others so often that neighbours have no distance; return warnings of ties in parts.

    Parameters
    ----------
    joint : numpy.ndarray of shape (n_samples, n_features)
        All variables together.
    n_neighbors : int
    named : list of (str, numpy.ndarray)
        The variables, and what they are called.
    instead : str
        What to do with values of few kinds.

    Examples
    --------
    >>> x = np.arange(100.0)[:, None]
    >>> refuse_repeats(np.hstack([x, -x]), 3, [("x", x), ("y", -x)])
    []
    """
    most = int(occurrences(joint).max())
    if most > n_neighbors:
        raise InputError(
            "samples repeat: their nearest neighbours are no distance away",
            expected=f"no more than {n_neighbors} equal samples of continuous variables",
            got=f"one that occurs {most} times",
            fix=f"values of few kinds are categories: {instead}; of rounded ones add the noise of rounding: "
            "x + rng.uniform(-step / 2, step / 2, x.shape)",
        )
    texts = []
    for name, values in named:
        share = 1 - len(occurrences(values)) / len(values)
        if share > _MANY_TIED:
            texts.append(
                f"{100 * share:.0f}% of the values of {name} repeat another one: neighbours assume a continuous "
                f"variable, and the estimate is biased; values of few kinds go with {instead}"
            )
    return texts


def occurrences(values: Floats) -> Whole:
    """Return how often each different sample occurs, ``(n_different,)``, of samples ``(n_samples, n_features)``.

    Examples
    --------
    >>> occurrences(np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 1.0]])).tolist()
    [2, 1]
    """
    if (np.diff(np.sort(values[:, 0])) > 0).all():  # the usual case, and much quicker to see
        return np.ones(len(values), dtype=np.intp)
    return np.unique(values, axis=0, return_counts=True)[1]
