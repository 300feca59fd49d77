"""Representational drift: how far sessions are apart, what alignment explains, and how fast they part."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, whole
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, p_of_draws
from neuros_mechint.core.statistics.standard_errors import jackknife_error, t_reach
from neuros_mechint.neuro.geometry.drift.results import PARTS, RepresentationDrift
from neuros_mechint.neuro.geometry.drift.sessions import (
    N_SPLITS,
    checked_sessions,
    distance,
    noise_power,
    p_of_independent_repeats,
    parts,
    shuffled_between,
    signal_power,
    split_repeats,
    turned_only,
)

_FEWEST_PERMUTATIONS = 19
_MOST_GROUPS = 10
_WEAK = 0.5
_SPLITS_IN_NULL = 3
_SUSPECTED = 0.1  # of the sessions, by chance
_CERTAIN = 0.01  # the smallest p that the draws of one session can show


class _Pair(NamedTuple):
    """Parts between two sessions, ``(n_parts,)``, without each group of conditions, and their p."""

    values: Floats
    without: Floats
    p: float
    p_residual: float


def representation_drift(
    sessions: Any,
    times: Sequence[float] | None = None,
    same_units: bool = True,
    n_permutations: int = 99,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> RepresentationDrift:
    r"""Return how far the responses of sessions are apart, and how much of that is one geometry, shifted and turned.

    Between mean responses of two sessions lies, beyond noise, :math:`\langle \|x_c - y_c\|^2 \rangle_c`. Taken off one
    by one: a shift of all conditions (translation), an orthogonal transformation (rotation, by Procrustes), a change of
    size (scaling); what is left is a change of the geometry itself (residual). Each is fitted on half of the repeats
    and judged on the other half, and in units of the signal: the variance of responses over conditions. Codes that
    share nothing are 2 apart.

    Parameters
    ----------
    sessions : array_like of shape (n_sessions, n_repeats, n_conditions, n_units), or a list of sessions
        At least four repeats and three conditions, in one order; sessions in a list may differ in their repeats.
        Axes of DataArrays and Recordings are known by name: session, repetition or trial, condition or stimulus, unit.
    times : sequence of length n_sessions, optional
        When the sessions were, in days; by default one after the other.
    same_units : bool
        Whether sessions hold the same units in the same order. If not, only the residual has a meaning.
    n_permutations : int
        At least 19: of the repeats of each condition between two sessions, for ``p``; and so many pairs of sessions of
        one geometry, for ``p_residual``.
    level : float
        Coverage of intervals, jackknifed over conditions.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    RepresentationDrift
        With ``.total``, ``.shares``, ``.residual``, ``.p`` and ``.p_residual`` for each pair, and ``.rate``.

    Raises
    ------
    InputError
        Sessions that do not fit each other, are too small, or without differences between conditions beyond noise;
        values that are missing; or times that do not increase.

    References
    ----------
    Rule, O'Leary and Harvey 2019, Causes and consequences of representational drift, doi:10.1016/j.conb.2019.08.005;
    Gallego et al. 2020, Long-term stability of cortical population dynamics, doi:10.1038/s41593-019-0555-4; Schönemann
    1966, A generalized solution of the orthogonal Procrustes problem, doi:10.1007/BF02289451

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> signal, turn = random.normal(size=(20, 8)), np.linalg.qr(random.normal(size=(8, 8)))[0]
    >>> first, second = signal + random.normal(size=(2, 10, 20, 8))
    >>> found = representation_drift([first, second @ turn], n_permutations=19)
    >>> found.shares["rotation"].round(1).item(), found.p_residual.item() > 0.05  # all but noise is a turn
    (1.0, True)
    """
    check_option("same_units", same_units, (True, False))
    level, random = coverage(level), generator(seed)
    n_permutations = whole("n_permutations", n_permutations, _FEWEST_PERMUTATIONS)
    given = checked_sessions(sessions, bool(same_units))
    at = _times(times, len(given))
    signal = np.array([signal_power(each) for each in given])
    noise = np.array([noise_power(each) / len(each) for each in given])
    _refuse_untuned(signal, noise)
    pairs = list(combinations(range(len(given)), 2))
    n_conditions = given[0].shape[1]
    # the same for all pairs: a rate without some conditions is one without them everywhere
    groups = np.array_split(random.permutation(n_conditions), min(_MOST_GROUPS, n_conditions))
    found = [
        _pair(given[one], given[other], groups, n_permutations, random)
        for one, other in progress_bar(pairs, len(pairs), "pairs of sessions", progress)
    ]
    cautions = (*_cautions(signal, noise, found), *_of_repeats(given))
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    arguments = {"sessions": sessions, "times": times, "same_units": same_units}
    arguments |= {"n_permutations": n_permutations, "level": level}
    return RepresentationDrift(
        _dataset(found, pairs, at, signal, noise, bool(same_units), level),
        "Representational drift",
        attributes={
            "level": level,
            "same_units": bool(same_units),
            "n_sessions": len(given),
            "n_conditions": given[0].shape[1],
            "n_units": given[0].shape[2],
            "fewest_repeats": min(map(len, given)),
            "n_permutations": n_permutations,
        },
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("rule2019", "gallego2020", "schonemann1966"),
        warnings=cautions,
    )


def _refuse_untuned(signal: Floats, noise: Floats) -> None:
    without = np.flatnonzero(signal <= 0).tolist()
    if without:
        first, names = without[0], ", ".join(map(str, without))
        raise InputError(
            f"in session{'s' * (len(without) > 1)} {names} there is no signal to compare",
            expected="responses that vary over conditions by more than the noise of their means",
            got=f"a variance of {signal[first]:.3g} beyond a noise of {noise[first]:.3g} in session {first}",
            fix="see whether axes are (repeat, condition, unit) and conditions in the same order in every repeat; else "
            "leave such sessions out, or pass more repeats",
        )


def _times(times: Sequence[float] | None, n_sessions: int) -> Floats:
    if times is None:
        return np.arange(n_sessions, dtype=np.float64)
    at = real_array(times, "times")
    if at.shape != (n_sessions,) or (np.diff(at) <= 0).any():
        raise InputError(
            "times do not fit", expected=f"{n_sessions} numbers that increase", got=f"{at.ravel().tolist()[:6]}"
        )
    return at


def _pair(
    first: Floats, second: Floats, groups: Sequence[Any], n_permutations: int, random: np.random.Generator
) -> _Pair:
    splits = [(split_repeats(first, random), split_repeats(second, random)) for _ in range(N_SPLITS)]
    dealt = [distance(*shuffled_between(first, second, random)) for _ in range(n_permutations)]
    alike = (turned_only(first, second, random) for _ in range(n_permutations))
    residuals = np.array([parts(*pair, splits[:_SPLITS_IN_NULL]).residual for pair in alike])
    # judged on as few splits as these; what noise in the fit leaves has the same mean over more
    p_residual = p_of_draws(parts(first, second, splits[:_SPLITS_IN_NULL]).residual, residuals).item()
    of_middle = sum(noise_power(each) / (len(each) // 2) / first.shape[1] for each in (first, second))
    size = np.sqrt(max(signal_power(second), 0.0) / max(signal_power(first), 1e-300))
    bias = _bias(of_middle, float(residuals.mean()), float(size))
    kept = (np.delete(np.arange(first.shape[1]), group) for group in groups)
    return _Pair(
        _in_signals(first, second, splits, bias),
        np.array([_in_signals(first[:, rows], second[:, rows], splits, bias) for rows in kept]),
        p_of_draws(distance(first, second), dealt).item(),
        p_residual,
    )


def _in_signals(first: Floats, second: Floats, splits: Sequence[Any], bias: Floats) -> Floats:
    """Return parts in units of the signal: the geometric mean of both sessions' variance over conditions."""
    signals = max(signal_power(first), 0.0) * max(signal_power(second), 0.0)
    values = np.array(parts(first, second, splits)) + bias
    return values / np.sqrt(signals) if signals > 0 else np.full(len(values), np.nan)


