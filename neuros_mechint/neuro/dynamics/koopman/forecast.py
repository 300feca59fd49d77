"""What a linear operator predicts, and how wrong that is on data that it has not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.dynamics.koopman.observables import Observables


@dataclass(frozen=True)
class LinearModel:
    """Linear dynamics of coordinates of the observations.

    Parameters
    ----------
    observables : Observables
    encode : numpy.ndarray of shape (n_features, rank)
        Observations times this are the coordinates.
    step : numpy.ndarray of shape (rank, rank)
        Coordinates times this are those one step on.
    decode : numpy.ndarray of shape (rank, n_units)
        Coordinates times this are the states.
    drive : numpy.ndarray of shape (n_inputs, rank) or None
        Inputs times this are added in a step.
    """

    observables: Observables
    encode: Floats
    step: Floats
    decode: Floats
    drive: Floats | None = None

    def coordinates(self, trial: Floats) -> Floats:
        """Return the coordinates ``(n_times - delays + 1, rank)`` of one trial."""
        return self.observables(trial) @ self.encode

    def predict(self, trial: Floats, n_steps: int, inputs: Floats | None = None) -> Floats:
        """Return the ``n_steps`` states that follow a trial, ``(n_steps, n_units)``.

        Raises
        ------
        InputError
            Predictions that grow beyond all numbers.

        Examples
        --------
        >>> model = LinearModel(Observables(), np.eye(1), np.array([[0.5]]), np.eye(1))
        >>> model.predict(np.array([[8.0]]), 3).ravel().tolist()
        [4.0, 2.0, 1.0]
        """
        now = self.coordinates(trial[-self.observables.delays :])[-1]
        steps = []
        with np.errstate(over="ignore", invalid="ignore"):
            for index in range(n_steps):
                now = now @ self.step + (0.0 if inputs is None or self.drive is None else inputs[index] @ self.drive)
                steps.append(now)
            states = np.array(steps) @ self.decode
        if not np.isfinite(states).all():
            raise InputError(
                "the prediction grows beyond all numbers",
                got=f"{n_steps} steps with an eigenvalue of size {np.abs(np.linalg.eigvals(self.step)).max():.3g}",
                fix="predict fewer steps, or fit a smaller rank",
            )
        return states


class SquaredErrors(NamedTuple):
    """Sums of squared errors over times and units, one per number of steps ahead.

    Parameters
    ----------
    model, mean, no_change : numpy.ndarray of shape (horizon,)
        Of the model, of the mean of the training data, and of the present state as prediction.
    """

    model: Floats
    mean: Floats
    no_change: Floats


def squared_errors(
    model: LinearModel, trials: Sequence[Floats], mean: Floats, horizon: int, inputs: Sequence[Floats] | None = None
) -> SquaredErrors:
    """Return how wrong predictions are, one to ``horizon`` steps ahead, from every time of every trial.

    Examples
    --------
    >>> model = LinearModel(Observables(), np.eye(1), np.array([[0.5]]), np.eye(1))
    >>> errors = squared_errors(model, [np.array([[4.0], [2.0], [1.0]])], np.zeros(1), horizon=2)
    >>> errors.model.tolist(), errors.mean.tolist()
    ([0.0, 0.0], [5.0, 1.0])
    """
    sums = np.zeros((3, horizon))
    for number, trial in enumerate(trials):
        ahead, states = model.coordinates(trial), trial[model.observables.delays - 1 :]
        for step in range(1, min(horizon, len(states) - 1) + 1):
            ahead = ahead[:-1] @ model.step
            if inputs is not None and model.drive is not None:
                first = model.observables.delays - 2 + step
                ahead = ahead + inputs[number][first : first + len(ahead)] @ model.drive
            true = states[step:]
            for row, guess in enumerate((ahead @ model.decode, mean, states[:-step])):
                sums[row, step - 1] += ((true - guess) ** 2).sum()
    return SquaredErrors(*sums)


class Fold(NamedTuple):
    """What is fitted and what is held out, as indices of trials and first and last times."""

    train: list[tuple[int, slice]]
    test: list[tuple[int, slice]]


def folds(lengths: Sequence[int], n_folds: int, in_order: bool) -> Iterator[Fold]:
    """Yield folds: of whole trials, or, where there is one, of stretches of it.

    Parameters
    ----------
    lengths : sequence of int
        Of the trials.
    n_folds : int
    in_order : bool
        For methods that need one unbroken trial: only the last stretch is held out.

    Examples
    --------
    >>> [len(fold.train) for fold in folds([10, 12, 9], n_folds=5, in_order=False)]
    [2, 2, 2]
    >>> [len(fold.train) for fold in folds([100], n_folds=4, in_order=False)]
    [1, 2, 2, 1]
    """
    whole_trial = slice(None)
    if len(lengths) > 1:
        for fold in range(min(n_folds, len(lengths))):
            numbers = range(len(lengths))
            yield Fold(
                [(n, whole_trial) for n in numbers if n % n_folds != fold],
                [(n, whole_trial) for n in numbers if n % n_folds == fold],
            )
        return
    bounds = np.linspace(0, lengths[0], n_folds + 1).round().astype(int).tolist()
    for first, last in list(pairwise(bounds))[-1 if in_order else 0 :]:
        train = [(0, slice(0, first)), (0, slice(last, lengths[0]))]
        yield Fold([(n, part) for n, part in train if part.stop > part.start], [(0, slice(first, last))])
