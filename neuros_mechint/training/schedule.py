"""At which steps of training to look."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

from neuros_mechint.core.errors import InputError, check_option, whole

PER_DECADE, EARLY_PER_DECADE, EARLY = 6, 2, 10
"""Looks of the schedule ``"log"`` between a step and ten times it; fewer up to step 10, where steps are few."""


def as_schedule(schedule: Any) -> Callable[[int], int]:
    """Return a function that gives the latest step to look at, of those up to a step; -1 where there was none yet.

    Parameters
    ----------
    schedule : "log", int or iterable of int
        ``"log"``: steps 0, 1, 3 and 10, and then six per tenfold; an integer ``n``: every ``n`` steps from 0
        on; else these steps themselves.

    Returns
    -------
    callable

    Raises
    ------
    OptionError
        Another word, or numbers that are no steps.
    InputError
        No steps at all, or some that repeat.

    Examples
    --------
    >>> latest = as_schedule("log")
    >>> [step for step in range(101) if latest(step) == step]
    [0, 1, 3, 10, 15, 22, 32, 46, 68, 100]
    >>> [as_schedule(4)(step) for step in range(10)]
    [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]
    """
    if isinstance(schedule, str):
        check_option("schedule", schedule, ("log",))
        return _latest_spaced
    if isinstance(schedule, Iterable) and getattr(schedule, "ndim", 1):
        steps = sorted(whole("a step of the schedule", step, 0) for step in schedule)
        if not steps or len(set(steps)) < len(steps):
            raise InputError(
                "the schedule names no steps" if not steps else "the schedule names a step twice",
                expected="steps that differ, at least one",
                got=steps[:8],
            )
        latest = [-1, *steps]
        return lambda step: latest[bisect_right(steps, step)]
    every = whole("schedule", schedule)
    return lambda step: step - step % every


def _latest_spaced(step: int) -> int:
    if step == 0:
        return 0
    per_decade = EARLY_PER_DECADE if step < EARLY else PER_DECADE
    nearest = round(per_decade * math.log10(step))
    near = (round(10 ** (count / per_decade)) for count in (nearest - 1, nearest, nearest + 1))
    return max(spaced for spaced in near if spaced <= step)
