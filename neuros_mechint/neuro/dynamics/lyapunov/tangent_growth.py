"""How much tangents grow while a system runs."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.dynamics.lyapunov.orthonormal import (
    MOST_BY_GRAM_SCHMIDT,
    GramSchmidt,
    gram_schmidt,
    householder,
    too_close,
)
from neuros_mechint.neuro.dynamics.lyapunov.tangent_push import AGREES, Push, agree, choose_push, in_short
from neuros_mechint.neuro.dynamics.simulation import left_all_bounds
from neuros_mechint.neuro.dynamics.systems import System

AdvanceFunction = Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""``advance(states, tangents[, inputs])``: next states, orthonormal tangents, and their stretch."""
OrthonormalFunction = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

_STEPS_AT_ONCE = 100
# Tangents of so many numbers (8 MB) are moved at once, so that memory stays bounded.
_NUMBERS_AT_ONCE = 2**20
_FEWEST_ROWS = 16
_TIMED_CALLS = 3
_REPEATS = 3
_AT_REST = 1e-9


@dataclass
class Growth:
    """What was measured of the growth of tangents.

    Parameters
    ----------
    log_stretch : numpy.ndarray of shape (block, trajectory, exponent)
        Sum of the logarithms over the steps of each block.
    block_steps : numpy.ndarray of shape (block,)
    n_singular : numpy.ndarray of shape (trajectory, exponent)
        In how many steps a tangent shrank to less than rounding; the logarithm of rounding is in the sums.
    size : numpy.ndarray of shape (block, trajectory)
        Norm of the state at the end of each block.
    moves : numpy.ndarray of bool, shape (trajectory,)
        Whether the state changed from one step to the next.
    """

    log_stretch: Floats
    block_steps: npt.NDArray[np.int64]
    n_singular: npt.NDArray[np.int64]
    size: Floats
    moves: npt.NDArray[np.bool_]


