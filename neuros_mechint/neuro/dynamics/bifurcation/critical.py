"""Where branches change their stability, begin, end or meet, and what kind of bifurcation that is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.dynamics.bifurcation.branches import Branch, End
from neuros_mechint.neuro.dynamics.bifurcation.family import Family, Found

_REACHES = (0.3, 0.1, 0.04)  # of the distance between values: how far around a crossing points are taken, in turn
_NODES = np.array([-1.0, -0.5, 0.5, 1.0])
_FEWEST_NODES = 3
_REAL_ROOT = 1e-9
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
    >>> family = Family(lambda r: lambda x: x + r * x - x**3, [[-1.0], [1.0]], None)
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
            # supercritical: the others are where the branch has lost stability, and have what it had
            kind = f"{'supercritical' if met[0].begins == first.gains else 'subcritical'} pitchfork"
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

    At the place itself fixed points that meet cannot be told apart. Polynomials through points on both sides, nearer
    each time, lead there.
    """
    width = second.value - first.value
    known, near = [first, second], [first, second]
    share = _crossed(known, first.value, width, rank, 0.5)
    for reach in _REACHES:
        near = []
        for offset in reach * _NODES:
            value = float(np.clip(share + offset, 0, 1)) * width + first.value
            near += _reached(family, known, value, first.value + share * width)
        near = list({one.value: one for one in near}.values())
        known += near
        near = near if len(near) >= _FEWEST_NODES else known
        share = float(np.clip(_crossed(near, first.value, width, rank, share), 0, 1))
    offsets = np.array([(one.value - first.value) / width for one in near]) - share
    states = np.stack([one.states[0].double().cpu().numpy() for one in near])
    angles = np.array([abs(np.angle(one.eigenvalues[0][rank])) for one in near])
    state = torch.as_tensor(_at_zero(offsets, states)).to(first.states)
    return first.value + share * width, state, complex(np.exp(1j * float(_at_zero(offsets, angles))))


def _reached(family: Family, known: list[Found], value: float, middle: float) -> list[Found]:
    """Return the point at a value, followed from the nearest that is known on the same side; none if out of reach."""
    same_side = [one for one in known if (one.value - middle) * (value - middle) >= 0]
    start = min(same_side or known, key=lambda one: abs(one.value - value))
    point = start if start.value == value else family.advance(start, value)
    return [point] if point.value == value else []


def _crossed(points: list[Found], origin: float, width: float, rank: int, middle: float) -> float:
    """Return, as a share of the width, where the modulus is 1 by a polynomial: its root nearest to the middle."""
    points = sorted(points, key=lambda one: abs((one.value - origin) / width - middle))[: len(_NODES)]
    offsets = np.array([(one.value - origin) / width for one in points]) - middle
    margins = np.array([np.abs(one.eigenvalues[0][rank]) - 1 for one in points])
    roots = np.roots(np.polyfit(offsets, margins, len(points) - 1))
    real = roots[np.abs(roots.imag) < _REAL_ROOT].real
    return middle + float(real[np.argmin(np.abs(real))]) if len(real) else middle


def _at_zero(offsets: Floats, values: Floats) -> Floats:
    """Return the polynomials through values, at an offset of zero."""
    return np.polyfit(offsets, values, len(offsets) - 1)[-1]


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
