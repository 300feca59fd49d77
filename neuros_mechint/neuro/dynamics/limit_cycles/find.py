"""The closed orbit that a system settles on, or what it does instead."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.arrays import Complexes, Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.neuro.dynamics.limit_cycles.floquet import floquet
from neuros_mechint.neuro.dynamics.limit_cycles.results import LimitCycle
from neuros_mechint.neuro.dynamics.limit_cycles.returns import Guess, returns_of_flow, returns_of_map, returns_to_start
from neuros_mechint.neuro.dynamics.limit_cycles.shooting import (
    FEWEST_STEPS,
    ClosedOrbit,
    Shooter,
    derivative_of_turn,
    spread,
)
from neuros_mechint.neuro.dynamics.simulation import simulate
from neuros_mechint.neuro.dynamics.systems import System, as_system

_FIRST_ROUND = 1000
_MOST_SHOWN = 1000
_MOST_PARTS = 8
_NEAR, _COLLAPSED, _SHRINKS = 0.1, 1e-3, 0.99
# A trajectory that has settled to 2% cannot be near an orbit from which deviations double in each turn.
_MOST_GROWTH = 2.0
# How well an orbit must close, how still a state must be, and how far from 1 a multiplier must be to be told from 1.
_CLOSES = {torch.float64: 1e-6, torch.float32: 1e-3}
_STILL = {torch.float64: 1e-9, torch.float32: 1e-4}
_NEUTRAL = {torch.float64: 1e-5, torch.float32: 1e-2}


class _Search(NamedTuple):
    step: Any
    system: System
    dt: float | None
    dtype: torch.dtype
    max_period: int


class _Found(NamedTuple):
    orbit: ClosedOrbit
    multipliers: Complexes
    logarithms: Complexes
    """Of one turn; where the system is a flow, those along the orbit are the first."""
    accuracy: float
    """How far the multiplier along the orbit is from 1, where it must be."""
    closure: float

    @property
    def across(self) -> Complexes:
        """Multipliers of deviations that do not only run ahead."""
        return self.multipliers[1 if self.orbit.shot.velocity.any() else 0 :]


class _Outcome(NamedTuple):
    kind: str
    verdict: str
    found: _Found | None
    states: Floats
    n_steps: int


def find_limit_cycle(
    step: Any,
    state: Any,
    inputs: Any = None,
    dt: float | None = None,
    settle: bool = True,
    n_steps: int = 20_000,
    max_period: int = 64,
) -> LimitCycle:
    r"""Return the closed orbit that a system settles on, with its period, Floquet multipliers and stability.

    The system runs until it comes back near where it was, on a Poincaré section of a flow or after whole steps of a
    map. Newton's method then moves a state :math:`x` of the orbit and the period :math:`T` until
    :math:`\varphi_T(x) = x`. Eigenvalues of :math:`D\varphi_T(x)` are the Floquet multipliers :math:`m`; of a flow, one
    of them, along the orbit, is 1. The orbit attracts if all others are below 1 in modulus; the exponents are
    :math:`\log(m) / T`.

    An orbit is reported only if the system settles on it. Chaos comes near to itself as well, but the closed orbits
    there are unstable; a torus never closes.

    Parameters
    ----------
    step : callable, or an object with a method ``step``
        ``step(states)`` or ``step(states, inputs)`` in torch, for rows ``(batch, n_states)``; or an adapted model with
        the capability "step".
    state : array_like or torch.Tensor of shape (n_states,) or (1, n_states)
        Where it starts.
    inputs : array_like or torch.Tensor of shape (n_inputs,), optional
        Held at every step.
    dt : float, optional
        Time of one step, where steps are samples of a flow: a turn then takes a real number of steps. A step of `rk4`
        says it itself. For a step that says none, such as that of a recurrent network, give 1.0 if it turns slowly,
        24 steps or more each time round. Without it the system is a map, and a period a whole number of steps.
    settle : bool
        False looks for the closed orbit nearest to ``state``, within ``n_steps``, whether it attracts or not.
    n_steps : int
        Most steps to settle within.
    max_period : int
        Longest period of a map that is looked for, in steps.

    Returns
    -------
    LimitCycle
        ``kind`` says which: "limit cycle" or, of a map, "periodic orbit"; "continuum of closed orbits", none of which
        attracts, as around a centre; "fixed point"; or "none".

    Raises
    ------
    InputError
        More than one state, states or inputs that are not finite, a step that leaves all bounds or that cannot be
        differentiated, or fewer than 12 steps a turn.
    OptionError
        ``dt`` other than that of the step.

    References
    ----------
    Parker & Chua 1989, Practical numerical algorithms for chaotic systems, doi:10.1007/978-1-4612-3486-9

    Examples
    --------
    >>> from neuros_mechint.datasets.systems import van_der_pol
    >>> from neuros_mechint.neuro.dynamics.integration import rk4
    >>> cycle = find_limit_cycle(rk4(van_der_pol, dt=0.05), [0.5, 0.0])
    >>> cycle.kind, cycle.stable, round(cycle.angular_frequency, 5), float(cycle.exponents[1].real.round(4))
    ('limit cycle', True, 0.94296, -1.0594)
    """
    check_option("settle", settle, (True, False))
    n_steps, max_period = whole("n_steps", n_steps, 100), whole("max_period", max_period)
    system, states = as_system(step, state, inputs)
    if len(states) > 1:
        raise InputError("a limit cycle is looked for from one state", got=f"{len(states)} rows", fix="loop over them")
    search = _Search(step, system, _time_of_step(system, dt), states.dtype, max_period)
    outcome = (_settled if settle else _nearby)(search, states, n_steps)
    arguments = {"state": state, "inputs": inputs, "dt": dt, "settle": settle, "n_steps": n_steps}
    return _result(outcome, search, Provenance.record(arguments=arguments | {"max_period": max_period}))


def _time_of_step(system: System, dt: float | None) -> float | None:
    if dt is None:
        return system.dt
    dt = number("dt", dt, 0, float("inf"))
    if system.dt is not None and dt != system.dt:
        raise OptionError("the step has another dt", expected=f"{system.dt:g}, or none", got=f"{dt:g}")
    return dt


def _settled(search: _Search, states: torch.Tensor, n_steps: int) -> _Outcome:
    """Run on in rounds, each twice as long, until an orbit is found that attracts the trajectory."""
    done, length = 0, min(_FIRST_ROUND, n_steps)
    seen = states.double().numpy()
    while done < n_steps:
        length = min(length, n_steps - done)
        seen = simulate(search.step, states, length, inputs=search.system.inputs)[0]
        states, done, length = seen[-1:], done + length, 2 * length
        seen = seen.double().numpy()
        if spread(seen) <= _STILL[search.dtype] * (1 + np.abs(seen).max()):
            return _Outcome("fixed point", "a fixed point, and no cycle: the state stands still", None, seen, done)
        shooter = Shooter(search.system, search.dt, search.dtype, spread(seen))
        guesses = returns_of_map(seen, search.max_period) if search.dt is None else returns_of_flow(seen, search.dt)
        for guess in _resolved(guesses, search.dt):
            found = _refined(search, shooter, guess, _MOST_GROWTH)
            if found is not None and _is_where_it_settles(found, seen[-1], shooter.size, search.dtype):
                return _named(found, search, seen, done)
    return _without(search, seen, done)


def _resolved(guesses: list[Guess], dt: float | None) -> list[Guess]:
    if dt is not None and guesses and guesses[0].period < FEWEST_STEPS * dt:
        raise InputError(
            "the steps are too long for the cycle",
            expected=f"at least {FEWEST_STEPS} steps each time round, better 24",
            got=f"about {guesses[0].period / dt:.3g}",
            fix="make dt of rk4 smaller; or leave dt out, if the step is a map",
        )
    return guesses


def _refined(search: _Search, shooter: Shooter, guess: Guess, most_growth: float = np.inf) -> _Found | None:
    """Return the closed orbit near a guess, or None where Newton's method finds none, or a fixed point."""
    tolerance = _CLOSES[search.dtype]
    orbit = shooter.refine(guess.start, guess.period, most_growth)
    if orbit is None or shooter.closure(orbit.shot) > tolerance:
        return None
    orbit = shooter.shortest(orbit, _MOST_PARTS if search.dt else search.max_period, tolerance)
    along = orbit.shot.velocity if orbit.shot.velocity.any() else None
    if search.dt is not None and orbit.size < _COLLAPSED * shooter.size:
        return None  # a fixed point closes after any time
    accuracy = 0.0
    if along is not None:
        accuracy = float(np.linalg.norm(derivative_of_turn(orbit.factors) @ along - along) / np.linalg.norm(along))
    multipliers, logarithms = floquet(orbit.factors, along)
    return _Found(orbit, multipliers, logarithms, accuracy, shooter.closure(orbit.shot))


