"""All fixed points of a system that a set of states leads to, and where it is slow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, number, whole
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.dynamics.fixed_points.continua import Continuum, find_continua
from neuros_mechint.neuro.dynamics.fixed_points.everywhere import told_of_points, told_of_step
from neuros_mechint.neuro.dynamics.fixed_points.gather import (
    Points,
    Starts,
    fixed_points,
    search,
    slow_points,
    subset,
    taken,
)
from neuros_mechint.neuro.dynamics.fixed_points.linearisation import index, n_unstable, stability, time_constants
from neuros_mechint.neuro.dynamics.fixed_points.newton import Search, displacement, precision, typical_size
from neuros_mechint.neuro.dynamics.fixed_points.results import FIXED, MINIMUM, SLOW, FixedPoints
from neuros_mechint.neuro.dynamics.fixed_points.starts import as_states, draw_starts
from neuros_mechint.neuro.dynamics.systems import System, as_system

_SLOW = 0.01  # of the speed of a typical direction
_PROBES = 8
_FEW_ARRIVED = 0.5
_FAR_SMALLER = 1e-2  # of the size of states: there, different points begin to count as the same


class FixedPointFinder(Parameterised):
    r"""Find the fixed points of a system, with inputs held, and points where it is slow.

    Newton's method, in a batch, solves :math:`F(x) = x` from every initial state; where its steps do not slow the
    state down, Levenberg-Marquardt steps descend on the speed :math:`|F(x) - x|`. States that end where speed is flat
    but not zero are followed to the minimum. Where a fixed point or minimum has modes of very different speeds, or
    where there is none, states also settle on the slow manifold, along which lines and rings show.

    Parameters
    ----------
    step : callable, or an object with a method ``step``
        ``step(states)`` or ``step(states, inputs)``, in torch, for rows ``(batch, n_states)``; or an adapted model.
        Of a differential equation, `rk4` makes a step: fixed points are those of the equation, and eigenvalues those of
        ``exp(dt * Jacobian)`` up to the error of `rk4`; see ``rates`` of the result.
    dt : float, optional
        Time of one step, for time constants. By default that of an `rk4` step; else they are in steps.
    tolerance : float, optional
        Speed, in units of the state per step, below which a point may be fixed. By default 1e-9 of the root mean square
        length of initial states in double precision, 1e-6 in single. Newton's steps must settle as well: a point that
        is merely slow is not taken for a fixed one.
    slow_speed : float, optional
        Speed below which minima of speed and points of slow manifolds are reported; 0 for none. By default 1% of the
        root mean square distance of initial states from their mean, times the root mean square singular value of
        :math:`I - J` at some of them: of the speed in a typical direction.
    n_starts : int, optional
        Draw so many initial states: every other one as it is, the rest halfway between two of them, since saddles lie
        between the states that trajectories visit. By default every initial state is taken, once; of thousands,
        1000 will do.
    noise : float
        Standard deviation of Gaussian noise added to each unit of initial states, in units of the state.
    seed : int or numpy.random.Generator
        For drawing and noise.
    progress : bool
        Show a bar where it takes longer than two seconds.

    References
    ----------
    Sussillo and Barak 2013, Opening the black box, doi:10.1162/NECO_a_00409; Golub and Sussillo 2018,
    FixedPointFinder, doi:10.21105/joss.01003; Khona and Fiete 2022, Attractor and integrator networks in the brain,
    doi:10.1038/s41583-022-00642-0

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> step = nm.rk4(nm.duffing, dt=0.1)
    >>> found = nm.FixedPointFinder(step).find(np.random.default_rng(0).normal(size=(50, 2)))
    >>> sorted(zip(found.states[:, 0].round(6).tolist(), found.stability))
    [(-1.0, 'stable'), (0.0, 'saddle'), (1.0, 'stable')]
    >>> found.index_sum, found.time_constants[found.n_unstable == 0].round(3).tolist()
    (1, [[4.0, 4.0], [4.0, 4.0]])
    """

    def __init__(
        self,
        step: Any,
        dt: float | None = None,
        tolerance: float | None = None,
        slow_speed: float | None = None,
        n_starts: int | None = None,
        noise: float = 0.0,
        seed: SeedLike = 0,
        progress: bool = True,
    ) -> None:
        self.step = step
        self.dt = dt
        self.tolerance = tolerance
        self.slow_speed = slow_speed
        self.n_starts = n_starts
        self.noise = noise
        self.seed = seed
        self.progress = progress

    def find(self, initial_states: Any, inputs: Any = None) -> FixedPoints:
        """Return the fixed points, and slow points, that initial states lead to.

        Parameters
        ----------
        initial_states : array_like, torch.Tensor, xarray.DataArray or Recording
            ``(batch, unit)``, ``(trial, time, unit)``, a list of trials, or one state ``(unit,)``; never changed.
            States that the system visits are a good choice: the points found are those that matter there. But a
            whole recording holds thousands that lead to the same few points: give the finder ``n_starts=1000`` then,
            which is sooner and also begins between them, where saddles lie.
        inputs : array_like or torch.Tensor, optional
            Held: ``(n_inputs,)``, or one row for each initial state. Points are kept apart by their inputs.

        Returns
        -------
        FixedPoints

        Raises
        ------
        InputError
            No finite real numbers; states and inputs that do not match; a step that is random, not finite, mixes
            rows or cannot be differentiated.
        OptionError
            A parameter that is out of range.

        Examples
        --------
        >>> finder = FixedPointFinder(lambda x: torch.tanh(2 * x))
        >>> finder.find(np.linspace(-1, 1, 9)[:, None]).states.round(3).flatten().tolist()
        [-0.958, 0.958, 0.0]
        """
        self._check()
        states, given = as_states(initial_states, "initial states"), as_states(inputs, "inputs")
        system, rows = as_system(self.step, states, given)
        dt = self.dt or system.dt or 1.0
        starts, conditions = self._starts(system, rows)
        starts, found, fixed, shrunk = _at_own_scale(system, starts, self.progress)
        fixed, minima, slow = (_ordered(part, starts) for part in slow_points(system, starts, found, fixed))
        continua, member = _continua(system, starts, [fixed, minima, slow])
        n_others = len(fixed.rows) + len(minima.rows)
        # what is slow near an isolated point only says that the point has a slow mode
        slow, keep = subset(slow, torch.from_numpy(member[n_others:] >= 0)), member >= 0
        keep[:n_others] = True
        kinds = {FIXED: fixed, MINIMUM: minima, SLOW: slow}
        in_steps = self.dt is None and system.dt is None
        data = _dataset(system, starts, kinds, member[keep], conditions, None if in_steps else dt)
        n_converged = int(found.converged.sum())
        everywhere = told_of_step(system, starts) or told_of_points(
            fixed.linear.eigenvalues, member[: len(fixed.rows)] < 0, starts.states.dtype
        )
        return FixedPoints(
            data,
            "Fixed points",
            attributes={
                "dt": dt,
                "time_unit": "steps" if in_steps else "units of time",
                "tolerance": starts.tolerance,
                "slow_speed": starts.slow_speed,
                "n_starts": len(starts.states),
                "n_converged": n_converged,
                "n_ended_slow": int((~found.converged & (found.speeds <= starts.slow_speed)).sum()),
                "everywhere": everywhere,
                "continua": [
                    {name: value for name, value in one._asdict().items() if name != "points"} for one in continua
                ],
            },
            provenance=Provenance.record(self.seed, arguments=self._arguments(states, given)),
            citations=("sussillo2013", "golub2018", "khona2022"),
            warnings=_warnings([everywhere, shrunk], n_converged, len(starts.states), starts.states.dtype),
        )

    def _check(self) -> None:
        for name in ("dt", "tolerance"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), 0, float("inf"))
        if self.n_starts is not None:
            whole("n_starts", self.n_starts)
        number("noise", self.noise, 0, float("inf"), closed="left")
        if self.slow_speed is not None:
            number("slow_speed", self.slow_speed, 0, float("inf"), closed="left")
        check_option("progress", self.progress, (True, False))

    def _starts(self, system: System, rows: torch.Tensor) -> tuple[Starts, torch.Tensor | None]:
        """Return where to begin, and the different inputs there are."""
        values, conditions = None, torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        if system.inputs is not None:
            values, conditions = system.inputs.unique(dim=0, return_inverse=True)
        states, drawn = draw_starts(rows, conditions, self.n_starts, self.noise, generator(self.seed))
        size = typical_size(rows)
        if not np.isfinite(size) or size > torch.finfo(rows.dtype).max ** 0.25:
            raise InputError(
                "states are too large to be told apart",
                expected=f"lengths below {torch.finfo(rows.dtype).max ** 0.25:.1g}, as of states that a system visits",
                got=f"a typical length of {size:.2g}",
                fix="leave out the times at which the system has exploded, or change its units",
            )
        tolerance = precision(rows.dtype).speed * size if self.tolerance is None else self.tolerance
        slow_speed = _SLOW * _typical_speed(system, rows) if self.slow_speed is None else self.slow_speed
        return Starts(states, system.rows(drawn), conditions[drawn], size, tolerance, slow_speed), values

    def _arguments(self, states: Any, inputs: Any) -> dict[str, Any]:
        own = {name: value for name, value in self.get_params().items() if name not in ("step", "seed", "progress")}
        return {"step": repr(self.step), **own, "initial_states": as_array(states, "initial_states"), "inputs": inputs}


def _at_own_scale(system: System, starts: Starts, progress: bool) -> tuple[Starts, Search, Points, str | None]:
    """Search, and search again from states of the size of fixed points where these are far smaller than the states.

    What counts as the same point, and as standing still, is relative to the size of states: of states that are
    thousands of times as large as the points, as where a system explodes, all points would count as one.
    """
    fixed, found = fixed_points(system, starts, search(system, starts, progress))
    reach = float(fixed.states.norm(dim=1).max()) if len(fixed.rows) else starts.size
    if reach > _FAR_SMALLER * starts.size:
        return starts, found, fixed, None
    least = precision(starts.states.dtype).rounding
    factor = reach / starts.size if reach > least * starts.size else _FAR_SMALLER
    scaled = {name: getattr(starts, name) * factor for name in ("states", "size", "tolerance", "slow_speed")}
    nearer = starts._replace(**scaled)
    fixed_there, found_there = fixed_points(system, nearer, search(system, nearer, progress))
    if len(fixed_there.rows) <= len(fixed.rows):
        return starts, found, fixed, None
    told = (
        f"the states to begin with are {1 / factor:.2g} times as large as the fixed points, which cannot be told apart "
        "from there: these are what the same states lead to after they were made that much smaller"
    )
    return nearer, found_there, fixed_there, told


def _ordered(points: Points, starts: Starts) -> Points:
    """Return points by inputs, growing directions and coordinates, which do not depend on what was found first."""
    grid = precision(points.states.dtype).apart * starts.size
    coordinates = np.round(points.states.double().cpu().numpy() / grid)
    growing = n_unstable(points.linear.eigenvalues, points.states.dtype)
    conditions = starts.conditions[points.rows].cpu().numpy()
    order = np.lexsort((*coordinates.T[::-1], growing, conditions))
    return taken(points, torch.from_numpy(order).to(points.rows.device))


def _typical_speed(system: System, states: torch.Tensor) -> float:
    spread = typical_size(states - states.mean(0)) if len(states) > 1 else typical_size(states)
    rows = torch.arange(0, len(states), -(-len(states) // _PROBES), device=states.device)
    unit = torch.eye(system.n_states, dtype=states.dtype, device=states.device)
    change = unit - system.jacobians(states[rows], system.rows(rows))
    return spread * float(change.square().mean(0).sum().sqrt()) / system.n_states**0.5


def _continua(system: System, starts: Starts, parts: list[Points]) -> tuple[list[Continuum], npt.NDArray[np.int64]]:
    """Return lines, rings and surfaces of ``parts``, fixed points first, and on which each point lies, -1 for none."""
    states, rows = torch.cat([part.states for part in parts]), torch.cat([part.rows for part in parts])
    jacobians = np.concatenate([part.linear.jacobians for part in parts])
    values = np.concatenate([part.linear.eigenvalues for part in parts])
    points, condition = states.double().cpu().numpy(), starts.conditions[rows].cpu().numpy()
    member, continua = np.full(len(states), -1), list[Continuum]()
    speeds = _speeds(system, starts, states, rows)
    for one in np.unique(condition):
        own = np.flatnonzero(condition == one)
        for found in find_continua(points[own], speeds[own], values[own], jacobians[own]):
            member[own[found.points]] = len(continua)
            on_it = own[found.points]
            continua.append(found._replace(points=on_it, n_fixed=int((on_it < len(parts[0].rows)).sum())))
    return continua, member


def _speeds(system: System, starts: Starts, states: torch.Tensor, rows: torch.Tensor) -> Floats:
    moved = displacement(system, states, starts.given(rows)) if len(states) else states
    return moved.norm(dim=1).double().cpu().numpy()


def _dataset(
    system: System,
    starts: Starts,
    kinds: dict[str, Points],
    member: npt.NDArray[np.int64],
    conditions: torch.Tensor | None,
    dt: float | None,
) -> xr.Dataset:
    """Return all points with what is known of each; without ``dt``, times are in steps."""
    parts = list(kinds.values())
    states, rows = torch.cat([part.states for part in parts]), torch.cat([part.rows for part in parts])
    dtype = states.dtype
    values = np.concatenate([part.linear.eigenvalues for part in parts])
    condition = starts.conditions[rows].cpu().numpy()
    n_conditions = 1 if conditions is None else len(conditions)
    signs = index(values, dtype)
    kind = np.repeat(list(kinds), [len(part.states) for part in parts])
    fixed = kind == FIXED
    sums = [signs[fixed & (condition == one)].sum() for one in range(n_conditions)]
    order = np.argsort(-np.abs(values), axis=1, kind="stable")
    values = np.take_along_axis(values, order, 1)
    time, dt = ("step", 1.0) if dt is None else ("unit of time", dt)
    data: dict[str, Any] = {
        "state": (("point", "unit"), states.double().cpu().numpy(), "state", ""),
        "jacobian": (("point", "unit", "from_unit"), np.concatenate([p.linear.jacobians for p in parts]), "", ""),
        "eigenvalue_real": (("point", "mode"), values.real, "real part of the eigenvalue", "1"),
        "eigenvalue_imag": (("point", "mode"), values.imag, "imaginary part of the eigenvalue", "1"),
        "time_constant": (
            ("point", "mode"),
            time_constants(values, dt),
            "time constant",
            time.replace("step", "steps").replace("unit", "units"),
        ),
        "frequency": (("point", "mode"), np.angle(values) / (2 * np.pi * dt), "frequency", f"1 / {time}"),
        "kind": ("point", kind.astype(str), "kind of point", ""),
        "speed": ("point", _speeds(system, starts, states, rows), "speed", "units of the state per step"),
        "distance": ("point", np.concatenate([p.linear.distances for p in parts]), "Newton's step", ""),
        "stability": ("point", np.array(stability(values, dtype), dtype=str), "stability", ""),
        "n_unstable": ("point", n_unstable(values, dtype), "growing directions", "1"),
        "index": ("point", signs, "sign of det(I - J)", "1"),
        "n_starts": ("point", torch.cat([part.n_starts for part in parts]).cpu().numpy(), "states that led there", "1"),
        "condition": ("point", condition, "which inputs were held", ""),
        "continuum": ("point", member, "line, ring or surface", ""),
        "index_sum": ("held", np.array(sums, dtype=float), "sum of indices", "1"),
    }
    if conditions is not None:
        data["inputs"] = (("held", "input"), conditions.double().cpu().numpy(), "inputs held", "")
    return _labelled(data)


def _labelled(data: dict[str, Any]) -> xr.Dataset:
    variables = {}
    for name, (dimensions, values, long_name, units) in data.items():
        attributes = {"long_name": long_name or name, **({"units": units} if units else {})}
        variables[name] = (dimensions, values, attributes)
    n_units = data["state"][1].shape[1]
    units: npt.NDArray[np.int64] = np.arange(n_units)
    return xr.Dataset(variables, {"unit": units, "from_unit": units, "mode": units})


def _warnings(told: list[str | None], n_converged: int, n_starts: int, dtype: torch.dtype) -> tuple[str, ...]:
    found = [text for text in told if text is not None]
    if n_converged < _FEW_ARRIVED * n_starts:
        found.append(
            f"{n_starts - n_converged:,} of {n_starts:,} initial states led to no fixed point: there may be none near, "
            "or others that were missed"
        )
    if dtype == torch.float32:
        found.append("the step takes single precision only: points and eigenvalues are good to about 1e-6")
    return tuple(found)
