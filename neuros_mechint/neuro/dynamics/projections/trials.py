"""Trials of one length as one array."""

from __future__ import annotations

import numpy as np

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
