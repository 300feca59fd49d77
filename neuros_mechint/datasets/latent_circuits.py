"""Activity of many units that was made by a circuit of few nodes: data for which the wiring is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, number, whole
from neuros_mechint.core.formatting import shapes_repr
from neuros_mechint.core.random import SeedLike, generator

KINDS = ("gating", "random")
"""Wirings: contexts that inhibit the irrelevant evidence, or connections at random."""

INPUT_KINDS = ("task", "rich")
"""Inputs: a context-dependent decision, or channels that jump independently of each other."""

COHERENCES = np.linspace(-0.2, 0.2, 6)
"""Signed strength of either evidence in the task."""

ALPHA = 0.2
"""Time step divided by the time constant of the nodes."""

_N_TIMES = 75
_CUE, _STIMULUS = slice(7, 25), slice(30, None)
_CUE_SIZE, _BASELINE, _INPUT_NOISE = 1.2, 0.2, 0.03
_HOLD, _SHARE_ON, _STRONGEST = 8, 0.6, 1.2  # of rich inputs
_N_INPUTS, _N_OUTPUTS = 6, 2
_DENSITY, _STEADY, _LEAST_SHARE = 0.3, 0.8, 0.15
_MOST_DRAWS, _DRAWS_PER_GAIN = 1000, 100
_MOST_NOISE = 1e6


@dataclass(frozen=True, eq=False)
class LatentCircuitData:
    """Recorded activity and behaviour, and the circuit that made them.

    Parameters
    ----------
    inputs : numpy.ndarray of shape (n_trials, n_times, 6)
        Cue of context motion, cue of context color, evidence for motion right and left, and for color red and green.
    activity : numpy.ndarray of shape (n_trials, n_times, n_units)
    outputs : numpy.ndarray of shape (n_trials, n_times, 2)
        Evidence for either choice: motion right or color red, and motion left or color green.
    conditions : numpy.ndarray of int, shape (n_trials,)
        Trials of one number differ by noise only. In the task the numbers count contexts, then motions, then colors:
        ``np.unravel_index(conditions, (2, 6, 6))``.
    connectivity : numpy.ndarray of shape (n_nodes, n_nodes)
        Row: the node that receives; column: the node that sends. First come the nodes of the inputs, last those of the
        outputs.
    input_weights : numpy.ndarray of shape (n_nodes, 6)
    output_weights : numpy.ndarray of shape (2, n_nodes)
    embedding : numpy.ndarray of shape (n_units, n_nodes)
        Orthonormal columns: which pattern of units each node is.
    alpha : float
        Time step divided by the time constant of the nodes.

    Examples
    --------
    >>> data = planted_latent_circuit()
    >>> data.inputs.shape, data.activity.shape, data.outputs.shape, data.connectivity.shape
    ((144, 75, 6), (144, 75, 50), (144, 75, 2), (8, 8))
    """

    inputs: Floats
    activity: Floats
    outputs: Floats
    conditions: npt.NDArray[np.intp]
    connectivity: Floats
    input_weights: Floats
    output_weights: Floats
    embedding: Floats
    alpha: float

    def __repr__(self) -> str:
        """Return the shapes."""
        return shapes_repr(self)


def planted_latent_circuit(
    kind: str = "gating",
    n_units: int = 50,
    n_trials_per_condition: int = 2,
    noise: float = 0.0,
    inputs: str = "task",
    n_hidden: int = 0,
    seed: SeedLike = 0,
) -> LatentCircuitData:
    r"""Draw a circuit and what is recorded of it: each unit a mixture of nodes, with noise.

    .. math:: x_{t+1} = (1 - \alpha) x_t + \alpha \max(W x_t + W_{in} u_t, 0), \quad y = Q x, \quad z = W_{out} x

    Parameters
    ----------
    kind : {"gating", "random"}
        ``"gating"``: each context inhibits the nodes of the other context's evidence, which excite two choices that
        inhibit each other. ``"random"``: 3 in 10 connections, of random sign. Gains are drawn for both, anew
        until no node varies by less than 0.15 of what all do: what a silent node would send cannot be known.
    n_units : int
        Units that are recorded, at least as many as nodes.
    n_trials_per_condition : int
        Trials of each of the 72 conditions.
    noise : float
        Standard deviation of the noise of activity and outputs, in units of that of the nodes' states. There are more
        units than nodes: at 0.1 the noise is 6% of the variance of the activity, at 0.3 36%.
    inputs : {"task", "rich"}
        ``"task"``: first a cue of the context, from step 7 to 24, then evidence of 6 motions by 6 colors, from step 30,
        all with little noise. Few inputs vary on their own, so that much of a wiring may leave no trace.
        ``"rich"``: each input is on in a random 60% of stretches of 8 steps, at a level of its own.
    n_hidden : int
        Nodes without input or output, between the others. They have random connections.
    seed : int or numpy.random.Generator

    Returns
    -------
    LatentCircuitData

    Raises
    ------
    InputError
        If there are fewer units than nodes.
    OptionError
        If a number is out of range or an option unknown.

    References
    ----------
    Langdon & Engel 2025, Latent circuit inference from heterogeneous neural responses during cognitive tasks,
    doi:10.1038/s41593-025-01869-7

    Examples
    --------
    >>> data = planted_latent_circuit(noise=0.1, seed=1)
    >>> bool(np.allclose(data.embedding.T @ data.embedding, np.eye(8)))
    True
    >>> bool((data.connectivity[4:6, 0] < 0).all())  # the context of motion inhibits color
    True
    """
    check_option("kind", kind, KINDS)
    check_option("inputs", inputs, INPUT_KINDS)
    n_nodes = _N_INPUTS + whole("n_hidden", n_hidden, 0) + _N_OUTPUTS
    n_repeats = whole("n_trials_per_condition", n_trials_per_condition)
    noise = number("noise", noise, 0, _MOST_NOISE, closed="both")
    if whole("n_units", n_units) < n_nodes:
        raise InputError("there are fewer units than nodes", expected=f"n_units of at least {n_nodes}", got=n_units)
    random = generator(seed)
    drawn = _task(n_repeats, random) if inputs == "task" else _rich(n_repeats, random)
    input_gains, output_gains = _gains(_N_INPUTS, random), _gains(_N_OUTPUTS, random)
    output_weights = np.eye(_N_OUTPUTS, n_nodes, n_nodes - _N_OUTPUTS) * output_gains[:, None]
    connectivity, input_weights, states = _active_circuit(kind, n_nodes, input_gains, drawn, random)
    embedding = np.linalg.qr(random.standard_normal((n_units, n_nodes)))[0] * random.choice([-1.0, 1.0], n_nodes)
    size = noise * states.std()
    activity = states @ embedding.T
    outputs = states @ output_weights.T
    return LatentCircuitData(
        drawn,
        activity + size * random.standard_normal(activity.shape),
        outputs + size * random.standard_normal(outputs.shape),
        np.repeat(np.arange(2 * COHERENCES.size**2), n_repeats),
        connectivity,
        input_weights,
        output_weights,
        embedding,
        ALPHA,
    )


def _task(n_repeats: int, random: np.random.Generator) -> Floats:
    """Return inputs ``(trial, time, 6)``: contexts, then motions, then colors, then repeats."""
    grid = np.meshgrid(np.arange(2), COHERENCES, COHERENCES, [0.0] * n_repeats, indexing="ij")
    context, motion, color = (axis.ravel() for axis in grid[:3])
    inputs = np.full((context.size, _N_TIMES, _N_INPUTS), _BASELINE)
    inputs[:, _CUE, :2] += _CUE_SIZE * np.eye(2)[context.astype(int)][:, None]
    for first, strength in ((2, motion), (4, color)):
        evidence = np.stack([1 + strength, 1 - strength], axis=-1) / 2
        inputs[:, _STIMULUS, first : first + 2] += evidence[:, None]
    return inputs + _INPUT_NOISE * random.standard_normal(inputs.shape)


def _rich(n_repeats: int, random: np.random.Generator) -> Floats:
    n_stretches = -(-_N_TIMES // _HOLD)
    shape = (2 * COHERENCES.size**2, n_stretches, _N_INPUTS)
    levels = random.uniform(0, _STRONGEST, shape) * (random.random(shape) < _SHARE_ON)
    return levels.repeat(_HOLD, axis=1)[:, :_N_TIMES].repeat(n_repeats, axis=0)


def _gains(n_signals: int, random: np.random.Generator) -> Floats:
    return random.uniform(0.6, 1.4, n_signals)


def _active_circuit(
    kind: str, n_nodes: int, input_gains: Floats, inputs: Floats, random: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Return connectivity and input weights of a circuit of which no node is nearly silent, and its states.

    Some input gains leave a node nearly silent in any wiring: where many draws fail, these are drawn anew.
    """
    draw = _gating if kind == "gating" else _sparse
    for index in range(_MOST_DRAWS):
        if index and index % _DRAWS_PER_GAIN == 0:
            input_gains = _gains(len(input_gains), random)
        connectivity, input_weights = draw(n_nodes, random), np.eye(n_nodes, _N_INPUTS) * input_gains
        states = _run(connectivity, input_weights, inputs)
        if states.std((0, 1)).min() >= _LEAST_SHARE * states.std():
            return connectivity, input_weights, states
    raise InputError(
        "no circuit was drawn of which every node varies", got=f"{_MOST_DRAWS} draws", fix="ask for fewer n_hidden"
    )


