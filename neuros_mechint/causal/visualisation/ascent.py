"""Climb to the stimulus that drives a unit most, from several starts at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import torch

from neuros_mechint.causal.visualisation.quasi_newton import Function, maximise
from neuros_mechint.causal.visualisation.response import Response
from neuros_mechint.causal.visualisation.stimuli import Stimuli, transformed
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar

_LEARNING_RATE = 0.1
_ATTEMPTS = 10
_POOL = 32
_FIRST_GAIN = 0.05


@dataclass(frozen=True)
class Climb:
    """How to climb.

    Parameters
    ----------
    n_steps : int
    jitter : int
    rotate, rescale : float
        Each step sees the images through other transformations, see `transformed`.
    progress : bool
    """

    n_steps: int
    jitter: int = 0
    rotate: float = 0.0
    rescale: float = 0.0
    progress: bool = True

    @property
    def transforms(self) -> bool:
        """Whether images are transformed at all."""
        return bool(self.jitter or self.rotate or self.rescale)

    def breaks_off(self, n_seen: int) -> bool:
        """Return whether a climb of which so many activations were seen might have gone on, given more steps."""
        return not self.transforms and n_seen > self.n_steps

    def __call__(
        self, response: Response, stimuli: Stimuli, free: torch.Tensor, source: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the stimuli reached from each start, and the activations on the way, ``(n_starts, n_steps)``.

        Random transformations make the activation another function at each step: these are left to Adam. Without them
        L-BFGS gets to the top.
        """
        function, unit = response.function(len(free))
        steps = progress_bar(range(self.n_steps), description="optimal stimulus", enabled=self.progress)
        runs = count(1)

        def value_and_gradient(at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            at = at.detach().requires_grad_()
            shown = stimuli(at.reshape(free.shape))
            if self.transforms:
                shown = transformed(shown, source, self.jitter, self.rotate, self.rescale)
            with raised_in(f"run {next(runs)} of the ascent"):
                (gradient,) = torch.autograd.grad(function(shown).sum(), at)
            assert unit.values is not None  # the function has just run
            return unit.values.to(at), gradient

        climb = self._by_adam if self.transforms else maximise
        top, trace = climb(value_and_gradient, free.flatten(1), steps)
        return stimuli(top.reshape(free.shape)), trace

    def _by_adam(
        self, function: Function, rows: torch.Tensor, steps: Iterable[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = rows.clone()
        adam = torch.optim.Adam([rows], maximize=True)
        trace: list[torch.Tensor] = []
        for step in steps:
            adam.param_groups[0]["lr"] = _LEARNING_RATE * (1 + math.cos(math.pi * step / self.n_steps)) / 2
            values, rows.grad = function(rows)
            trace.append(values)
            adam.step()
        return rows, torch.stack(trace, 1)


@contextmanager
def raised_in(what: str) -> Iterator[None]:
    """Add to errors from inside what they were raised in.

    Examples
    --------
    >>> try:
    ...     with raised_in("run 3"):
    ...         raise KeyError("weights")
    ... except KeyError as error:
    ...     error.__notes__
    ['in run 3']
    """
    try:
        yield
    except Exception as error:
        error.add_note(f"in {what}")
        raise


def draw_starts(response: Response, stimuli: Stimuli, n_starts: int, source: torch.Generator) -> torch.Tensor:
    """Return free numbers to start from, of at most ``n_starts`` stimuli: of those with a gradient.

    Where a unit is silent there is no way up: each such start is the most effective of some more draws, between bounds
    at twice the gain every time.

    Raises
    ------
    InputError
        No start has a gradient.
    """
    like, gain = response.place.values, 1.0 if stimuli.norm is not None else _FIRST_GAIN
    free = stimuli.draw(n_starts, source, like) * gain
    alive = response.gradient(stimuli(free)).flatten(1).any(1)
    for _ in range(_ATTEMPTS):
        silent = torch.nonzero(~alive).flatten()
        if not len(silent):
            break
        gain = gain if stimuli.norm is not None else 2 * gain
        pool = stimuli.draw(len(silent) * _POOL, source, like) * gain
        values = response.values(stimuli(pool)).reshape(len(silent), _POOL)
        best = values.argmax(1) + torch.arange(len(silent)) * _POOL
        free[silent] = pool[best.to(pool.device)]
        alive = response.gradient(stimuli(free)).flatten(1).any(1)
    if bool(alive.any()):
        return free[alive]
    n_tried = n_starts * (1 + _POOL * _ATTEMPTS)
    raise InputError(
        f"{response.site!r} does not respond to {response.place.name!r}: its gradient is 0 at all of {n_tried} random"
        " stimuli",
        expected="a unit that is not dead, and that is computed from that place",
        fix="give the site before the rectification (PATH:in of a ReLU), or larger stimuli",
    )


def without_unseen(response: Response, stimuli: Stimuli, found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return stimuli whose entries without effect lie in the middle of the range, and the activations.

    Between bounds nothing moves them from where the start happened to be; a norm leaves them at zero by itself.
    """
    values = response.values(found)
    if stimuli.norm is not None:
        return found, values
    centred = torch.where(response.gradient(found) == 0, stimuli.center, found)
    after = response.values(centred)
    same = (after >= values).to(found.device).reshape(-1, *[1] * (found.ndim - 1))
    return torch.where(same, centred, found), after.maximum(values)