@dataclass
class TangentRun:
    """A system on its way, with tangents that are kept orthonormal at every step.

    Parameters
    ----------
    system : System
    states : torch.Tensor of shape (batch, n_states)
    tangents : torch.Tensor of shape (tangent, batch, n_states)
    inputs : torch.Tensor of shape (batch, step, n_inputs), optional
        One for each step; without them, those that the system holds.
    """

    system: System
    states: torch.Tensor
    tangents: torch.Tensor
    inputs: torch.Tensor | None = None
    compiled: bool = False
    not_compiled: str | None = None
    steps_done: int = 0
    push: Push = field(init=False)
    _fast: AdvanceFunction | None = field(init=False, default=None)
    _chunks_repeated: int = 0

    def __post_init__(self) -> None:
        self.push = choose_push(self.system, self.states, self.tangents, *self._given(0))
        few = len(self.tangents) <= MOST_BY_GRAM_SCHMIDT
        self._fast = _step(self.push, GramSchmidt(self.tangents)) if few else None
        if self.compiled:
            self._compile()

    def discard(self, n_steps: int, progress: bool = True) -> None:
        """Run on without measuring."""
        starts = range(0, n_steps, _STEPS_AT_ONCE)
        for start in progress_bar(starts, description="warm-up of tangents", enabled=progress):
            self._advance(min(_STEPS_AT_ONCE, n_steps - start))

    def measure(self, n_steps: int, n_blocks: int, progress: bool = True) -> Growth:
        """Run on, and return what was measured, in blocks of equal length."""
        ends = np.linspace(0, n_steps, n_blocks + 1).round().astype(np.int64)
        sums, sizes = [], []
        singular = np.zeros((len(self.states), len(self.tangents)), dtype=np.int64)
        moves = np.zeros(len(self.states), dtype=bool)
        for length in progress_bar(np.diff(ends), description="Lyapunov exponents", enabled=progress):
            total = np.zeros(singular.shape)
            for start in range(0, length, _STEPS_AT_ONCE):
                stretch, moved = self._advance(min(_STEPS_AT_ONCE, length - start))
                logs, hidden = _logarithms(stretch)
                total += logs
                singular += hidden
                moves |= moved
            sums.append(total)
            sizes.append(self.states.norm(dim=1).double().cpu().numpy())
        return Growth(np.stack(sums), np.diff(ends), singular, np.stack(sizes), moves)

    def _given(self, index: int) -> tuple[torch.Tensor, ...]:
        held = self.system.inputs if self.inputs is None else self.inputs[:, index]
        return () if held is None else (held,)

    def _compile(self) -> None:
        if self.push.route != "flattened":
            self.compiled, self.not_compiled = False, f"only a flattened step is compiled; {self.push.reason}"
            return
        plain = _step(self.push, gram_schmidt if self._fast else householder)
        try:
            compiled = _compiled_step(plain, self._fast or plain, self.states, self.tangents, *self._given(0))
            if compiled is None:
                self.compiled, self.not_compiled = False, "the compiled step is not faster for tangents of this size"
            else:
                self._fast = compiled
        except Exception as error:  # compilers raise errors of many classes; the step as it is needs none
            self.compiled, self.not_compiled = False, in_short(error)

    def _advance(self, n_steps: int) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
        """Move on; return the stretch ``(step, batch, tangent)``, and which states moved in the last step."""
        before = self.states, self.tangents
        careful = self._fast is None or self._chunks_repeated >= _REPEATS
        states, tangents, previous, stretch = self._run(*before, n_steps, careful)
        if not careful and too_close(stretch):
            self._chunks_repeated += 1
            states, tangents, previous, stretch = self._run(*before, n_steps, careful=True)
        self._check(states, stretch, before[0], n_steps)
        self._check_same_step(previous, states, n_steps)
        self.states, self.tangents = states, tangents
        self.steps_done += n_steps
        moved = (states - previous).norm(dim=1) > _AT_REST * states.norm(dim=1).clamp_min(1)
        return stretch, moved.cpu().numpy()

    def _run(
        self, states: torch.Tensor, tangents: torch.Tensor, n_steps: int, careful: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        advance = _step(self.push, householder) if careful or self._fast is None else self._fast
        # what a step does by itself may need gradients, which nothing in a flattened one does
        flat = self.push.route == "flattened"
        previous, lengths = states, []
        with torch.inference_mode(flat), torch.no_grad():
            states, tangents = states.clone(), tangents.clone()
            for index in range(self.steps_done, self.steps_done + n_steps):
                previous = states
                states, tangents, stretch = advance(states, tangents, *self._given(index))
                lengths.append(stretch)
            every = torch.stack(lengths)
        return states.clone(), tangents.clone(), previous.clone(), every.clone()

    def _check(self, states: torch.Tensor, stretch: torch.Tensor, start: torch.Tensor, n_steps: int) -> None:
        if not torch.isfinite(states).all():
            step, n_lost = self._first_not_finite(start, n_steps)
            raise left_all_bounds(self.system, n_lost, len(states), step)
        if not torch.isfinite(stretch).all():
            raise InputError(
                f"the derivative of {self.system.name} is not finite",
                got=f"infinite or NaN between steps {self.steps_done} and {self.steps_done + n_steps}, counted with "
                "the warm-up, where the states themselves are finite",
                fix="keep square roots, logarithms and norms in the step away from 0",
            )

    def _first_not_finite(self, states: torch.Tensor, n_steps: int) -> tuple[int, int]:
        """Return in which step, counted with the warm-up, and in how many trajectories."""
        finite = torch.isfinite(states).all(1)
        index = self.steps_done
        with torch.no_grad():
            for index in range(self.steps_done, self.steps_done + n_steps):
                states = self.system(states, *self._given(index))
                finite = torch.isfinite(states).all(1)
                if not finite.all():
                    break
        return index, int((~finite).sum())

    def _check_same_step(self, previous: torch.Tensor, states: torch.Tensor, n_steps: int) -> None:
        if self.push.route != "flattened":
            return
        with torch.no_grad():
            expected = self.system(previous, *self._given(self.steps_done + n_steps - 1))
        difference = (expected - states).abs().max()
        if not difference <= AGREES[states.dtype] * states.abs().max().clamp_min(1):
            raise InputError(
                "the step is not the same function at every call",
                expected="next states that depend on states and inputs only",
                got=f"differences up to {difference:.3g} in step {self.steps_done + n_steps}",
                fix="give what changes in time, such as a drive, as inputs (batch, step, n_inputs)",
            )


def tangent_runs(
    system: System,
    states: torch.Tensor,
    tangents: torch.Tensor,
    inputs: torch.Tensor | None = None,
    compiled: bool = False,
) -> list[TangentRun]:
    """Return runs of so many trajectories each that memory stays bounded; for the arguments see `TangentRun`.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda state: 2 * state, [[1.0], [3.0]])
    >>> run = tangent_runs(system, states, torch.ones(1, 2, 1, dtype=torch.float64))[0]
    >>> run.measure(10, 5).log_stretch.sum(0).round(2).tolist()
    [[6.93], [6.93]]
    """
    at_once = max(_FEWEST_ROWS, _NUMBERS_AT_ONCE // tangents[:, 0].numel())
    runs: list[TangentRun] = []
    for rows in torch.arange(len(states)).tensor_split(-(-len(states) // at_once)):
        some = slice(int(rows[0]), int(rows[-1]) + 1)
        part = replace(system, inputs=system.rows(some))
        given = part, states[some], tangents[:, some].contiguous(), None if inputs is None else inputs[some]
        alike = next((run for run in runs if len(run.states) == len(rows)), None)
        if alike is None:
            runs.append(TangentRun(*given, compiled))
        else:
            run = copy.copy(alike)  # what was traced and compiled holds for these shapes
            run.system, run.states, run.tangents, run.inputs = given
            runs.append(run)
    return runs


def joined(growths: Sequence[Growth]) -> Growth:
    """Return the growth of all trajectories as one.

    Examples
    --------
    >>> import numpy as np
    >>> one = Growth(np.zeros((5, 2, 3)), np.ones(5, int), np.zeros((2, 3), int), np.zeros((5, 2)), np.ones(2, bool))
    >>> joined([one, one]).log_stretch.shape
    (5, 4, 3)
    """
    return Growth(
        np.concatenate([growth.log_stretch for growth in growths], axis=1),
        growths[0].block_steps,
        np.concatenate([growth.n_singular for growth in growths]),
        np.concatenate([growth.size for growth in growths], axis=1),
        np.concatenate([growth.moves for growth in growths]),
    )


def _step(push: Push, orthonormal: OrthonormalFunction) -> AdvanceFunction:
    def advance(
        states: torch.Tensor, tangents: torch.Tensor, *inputs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        after, moved = push.function(states, tangents, *inputs)
        return (after, *orthonormal(moved))

    return advance


def _compiled_step(
    advance: AdvanceFunction,
    eager: AdvanceFunction,
    states: torch.Tensor,
    tangents: torch.Tensor,
    *inputs: torch.Tensor,
) -> AdvanceFunction | None:
    """Return the step compiled for these shapes, forward only, or None where it is not faster than the other.

    A backward pass is never compiled: a second one through such a function can be wrong without an error.
    """
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler about itself
        compiled = torch.compile(advance, fullgraph=True, dynamic=False)
        examples = (states.clone(), tangents.clone(), *inputs)
        for found, expected in zip(compiled(*examples), eager(*examples), strict=True):
            if not agree(found, expected):
                raise RuntimeError("the compiled step gives another result")
        return compiled if _seconds(compiled, examples) < _seconds(eager, examples) else None


def _seconds(advance: AdvanceFunction, examples: tuple[torch.Tensor, ...]) -> float:
    times = []
    for _ in range(_TIMED_CALLS):
        begin = time.perf_counter()
        advance(*examples)
        times.append(time.perf_counter() - begin)
    return min(times)


def _logarithms(stretch: torch.Tensor) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return sums of the logarithms over steps ``(batch, tangent)``, and in how many steps there was rounding only."""
    rounding = torch.finfo(stretch.dtype).eps * stretch.amax(-1, keepdim=True).clamp_min(1)
    hidden = stretch <= rounding
    logs = torch.maximum(stretch, rounding).double().log().sum(0)
    return logs.cpu().numpy(), hidden.sum(0).cpu().numpy()
