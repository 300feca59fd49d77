"""What belongs to an analysis, part by part, and what each part is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.dynamics.analysis.portrait import FlowSource, PhasePortrait, phase_portrait
from neuros_mechint.neuro.dynamics.analysis.spectra import JacobianSpectra, jacobian_spectra
from neuros_mechint.neuro.dynamics.control.controllability import controllability
from neuros_mechint.neuro.dynamics.embedding.embedding import delay_embedding
from neuros_mechint.neuro.dynamics.embedding.recurrence import recurrence
from neuros_mechint.neuro.dynamics.embedding.results import DelayEmbedding
from neuros_mechint.neuro.dynamics.fixed_points.finder import FixedPointFinder
from neuros_mechint.neuro.dynamics.fixed_points.results import FixedPoints
from neuros_mechint.neuro.dynamics.koopman.operator import KoopmanOperator
from neuros_mechint.neuro.dynamics.limit_cycles.find import find_limit_cycle
from neuros_mechint.neuro.dynamics.limit_cycles.results import LimitCycle
from neuros_mechint.neuro.dynamics.lyapunov.divergence import largest_lyapunov_exponent
from neuros_mechint.neuro.dynamics.lyapunov.spectrum import lyapunov_spectrum
from neuros_mechint.neuro.dynamics.projections.rotations import RotationalDynamics
from neuros_mechint.neuro.dynamics.projections.slow_features import SlowFeatureAnalysis
from neuros_mechint.neuro.dynamics.projections.tangling import trajectory_tangling
from neuros_mechint.neuro.dynamics.systems import System, as_system
from neuros_mechint.neuro.dynamics.trajectories import Trajectories, trajectories
from neuros_mechint.neuro.geometry.dimension import intrinsic_dimension

_FEWEST_TIMES = 20
_STARTS, _LYAPUNOV_STARTS = 512, 8
_MOST_EXPONENTS = 10
_SETTLING = 5000
_MOST_LINEARISED, _CONTROL_HORIZON = 100, 20
_MOST_DELAYS, _MOST_OBSERVATIONS = 10, 500
_MOST_RECURRING = 2000
_MOST_ROTATING, _SURROGATES = 6, 99
_OTHER_STEPS = 0.01


@dataclass
class Material:
    """What the parts of an analysis work on.

    Parameters
    ----------
    step : object or None
        The model as it was given.
    system : System or None
        The same, checked.
    seen : Trajectories
    inputs : numpy.ndarray or None
        Held, ``(n_inputs,)``.
    n_steps : int
        For Lyapunov exponents.
    random : numpy.random.Generator
    dtype : torch.dtype
        In which the model computes.
    found : dict of str to Result
        By the parts so far.
    cautions : list of str
        What to know before believing any of them.
    """

    step: Any
    system: System | None
    seen: Trajectories
    inputs: Floats | None
    n_steps: int
    random: np.random.Generator
    dtype: torch.dtype = torch.float64
    found: dict[str, Result] = field(default_factory=dict)
    cautions: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What is analysed, in a few words."""
        return "recorded trajectories" if self.system is None else self.system.name

    @property
    def about_model(self) -> str:
        """The model in words."""
        if self.system is None:
            return "no model: recorded trajectories only"
        held = "no inputs" if self.inputs is None else f"inputs held at {np.round(self.inputs[:8], 4).tolist()}"
        n_states = self.system.n_states
        return f"model: {self.name}, {n_states} state{'s' if n_states > 1 else ''}, {held}"

    @property
    def about_trajectories(self) -> str:
        """The trajectories in words."""
        lengths = self.seen.lengths
        span = f"{lengths[0]}" if len(set(lengths)) == 1 else f"{min(lengths)} to {max(lengths)}"
        trials = f"{len(lengths)} trial{'s' if len(lengths) > 1 else ''}"
        n_units = self.seen.n_units
        rate = "" if self.seen.sampling_rate is None else f", {self.seen.sampling_rate:g} Hz"
        return f"trajectories: {trials} of {span} times, {n_units} unit{'s' if n_units > 1 else ''}{rate}"

    @property
    def own_dt(self) -> float | None:
        """Time of one step, where the model says it."""
        return None if self.system is None else self.system.dt

    @property
    def states(self) -> Trajectories:
        """The trajectories, of states rebuilt from the past where one unit was recorded."""
        embedded = self.found.get("delay_embedding")
        if not isinstance(embedded, DelayEmbedding):
            return self.seen
        return Trajectories(embedded.trials, self.seen.sampling_rate)

    @property
    def fixed_points(self) -> FixedPoints:
        """The fixed points, or an error where there are none."""
        found = self.found.get("fixed_points")
        if not isinstance(found, FixedPoints) or not len(found.states):
            raise InputError("no fixed points were found", fix="see the part fixed_points")
        return found

    def next_states(self, states: Floats) -> Floats:
        """Return the states one step on by the model, with its inputs held."""
        assert self.system is not None
        rows = torch.from_numpy(np.ascontiguousarray(states)).to(self.dtype)
        held = None if self.inputs is None else torch.from_numpy(self.inputs).to(self.dtype).expand(len(rows), -1)
        with torch.no_grad():
            return self.system(rows, held).double().numpy()


