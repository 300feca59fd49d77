"""How large each event is, given where events are: a convex problem of a few numbers in each trial."""

from __future__ import annotations

from typing import NamedTuple

import torch

from neuros_mechint.neuro.circuits.dunl.links import Link

_MOST_STEPS, _HALVINGS = 25, 12
_SETTLED = 1e-6
_ROUNDING = 1e-12
_NUMBERS_AT_ONCE = 4_000_000


class Amplitudes(NamedTuple):
    """How large events of each kernel are before data are seen: normal, of these means and variances.

    Parameters
    ----------
    mean, variance : torch.Tensor of shape (n_kernels,)
    """

    mean: torch.Tensor
    variance: torch.Tensor


def any_amplitude(n_kernels: int) -> Amplitudes:
    """Return a distribution that says hardly anything: mean 0, standard deviation 10.

    Examples
    --------
    >>> any_amplitude(1).variance.tolist()
    [100.0]
    """
    return Amplitudes(torch.zeros(n_kernels, dtype=torch.float64), torch.full((n_kernels,), 100.0, dtype=torch.float64))


class Events(NamedTuple):
    """Events of each row, as many places for all as the row with most has.

    Parameters
    ----------
    kernels, times : torch.Tensor of shape (n_rows, n_places)
        Which kernel begins, and when.
    there : torch.Tensor of bool, of shape (n_rows, n_places)
        Whether the place is taken.
    """

    kernels: torch.Tensor
    times: torch.Tensor
    there: torch.Tensor


def listed(support: torch.Tensor) -> Events:
    """Return the events of a mask ``(n_rows, n_kernels, n_times)``, row by row.

    Examples
    --------
    >>> import torch
    >>> support = torch.zeros(2, 1, 4, dtype=torch.bool)
    >>> support[0, 0, 2] = support[1, 0, 1] = support[1, 0, 3] = True
    >>> listed(support).times.tolist(), listed(support).there.tolist()
    ([[2, 0], [1, 3]], [[True, False], [True, True]])
    """
    rows, kernels, times = support.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(support))
    place = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
    empty = torch.zeros(len(support), max(int(counts.max()), 1), dtype=torch.int64)
    found = Events(empty.clone(), empty.clone(), empty.bool())
    found.kernels[rows, place], found.times[rows, place], found.there[rows, place] = kernels, times, True
    return found


