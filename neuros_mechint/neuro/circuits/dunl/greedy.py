"""Greedy search for events under any link, with bins left out where asked: what is there, one bin for each event."""

from __future__ import annotations

import torch

from neuros_mechint.neuro.circuits.dunl.convolution import correlate
from neuros_mechint.neuro.circuits.dunl.encoding import AMPLITUDES, LEAST_GAIN, MOST_EVENTS_PER_KERNEL
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels
from neuros_mechint.neuro.circuits.dunl.known_events import codes_at_events
from neuros_mechint.neuro.circuits.dunl.links import Link

_UNLIKELY = 1e-9


class GreedySearch:
    """Adds the event that brings most likelihood to each trial until none brings six nats, refitting all amplitudes.

    Parameters
    ----------
    kernels : Kernels
    link : Link
    nonnegative : bool
        Whether no code may be negative.
    shared : bool
        Whether all neurons have their events at the same times: then their gains are added up.
    least_gain : float
        Nats.

    Examples
    --------
    >>> import torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> search = GreedySearch(Kernels(torch.ones(1, 4).double(), torch.zeros(1).double()), link_of("gaussian"))
    >>> values = torch.zeros(1, 1, 30).double()
    >>> values[..., 11:15] = 3.0
    >>> codes = search(values)
    >>> codes.nonzero()[:, -1].tolist(), round(codes.max().item(), 1)
    ([11], 3.0)
    """

    def __init__(
        self,
        kernels: Kernels,
        link: Link,
        nonnegative: bool = True,
        shared: bool = False,
        least_gain: float = LEAST_GAIN,
    ) -> None:
        self.kernels, self.link, self.nonnegative, self.shared = kernels, link, nonnegative, shared
        self.least_gain = least_gain

    def __call__(self, values: torch.Tensor, weights: torch.Tensor | None = None, sweeps: int = 1) -> torch.Tensor:
        """Return codes of the shape (n_neurons, n_trials, n_kernels, n_times).

        Parameters
        ----------
        values : torch.Tensor of shape (n_neurons, n_trials, n_times)
        weights : torch.Tensor of the same shape, optional
            What each value counts; 0 leaves it out.
        sweeps : int
            How often each event is taken away and searched anew beside all others.
        """
        weights = torch.ones_like(values) if weights is None else weights
        n_kernels = self.kernels.shapes.shape[-2]
        codes = values.new_zeros(*values.shape[:2], n_kernels, values.shape[-1])
        trials = torch.arange(values.shape[1])
        for _ in range(MOST_EVENTS_PER_KERNEL * n_kernels):
            shown = values[:, trials], weights[:, trials]
            added = self._best(*shown, codes[:, trials])
            more = added.flatten(2).any(-1).any(0)
            trials = trials[more]
            if not len(trials):
                break
            shown = values[:, trials], weights[:, trials]
            codes[:, trials] = self._refit(*shown, (codes[:, trials] != 0) | added[:, more])
        for _ in range(sweeps):
            self._sweep(values, weights, codes)
        return codes

    def _refit(self, values: torch.Tensor, weights: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
        return codes_at_events(values, support, self.kernels, self.link, self.nonnegative, weights)[0]

    def _sweep(self, values: torch.Tensor, weights: torch.Tensor, codes: torch.Tensor) -> None:
        there = codes != 0
        there = there.any(0, keepdim=True).expand(codes.shape) if self.shared else there
        turn = (there.flatten(2).cumsum(-1).view(codes.shape)) * there
        for place in range(1, int(turn.max()) + 1):
            at_place = turn == place
            trials = at_place.flatten(2).any(-1).any(0).nonzero()[:, 0]
            shown, mine = (values[:, trials], weights[:, trials]), at_place[:, trials]
            others = torch.where(mine, 0.0, codes[:, trials])
            again = self._best(*shown, others) & mine.flatten(2).any(-1)[..., None, None]
            codes[:, trials] = self._refit(*shown, (others != 0) | again)

    def _best(self, values: torch.Tensor, weights: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Return a mask of the best event to add to each trial, of those that are worth it."""
        gain = self._gains(values, weights, self.kernels.drive(codes))
        gain = gain.masked_fill(codes != 0, -torch.inf)
        if self.shared:
            gain = gain.sum(0, keepdim=True).expand(gain.shape)
        flat = gain.flatten(2)
        most, at = flat.max(-1, keepdim=True)
        found = torch.zeros(flat.shape, dtype=torch.bool).scatter_(-1, at, most > self.least_gain)
        return found.view(gain.shape)

    def _gains(self, values: torch.Tensor, weights: torch.Tensor, drive: torch.Tensor) -> torch.Tensor:
        """Return by how many nats an event at each place would raise the likelihood."""
        mean, shapes = self.link.mean(drive), self.kernels.shapes
        if self.link.name == "poisson":  # the one link for which large amplitudes need no more than a correlation
            evidence, best = correlate(weights * values, shapes), None
            sizes = AMPLITUDES if self.nonnegative else (*AMPLITUDES, *(-size for size in AMPLITUDES))
            for size in sizes:
                gain = size * evidence - correlate(weights * mean, torch.expm1(size * shapes))
                best = gain if best is None else torch.maximum(best, gain)
            assert best is not None
            return best
        slope = correlate(weights * (values - mean), shapes)
        slope = slope.clamp_min(0) if self.nonnegative else slope
        bend = correlate(weights * self.link.curvature(mean), shapes.square())
        return slope.square() / (2 * bend.clamp_min(_UNLIKELY))