def _neutral_within(found: _Found, dtype: torch.dtype) -> float:
    return max(_NEUTRAL[dtype], 10 * found.accuracy)


def _is_where_it_settles(found: _Found, last: Floats, size: float, dtype: torch.dtype) -> bool:
    largest = np.abs(found.across).max(initial=0.0)
    distance = np.linalg.norm(found.orbit.states - last, axis=1).min()
    return bool(distance <= _NEAR * size and largest <= 1 + _neutral_within(found, dtype))


def _named(found: _Found, search: _Search, seen: Floats, n_steps: int) -> _Outcome:
    """Say what a closed orbit is."""
    tolerance = _neutral_within(found, search.dtype)
    largest = np.abs(found.across).max(initial=0.0)
    kind = "limit cycle" if search.dt is not None else "periodic orbit"
    if search.dt is None and found.orbit.period == 1:
        return _Outcome("fixed point", "a fixed point, and no periodic orbit", None, seen, n_steps)
    if np.abs(found.across - 1).min(initial=np.inf) <= tolerance:
        verdict = (
            "one of a continuum of closed orbits, and no limit cycle: to its neighbours the system neither returns "
            f"nor departs (a multiplier across the orbit is 1 to {tolerance:.0e})"
        )
        return _Outcome("continuum of closed orbits", verdict, found, seen, n_steps)
    if largest > 1 + tolerance:
        verdict = f"an unstable {kind}: deviations grow {largest:.4g}-fold in each turn"
    elif largest < 1 - tolerance:
        verdict = f"a stable {kind}: deviations shrink to {largest:.4g} of their size in each turn"
    else:
        verdict = f"a {kind} whose stability cannot be told: the largest multiplier is of modulus {largest:.6f}"
    return _Outcome(kind, verdict, found, seen, n_steps)


