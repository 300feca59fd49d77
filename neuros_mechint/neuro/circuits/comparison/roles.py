"""Roles: what each node of a circuit takes in and gives out."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats

ROLES = (
    "excitation in", "inhibition in", "excitation out", "inhibition out",
    "to itself", "in over two steps", "out over two steps", "in return",
)  # fmt: skip


def roles(weights: Floats) -> Floats:
    """Return numbers that say which part each node plays, whatever it is called.

    Parameters
    ----------
    weights : numpy.ndarray of shape (n_nodes, n_nodes)
        Row: target, column: source.

    Returns
    -------
    numpy.ndarray of shape (n_nodes, 8)
        In the order of ``ROLES``, each with unit variance over nodes; zero where all nodes are alike.

    Examples
    --------
    >>> found = roles(np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    >>> found[:, ROLES.index("excitation out")].round(2).tolist()
    [1.41, -0.71, -0.71]
    """
    own = np.diag(weights)
    between = weights - np.diag(own)
    excites, inhibits = between.clip(0), -between.clip(None, 0)
    twice = between @ between
    found = np.column_stack(
        [
            excites.sum(1), inhibits.sum(1), excites.sum(0), inhibits.sum(0),
            own, twice.sum(1), twice.sum(0), np.diag(twice),
        ]
    )  # fmt: skip
    found = found - found.mean(0)
    spread = found.std(0)
    negligible = spread <= 1e-12 * (np.abs(weights).max() or 1.0)
    return np.where(negligible, 0.0, found / np.where(negligible, 1.0, spread))
