"""What was recorded: inputs, activity and outputs of the same trials and times, and which trials repeat."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.neuro.dynamics.trajectories import trajectories

_OTHER_FEATURES = ("input", "output", "node")  # axes that count features here, beside those of a recording


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
        return Observations(inputs, activity, outputs, np.arange(len(counts)), counts / counts.mean())

    def chosen(self, trials: npt.NDArray[Any]) -> Observations:
        """Return some of the trials, their conditions numbered anew."""
        _, conditions = np.unique(self.conditions[trials], return_inverse=True)
        inputs, activity, outputs = (values[trials] for values in self[:3])
        return Observations(inputs, activity, outputs, conditions, np.ones(len(conditions)))


def observations(inputs: Any, activity: Any, outputs: Any, conditions: Any = None) -> Observations:
    """Return what was recorded, or say what is wrong with it.

    Parameters
    ----------
    inputs, activity, outputs : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of trials
        ``(trial, time, input)``, ``(trial, time, unit)``, ``(trial, time, output)``: of the same trials and times.
    conditions : array_like of shape (n_trials,), optional
        A label of each trial; trials of one label repeat each other. By default trials of the same inputs do.

    Returns
    -------
    Observations

    Raises
    ------
    InputError
        Values that are missing or infinite, trials of different lengths, other trials or times in one than in another.

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
    return Observations(
        given["inputs"], recorded, given["outputs"], _numbered(conditions, given["inputs"]), np.ones(len(recorded))
    )


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
    n_folds = whole("n_folds", n_folds, 2)
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
        x = labelled.rename({axis: "feature" for axis in labelled.dims if axis in _OTHER_FEATURES})
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


def _numbered(conditions: Any, inputs: Floats) -> npt.NDArray[np.int64]:
    if conditions is None:
        return np.unique(inputs.reshape(len(inputs), -1), axis=0, return_inverse=True)[1].ravel()
    labels = np.asarray(conditions)
    if labels.shape != (len(inputs),):
        raise InputError("conditions do not label the trials", expected=f"{len(inputs)} labels", got=labels.shape)
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise InputError("conditions are not known of all trials", got="NaN or infinite labels")
    return np.unique(labels, return_inverse=True)[1]