def _nearby(search: _Search, states: torch.Tensor, n_steps: int) -> _Outcome:
    """Look for a closed orbit near a state, stable or not, in rounds, each twice as long."""
    start, length = states[0].double().numpy(), min(_FIRST_ROUND, n_steps)
    while True:
        trajectory = Shooter(search.system, search.dt, search.dtype, 1.0).run(start, length)
        finite = np.asarray(np.isfinite(trajectory).all(1))
        trajectory = trajectory[: len(finite) if finite.all() else int(finite.argmin())]
        for guess in _resolved(returns_to_start(trajectory, search.dt, search.max_period), search.dt):
            first_turn = trajectory[: int(guess.period / (search.dt or 1)) + 1]
            shooter = Shooter(search.system, search.dt, search.dtype, spread(first_turn) or 1.0)
            found = _refined(search, shooter, guess)
            if found is not None and not (search.dt is None and found.orbit.period == 1):
                return _named(found, search, trajectory, length)
        if length == n_steps or not finite.all():
            verdict = f"no closed orbit found near the state given, within {len(trajectory) - 1} steps"
            return _Outcome("none", verdict, None, trajectory, len(trajectory) - 1)
        length = min(2 * length, n_steps)


def _without(search: _Search, seen: Floats, n_steps: int) -> _Outcome:
    """Say what a trajectory does that settles on no closed orbit."""
    if _nears_fixed_point(search, seen):
        verdict = "a fixed point, and no cycle: the trajectory is still on its way there, ever nearer"
        return _Outcome("fixed point", verdict, None, seen, n_steps)
    within = f"within {n_steps} steps" + ("" if search.dt else f" at periods up to {search.max_period}")
    verdict = (
        f"no closed orbit: the trajectory does not settle on any {within}; chaotic, quasi-periodic, or slow "
        "(lyapunov_spectrum tells the first two apart)"
    )
    if search.dt is None and np.linalg.norm(np.diff(seen, axis=0), axis=1).max() < spread(seen) / 2:
        verdict += ". Its steps are short, as if they sampled a flow: dt=1.0 allows a period that is no whole number"
    return _Outcome("none", verdict, None, seen, n_steps)


