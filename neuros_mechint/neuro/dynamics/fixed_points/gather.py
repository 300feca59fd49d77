"""From searches to points: one for each fixed point, told from those that are only slow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.dynamics.fixed_points.continua import MOST_SLOW_MODES, SLOWER
from neuros_mechint.neuro.dynamics.fixed_points.distinct import distinct
from neuros_mechint.neuro.dynamics.fixed_points.linearisation import Linearisation, linearise, slow_modes
from neuros_mechint.neuro.dynamics.fixed_points.newton import Search, displacement, newton_search, precision
from neuros_mechint.neuro.dynamics.fixed_points.search import search_from_many
from neuros_mechint.neuro.dynamics.fixed_points.slow import follow_down, slow_manifold, slowest_points
from neuros_mechint.neuro.dynamics.systems import System

_FEWEST_TOGETHER = 96  # states of the same inputs for which what is known of some helps others
_POLISHING = 10
_MANY = 100
_SINGULAR = {torch.float64: 1e6, torch.float32: 1e3}
_ALIKE = 1e-2
_MOST_SLOW = 500
_PROBES, _MOST_PROBES = 8, 0.5
_LEAST_DAMPING = 1e-3


class Starts(NamedTuple):
    """Where a search begins."""

    states: torch.Tensor
    inputs: torch.Tensor | None
    conditions: torch.Tensor
    size: float
    """Of a typical state."""
    tolerance: float
    """Speed below which a state may be a fixed point."""
    slow_speed: float
    """Speed below which other points are slow."""

    def given(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Return the inputs of some rows."""
        return None if self.inputs is None else self.inputs[rows]


class Points(NamedTuple):
    """Points of one kind, and the rows of `Starts` that they are of."""

    states: torch.Tensor
    rows: torch.Tensor
    linear: Linearisation
    n_starts: torch.Tensor


def search(system: System, starts: Starts, progress: bool) -> Search:
    """Send all starts to fixed points.

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda x: 0.5 * x + 1, [[0.0], [3.0]])
    >>> starts = Starts(states, None, torch.zeros(2, dtype=torch.int64), 1.0, 1e-9, 0.01)
    >>> search(system, starts, progress=False).states.flatten().tolist()
    [2.0, 2.0]
    """
    conditions = starts.conditions.unique().tolist()
    if len(conditions) > 1 and len(starts.states) < _FEWEST_TOGETHER * len(conditions):
        found = newton_search(system, starts.states, starts.inputs, starts.tolerance)
        return follow_down(system, found, starts.inputs, starts.conditions, starts.slow_speed, starts.size)
    found = None
    for condition in progress_bar(conditions, description="fixed points", enabled=progress):
        rows = (starts.conditions == condition).nonzero()[:, 0]
        part = search_from_many(system, starts.states[rows], starts.given(rows), starts.tolerance)
        if found is None:
            found = Search(*(values.new_zeros(len(starts.states), *values.shape[1:]) for values in part))
        for whole, values in zip(found, part, strict=True):
            whole[rows] = values
    assert found is not None
    return follow_down(system, found, starts.inputs, starts.conditions, starts.slow_speed, starts.size)


