"""The three tasks of the embedded models: repeated tokens, the flip-flop, and context-dependent decisions.

Each function draws trials and returns them as one `Trials`: what goes in, what should come out, where the
answer counts, and what distinguishes one trial from the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.formatting import shapes_repr
from neuros_mechint.core.random import SeedLike, generator

BEGINNING_OF_SEQUENCE = 0
"""The token that opens every sequence of `repeated_tokens` and occurs nowhere else."""


@dataclass(frozen=True, eq=False)
class Trials:
    """Inputs and right answers of a batch of trials.

    Parameters
    ----------
    inputs : torch.Tensor
        ``(n_trials, n_steps, n_inputs)`` float, or ``(n_trials, n_steps)`` int64 for tokens.
    targets : torch.Tensor
        ``(n_trials, n_steps, n_outputs)`` float, or ``(n_trials, n_steps)`` int64 for tokens.
    mask : torch.Tensor
        Bool, the shape of ``targets``: where the answer is defined and counts.
    conditions : mapping of str to numpy.ndarray
        One value per trial, each array ``(n_trials,)``.

    Examples
    --------
    >>> trials = flip_flop(n_trials=5, n_steps=20)
    >>> len(trials), tuple(trials.inputs.shape), sorted(trials.conditions)
    (5, (5, 20, 3), ['final_state'])
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return the shapes."""
        return shapes_repr(self)

    def __len__(self) -> int:
        """Return the number of trials."""
        return self.inputs.shape[0]


def repeated_tokens(
    n_sequences: int,
    n_tokens: int = 64,
    vocabulary: int = 64,
    lag: int | None = None,
    min_lag: int = 6,
    max_lag: int | None = None,
    seed: SeedLike = 0,
) -> Trials:
    """Draw sequences in which one run of random tokens repeats, so that the past predicts the next token.

    A sequence is the token 0 followed by ``lag`` different random tokens, over and over. The lag is drawn
    anew for every sequence: with one fixed lag a model can copy from a fixed distance and never learns
    induction.

    Parameters
    ----------
    n_sequences : int
        Number of sequences.
    n_tokens : int
        Length of a sequence, the opening token included.
    vocabulary : int
        Number of tokens, the opening token included.
    lag : int, optional
        The period of every sequence. If not given, it is drawn from ``min_lag`` to ``max_lag`` (both
        included).
    min_lag, max_lag : int, optional
        Smallest and largest period; ``max_lag`` is half of ``n_tokens`` if not given.
    seed : int or numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Trials
        ``inputs`` (n_sequences, n_tokens) int64; ``targets`` likewise, the next token; ``mask`` is True where
        the present token has occurred before, so that the next one is known; ``conditions["lag"]``.

    Raises
    ------
    OptionError
        If a count is too small, or no token of a sequence with such a lag could be predicted.

    References
    ----------
    Olsson et al. 2022, In-context learning and induction heads. doi:10.48550/arXiv.2209.11895

    Examples
    --------
    >>> trials = repeated_tokens(1, n_tokens=8, lag=3)
    >>> tokens = trials.inputs[0].tolist()
    >>> tokens[0], tokens[1:4] == tokens[4:7]
    (0, True)
    >>> trials.mask[0].tolist()
    [False, False, False, False, True, True, True, True]
    """
    _require("n_sequences", n_sequences, at_least=1)
    longest = min(n_tokens - 2, vocabulary - 1)
    if lag is None:
        lowest, highest = min_lag, n_tokens // 2 if max_lag is None else max_lag
    else:
        lowest = highest = lag
    _require("min_lag" if lag is None else "lag", lowest, at_least=1)
    _require("max_lag" if lag is None else "lag", highest, at_least=lowest, at_most=longest)
    random = generator(seed)
    lags = random.integers(lowest, highest, size=n_sequences, endpoint=True)
    alphabet = np.tile(np.arange(1, vocabulary), (n_sequences, 1))
    runs = random.permuted(alphabet, axis=1)
    step = np.arange(n_tokens)
    repeats = np.take_along_axis(runs, step % lags[:, None], axis=1)
    inputs = np.concatenate([np.full((n_sequences, 1), BEGINNING_OF_SEQUENCE), repeats[:, :-1]], axis=1)
    return Trials(
        inputs=torch.from_numpy(inputs),
        targets=torch.from_numpy(repeats),
        mask=torch.from_numpy(step > lags[:, None]),
        conditions={"lag": lags},
    )


def flip_flop(
    n_trials: int,
    n_steps: int,
    n_bits: int = 3,
    pulse_probability: float = 0.1,
    settling_steps: int = 2,
    seed: SeedLike = 0,
) -> Trials:
    """Draw trials of the flip-flop: each bit must hold the sign of the last pulse it received.

    The first step sets every bit, so that the right answer is defined from the start.

    Parameters
    ----------
    n_trials, n_steps : int
        Number of trials and of time steps in each.
    n_bits : int
        Number of bits; the network has one input and one output for each.
    pulse_probability : float
        Probability of a pulse, per bit and time step. Its sign is + or - with equal probability.
    settling_steps : int
        For how many steps from a flip on the answer of that bit does not count.
    seed : int or numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Trials
        ``inputs`` (n_trials, n_steps, n_bits) pulses -1, 0, +1; ``targets`` likewise, the states -1, +1;
        ``conditions["final_state"]`` (n_trials,) is the last state read as a binary number, bit 0 first.

    Raises
    ------
    OptionError
        If a count is too small or the probability lies outside 0 to 1.

    References
    ----------
    Sussillo & Barak 2013, Opening the black box. doi:10.1162/NECO_a_00409

    Examples
    --------
    >>> trials = flip_flop(n_trials=1, n_steps=6, n_bits=1, pulse_probability=0.0)
    >>> set(trials.inputs[0, 1:, 0].tolist()), len(set(trials.targets[0, :, 0].tolist()))
    ({0.0}, 1)
    """
    for parameter, count in (("n_trials", n_trials), ("n_steps", n_steps), ("n_bits", n_bits)):
        _require(parameter, count, at_least=1)
    _require("pulse_probability", pulse_probability, at_least=0.0, at_most=1.0)
    _require("settling_steps", settling_steps, at_least=0)
    random = generator(seed)
    shape = (n_trials, n_steps, n_bits)
    pulsed = random.random(shape) < pulse_probability
    pulsed[:, 0] = True
    pulses = pulsed * random.choice([-1.0, 1.0], size=shape)
    last_pulse = _last_true(pulsed)
    states = np.take_along_axis(pulses, last_pulse, axis=1)
    flipped = np.ones(shape, dtype=bool)
    flipped[:, 1:] = states[:, 1:] != states[:, :-1]
    since_flip = np.arange(n_steps)[None, :, None] - _last_true(flipped)
    return Trials(
        inputs=_float_tensor(pulses),
        targets=_float_tensor(states),
        mask=torch.from_numpy(since_flip >= settling_steps),
        conditions={"final_state": (states[:, -1] > 0) @ (2 ** np.arange(n_bits))},
    )


def context_decision(
    n_trials: int,
    coherences: Sequence[float] = (0.05, 0.15, 0.5),
    noise: float = 1.0,
    cue_steps: int = 5,
    stimulus_steps: int = 40,
    response_steps: int = 10,
    seed: SeedLike = 0,
) -> Trials:
    """Draw trials of context-dependent decision making: two streams of noisy evidence, one of which counts.

    A cue says from the first step to the last whether motion or color is to be judged. During the stimulus
    both evidences arrive as a signed mean plus independent Gaussian noise; afterwards the sign of the
    relevant mean is to be reported. The irrelevant one is drawn independently and must be ignored.

    Parameters
    ----------
    n_trials : int
        Number of trials.
    coherences : sequence of float
        Strengths of evidence (> 0). Sign and strength of either stream are drawn with equal probability.
    noise : float
        Standard deviation of the evidence at each step, in the units of the coherence.
    cue_steps, stimulus_steps, response_steps : int
        Steps before, with, and after the evidence.
    seed : int or numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Trials
        ``inputs`` (n_trials, n_steps, 4): motion evidence, color evidence, motion cue, color cue. ``targets``
        (n_trials, n_steps, 1): -1 or +1. ``mask`` is True in the response. ``conditions``: ``context`` (0
        motion, 1 color), signed ``motion`` and ``color`` coherence, and ``choice``, the right answer.

    Raises
    ------
    OptionError
        If a count is too small or the noise negative.
    InputError
        If ``coherences`` is empty or not positive.

    References
    ----------
    Mante et al. 2013, Context-dependent computation by recurrent dynamics. doi:10.1038/nature12742

    Examples
    --------
    >>> trials = context_decision(n_trials=4, noise=0.0)
    >>> tuple(trials.inputs.shape), tuple(trials.targets.shape), int(trials.mask[0].sum())
    ((4, 55, 4), (4, 55, 1), 10)
    """
    _require("n_trials", n_trials, at_least=1)
    _require("noise", noise, at_least=0.0)
    _require("cue_steps", cue_steps, at_least=0)
    for parameter, count in (("stimulus_steps", stimulus_steps), ("response_steps", response_steps)):
        _require(parameter, count, at_least=1)
    strengths = np.asarray(coherences, dtype=float)
    if strengths.ndim != 1 or not strengths.size or not (np.isfinite(strengths) & (strengths > 0)).all():
        raise InputError("coherences are not positive", expected="one or more numbers > 0", got=coherences)
    random = generator(seed)
    context = random.integers(0, 2, size=n_trials)
    signed = random.choice([-1.0, 1.0], size=(n_trials, 2)) * random.choice(strengths, size=(n_trials, 2))
    n_steps = cue_steps + stimulus_steps + response_steps
    inputs = np.zeros((n_trials, n_steps, 4))
    stimulus = slice(cue_steps, cue_steps + stimulus_steps)
    inputs[:, stimulus, :2] = random.normal(signed[:, None], noise, size=(n_trials, stimulus_steps, 2))
    inputs[:, :, 2:] = np.eye(2)[context][:, None]
    choice = np.sign(signed[np.arange(n_trials), context])
    mask = torch.zeros(n_trials, n_steps, 1, dtype=torch.bool)
    mask[:, stimulus.stop :] = True
    return Trials(
        inputs=_float_tensor(inputs),
        targets=_float_tensor(np.tile(choice[:, None, None], (1, n_steps, 1))),
        mask=mask,
        conditions={"context": context, "motion": signed[:, 0], "color": signed[:, 1], "choice": choice},
    )


def _last_true(events: np.ndarray) -> np.ndarray:
    """Return for each step of ``(trial, time, bit)`` the step of the latest event up to it, 0 if none."""
    steps = np.arange(events.shape[1])[None, :, None]
    return np.maximum.accumulate(np.where(events, steps, 0), axis=1)


def _float_tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _require(parameter: str, value: float, at_least: float, at_most: float | None = None) -> None:
    # Written as "not inside" so that NaN is refused too.
    if not (value >= at_least and (at_most is None or value <= at_most)):
        limit = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise OptionError(f"{parameter}={value} is out of range", expected=limit, got=value)
