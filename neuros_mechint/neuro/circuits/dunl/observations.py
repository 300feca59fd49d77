"""From what a user has to what is fitted: neurons by trials by times, and where events begin."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import real_array, refuse_masked
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.trials import by_trial_and_time
from neuros_mechint.neuro.circuits.dunl.links import Link

_FEWEST_TRIALS = 5
_MOST_SPIKES = 1e6  # in a bin: the rates of the Poisson link end not far above
_LARGEST = 1e305
_LISTS = (list, tuple, np.ndarray, torch.Tensor)
_SHAPES = "(trial, time) or (neuron, trial, time)"


class Observations(NamedTuple):
    """Activity to be explained, trials never joined.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
        float64.
    one_neuron : bool
        Whether the axis of neurons was not there.
    bin_width : float or None
        Seconds, where the sampling rate is known.
    neurons : list or None
        Labels.
    """

    values: torch.Tensor
    one_neuron: bool
    bin_width: float | None
    neurons: list[Any] | None

    def shaped(self, by_neuron: torch.Tensor) -> Floats:
        """Return what was found for each neuron, without that axis where the data have none."""
        array = by_neuron.detach().numpy()
        return np.array(array[0] if self.one_neuron else array, dtype=np.float64)


def observations(counts: Any, link: Link, kernel_length: int, fewest_trials: int = _FEWEST_TRIALS) -> Observations:
    """Return data as neurons by trials by times, or say what is wrong with them.

    Parameters
    ----------
    counts : array_like, torch.Tensor, xarray.DataArray or Recording
        ``(trial, time)`` or ``(neuron, trial, time)``. Labelled data need an axis ``time``; neurons lie along the axis
        ``unit`` (or channel, feature), trials along all others.
    link : Link
        Says which values there can be.
    kernel_length : int
        No trial may be shorter.
    fewest_trials : int

    Returns
    -------
    Observations

    Raises
    ------
    InputError
        Shapes, values or numbers of trials that will not do.

    Examples
    --------
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> observations(np.eye(5, 8), link_of("poisson"), 3).values.shape
    torch.Size([1, 5, 8])
    """
    array = counts.data if isinstance(counts, Recording) else counts
    bin_width, neurons = None, None
    if isinstance(array, xr.DataArray):
        values, axes = by_trial_and_time(array, "counts")
        values, one_neuron = np.moveaxis(real_array(values, "counts"), -1, 0), not axes
        rate = array.attrs.get("sampling_rate")
        bin_width = None if rate is None else 1 / float(rate)
        neurons = array[axes[0]].values.tolist() if len(axes) == 1 and axes[0] in array.coords else None
    else:
        values = real_array(array, "counts")
        if values.ndim not in (2, 3):
            raise InputError(
                "it is not clear which axis of counts is which",
                expected=_SHAPES,
                got=f"shape {values.shape}",
                fix="a single trial is counts[None]; name the axes of anything else: Recording(counts, dims=...)",
            )
        one_neuron = values.ndim == 2
        values = values[None] if one_neuron else values
    _check_values(values, link)
    _check_sizes(values.shape, kernel_length, fewest_trials)
    return Observations(torch.from_numpy(np.ascontiguousarray(values)), one_neuron, bin_width, neurons)


def _check_values(values: Floats, link: Link) -> None:
    if not values.size:
        raise InputError("counts are empty", expected=_SHAPES, got=f"shape {values.shape}")
    if link.name == "poisson" and ((values < 0).any() or (values != np.round(values)).any()):
        raise InputError(
            "a Poisson count cannot be negative or a fraction",
            expected="whole numbers of at least 0",
            got=f"values from {values.min():.4g} to {values.max():.4g}",
            fix="pass spike counts per bin, or link='gaussian' for rates and signals",
        )
    if link.name == "poisson" and values.max() > _MOST_SPIKES:
        raise InputError(
            "no bin holds that many spikes",
            expected=f"counts of at most {_MOST_SPIKES:g}",
            got=f"{values.max():.4g}",
            fix="pass link='gaussian' for signals",
        )
    if link.name == "bernoulli" and not np.isin(values, (0, 1)).all():
        raise InputError(
            "a Bernoulli spike train is 0 or 1 in every bin",
            expected="0 and 1",
            got=f"values from {values.min():.4g} to {values.max():.4g}",
            fix="use narrower bins, or link='poisson' for counts",
        )
    flat = values.reshape(len(values), -1)
    largest = np.abs(flat).max(1)
    if ((largest > _LARGEST) | (largest < 1 / _LARGEST) & (largest > 0)).any():
        raise InputError(
            "these values are beyond what can be reckoned with",
            expected=f"sizes from {1 / _LARGEST:g} to {_LARGEST:g}",
            got=f"neurons whose largest are {largest.min():.4g} to {largest.max():.4g}",
            fix="pass them in other units",
        )
    constant = np.flatnonzero((flat == flat[:, :1]).all(1))
    if len(constant):
        raise InputError(
            "a neuron never changes",
            expected="values that vary, in every neuron",
            got=f"neuron {constant[0]} is {values[constant[0]].flat[0]:g} throughout",
            fix="leave out silent neurons",
        )


def noise_level(values: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of white noise in each neuron, from differences of neighbouring bins.

    Examples
    --------
    >>> signal = 1e200 * np.random.default_rng(0).normal(size=(1, 50, 100))
    >>> round(noise_level(torch.from_numpy(signal)).item() / 1e200, 1)
    1.0
    """
    exponent = torch.frexp(values.abs().amax((1, 2))).exponent
    unit = torch.ldexp(torch.ones_like(values[:, 0, 0]), exponent - 1)  # without it squares of large values overflow
    scaled = values / unit[:, None, None]
    spread = scaled.diff(dim=-1).flatten(1).abs().median(1).values / (0.6745 * 2**0.5)
    whole_spread = scaled.flatten(1).std(1)
    return unit * torch.where(spread > 1e-6 * whole_spread, spread, whole_spread)


