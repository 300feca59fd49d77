"""From data to kernels: where events are known, and where they are not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from neuros_mechint.core.progress import progress_bar
from neuros_mechint.neuro.circuits.dunl.amplitudes import Amplitudes
from neuros_mechint.neuro.circuits.dunl.encoding import greedy_codes
from neuros_mechint.neuro.circuits.dunl.greedy import GreedySearch
from neuros_mechint.neuro.circuits.dunl.kernel_steps import Kernels, fit_kernels
from neuros_mechint.neuro.circuits.dunl.known_events import codes_at_events, fit_known_events, with_peak_one
from neuros_mechint.neuro.circuits.dunl.links import Link
from neuros_mechint.neuro.circuits.dunl.masked_score import Decode, Score, masked_score
from neuros_mechint.neuro.circuits.dunl.pursuit import pursue_events, starting_baseline
from neuros_mechint.neuro.circuits.dunl.repairs import centred, random_kernels
from neuros_mechint.neuro.circuits.dunl.training import Training, train

_HELD_OUT = 0.2
_ROUNDS = 20
_LAST_ROUNDS = 3


class Model(NamedTuple):
    """What is assumed of the data.

    Parameters
    ----------
    n_kernels, kernel_length : int
    link : Link
    per_neuron, grouped, nonnegative : bool
    n_restarts : int
    training : Training
    progress : bool
    """

    n_kernels: int
    kernel_length: int
    link: Link
    per_neuron: bool = False
    grouped: bool = False
    nonnegative: bool = True
    n_restarts: int = 1
    training: Training = Training()
    progress: bool = False

    def decode(
        self, values: torch.Tensor, kernels: Kernels, weights: torch.Tensor | None = None, thorough: bool = False
    ) -> torch.Tensor:
        """Return codes of data whose events are not known; ``thorough`` where they are kept and not only a step."""
        plain = self.link.name == "poisson" and self.nonnegative and not self.grouped
        if plain and weights is None and kernels.shapes.ndim == 2:  # this search exchanges events, but hides no bins
            return greedy_codes(values, kernels, sweeps=2, thorough=thorough)
        return GreedySearch(kernels, self.link, self.nonnegative, self.grouped)(values, weights)

    def decode_at(self, support: torch.Tensor, prior: Amplitudes | None) -> Decode:
        """Return what finds codes where events are known."""

        def decode(values: torch.Tensor, kernels: Kernels, weights: torch.Tensor) -> torch.Tensor:
            return codes_at_events(values, support, kernels, self.link, self.nonnegative, weights, prior)[0]

        return decode


class Fit(NamedTuple):
    """What was fitted.

    Parameters
    ----------
    kernels : Kernels
    prior : Amplitudes or None
        How large known events are.
    score : Score
        In trials that were held out.
    start_score, trained_score : float or None
        Before and after training.
    """

    kernels: Kernels
    prior: Amplitudes | None
    score: Score
    start_score: float | None = None
    trained_score: float | None = None

    @property
    def trained(self) -> bool:
        """Whether training made kernels better."""
        return self.start_score is not None and self.score.constant > self.start_score


def split(n_trials: int, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return trials to fit to and trials to hold out, a fifth.

    Examples
    --------
    >>> import numpy as np
    >>> [len(part) for part in split(10, np.random.default_rng(0))]
    [8, 2]
    """
    order = torch.from_numpy(random.permutation(n_trials))
    n_held = max(1, round(_HELD_OUT * n_trials))
    return order[n_held:], order[:n_held]


def fit_with_events(values: torch.Tensor, support: torch.Tensor, model: Model, random: np.random.Generator) -> Fit:
    """Return kernels of all trials, and the held-out score of those of four fifths.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
    support : torch.Tensor of bool, of shape (n_trials, n_kernels, n_times)
    model : Model
    random : numpy.random.Generator

    Examples
    --------
    >>> import numpy as np, torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> values = torch.zeros(1, 10, 40).double() + torch.arange(10).double()[:, None] / 100
    >>> values[..., 10:13] += torch.tensor([2.0, 4.0, 2.0]).double()
    >>> support = torch.zeros(10, 1, 40, dtype=torch.bool)
    >>> support[..., 10] = True
    >>> model = Model(1, 3, link_of("gaussian"), training=Training(smoothness=0.0))
    >>> fit_with_events(values, support, model, np.random.default_rng(0)).score.constant > 0
    True
    """
    fitted, held = split(values.shape[1], random)
    kernels, prior = known_kernels(values[:, fitted], support[fitted], model)
    decode = model.decode_at(support[held], prior)
    score = masked_score(values[:, held], kernels, model.link, decode, random)
    kernels, prior = known_kernels(values, support, model)
    return Fit(kernels, prior, score)


def known_kernels(values: torch.Tensor, support: torch.Tensor, model: Model) -> tuple[Kernels, Amplitudes]:
    """Return kernels at known events, and how large these are; parameters as in `fit_with_events`.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> values = torch.zeros(1, 10, 40).double() + torch.arange(10).double()[:, None] / 100
    >>> values[..., 10:13] += torch.tensor([2.0, 4.0, 2.0]).double()
    >>> support = torch.zeros(10, 1, 40, dtype=torch.bool)
    >>> support[..., 10] = True
    >>> model = Model(1, 3, link_of("gaussian"), training=Training(smoothness=0.0))
    >>> known_kernels(values, support, model)[0].shapes.round(decimals=1).tolist()
    [[0.5, 1.0, 0.5]]
    """
    kernels, _, prior = fit_known_events(
        values,
        support,
        model.kernel_length,
        model.link,
        model.per_neuron,
        model.training.smoothness,
        model.nonnegative,
    )
    return kernels, prior


