"""Steps whose fixed points have no number: each state is one, all lead to one at once, or they fill a space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Complexes
from neuros_mechint.neuro.dynamics.fixed_points.gather import Starts
from neuros_mechint.neuro.dynamics.fixed_points.newton import displacement, precision
from neuros_mechint.neuro.dynamics.systems import System

_PROBES = 8
_FEWEST_POINTS = 8


def told_of_step(system: System, starts: Starts) -> str | None:
    """Return in words that a step moves no state, or does not depend on the state; None where neither is so.

    Both are told from all states that a search begins with, and from the Jacobians at some of them: states that rest on
    a line are no sign that others do. Of a single state nothing is told.

    Parameters
    ----------
    system : System
    starts : Starts

    Examples
    --------
    >>> from neuros_mechint.neuro.dynamics.systems import as_system
    >>> system, states = as_system(lambda x: 1.0 * x, [[0.0], [3.0]])
    >>> starts = Starts(states, None, torch.zeros(2, dtype=torch.int64), 1.0, 1e-9, 0.01)
    >>> print(told_of_step(system, starts))
    every point is fixed: the step returns all 2 states that were tried unchanged, so that the points found are only
    where the search began, and their number says nothing
    """
    states, zero = starts.states, precision(starts.states.dtype)
    nothing = zero.rounding * starts.size
    if min(_spreads(states, starts.conditions)) <= nothing:
        return None
    rows = torch.arange(0, len(states), -(-len(states) // _PROBES), device=states.device)
    jacobians = system.jacobians(states[rows], starts.given(rows))
    unit = torch.eye(system.n_states).to(jacobians)
    moved = displacement(system, states, starts.inputs)
    if (jacobians - unit).abs().max() <= zero.marginal and moved.norm(dim=1).max() <= nothing:
        return (
            f"every point is fixed: the step returns all {len(states):,} states that were tried unchanged, so that the "
            "points found are only where the search began, and their number says nothing"
        )
    # states + moved is the next state, up to rounding
    if jacobians.abs().max() <= zero.marginal and max(_spreads(states + moved, starts.conditions)) <= nothing:
        return (
            f"the step does not depend on the state: it leads from all {len(states):,} states that were tried to the "
            "same one at once"
        )
    return None


def told_of_points(eigenvalues: Complexes, isolated: npt.NDArray[np.bool_], dtype: torch.dtype) -> str | None:
    """Return in words that fixed points fill a space of more dimensions than a line or surface; None where they do not.

    Parameters
    ----------
    eigenvalues : numpy.ndarray of shape (n_points, n_states)
    isolated : numpy.ndarray of bool, of shape (n_points,)
        Which points lie on no line, ring or surface that was told.
    dtype : torch.dtype
        In which they were found.

    Examples
    --------
    >>> values = np.tile([1.0, 1.0, 1.0, 0.5], (20, 1)).astype(complex)
    >>> print(told_of_points(values, np.ones(20, dtype=bool), torch.float64))
    20 fixed points are a sample of a continuum: at each, 3 or more of 4 directions lead to others (their eigenvalue is
    1), so that the number of points says nothing
    """
    still = (np.abs(1 - eigenvalues) <= precision(dtype).marginal).sum(1)
    found = still[isolated & (still > 0)]
    if len(found) < _FEWEST_POINTS:
        return None
    return (
        f"{len(found):,} fixed points are a sample of a continuum: at each, {found.min()} or more of "
        f"{eigenvalues.shape[1]} directions lead to others (their eigenvalue is 1), so that the number of points says "
        "nothing"
    )


def _spreads(states: torch.Tensor, conditions: torch.Tensor) -> list[float]:
    """Return how far states of the same inputs are apart at most, along one unit, for each of the inputs."""
    own = [states[conditions == one] for one in conditions.unique()]
    return [float((group.amax(0) - group.amin(0)).max()) for group in own]
