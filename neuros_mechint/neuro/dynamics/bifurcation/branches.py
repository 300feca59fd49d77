"""Fixed points at neighbouring values of a parameter, joined into branches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.dynamics.bifurcation.family import Family, Found

_MOVED = 1e-3  # of the distance between values
_SIDES = 0.1  # of the size of a state
SAME = 1e-3
"""Of the size of a state: fixed points this near are one."""


class Branch(NamedTuple):
    """A fixed point followed over neighbouring values."""

    first: int
    """Index of the first value."""
    points: list[int]
    """Which of the points at each value."""

    @property
    def last(self) -> int:
        """Index of the last value."""
        return self.first + len(self.points) - 1

    def at(self, place: int) -> int:
        """Return which of the points at the value of this index it is."""
        return self.points[place - self.first]


class End(NamedTuple):
    """A branch begins or ends between two values."""

    place: int
    """Between the values of this index and the next."""
    branch: int
    point: Found
    """As near to the end as it can be followed."""
    start: Found
    """At the nearest value that was asked for."""
    begins: bool

    @property
    def eigenvalue(self) -> complex:
        """The eigenvalue nearest to 1."""
        values = self.point.eigenvalues[0]
        return complex(values[np.argmin(np.abs(values - 1))])

    def meets(self, state: torch.Tensor, nearness: float) -> bool:
        """Return whether the branch has come near a state: within a share of how far it was at the nearest value."""
        now, before = self.point.states[0] - state, self.start.states[0] - state
        return bool(now.norm() <= nearness * before.norm())


def follow(family: Family, values: Floats, progress: bool) -> list[Found]:
    """Return all fixed points at each value: those of initial states, and those that others lead to.

    A value at which a fixed point is singular, where a bifurcation is, moves by a thousandth of the distance between
    values: there points cannot be told apart. Points that are singular still belong to a continuum, and are left out.

    Examples
    --------
    >>> family = Family(lambda r: lambda x: x + r * x - x**3, [[-1.0], [1.0]], None)
    >>> [len(found.states) for found in follow(family, np.array([-1.0, 0.0, 1.0]), progress=False)]
    [1, 3, 3]
    """
    found: list[Found] = []
    spacing = float(np.diff(values).min())
    for value in progress_bar(values.tolist(), description="fixed points", enabled=progress):
        family.check(value)
        starts = _around(family, found[-1].states) if found else family.starts
        one = family.points(value, starts)
        if np.isnan(one.index).any():
            one = family.points(value + _MOVED * spacing, starts)
        if np.isnan(one.index).any():
            family.singular.add(one.value)
        found.append(one.isolated())
    complete(family, found)
    return found


def complete(family: Family, found: list[Found]) -> None:
    """Look, at each value, also for the points known at the next one, and then at the one before."""
    last = len(found) - 1
    upwards = [(at, at - 1) for at in range(1, last + 1)]
    for place, neighbour in [*((at, at + 1) for at in reversed(range(last))), *upwards]:
        known = torch.cat([found[place].states, found[neighbour].states])
        if len(known):
            found[place] = family.points(found[place].value, known).isolated()


def _around(family: Family, known: torch.Tensor) -> torch.Tensor:
    """Return initial states, known points, and both sides of each: where one splits, Newton's method stays on it."""
    sides = [known + sign * _SIDES * family.size for sign in (-1, 1)]
    return torch.cat([family.starts, known, *sides])


def joined(family: Family, found: list[Found], progress: bool = False) -> tuple[list[Branch], list[End]]:
    """Return branches and their ends; points that were missed at a value are added to those found there.

    Examples
    --------
    >>> family = Family(lambda r: lambda x: x + r * x - x**3, [[-1.0], [1.0]], None)
    >>> branches, ends = joined(family, follow(family, np.linspace(-1, 1, 4), False))
    >>> [(branch.first, branch.last) for branch in branches], len(ends)
    ([(0, 3), (2, 3), (2, 3)], 2)
    """
    branches = [Branch(0, [point]) for point in range(len(found[0].states))]
    ends: list[End] = []
    for place in range(len(found) - 1):
        taken: set[int] = set()
        told = f"branches, {place + 1} of {len(found) - 1} steps"
        for number, branch in progress_bar(list(enumerate(branches)), description=told, enabled=progress):
            if branch.last == place:
                start = found[place].only(branch.at(place))
                after = family.advance(start, found[place + 1].value)
                row = _row(family, found, place + 1, after) if after.value == found[place + 1].value else None
                if row is None or row in taken:
                    ends.append(End(place, number, after, start, False))
                else:
                    branch.points.append(row)
                    taken.add(row)
        for row in range(len(found[place + 1].states)):
            if row not in taken:
                start = found[place + 1].only(row)
                before = family.advance(start, found[place].value)
                ends.append(End(place, len(branches), before, start, True))
                branches.append(Branch(place + 1, [row]))
    return branches, ends


def _row(family: Family, found: list[Found], place: int, point: Found) -> int:
    """Return which of the points at a value this one is; one that was missed is added."""
    if len(found[place].states):
        distance = (found[place].states - point.states).norm(dim=1)
        if distance.min() <= SAME * family.size:
            return int(distance.argmin())
    found[place] = found[place].with_point(point)
    return len(found[place].states) - 1
