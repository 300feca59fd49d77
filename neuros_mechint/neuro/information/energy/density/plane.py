"""In which one or two coordinates a landscape of trajectories is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats, with_one_sign
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
    names : tuple of str
        Of each coordinate, for an axis.
    """

    centre: Floats
    directions: Floats
    words: str
    names: tuple[str, ...]

    def coordinates(self, states: Floats) -> Floats:
        """Return where states ``(n_samples, n_units)`` lie in it."""
        return (states - self.centre) @ self.directions


def plane_of(states: Floats, projection: Any = None, units: Sequence[Any] | None = None) -> Plane:
    """Return the given projection, or all of two units at most, or else the first two principal components.

    Parameters
    ----------
    states : numpy.ndarray of shape (n_samples, n_units)
    projection : array_like of shape (n_units, 1) or (n_units, 2), optional
    units : sequence, optional
        Labels of the units.

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
        names = tuple(f"given direction {index + 1}" for index in range(directions.shape[1]))
        return Plane(np.zeros(n_units), directions, f"{n_units} units on a given projection", names)
    if n_units <= 2:
        # a single unit without a label has no number that anybody gave it
        labels = units or (range(n_units) if n_units > 1 else ())
        names = tuple(f"unit {label}" for label in labels) or ("state",)
        return Plane(np.zeros(n_units), np.eye(n_units), "coordinates as they came", names)
    centre = states.mean(0)
    values, vectors = np.linalg.eigh(np.cov(states.T))
    vectors = with_one_sign(vectors.T).T
    if values[-2] < ON_A_LINE * values[-1]:
        words = f"first principal component of {n_units} units, all of their variance"
        return Plane(centre, vectors[:, -1:], words, ("principal component 1 (all of the variance)",))
    shares = values[:-3:-1] / values.sum()
    words = f"first 2 principal components of {n_units} units, {shares.sum():.0%} of their variance"
    names = tuple(f"principal component {one} ({share:.0%} of the variance)" for one, share in enumerate(shares, 1))
    return Plane(centre, vectors[:, :-3:-1], words, names)
