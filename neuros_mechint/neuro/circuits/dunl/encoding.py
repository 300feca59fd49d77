"""Greedy search for events, given kernels and baseline: always the one that explains most of what is left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import real_array
from neuros_mechint.neuro.circuits.dunl.amplitudes import Problem, any_amplitude, newton
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels
from neuros_mechint.neuro.circuits.dunl.links import MOST_LOG_RATE, link_of
from neuros_mechint.neuro.circuits.dunl.observations import observations

LEAST_GAIN = 6.0
"""Nats of likelihood that an event must bring, for it is improbable in itself: one in 400 bins has the odds exp(-6)."""
AMPLITUDES = (0.5, 1.0, 1.6, 2.4, 3.4)
"""What is tried of an event before its amplitude is refined."""
MOST_EVENTS_PER_KERNEL = 7
_STEPS, _LAST_STEPS = 2, 6
_MOST_AMPLITUDE = 5.0  # e to the power of five is more than any rate is multiplied by
_ANOTHER = 3  # bins from which on an event of the same kernel is another one
_ROWS_AT_ONCE = 512


def greedy_codes(
    values: torch.Tensor, kernels: Kernels, least_gain: float = LEAST_GAIN, sweeps: int = 0, thorough: bool = False
) -> torch.Tensor:
    """Return the codes of Poisson counts, event by event, amplitudes refitted together after each.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
        Counts.
    kernels : Kernels
        Shared by all neurons.
    least_gain : float
        Nats below which no event is taken.
    sweeps : int
        How often each event is taken away and searched anew, beside all others.
    thorough : bool
        Whether every sweep also tries whether two other events do better than one, and pairs that overlap are searched
        anew in the end.

    Returns
    -------
    torch.Tensor of shape (n_neurons, n_trials, n_kernels, n_times)

    Examples
    --------
    >>> import torch
    >>> kernels = Kernels(torch.ones(1, 4).double(), torch.zeros(1).double())
    >>> values = torch.ones(1, 1, 20).double()
    >>> values[..., 6:10] = 8
    >>> codes = greedy_codes(values, kernels)
    >>> codes.nonzero()[:, -1].tolist(), round(codes.max().exp().item())
    ([6], 8)
    """
    n_neurons, n_trials, n_times = values.shape
    baseline = kernels.baseline.repeat_interleave(n_trials)[:, None]
    rows = values.flatten(0, 1)
    parts = []
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        here = slice(first, first + _ROWS_AT_ONCE)
        search = _Search(rows[here], kernels.shapes, baseline[here], least_gain)
        search.grow()
        for _ in range(sweeps):
            search.sweep()
            if thorough:
                search.exchange()
        if thorough:
            search.exchange_pairs()
        parts.append(search.codes())
    return torch.cat(parts).view(n_neurons, n_trials, -1, n_times)


def decode_events(counts: npt.ArrayLike, kernels: npt.ArrayLike, baseline: npt.ArrayLike) -> Floats:
    """Return the codes of counts under given kernels and baseline: with the true ones, what nobody can learn to beat.

    Parameters
    ----------
    counts : array_like of shape ([n_neurons,] n_trials, n_times)
    kernels : array_like of shape (n_kernels, kernel_length)
    baseline : array_like of shape ([n_neurons])
        Log-rate without events.

    Returns
    -------
    numpy.ndarray of shape ([n_neurons,] n_trials, n_kernels, n_times)

    Raises
    ------
    InputError
        If counts are no counts, kernels longer than trials or beyond 20, or baselines of another number of neurons.

    Examples
    --------
    >>> from neuros_mechint.neuro.circuits.dunl.encoding import decode_events
    >>> import numpy as np
    >>> counts = np.ones((5, 20))
    >>> counts[0, 6:10] = 8
    >>> np.argwhere(decode_events(counts, np.ones((1, 4)), 0.0)).tolist()
    [[0, 0, 6]]
    """
    shapes, levels = real_array(kernels, "kernels"), real_array(baseline, "baselines").ravel()
    if shapes.ndim != 2 or not shapes.size or np.abs(shapes).max() > MOST_LOG_RATE:
        raise InputError(
            "these are no kernels",
            expected=f"(n_kernels, kernel_length), up to {MOST_LOG_RATE:g}",
            got=f"shape {shapes.shape}, up to {np.abs(shapes).max(initial=0):.4g}",
            fix="divide kernels by their largest absolute value",
        )
    data = observations(counts, link_of("poisson"), shapes.shape[1])
    if len(levels) not in (1, len(data.values)) or levels.max() > MOST_LOG_RATE:
        raise InputError(
            "baselines do not fit the counts",
            expected=f"one log-rate for each of {len(data.values)} neurons, up to {MOST_LOG_RATE:g}",
            got=f"{len(levels)}, up to {levels.max(initial=-np.inf):.4g}",
        )
    level = torch.from_numpy(levels).expand(len(data.values))
    shapes = torch.from_numpy(shapes)
    return data.shaped(greedy_codes(data.values, Kernels(shapes, level), sweeps=2, thorough=True))


class _Search:
    """Events of some rows while they are searched, in as many places as the row with most has."""

    def __init__(self, values: torch.Tensor, shapes: torch.Tensor, baseline: torch.Tensor, least_gain: float) -> None:
        self.values, self.kernels, self.baseline, self.least_gain = values, shapes, baseline, least_gain
        self.link, prior = link_of("poisson"), any_amplitude(1)
        self.prior = prior.mean[0], 1 / prior.variance[0]
        n_kernels, self.length = shapes.shape
        amplitudes = torch.tensor(AMPLITUDES, dtype=values.dtype)
        self.grid = amplitudes.repeat(n_kernels)
        self.of_kernel = torch.arange(n_kernels).repeat_interleave(len(amplitudes))
        scaled = (amplitudes[:, None] * shapes[:, None]).flatten(0, 1).float()
        self.excess = torch.expm1(scaled)
        self.evidence = self._windows(values) @ scaled.T
        self.most = MOST_EVENTS_PER_KERNEL * n_kernels
        n_rows, n_times = values.shape
        self.kernel = torch.zeros(n_rows, 0, dtype=torch.int64)
        self.time = self.kernel.clone()
        self.there = self.kernel.bool()
        self.amplitude = values.new_zeros(n_rows, 0)
        self.shapes = values.new_zeros(n_rows, 0, n_times)

    def grow(self) -> None:
        """Add events to every row until none is worth it."""
        rows = torch.arange(len(self.values))
        for place in range(self.there.shape[1], self.most):
            self._add_place()
            rows = self._fill(rows, place)
            if not len(rows):
                break
        self._refine(torch.arange(len(self.values)), _LAST_STEPS)

    def sweep(self) -> None:
        """Take each event away and search it anew, then for more."""
        for place in range(self.there.shape[1]):
            rows = self.there[:, place].nonzero()[:, 0]
            self._remove(rows, place)
            self._fill(rows, place)
        self._drop_empty_places()
        self.grow()

    def exchange(self) -> None:
        """Try to put two other events in the place of each: greed takes one for two of other kernels that overlap."""
        self._add_place()
        for place in range(self.there.shape[1] - 1):
            self._exchange(self.there[:, place].nonzero()[:, 0], place)
        self._refine(torch.arange(len(self.values)), _LAST_STEPS)
        self._drop_empty_places()

    def _exchange(self, rows: torch.Tensor, place: int) -> None:
        before, old = self._objective(rows), [part[rows].clone() for part in self._state()]
        kernel, time = self.kernel[rows, place], self.time[rows, place]
        self._remove(rows, place)
        near = (torch.arange(self.values.shape[1]) - time[:, None]).abs() <= _ANOTHER
        self._fill(rows, place, near[..., None] & (self.of_kernel == kernel[:, None, None]))
        spare = self.there.shape[1] - 1
        self._fill(rows[~self.there[rows, spare]], spare)
        self._restore(rows, self._objective(rows) <= before, old)

    def exchange_pairs(self) -> None:
        """Search two events that overlap anew, beginning with each kernel: one alone cannot leave without the other."""
        for second in range(self.there.shape[1]):
            for first in range(second):
                apart = (self.time[:, first] - self.time[:, second]).abs()
                both = self.there[:, first] & self.there[:, second] & (apart < self.length)
                for kernel in range(len(self.kernels)):
                    self._exchange_pair(both.nonzero()[:, 0], first, second, kernel)
        self._refine(torch.arange(len(self.values)), _LAST_STEPS)
        self._drop_empty_places()

    def _exchange_pair(self, rows: torch.Tensor, first: int, second: int, kernel: int) -> None:
        if not len(rows):
            return
        before, old = self._objective(rows), [part[rows].clone() for part in self._state()]
        for place in (first, second):
            self._remove(rows, place)
        self._fill(rows, first, self.of_kernel != kernel)
        for place in (second, first, second):
            self._remove(rows, place)
            self._fill(rows, place)
        self._restore(rows, self._objective(rows) <= before, old)

    def _restore(self, rows: torch.Tensor, worse: torch.Tensor, old: list[torch.Tensor]) -> None:
        for part, value in zip(self._state(), old, strict=True):
            part[rows[worse]] = value[worse]

    def _objective(self, rows: torch.Tensor) -> torch.Tensor:
        fit = self.link.loss(self.values[rows], self._drive(rows)).sum(1)
        return -fit - self.least_gain * self.there[rows].sum(1)

    def _state(self) -> tuple[torch.Tensor, ...]:
        return self.kernel, self.time, self.there, self.amplitude, self.shapes

    def _remove(self, rows: torch.Tensor, place: int) -> None:
        self.there[rows, place] = False
        self.amplitude[rows, place] = 0

    def codes(self) -> torch.Tensor:
        """Return what was found, ``(n_rows, n_kernels, n_times)``."""
        codes = self.values.new_zeros(len(self.values), len(self.kernels), self.values.shape[1])
        row, place = (self.there & (self.amplitude > 0)).nonzero(as_tuple=True)
        at = (row, self.kernel[row, place], self.time[row, place])
        return codes.index_put_(at, self.amplitude[row, place], accumulate=True)

    def _fill(self, rows: torch.Tensor, place: int, forbidden: torch.Tensor | None = None) -> torch.Tensor:
        """Put the best event of each row in a place of it, and return the rows where it was worth it."""
        gain, kernel, time, amplitude = self._best(rows, forbidden)
        worth = gain > self.least_gain
        rows, kernel, time = rows[worth], kernel[worth], time[worth]
        if len(rows):
            self.kernel[rows, place], self.time[rows, place] = kernel, time
            self.amplitude[rows, place], self.there[rows, place] = amplitude[worth], True
            lag = torch.arange(self.values.shape[1]) - time[:, None]
            inside = (lag >= 0) & (lag < self.length)
            self.shapes[rows, place] = self.kernels[kernel[:, None], lag.clamp(0, self.length - 1)] * inside
            self._refine(rows, _STEPS)
        return rows

    def _best(self, rows: torch.Tensor, forbidden: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """Return the gain in nats, the kernel, the time and the amplitude of the best event to add to each row."""
        gains = self.evidence[rows] - self._windows(self.link.mean(self._drive(rows))) @ self.excess.T
        if forbidden is not None:
            gains.masked_fill_(forbidden, -torch.inf)
        gain, best = gains.flatten(1).max(1)
        time, choice = best // len(self.grid), best % len(self.grid)
        return gain, self.of_kernel[choice], time, self.grid[choice]

    def _drive(self, rows: torch.Tensor) -> torch.Tensor:
        return self.baseline[rows] + (self.amplitude[rows, None] @ self.shapes[rows])[:, 0]

    def _windows(self, values: torch.Tensor) -> torch.Tensor:
        # single precision is enough to choose with, and half the work
        return pad(values.float(), (0, self.length - 1)).unfold(-1, self.length, 1)

    def _refine(self, rows: torch.Tensor, n_steps: int) -> None:
        values, shapes, there, baseline = self.values[rows], self.shapes[rows], self.there[rows], self.baseline[rows]
        problem = Problem(values, shapes, there, baseline, self.link, *self.prior)
        self.amplitude[rows] = newton(problem, self.amplitude[rows], 0.0, _MOST_AMPLITUDE, n_steps)

    def _add_place(self) -> None:
        self.kernel, self.time, self.there = (pad(part, (0, 1)) for part in (self.kernel, self.time, self.there))
        self.amplitude = pad(self.amplitude, (0, 1))
        self.shapes = pad(self.shapes, (0, 0, 0, 1))

    def _drop_empty_places(self) -> None:
        used = self.there.any(0)
        self.kernel, self.time, self.there = (part[:, used] for part in (self.kernel, self.time, self.there))
        self.amplitude, self.shapes = self.amplitude[:, used], self.shapes[:, used]