def fit_amplitudes(
    values: torch.Tensor,
    support: torch.Tensor,
    kernels: torch.Tensor,
    baseline: torch.Tensor,
    link: Link,
    nonnegative: bool = True,
    weights: torch.Tensor | None = None,
    prior: Amplitudes | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the most probable codes among those that are zero outside of a mask, and how uncertain each is.

    Parameters
    ----------
    values : torch.Tensor of shape (n_rows, n_times)
        Trials.
    support : torch.Tensor of bool, of shape (n_rows, n_kernels, n_times)
    kernels : torch.Tensor of shape (n_kernels, kernel_length)
    baseline : torch.Tensor of shape ()
    link : Link
    nonnegative : bool
    weights : torch.Tensor of shape (n_rows, n_times), optional
        What each value counts; 0 leaves it out.
    prior : Amplitudes, optional
        By default that of `any_amplitude`.

    Returns
    -------
    codes, variance : torch.Tensor of shape (n_rows, n_kernels, n_times)
        The variance is that of the normal distribution with the curvature at the mode.

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> support = torch.tensor([[[True, False, False, False]]])
    >>> values, kernels = torch.tensor([[2.0, 1.0, 0.0, 0.0]]).double(), torch.tensor([[1.0, 0.5]]).double()
    >>> codes, _ = fit_amplitudes(values, support, kernels, torch.tensor(0.0).double(), link_of("gaussian"))
    >>> round(codes[0, 0, 0].item(), 3)  # 2.5 / (1.25 + 0.01)
    1.984
    """
    codes, variance = values.new_zeros(support.shape), values.new_zeros(support.shape)
    weights = torch.ones_like(values) if weights is None else weights
    prior = any_amplitude(len(kernels)) if prior is None else prior
    events = listed(support)
    at_once = max(1, _NUMBERS_AT_ONCE // (events.there.shape[1] * values.shape[1]))
    for first in range(0, len(values), at_once):
        rows = slice(first, first + at_once)
        own = Events(*(part[rows] for part in events))
        problem = _Problem(
            values[rows], weights[rows], _shapes(own, kernels, values.shape[1]), own, baseline, link, prior
        )
        found, uncertain = _newton(problem, nonnegative)
        row, place = own.there.nonzero(as_tuple=True)
        at = (row + first, own.kernels[row, place], own.times[row, place])
        codes[at], variance[at] = found[row, place], uncertain[row, place]
    return codes, variance


def _shapes(events: Events, kernels: torch.Tensor, n_times: int) -> torch.Tensor:
    """Return the kernel of each event where it lies in time, ``(n_rows, n_places, n_times)``."""
    lag = torch.arange(n_times) - events.times[..., None]
    inside = (lag >= 0) & (lag < kernels.shape[1]) & events.there[..., None]
    return kernels[events.kernels[..., None], lag.clamp(0, kernels.shape[1] - 1)] * inside


class _Problem(NamedTuple):
    values: torch.Tensor
    weights: torch.Tensor
    shapes: torch.Tensor
    events: Events
    baseline: torch.Tensor
    link: Link
    prior: Amplitudes

    def drive(self, amplitudes: torch.Tensor) -> torch.Tensor:
        return self.baseline + (amplitudes[:, None] @ self.shapes)[:, 0]

    def surprise(self, amplitudes: torch.Tensor) -> torch.Tensor:
        """Return the slope of the penalty: by how many variances amplitudes are off their mean."""
        kernels = self.events.kernels
        return (amplitudes - self.prior.mean[kernels]) / self.prior.variance[kernels] * self.events.there

    def loss(self, amplitudes: torch.Tensor) -> torch.Tensor:
        off = self.surprise(amplitudes).square() * self.prior.variance[self.events.kernels]
        return (self.weights * self.link.loss(self.values, self.drive(amplitudes))).sum(1) + off.sum(1) / 2

    def derivatives(self, amplitudes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.link.mean(self.drive(amplitudes))
        slope = (self.shapes @ (self.weights * (mean - self.values))[..., None])[..., 0] + self.surprise(amplitudes)
        bend = (self.shapes * (self.weights * self.link.curvature(mean))[:, None]) @ self.shapes.mT
        return slope, bend + torch.diag_embed(1 / self.prior.variance[self.events.kernels])


def _newton(problem: _Problem, nonnegative: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return amplitudes by damped Newton steps, among those free to move where they may not be negative."""
    there = problem.events.there
    amplitudes = problem.prior.mean[problem.events.kernels] * there
    loss = problem.loss(amplitudes)
    bend = problem.derivatives(amplitudes)[1]
    for _ in range(_MOST_STEPS):
        slope, bend = problem.derivatives(amplitudes)
        free = there & ((amplitudes > 0) | (slope < 0)) if nonnegative else there
        of_free = bend * (free[:, :, None] & free[:, None]) + torch.diag_embed((~free).to(bend.dtype))
        step = torch.linalg.solve(of_free, (slope * free)[..., None])[..., 0]
        trial, after = _shortened(problem, amplitudes, step, loss, nonnegative)
        moved = (trial - amplitudes).abs().max()
        amplitudes, loss = trial, after
        if moved < _SETTLED:
            break
    return amplitudes, torch.linalg.inv(bend).diagonal(dim1=1, dim2=2)


def _shortened(
    problem: _Problem, amplitudes: torch.Tensor, step: torch.Tensor, loss: torch.Tensor, nonnegative: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return amplitudes after a step that is halved where it would make the loss larger, and the loss."""
    size = torch.ones_like(loss)
    trial, after, worse = amplitudes, loss, torch.ones_like(loss, dtype=torch.bool)
    for _ in range(_HALVINGS):
        trial = amplitudes - size[:, None] * step
        trial = trial.clamp_min(0) if nonnegative else trial
        after = problem.loss(trial)
        worse = after > loss + _ROUNDING * loss.abs()
        if not worse.any():
            break
        size[worse] /= 2
    return torch.where(worse[:, None], amplitudes, trial), torch.where(worse, loss, after)
