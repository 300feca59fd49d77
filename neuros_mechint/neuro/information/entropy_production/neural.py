"""Entropy production of continuous processes from a network that is trained to tell steps from their reverse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.random import torch_generator
from neuros_mechint.neuro.information.entropy_production.stretches import Sums
from neuros_mechint.neuro.information.estimators.neural import applied, dense_layers

_HIDDEN = 64
_BATCH = 4096
_LEARNING_RATE = 2e-3
_MOST_STEPS, _CHECK_EVERY, _PATIENCE = 2000, 50, 8
_SHARES = (0.5, 0.7)  # the rest is held out


class _Arrow:
    """How much likelier a step is than its reverse: a network of the middle and the change, odd in the change."""

    def __init__(self, n_units: int, random: torch.Generator) -> None:
        self._network = dense_layers((2 * n_units, _HIDDEN, _HIDDEN, 1), random)
        with torch.no_grad():
            self._network[-1][0].zero_()  # it begins with no arrow
        self.parameters = [tensor for layer in self._network for tensor in layer]

    def __call__(self, middle: Tensor, change: Tensor) -> Tensor:
        """Return the log ratio of each step, ``(n_steps,)``."""
        both = torch.cat([torch.cat([middle, sign * change], 1) for sign in (1, -1)])
        forth, back = applied(self._network, both).chunk(2)
        return (forth - back)[:, 0]


def lower_bound(log_ratio: Tensor) -> Tensor:
    """Return a bound per step: the mean of ``s - exp(-s) + 1``, which is largest where ``s`` is the log ratio itself.

    References
    ----------
    Kim et al. 2020, Learning entropy production via neural networks, doi:10.1103/PhysRevLett.125.140604

    Examples
    --------
    >>> lower_bound(torch.zeros(3)).item()
    0.0
    """
    return (log_ratio - torch.exp(-log_ratio) + 1).mean()


def trained_sums(stretches: Sequence[Floats], random: np.random.Generator, progress: bool) -> Sums:
    """Train on half of the stretches, stop by a fifth, and return sums of the log ratio over steps of the others.

    Returns
    -------
    Sums
        Of the log ratio, of its negative exponential, and the number of steps.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> noise = [random.normal(size=(20, 2)) for _ in range(20)]
    >>> trained_sums(noise, random, progress=False).forward.shape
    (6, 3)
    """
    order = random.permutation(len(stretches))
    pairs = [((values[1:] + values[:-1]) / 2, np.diff(values, axis=0)) for values in (stretches[at] for at in order)]
    first, second = (int(share * len(pairs)) for share in _SHARES)
    scale = [np.concatenate([pair[side] for pair in pairs[:first]]).std(0) for side in (0, 1)]
    steps = [tuple(torch.from_numpy(pair[side] / scale[side]).float() for side in (0, 1)) for pair in pairs]
    learnt, checked = (
        [torch.cat(parts) for parts in zip(*some, strict=True)] for some in (steps[:first], steps[first:second])
    )
    numbers = torch_generator(random)
    arrow = _Arrow(stretches[0].shape[1], numbers)
    _train(arrow, learnt, checked, numbers, progress)
    with torch.no_grad():
        ratios = [arrow(*pair).double().numpy() for pair in steps[second:]]
    forward, backward = (
        np.array([[(sign * one).sum(), np.exp(-sign * one).sum(), len(one)] for one in ratios]) for sign in (1, -1)
    )
    return Sums(forward, backward)


def bound_per_time(sums: Floats, dt: float) -> float:
    """Return the bound from sums over steps, as `trained_sums` has them.

    Examples
    --------
    >>> bound_per_time(np.array([0.0, 5.0, 5.0]), 0.1)
    0.0
    """
    return float((sums[0] - sums[1] + sums[2]) / (sums[2] * dt))


def _train(
    arrow: _Arrow, learnt: Sequence[Tensor], checked: Sequence[Tensor], random: torch.Generator, progress: bool
) -> None:
    """Train, and leave the network where it was best on the steps to check it by."""
    optimiser = torch.optim.Adam(arrow.parameters, lr=_LEARNING_RATE)
    best, at, kept = 0.0, 0, [tensor.detach().clone() for tensor in arrow.parameters]
    for step in progress_bar(range(1, _MOST_STEPS + 1), description="arrow of time", enabled=progress):
        rows = torch.randint(len(learnt[0]), (min(_BATCH, len(learnt[0])),), generator=random)
        loss = -lower_bound(arrow(*(part[rows] for part in learnt)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % _CHECK_EVERY:
            continue
        with torch.no_grad():
            found = lower_bound(arrow(*checked)).item()
        if found > best:
            best, at, kept = found, step, [tensor.detach().clone() for tensor in arrow.parameters]
        elif step - at >= _PATIENCE * _CHECK_EVERY:
            break
    with torch.no_grad():
        for tensor, value in zip(arrow.parameters, kept, strict=True):
            tensor.copy_(value)
