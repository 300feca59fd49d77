"""Trajectories as they were read: too few times are often one axis taken for another."""

from __future__ import annotations

from collections.abc import Sequence

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError


def more_units_than_times(trials: Sequence[Floats]) -> bool:
    """Return whether one trial has more units than times: then trials may have been taken for times.

    Examples
    --------
    >>> import numpy as np
    >>> more_units_than_times([np.zeros((40, 1400))]), more_units_than_times([np.zeros((1400, 40))])
    (True, False)
    """
    return len(trials) == 1 and trials[0].shape[1] > len(trials[0])


def read_as(trials: Sequence[Floats]) -> str:
    """Return how trajectories were read.

    Examples
    --------
    >>> import numpy as np
    >>> read_as([np.zeros((40, 1400))])
    'read as 1 trial of 40 times of 1400 units'
    """
    lengths = sorted({len(trial) for trial in trials})
    times = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    n_units = trials[0].shape[1]
    return f"read as {len(trials)} trial{'s'[: len(trials) > 1]} of {times} times of {n_units} unit{'s'[: n_units > 1]}"


def refuse_few(n_found: int, fewest: int, trials: Sequence[Floats], problem: str) -> None:
    """Raise `InputError` where there are too few, and say how the data were read.

    Parameters
    ----------
    n_found, fewest : int
    trials : sequence of numpy.ndarray of shape (n_times, n_units)
    problem : str
        What there are too few of.

    Examples
    --------
    >>> import numpy as np
    >>> refuse_few(40, 200, [np.zeros((40, 1400))], "too few samples")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: too few samples
      expected: at least 200
      got:      40: read as 1 trial of 40 times of 1400 units
      to fix:   an array of two axes is (time, unit): trials (trial, time) of one unit go in as x[:, :, None]
    """
    if n_found >= fewest:
        return
    raise InputError(
        problem,
        expected=f"at least {fewest}",
        got=f"{n_found}: {read_as(trials)}",
        fix="an array of two axes is (time, unit): trials (trial, time) of one unit go in as x[:, :, None]"
        if more_units_than_times(trials)
        else "record longer, or more trials",
    )
