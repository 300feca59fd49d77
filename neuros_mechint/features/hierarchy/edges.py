"""Which features imply which: conditional activation against shuffled observations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.statistics.p_values import adjust_p
from neuros_mechint.features.hierarchy.tree import FeatureTree

Counts = npt.NDArray[np.int64]
_FEWEST_PREFIXES = 2


@dataclass(frozen=True)
class Coactivity:
    """How often features are active, alone and together.

    Parameters
    ----------
    n_observations : int
    active : array of shape (n_features,)
        Observations in which a feature is above zero.
    together : array of shape (n_parents, n_children)
        Observations in which both are: features of all prefixes but the widest, and features outside the first.
    """

    n_observations: int
    active: Counts
    together: Counts


def check_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Return the widths of nested prefixes.

    Raises
    ------
    InputError
        Fewer than two, or not positive whole numbers that increase.

    Examples
    --------
    >>> check_widths([16, 64])
    (16, 64)
    """
    whole = [width for width in widths if isinstance(width, (int, np.integer)) and not isinstance(width, bool)]
    increasing = len(whole) == len(widths) and all(a < b for a, b in zip([0, *whole], whole, strict=False))
    if len(widths) < _FEWEST_PREFIXES or not increasing:
        raise InputError(
            "these are no nested prefixes",
            expected="at least two positive whole numbers, each larger than the one before",
            got=list(widths),
            fix="give the number of features of each prefix, the narrowest first: widths=[16, 64]",
        )
    return tuple(int(width) for width in whole)


def count_coactivity(batches: Iterable[Any], widths: Sequence[int]) -> Coactivity:
    """Count in how many observations features are active, alone and together.

    Parameters
    ----------
    batches : iterable of arrays of shape (..., n_features)
        Feature activations; all axes but the last are observations. One batch at a time is held.
    widths : sequence of int
        Features of each nested prefix.

    Returns
    -------
    Coactivity

    Raises
    ------
    InputError
        No observations, activations that are not finite, or of another number of features than the last width.
    """
    first, last_parent, n_features = widths[0], widths[-2], widths[-1]
    active = np.zeros(n_features, dtype=np.int64)
    together = np.zeros((last_parent, n_features - first), dtype=np.int64)
    n_observations = 0
    for batch in batches:
        codes = torch.as_tensor(batch).detach().cpu()
        if codes.ndim < 2 or codes.shape[-1] != n_features:
            raise InputError(
                "these are not the activations of these features",
                expected=f"shape (..., {n_features}), the last of widths {list(widths)}",
                got=f"shape {tuple(codes.shape)}",
            )
        if not torch.isfinite(codes).all():
            raise InputError("activations are not finite", got=f"{int((~torch.isfinite(codes)).sum())} of them")
        on = (codes.reshape(-1, n_features) > 0).double()
        n_observations += len(on)
        active += on.sum(0).long().numpy()
        together += (on[:, :last_parent].T @ on[:, first:]).long().numpy()
    if not n_observations:
        raise InputError("there are no observations", expected="at least one row", got="none")
    return Coactivity(n_observations, active, together)


def overlap_p(n_observations: int, parent: npt.ArrayLike, child: npt.ArrayLike, together: npt.ArrayLike) -> Any:
    """Return how likely shuffled observations are to bring parent and child together at least as often.

    Shuffling a child's activations over the observations keeps both rates. Over all shuffles the number of observations
    in which both are active is hypergeometric, so that every shuffle is counted and none is drawn.

    Parameters
    ----------
    n_observations : int
    parent, child, together : arrays that broadcast
        Observations in which the parent, the child, and both are active.

    Returns
    -------
    numpy.ndarray
        One-sided p values.

    References
    ----------
    Fisher 1935, The Logic of Inductive Inference, doi:10.2307/2342435

    Examples
    --------
    >>> round(float(overlap_p(6, parent=3, child=3, together=3)), 3)  # one of the twenty ways to place three
    0.05
    """
    from scipy.stats import hypergeom

    p = hypergeom.sf(np.asarray(together) - 1, n_observations, parent, child)
    return np.clip(p, np.finfo(float).tiny, 1)  # the shuffle that changes nothing is one of them: p is never zero