def _nears_fixed_point(search: _Search, seen: Floats) -> bool:
    """Return whether there is a stable fixed point that the trajectory comes ever nearer to."""
    shooter = Shooter(search.system, None, search.dtype, spread(seen))
    orbit = shooter.refine(seen.mean(0), 1.0)
    if orbit is None or shooter.closure(orbit.shot) > _CLOSES[search.dtype]:
        return False
    distances = np.linalg.norm(seen - orbit.start, axis=1)
    quarter = max(1, len(distances) // 4)
    nearer = distances[-quarter:].max() < _SHRINKS * distances[:quarter].max()
    return bool(nearer and np.abs(np.linalg.eigvals(derivative_of_turn(orbit.factors))).max() < 1)


def _result(outcome: _Outcome, search: _Search, provenance: Provenance) -> LimitCycle:
    found = outcome.found
    stable = found is not None and np.abs(found.across).max(initial=0.0) < 1 - _neutral_within(found, search.dtype)
    sought = "periodic orbit" if search.dt is None else "limit cycle"
    return LimitCycle(
        _dataset(outcome, search),
        sought.capitalize() if found is not None else f"No {sought}",
        attributes={
            "kind": outcome.kind,
            "verdict": outcome.verdict,
            "stable": bool(stable),
            "dt": search.dt,
            "n_steps": outcome.n_steps,
            "closure": None if found is None else found.closure,
            "accuracy_of_multipliers": None if found is None else found.accuracy,
        },
        provenance=provenance,
        citations=("parker1989",),
        warnings=_warnings(found, search),
    )


def _warnings(found: _Found | None, search: _Search) -> tuple[str, ...]:
    if found is None:
        return ()
    coarse = max(found.accuracy, found.orbit.shot.interpolation / max(found.orbit.size, np.finfo(float).tiny))
    if coarse > _CLOSES[search.dtype]:
        return (f"steps are long for this cycle: period and multipliers are good to about {coarse:.0e}; reduce dt",)
    return ()


def _dataset(outcome: _Outcome, search: _Search) -> xr.Dataset:
    found, dt = outcome.found, search.dt
    time = "steps" if dt is None else "units of time"
    states = outcome.states[-_MOST_SHOWN:] if found is None else found.orbit.states
    period = np.nan if found is None else found.orbit.period
    none = np.zeros(0, dtype=complex)
    multipliers: Complexes = none if found is None else found.multipliers
    logarithms: Complexes = none if found is None else found.logarithms
    along = np.zeros(len(multipliers), dtype=bool)
    along[:1] = dt is not None
    modes = {
        "multiplier_real": (multipliers.real, "Floquet multiplier, real part", "1"),
        "multiplier_imag": (multipliers.imag, "Floquet multiplier, imaginary part", "1"),
        "exponent_real": (logarithms.real / period, "Floquet exponent, real part", f"1 / {time}"),
        "exponent_imag": (logarithms.imag / period, "Floquet exponent, imaginary part", f"radians / {time}"),
    }
    data = {
        "orbit": (("time", "unit"), states, {"long_name": "state"}),
        "period": ((), period, {"long_name": "period", "units": time}),
        **{name: ("mode", values, {"long_name": text, "units": unit}) for name, (values, text, unit) in modes.items()},
        "along_orbit": ("mode", along, {"long_name": "deviation along the orbit"}),
    }
    times = np.arange(len(states)) * (dt or 1)
    coordinates = {"time": ("time", times, {"units": time}), "unit": np.arange(states.shape[1])}
    return xr.Dataset(data, coordinates)
