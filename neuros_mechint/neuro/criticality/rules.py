"""Rules that turn activity into bins and thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole

_THRESHOLDS = ("quantile", "median", "sd")
_BINS = "mean_interval"
_FEWEST_BINS = 3


def resolve_threshold(rule: Any, values: npt.NDArray[Any], axis: tuple[int, ...] | None = None) -> Any:
    """Return the threshold that a rule gives for values.

    Parameters
    ----------
    rule : float or (str, float)
        See `detect_avalanches`.
    values : numpy.ndarray
    axis : tuple of int, optional
        Axes to find one threshold over; all by default.

    Returns
    -------
    float, or numpy.ndarray with ``axis`` kept at length 1

    Raises
    ------
    OptionError
        An unknown rule, or a number that makes no sense in it.

    Examples
    --------
    >>> resolve_threshold(("median", 0.5), np.array([1.0, 4.0, 9.0]))
    2.0
    """
    name, amount = _named(rule)
    if name == "number":
        return amount
    kept = axis is not None
    if name == "sd":
        found = values.mean(axis, keepdims=kept) + amount * values.std(axis, keepdims=kept)
    elif name == "median":
        found = amount * np.median(values, axis, keepdims=kept)
    else:
        found = np.quantile(values, amount, axis=axis, keepdims=kept)
    return found if kept else float(found)


def describe_threshold(rule: Any) -> str:
    """Return a threshold rule in words.

    Examples
    --------
    >>> describe_threshold(("sd", 3.0))
    'above mean + 3 SD'
    """
    name, amount = _named(rule)
    words = {
        "number": f"above {amount:g}",
        "quantile": f"above the quantile {amount:g}",
        "median": f"above {amount:g} x median",
        "sd": f"above mean + {amount:g} SD",
    }
    return words[name]


def _named(rule: Any) -> tuple[str, float]:
    if isinstance(rule, (tuple, list)) and len(rule) == 2:
        name, amount = rule
        check_option("threshold rule", name, _THRESHOLDS)
        if name == "quantile" and amount != 0:
            return name, number("the quantile of the threshold", amount, 0, 1)
        return name, number("the number in the threshold", amount, -np.inf, np.inf)
    if isinstance(rule, str):
        raise OptionError("a threshold rule needs a number", expected="such as ('quantile', 0.35)", got=repr(rule))
    return "number", number("threshold", rule, -np.inf, np.inf)


def resolve_bins(rule: Any, summed: Floats, counts: bool) -> int:
    """Return the samples per bin that a rule gives for the activity of a population ``(n_trials, n_samples)``.

    Raises
    ------
    OptionError
        An unknown rule.
    InputError
        ``"mean_interval"`` for a signal that has no events, or trials shorter than three bins.

    Examples
    --------
    >>> resolve_bins("mean_interval", np.array([[1.0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0]]), counts=True)
    4
    """
    if isinstance(rule, str):
        check_option("bin_width", rule, (_BINS,))
        width = _mean_interval(summed, counts)
    else:
        width = whole("bin_width", rule)
    if summed.shape[1] < _FEWEST_BINS * width:
        raise InputError(
            "the trials are too short for such bins",
            expected=f"at least {_FEWEST_BINS} bins of {width} samples",
            got=f"trials of {summed.shape[1]} samples",
        )
    return width


def _mean_interval(summed: Floats, counts: bool) -> int:
    if not counts:
        raise InputError(
            "a continuous signal has no intervals between events",
            expected="counts, or threshold_on='units', which makes events of a signal",
            fix="pass bin_width as a number of samples",
        )
    trial, sample = np.nonzero(summed)
    within = np.diff(trial) == 0
    if not within.any():
        raise InputError("no trial has two samples with events, so that there are no intervals between them")
    return max(1, round(float(np.diff(sample)[within].mean())))


def describe_bins(rule: Any) -> str:
    """Return a bin rule in words.

    Examples
    --------
    >>> describe_bins("mean_interval")
    'mean interval between events'
    """
    return "mean interval between events" if rule == _BINS else "given"


def binned(summed: Floats, width: int) -> Floats:
    """Return sums over bins of ``width`` samples ``(n_trials, n_bins)``, without samples that fill no bin.

    Examples
    --------
    >>> binned(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]), 2).tolist()
    [[3.0, 7.0]]
    """
    n_bins = summed.shape[1] // width
    return summed[:, : n_bins * width].reshape(len(summed), n_bins, width).sum(-1)


def upward_crossings(values: npt.NDArray[Any], threshold: Any) -> npt.NDArray[np.bool_]:
    """Return where units rise above their own thresholds, ``(n_trials, n_units, n_samples)`` like the values.

    A unit that is above its threshold from the first sample of a trial rose at an unknown time: no event.

    Examples
    --------
    >>> upward_crossings(np.array([[[2.0, 0.0, 2.0, 3.0]]]), 1.0).tolist()
    [[[False, False, True, False]]]
    """
    above = values > resolve_threshold(threshold, values, axis=(0, 2))
    rises = np.zeros(values.shape, dtype=bool)
    rises[..., 1:] = above[..., 1:] & ~above[..., :-1]
    return rises