Part: TypeAlias = Callable[[Material], Result]


def material(step: Any, given: Any, inputs: Any, n_steps: int, random: np.random.Generator) -> Material:
    """Return what is to be analysed, checked.

    Examples
    --------
    >>> material(None, np.zeros((3, 30, 2)), None, 100, np.random.default_rng(0)).about_trajectories
    'trajectories: 3 trials of 30 times, 2 units'
    """
    seen = trajectories(given, least=_FEWEST_TIMES, why="for an analysis of dynamics")
    if step is None:
        if inputs is not None:
            raise OptionError("inputs are held by a model, and there is none", fix="DynamicsAnalyzer(model)")
        return Material(None, None, seen, None, n_steps, random)
    if inputs is not None and np.ndim(inputs) != 1:
        raise InputError("inputs are held", expected="one value for each, (n_inputs,)", got=np.shape(inputs))
    system, states = as_system(step, np.stack([trial[-1] for trial in seen.trials]), inputs, differentiable=False)
    held = None if system.inputs is None else system.inputs[0].double().numpy()
    found = Material(step, system, seen, held, n_steps, random, states.dtype)
    found.cautions += _off_the_model(found)
    return found


def _off_the_model(given: Material) -> list[str]:
    """Say so where the trajectories were not made by the model with these inputs."""
    before, after = given.seen.pairs()
    chosen = given.random.choice(len(before), min(len(before), _STARTS), replace=False)
    missed = np.linalg.norm(given.next_states(before[chosen]) - after[chosen], axis=1).mean()
    moved = np.linalg.norm(after[chosen] - before[chosen], axis=1).mean()
    rounding = 1e-9 * np.abs(before).max()
    if missed <= _OTHER_STEPS * max(moved, rounding):
        return []
    if moved <= rounding:
        return [
            "the trajectories stand still, and the model with the inputs held does not: one step of it moves their "
            f"states by {missed:.2g}; what is said of trajectories holds for constants, what is said of the model for "
            "the inputs held"
        ]
    return [
        f"the trajectories are not those of the model with the inputs held: one step of it misses the next state by "
        f"{100 * missed / moved:.0f}% of the length of a step; what is said of trajectories holds for what drove them, "
        "what is said of the model for the inputs held"
    ]


def _fixed_points(given: Material) -> FixedPoints:
    finder = FixedPointFinder(given.step, n_starts=_STARTS, seed=given.random, progress=False)
    return finder.find(given.seen.joined(), given.inputs)


def _jacobian_spectra(given: Material) -> JacobianSpectra:
    return jacobian_spectra(given.fixed_points)


def _last_states(given: Material) -> Floats:
    return np.stack([trial[-1] for trial in given.seen.trials])[:_LYAPUNOV_STARTS]


def _lyapunov_spectrum(given: Material) -> Result:
    assert given.system is not None
    starts = _last_states(given)
    n_exponents = min(given.system.n_states, _MOST_EXPONENTS)
    return lyapunov_spectrum(
        given.step, starts, given.n_steps, n_exponents, inputs=given.inputs, seed=given.random, progress=False
    )


def _limit_cycle(given: Material) -> Result:
    start = given.seen.trials[0][-1]
    found = find_limit_cycle(given.step, start, given.inputs, n_steps=_SETTLING)
    if found.kind != "none" or given.system is None or given.system.dt is not None:
        return found
    try:  # a network may turn slowly, in a number of steps that is not whole
        return find_limit_cycle(given.step, start, given.inputs, dt=1.0, n_steps=_SETTLING)
    except InputError:
        return found


