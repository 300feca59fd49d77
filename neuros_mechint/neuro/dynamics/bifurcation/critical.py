"""Where branches change their stability, begin, end or meet, and what kind of bifurcation that is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.dynamics.bifurcation.branches import Branch, End
from neuros_mechint.neuro.dynamics.bifurcation.family import Family, Found

_COARSE = 1e-3  # of the distance between values: how well a crossing is known before the curve through it is fitted
_AROUND = np.array([-0.05, -0.025, 0.025, 0.05])  # of that distance
_REAL = 1e-3  # of an angle: eigenvalues of smaller argument are real
_MEETS = 0.25


class Crossing(NamedTuple):
    """An eigenvalue of a branch crosses the unit circle."""

    place: int
    """Between the values of this index and the next."""
    branch: int
    value: float
    state: torch.Tensor
    eigenvalue: complex
    gains: bool
    """Whether another direction grows above the value."""

    @property
    def angle(self) -> float:
        """Argument of the eigenvalue, from 0 to pi."""
        return float(abs(np.angle(self.eigenvalue)))

    @property
    def is_pair(self) -> bool:
        """Whether it crosses together with its complex conjugate."""
        return _REAL <= self.angle <= np.pi - _REAL


class Bifurcation(NamedTuple):
    """What happens at one value of the parameter."""

    kind: str
    value: float
    state: Floats
    eigenvalue: complex
    branches: tuple[int, ...]


def bifurcations(
    family: Family, found: list[Found], branches: list[Branch], ends: list[End]
) -> tuple[list[Bifurcation], list[End]]:
    """Return bifurcations in the order of the parameter, and ends of branches that none explains.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.bifurcation.branches import follow, joined
    >>> family = Family(lambda r: lambda x: x + r * x - x**3, [[0.1]], None)
    >>> found = follow(family, np.linspace(-1, 1, 4), False)
    >>> told, lost = bifurcations(family, found, *joined(family, found))
    >>> [(one.kind, abs(round(one.value, 6))) for one in told], lost
    ([('supercritical pitchfork', 0.0)], [])
    """
    crossings = [one for number, branch in enumerate(branches) for one in _crossings(family, found, number, branch)]
    flow = family.dt is not None
    told: list[Bifurcation] = []
    for one in crossings:
        if one.is_pair:
            told.append(_bifurcation(one, "Hopf" if flow else "Neimark-Sacker"))
        elif one.angle > np.pi / 2:
            told.append(_bifurcation(one, "step too long" if flow else "period doubling"))
    at_one, ends = [one for one in crossings if one.angle < _REAL], list(ends)
    while at_one:
        first = at_one.pop(0)
        met = [end for end in ends if end.place == first.place and end.meets(first.state, _MEETS)]
        partner = next((one for one in at_one if _exchange(found, first, one)), None)
        if len(met) > 1:
            stable = all(not end.start.n_unstable[0] for end in met)
            kind = f"{'supercritical' if stable else 'subcritical'} pitchfork"
        elif partner is not None:
            at_one.remove(partner)
            kind = "transcritical"
        else:
            kind = "branch point"
        others = [partner.branch] if kind == "transcritical" and partner else [end.branch for end in met]
        told.append(_bifurcation(first, kind, *others))
        ends = [end for end in ends if end not in met]
    folds, lost = _folds(ends)
    return sorted([*told, *folds], key=lambda one: one.value), lost


def _bifurcation(crossing: Crossing, kind: str, *others: int) -> Bifurcation:
    state = crossing.state.double().cpu().numpy()
    return Bifurcation(kind, crossing.value, state, crossing.eigenvalue, (crossing.branch, *others))


def _crossings(family: Family, found: list[Found], number: int, branch: Branch) -> list[Crossing]:
    told = []
    for place in range(branch.first, branch.last):
        first, second = (found[at].only(branch.at(at)) for at in (place, place + 1))
        below, above = int(first.n_unstable[0]), int(second.n_unstable[0])
        rank = min(below, above)
        while rank < max(below, above):
            value, state, eigenvalue = _locate(family, first, second, rank)
            told.append(Crossing(place, number, value, state, eigenvalue, above > below))
            rank += 2 if told[-1].is_pair else 1
    return told


def _locate(family: Family, first: Found, second: Found, rank: int) -> tuple[float, torch.Tensor, complex]:
    """Return where the eigenvalue of this rank by modulus crosses the unit circle.

    Near the place itself fixed points that meet are hard to tell apart. A polynomial through four points at some
    distance from it is exact to their fifth power.
    """
    from scipy.optimize import brentq

    width = second.value - first.value
    known = {first.value: first, second.value: second}

    def at(value: float) -> Found:
        if value not in known:
            nearest = known[min(known, key=lambda one: abs(one - value))]
            reached = family.advance(nearest, value)
            known[value] = reached
        return known[value]

    def margin(value: float) -> float:
        return float(np.abs(at(value).eigenvalues[0][rank])) - 1

    low, high = margin(first.value), margin(second.value)
    if low * high < 0:
        coarse = float(brentq(margin, first.value, second.value, xtol=_COARSE * width))
    else:  # one of the ends is the place, to rounding
        coarse = first.value if abs(low) <= abs(high) else second.value
    near = [at(coarse + offset * width) for offset in _AROUND]
    offsets = np.array([one.value - coarse for one in near]) / width
    margins = [float(np.abs(one.eigenvalues[0][rank])) - 1 for one in near]
    offset = _root(offsets, np.array(margins))
    states = np.stack([one.states[0].double().cpu().numpy() for one in near])
    state = np.array([np.polyval(np.polyfit(offsets, column, 3), offset) for column in states.T])
    eigenvalue = near[int(np.argmin(np.abs(offsets - offset)))].eigenvalues[0][rank]
    state_there = torch.as_tensor(state, dtype=first.states.dtype, device=first.states.device)
    return coarse + offset * width, state_there, complex(eigenvalue / abs(eigenvalue))


def _root(offsets: Floats, margins: Floats) -> float:
    """Return the real root of the cubic through four points that is nearest to their middle."""
    roots = np.roots(np.polyfit(offsets, margins, 3))
    real = roots[np.abs(roots.imag) < 1e-9].real
    return float(real[np.argmin(np.abs(real))]) if len(real) else 0.0


def _exchange(found: list[Found], first: Crossing, second: Crossing) -> bool:
    """Return whether two branches exchange their stability at one place."""
    width = found[first.place + 1].value - found[first.place].value
    near = abs(first.value - second.value) <= _MEETS * width
    apart = (found[first.place].states[None] - found[first.place].states[:, None]).norm(dim=2).max()
    return near and first.gains != second.gains and bool((first.state - second.state).norm() <= _MEETS * apart)


def _folds(ends: list[End]) -> tuple[list[Bifurcation], list[End]]:
    """Return pairs of branches that end in each other, and the ends that have no partner."""
    told, lost, left = [], [], list(ends)
    while left:
        first = left.pop(0)
        state = first.point.states[0]
        partners = [
            one
            for one in left
            if (one.place, one.begins) == (first.place, first.begins)
            and (one.point.states[0] - state).norm() <= _MEETS * (one.start.states[0] - first.start.states[0]).norm()
        ]
        if not partners:
            lost.append(first)
            continue
        other = min(partners, key=lambda one: float((one.point.states[0] - state).norm()))
        left = [one for one in left if one is not other]
        middle = (state + other.point.states[0]).double().cpu().numpy() / 2
        value = (first.point.value + other.point.value) / 2
        told.append(Bifurcation("fold", value, middle, first.eigenvalue, (first.branch, other.branch)))
    return told, lost
