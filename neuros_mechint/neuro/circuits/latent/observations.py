"""What was recorded: inputs, activity and outputs of the same trials and times, and which trials repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.labels import counts_observations
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.circuits.latent.channels import OTHER_FEATURES, channel_names
from neuros_mechint.neuro.dynamics.trajectories import trajectories


class Observations(NamedTuple):
    """Trials of one system, or means of trials.

    Parameters
    ----------
    inputs : numpy.ndarray of shape (n_trials, n_times, n_inputs)
    activity : numpy.ndarray of shape (n_trials, n_times, n_units)
    outputs : numpy.ndarray of shape (n_trials, n_times, n_outputs)
    conditions : numpy.ndarray of shape (n_trials,)
        Trials of the same number repeat each other.
    weights : numpy.ndarray of shape (n_trials,)
        Number of trials behind each, 1 on average.
    input_names, output_names : tuple of str

    Examples
    --------
    >>> found = observations(np.zeros((4, 10, 1)), np.zeros((4, 10, 3)), np.zeros((4, 10, 1)))
    >>> found.n_conditions, found.averaged().activity.shape
    (1, (1, 10, 3))
    """

    inputs: Floats
    activity: Floats
    outputs: Floats
    conditions: npt.NDArray[np.int64]
    weights: Floats
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    @property
    def n_conditions(self) -> int:
        """Number of conditions."""
        return int(self.conditions.max()) + 1

    @property
    def exact_repeats(self) -> bool:
        """Whether the trials of each condition have the same inputs."""
        _, firsts = np.unique(self.conditions, return_index=True)
        return bool((self.inputs == self.inputs[firsts][self.conditions]).all())

    def averaged(self) -> Observations:
        """Return the mean of the trials of each condition."""
        counts = np.bincount(self.conditions)

        def mean(values: Floats) -> Floats:
            sums = np.zeros((len(counts), *values.shape[1:]))
            np.add.at(sums, self.conditions, values)
            return sums / counts[:, None, None]

        inputs, activity, outputs = (mean(values) for values in self[:3])
        return Observations(inputs, activity, outputs, np.arange(len(counts)), counts / counts.mean(), *self[5:])

    def chosen(self, trials: npt.NDArray[Any]) -> Observations:
        """Return some of the trials, their conditions numbered anew."""
        _, conditions = np.unique(self.conditions[trials], return_inverse=True)
        inputs, activity, outputs = (values[trials] for values in self[:3])
        return Observations(inputs, activity, outputs, conditions, np.ones(len(conditions)), *self[5:])


def observations(
    inputs: Any,
    activity: Any,
    outputs: Any,
    conditions: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Observations:
    """Return what was recorded, or say what is wrong with it.

    Parameters
    ----------
    inputs, activity, outputs : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of trials
        ``(trial, time, input)``, ``(trial, time, unit)``, ``(trial, time, output)``: of the same trials and times.
    conditions : array_like of shape (n_trials,), optional
        A label of each trial; trials of one label repeat each other. By default trials of the same inputs do.
    input_names, output_names : sequence of str, optional
        By default the labels of the columns, where they have any.

    Returns
    -------
    Observations

    Raises
    ------
    InputError
        Values that are missing or infinite, trials of different lengths, other trials or times in one than in another,
        or in another order; names that are not one for each column.

    Examples
    --------
    >>> observations(np.zeros((4, 10, 1)), np.zeros((4, 9, 3)), np.zeros((4, 10, 1)))
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: inputs are not aligned with the activity
      expected: 4 trials of 9 times, as in the activity
      got:      4 trials of 10 times
      to fix:   pass (trial, time, column) arrays that were cut from the same trials at the same times
    """
    recorded = trials_of(activity, "activity")
    given = {"inputs": trials_of(inputs, "inputs"), "outputs": trials_of(outputs, "outputs")}
    for name, values in given.items():
        check_aligned(name, values, recorded)
    for name, values in (("inputs", inputs), ("outputs", outputs), ("conditions", conditions)):
        check_labels(name, values, activity)
    numbers = _numbered(conditions, given["inputs"])
    names = (
        channel_names("input", input_names, inputs, given["inputs"].shape[-1]),
        channel_names("output", output_names, outputs, given["outputs"].shape[-1]),
    )
    return Observations(given["inputs"], recorded, given["outputs"], numbers, np.ones(len(recorded)), *names)


def folds_of_conditions(
    seen: Observations, n_folds: int, random: np.random.Generator
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return which trials to fit and which to predict in each fold; trials of one condition stay together.

    Raises
    ------
    InputError
        Fewer conditions than folds.

    Examples
    --------
    >>> seen = observations(np.arange(3.0)[:, None, None] + np.zeros((3, 5, 1)), np.ones((3, 5, 2)), np.ones((3, 5, 1)))
    >>> [held.tolist() for _, held in folds_of_conditions(seen, 3, np.random.default_rng(0))]
    [[1], [2], [0]]
    """
    n_folds = whole("cv", n_folds, 2)
    if seen.n_conditions < n_folds:
        raise InputError("fewer conditions than folds", expected=f"at least {n_folds}", got=seen.n_conditions)
    dealt = random.permutation(np.arange(seen.n_conditions) % n_folds)[seen.conditions]
    return [(np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)) for fold in range(n_folds)]