def _koopman(given: Material) -> Result:
    seen = given.seen
    delays = int(np.clip(min(seen.lengths) // 10, 1, _MOST_DELAYS))
    delays = max(1, min(delays, _MOST_OBSERVATIONS // seen.n_units))
    operator = KoopmanOperator("hankel", rank="optimal", delays=delays, dt=given.own_dt)
    return operator.estimate(seen, progress=False)


def _intrinsic_dimension(given: Material) -> Result:
    return intrinsic_dimension(given.states, seed=given.random, progress=False)


def _largest_exponent(given: Material) -> Result:
    return largest_lyapunov_exponent(given.seen, seed=given.random, progress=False)


def _slow_features(given: Material) -> Result:
    return SlowFeatureAnalysis().test(given.seen, seed=given.random, progress=False)


def _tangling(given: Material) -> Result:
    return trajectory_tangling(given.seen, progress=False)


def _rotational_dynamics(given: Material) -> RotationalDynamics:
    n_components = min(_MOST_ROTATING, given.seen.n_units // 2 * 2)
    # with one trial the mean over trials is all there is
    return RotationalDynamics(n_components, subtract_mean=len(given.seen.trials) > 1)


def _rotations(given: Material) -> Result:
    return _rotational_dynamics(given).estimate(given.seen)


def _rotation_test(given: Material) -> Result:
    return _rotational_dynamics(given).test(given.seen, _SURROGATES, seed=given.random, progress=False)


def _controllability(given: Material) -> Result:
    states = given.fixed_points.states[:_MOST_LINEARISED]
    return controllability(given.step, states=states, inputs=given.inputs, horizon=_CONTROL_HORIZON)


def _delay_embedding(given: Material) -> DelayEmbedding:
    return delay_embedding(given.seen, progress=False)


def _recurrence(given: Material) -> Result:
    first = Trajectories((given.seen.trials[0][:_MOST_RECURRING],), given.seen.sampling_rate)
    return recurrence(first, seed=given.random, progress=False)


def _phase_portrait(given: Material) -> PhasePortrait:
    points, cycle = given.found.get("fixed_points"), given.found.get("limit_cycle")
    seen = given.states
    if seen.n_units < 2:
        raise InputError("one dimension is no plane", got="states of one unit")
    flow: FlowSource = given.next_states if given.system is not None else seen is given.seen
    return phase_portrait(
        seen,
        flow,
        (points.states, points.n_unstable) if isinstance(points, FixedPoints) else None,
        cycle.orbit if isinstance(cycle, LimitCycle) and cycle.found else None,
    )


_OF_STATES: dict[str, Part] = {"koopman": _koopman, "intrinsic_dimension": _intrinsic_dimension}
_OF_POPULATIONS: dict[str, Part] = {
    "tangling": _tangling,
    "rotations": _rotations,
    "rotation_test": _rotation_test,
    "slow_features": _slow_features,
}
_OF_RECORDINGS: dict[str, Part] = {"largest_exponent": _largest_exponent, "recurrence": _recurrence}
PLANS: dict[str, dict[str, Part]] = {
    "model": {
        "phase_portrait": _phase_portrait,
        "fixed_points": _fixed_points,
        "jacobian_spectra": _jacobian_spectra,
        "controllability": _controllability,
        "limit_cycle": _limit_cycle,
        "lyapunov_spectrum": _lyapunov_spectrum,
        **_OF_STATES,
        **_OF_POPULATIONS,
    },
    "recording": {"phase_portrait": _phase_portrait, **_OF_RECORDINGS, **_OF_STATES, **_OF_POPULATIONS},
    # its past in the place of other units turns and overlaps by itself: that is no rotation of a population
    "one unit": {
        "phase_portrait": _phase_portrait,
        "delay_embedding": _delay_embedding,
        **_OF_RECORDINGS,
        **_OF_STATES,
    },
}
"""Parts in the order in which they are shown; the portrait, which shows what the others find, is done last."""


def plan_for(given: Material) -> dict[str, Part]:
    """Return the parts that can be done with what is given, by name.

    Examples
    --------
    >>> list(plan_for(material(None, np.zeros(30), None, 100, np.random.default_rng(0))))[:2]
    ['phase_portrait', 'delay_embedding']
    """
    if given.system is not None:
        return PLANS["model"]
    return PLANS["one unit" if given.seen.n_units == 1 else "recording"]
