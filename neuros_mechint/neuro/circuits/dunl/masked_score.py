"""How well events tell what is in hidden bins: held-out likelihood for every link, and agreement of halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels
from neuros_mechint.neuro.circuits.dunl.links import Link
from neuros_mechint.neuro.circuits.dunl.score import match_kernels

HIDDEN = 0.25
_LEAST_CONSTANT, _UNSEEN = 0.1, 1e-6
_WIDTHS = (1.0, 1 / 3)  # of a kernel: standard deviations of what smooths
Decode = Callable[[torch.Tensor, Kernels, torch.Tensor], torch.Tensor]
"""Takes values, kernels and weights of values, and returns codes."""


class Score(NamedTuple):
    """By how many nats per spike (Gaussian: per value) events predict hidden bins better than something else does.

    Parameters
    ----------
    constant : float
        Than a constant mean for each neuron.
    slow : float
        Than shown bins smoothed over the length of a kernel, or over a third of it, as a drift without events would.
    constant_error, slow_error : float
        Their standard errors over the held-out trials; NaN of a single one.
    """

    constant: float
    slow: float
    constant_error: float
    slow_error: float


def hidden_bins(shape: tuple[int, ...], random: np.random.Generator) -> torch.Tensor:
    """Return which bins to hide, a quarter, drawn at random; True is hidden.

    Examples
    --------
    >>> import numpy as np
    >>> 0.2 < hidden_bins((1, 20, 100), np.random.default_rng(0)).double().mean().item() < 0.3
    True
    """
    return torch.from_numpy(random.random(shape) < HIDDEN)


def rival_means(values: torch.Tensor, weights: torch.Tensor, kernel_length: int, link: Link) -> list[torch.Tensor]:
    """Return what is expected without events: the mean of shown values of each neuron, and shown values smoothed.

    Parameters
    ----------
    values, weights : torch.Tensor of shape (n_neurons, n_trials, n_times)
        Values of which the weight is 0 are not shown.
    kernel_length : int
        This, or a third of it, is one standard deviation of the Gaussian that smooths. A tenth of the mean is added.
    link : Link

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> ones = torch.ones(1, 1, 50).double()
    >>> [means.mean().item() for means in rival_means(2 * ones, ones, 5, link_of("gaussian"))]
    [2.0, 2.0, 2.0]
    """
    from scipy.ndimage import gaussian_filter1d

    more = 0.0 if link.name == "gaussian" else 0.5  # half a spike, so that no rate is zero
    constant = ((weights * values).sum((1, 2)) + more) / (weights.sum((1, 2)) + 2 * more)
    constant = constant[:, None, None].expand_as(values)
    found = [constant]
    for width in _WIDTHS:
        shown, seen = (
            torch.from_numpy(gaussian_filter1d(part.numpy(), width * kernel_length, axis=-1, mode="reflect"))
            for part in (weights * values, weights)
        )
        smooth = shown / seen.clamp_min(_UNSEEN)
        found.append((1 - _LEAST_CONSTANT) * smooth + _LEAST_CONSTANT * constant)
    return found


def masked_score(
    values: torch.Tensor,
    kernels: Kernels,
    link: Link,
    decode: Decode,
    random: np.random.Generator,
    n_repeats: int = 2,
) -> Score:
    """Return what events, found without a quarter of the bins, say about these bins.

    Unlike spikes that are drawn from the same bins as those that are shown, hidden bins can only be predicted from
    others: by kernels that extend in time. So they can by a slow drift, with which events are compared too. A
    prediction goes no further than what the same events say about shown bins.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
        Trials that kernels were not fitted to.
    kernels : Kernels
    link : Link
    decode : callable
        Finds codes, given weights that are 0 for hidden bins.
    random : numpy.random.Generator
    n_repeats : int
        How many times bins are drawn and hidden.

    Returns
    -------
    Score

    Examples
    --------
    >>> import numpy as np, torch
    >>> from neuros_mechint.neuro.circuits.dunl.greedy import GreedySearch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> kernels, poisson = Kernels(torch.ones(1, 4).double(), torch.zeros(1).double()), link_of("poisson")
    >>> values = torch.ones(1, 20, 50).double()
    >>> values[..., 20:24] = 10
    >>> decode = lambda shown, kernels, weights: GreedySearch(kernels, poisson)(shown, weights)
    >>> masked_score(values, kernels, poisson, decode, np.random.default_rng(0)).constant > 0.3
    True
    """
    gain, amount = np.zeros((2, values.shape[1])), np.zeros(values.shape[1])
    for _ in range(n_repeats):
        hidden = hidden_bins(tuple(values.shape), random)
        weights = (~hidden).to(values.dtype)
        codes = decode(values, kernels, weights)
        drive = kernels.drive(codes)
        shown = drive[~hidden]  # events next to a hidden bin say nothing of it beyond what they say elsewhere
        told = _by_trial(link.loss(values, drive.clamp(shown.min(), shown.max())), hidden)
        rivals = rival_means(values, weights, kernels.shapes.shape[-1], link)
        known = [_by_trial(link.loss(values, link.drive(means)), hidden) for means in rivals]
        gain += np.stack([known[0], min(known[1:], key=np.sum)]) - told
        amount += _by_trial(torch.ones_like(values) if link.name == "gaussian" else values, hidden)
    return _summed(gain, amount)


def _by_trial(values: torch.Tensor, hidden: torch.Tensor) -> Floats:
    return torch.where(hidden, values, 0.0).sum((0, 2)).numpy()


def _summed(gain: Floats, amount: Floats) -> Score:
    """Return ratios of sums over trials, ``(2, n_trials)`` and ``(n_trials,)``, and their standard errors."""
    if not amount.sum():
        return Score(0.0, 0.0, float("nan"), float("nan"))
    ratios, n_trials = gain.sum(1) / amount.sum(), len(amount)
    errors = np.full(2, np.nan)
    if n_trials > 1:
        off = gain - ratios[:, None] * amount  # what each trial moves a ratio by, to first order
        errors = np.sqrt(np.square(off).sum(1) * n_trials / (n_trials - 1)) / amount.sum()
    return Score(float(ratios[0]), float(ratios[1]), float(errors[0]), float(errors[1]))


def halves_cosine(
    n_trials: int,
    fit: Callable[[npt.NDArray[np.intp], np.random.Generator], Floats],
    random: np.random.Generator,
    labelled: bool,
) -> float:
    """Return how well kernels from two halves of the trials agree: the worst cosine of all kernels and neurons.

    Parameters
    ----------
    n_trials : int
    fit : callable
        Takes the trials of one half and a generator, and returns kernels ``([n_neurons,] n_kernels, kernel_length)``.
    random : numpy.random.Generator
    labelled : bool
        Whether it is known which kernel is which, and when it begins. Otherwise they are matched and shifted.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> halves_cosine(6, lambda trials, random: np.eye(2, 5), np.random.default_rng(0), True)
    1.0
    """
    order = random.permutation(n_trials)
    one, other = (np.atleast_3d(fit(part, random).T).T for part in (order[: n_trials // 2], order[n_trials // 2 :]))
    if labelled:
        sizes = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        return float(((one * other).sum(-1) / np.maximum(sizes, 1e-12)).min())
    return float(min(match_kernels(a, b).cosines.min() for a, b in zip(one, other, strict=True)))