def fixed_points(system: System, starts: Starts, found: Search) -> tuple[Points, Search]:
    """Return one point for each fixed point, and the search without what turned out not to be one.

    A point whose speed is below the tolerance, but from which Newton's steps do not settle, is none: it moves, if
    slowly. Where points are so many that they must be part of a continuum, and have no inverse, they are thinned.
    """
    zero, rows = precision(starts.states.dtype), found.converged.nonzero()[:, 0]
    points, speeds, conditions = found.states[rows], found.speeds[rows], starts.conditions[rows]
    chosen, member = distinct(points, speeds, conditions, zero.apart * starts.size)
    points, rows, speeds = points[chosen], rows[chosen], speeds[chosen]
    counts = torch.bincount(member, minlength=len(chosen))
    if len(points) > _MANY:
        kept, member = _thinned(system, points, speeds, rows, starts)
        counts = torch.zeros_like(kept).index_add_(0, member, counts)
        points, rows, speeds = points[kept], rows[kept], speeds[kept]
    found_here = Points(points, rows, linearise(system, points, starts.given(rows)), counts)
    found_here, settled = _settled(system, starts, found_here)
    if not settled.all():
        # ill-conditioned, or about to split or vanish: these need Newton's steps up to rounding
        rest = ~settled
        least = zero.rounding * starts.size
        polished = newton_search(
            system, found_here.states[rest], starts.given(found_here.rows[rest]), least, _POLISHING
        )
        states = found_here.states.clone()
        states[rest] = polished.states
        linear = linearise(system, states, starts.given(found_here.rows))
        found_here, settled = _settled(system, starts, found_here._replace(states=states, linear=linear))
    # what was apart may have come together
    points, rows, counts = found_here.states, found_here.rows, found_here.n_starts
    speeds = displacement(system, points, starts.given(rows)).norm(dim=1) if len(points) else points[:, 0]
    chosen, member = distinct(points, speeds, starts.conditions[rows], zero.apart * starts.size)
    counts = torch.zeros_like(chosen).index_add_(0, member, counts)
    settled = settled[chosen]
    found_here = taken(found_here, chosen)._replace(n_starts=counts)
    points, rows = found_here.states, found_here.rows
    found = _without(found, starts, points[~settled], rows[~settled])
    if not settled.all():
        found = follow_down(system, found, starts.inputs, starts.conditions, starts.slow_speed, starts.size)
    return subset(found_here, settled), found


def slow_points(system: System, starts: Starts, found: Search, fixed: Points) -> tuple[Points, Points, Points]:
    """Return fixed points, minima of speed, and points of slow manifolds, which may rest after all.

    Where Newton's method leads away from a line or ring of fixed points, to others, settling finds it.
    """
    rows = slowest_points(system, found, starts.inputs, starts.conditions, starts.slow_speed, starts.size)
    minima = _points(system, starts, found.states[rows], rows)
    damping = _between_slow_and_fast(system, starts, fixed, minima)
    if damping is None or not starts.slow_speed:
        return fixed, minima, _points(system, starts, starts.states[:0], rows[:0])
    states, rows = slow_manifold(system, starts.states, starts.inputs, damping)
    speeds = displacement(system, states, starts.given(rows)).norm(dim=1)
    slow, known = speeds <= starts.slow_speed, torch.cat([fixed.states, minima.states])
    if len(known):
        # of other inputs, a point in the same place is another
        other = starts.conditions[rows][:, None] != starts.conditions[torch.cat([fixed.rows, minima.rows])]
        slow &= (torch.cdist(states, known) + other * starts.size).amin(1) > _ALIKE * starts.size
    states, rows, speeds = states[slow], rows[slow], speeds[slow]
    chosen, _ = distinct(states, speeds, starts.conditions[rows], _ALIKE * starts.size)
    chosen = chosen[:_MOST_SLOW]
    points = _points(system, starts, states[chosen], rows[chosen])
    rests = speeds[chosen] <= precision(states.dtype).rounding * starts.size
    return _joined(fixed, subset(points, rests)), minima, subset(points, ~rests)