def trials_of(x: Any, name: str) -> Floats:
    """Return trials of equal length as one array ``(n_trials, n_times, n_columns)``.

    Raises
    ------
    InputError
        As `neuros_mechint.neuro.dynamics.trajectories.trajectories`, or trials of different lengths.

    Examples
    --------
    >>> trials_of(xr.DataArray(np.zeros((2, 5, 3)), dims=("trial", "time", "input")), "inputs").shape
    (2, 5, 3)
    """
    labelled = x.data if isinstance(x, Recording) else x
    if isinstance(labelled, xr.DataArray):
        x = labelled.rename({axis: "feature" for axis in labelled.dims if axis in OTHER_FEATURES})
    found = trajectories(x, name=name, why="for one step")
    if len(set(found.lengths)) > 1:
        raise InputError(
            f"trials of {name} differ in their length",
            expected="the same number of times in each trial",
            got=f"{min(found.lengths)} to {max(found.lengths)} times",
            fix="cut all trials to the shortest",
        )
    return np.stack(found.trials)


def check_aligned(name: str, values: Floats, activity: Floats) -> None:
    """Raise `InputError` unless values have the trials and times of the activity.

    Examples
    --------
    >>> check_aligned("outputs", np.zeros((4, 10, 1)), np.zeros((4, 10, 3)))
    """
    if values.shape[:2] != activity.shape[:2]:
        raise InputError(
            f"{name} are not aligned with the activity",
            expected=f"{activity.shape[0]} trials of {activity.shape[1]} times, as in the activity",
            got=f"{values.shape[0]} trials of {values.shape[1]} times",
            fix="pass (trial, time, column) arrays that were cut from the same trials at the same times",
        )


def check_labels(name: str, values: Any, activity: Any) -> None:
    """Raise `InputError` where values and activity name their trials or times, and name them otherwise.

    Examples
    --------
    >>> labelled = xr.DataArray(np.zeros((2, 5, 1)), {"trial": ["a", "b"]}, ("trial", "time", "input"))
    >>> check_labels("inputs", labelled, labelled)
    """
    given, recorded = (x.data if isinstance(x, Recording) else x for x in (values, activity))
    if not isinstance(given, xr.DataArray) or not isinstance(recorded, xr.DataArray):
        return
    for axis in set(given.dims) & set(recorded.dims):
        if axis in OTHER_FEATURES or not counts_observations(str(axis)):
            continue
        if (
            axis in given.indexes
            and axis in recorded.indexes
            and not given.indexes[axis].equals(recorded.indexes[axis])
        ):
            raise InputError(
                f"{name} label the axis {axis!r} otherwise than the activity does",
                expected=f"{recorded.indexes[axis][:4].tolist()} ...",
                got=f"{given.indexes[axis][:4].tolist()} ...",
                fix=f"bring them in one order: {name}.sel({axis}=activity[{axis!r}].values)",
            )


def _numbered(conditions: Any, inputs: Floats) -> npt.NDArray[np.int64]:
    """Return the number of each trial's condition: of its label, or of its inputs."""
    if conditions is None:
        return np.unique(inputs.reshape(len(inputs), -1), axis=0, return_inverse=True)[1].ravel()
    labels = as_array(conditions, "conditions")
    if labels.shape != (len(inputs),):
        raise InputError("conditions do not label the trials", expected=f"{len(inputs)} labels", got=labels.shape)
    unknown = ~np.isfinite(labels) if labels.dtype.kind == "f" else pd.isnull(labels)
    if unknown.any():
        raise InputError(
            "conditions are not known of all trials",
            expected="a label of each trial",
            got=f"{int(unknown.sum())} of {len(labels)} missing",
            fix="leave these trials out of inputs, activity and outputs as well",
        )
    if labels.dtype.kind == "c" or len({isinstance(label, str) for label in labels.tolist()}) > 1:
        raise InputError("conditions are no labels of one kind", expected="names or real numbers", got=labels.dtype)
    return np.unique(labels, return_inverse=True)[1]