def fit_without_events(values: torch.Tensor, model: Model, random: np.random.Generator) -> Fit:
    """Return kernels from random ones, trained by back-propagation where this predicts held-out trials better.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
    model : Model
    random : numpy.random.Generator

    Examples
    --------
    >>> import numpy as np, torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> values = torch.zeros(1, 10, 40).double() + torch.arange(10).double()[:, None] / 100
    >>> values[..., 10:13] += torch.tensor([2.0, 4.0, 2.0]).double()
    >>> model = Model(1, 3, link_of("gaussian"), training=Training(n_steps=0))
    >>> fit_without_events(values, model, np.random.default_rng(0)).score.constant > 0
    True
    """
    fitted, held = split(values.shape[1], random)
    seed = int(random.integers(2**31))  # the same bins are hidden before and after

    def score(kernels: Kernels) -> Score:
        again = np.random.default_rng(seed)
        return masked_score(values[:, held], kernels, model.link, model.decode, again)

    start = starting_kernels(values[:, fitted], model, random)
    before = score(start)
    if not model.training.n_steps:
        return Fit(_in_turns(values, start, model, _LAST_ROUNDS), None, before)
    trained = _trained(values[:, fitted], start, model, random)
    after = score(trained)
    helped = after.constant > before.constant
    better = trained if helped else start
    final = _in_turns(values, better, model, _LAST_ROUNDS)  # with the trials that were held out
    if helped:
        final = _trained(values, final, model, random)
    return Fit(final, None, after if helped else before, before.constant, after.constant)


def _trained(values: torch.Tensor, start: Kernels, model: Model, random: np.random.Generator) -> Kernels:
    about = model.link, model.decode, model.training, random, model.nonnegative, model.grouped
    return train(values, start, *about, model.progress)


def starting_kernels(values: torch.Tensor, model: Model, random: np.random.Generator) -> Kernels:
    """Return kernels from random ones without training: by pursuit of counts, or in turns for other links.

    Parameters
    ----------
    values : torch.Tensor of shape (n_neurons, n_trials, n_times)
    model : Model
    random : numpy.random.Generator

    Examples
    --------
    >>> import numpy as np, torch
    >>> from neuros_mechint.neuro.circuits.dunl.links import link_of
    >>> values = torch.zeros(1, 10, 40).double() + torch.arange(10).double()[:, None] / 100
    >>> values[..., 10:13] += torch.tensor([2.0, 4.0, 2.0]).double()
    >>> model = Model(1, 3, link_of("gaussian"), training=Training(smoothness=0.0))
    >>> starting_kernels(values, model, np.random.default_rng(0)).shapes.argmax().item()
    1
    """
    if model.per_neuron and not model.grouped and len(values) > 1:
        alone = [starting_kernels(values[neuron : neuron + 1], model, random) for neuron in range(len(values))]
        return Kernels(torch.cat([one.shapes for one in alone]), torch.cat([one.baseline for one in alone]))
    if model.link.name == "poisson" and model.nonnegative:
        kernels = pursue_events(values, model.n_kernels, model.kernel_length, random, model.n_restarts, model.progress)[
            0
        ]
        if not model.per_neuron:
            return kernels
        own = kernels._replace(shapes=kernels.shapes.repeat(len(values), 1, 1))
        return own if len(values) == 1 else _in_turns(values, own, model, _LAST_ROUNDS)
    fitted, held = split(values.shape[1], random)
    best, best_score = None, -np.inf
    for _ in progress_bar(range(model.n_restarts), description="restarts", enabled=model.progress):
        shapes = random_kernels(model.n_kernels, model.kernel_length, random)
        kernels = _in_turns(values[:, fitted], Kernels(shapes, _baseline(values[:, fitted], model.link)), model)
        found = masked_score(values[:, held], kernels, model.link, model.decode, random, 1).constant
        if best is None or found > best_score:
            best, best_score = kernels, found
    assert best is not None
    if model.per_neuron:
        best = best._replace(shapes=best.shapes.repeat(len(values), 1, 1))
    return _in_turns(values, best, model, _LAST_ROUNDS)


def _baseline(values: torch.Tensor, link: Link) -> torch.Tensor:
    if link.name == "poisson":
        return starting_baseline(values)
    if link.name == "gaussian":
        return values.flatten(1).median(1).values
    return link.drive(values.mean((1, 2)))


def _in_turns(values: torch.Tensor, kernels: Kernels, model: Model, n_rounds: int = _ROUNDS) -> Kernels:
    """Return kernels after some rounds of searching events and fitting kernels to them."""
    for done in range(n_rounds):
        codes = model.decode(values, kernels)
        fitted = fit_kernels(values, codes, kernels, model.link, model.training.smoothness)
        kernels = with_peak_one(fitted, codes)[0]
        if done % 2 and kernels.shapes.ndim == 2 and done < n_rounds - _LAST_ROUNDS:
            kernels = kernels._replace(shapes=centred(kernels.shapes))
    return kernels
