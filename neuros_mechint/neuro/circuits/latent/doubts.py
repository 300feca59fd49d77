"""What a reader must know before believing a latent circuit."""

from __future__ import annotations

import numpy as np

from neuros_mechint.neuro.circuits.latent.fitting import Fitted
from neuros_mechint.neuro.circuits.latent.observations import Observations

LARGEST_ERROR, SMALL_ERROR, LEAST_PINNED = 0.2, 0.1, 0.88
_AT_REST = 0.1


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
    return tuple(text for text in told if text)


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
    if found.agreed or len(found.costs) == 1:
        return None
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