def _between_slow_and_fast(system: System, starts: Starts, *found: Points) -> float | None:
    """Return a singular value of I - J between those of slow and of fast modes; None where no mode is slow.

    Modes are slow where one or two are slower than all others by far, at any point found, or at most initial states.
    """
    sizes = []
    for points in found:
        n_slow = slow_modes(points.linear.eigenvalues, MOST_SLOW_MODES, SLOWER)
        sizes += _gaps(points.linear.jacobians[n_slow > 0], n_slow[n_slow > 0])
    if not sizes:
        rows = torch.arange(0, len(starts.states), -(-len(starts.states) // _PROBES))
        jacobians = system.jacobians(starts.states[rows], starts.given(rows)).double().cpu().numpy()
        values = np.linalg.svd(np.eye(system.n_states) - jacobians, compute_uv=False)
        n_slow = slow_modes(1 - values.astype(complex), MOST_SLOW_MODES, SLOWER)
        if (n_slow > 0).mean() >= _MOST_PROBES:
            sizes = _gaps(jacobians[n_slow > 0], n_slow[n_slow > 0])
    return float(np.median(sizes)) if sizes else None


def _gaps(jacobians: Floats, n_slow: npt.NDArray[np.int64]) -> list[float]:
    values = np.linalg.svd(np.eye(jacobians.shape[-1]) - jacobians, compute_uv=False)[:, ::-1]
    pairs = [(row[number - 1], row[number]) for row, number in zip(values, n_slow, strict=True)]
    return [max(float(np.sqrt(slow * fast)), _LEAST_DAMPING * float(fast)) for slow, fast in pairs]


def _thinned(
    system: System, points: torch.Tensor, speeds: torch.Tensor, rows: torch.Tensor, starts: Starts
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which points to keep, and which of these stands for each: of a continuum, few are as good as many."""
    unit = torch.eye(points.shape[1], dtype=points.dtype, device=points.device)
    matrices = unit - system.jacobians(points, starts.given(rows))
    inverses, failed = torch.linalg.inv_ex(matrices)
    condition = matrices.flatten(1).norm(dim=1) * inverses.flatten(1).norm(dim=1)
    singular = (failed > 0) | ~(condition < _SINGULAR[points.dtype])
    # isolated points are never alike: each gets a condition of its own
    own = torch.arange(len(points), device=points.device) + int(starts.conditions.max()) + 1
    groups = torch.where(singular, starts.conditions[rows], own)
    return distinct(points, speeds, groups, _ALIKE * starts.size)


def _points(system: System, starts: Starts, states: torch.Tensor, rows: torch.Tensor) -> Points:
    return Points(states, rows, linearise(system, states, starts.given(rows)), torch.zeros_like(rows))


def _joined(first: Points, second: Points) -> Points:
    one, two = first.linear, second.linear
    linear = Linearisation(
        np.concatenate([one.jacobians, two.jacobians]),
        np.concatenate([one.eigenvalues, two.eigenvalues]),
        np.concatenate([one.steps, two.steps]),
    )
    states, rows = torch.cat([first.states, second.states]), torch.cat([first.rows, second.rows])
    return Points(states, rows, linear, torch.cat([first.n_starts, second.n_starts]))


def subset(points: Points, keep: torch.Tensor) -> Points:
    """Return some of the points, chosen by a mask."""
    return taken(points, keep.nonzero()[:, 0])


def taken(points: Points, index: torch.Tensor) -> Points:
    """Return some of the points, chosen by their numbers, in the order of these."""
    jacobians, values, steps = points.linear
    own = index.cpu().numpy()
    linear = Linearisation(jacobians[own], values[own], steps[own])
    return Points(points.states[index], points.rows[index], linear, points.n_starts[index])


def _settled(system: System, starts: Starts, points: Points) -> tuple[Points, torch.Tensor]:
    """Return points after Newton's last step, which needs no other Jacobian, and which of them are at rest there."""
    zero, given = precision(points.states.dtype), starts.given(points.rows)
    if not len(points.states):
        return points, points.n_starts > 0
    before = displacement(system, points.states, given).norm(dim=1)
    steps = torch.from_numpy(points.linear.steps).to(points.states)
    short = steps.norm(dim=1) <= zero.settled * starts.size
    trial = torch.where(short[:, None], points.states + steps, points.states)
    after = displacement(system, trial, given).norm(dim=1)
    states = torch.where((after < before)[:, None], trial, points.states)
    return points._replace(states=states), short | (before <= zero.rounding * starts.size)


def _without(found: Search, starts: Starts, points: torch.Tensor, rows: torch.Tensor) -> Search:
    """Return the search with rows near these points as flat, no longer as converged."""
    if not len(points):
        return found
    near = torch.cdist(found.states, points).amin(1) <= precision(points.dtype).near * starts.size
    flat = found.flat | (near & found.converged)
    flat[rows] = True
    return found._replace(converged=found.converged & ~flat, flat=flat)
