"""Binary states as spins, and how well pairs explain them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.neuro.information.energy.binary.ising import IsingFit, exact_fit, pseudo_fit
from neuros_mechint.neuro.information.energy.binary.walsh import pairwise_energies, state_numbers, walsh_transform
from neuros_mechint.neuro.information.energy.density.blocks import Blocks

MOST_COUNTED = 20
"""Up to so many units all states are counted out."""
_FOLDS = 5
_OFF = 2.0
_INFLATED = 1.2


class Check(NamedTuple):
    """How well a pairwise model explains states."""

    held_out_gain: float
    """Nats per state by which held-out states are likelier than with independent units; of pseudo-likelihood, the sum
    over units of what the others tell of each."""
    gain_error: float
    """Its standard error."""
    triples_off: float
    """Share of products of three units whose mean is two standard errors off: 5% where pairs explain all; NaN below
    three units."""
    entropy: float
    """Of the model, in nats; NaN from pseudo-likelihood."""
    independent_entropy: float
    """Of independent units with the same means."""


def as_spins(states: Floats) -> tuple[Floats, str]:
    """Return states as -1 and 1, and how they were coded.

    Parameters
    ----------
    states : numpy.ndarray of shape (n_samples, n_units)
        0 and 1, or -1 and 1.

    Raises
    ------
    InputError
        Other values, one unit only, or units that never change.

    Examples
    --------
    >>> spins, coding = as_spins(np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> spins.tolist(), coding
    ([[-1.0, 1.0], [1.0, -1.0]], '0 and 1')
    """
    found = set(np.unique(states).tolist())
    if not found <= {0.0, 1.0} and not found <= {-1.0, 1.0}:
        raise InputError(
            "states are not binary",
            expected="0 and 1, or -1 and 1",
            got=f"{len(found)} values, such as {sorted(found)[:3]}",
            fix='make them so by a threshold that you state: (x > threshold); of continuous states method="density"',
        )
    if states.shape[1] < 2:
        raise InputError("one unit has no pairs", expected="at least 2 units", got=states.shape[1])
    coding = "-1 and 1" if -1.0 in found else "0 and 1"
    spins = states if coding == "-1 and 1" else 2 * states - 1
    constant = np.flatnonzero(np.ptp(spins, axis=0) == 0)
    if len(constant):
        raise InputError(
            "units never change: their fields would be infinite",
            expected="units that are active in some samples and silent in others",
            got=f"{len(constant)} of {spins.shape[1]} constant, the first is unit {constant[0]}",
            fix="leave them out, or take longer bins",
        )
    return spins, coding


def refuse_missing_pairs(spins: Floats) -> None:
    """Raise `InputError` where two units never show one of their four joint states, which needs infinite couplings.

    Examples
    --------
    >>> refuse_missing_pairs(np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]))
    """
    up, down = (spins > 0).astype(float), (spins < 0).astype(float)
    first, second = np.triu_indices(spins.shape[1], 1)
    for one, one_name in ((up, "active"), (down, "silent")):
        for other, other_name in ((up, "active"), (down, "silent")):
            never = np.flatnonzero((one.T @ other)[first, second] == 0)
            if len(never):
                a, b = first[never[0]], second[never[0]]
                raise InputError(
                    "some pairs of units never show one of their joint states: their coupling would be infinite",
                    expected="all four joint states of each pair",
                    got=f"{len(never)} pairs without one, such as units {a} and {b}: never {one_name} and {other_name}",
                    fix="pass more samples, leave out a unit of each such pair, or give penalty=1e-3 (a prior)",
                )


def inflation(spins: Floats, blocks: Blocks) -> float:
    """Return by how much the variance of means exceeds that of independent samples, for units and pairs together.

    Examples
    --------
    >>> spins = np.random.default_rng(0).choice([-1.0, 1.0], size=(2000, 3))
    >>> inflation(spins, Blocks(np.arange(2000) * 40 // 2000, 40, 1.0))
    1.0
    >>> held = np.repeat(spins, 10, axis=0)
    >>> 5 < inflation(held, Blocks(np.arange(20_000) * 40 // 20_000, 40, 10.0)) < 15
    True
    """
    first, second = np.triu_indices(spins.shape[1], 1)
    features = [*spins.T, *(spins[:, a] * spins[:, b] for a, b in zip(first[:500], second[:500], strict=True))]
    size = len(spins) / blocks.n_blocks
    of_blocks = sum(
        float((np.bincount(blocks.of_sample, one) / np.bincount(blocks.of_sample)).var(ddof=1)) * size
        for one in features
    )
    found = of_blocks / sum(float(one.var()) for one in features)
    return found if found > _INFLATED else 1.0


def check_fit(spins: Floats, fit: IsingFit, blocks: Blocks, exact: bool, penalty: float, inflated: float) -> Check:
    """Return how well a fit explains states.

    Parameters
    ----------
    spins : numpy.ndarray of shape (n_samples, n_units)
    fit : IsingFit
        To all of them.
    blocks : Blocks
        Every fifth is held out.
    exact : bool
        Whether all states are counted out.
    penalty : float
    inflated : float
        By which the variance of means exceeds that of independent samples.

    Examples
    --------
    >>> spins = np.random.default_rng(0).choice([-1.0, 1.0], size=(5000, 4))
    >>> found = check_fit(spins, exact_fit(spins), Blocks(np.arange(5000) // 125, 40, 1.0), True, 0.0, 1.0)
    >>> abs(found.held_out_gain) < 0.01, round(found.independent_entropy - found.entropy, 2)
    (True, 0.0)
    """
    held = blocks.of_sample % _FOLDS == _FOLDS - 1
    kept, tested = spins[~held], spins[held]
    own = (exact_fit if exact else pseudo_fit)(kept, penalty or 1e-6)
    mean = np.clip(kept.mean(0), -1 + 1e-9, 1 - 1e-9)
    alone = np.log((1 + tested * mean) / 2).sum(1)
    if exact:
        energy = pairwise_energies(own.fields, own.couplings)
        likely = -energy[state_numbers(tested)] - _log_sum(-energy)
    else:
        likely = -np.log1p(np.exp(-2 * tested * (own.fields + tested @ own.couplings))).sum(1)
    mean = spins.mean(0)
    independent = -sum(float(share * np.log(share)) for share in ((1 + mean) / 2, (1 - mean) / 2) for share in share)
    entropy = _entropy(pairwise_energies(fit.fields, fit.couplings)) if exact else float("nan")
    off = _triples(spins, fit, exact) / np.sqrt(inflated)
    return Check(
        float((likely - alone).mean()),
        float((likely - alone).std() * np.sqrt(inflated / len(tested))),
        float((np.abs(off) > _OFF).mean()) if len(off) else float("nan"),
        entropy,
        independent,
    )


def _log_sum(weights: Floats) -> float:
    return float(weights.max() + np.log(np.exp(weights - weights.max()).sum()))


def _entropy(energy: Floats) -> float:
    log_p = -energy - _log_sum(-energy)
    return float(-(np.exp(log_p) * log_p).sum())


def _triples(spins: Floats, fit: IsingFit, exact: bool) -> Floats:
    """Return by how many standard errors the mean product of each three units misses that of the model."""
    n_samples, n_units = spins.shape
    if exact:
        triples = [(1 << a) + (1 << b) + (1 << c) for c in range(n_units) for b in range(c) for a in range(b)]
        energy = pairwise_energies(fit.fields, fit.couplings)
        expected = walsh_transform(np.exp(-energy - _log_sum(-energy)))[triples]
        counts = np.bincount(state_numbers(spins), minlength=2**n_units)
        seen = walsh_transform(counts / n_samples)[triples]
        return (seen - expected) / np.sqrt(np.maximum(1 - expected**2, 1e-12) / n_samples)
    found = []
    first, second = np.triu_indices(n_units, 1)
    for unit in range(n_units):
        # how a unit deviates from what the others make of it, beside each two of them
        missed = spins[:, unit] - np.tanh(fit.fields[unit] + spins @ fit.couplings[unit])
        summed = (missed[:, None] * spins).T @ spins
        others = (first != unit) & (second != unit)
        found.append(summed[first[others], second[others]] / np.sqrt(n_samples * float((missed**2).mean())))
    return np.concatenate(found)
