"""Amplitudes of events whose kernels and times are given: damped Newton steps for all trials at once."""

from __future__ import annotations

from typing import NamedTuple

import torch

from neuros_mechint.neuro.circuits.dunl.links import Link

MOST_AMPLITUDE = 5.0
"""Largest amplitude: e to the power of five is more than any rate is multiplied by."""
_RIDGE = 0.01
_HALVINGS = 4


def newton_amplitudes(
    values: torch.Tensor,
    shapes: torch.Tensor,
    there: torch.Tensor,
    baseline: torch.Tensor,
    link: Link,
    start: torch.Tensor,
    n_steps: int,
) -> torch.Tensor:
    """Return amplitudes between 0 and 5 after a few joint Newton steps in every row.

    Parameters
    ----------
    values : torch.Tensor of shape (n_rows, n_times)
    shapes : torch.Tensor of shape (n_rows, n_places, n_times)
        The kernel of each event where it lies in time.
    there : torch.Tensor of bool, of shape (n_rows, n_places)
        Which places hold an event.
    baseline : torch.Tensor of shape (n_rows, 1)
    link : Link
    start : torch.Tensor of shape (n_rows, n_places)
    n_steps : int
        Each is halved where it would lose likelihood.

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
    >>> found = newton_amplitudes(values, torch.ones(1, 1, 3).double(), there, zero, link_of("poisson"), zero + 1, 5)
    >>> round(found.exp().item(), 1)
    6.0
    """
    amplitudes = start * there
    problem = _Problem(values, shapes, baseline, link)
    loss = problem.loss(amplitudes)
    for _ in range(n_steps):
        step = problem.step(amplitudes, there)
        trial = (amplitudes - step).clamp(0, MOST_AMPLITUDE)
        after = problem.loss(trial)
        for halving in range(1, _HALVINGS + 1):
            worse = (after > loss).nonzero()[:, 0]
            if not len(worse):
                break
            trial[worse] = (amplitudes[worse] - step[worse] / 2**halving).clamp(0, MOST_AMPLITUDE)
            after[worse] = problem.of(worse).loss(trial[worse])
        better = after <= loss
        amplitudes, loss = torch.where(better[:, None], trial, amplitudes), torch.where(better, after, loss)
    return amplitudes


class _Problem(NamedTuple):
    values: torch.Tensor
    shapes: torch.Tensor
    baseline: torch.Tensor
    link: Link

    def of(self, rows: torch.Tensor) -> _Problem:
        return _Problem(self.values[rows], self.shapes[rows], self.baseline[rows], self.link)

    def drive(self, amplitudes: torch.Tensor) -> torch.Tensor:
        return self.baseline + (amplitudes[:, None] @ self.shapes)[:, 0]

    def loss(self, amplitudes: torch.Tensor) -> torch.Tensor:
        fit = self.link.loss(self.values, self.drive(amplitudes)).sum(1)
        return fit + _RIDGE / 2 * amplitudes.square().sum(1)

    def step(self, amplitudes: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Return Newton's step over the amplitudes that are free to move."""
        mean = self.link.mean(self.drive(amplitudes))
        slope = (self.shapes @ (mean - self.values)[..., None])[..., 0] + _RIDGE * amplitudes
        held = ((amplitudes <= 0) & (slope > 0)) | ((amplitudes >= MOST_AMPLITUDE) & (slope < 0))
        free = there & ~held
        bend = (self.shapes * self.link.curvature(mean)[:, None]) @ self.shapes.mT
        bend = bend * (free[:, :, None] & free[:, None]) + torch.diag_embed(torch.where(free, _RIDGE, 1.0))
        return torch.linalg.solve(bend, (slope * free)[..., None])[..., 0]
