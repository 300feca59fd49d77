"""The encoder: iterations of FISTA, unrolled into a network whose weights are the kernels of the decoder."""

from __future__ import annotations

from typing import NamedTuple

import torch

from neuros_mechint.neuro.circuits.dunl.convolution import correlate, gain_bound
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels
from neuros_mechint.neuro.circuits.dunl.links import Link

_DOUBLINGS = 30
_ROUNDING = 1000  # units in the last place of the summed loss


class Encoder(NamedTuple):
    r"""Iterations :math:`x \leftarrow \mathrm{prox}(z + H^\top (y - \mathrm{mean}(Hz + a)) / L)` with momentum.

    They go down on the loss of the link plus ``penalty`` times the absolute codes. Each trial has a step of its own,
    halved wherever the loss would exceed its quadratic bound, and loses its momentum where it goes uphill.

    Parameters
    ----------
    link : Link
    penalty : torch.Tensor
        What an absolute code of 1 costs, in nats; broadcast over (n_neurons, n_trials, n_kernels, n_times).
    nonnegative : bool
        Whether no code may be negative.
    grouped : bool
        Penalise the root of the summed squares over neurons instead of the sum of absolute codes: all neurons have an
        event, or none.
    n_iterations : int
    n_differentiated : int
        How many of the last iterations gradients go back through.
    tolerance : float
        Stop once no code changes by more, where nothing is differentiated.
    """

    link: Link
    penalty: torch.Tensor
    nonnegative: bool = True
    grouped: bool = False
    n_iterations: int = 100
    n_differentiated: int = 0
    tolerance: float = 0.0

    def __call__(
        self,
        values: torch.Tensor,
        kernels: Kernels,
        support: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        start: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return codes, through which gradients flow to the kernels and the penalty.

        Parameters
        ----------
        values : torch.Tensor of shape (n_neurons, n_trials, n_times)
        kernels : Kernels
        support : torch.Tensor of bool, broadcast over codes, optional
            Where codes may differ from zero.
        weights : torch.Tensor of the shape of values, optional
            What each value counts; 0 leaves it out.
        start : torch.Tensor of the shape of codes, optional
            Zeros by default.

        Returns
        -------
        torch.Tensor of shape (n_neurons, n_trials, n_kernels, n_times)

        Examples
        --------
        >>> import torch
        >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
        >>> encoder = Encoder(link_of("gaussian"), torch.tensor(0.5))
        >>> kernels = Kernels(torch.ones(1, 1).double(), torch.zeros(1).double())
        >>> encoder(torch.tensor([[[0.2, 3.0]]]).double(), kernels).round(decimals=6).tolist()
        [[[[0.0, 2.5]]]]
        """
        n_neurons, n_trials, n_times = values.shape
        shape = (n_neurons, n_trials, kernels.shapes.shape[-2], n_times)
        codes = values.new_zeros(shape) if start is None else start
        weights = torch.ones_like(values) if weights is None else weights
        descent = _Descent(self, values, weights, kernels, support, codes)
        with torch.no_grad():
            for _ in range(self.n_iterations - self.n_differentiated):
                if descent.iterate() <= self.tolerance:
                    break
        if self.n_differentiated:
            if self.n_differentiated < self.n_iterations:
                descent.forget_gradients()
            for _ in range(self.n_differentiated):
                descent.iterate()
        return descent.codes

    def objective(
        self, values: torch.Tensor, kernels: Kernels, codes: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return what the iterations make small, summed over everything."""
        loss = self.link.loss(values, kernels.drive(codes))
        size = codes.norm(dim=0, keepdim=True) if self.grouped else codes.abs()
        return (loss if weights is None else weights * loss).sum() + (self.penalty * size).sum()

    def shrink(self, codes: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        """Return the proximal step of the penalty."""
        if self.nonnegative:
            codes = codes.clamp_min(0)
        if self.grouped:
            size = codes.norm(dim=0, keepdim=True)
            return codes * (1 - threshold / size.clamp_min(1e-300)).clamp_min(0)
        return codes.sign() * (codes.abs() - threshold).clamp_min(0)


class _Descent:
    """The state between two iterations."""

    def __init__(
        self,
        encoder: Encoder,
        values: torch.Tensor,
        weights: torch.Tensor,
        kernels: Kernels,
        support: torch.Tensor | None,
        codes: torch.Tensor,
    ) -> None:
        self.encoder, self.values, self.weights, self.kernels, self.support = encoder, values, weights, kernels, support
        self.codes = self.ahead = codes
        self.together = (0, 2, 3) if encoder.grouped else (2, 3)
        n_steps = (1 if encoder.grouped else len(values), values.shape[1], 1, 1)
        level = encoder.link.curvature(encoder.link.mean(kernels.baseline)).max() + 1e-6
        self.bound = (gain_bound(kernels.shapes) * level).expand(n_steps)
        self.momentum = torch.ones(n_steps, dtype=values.dtype)
        self._drive_all()

    def _drive_all(self) -> None:
        self.drive, self.drive_ahead = self.kernels.drive(self.codes), self.kernels.drive(self.ahead)

    def forget_gradients(self) -> None:
        self.codes, self.ahead, self.bound = self.codes.detach(), self.ahead.detach(), self.bound.detach()
        self._drive_all()

    def iterate(self) -> float:
        """Go one step on, and return the largest change of a code."""
        mean = self.encoder.link.mean(self.drive_ahead)
        slope = correlate(self.weights * (mean - self.values), self.kernels.shapes)
        codes, drive = self._step(slope)
        for _ in range(_DOUBLINGS):
            too_long = self._beyond_bound(codes, drive, slope)
            if not too_long.any():
                break
            self.bound = torch.where(too_long, 2 * self.bound, self.bound)
            codes, drive = self._step(slope)
        with torch.no_grad():
            moved = codes - self.codes
            uphill = ((self.ahead - codes) * moved).sum(self.together, keepdim=True) > 0
            before = torch.where(uphill, 1.0, self.momentum)
            self.momentum = (1 + (1 + 4 * before.square()).sqrt()) / 2
            push = (before - 1) / self.momentum
        self.ahead = codes + push * (codes - self.codes)
        self.drive_ahead = drive + push[:, :, 0] * (drive - self.drive)
        self.codes, self.drive = codes, drive
        return float(moved.abs().max())

    def _step(self, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        codes = self.encoder.shrink(self.ahead - slope / self.bound, self.encoder.penalty / self.bound)
        if self.support is not None:
            codes = codes * self.support
        return codes, self.kernels.drive(codes)

    def _beyond_bound(self, codes: torch.Tensor, drive: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        """Return in which trials the loss is above the quadratic that the step relies on."""
        with torch.no_grad():
            link, moved = self.encoder.link, codes - self.ahead
            before = self.weights * link.loss(self.values, self.drive_ahead)
            change = (self.weights * link.loss(self.values, drive) - before).sum(-1)[..., None, None]
            if self.encoder.grouped:
                change, before = change.sum(0, keepdim=True), before.sum(0, keepdim=True)
            allowed = (slope * moved + self.bound / 2 * moved.square()).sum(self.together, keepdim=True)
            rounding = _ROUNDING * torch.finfo(before.dtype).eps * before.abs().sum(-1)[..., None, None]
            return change > allowed + rounding
