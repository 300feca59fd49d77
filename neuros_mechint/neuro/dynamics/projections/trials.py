"""Trials of one length as one array, and results in the form that came in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.dynamics.trajectories import Trajectories


def stacked(found: Trajectories, why: str) -> Floats:
    """Return trials as one array ``(trial, time, unit)``.

    Raises
    ------
    InputError
        Trials of different lengths.

    Examples
    --------
    >>> stacked(Trajectories((np.zeros((5, 2)), np.ones((5, 2)))), "the mean over trials").shape
    (2, 5, 2)
    """
    if len(set(found.lengths)) > 1:
        raise InputError(
            f"{why} needs trials of one length",
            expected="the same times in every trial",
            got=f"{min(found.lengths)} to {max(found.lengths)} times",
            fix="cut the trials to their common times",
        )
    return np.stack(found.trials)


def as_given(trials: list[Floats], x: Any) -> Any:
    """Return one array per trial in the form in which the trials came: a list, one trial, or one array of them.

    Examples
    --------
    >>> as_given([np.zeros((5, 2))], np.zeros((5, 3))).shape
    (5, 2)
    """
    if isinstance(x, list | tuple):  # a NamedTuple of trials, too
        return trials
    array = trials[0] if getattr(x, "ndim", 3) <= 2 and len(trials) == 1 else np.stack(trials)
    return torch.from_numpy(array) if isinstance(x, torch.Tensor) else array