def feature_tree(
    coactivity: Coactivity,
    widths: Sequence[int],
    *,
    minimum: float = 0.8,
    alpha: float = 0.05,
    correction: str = "holm",
    minimum_active: int = 10,
    **described: Any,
) -> FeatureTree:
    """Return which feature of an earlier prefix each feature of a later one is a special case of.

    Parameters
    ----------
    coactivity : Coactivity
        From `count_coactivity`.
    widths : sequence of int
        Features of each nested prefix.
    minimum : float
        Least P(parent active | child active) of an edge.
    alpha : float
        Largest p of an edge, after correction for the number of pairs.
    correction : {"holm", "fdr", "none"}
        See `neuros_mechint.core.statistics.p_values.adjust_p`.
    minimum_active : int
        Features that are active in fewer observations are not tested.
    **described
        ``attributes`` and ``provenance`` of the result.

    Returns
    -------
    FeatureTree

    Raises
    ------
    InputError, OptionError

    Examples
    --------
    >>> parent = np.array([1, 1, 1, 1, 0, 0, 0, 0] * 10)
    >>> codes = np.stack([parent, 1 - parent, parent * np.tile([1, 0], 40)], axis=1)
    >>> feature_tree(count_coactivity([codes], [2, 3]), [2, 3]).edges()[["parent", "child", "probability"]].values
    array([[0., 2., 1.]])
    """
    widths = check_widths(widths)
    minimum, alpha = number("minimum", minimum, 0, 1), number("alpha", alpha, 0, 1)
    minimum_active = whole("minimum_active", minimum_active)
    group = np.searchsorted(widths, np.arange(widths[-1]), side="right")
    n, active = coactivity.n_observations, coactivity.active
    parents, children = active[: widths[-2], None], active[None, widths[0] :]
    tested = group[: widths[-2], None] < group[None, widths[0] :]
    tested &= (parents >= minimum_active) & (children >= minimum_active)
    probability, p = np.full(tested.shape, np.nan), np.full(tested.shape, np.nan)
    of_parent, of_child = (np.broadcast_to(counts, tested.shape)[tested] for counts in (parents, children))
    probability[tested] = coactivity.together[tested] / of_child
    p[tested] = overlap_p(n, of_parent, of_child, coactivity.together[tested])
    p_adjusted = adjust_p(p, correction)
    null = parents[:, 0] / n
    with np.errstate(invalid="ignore"):
        edge = (probability >= minimum) & (probability > null[:, None]) & (p_adjusted <= alpha)
    chosen = _best_supported(edge, probability - null[:, None])
    data = _labelled(probability, p, p_adjusted, null, chosen, active / n, group, widths)
    attributes = {
        "widths": widths,
        "n_observations": n,
        "minimum": minimum,
        "alpha": alpha,
        "correction": correction,
        "minimum_active": minimum_active,
        "n_tests": int(tested.sum()),
        **described.pop("attributes", {}),
    }
    few = int(((active > 0) & (active < minimum_active)).sum())
    return FeatureTree(
        data,
        "Features and their special cases",
        attributes=attributes,
        citations=("bussmann2025", "chanin2024"),
        warnings=(f"{few} features active in fewer than {minimum_active} observations: not tested",) if few else (),
        **described,
    )


def _best_supported(edge: npt.NDArray[np.bool_], excess: npt.NDArray[np.float64]) -> Counts:
    """Return for each child the parent whose probability exceeds the shuffled one most, -1 for none.

    A parent and a grandparent are both always active; the excess is larger for the rarer, which is the nearer one.
    """
    support = np.where(edge, excess, -np.inf)
    return np.where(edge.any(0), support.argmax(0), -1)


def _labelled(
    probability: npt.NDArray[np.float64],
    p: npt.NDArray[np.float64],
    p_adjusted: npt.NDArray[np.float64],
    null: npt.NDArray[np.float64],
    chosen: Counts,
    rate: npt.NDArray[np.float64],
    group: Counts,
    widths: Sequence[int],
) -> xr.Dataset:
    pair = ("parent", "child")
    return xr.Dataset(
        {
            "probability": (pair, probability, {"long_name": "P(parent active | child active)"}),
            "null": ("parent", null, {"long_name": "P(parent active | child active), shuffled"}),
            "p": (pair, p, {"long_name": "p of as much overlap in shuffled observations"}),
            "p_adjusted": (pair, p_adjusted, {"long_name": "p, corrected for the number of pairs"}),
            "parent_of": ("child", chosen, {"long_name": "parent of each child, -1 for none"}),
            "rate": ("feature", rate, {"long_name": "share of observations in which the feature is active"}),
            "prefix": ("feature", np.asarray(widths)[group], {"long_name": "width of the narrowest prefix it is in"}),
        },
        coords={
            "parent": ("parent", np.arange(widths[-2]), {"long_name": "feature of an earlier prefix"}),
            "child": ("child", np.arange(widths[0], widths[-1]), {"long_name": "feature of a later prefix"}),
            "feature": np.arange(widths[-1]),
        },
    )
