"""Partial information decomposition of tables of probabilities: what two sources tell of a target, by who tells it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.numbers import real_array
from neuros_mechint.neuro.information.partial.minimum import least_information

METHODS = ("broja", "i_min")
PARTS = ("redundancy", "unique_1", "unique_2", "synergy", "total")
MOST_CELLS = 512
_SUM_TOLERANCE = 1e-6


class InformationParts(NamedTuple):
    """What two sources tell of a target, in nats; the first four add up to the last.

    Parameters
    ----------
    redundancy : float
        What either source tells.
    unique_1, unique_2 : float
        What only this source tells.
    synergy : float
        What only both together tell.
    total : float
        The information between the target and both sources.
    gap : float
        How far the minimum that BROJA rests on may be from the true one; 0 for I_min, which is a formula.
    """

    redundancy: float
    unique_1: float
    unique_2: float
    synergy: float
    total: float
    gap: float


def decompose_probabilities(probabilities: npt.ArrayLike, method: str = "broja") -> InformationParts:
    r"""Return redundancy, unique information and synergy of a table of probabilities.

    Parameters
    ----------
    probabilities : array_like of shape (n_values_1, n_values_2, n_values_target)
        Of each value of the first source, the second source and the target together; they add up to 1.
    method : {"broja", "i_min"}
        ``broja``: what the target shares with both sources at least, whatever else holds between the three as long as
        each source keeps its joint distribution with the target (Bertschinger et al. 2014). ``i_min``: redundancy is
        what the less informative source tells of each value of the target, on average (Williams and Beer 2010); it
        counts two sources as redundant that tell *equally much*, even if they tell different things.

    Returns
    -------
    InformationParts
        In nats.

    Raises
    ------
    InputError
        Values that are no probabilities, another number of axes, or more than 512 cells.
    OptionError
        Unknown method.

    References
    ----------
    Bertschinger et al. 2014, Quantifying Unique Information, doi:10.3390/e16042161; Williams and Beer 2010,
    Nonnegative Decomposition of Multivariate Information, doi:10.48550/arXiv.1004.2515

    Examples
    --------
    The target says whether exactly one of two independent neurons fires: nothing in either, a bit in both.

    >>> table = np.zeros((2, 2, 2))
    >>> for first, second in np.ndindex(2, 2):
    ...     table[first, second, first ^ second] = 0.25
    >>> parts = decompose_probabilities(table)
    >>> print(round(parts.synergy / np.log(2), 6), abs(round(parts.redundancy, 6)))
    1.0 0.0
    """
    check_option("method", method, METHODS)
    return parts_of(_checked_table(probabilities), method)


def parts_of(table: Floats, method: str, precision: float = 1e-9) -> InformationParts:
    """Return the parts of a table that is known to hold probabilities.

    Examples
    --------
    >>> copied = np.zeros((2, 2, 2))
    >>> copied[0, 0, 0] = copied[1, 1, 1] = 0.5
    >>> round(parts_of(copied, "i_min").redundancy, 3)
    0.693
    """
    first, second = (table_information(table.sum(axis)) for axis in (1, 0))
    total = table_information(table.reshape(-1, table.shape[2]))
    gap = 0.0
    if method == "broja":
        union, gap = least_information(table, precision)[:2]
        redundancy = first + second - union
    else:
        redundancy = _least_specific(table)
    return InformationParts(
        redundancy, first - redundancy, second - redundancy, total - first - second + redundancy, total, gap
    )


def table_information(table: Floats) -> float:
    """Return the mutual information of a table of joint probabilities, in nats.

    Parameters
    ----------
    table : numpy.ndarray of shape (n_values, n_other_values)

    Examples
    --------
    >>> round(table_information(np.eye(2) / 2), 4)
    0.6931
    """
    occurs = table > 0
    expected = table.sum(1, keepdims=True) * table.sum(0)
    return float((table[occurs] * np.log(table[occurs] / expected[occurs])).sum())


def _least_specific(table: Floats) -> float:
    """Return the mean over values of the target of the least that one source tells of that value."""
    target = table.sum((0, 1))
    told = np.stack([_specific(table.sum(axis), target) for axis in (1, 0)])
    return float(told.min(0).sum())


def _specific(pairs: Floats, target: Floats) -> Floats:
    """Return what a source tells of each value of the target, times how likely that value is."""
    expected = pairs.sum(1, keepdims=True) * target
    ratio = np.divide(pairs, expected, out=np.ones_like(pairs), where=pairs > 0)
    return (pairs * np.log(ratio)).sum(0)


def _checked_table(probabilities: Any) -> Floats:
    table = real_array(probabilities, "probabilities")
    if table.ndim != 3 or not table.size:
        raise InputError(
            "the table does not hold two sources and a target",
            expected="(n_values_1, n_values_2, n_values_target)",
            got=f"shape {table.shape}",
            fix="more than two sources are not decomposed here: join some into one axis",
        )
    if table.size > MOST_CELLS:
        raise InputError("the table is too large", expected=f"at most {MOST_CELLS} cells", got=table.size)
    if (table < 0).any() or abs(table.sum() - 1) > _SUM_TOLERANCE:
        raise InputError(
            "the table holds no probabilities",
            expected="numbers of at least 0 that add up to 1",
            got=f"least {table.min():.4g}, sum {table.sum():.6g}",
            fix="divide counts by their sum",
        )
    return table / table.sum()