def _bias(of_middle: float, of_all: float, size: float) -> Floats:
    """Return what to add to parts for what noise in the fits takes from them and leaves, so that their sum stays.

    A turn that is a little wrong by noise costs less before the first session is scaled to the size of the second.
    """
    of_turn = of_all - of_middle
    before = min(max(1 / size, 0.0), 2.0) if size > 0 else 1.0
    found = {"translation": of_middle, "rotation": before * of_turn, "scaling": (1 - before) * of_turn}
    return np.array([found.get(name, 0.0) for name in PARTS]) - of_all * (np.array(PARTS) == "residual")


def _cautions(signal: Floats, noise: Floats, found: list[_Pair]) -> tuple[str, ...]:
    cautions = []
    weak = int((signal < _WEAK * noise).sum())
    if weak:
        cautions.append(
            f"in {weak} sessions the signal is smaller than half of the noise of the mean responses: a turn fitted to "
            "them is a turn of noise; pass more repeats"
        )
    if any(np.isnan(pair.without).any() for pair in found):
        cautions.append(
            "without some of the conditions no signal is left: intervals of the parts, or the rate, are unknown"
        )
    still = sum(pair.p > SIGNIFICANT for pair in found)
    if still:
        cautions.append(
            f"{still} of {len(found)} pairs of sessions are no farther apart than noise: their parts say nothing"
        )
    return tuple(cautions)


