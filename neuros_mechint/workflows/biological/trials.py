"""Trials of a task as they are drawn, made tensors that a network takes, and how much of their answers varies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import real_tensor
from neuros_mechint.core.random import generator
from neuros_mechint.neuro.biophysics.dale.training import TaskTrials

Draw: TypeAlias = Callable[[np.random.Generator], TaskTrials]

_PARTS = ("inputs", "targets", "mask")
_ROUNDING = 1e-12  # of the mean square of answers
_LEAST_TIMES = 32  # for a spectrum
_LARGEST = 1e12  # sums of squares of as large numbers are finite in single precision


class Trials(NamedTuple):
    """Trials of a task.

    Parameters
    ----------
    inputs : torch.Tensor of shape (n_trials, n_times, n_inputs)
    targets : torch.Tensor of shape (n_trials, n_times, n_outputs)
    mask : torch.Tensor of bool, of the shape of the targets
        Where the answer counts.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor


class AnswerVariance(NamedTuple):
    """How much the right answers vary.

    Parameters
    ----------
    values : numpy.ndarray of shape (n_outputs,)
        Variance of each output; 0 of one that is always the same.
    counts : numpy.ndarray of shape (n_outputs,)
        Answers of each output that count.
    between_trials : bool
        About the mean of all trials at the same time, which is what could be answered without a look at the inputs.
        Otherwise trials are all alike, or there is one for each time, and it is about the mean over time.
    """

    values: Floats
    counts: Floats
    between_trials: bool


def checked(draw: Draw) -> Draw:
    """Return a function that draws the same trials as tensors, or says what is wrong with them.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> ones = np.ones((2, 40, 1))
    >>> trials = checked(lambda random: SimpleNamespace(inputs=ones, targets=ones, mask=ones > 0))
    >>> trials(np.random.default_rng(0)).targets.dtype
    torch.float32
    """
    return lambda random: as_trials(draw(random))


def drawn_apart(draw: Draw, seeds: Sequence[int]) -> tuple[list[TaskTrials], bool]:
    """Return trials that are drawn with several seeds, and whether not all of them are the same.

    Raises
    ------
    InputError
        The same seed gives other trials when it is used again: nothing that is found on them could be repeated.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> def draw(own):
    ...     values = torch.from_numpy(random.normal(size=(2, 40, 1)))
    ...     return Trials(values, values, torch.ones(2, 40, 1, dtype=torch.bool))
    >>> drawn_apart(draw, [1, 2])
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: draw returns other trials for a generator of the same seed
      expected: trials in which all that is random comes from the generator that draw(random) is passed
      to fix:   use random.normal(...) or seed=random instead of np.random, torch.rand or a generator of your own
    """
    trials = [draw(generator(seed)) for seed in seeds]
    if not _same(trials[0], draw(generator(seeds[0]))):
        raise InputError(
            "draw returns other trials for a generator of the same seed",
            expected="trials in which all that is random comes from the generator that draw(random) is passed",
            fix="use random.normal(...) or seed=random instead of np.random, torch.rand or a generator of your own",
        )
    return trials, not all(_same(trials[0], one) for one in trials[1:])


def _same(one: TaskTrials, other: TaskTrials) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in _PARTS)


def as_trials(drawn: Any) -> Trials:
    """Return trials as tensors of single precision, from tensors or arrays of any real numbers.

    Raises
    ------
    InputError
        No inputs, targets or mask; values that are no numbers or not finite; not three axes; other trials or
        times in the targets than in the inputs, or too few times for a spectrum; a mask of another shape, or of more
        than True and False; numbers so large that their squares are not finite.
    """
    lacking = [name for name in _PARTS if getattr(drawn, name, None) is None]
    if lacking:
        raise InputError(
            "draw returned no trials of a task",
            expected="an object with inputs, targets and mask, such as those of neuros_mechint.datasets.tasks",
            got=f"{type(drawn).__name__} without {', '.join(lacking)}",
            fix="return types.SimpleNamespace(inputs=..., targets=..., mask=...)",
        )
    inputs, targets, mask = (real_tensor(getattr(drawn, name), f"{name} of the trials") for name in _PARTS)
    shapes = [tuple(one.shape) for one in (inputs, targets, mask)]
    if inputs.ndim != 3 or targets.ndim != 3 or inputs.shape[:2] != targets.shape[:2] or mask.shape != targets.shape:
        raise InputError(
            "these are no trials of a task",
            expected="inputs (trial, time, input); targets and mask (trial, time, output) of the same trials and times",
            got=", ".join(f"{name} {shape}" for name, shape in zip(_PARTS, shapes, strict=True)),
        )
    if inputs.shape[1] < _LEAST_TIMES:
        raise InputError(
            f"trials of {inputs.shape[1]} time steps are too short for a spectrum of the rates",
            expected=f"at least {_LEAST_TIMES} time steps in each trial, better 128 and more",
        )
    for name, values in (("inputs", inputs), ("targets", targets)):
        if values.numel() and float(values.abs().max()) > _LARGEST:
            raise InputError(
                f"{name} of the trials are too large to train on",
                expected=f"numbers of about 1, at most {_LARGEST:g}: of larger ones the squared error may be infinite",
                got=f"{float(values.abs().max()):.3g}",
            )
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError("the mask of the trials is no mask", expected="True where the answer counts, False elsewhere")
    return Trials(inputs.float(), targets.float(), mask.bool())


def variance_of_answers(trials: Sequence[TaskTrials]) -> AnswerVariance:
    """Return how much the right answers vary, each output about its own mean.

    Examples
    --------
    Two outputs that are constants of their own, with a little noise, vary little:

    >>> random = np.random.default_rng(0)
    >>> targets = torch.tensor([1.0, -1.0]) + 0.1 * torch.from_numpy(random.normal(size=(8, 40, 2)))
    >>> found = variance_of_answers([Trials(targets, targets, torch.ones(8, 40, 2, dtype=torch.bool))])
    >>> found.values.round(2).tolist(), found.between_trials
    ([0.01, 0.01], True)
    """
    counts = np.sum([one.mask.sum((0, 1)).numpy() for one in trials], axis=0, dtype=float)
    if len({one.targets.shape[1] for one in trials}) == 1:
        values = _about_means(torch.cat([one.targets for one in trials]), torch.cat([one.mask for one in trials]))
        if values.any():
            return AnswerVariance(values, counts, True)
    rows = [[one.flatten(0, 1).unsqueeze(1) for one in (two.targets, two.mask)] for two in trials]
    values = _about_means(*(torch.cat(part) for part in zip(*rows, strict=True)))
    return AnswerVariance(values, counts, False)


def _about_means(targets: torch.Tensor, mask: torch.Tensor) -> Floats:
    """Return the variance of each output over trials, about its mean at each time; times of one answer say nothing."""
    weights, answers = mask.double(), targets.double()
    counts = weights.sum(0)
    means = (weights * answers).sum(0) / counts.clamp(min=1)
    squares = (weights * (answers - means).square()).sum((0, 1))
    size = (weights * answers.square()).sum((0, 1))
    squares = torch.where(squares > _ROUNDING * size, squares, 0.0)
    return (squares / (counts - 1).clamp(min=0).sum(0).clamp(min=1)).numpy()
