"""What to warn of before a landscape is believed."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.neuro.information.energy.binary.spins import Check
from neuros_mechint.neuro.information.energy.density.blocks import Blocks, drifts
from neuros_mechint.neuro.information.energy.density.continuous import Surface

_PER_PARAMETER = 10
_MANY_TRIPLES, _ENOUGH_TRIPLES = 0.2, 20
_LARGE_INFLATION = 1.5
_CLEAR = 2.0


def of_time(trials: Sequence[Floats], blocks: Blocks) -> list[str]:
    """Return what to warn of where data are short against their memory, or drift.

    Examples
    --------
    >>> from neuros_mechint.neuro.information.energy.density.blocks import make_blocks
    >>> noise = np.random.default_rng(0).normal(size=(1000, 1))
    >>> of_time([noise], make_blocks([noise]))
    []
    """
    found = []
    if not blocks.long_enough:
        found.append(
            f"the data last {len(blocks.of_sample) / blocks.memory:.2g} times their memory: occupancies, and errors, "
            "are rough (record longer, or more trials)"
        )
    p = drifts(trials, blocks)
    if p <= SIGNIFICANT:
        found.append(
            f"states are not stationary (p = {p:.2g}): the landscape mixes what they were early and late (drop the "
            "beginning of trials, or fit parts)"
        )
    return found


def unseen(surface: Surface) -> str | None:
    """Return what to warn of where no sample lies between minima."""
    unseen = np.argwhere(np.triu(surface.unseen_ways))
    if not len(unseen):
        return None
    pairs = ", ".join(f"{a} and {b}" for a, b in unseen[:3])
    pairs += f", and {len(unseen) - 3} more pairs" if len(unseen) > 3 else ""
    return (
        f"no sample lies between minima {pairs}: their barrier is at least what is given, and times over it are not "
        "known (record longer, or smooth wider)"
    )


def of_fit(n_samples: int, n_units: int, inflated: float, check: Check) -> list[str]:
    """Return what to warn of a pairwise model.

    Parameters
    ----------
    n_samples, n_units : int
    inflated : float
        By which the variance of means exceeds that of independent samples.
    check : Check
        How well it explains the states.

    Examples
    --------
    >>> of_fit(50_000, 8, 1.0, Check(0.2, 0.01, 0.05, 4.0, 4.2))
    []
    """
    found, n_parameters = [], comb(n_units, 2) + n_units
    if n_samples < _PER_PARAMETER * n_parameters:
        found.append(
            f"{n_samples} samples are few for {n_parameters} parameters: see the standard errors of single couplings"
        )
    if inflated > _LARGE_INFLATION:
        found.append(f"samples depend on each other: errors are those of {n_samples / inflated:,.0f} independent ones")
    if check.held_out_gain <= _CLEAR * check.gain_error:
        found.append("couplings do not help to predict held-out states: independent units explain them as well")
    if check.triples_off > _MANY_TRIPLES and comb(n_units, 3) >= _ENOUGH_TRIPLES:
        found.append(
            f"{check.triples_off:.0%} of the products of three units are two errors off: pairs do not explain these "
            "states, and the landscape is that of another model"
        )
    return found
