"""In which one or two coordinates a landscape of trajectories is seen."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import real_array
from neuros_mechint.neuro.information.energy.density.densities import ON_A_LINE


class Plane(NamedTuple):
    """A line or a plane among all states.

    Parameters
    ----------
    centre : numpy.ndarray of shape (n_units,)
    directions : numpy.ndarray of shape (n_units, n_dimensions)
    words : str
        What its coordinates are.
    """

    centre: Floats
    directions: Floats
    words: str

    def coordinates(self, states: Floats) -> Floats:
        """Return where states ``(n_samples, n_units)`` lie in it."""
        return (states - self.centre) @ self.directions


def plane_of(states: Floats, projection: Any = None) -> Plane:
    """Return the given projection, or all of two units at most, or else the first two principal components.

    Parameters
    ----------
    states : numpy.ndarray of shape (n_samples, n_units)
    projection : array_like of shape (n_units, 1) or (n_units, 2), optional

    Examples
    --------
    >>> turning = np.c_[np.cos(np.arange(9)), np.sin(np.arange(9)), np.zeros(9)]
    >>> plane_of(turning).words, plane_of(turning[:, :2]).words
    ('first 2 principal components of 3 units, 100% of their variance', 'coordinates as they came')
    """
    n_units = states.shape[1]
    if projection is not None:
        directions = real_array(projection, "projection")
        if directions.ndim != 2 or directions.shape[0] != n_units or directions.shape[1] not in (1, 2):
            raise InputError(
                "projection does not fit",
                expected=f"({n_units}, 1) or ({n_units}, 2)",
                got=f"shape {directions.shape}",
            )
        return Plane(np.zeros(n_units), directions, f"{n_units} units on a given projection")
    if n_units <= 2:
        return Plane(np.zeros(n_units), np.eye(n_units), "coordinates as they came")
    centre = states.mean(0)
    values, vectors = np.linalg.eigh(np.cov(states.T))
    if values[-2] < ON_A_LINE * values[-1]:
        return Plane(centre, vectors[:, -1:], f"first principal component of {n_units} units, all of their variance")
    share = values[-2:].sum() / values.sum()
    words = f"first 2 principal components of {n_units} units, {share:.0%} of their variance"
    return Plane(centre, vectors[:, :-3:-1], words)