def _of_repeats(sessions: Sequence[Floats]) -> tuple[str, ...]:
    random = generator(0)  # of its own: whether repeats are alike has no part in what is found
    together = sum(p_of_independent_repeats(each, random) <= _CERTAIN for each in sessions)
    if together <= _SUSPECTED * len(sessions):
        return ()
    return (
        f"repeats of {together} sessions change as a whole, as by a gain or by fatigue: p and p_residual take them for "
        "independent and are too small; divide it out of each repeat",
    )


def _dataset(
    found: list[_Pair],
    pairs: list[tuple[int, int]],
    at: Floats,
    signal: Floats,
    noise: Floats,
    same: bool,
    level: float,
) -> xr.Dataset:
    lags = np.array([at[other] - at[one] for one, other in pairs])
    values = np.array([pair.values for pair in found])
    without = np.array([pair.without for pair in found])
    n_groups = without.shape[1]
    reach = t_reach(jackknife_error(without, axis=1), n_groups - 1, level)
    rates = np.array([_rate(values, lags), *(_rate(without[:, group], lags) for group in range(n_groups))])
    rate_reach = t_reach(jackknife_error(rates[1:]), n_groups - 1, level)
    known = np.array([same, same, same, same, True])
    values, reach = np.where(known, values, np.nan), np.where(known, reach, np.nan)
    of_pair: dict[str, Any] = {}
    for column, name in enumerate(PARTS):
        text = {"long_name": name, "units": "signal variances"}
        of_pair[name] = ("pair", values[:, column], text)
        of_pair[f"{name}_low"] = ("pair", values[:, column] - reach[:, column], text)
        of_pair[f"{name}_high"] = ("pair", values[:, column] + reach[:, column], text)
    rate_unit = {"units": "signal variances per unit of time"}
    return xr.Dataset(
        {
            **of_pair,
            "p": ("pair", [pair.p if same else np.nan for pair in found], {"long_name": "p of no change"}),
            "p_residual": ("pair", [pair.p_residual for pair in found], {"long_name": "p of one geometry"}),
            "lag": ("pair", lags, {"long_name": "time between sessions"}),
            "rate": ("part", np.where(known, rates[0], np.nan), {"long_name": "drift rate", **rate_unit}),
            "rate_low": ("part", np.where(known, rates[0] - rate_reach, np.nan), rate_unit),
            "rate_high": ("part", np.where(known, rates[0] + rate_reach, np.nan), rate_unit),
            "signal": ("session", signal, {"long_name": "variance over conditions"}),
            "noise": ("session", noise, {"long_name": "noise of mean responses"}),
        },
        coords={
            "pair": [f"{one} to {other}" for one, other in pairs],
            "part": list(PARTS),
            "time": ("session", at),
        },
    )


def _rate(values: Floats, lags: Floats) -> Floats:
    """Return the slope of squared distances over time, through 0: that of a random walk."""
    return np.asarray(lags @ values / (lags @ lags), dtype=np.float64)
