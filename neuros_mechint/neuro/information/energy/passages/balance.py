"""Detailed balance: whether states flow in circles, against stretches of the data run backwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, p_of_draws
from neuros_mechint.neuro.information.energy.density.blocks import Blocks
from neuros_mechint.neuro.information.entropy_production.states import flow_divergence

Whole = npt.NDArray[np.intp]
_DRAWS = 999
_SIDE = {1: 12, 2: 6}
_MARGIN = 0.01
_PART_OF_MEMORY = 0.2
_WORDS = 15


class Balance(NamedTuple):
    """What flows between coarse states, and whether it can be chance."""

    p: float
    production: float
    """Least entropy production that the flow between coarse states shows, in nats per unit of time, less that of
    chance."""
    lag: int
    """Samples between the two states of a transition."""
    z: Floats
    """Net transitions between each two coarse states by their standard error, ``(n_states, n_states)``."""

    @property
    def broken(self) -> bool:
        """Whether there is a flow that chance would not give."""
        return self.p <= SIGNIFICANT

    @property
    def caution(self) -> str | None:
        """What to warn of."""
        if not self.broken:
            return None
        return (
            f"quasi-potential, not energy: entropy production {self.production:.2g} nats per unit of time or more "
            f"(detailed balance fails, p = {self.p:.2g}): -log p says where states are, not which force moves them"
        )


def coarse_states(samples: Floats) -> Whole:
    """Return which cell of a coarse grid each sample is in: 12 along one dimension, 6 x 6 in two.

    Examples
    --------
    >>> coarse_states(np.linspace(0, 1, 13)[:, None])[-1].item()
    11
    """
    low, high = np.quantile(samples, [_MARGIN, 1 - _MARGIN], axis=0)
    side = _SIDE[samples.shape[1]]
    cells = np.floor((samples - low) / np.where(high > low, high - low, 1) * side).clip(0, side - 1).astype(np.intp)
    return np.asarray(np.ravel_multi_index(tuple(cells.T), (side,) * samples.shape[1]))


def coarse_words(spins: Floats) -> Whole:
    """Return which of the 15 most frequent patterns of units each state is, 15 for all others.

    Examples
    --------
    >>> coarse_words(np.array([[1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])).tolist()
    [0, 1, 0]
    """
    _, word, times = np.unique(spins, axis=0, return_inverse=True, return_counts=True)
    place = np.empty(len(times), dtype=np.intp)
    place[np.argsort(-times, kind="stable")] = np.arange(len(times))
    return np.minimum(place, _WORDS)[word.ravel()]


def detailed_balance(
    states: Whole, lengths: Sequence[int], blocks: Blocks, dt: float, random: np.random.Generator
) -> Balance:
    r"""Test whether as many transitions go from each state to each other one as come back.

    At equilibrium a stretch of data is as likely backwards as forwards, so that the net counts of each block have
    either sign: all patterns of signs are drawn for the null, whatever the memory within a block.

    Parameters
    ----------
    states : numpy.ndarray of shape (n_samples,)
        Of all trials, end to end.
    lengths : sequence of int
        Samples of each trial.
    blocks : Blocks
    dt : float
    random : numpy.random.Generator

    Returns
    -------
    Balance

    References
    ----------
    Wang, Xu and Wang 2008, Potential landscape and flux framework of nonequilibrium networks,
    doi:10.1073/pnas.0800579105; Seifert 2012, Stochastic thermodynamics, fluctuation theorems and molecular machines,
    doi:10.1088/0034-4885/75/12/126001

    Examples
    --------
    >>> random = np.random.default_rng(1)
    >>> ring = np.cumsum(random.choice([1, -1], p=[0.7, 0.3], size=3000)) % 3
    >>> blocks = Blocks(np.arange(3000) * 20 // 3000, 20, 1.0)
    >>> detailed_balance(ring, [3000], blocks, 1.0, random).broken
    True
    >>> detailed_balance(random.integers(3, size=3000), [3000], blocks, 1.0, random).broken
    False
    """
    lag = max(1, min(round(_PART_OF_MEMORY * blocks.memory), min(lengths) // 2))
    counts = _transitions(states, lengths, blocks, lag)
    net = counts - counts.swapaxes(1, 2)
    both = (counts + counts.swapaxes(1, 2)).sum(0)
    upper = np.triu_indices(both.shape[0], 1)
    net, both = net[:, upper[0], upper[1]], both[upper]
    seen = both > 0
    net, both = net[:, seen], both[seen]
    signs = np.concatenate([np.ones((1, len(net))), random.choice([-1.0, 1.0], size=(_DRAWS, len(net)))])
    flows = signs @ net
    statistic = (flows**2 / both).sum(1)
    size = np.sqrt((net**2).sum(0))
    z = np.zeros((counts.shape[1],) * 2)
    z[upper[0][seen], upper[1][seen]] = np.divide(flows[0], size, out=np.zeros(len(size)), where=size > 0)
    produced = flow_divergence(flows, both) / (counts.sum() * lag * dt)
    production = max(0.0, float(produced[0] - produced[1:].mean()))
    return Balance(float(p_of_draws(statistic[0], statistic[1:])), production, lag, z - z.T)


def _transitions(states: Whole, lengths: Sequence[int], blocks: Blocks, lag: int) -> Floats:
    """Return how often each state follows each other one after a lag, ``(n_blocks, n_states, n_states)``."""
    _, states = np.unique(states, return_inverse=True)
    n_states = int(states.max()) + 1
    trial = np.repeat(np.arange(len(lengths)), lengths)
    # a pair belongs to one block, or reversing a block would not reverse it
    whole = (trial[lag:] == trial[:-lag]) & (blocks.of_sample[lag:] == blocks.of_sample[:-lag])
    cells = (blocks.of_sample[:-lag] * n_states + states[:-lag]) * n_states + states[lag:]
    size = blocks.n_blocks * n_states**2
    return np.bincount(cells[whole], minlength=size).reshape(blocks.n_blocks, n_states, n_states).astype(float)
