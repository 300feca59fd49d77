"""Kernels and events of spike counts, neither of them known: greedy encoding and Newton steps in turn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.circuits.dunl.encoding import LEAST_GAIN, greedy_codes
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels, fit_kernels
from neuros_mechint.neuro.circuits.dunl.known_events import with_peak_one
from neuros_mechint.neuro.circuits.dunl.links import link_of
from neuros_mechint.neuro.circuits.dunl.observations import observations
from neuros_mechint.neuro.circuits.dunl.repairs import centred, fused, random_kernels, reseeded
from neuros_mechint.neuro.circuits.dunl.score import held_out_score

SMOOTHNESS = 3.0
_N_EPOCHS, _LAST_EPOCHS = 25, 3
_STRICT_EPOCHS, _STRICT_GAIN = 3, 7.0
_THINNED_SHARE, _DENSE, _THINNED_BASE = 0.7, 0.78, 0.6
_RESEED_EVERY, _RESEED_UNTIL, _FUSE_AT = 3, 19, (6, 10, 14, 18)
_PERCENTILE, _BLOCK = 30, 20
_HELD_OUT = 0.2


class Pursuit(NamedTuple):
    """Kernels and events that were found.

    Parameters
    ----------
    kernels : numpy.ndarray of shape (n_kernels, kernel_length)
        Log-rate per amplitude. The largest absolute value of each is 1.
    codes : numpy.ndarray of shape ([n_neurons,] n_trials, n_kernels, n_times)
        Amplitudes where events begin, zero elsewhere.
    baseline : numpy.ndarray of shape ([n_neurons])
        Log-rate per bin without events.
    score : float
        Nats per spike on held-out trials, see `held_out_score`, of the start that was kept.
    """

    kernels: Floats
    codes: Floats
    baseline: Floats
    score: float


def pursue(
    counts: npt.ArrayLike,
    n_kernels: int,
    kernel_length: int,
    seed: SeedLike = 0,
    n_restarts: int = 2,
    progress: bool = False,
) -> Pursuit:
    """Find kernels that recur in Poisson counts, and when, from random kernels.

    Kernels always come out. Believe them where ``score`` is above 0 and halves of the trials agree
    (`halves_cosine` of at least 0.9).

    Parameters
    ----------
    counts : array_like of shape ([n_neurons,] n_trials, n_times)
        Counts per bin. Neurons share the kernels, and have baselines and events of their own.
    n_kernels, kernel_length : int
    seed : int or numpy.random.Generator
    n_restarts : int
        Searches from different random kernels; the one with the best score on held-out trials is kept.
    progress : bool
        Show a bar.

    Returns
    -------
    Pursuit

    Raises
    ------
    InputError
        If counts are negative or no whole numbers, trials too few, or kernels longer than trials.
    OptionError
        If a number is out of range.

    References
    ----------
    Tolooshams et al. 2025, Interpretable deep learning for deconvolutional analysis of neural signals,
    doi:10.1016/j.neuron.2025.02.006 (the model); Mallat and Zhang 1993, Matching pursuits with time-frequency
    dictionaries, doi:10.1109/78.258082 (greedy search)

    Examples
    --------
    >>> import numpy as np
    >>> counts = np.random.default_rng(0).poisson(2.0, size=(40, 100))
    >>> for trial in range(40):
    ...     counts[trial, trial : trial + 20] += 8
    >>> found = pursue(counts, n_kernels=1, kernel_length=30, n_restarts=1)
    >>> found.kernels.shape, found.codes.shape, found.score > 0.1
    ((1, 30), (40, 1, 100), True)
    """
    n_kernels, length = whole("n_kernels", n_kernels), whole("kernel_length", kernel_length, 3)
    data = observations(counts, link_of("poisson"), length)
    kernels, codes, score = pursue_events(data.values, n_kernels, length, seed, n_restarts, progress)
    return Pursuit(kernels.shapes.numpy(), data.shaped(codes), data.shaped(kernels.baseline), score)


def pursue_events(
    values: torch.Tensor,
    n_kernels: int,
    kernel_length: int,
    seed: SeedLike = 0,
    n_restarts: int = 2,
    progress: bool = False,
) -> tuple[Kernels, torch.Tensor, float]:
    """Return kernels, codes and score of checked counts ``(n_neurons, n_trials, n_times)``; see `pursue`.

    Examples
    --------
    >>> import torch
    >>> values = torch.ones(1, 10, 60).double()
    >>> values[..., 20:30] = 9
    >>> kernels, codes, score = pursue_events(values, 1, 20, n_restarts=1)
    >>> codes.shape
    torch.Size([1, 10, 1, 60])
    """
    random = generator(seed)
    order = torch.from_numpy(random.permutation(values.shape[1]))
    n_held = max(1, round(_HELD_OUT * len(order)))
    held, fitted = values[:, order[:n_held]], values[:, order[n_held:]]
    rates = fitted.mean((1, 2)).clamp_min(1e-6)
    best, best_score = None, -np.inf
    for _ in progress_bar(range(whole("n_restarts", n_restarts)), description="pursuit", enabled=progress):
        kernels = _search(fitted, n_kernels, kernel_length, random)
        score = held_out_score(held, kernels, rates, random)
        if best is None or score > best_score:
            best, best_score = kernels, score
    assert best is not None
    codes = greedy_codes(values, best, sweeps=1)
    kernels, codes = _refit(values, best, codes)
    return kernels, greedy_codes(values, kernels, sweeps=2, thorough=True), float(best_score)


def starting_baseline(values: torch.Tensor) -> torch.Tensor:
    """Return log-rates outside of events, by neuron: a low percentile of the means of short blocks.

    Examples
    --------
    >>> import torch
    >>> values = torch.ones(1, 2, 100)
    >>> values[..., :40] = 5
    >>> starting_baseline(values).tolist()
    [0.0]
    """
    block = min(_BLOCK, values.shape[-1])
    n_blocks = values.shape[-1] // block
    means = values[..., : n_blocks * block].unflatten(-1, (n_blocks, block)).mean(-1).flatten(1)
    low = torch.quantile(means, _PERCENTILE / 100, dim=1)
    # sparse spikes leave most blocks empty
    return torch.maximum(low, 0.2 * values.mean((1, 2))).clamp_min(1e-6).log()


def _search(values: torch.Tensor, n_kernels: int, length: int, random: np.random.Generator) -> Kernels:
    """Return kernels and baselines from one random start."""
    kernels = Kernels(random_kernels(n_kernels, length, random), starting_baseline(values))
    for epoch in range(_N_EPOCHS):
        shown, kept = _thinned(values, kernels, epoch, random)
        kernels = kernels._replace(baseline=kernels.baseline + kept)
        least_gain = _STRICT_GAIN if epoch < _STRICT_EPOCHS else LEAST_GAIN
        codes = greedy_codes(shown, kernels, least_gain, sweeps=int(epoch >= _N_EPOCHS - _LAST_EPOCHS))
        kernels, codes = _refit(shown, kernels, codes)
        if epoch in _FUSE_AT:
            kernels = kernels._replace(shapes=fused(kernels, codes, shown, random))
        elif epoch % _RESEED_EVERY == 0 and epoch < _RESEED_UNTIL:
            kernels = kernels._replace(shapes=reseeded(kernels, codes, shown, random))
        if epoch % 2:
            kernels = kernels._replace(shapes=centred(kernels.shapes))
        kernels = kernels._replace(baseline=kernels.baseline - kept)
    return kernels


def _thinned(
    values: torch.Tensor, kernels: Kernels, epoch: int, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return counts of which dense ones lose spikes in the early epochs, and the log of the share that is kept.

    Fewer spikes make the likelihood flatter: kernels that explain part of an event can still change their mind.
    """
    base = kernels.baseline.exp()
    dense = (base > _DENSE) & (epoch < _THINNED_SHARE * _N_EPOCHS)
    share = torch.where(dense, _THINNED_BASE / base, torch.ones_like(base))
    if not dense.any():
        return values, share.log()
    kept = random.binomial(values.numpy().astype(np.int64), share[:, None, None].numpy())
    return torch.from_numpy(kept.astype(float)), share.log()


def _refit(values: torch.Tensor, kernels: Kernels, codes: torch.Tensor) -> tuple[Kernels, torch.Tensor]:
    return with_peak_one(fit_kernels(values, codes, kernels, link_of("poisson"), SMOOTHNESS), codes)
