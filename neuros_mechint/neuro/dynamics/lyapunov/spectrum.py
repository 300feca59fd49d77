"""Lyapunov exponents of a system that can be run and differentiated."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, torch_generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.neuro.dynamics.fixed_points.distinct import distinct
from neuros_mechint.neuro.dynamics.fixed_points.newton import precision, typical_size
from neuros_mechint.neuro.dynamics.lyapunov.orthonormal import householder
from neuros_mechint.neuro.dynamics.lyapunov.spectrum_results import LyapunovSpectrum
from neuros_mechint.neuro.dynamics.lyapunov.spectrum_statistics import (
    FEWEST_TRAJECTORIES,
    N_BLOCKS,
    N_SEGMENTS,
    Exponents,
    entropy,
    exponents_of,
    kaplan_yorke_dimension,
    kaplan_yorke_sem,
    memory_of_segments,
    scattered,
    unsettled,
    verdict,
)
from neuros_mechint.neuro.dynamics.lyapunov.tangent_growth import Growth, TangentRun, joined, tangent_runs
from neuros_mechint.neuro.dynamics.simulation import inputs_of_steps
from neuros_mechint.neuro.dynamics.systems import System, as_system

_SHORTEST_WARMUP = 1000
_WARMUP_SHARE = 4


def lyapunov_spectrum(
    step: Any,
    state: Any,
    n_steps: int,
    n_exponents: int | None = None,
    inputs: Any = None,
    dt: float | None = None,
    warmup: int | None = None,
    compiled: bool = False,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> LyapunovSpectrum:
    r"""Return the Lyapunov exponents of a map, a differential equation or a recurrent network.

    Perturbations of a trajectory are moved on by the Jacobian of the step, :math:`Z_t = J_t Q_{t-1}`, and made
    orthonormal again at every step, :math:`Z_t = Q_t R_t`. The exponents are the means over time of
    :math:`\log R_{ii}` per unit of time. States and perturbations first run through a warm-up that is not measured, so
    that the states reach the attractor and the perturbations their directions.

    Parameters
    ----------
    step : callable, or an object with a method ``step``
        ``step(states)`` or ``step(states, inputs)`` in torch, for rows ``(batch, n_states)``; also `rk4` of a
        derivative, and adapted models with the capability "step".
    state : array_like or torch.Tensor of shape (batch, n_states) or (n_states,)
        Where it starts: several states, on the same attractor, give the error that single ones cannot.
    n_steps : int
        Steps that are measured, at least 100.
    n_exponents : int, optional
        How many of the largest exponents; all by default.
    inputs : array_like or torch.Tensor, optional
        ``(n_inputs,)`` or ``(batch, n_inputs)`` held; or ``(batch, warmup + n_steps, n_inputs)`` for each step, those
        of the warm-up first: the exponents are then those of the response to these inputs.
    dt : float, optional
        Time of one step; that of an `rk4` step, else 1.
    warmup : int, optional
        Steps before those that are measured. By default a quarter of ``n_steps``, at least 1,000; with inputs for each
        step what these have more than ``n_steps``.
    compiled : bool
        Compile the step with `torch.compile`, which takes seconds to a minute and needs a C++ compiler; the result then
        says whether it worked. Worth it from some 50,000 steps on.
    level : float
        Coverage of the intervals.
    seed : int or numpy.random.Generator
        Of the first perturbations.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    LyapunovSpectrum
        With ``exponents``, ``sem``, ``kaplan_yorke_dimension``, ``entropy`` and a verdict. The standard error comes
        from the scatter of at least 8 trajectories; where they are fewer, from that of 20 segments of time; where they
        fluctuate together, from the larger of both. Exponents are minus infinity where the Jacobian is singular to
        rounding.

    Raises
    ------
    InputError
        States or inputs that are none; a step that cannot be differentiated, changes from call to call, leaves all
        bounds or has no finite derivative; inputs for another number of steps.
    OptionError
        Fewer than 100 steps, more exponents than states, or a ``dt`` that contradicts that of the step.

    References
    ----------
    Benettin et al. 1980, Lyapunov characteristic exponents for smooth dynamical systems and for Hamiltonian systems,
    doi:10.1007/BF02128236; Kaplan and Yorke 1979, Chaotic behavior of multidimensional difference equations,
    doi:10.1007/BFb0064319; Eckmann and Ruelle 1985, Ergodic theory of chaos and strange attractors,
    doi:10.1103/RevModPhys.57.617

    Examples
    --------
    >>> import numpy as np
    >>> import neuros_mechint as nm
    >>> starts = np.random.default_rng(0).uniform(0.1, 0.9, size=(16, 1))
    >>> found = nm.lyapunov_spectrum(nm.logistic_map, starts, n_steps=2000)  # r = 4: ln 2 = 0.693
    >>> found.exponents.round(2).tolist(), found.verdict
    ([0.69], 'chaotic')
    """
    n_steps, level = _number_of_steps(n_steps), coverage(level)
    check_option("compiled", compiled, (True, False))
    varying, warmup = _inputs_and_warmup(inputs, n_steps, warmup)
    system, rows = as_system(step, state, inputs if varying is None else varying[:, 0])
    if varying is not None:
        varying = varying.to(rows).expand(len(rows), -1, -1)
    n_exponents, dt_used = _number_of_exponents(n_exponents, system), _time_of_step(dt, system)
    random = torch.randn(n_exponents, *rows.shape, dtype=rows.dtype, generator=torch_generator(seed))
    runs = tangent_runs(system, rows, householder(random.to(rows.device))[0], varying, compiled)
    growth = joined([_run(run, warmup, n_steps, progress) for run in runs])
    run, places = runs[0], _resting_places(growth, runs)
    found = exponents_of(growth, dt_used, torch.finfo(rows.dtype).eps, level)
    moving = unsettled(found)
    word = verdict(found, growth, not moving[0], level)
    arguments = {
        "step": system.name,
        "states": rows.cpu().numpy(),
        "inputs": None if inputs is None else np.asarray(torch.as_tensor(inputs).cpu()),
        "n_steps": n_steps,
        "n_exponents": n_exponents,
        "dt": dt,
        "warmup": warmup,
        "compiled": compiled,
        "level": level,
    }
    return LyapunovSpectrum(
        _dataset(found, system, "step" if dt is None and system.dt is None else "unit of time", places),
        f"Lyapunov exponents of {system.name}",
        attributes={
            "verdict": word,
            "n_steps": n_steps,
            "warmup": warmup,
            "dt": dt_used,
            "level": level,
            "driven": varying is not None,
            **_about(found, run, rows),
        },
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("benettin1980", "kaplan1979", "eckmann1985"),
        warnings=_warnings(found, run, moving, places),
    )


def _about(found: Exponents, run: TangentRun, states: torch.Tensor) -> dict[str, Any]:
    return {
        "n_positive": int((found.sign > 0).sum()),
        "n_zero": int((found.sign == 0).sum()),
        "n_negative": int((found.sign < 0).sum()),
        "n_states": states.shape[1],
        "n_trajectories": len(states),
        "dtype": str(states.dtype).removeprefix("torch."),
        "error_rule": _error_rule(found, len(states)),
        "route": run.push.route,
        "route_reason": run.push.reason,
        "compiled": run.compiled,
        "not_compiled": run.not_compiled,
    }


def _run(run: TangentRun, warmup: int, n_steps: int, progress: bool) -> Growth:
    run.discard(warmup, progress)
    return run.measure(n_steps, N_BLOCKS, progress)


def _number_of_steps(n_steps: int) -> int:
    if whole("n_steps", n_steps) < N_BLOCKS:
        raise OptionError(
            "too few steps for exponents and their errors",
            expected=f"n_steps of at least {N_BLOCKS}; thousands, where the motion is chaotic",
            got=n_steps,
        )
    return int(n_steps)


def _inputs_and_warmup(inputs: Any, n_steps: int, warmup: int | None) -> tuple[torch.Tensor | None, int]:
    """Return inputs for each step, or None where they are held, and the steps of the warm-up."""
    if warmup is not None:
        warmup = whole("warmup", warmup, least=0)
    usual = max(_SHORTEST_WARMUP, n_steps // _WARMUP_SHARE)
    given = inputs_of_steps(inputs)
    if given is None:
        return None, usual if warmup is None else warmup
    spare = given.shape[1] - n_steps
    wrong = spare < 1 if warmup is None else spare != warmup
    if wrong:
        wanted = f"more than {n_steps}" if warmup is None else f"{warmup} + {n_steps}"
        raise InputError(
            "inputs do not fit the number of steps",
            expected=f"(batch, steps, n_inputs) with {wanted} steps: those of the warm-up come first",
            got=tuple(given.shape),
            fix=f"measure fewer: n_steps={given.shape[1] * 3 // 4}; or warmup=0 if the states are those at the time",
        )
    return given, spare


def _number_of_exponents(n_exponents: int | None, system: System) -> int:
    if n_exponents is None:
        return system.n_states
    if whole("n_exponents", n_exponents) > system.n_states:
        raise OptionError(
            "there are not so many exponents", expected=f"at most {system.n_states}, one per state", got=n_exponents
        )
    return int(n_exponents)


def _time_of_step(dt: float | None, system: System) -> float:
    if dt is None:
        return 1.0 if system.dt is None else system.dt
    given = float(number("dt", dt, 0, float("inf")))
    if system.dt is not None and not np.isclose(given, system.dt):
        raise OptionError("dt is not that of the step", expected=f"{system.dt:g}, or none", got=f"{given:g}")
    return given


def _error_rule(found: Exponents, n_trajectories: int) -> str:
    segments = f"the scatter of {N_SEGMENTS} segments of time"
    if found.bounded.any():
        how_many = f"{int(found.bounded.sum())} of {found.bounded.size} exponents"
        segments += f" ({how_many}: how far sums of growth stray, as on a cycle)"
    if n_trajectories < FEWEST_TRAJECTORIES:
        return segments
    return f"the scatter of trajectories (where they fluctuate together, {segments} if that is larger)"


def _warnings(
    found: Exponents, run: TangentRun, moving: np.ndarray, places: npt.NDArray[np.int64] | None
) -> tuple[str, ...]:
    told = []
    lost = np.isneginf(found.by_trajectory)
    if lost.any():
        told.append(
            f"the Jacobian is singular to rounding on {int(lost.any(1).sum())} of {len(lost)} trajectories "
            "(superstable motion, or a step that forgets): exponents of minus infinity; shorter steps "
            "resolve more where it only contracts fast"
        )
    if found.n_accidents:
        told.append(f"{found.n_accidents} steps with a Jacobian singular to rounding were counted as rounding")
    if moving.any():
        told.append(
            f"{int(moving.sum())} of {moving.size} exponents change in the course of the time: "
            "not settled, take a longer warm-up and more steps"
        )
    apart = scattered(found)
    if apart.any():
        n_points = None if places is None else int(places.max()) + 1
        told.append(_why_apart(n_points, f"{int(apart.sum())} of {apart.size} exponents"))
    memory = None if moving[0] else memory_of_segments(found)
    if memory is not None:
        told.append(
            f"neighbouring segments of the largest exponent are correlated ({memory:.2f}): its error may be too small, "
            "take more steps"
        )
    if np.finfo(np.float64).eps < torch.finfo(run.states.dtype).eps:
        told.append("the step works in single precision: errors below 1e-4 of the exponents are not resolved")
    if run.not_compiled:
        told.append(f"not compiled: {run.not_compiled}")
    return tuple(told)


def _resting_places(growth: Growth, runs: list[TangentRun]) -> npt.NDArray[np.int64] | None:
    """Return at which fixed point each trajectory rests, numbered from 0; None where any still moves."""
    if growth.moves.any():
        return None
    states = torch.cat([one.states for one in runs]).double()
    apart = precision(runs[0].states.dtype).apart * typical_size(states)
    _, member = distinct(states, torch.zeros(len(states)), torch.zeros(len(states), dtype=torch.int64), apart)
    return member.cpu().numpy()


def _why_apart(n_points: int | None, which: str) -> str:
    """Return why trajectories may differ in their exponents, of which ``n_points`` fixed points they rest at."""
    if n_points is None:
        return (
            f"trajectories differ by more than their segments explain in {which}: "
            "they are on several attractors or not settled; data['by_trajectory'] has them"
        )
    if n_points > 1:
        return (
            f"trajectories rest at {n_points} fixed points and differ in {which}: each point has exponents of its own, "
            "of which these are means; data['by_trajectory'] has them"
        )
    return (
        f"all trajectories rest at one fixed point, and still differ in {which}: directions that shrink almost alike "
        "take long to part; exact exponents are the logarithms of the moduli of the eigenvalues there, see "
        "FixedPointFinder"
    )


def _dataset(found: Exponents, system: System, unit: str, places: npt.NDArray[np.int64] | None) -> xr.Dataset:
    per_time = f"1 / {unit}"
    names = ("sem", "sem_segments", "sem_trajectories", "low", "high")
    data: dict[str, Any] = {
        "exponents": ("exponent", found.mean, {"long_name": "Lyapunov exponent", "units": per_time})
    }
    data |= {
        name: ("exponent", getattr(found, name), {"long_name": name.replace("_", " "), "units": per_time})
        for name in names
    }
    data["by_trajectory"] = (
        ("trajectory", "exponent"), found.by_trajectory, {"long_name": "Lyapunov exponent", "units": per_time}
    )  # fmt: skip
    if places is not None:
        data["resting_place"] = ("trajectory", places, {"long_name": "fixed point at which it rests"})
    data["running"] = (("time", "exponent"), found.running, {"long_name": "mean so far", "units": per_time})
    total, total_sem = entropy(found, system.n_states)
    dimension = kaplan_yorke_dimension(found.counted, system.n_states)
    numbers = {
        "kaplan_yorke_dimension": (dimension, "1"),
        "kaplan_yorke_sem": (kaplan_yorke_sem(found, system.n_states), "1"),
        "entropy": (total, f"nats / {unit}"),
        "entropy_sem": (total_sem, f"nats / {unit}"),
    }
    data |= {
        name: ((), value, {"long_name": name.replace("_", " "), "units": units})
        for name, (value, units) in numbers.items()
    }
    coordinates = {
        "exponent": ("exponent", np.arange(1, found.mean.size + 1), {"long_name": "rank"}),
        "time": ("time", found.time, {"long_name": "time", "units": "steps" if unit == "step" else "units of time"}),
    }
    return xr.Dataset(data, coordinates)
