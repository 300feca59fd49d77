"""Lower bounds of information, from a network that is trained to tell pairs that belong together from others."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.random import SeedLike, generator, torch_generator

BATCH = 128
_HIDDEN, _PRODUCTS = 64, 32
_MOST_STEPS, _CHECK_EVERY, _PATIENCE = 3000, 100, 6
_LEARNING_RATE = 2e-3
_SHARES = (0.6, 0.8)  # the rest is held out


class Bound(NamedTuple):
    """What a trained network shows on samples that it has never seen.

    Parameters
    ----------
    value : float
        Lower bound in nats.
    error : float
        Standard error over the samples that were held out.
    n_held_out : int
    n_steps : int
        Of training, until it no longer improved on samples kept apart for that.
    """

    value: float
    error: float
    n_held_out: int
    n_steps: int


class _Critic:
    """A score for each pair of an x and a y: the product of what two networks make of them, and a part of each alone.

    One network over both would be asked once per pair, and takes thirty times as long to train.
    """

    def __init__(self, n_x: int, n_y: int, random: torch.Generator) -> None:
        self._networks = [dense_layers((n, _HIDDEN, _HIDDEN, _PRODUCTS + 1), random) for n in (n_x, n_y)]
        self.parameters = [tensor for network in self._networks for layer in network for tensor in layer]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the scores of all pairs, ``(n_x_samples, n_y_samples)``."""
        of_x, of_y = (applied(network, values) for network, values in zip(self._networks, (x, y), strict=True))
        return of_x[:, 1:] @ of_y[:, 1:].T + of_x[:, :1] + of_y[:, 0]


def dense_layers(sizes: tuple[int, ...], random: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Return weights and biases of a network of such sizes, to be trained."""
    return [
        (
            (torch.randn(into, out, generator=random) / math.sqrt(into)).requires_grad_(),
            torch.zeros(out).requires_grad_(),
        )
        for into, out in pairwise(sizes)
    ]


def applied(network: list[tuple[Tensor, Tensor]], values: Tensor) -> Tensor:
    """Return what the network makes of values; its hidden units are rectified."""
    *hidden, (weight, bias) = network
    for inner, offset in hidden:
        values = torch.relu(values @ inner + offset)
    return values @ weight + bias


def donsker_varadhan(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bound of MINE from the scores of all pairs, and what each sample adds to its error.

    The mean score of pairs that belong together, less the logarithm of the mean of exp(score) over all others.

    References
    ----------
    Belghazi et al. 2018, Mutual Information Neural Estimation, https://proceedings.mlr.press/v80/belghazi18a.html

    Examples
    --------
    >>> donsker_varadhan(torch.zeros(4, 4))[0].item()
    0.0
    """
    n_samples = len(scores)
    together = scores.diagonal()
    apart = scores.masked_fill(torch.eye(n_samples, dtype=torch.bool), -torch.inf)
    logarithm = torch.logsumexp(apart, dim=(0, 1)) - math.log(n_samples * (n_samples - 1))
    weight = (apart - logarithm).exp()
    shares = (weight.sum(0) + weight.sum(1)) / (n_samples - 1)  # each sample stands in a row and in a column
    return together.mean() - logarithm, together - shares


def contrastive(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bound of InfoNCE from the scores of all pairs in a batch, and what each sample adds to it.

    How much more likely the partner of each ``x`` is among all ``y`` than any: at most the logarithm of their number.

    References
    ----------
    Oord et al. 2018, Representation Learning with Contrastive Predictive Coding, doi:10.48550/arXiv.1807.03748

    Examples
    --------
    >>> round(contrastive(100 * torch.eye(8))[0].item(), 3)  # log 8
    2.079
    """
    pointwise = scores.diagonal() - torch.logsumexp(scores, 1) + math.log(len(scores))
    return pointwise.mean(), pointwise


def trained_bound(x: Floats, y: Floats, method: str, seed: SeedLike, progress: bool = False) -> Bound:
    """Return a lower bound of the information between two variables, on samples that were held out.

    Parameters
    ----------
    x : numpy.ndarray of shape (n_samples, n_x)
    y : numpy.ndarray of shape (n_samples, n_y)
        Each column of mean 0 and variance 1.
    method : {"mine", "infonce"}
    seed : int or numpy.random.Generator
        Deals the samples, draws the first weights and the batches.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    Bound
        Nothing is lost of it by overfitting: a network that learnt nothing general shows nothing.
    """
    numbers = generator(seed)
    random = torch_generator(numbers)
    order = numbers.permutation(len(x))
    first, second = (int(share * len(x)) for share in _SHARES)
    parts = [[torch.from_numpy(v[rows]).float() for v in (x, y)] for rows in np.split(order, [first, second])]
    objective = donsker_varadhan if method == "mine" else contrastive
    critic = _Critic(x.shape[1], y.shape[1], random)
    n_steps = _train(critic, objective, parts[0], parts[1], random, progress)
    with torch.no_grad():
        # scored in batches as large as in training: the bound of InfoNCE depends on their size
        values, pointwise = _held_out(critic, objective, *parts[2])
    error = pointwise.std().item() / math.sqrt(len(pointwise))
    return Bound(values, error, len(parts[2][0]), n_steps)


def _train(
    critic: _Critic,
    objective: Callable[[Tensor], tuple[Tensor, Tensor]],
    learnt: list[Tensor],
    checked: list[Tensor],
    random: torch.Generator,
    progress: bool,
) -> int:
    """Train a critic, leave it where it was best on the samples to check it by, and return after how many steps."""
    optimiser = torch.optim.Adam(critic.parameters, lr=_LEARNING_RATE)
    best, at, kept = -torch.inf, 0, [tensor.detach().clone() for tensor in critic.parameters]
    for step in progress_bar(range(1, _MOST_STEPS + 1), description="bound", enabled=progress):
        rows = torch.randint(len(learnt[0]), (BATCH,), generator=random)
        loss = -objective(critic(*(part[rows] for part in learnt)))[0]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % _CHECK_EVERY:
            continue
        with torch.no_grad():
            found = _held_out(critic, objective, *checked)[0]
        if found > best:
            best, at, kept = found, step, [tensor.detach().clone() for tensor in critic.parameters]
        elif step - at >= _PATIENCE * _CHECK_EVERY:
            break
    with torch.no_grad():
        for tensor, value in zip(critic.parameters, kept, strict=True):
            tensor.copy_(value)
    return at


def _held_out(
    critic: _Critic, objective: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor, y: Tensor
) -> tuple[float, Tensor]:
    """Return the mean of the bound over batches, and what each sample adds to it."""
    size = min(BATCH, len(x))
    found = [objective(critic(x[s : s + size], y[s : s + size])) for s in range(0, len(x) - size + 1, size)]
    return float(np.mean([value.item() for value, _ in found])), torch.cat([pointwise for _, pointwise in found])
