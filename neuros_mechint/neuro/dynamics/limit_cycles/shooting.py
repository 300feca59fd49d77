"""Closed orbits refined by Newton's method, for steps that are maps and for steps that sample a flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.dynamics.systems import System

# Twelve equidistant states give what lies between them to 1e-10 from 24 steps a turn on; the middle gap is used.
NODES = 12
_BEFORE = NODES // 2 - 1
FEWEST_STEPS = NODES
_MOST_ITERATIONS, _MOST_HALVINGS = 20, 5
# Directions in which the orbit neither contracts nor expands by more than this are left as they are: Newton's
# method would walk along a continuum of closed orbits, of which all but its centre close to rounding only.
_SMALLEST = 1e-6
_MOST_NUMBERS = 2**23


class Shot(NamedTuple):
    """Where one turn from a state ends."""

    states: Floats
    """``(n_steps + 1, n_states)``: the start and every state after it, as far as they were needed."""
    end: Floats
    velocity: Floats
    """Change of the end with the period; zeros for a map, whose period is whole."""
    interpolation: float
    """How far the end moves where two nodes fewer are used to interpolate."""

    @property
    def gap(self) -> Floats:
        """From the start to the end."""
        return self.end - self.states[0]


@dataclass(frozen=True)
class ClosedOrbit:
    """A start and a period, and what one turn does to it.

    Parameters
    ----------
    start : numpy.ndarray of shape (n_states,)
    period : float
        In units of time; whole steps for a map.
    shot : Shot
    factors : numpy.ndarray of shape (n_factors, n_states, n_states)
        Matrices whose product, the first one applied first, is the derivative of the end by the start.
    n_samples : int
        How many of the states of the shot make one turn.
    """

    start: Floats
    period: float
    shot: Shot
    factors: Floats
    n_samples: int

    @property
    def states(self) -> Floats:
        """The states of one turn, ``(n_samples, n_states)``."""
        return self.shot.states[: self.n_samples]

    @property
    def size(self) -> float:
        """Root mean square distance from the middle of the orbit."""
        return spread(self.states)


def spread(states: Floats) -> float:
    """Return the root mean square distance of states from their mean.

    Examples
    --------
    >>> spread(np.array([[-1.0], [1.0]]))
    1.0
    """
    return float(np.sqrt(((states - states.mean(0)) ** 2).sum(1).mean()))


def lagrange_weights(position: float, n_nodes: int) -> tuple[Floats, Floats]:
    """Return the weights of values at 0, 1, 2, ... of the polynomial through them, and of its slope.

    Examples
    --------
    >>> value, slope = lagrange_weights(1.5, 4)
    >>> float(value @ np.arange(4) ** 3), float(slope @ np.arange(4) ** 3)
    (3.375, 6.75)
    """
    nodes = np.arange(n_nodes)
    between = (nodes[:, None] - nodes[None, :]).astype(float)
    np.fill_diagonal(between, 1.0)
    ratios = (position - nodes)[None, :] / between
    np.fill_diagonal(ratios, 1.0)
    value = ratios.prod(1)
    slope = np.zeros(n_nodes)
    for left_out in nodes:
        rest = np.delete(ratios, left_out, axis=1).prod(1) / between[:, left_out]
        slope += np.where(nodes == left_out, 0.0, rest)
    return value, slope


class Shooter:
    """Turns of a system from single states.

    Parameters
    ----------
    system : System
        With one row of inputs, or none.
    dt : float or None
        Time of one step where the steps sample a flow; None for a map.
    dtype : torch.dtype
    size : float
        Of what goes around, in units of the states: orbits close relative to it.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda x: 3.2 * x * (1 - x), [0.5])
    >>> orbit = Shooter(system, None, states.dtype, size=0.2).refine(np.array([0.5]), 2)
    >>> orbit.states.round(4).ravel().tolist()
    [0.513, 0.7995]
    """

    def __init__(self, system: System, dt: float | None, dtype: torch.dtype, size: float) -> None:
        self.system, self.dt, self.dtype, self.size = system, dt, dtype, size

    def run(self, start: Floats, n_steps: int) -> Floats:
        """Return the start and the states after each step, ``(n_steps + 1, n_states)``."""
        states = torch.empty(n_steps + 1, self.system.n_states, dtype=self.dtype)
        states[0] = torch.from_numpy(np.asarray(start, dtype=np.float64))
        with torch.no_grad():
            for step in range(n_steps):
                states[step + 1] = self.system(states[step : step + 1])[0]
        return states.double().numpy()

    def shoot(self, start: Floats, period: float) -> Shot:
        """Return where a turn of such a period ends."""
        if self.dt is None:
            states = self.run(start, int(period))
            return Shot(states, states[-1], np.zeros(len(start)), 0.0)
        first, weights, slopes = self._interpolation(period)
        states = self.run(start, first + NODES - 1)
        nodes = states[first:]
        end = weights @ nodes
        fewer = lagrange_weights(period / self.dt - first - 1, NODES - 2)[0] @ nodes[1:-1]
        return Shot(states, end, slopes @ nodes / self.dt, float(np.linalg.norm(end - fewer)))

    def factors(self, states: Floats, period: float) -> Floats:
        """Return the matrices whose product is the derivative of the end by the start."""
        if self.dt is None:
            return self.jacobians(states[:-1])
        first, weights, _ = self._interpolation(period)
        jacobians = self.jacobians(states[:-1])
        product = np.eye(states.shape[1])
        last = weights[0] * product
        for weight, jacobian in zip(weights[1:], jacobians[first:], strict=True):
            product = jacobian @ product
            last = last + weight * product
        return np.concatenate([jacobians[:first], last[None]])

    def jacobians(self, states: Floats) -> Floats:
        """Return the derivative of each step, ``(n_steps, n_states, n_states)``, in portions that fit the memory."""
        n_rows = max(1, _MOST_NUMBERS // states.shape[1] ** 2)
        found = []
        for portion in torch.from_numpy(states).to(self.dtype).split(n_rows):
            inputs = self.system.inputs
            held = None if inputs is None else inputs[:1].expand(len(portion), -1)
            found.append(self.system.jacobians(portion, held).double().numpy())
        return np.concatenate(found)

    def refine(self, start: Floats, period: float, most_growth: float = np.inf) -> ClosedOrbit | None:
        """Return the closed orbit near a guess, or None where Newton's method leaves all bounds.

        Whether it is closed is up to the caller, see `closure`. Guesses from which deviations grow by more than
        ``most_growth`` in a turn are not followed.
        """
        orbit = self._orbit(start, period)
        if orbit is None or np.abs(np.linalg.eigvals(derivative_of_turn(orbit.factors))).max() > most_growth:
            return None
        for _ in range(_MOST_ITERATIONS):
            if orbit is None or self.closure(orbit.shot) <= 10 * np.finfo(np.float64).eps:
                break
            closer = self._closer(orbit)
            if closer is None:
                break
            orbit = closer
        return orbit

    def _orbit(self, start: Floats, period: float) -> ClosedOrbit | None:
        if self.dt is not None and period < FEWEST_STEPS * self.dt:
            return None
        shot = self.shoot(start, period)
        if not np.isfinite(shot.states).all():
            return None
        factors = self.factors(shot.states, period)
        if not np.isfinite(factors).all():
            return None
        n_samples = int(period) if self.dt is None else int(period / self.dt) + 1
        return ClosedOrbit(start, period, shot, factors, n_samples)

    def closure(self, shot: Shot) -> float:
        """Return how far the end is from the start, relative to the size."""
        return float(np.linalg.norm(shot.gap)) / self.size

    def _closer(self, orbit: ClosedOrbit) -> ClosedOrbit | None:
        """Return the orbit after a step of Newton's method, or None where none brings the ends together."""
        move, longer = _newton_step(orbit)
        for halving in range(_MOST_HALVINGS):
            share = 0.5**halving
            period = orbit.period + share * longer
            if self.dt is not None and period < FEWEST_STEPS * self.dt:
                continue
            shot = self.shoot(orbit.start + share * move, period)
            finite = np.isfinite(shot.states).all()
            if finite and np.linalg.norm(shot.gap) < np.linalg.norm(orbit.shot.gap):
                return self._orbit(orbit.start + share * move, period)
        return None

    def shortest(self, orbit: ClosedOrbit, most_parts: int, tolerance: float) -> ClosedOrbit:
        """Return the orbit once, where it was gone through several times."""
        for parts in range(most_parts, 1, -1):
            period = orbit.period / parts
            whole = orbit.period % parts == 0 if self.dt is None else period >= FEWEST_STEPS * self.dt
            if not whole:
                continue
            if self.closure(self.shoot(orbit.start, period)) <= tolerance:
                return self._orbit(orbit.start, period) or orbit
        return orbit

    def _interpolation(self, period: float) -> tuple[int, Floats, Floats]:
        """Return the number of the first node, and the weights of all."""
        assert self.dt is not None
        first = int(period / self.dt) - _BEFORE
        return first, *lagrange_weights(period / self.dt - first, NODES)


def derivative_of_turn(factors: Floats) -> Floats:
    """Return the product of matrices, the first one applied first.

    Examples
    --------
    >>> derivative_of_turn(np.array([[[2.0]], [[3.0]]])).tolist()
    [[6.0]]
    """
    product = np.eye(factors.shape[1])
    for factor in factors:
        product = factor @ product
    return product


def _newton_step(orbit: ClosedOrbit) -> tuple[Floats, float]:
    """Return the change of the start, across the flow, and of the period that would close the orbit."""
    moved = derivative_of_turn(orbit.factors) - np.eye(len(orbit.start))
    speed = float(np.linalg.norm(orbit.shot.velocity))
    if speed == 0:
        return np.asarray(np.linalg.lstsq(moved, -orbit.shot.gap, rcond=_SMALLEST)[0], dtype=np.float64), 0.0
    along = orbit.shot.velocity / speed
    bordered = np.block([[moved, along[:, None]], [along[None, :], np.zeros((1, 1))]])
    solved = np.linalg.lstsq(bordered, np.append(-orbit.shot.gap, 0.0), rcond=_SMALLEST)[0]
    step = np.asarray(solved, dtype=np.float64)
    return step[:-1], float(step[-1]) / speed
