"""The landscape over binary states: minima under single flips, basins, and barriers over the hypercube."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.energy.binary.ising import IsingFit
from neuros_mechint.neuro.information.energy.binary.walsh import pairwise_energies, state_numbers, states_of
from neuros_mechint.neuro.information.energy.valleys.basins import (
    Basins,
    Merger,
    find_basins,
    hypercube,
    keep_certain,
    lowest_ways,
)

_CERTAIN = 2.0
"""Standard errors that a barrier must exceed. The fit to independent units has barriers of .5 (median) and 1 (of 95 in
100 fits, 4 to 15 units): a minimum lies below all of its flips at once."""
_MOST_MINIMA = 30
_MOST_DIFFERENT = 10


class Valleys(NamedTuple):
    """Minima of an energy over binary states."""

    states: Floats
    """-1 and 1, ``(n_minima, n_units)``, the lowest first."""
    energies: Floats
    passes: Floats
    """Energy of the highest state on the lowest way between each two, ``(n_minima, n_minima)``."""
    errors: Floats
    """Standard errors of the barriers from each (row) to each other one; NaN where they are not known."""
    of_sample: npt.NDArray[np.intp]
    """Which one each sample leads down to, -1 for none of these."""
    shares: Floats
    """What the model says of how often states are in each basin; NaN where states cannot be counted out."""


def counted_valleys(fit: IsingFit, spins: Floats, inflated: float) -> Valleys:
    """Return the valleys of a fit with all states counted out, without those that chance would give.

    Parameters
    ----------
    fit : IsingFit
        By maximum likelihood.
    spins : numpy.ndarray of shape (n_samples, n_units)
    inflated : float
        By which the variance of means exceeds that of independent samples.

    Examples
    --------
    >>> from neuros_mechint.neuro.information.energy.binary.ising import exact_fit
    >>> spins = np.repeat([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], [300, 301, 100, 100], axis=0)
    >>> found = counted_valleys(exact_fit(spins), spins, 1.0)
    >>> found.states.tolist(), found.shares.round(2).tolist()
    ([[-1.0, -1.0], [1.0, 1.0]], [0.63, 0.37])
    """
    n_units = len(fit.fields)
    energy = pairwise_energies(fit.fields, fit.couplings)
    first, second = np.triu_indices(n_units, 1)

    def error(start: int, end: int) -> float:
        products = [
            np.concatenate([one, one[first] * one[second]]) for one in states_of(np.array([start, end]), n_units)
        ]
        change = products[1] - products[0]
        return float(np.sqrt(inflated * (change @ fit.covariance @ change)))

    def certain(basins: Basins, merger: Merger) -> bool:
        minimum = int(basins.minima[merger.dies])
        barrier = float(energy[merger.at] - energy[minimum])
        return barrier > 0 and barrier > _CERTAIN * error(minimum, merger.at)

    basins = keep_certain(energy, find_basins(energy, hypercube(n_units)), certain)
    ways, chance = lowest_ways(energy, basins), np.exp(energy.min() - energy)
    errors = np.array(
        [
            [0.0 if at < 0 else error(int(start), int(at)) for at in row]
            for start, row in zip(basins.minima, ways, strict=True)
        ]
    )
    passes = np.where(ways >= 0, energy[ways], energy[basins.minima][:, None])
    return Valleys(
        states_of(basins.minima, n_units),
        energy[basins.minima],
        passes,
        errors,
        basins.of_node[state_numbers(spins)],
        np.bincount(basins.of_node, chance) / chance.sum(),
    )


def descended_valleys(fit: IsingFit, spins: Floats) -> Valleys:
    """Return the valleys that observed states lead down to, the 30 most visited, of more units than can be counted out.

    Barriers are upper bounds: of the lowest way that flips only units in which two minima differ, if these are no more
    than 10, else of the better of two greedy ways; and over other minima.

    Parameters
    ----------
    fit : IsingFit
    spins : numpy.ndarray of shape (n_samples, n_units)

    Examples
    --------
    >>> from neuros_mechint.neuro.information.energy.binary.ising import exact_fit
    >>> spins = np.repeat([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], [300, 301, 100, 100], axis=0)
    >>> found = descended_valleys(exact_fit(spins), spins)
    >>> found.states.tolist(), bool(np.isclose(*found.passes[[0, 1], [1, 0]]))
    ([[-1.0, -1.0], [1.0, 1.0]], True)
    """
    words, word_of = np.unique(spins, axis=0, return_inverse=True)
    minima, minimum_of = np.unique(descend(words, fit), axis=0, return_inverse=True)
    of_sample = minimum_of.ravel()[word_of.ravel()]
    visits = np.bincount(of_sample, minlength=len(minima))
    energies = energies_of(minima, fit)
    kept = np.argsort(-visits, kind="stable")[:_MOST_MINIMA]
    kept = kept[np.argsort(energies[kept], kind="stable")]
    number = np.full(len(minima), -1, dtype=np.intp)
    number[kept] = np.arange(len(kept))
    minima, energies = minima[kept], energies[kept]
    passes = np.diag(energies)
    for a in range(len(minima)):
        for b in range(a):
            passes[a, b] = passes[b, a] = _way(minima[a], minima[b], fit)
    for over in range(len(minima)):
        passes = np.minimum(passes, np.maximum(passes[:, [over]], passes[[over]]))
    unknown = np.full(passes.shape, np.nan)
    return Valleys(minima, energies, passes, unknown, number[of_sample], unknown[0])


def energies_of(states: Floats, fit: IsingFit) -> Floats:
    """Return the energies of states of -1 and 1, in kT.

    Examples
    --------
    >>> fit = IsingFit(np.array([1.0, 0.0]), np.array([[0.0, 0.5], [0.5, 0.0]]), *np.zeros((2, 2)), None, 0)
    >>> energies_of(np.array([[1.0, 1.0], [-1.0, 1.0]]), fit).tolist()
    [-1.5, 1.5]
    """
    return -(states @ fit.fields) - 0.5 * ((states @ fit.couplings) * states).sum(1)


def descend(states: Floats, fit: IsingFit) -> Floats:
    """Return the minima that states lead to, always by the flip that lowers the energy most.

    Examples
    --------
    >>> fit = IsingFit(np.array([1.0, 0.0]), np.array([[0.0, 0.5], [0.5, 0.0]]), *np.zeros((2, 2)), None, 0)
    >>> descend(np.array([[-1.0, -1.0]]), fit).tolist()
    [[1.0, 1.0]]
    """
    states = states.copy()
    moving = np.arange(len(states))
    while len(moving):
        rise = 2 * states[moving] * (fit.fields + states[moving] @ fit.couplings)
        best = rise.argmin(1)
        falls = rise[np.arange(len(moving)), best] < 0
        moving, best = moving[falls], best[falls]
        states[moving, best] *= -1
    return states


def _way(start: Floats, end: Floats, fit: IsingFit) -> float:
    """Return the energy of the highest state on a low way from one state to another."""
    differ = np.flatnonzero(start != end)
    if len(differ) > _MOST_DIFFERENT:
        return min(_greedy(start, end, differ, fit), _greedy(end, start, differ, fit))
    # all states between the two: where a unit of these is +1 of the cube, it is as at the start
    fields = (fit.fields + fit.couplings @ np.where(start == end, start, 0))[differ] * start[differ]
    couplings = fit.couplings[np.ix_(differ, differ)] * np.outer(start[differ], start[differ])
    energy = pairwise_energies(fields, couplings)
    basins = find_basins(energy, hypercube(len(differ)))
    first, last = (int(basins.of_node[state]) for state in (0, len(energy) - 1))
    ways = lowest_ways(energy, basins)
    top = max(energy[0], energy[-1], energy[ways[first, last]] if first != last else -np.inf)
    return float(top - energy[0] + energies_of(start[None], fit)[0])


def _greedy(start: Floats, end: Floats, differ: npt.NDArray[np.intp], fit: IsingFit) -> float:
    state, left, energy = start.copy(), list(differ), float(energies_of(start[None], fit)[0])
    highest = energy
    while left:
        rise = 2 * state[left] * (fit.fields[left] + fit.couplings[left] @ state)
        best = int(rise.argmin())
        energy += float(rise[best])
        state[left[best]] *= -1
        del left[best]
        highest = max(highest, energy)
    return highest


def binary_data(fit: IsingFit, valleys: Valleys, inflated: float, units: Any) -> xr.Dataset:
    """Return fields, couplings and valleys as labelled data.

    Parameters
    ----------
    fit : IsingFit
    valleys : Valleys
    inflated : float
    units : sequence
        Labels.
    """
    visits = np.bincount(valleys.of_sample[valleys.of_sample >= 0], minlength=len(valleys.states))
    pair, between = ("unit", "to_unit"), ("minimum", "to")
    data: dict[str, Any] = {
        "couplings": (pair, fit.couplings, "coupling", "kT"),
        "couplings_error": (pair, np.sqrt(inflated) * fit.couplings_error, "standard error of the coupling", "kT"),
        "fields": ("unit", fit.fields, "field", "kT"),
        "fields_error": ("unit", np.sqrt(inflated) * fit.fields_error, "standard error of the field", "kT"),
        "state": (("minimum", "unit"), valleys.states, "state at the minimum", ""),
        "depth": ("minimum", valleys.energies - valleys.energies[0], "energy of the minimum", "kT"),
        "barrier": (between, valleys.passes - valleys.energies[:, None], "barrier on the lowest way", "kT"),
        "barrier_error": (between, valleys.errors, "standard error of the barrier", "kT"),
        "occupancy": ("minimum", visits / len(valleys.of_sample), "share of the samples", "1"),
        "model_occupancy": ("minimum", valleys.shares, "share by the model", "1"),
    }
    return xr.Dataset(
        {
            name: (dimensions, values, {"long_name": long_name, **({"units": unit} if unit else {})})
            for name, (dimensions, values, long_name, unit) in data.items()
        },
        {"unit": list(units), "to_unit": list(units)},
    )
