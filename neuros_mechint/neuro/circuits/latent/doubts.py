"""What a reader must know before believing a latent circuit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.circuits.latent.dynamics import simulate
from neuros_mechint.neuro.circuits.latent.fitting import Fitted
from neuros_mechint.neuro.circuits.latent.observations import Observations

LARGEST_ERROR, SMALL_ERROR, LEAST_PINNED = 0.2, 0.1, 0.88
_AT_REST = 0.1
_CLEARLY_NEGATIVE = 0.05  # of the sum of squares of condition means, beyond what noise about 0 leaves there
_MOSTLY_LOST = 0.5
_MEDIAN_OF_SQUARE = 0.4549  # of a standard normal number
_SPLIT = "give each sign a channel of its own: nm.split_signed_channels"


def doubts(found: Fitted, seen: Observations) -> tuple[str, ...]:
    """Return warnings about a fit.

    Parameters
    ----------
    found : Fitted
    seen : Observations

    Returns
    -------
    tuple of str
    """
    told = [_loose(found), _disagreement(found), _sharing(found), *_silences(found, seen), _unrest(seen)]
    return tuple(text for text in (*told, *_impossible_outputs(seen), *_lost_inputs(found, seen)) if text)


def _loose(found: Fitted) -> str | None:
    errors = found.standard_errors
    largest, pinned = errors.max(), (errors < SMALL_ERROR).mean()
    if largest <= LARGEST_ERROR and pinned >= LEAST_PINNED:
        return None
    return (
        f"the data do not pin the connectivity down: its largest standard error is {largest:.2g}, and {pinned:.0%} of "
        f"connections have one below {SMALL_ERROR}; however well the activity is reproduced, other wirings may do as "
        "well, and connections with small standard errors may be wrong too. Inputs that vary more independently of "
        "each other, or more trials, would help"
    )


def _disagreement(found: Fitted) -> str | None:
    if found.agreed:
        return None
    if len(found.costs) == 1:
        return "one descent was not compared with another, which might lead to another circuit; raise n_starts"
    return f"no two of {len(found.costs)} descents led to the same circuit; raise n_starts, or take fewer nodes"


def _sharing(found: Fitted) -> str | None:
    n_nodes, n_inputs, n_outputs = len(found.circuit.connectivity), len(found.driven), len(found.heard)
    if n_nodes >= n_inputs + n_outputs:
        return None
    return (
        f"{n_nodes} nodes are shared by {n_inputs} inputs and {n_outputs} outputs: some receive an input and are read "
        "out as well; take more nodes unless this is meant"
    )


def _silences(found: Fitted, seen: Observations) -> list[str]:
    told = []
    for names, loud in ((seen.input_names, found.driven), (seen.output_names, found.heard)):
        quiet = [names[index] for index in np.flatnonzero(~loud)]
        if quiet:
            told.append(f"{', '.join(quiet)} is silent: its weight is 0, and its node has no label")
    return told


def _unrest(seen: Observations) -> str | None:
    start, usual = seen.activity[:, 0].mean(0), np.sqrt(np.square(seen.activity).sum(-1).mean())
    share = float(np.linalg.norm(start) / usual)
    if share <= _AT_REST:
        return None
    return (
        f"activity starts at {share:.2g} of its usual size, the circuit at 0; subtract what is there before the trial"
    )


def _impossible_outputs(seen: Observations) -> Iterator[str]:
    outputs = seen.averaged().outputs
    shares = _negative_shares(outputs, _squares_of_noise(outputs))
    for index in np.flatnonzero(shares > _CLEARLY_NEGATIVE):
        values = outputs[..., index]
        yield (
            f"{seen.output_names[index]} goes from {values.min():.3g} to {values.max():.3g}, but outputs of a circuit "
            f"are never negative: {shares[index]:.0%} of its sum of squares lies below 0 and cannot be reproduced; "
            f"{_SPLIT}(outputs)"
        )


def _lost_inputs(found: Fitted, seen: Observations) -> Iterator[str]:
    """Yield inputs whose negative values mostly find their node silent: below 0 an input only inhibits its node."""
    given, circuit = seen.averaged().inputs, found.circuit
    clearly = (_negative_shares(given) > _CLEARLY_NEGATIVE) & found.driven
    if not clearly.any():
        return
    states = simulate(circuit.connectivity, circuit.input_weights, given, circuit.alpha)
    silent = (states @ circuit.connectivity.T + given @ circuit.input_weights.T <= 0)[..., : given.shape[-1]]
    below = np.square(np.minimum(given, 0))
    lost = (below * silent).sum((0, 1)) / np.maximum(below.sum((0, 1)), np.finfo(float).tiny)
    for index in np.flatnonzero(clearly & (lost > _MOSTLY_LOST)):
        yield (
            f"{lost[index]:.0%} of the negative part of {seen.input_names[index]} is lost: its node is silent then, "
            f"however negative the input; {_SPLIT}(inputs)"
        )


def _negative_shares(signals: Floats, by_noise: Floats | float = 0.0) -> Floats:
    """Return how much of the sum of squares of each channel lies below 0, beyond noise; 0 of a silent channel."""
    total, below = np.square(signals).sum((0, 1)), np.square(np.minimum(signals, 0)).sum((0, 1))
    return np.maximum(below - by_noise, 0) / np.where(total > 0, total, 1.0)


def _squares_of_noise(signals: Floats) -> Floats:
    """Return the sum of squares that noise about 0 leaves below it, per channel: half of its own.

    How large the noise is, second differences in time say: of white noise they have six times its variance, of a
    signal that is smooth or steps now and then a median of nearly 0.
    """
    bends = np.square(np.diff(signals, n=2, axis=1))
    variance = np.median(bends, axis=(0, 1)) / (6 * _MEDIAN_OF_SQUARE) if bends.size else np.zeros(signals.shape[2])
    return signals.shape[0] * signals.shape[1] * variance / 2