def _gating(n_nodes: int, random: np.random.Generator) -> Floats:
    """Return contexts 0 and 1 that inhibit the other's evidence, and choices that evidence excites."""
    wiring = np.zeros((8, 8))
    wiring[[4, 5], 0] = wiring[[2, 3], 1] = -1.2
    wiring[[6, 7, 6, 7], [2, 3, 4, 5]] = 0.9
    wiring[[6, 7], [7, 6]] = -0.8
    wiring[[6, 7], [6, 7]] = 0.5
    hidden = np.arange(n_nodes - 8) + _N_INPUTS
    named = np.setdiff1d(np.arange(n_nodes), hidden)
    connectivity = np.zeros((n_nodes, n_nodes))
    connectivity[np.ix_(named, named)] = wiring * random.uniform(0.7, 1.3, wiring.shape)
    if hidden.size:
        others = _sparse(n_nodes, random)
        connectivity[hidden], connectivity[:, hidden] = others[hidden], others[:, hidden]
    return connectivity


def _sparse(n_nodes: int, random: np.random.Generator) -> Floats:
    shape = (n_nodes, n_nodes)
    sizes = random.uniform(0.4, 1.2, shape) * random.choice([-1.0, 1.0], shape)
    connectivity = np.where(random.random(shape) < _DENSITY, sizes, 0.0)
    # rectified nodes cannot run away where excitation alone does not
    growth = np.abs(np.linalg.eigvals(np.maximum(connectivity, 0))).max()
    return connectivity * min(1.0, _STEADY / growth) if growth else connectivity


def _run(connectivity: Floats, input_weights: Floats, inputs: Floats) -> Floats:
    """Return the states ``(trial, time, node)``, from 0."""
    drive = inputs @ input_weights.T
    states = np.zeros(drive.shape)
    for time in range(1, drive.shape[1]):
        received = states[:, time - 1] @ connectivity.T + drive[:, time - 1]
        states[:, time] = (1 - ALPHA) * states[:, time - 1] + ALPHA * np.maximum(received, 0)
    return states
