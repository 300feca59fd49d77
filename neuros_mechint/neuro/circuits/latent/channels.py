"""Names of inputs and outputs, and signed channels as pairs of channels that are never negative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.labels import counts_observations
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.recordings.recording import Recording

OTHER_FEATURES = ("input", "output", "node")
"""Axes that count features here, beside those of a recording."""

_SIGNS = (("+", 1.0), ("-", -1.0))


def split_signed_channels(signals: Any) -> Any:
    """Return signed channels as pairs of channels that are at least 0: the positive part, then the negative one.

    Nodes of a latent circuit are never negative: evidence for the left and for the right drives a node each.

    Parameters
    ----------
    signals : array_like, torch.Tensor or xarray.DataArray of shape (..., n_channels)

    Returns
    -------
    numpy.ndarray or xarray.DataArray of shape (..., 2 * n_channels)
        Labelled where the signals are; the channel ``motion`` becomes ``motion +`` and ``motion -``.

    Raises
    ------
    InputError
        No real and finite numbers, or no axis of channels.

    Examples
    --------
    >>> split_signed_channels([[0.5, -2.0]]).tolist()
    [[0.5, 0.0, 0.0, 2.0]]
    >>> named = xr.DataArray([[0.5], [-1.0]], {"input": ["motion"]}, ("time", "input"))
    >>> split_signed_channels(named)["input"].values.tolist()
    ['motion +', 'motion -']
    """
    values = real_array(signals, "signals", finite=False)
    if not values.ndim or not np.isfinite(values).all():
        raise InputError(
            "signals are no finite channels",
            expected="finite numbers (..., n_channels)",
            got=f"shape {values.shape}, {np.isfinite(values).mean():.0%} finite",
        )
    parts = np.stack([np.maximum(sign * values, 0) for _, sign in _SIGNS], axis=-1)
    split = parts.reshape(*values.shape[:-1], -1)
    if not isinstance(signals, xr.DataArray):
        return split
    axis = signals.dims[-1]
    kept = {name: values for name, values in signals.coords.items() if axis not in values.dims}
    if axis in signals.coords:
        kept[axis] = [f"{label} {sign}" for label in signals[axis].values for sign, _ in _SIGNS]
    return xr.DataArray(split, kept, signals.dims, signals.name, signals.attrs)


def channel_names(kind: str, given: Sequence[str] | None, signals: Any, n_channels: int) -> tuple[str, ...]:
    """Return what inputs or outputs are called: as given, as the signals are labelled, or by their number.

    Parameters
    ----------
    kind : {"input", "output"}
    given : sequence of str or None
    signals : object
        What the caller passed as inputs or outputs.
    n_channels : int

    Raises
    ------
    InputError
        Other names than one distinct string for each channel.

    Examples
    --------
    >>> channel_names("input", None, np.zeros((3, 5, 2)), 2), channel_names("output", ["choice"], None, 1)
    (('input 0', 'input 1'), ('choice',))
    """
    labels = _labels(signals) if given is None else given
    if labels is None:
        return tuple(f"{kind} {index}" for index in range(n_channels))
    named = isinstance(labels, list | tuple | np.ndarray)
    names = tuple(str(label) if isinstance(label, str) else f"{kind} {label}" for label in labels) if named else ()
    if len(names) != n_channels or len(set(names)) < n_channels:
        raise InputError(
            f"{kind}_names do not name the {kind}s",
            expected=f"{n_channels} different strings",
            got=repr(labels),
        )
    return names


def _labels(signals: Any) -> list[Any] | None:
    """Return the labels of the columns of labelled signals."""
    labelled = signals.data if isinstance(signals, Recording) else signals
    if not isinstance(labelled, xr.DataArray):
        return None
    axes = [axis for axis in labelled.dims if axis in OTHER_FEATURES or not counts_observations(str(axis))]
    return labelled[axes[0]].values.tolist() if len(axes) == 1 and axes[0] in labelled.coords else None
