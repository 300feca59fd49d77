"""How large each event is, given where events are: a convex problem of a few numbers in each trial."""

from __future__ import annotations

from typing import NamedTuple

import torch

from neuros_mechint.neuro.circuits.dunl.links import Link

_MOST_STEPS, _HALVINGS = 25, 8
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
    lowest = 0.0 if nonnegative else -torch.inf
    events = listed(support)
    at_once = max(1, _NUMBERS_AT_ONCE // (events.there.shape[1] * values.shape[1]))
    for first in range(0, len(values), at_once):
        rows = slice(first, first + at_once)
        own = Events(*(part[rows] for part in events))
        problem = Problem(
            values[rows],
            _shapes(own, kernels, values.shape[1]),
            own.there,
            baseline,
            link,
            prior.mean[own.kernels],
            1 / prior.variance[own.kernels],
            weights[rows],
        )
        found = newton(problem, problem.expected, lowest, torch.inf, _MOST_STEPS)
        uncertain = torch.linalg.inv(problem.derivatives(found)[1]).diagonal(dim1=1, dim2=2)
        row, place = own.there.nonzero(as_tuple=True)
        at = (row + first, own.kernels[row, place], own.times[row, place])
        codes[at], variance[at] = found[row, place], uncertain[row, place]
    return codes, variance


def _shapes(events: Events, kernels: torch.Tensor, n_times: int) -> torch.Tensor:
    """Return the kernel of each event where it lies in time, ``(n_rows, n_places, n_times)``."""
    lag = torch.arange(n_times) - events.times[..., None]
    inside = (lag >= 0) & (lag < kernels.shape[1]) & events.there[..., None]
    return kernels[events.kernels[..., None], lag.clamp(0, kernels.shape[1] - 1)] * inside


class Problem(NamedTuple):
    """Events of each row and what is known of their amplitudes, which together are to be most probable.

    Parameters
    ----------
    values : torch.Tensor of shape (n_rows, n_times)
    shapes : torch.Tensor of shape (n_rows, n_places, n_times)
        The kernel of each event where it lies in time; zero where no event is.
    there : torch.Tensor of bool, of shape (n_rows, n_places)
        Which places hold an event.
    baseline : torch.Tensor of shape () or (n_rows, 1)
    link : Link
    expected, precision : torch.Tensor of shape (n_rows, n_places) or ()
        Mean and inverse variance of amplitudes before data are seen.
    weights : torch.Tensor of shape (n_rows, n_times), optional
        What each value counts.
    """

    values: torch.Tensor
    shapes: torch.Tensor
    there: torch.Tensor
    baseline: torch.Tensor
    link: Link
    expected: torch.Tensor
    precision: torch.Tensor
    weights: torch.Tensor | None = None

    def of(self, rows: torch.Tensor) -> Problem:
        """Return that of some rows."""
        return self._replace(
            **{name: part[rows] for name, part in self._asdict().items() if name != "link" and _by_row(part)}
        )

    def drive(self, amplitudes: torch.Tensor) -> torch.Tensor:
        """Return the drive of each value."""
        return self.baseline + (amplitudes[:, None] @ self.shapes)[:, 0]

    def loss(self, amplitudes: torch.Tensor) -> torch.Tensor:
        """Return minus the log of the posterior of each row."""
        fit = self.link.loss(self.values, self.drive(amplitudes))
        off = self.precision * (amplitudes - self.expected).square() * self.there
        return (fit if self.weights is None else self.weights * fit).sum(1) + off.sum(1) / 2

    def derivatives(self, amplitudes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return gradient and Hessian of the loss."""
        mean = self.link.mean(self.drive(amplitudes))
        off, curvature = mean - self.values, self.link.curvature(mean)
        if self.weights is not None:
            off, curvature = self.weights * off, self.weights * curvature
        slope = (self.shapes @ off[..., None])[..., 0] + self.precision * (amplitudes - self.expected) * self.there
        bend = (self.shapes * curvature[:, None]) @ self.shapes.mT
        return slope, bend + torch.diag_embed(self.precision.expand(amplitudes.shape))

    def step(self, amplitudes: torch.Tensor, lowest: float, highest: float) -> torch.Tensor:
        """Return Newton's step over the amplitudes that are free to move."""
        slope, bend = self.derivatives(amplitudes)
        held = ((amplitudes <= lowest) & (slope > 0)) | ((amplitudes >= highest) & (slope < 0))
        free = self.there & ~held
        bend = bend * (free[:, :, None] & free[:, None]) + torch.diag_embed((~free).to(bend.dtype))
        return torch.linalg.solve(bend, (slope * free)[..., None])[..., 0]


def _by_row(part: torch.Tensor | None) -> bool:
    return part is not None and part.ndim > 0


def newton(problem: Problem, start: torch.Tensor, lowest: float, highest: float, n_steps: int) -> torch.Tensor:
    """Return amplitudes between two bounds after damped Newton steps in all rows at once.

    Parameters
    ----------
    problem : Problem
    start : torch.Tensor of shape (n_rows, n_places)
    lowest, highest : float
    n_steps : int
        At most. Each is halved in rows where it would lose likelihood.

    Returns
    -------
    torch.Tensor of shape (n_rows, n_places)
        Zero where no event is.

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> values, zero = torch.tensor([[6.0, 6.0, 6.0]]).double(), torch.zeros(1, 1).double()
    >>> there = torch.ones(1, 1, dtype=torch.bool)
    >>> problem = Problem(values, torch.ones(1, 1, 3).double(), there, zero, link_of("poisson"), zero, zero)
    >>> round(newton(problem, zero + 1, 0.0, 5.0, 6).exp().item(), 3)
    6.0
    """
    amplitudes = (start * problem.there).clamp(lowest, highest)
    loss = problem.loss(amplitudes)
    for _ in range(n_steps):
        step = problem.step(amplitudes, lowest, highest)
        trial = (amplitudes - step).clamp(lowest, highest)
        after, most = problem.loss(trial), loss + _ROUNDING * loss.abs()
        for halving in range(1, _HALVINGS + 1):
            worse = (after > most).nonzero()[:, 0]
            if not len(worse):
                break
            trial[worse] = (amplitudes[worse] - step[worse] / 2**halving).clamp(lowest, highest)
            after[worse] = problem.of(worse).loss(trial[worse])
        better = after <= most
        before, amplitudes = amplitudes, torch.where(better[:, None], trial, amplitudes)
        loss = torch.where(better, after, loss)
        if not ((amplitudes - before).abs() > _SETTLED).any():
            break
    return amplitudes
