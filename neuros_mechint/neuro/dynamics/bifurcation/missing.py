"""Branches that no initial state led to: those across a fold, and those that part from a branch that is known."""

from __future__ import annotations

import numpy as np
import torch

from neuros_mechint.neuro.dynamics.bifurcation.branches import SAME, Branch, End
from neuros_mechint.neuro.dynamics.bifurcation.critical import Bifurcation
from neuros_mechint.neuro.dynamics.bifurcation.family import Family, Found

_MIRRORED = 0.02  # of the way from where a branch ends back to the nearest value
_BESIDE = 0.05  # of the distance between values
_REACHES = np.geomspace(1e-3, 10, 17)  # of the size of a state


def across_folds(family: Family, found: list[Found], lost: list[End]) -> bool:
    """Add points on the other side of where branches end alone; return whether any was found.

    Near a fold the two branches are as far from it as each other.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.bifurcation.branches import follow, joined
    >>> family = Family(lambda r: lambda x: x + r - x**2, [[0.5]], None)
    >>> found = [one.isolated() for one in follow(family, np.array([-1.0, 0.5, 1.0]), progress=False)]
    >>> found = [one.only(0) if len(one.states) else one for one in found]
    >>> across_folds(family, found, joined(family, found)[1]), len(found[1].states)
    (True, 2)
    """
    added = False
    for end in lost:
        value = end.point.value + _MIRRORED * (end.start.value - end.point.value)
        here = family.advance(end.start, value)
        there = family.points(value, 2 * end.point.states - here.states).isolated()
        if len(there.states) == 1 and _across(here, end.point, there):
            added |= _added(family, found, end.place + end.begins, there)
    return added


def beside_branch_points(family: Family, found: list[Found], branches: list[Branch], told: list[Bifurcation]) -> bool:
    """Add points that part from a branch where an eigenvalue of it is 1; return whether any was found.

    They part along the eigenvector. How far they are from there is not known, so that all sizes are tried.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.bifurcation.branches import follow, joined
    >>> from neuros_mechint.neuro.dynamics.bifurcation.critical import bifurcations
    >>> family = Family(lambda r: lambda x: x + r * x - x**3, [[0.0]], None)
    >>> found = [one.only(0) for one in follow(family, np.linspace(-1, 1, 4), progress=False)]
    >>> branches, ends = joined(family, found)
    >>> told, _ = bifurcations(family, found, branches, ends)
    >>> beside_branch_points(family, found, branches, told), [len(one.states) for one in found]
    (True, [1, 1, 3, 1])
    """
    values, added = np.array([one.value for one in found]), False
    for one in told:
        if one.kind != "branch point":
            continue
        branch = branches[one.branches[0]]
        for side in (-1, 1):
            value = one.value + side * _BESIDE * float(np.diff(values).min())
            place = int(np.searchsorted(values, value) - (side < 0))
            if branch.first <= place <= branch.last:
                here = family.advance(found[place].only(branch.at(place)), value)
                for other in _parted(family, here):
                    added |= _added(family, found, place, other)
    return added


def _parted(family: Family, here: Found) -> list[Found]:
    """Return the fixed points beside one, along the direction of the eigenvalue nearest to 1."""
    reaches = torch.as_tensor(np.concatenate([-_REACHES, _REACHES]) * family.size).to(here.states)
    near = family.points(here.value, here.states + reaches[:, None] * family.direction(here)).isolated()
    apart = (near.states - here.states).norm(dim=1) > SAME * family.size
    return [near.only(row) for row in np.flatnonzero(apart.cpu().numpy())]


def _across(here: Found, middle: Found, there: Found) -> bool:
    """Return whether two points lie on different sides of a third."""
    first, second = here.states - middle.states, there.states - middle.states
    return bool((first * second).sum() < 0)


def _added(family: Family, found: list[Found], place: int, point: Found) -> bool:
    """Follow a point to the value of this index, and add it there, if it is new."""
    after, known = family.advance(point, found[place].value), found[place].states
    if after.value != found[place].value:
        return False
    if len(known) and (known - after.states).norm(dim=1).min() <= SAME * family.size:
        return False
    found[place] = found[place].with_point(after)
    return True
