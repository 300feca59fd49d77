"""The fit of a latent circuit: the best of several descents, then the embedding in all units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.circuits.latent.dynamics import simulate
from neuros_mechint.neuro.circuits.latent.least_squares import Place, descend
from neuros_mechint.neuro.circuits.latent.matching import correlation, order_of_nodes
from neuros_mechint.neuro.circuits.latent.observations import Observations
from neuros_mechint.neuro.circuits.latent.parameters import Booleans, Bounds, Circuit, bounds
from neuros_mechint.neuro.circuits.latent.residuals import Targets
from neuros_mechint.neuro.circuits.latent.rotations import nearest_orthogonal
from neuros_mechint.neuro.circuits.latent.scaling import Scaled, scaled
from neuros_mechint.neuro.circuits.latent.standard_errors import standard_errors
from neuros_mechint.neuro.circuits.latent.starts import nudged, regressed_start

_ALPHAS = (0.05, 0.15, 0.4, 0.9)
_TEACHER_STEPS, _ROLLOUT_STEPS, _LONE_ROLLOUT_STEPS = 12, 30, 40
_REFINEMENTS, _REFINING_STEPS, _REFINING_DAMPING = 2, 5, 1e-4
_SAME_COST, _SAME_WIRING = 1e-4, 0.99
_PERFECT = 1e-8  # of the sum of squares: nothing is left that another start could explain
_NOISY = 1e-4  # share of the activity that lies in no direction of the circuit


class Fitted(NamedTuple):
    """A latent circuit as it was found.

    Parameters
    ----------
    circuit : Circuit
        In the units of what was recorded.
    embedding : numpy.ndarray of shape (n_units, n_nodes)
    standard_errors : numpy.ndarray of shape (n_nodes, n_nodes)
        Of the connectivity.
    costs : tuple of float
        Of each start, as shares of the sum of squares.
    agreed : bool
        Whether two starts led to the same circuit, or one to a perfect one.
    averaged : bool
        Whether it was fitted to means of conditions.
    driven, heard : numpy.ndarray of bool
        Which inputs and outputs are not silent.
    """

    circuit: Circuit
    embedding: Floats
    standard_errors: Floats
    costs: tuple[float, ...]
    agreed: bool
    averaged: bool
    driven: Booleans
    heard: Booleans


def fit_circuit(
    seen: Observations,
    n_nodes: int,
    alpha: float | None,
    signs: Floats,
    n_starts: int,
    random: np.random.Generator,
    progress: bool = False,
) -> Fitted:
    """Return the latent circuit of what was recorded.

    Parameters
    ----------
    seen : Observations
        Trials; those that repeat each other are averaged where there is noise, or where they have the same inputs.
    n_nodes : int
    alpha : float or None
    signs : numpy.ndarray of shape (n_nodes,)
        Of what each node sends: 1, -1, or 0 for either.
    n_starts : int
        Most descents; fewer where two agree.
    random : numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    Fitted
    """
    problem, averaged = _prepared(seen, n_nodes)
    within = bounds(problem.layout, alpha, signs, problem.driven, problem.heard)
    targets = problem.targets(problem.basis)
    total = float(np.square(targets.states).sum(1).sum(0) @ targets.weights)
    begin = _likely_alpha(targets, within, problem.noise, random) if alpha is None else alpha
    places: list[Place] = []
    agreed = False
    descents = _descents(targets, within, problem.noise, begin, n_starts, random)
    for place in progress_bar(descents, total=n_starts, description="descending", enabled=progress):
        agreed = place.cost < _PERFECT * total or any(_same(place, other) for other in places)
        places.append(place)
        if agreed:
            break
    best = min(places, key=lambda place: place.cost)
    final, basis = _refined(problem, within, best)
    embedding = nearest_orthogonal(basis @ final.rotation.T)
    errors = standard_errors(problem.targets(basis), final.circuit, final.rotation, within)
    costs = tuple(place.cost / total for place in places)
    circuit = problem.in_given_units(final.circuit)
    return Fitted(circuit, embedding, errors, costs, agreed, averaged, problem.driven, problem.heard)


def _prepared(seen: Observations, n_nodes: int) -> tuple[Scaled, bool]:
    """Return the scaled problem, and whether conditions were averaged for it."""
    single = scaled(seen, n_nodes)
    repeated = seen.n_conditions < len(seen.conditions)
    if repeated and (seen.exact_repeats or single.noise > _NOISY):
        return scaled(seen.averaged(), n_nodes), True
    return single, False


def _likely_alpha(targets: Targets, within: Bounds, noise: float, random: np.random.Generator) -> float:
    """Return the leak of the best teacher-forced fit that begins with one of several."""
    places = []
    for alpha in _ALPHAS:
        circuit, rotation = regressed_start(targets, alpha, random)
        places.append(descend(targets, circuit, rotation, within, noise, _TEACHER_STEPS, teacher=True))
    return min(places, key=lambda place: place.cost).circuit.alpha


def _descents(
    targets: Targets, within: Bounds, noise: float, alpha: float, n_starts: int, random: np.random.Generator
) -> Iterator[Place]:
    """Yield places that descents from different starts reach."""
    for index in range(n_starts):
        circuit, rotation = regressed_start(targets, alpha, random)
        if index == 1:
            yield descend(targets, circuit, rotation, within, noise, _LONE_ROLLOUT_STEPS)
            continue
        if index:
            circuit, rotation = nudged(targets, circuit, rotation, random)
        taught = descend(targets, circuit, rotation, within, noise, _TEACHER_STEPS, teacher=True)
        yield descend(targets, taught.circuit, taught.rotation, within, noise, _ROLLOUT_STEPS)


def _same(one: Place, other: Place) -> bool:
    """Return whether two places are the same but for the order of hidden nodes."""
    if abs(one.cost - other.cost) > _SAME_COST * max(one.cost, other.cost):
        return False
    order = order_of_nodes(one.rotation.T, other.rotation.T)
    return correlation(one.circuit.connectivity[np.ix_(order, order)], other.circuit.connectivity) > _SAME_WIRING


def _refined(problem: Scaled, within: Bounds, place: Place) -> tuple[Place, Floats]:
    """Return the place after its embedding was fitted in all units, and the basis in which it is given."""
    basis = problem.basis
    flat = problem.seen.activity * problem.seen.weights[:, None, None]
    for _ in range(_REFINEMENTS):
        circuit = place.circuit
        states = simulate(circuit.connectivity, circuit.input_weights, problem.seen.inputs, circuit.alpha)
        basis = nearest_orthogonal(np.einsum("atu,atn->un", flat, states, optimize=True))
        targets, upright = problem.targets(basis), np.eye(len(place.rotation))
        place = descend(targets, circuit, upright, within, problem.noise, _REFINING_STEPS, damping=_REFINING_DAMPING)
    return place, basis