def _check_sizes(shape: tuple[int, ...], kernel_length: int, fewest_trials: int) -> None:
    _, n_trials, n_times = shape
    if kernel_length > n_times:
        raise InputError(
            "kernels are longer than trials",
            expected=f"kernel_length of at most {n_times}",
            got=kernel_length,
            fix="time is the last axis: transpose counts where it is another",
        )
    if n_trials < fewest_trials:
        raise InputError(
            "too few trials",
            expected=f"at least {fewest_trials}, since some are held out",
            got=n_trials,
            fix="trials are the axis before the last",
        )


def event_mask(events: Any, n_kernels: int, n_trials: int, n_times: int) -> torch.Tensor:
    """Return where each kernel may begin.

    Parameters
    ----------
    events : array_like of bool, or list
        ``(n_kernels, trial, time)``, or ``(trial, time)`` for all kernels alike; or a list over kernels of lists over
        trials of times in bins (with one kernel, a list over trials will do); or an array ``(n_events, 3)``, as
        ``event_times_`` is: trial, kernel and bin of each event.
    n_kernels, n_trials, n_times : int

    Returns
    -------
    torch.Tensor of bool, of shape (n_trials, n_kernels, n_times)

    Raises
    ------
    InputError
        Events outside of trials, of another number of kernels or trials, or a kernel without any.

    Examples
    --------
    >>> event_mask([[[2], [0, 4]]], 1, 2, 5).nonzero().tolist()
    [[0, 0, 2], [1, 0, 0], [1, 0, 4]]
    """
    refuse_masked(events, "events")
    if not isinstance(events, xr.DataArray | torch.Tensor | np.ndarray):
        mask = _from_times(events, n_kernels, n_trials, n_times)
    else:
        given = real_array(events, "events")
        rows = given.ndim == 2 and given.shape[1] == 3 != n_times
        mask = (_from_rows if rows else _from_booleans)(given, (n_kernels, n_trials, n_times))
    for kernel, its_own in enumerate(mask):
        if not its_own.any():
            raise InputError("a kernel has no events", expected="at least one", got=f"none for kernel {kernel}")
    return torch.from_numpy(np.array(mask.transpose(1, 0, 2)))


def _from_booleans(values: Floats, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    if not np.isin(values, (0, 1)).all():
        raise InputError(
            "events are no mask",
            expected="booleans, True where an event begins",
            got=f"values from {values.min():.4g} to {values.max():.4g}",
            fix="pass times as lists: events[kernel][trial] = [bins]",
        )
    if values.shape not in (shape, shape[1:]):
        raise InputError(
            "events do not fit the counts", expected=f"shape {shape} or {shape[1:]}", got=f"shape {values.shape}"
        )
    return np.broadcast_to(values.astype(bool), shape)


def _from_rows(rows: Floats, shape: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    n_kernels, n_trials, n_times = shape
    wrong = ((rows < 0) | (rows >= (n_trials, n_kernels, n_times)) | (rows != np.round(rows))).any(1)
    if wrong.any():
        raise InputError(
            "an event lies outside of its trial",
            expected=f"whole numbers of trial, kernel and bin, below {n_trials}, {n_kernels} and {n_times}",
            got=f"{rows[wrong][0].tolist()}",
        )
    mask: npt.NDArray[np.bool_] = np.zeros(shape, dtype=bool)
    trial, kernel, bins = rows.astype(int).T
    mask[kernel, trial, bins] = True
    return mask


def _from_times(events: Any, n_kernels: int, n_trials: int, n_times: int) -> npt.NDArray[np.bool_]:
    expected = f"a list over {n_kernels} kernels of lists over {n_trials} trials of times in bins"
    if not isinstance(events, list | tuple):
        raise InputError("events are no mask and no list", expected=expected, got=type(events).__name__)
    if n_kernels == 1 and len(events) == n_trials and all(_is_flat(times) for times in events):
        events = [events]
    if len(events) != n_kernels:
        raise InputError("events are of another number of kernels", expected=expected, got=f"{len(events)} lists")
    mask: npt.NDArray[np.bool_] = np.zeros((n_kernels, n_trials, n_times), dtype=bool)
    for kernel, by_trial in enumerate(events):
        if not isinstance(by_trial, _LISTS):
            raise InputError(f"events of kernel {kernel} are no list", expected=expected, got=repr(by_trial))
        if len(by_trial) != n_trials:
            raise InputError("events are of another number of trials", expected=expected, got=f"{len(by_trial)} trials")
        for trial, times in enumerate(by_trial):
            mask[kernel, trial, _bins(times, n_times, f"trial {trial} for kernel {kernel}")] = True
    return mask


def _is_flat(times: Any) -> bool:
    return isinstance(times, _LISTS) and not any(isinstance(time, list | tuple | np.ndarray) for time in times)


def _bins(times: Any, n_times: int, where: str) -> npt.NDArray[np.intp]:
    bins = real_array(times, f"event times in {where}")
    if np.asarray(times).dtype.kind == "b":  # 0 and 1 would be read as the first two bins
        raise InputError("events are a list of booleans", expected="times in bins", fix="pass np.array(events)")
    if bins.ndim != 1 or (bins != np.round(bins)).any() or (bins < 0).any() or (bins >= n_times).any():
        raise InputError(
            "an event lies outside of its trial",
            expected=f"a list of whole bins from 0 to {n_times - 1}",
            got=f"{times} in {where}",
            fix="events are bins from the start of the trial: divide seconds by the bin width and round",
        )
    return bins.astype(np.intp)
