"""Which kernels and baselines are most likely, given codes: a generalised linear model, by Newton's method."""

from __future__ import annotations

from typing import NamedTuple

import torch

from neuros_mechint.neuro.circuits.dunl.convolution import convolve
from neuros_mechint.neuro.circuits.dunl.links import Link

RIDGE = 0.3
"""Penalty on half the squared kernel, beside the likelihood in nats."""
_HALVINGS = 20
_SETTLED = 1e-9


class Kernels(NamedTuple):
    """What makes a drive of codes.

    Parameters
    ----------
    shapes : torch.Tensor of shape (n_kernels, kernel_length) or (n_neurons, n_kernels, kernel_length)
    baseline : torch.Tensor of shape (n_neurons,)
    """

    shapes: torch.Tensor
    baseline: torch.Tensor

    def drive(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the drive of codes ``(n_neurons, n_trials, n_kernels, n_times)``."""
        return self.baseline[:, None, None] + convolve(codes, self.shapes)

    def of(self, neurons: slice) -> Kernels:
        """Return those of some neurons."""
        return Kernels(self.shapes if self.shapes.ndim == 2 else self.shapes[neurons], self.baseline[neurons])


def fit_kernels(
    values: torch.Tensor,
    codes: torch.Tensor,
    start: Kernels,
    link: Link,
    smoothness: float,
    n_steps: int = 2,
    weights: torch.Tensor | None = None,
) -> Kernels:
    r"""Return kernels after some Newton steps on the penalised likelihood, codes held.

    The penalty is :math:`s / 2 \sum_l (h_{l-1} - 2 h_l + h_{l+1})^2 + .15 |h|^2` for each kernel.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
    codes : torch.Tensor of shape (n_neurons, n_trials, n_kernels, n_times)
    start : Kernels
        Where each neuron has its own, they are fitted each for itself.
    link : Link
    smoothness : float
        The factor s.
    n_steps : int
        At most; fewer where they settle.
    weights : torch.Tensor of shape (n_neurons, n_trials, n_times), optional
        What each value counts.

    Returns
    -------
    Kernels

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> codes = torch.zeros(1, 1, 1, 50).double()
    >>> codes[0, 0, 0, ::10] = 3
    >>> truth = Kernels(torch.tensor([[1.0, 0.5]]).double(), torch.tensor([2.0]).double())
    >>> start = Kernels(torch.zeros(1, 2).double(), torch.zeros(1).double())
    >>> fit_kernels(truth.drive(codes), codes, start, link_of("gaussian"), 0.0).shapes.round(decimals=2).tolist()
    [[0.99, 0.5]]
    """
    weights = torch.ones_like(values) if weights is None else weights
    if start.shapes.ndim == 2:
        return _newton(values, codes, start, link, smoothness, n_steps, weights)
    found = []
    for neuron in range(len(values)):
        own = slice(neuron, neuron + 1)
        alone = Kernels(start.shapes[neuron], start.baseline[own])
        found.append(_newton(values[own], codes[own], alone, link, smoothness, n_steps, weights[own]))
    return Kernels(torch.stack([one.shapes for one in found]), torch.cat([one.baseline for one in found]))


def penalty_matrix(n_kernels: int, kernel_length: int, smoothness: float, ridge: float = RIDGE) -> torch.Tensor:
    """Return the matrix of the quadratic penalty on all kernels, one after the other.

    Examples
    --------
    >>> penalty_matrix(1, 3, 1.0, 0.0).tolist()
    [[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]
    """
    unit = torch.eye(kernel_length, dtype=torch.float64)
    bend = unit[2:] - 2 * unit[1:-1] + unit[:-2]
    one = smoothness * bend.mT @ bend + ridge * unit
    return torch.block_diag(*[one] * n_kernels)


class _Lags(NamedTuple):
    """Where events and pairs of events of one trial meet, lag by lag: what gradients and Hessians are summed over."""

    row: torch.Tensor
    kernel: torch.Tensor
    time: torch.Tensor
    code: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor


def _lags(codes: torch.Tensor, kernel_length: int) -> _Lags:
    row, kernel, time = codes.nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=len(codes))
    begin = (counts.cumsum(0) - counts)[row]
    first = torch.arange(len(row)).repeat_interleave(counts[row])
    partners = counts[row]
    place = torch.arange(len(first)) - (partners.cumsum(0) - partners).repeat_interleave(partners)
    second = begin[first] + place
    near = (time[second] - time[first]).abs() < kernel_length
    return _Lags(row, kernel, time, codes[row, kernel, time], first[near], second[near])


def _newton(
    values: torch.Tensor,
    codes: torch.Tensor,
    start: Kernels,
    link: Link,
    smoothness: float,
    n_steps: int,
    weights: torch.Tensor,
) -> Kernels:
    n_neurons, n_kernels, length = len(values), *start.shapes.shape
    penalty = penalty_matrix(n_kernels, length, smoothness)
    lags = _lags(codes.flatten(0, 1), length)

    def loss_of(kernels: Kernels) -> torch.Tensor:
        flat = kernels.shapes.flatten()
        return (weights * link.loss(values, kernels.drive(codes))).sum() + flat @ penalty @ flat / 2

    kernels, loss = start, loss_of(start)
    for _ in range(n_steps):
        mean = link.mean(kernels.drive(codes))
        slope, bend = _derivatives(weights * (mean - values), weights * link.curvature(mean), lags, start.shapes.shape)
        slope[: n_kernels * length] += penalty @ kernels.shapes.flatten()
        bend[: n_kernels * length, : n_kernels * length] += penalty
        step = torch.linalg.solve(bend, slope)
        size, before = 1.0, loss
        for _ in range(_HALVINGS):
            trial = Kernels(
                kernels.shapes - size * step[:-n_neurons].view(n_kernels, length),
                kernels.baseline - size * step[-n_neurons:],
            )
            after = loss_of(trial)
            if after <= before:
                kernels, loss = trial, after
                break
            size /= 2
        if before - loss <= _SETTLED * before.abs():
            break
    return kernels


def _derivatives(
    slope: torch.Tensor, bend: torch.Tensor, lags: _Lags, shape: torch.Size
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gradient and Hessian over kernels, then baselines, from those over the drive of each value."""
    n_kernels, length = shape
    (n_neurons, n_trials, n_times), n_shape = slope.shape, n_kernels * length
    lag = torch.arange(length)
    at = lags.time[:, None] + lag
    inside = at < n_times
    place = (lags.row[:, None] * n_times + at.clamp(max=n_times - 1)).flatten()
    into = (lags.kernel[:, None] * length + lag).flatten()
    neuron = (lags.row // n_trials).repeat_interleave(length)

    def by_event(over_drive: torch.Tensor) -> torch.Tensor:
        return (lags.code[:, None] * inside).flatten() * over_drive.flatten()[place]

    gradient = slope.new_zeros(n_shape + n_neurons).index_add_(0, into, by_event(slope))
    gradient[n_shape:] = slope.sum((1, 2))
    hessian = slope.new_zeros((n_shape + n_neurons) ** 2)
    beside = (n_shape + neuron) * (n_shape + n_neurons) + into
    hessian.index_add_(0, beside, by_event(bend))
    offset = lags.time[lags.first] - lags.time[lags.second]
    other = lag + offset[:, None]
    meet = inside[lags.first] & (other >= 0) & (other < length)
    rows = (lags.kernel[lags.first, None] * length + lag) * (n_shape + n_neurons)
    columns = lags.kernel[lags.second, None] * length + other
    weight = bend.flatten()[place.view(-1, length)[lags.first]]
    both = (lags.code[lags.first] * lags.code[lags.second])[:, None] * weight
    hessian.index_add_(0, (rows + columns)[meet], both[meet])
    hessian = hessian.view(n_shape + n_neurons, -1)
    hessian[:n_shape, n_shape:] = hessian[n_shape:, :n_shape].mT
    hessian[n_shape:, n_shape:] = torch.diag(bend.sum((1, 2)))
    return gradient, hessian
