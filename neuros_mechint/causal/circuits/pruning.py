"""Remove edges or nodes one after the other, as long as the metric stays where it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuros_mechint.causal.circuits.edges import Kept
from neuros_mechint.causal.circuits.problem import Problem
from neuros_mechint.causal.circuits.running import EdgeCircuits

_FIRST_GUESS, _MOST_GUESSED = 8, 128


def prune(problem: Problem, limit: float) -> tuple[Kept, npt.NDArray[np.float64]]:
    """Visit edges from the output back to the input; remove each that changes the mean metric by less than ``limit``.

    Each is judged in the circuit that is left by then. Several removals in a row are measured at once, as if none of
    them mattered; what comes after one that does is measured again.

    Parameters
    ----------
    problem : Problem
    limit : float
        In units of the metric.

    Returns
    -------
    kept : numpy.ndarray of bool, shape (n_edges,)
    change : numpy.ndarray of shape (n_edges,)
        What removing each has changed; 0 for edges that led nowhere when their turn came.
    """
    kept = np.ones(len(problem.runner.names), dtype=bool)
    change = np.zeros(len(kept))
    now, waiting, guess = float(problem.full.mean()), _order(problem), _FIRST_GUESS
    while waiting:
        kept = problem.connected(kept)
        waiting = [edge for edge in waiting if kept[edge]]
        batch = waiting[:guess]
        values = problem.runner.values(_one_after_the_other(kept, batch), "pruning").mean(1).tolist() if batch else []
        guess = min(2 * guess, _MOST_GUESSED)
        for edge, value in zip(batch, values, strict=True):
            waiting.pop(0)
            change[edge] = now - value
            if abs(change[edge]) >= limit:
                guess = _FIRST_GUESS
                break
            kept[edge], now = False, value
    return kept, change


def _one_after_the_other(kept: Kept, edges: list[int]) -> list[Kept]:
    circuits = []
    for edge in edges:
        kept = kept.copy()
        kept[edge] = False
        circuits.append(kept)
    return circuits


def _order(problem: Problem) -> list[int]:
    """Return all edges by receiver, the output first, and for each receiver the latest sender first."""
    if isinstance(problem.runner, EdgeCircuits):
        edges = problem.runner.edges
        return [edge for receiver in reversed(edges.receivers) for edge in reversed(edges.into[receiver])]
    return list(range(len(problem.runner.names)))[::-1]
