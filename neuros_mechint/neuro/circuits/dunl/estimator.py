"""Deconvolutional unrolled neural learning: kernels and events of spike counts and signals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, number, whole
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.circuits.dunl.fitting import (
    Fit,
    Model,
    fit_with_events,
    fit_without_events,
    known_kernels,
    starting_kernels,
)
from neuros_mechint.neuro.circuits.dunl.known_events import codes_at_events
from neuros_mechint.neuro.circuits.dunl.links import link_of
from neuros_mechint.neuro.circuits.dunl.masked_score import halves_cosine, masked_score
from neuros_mechint.neuro.circuits.dunl.observations import Observations, event_mask, noise_level, observations
from neuros_mechint.neuro.circuits.dunl.results import DUNLResult
from neuros_mechint.neuro.circuits.dunl.training import Training

_FEWEST_TRIALS = 10
_LEAST_AGREEMENT = 0.9
_FARTHEST = 1e100
_MOST_PENALTY = 1e9
_SCALES = {
    "poisson": ("log-gain of an event of amplitude 1", "nats"),
    "bernoulli": ("log-odds of an event of amplitude 1", "nats"),
    "gaussian": ("signal of an event of amplitude 1", "1"),
}


class DUNL(Parameterised):
    r"""Find the kernels that activity is made of, and the events at which they begin.

    Activity is drawn around :math:`\mathrm{link}(a + \sum_k h_k * x_k)`, with sparse codes :math:`x_k` in every trial.
    Where it is known when events may be, kernels and amplitudes are fitted in turn, amplitudes with a normal prior
    that is estimated. Where it is not, kernels begin at random and are found by greedy pursuit; then the encoder, FISTA
    unrolled into a network whose weights are the kernels, is trained by back-propagation to predict hidden bins, and
    kept if it predicts held-out trials better.

    Parameters
    ----------
    n_kernels, kernel_length : int
        The length in bins.
    link : {"poisson", "gaussian", "bernoulli"}
        Counts (rates through exp), signals with white noise, or bins of 0 and 1 (through the logistic function).
    per_neuron : bool
        Whether every neuron has kernels of its own; otherwise all share them, each with amplitudes of its own.
    grouped : bool
        Whether all neurons have their events at the same times, where these are not known (group sparsity).
    nonnegative : bool
        Whether no code may be negative.
    sparsity : float
        What an absolute code of 1 costs the unrolled encoder, in nats. Apart from it, an event must bring six nats.
    smoothness : float
        Penalty on half the squared second differences of kernels with peak 1, in nats.
    incoherence : float
        Penalty on the squared cosines of kernels with each other at all shifts, in nats, in training.
    n_iterations, n_differentiated : int
        Of the unrolled encoder, and how many of the last ones gradients go back through.
    n_steps : int
        Of training; 0 leaves it out.
    learning_rate : float
        Of Adam, for kernels of norm 1.
    n_restarts : int
        Random beginnings, of which that with the best held-out likelihood is kept.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Attributes
    ----------
    kernels_ : numpy.ndarray of shape (n_kernels, kernel_length) or (n_neurons, n_kernels, kernel_length)
        Their largest absolute values are 1.
    codes_ : numpy.ndarray of shape ([n_neurons,] n_trials, n_kernels, n_times)
        Amplitudes in the bins in which events begin: log-gains at the peak of the kernel, for counts.
    event_times_ : numpy.ndarray of int, of shape (n_events, 3)
        Trial, kernel and bin of each event of any neuron.
    baseline_ : numpy.ndarray of shape ([n_neurons])
        The drive without events: a log-rate per bin, a signal, or log-odds.
    score_ : float
        Nats per spike (Gaussian: per value) by which events, found without a quarter of the bins, predict these bins
        better than constant rates do, in trials that the kernels scored were not fitted to.
    split_half_ : float
        The worst cosine between kernels from two halves of the trials.
    reliable_ : bool
        Whether the score is above 0, also over slow drifts instead of constant rates, and halves agree by .9 at least.
        Kernels come out of any data.
    result_ : DUNLResult

    References
    ----------
    Tolooshams et al. 2025, Interpretable deep learning for deconvolutional analysis of neural signals,
    doi:10.1016/j.neuron.2025.02.006; Beck and Teboulle 2009, A fast iterative shrinkage-thresholding algorithm for
    linear inverse problems, doi:10.1137/080716542

    Examples
    --------
    >>> from neuros_mechint.neuro.circuits.dunl.estimator import DUNL
    >>> random, rate = np.random.default_rng(0), np.ones((30, 60))
    >>> rate[:, 20:23] = [6, 4, 2]
    >>> dunl = DUNL(n_kernels=1, kernel_length=5).fit(random.poisson(rate), events=[[20]] * 30)
    >>> dunl.kernels_.argmax().item(), dunl.reliable_, dunl.score_ > 0.05
    (0, True, True)
    """

    kernels_: Floats
    codes_: Floats
    event_times_: npt.NDArray[np.int64]
    baseline_: Floats
    score_: float
    split_half_: float
    reliable_: bool
    result_: DUNLResult

    def __init__(
        self,
        n_kernels: int,
        kernel_length: int,
        link: str = "poisson",
        per_neuron: bool = False,
        grouped: bool = False,
        nonnegative: bool = True,
        sparsity: float = 0.1,
        smoothness: float = 3.0,
        incoherence: float = 0.0,
        n_iterations: int = 8,
        n_differentiated: int = 6,
        n_steps: int = 48,
        learning_rate: float = 0.003,
        n_restarts: int = 2,
        seed: SeedLike = 0,
        progress: bool = True,
    ) -> None:
        self.n_kernels = n_kernels
        self.kernel_length = kernel_length
        self.link = link
        self.per_neuron = per_neuron
        self.grouped = grouped
        self.nonnegative = nonnegative
        self.sparsity = sparsity
        self.smoothness = smoothness
        self.incoherence = incoherence
        self.n_iterations = n_iterations
        self.n_differentiated = n_differentiated
        self.n_steps = n_steps
        self.learning_rate = learning_rate
        self.n_restarts = n_restarts
        self.seed = seed
        self.progress = progress

    def fit(self, counts: Any, events: Any = None) -> DUNL:
        """Find kernels and events.

        Parameters
        ----------
        counts : array_like, torch.Tensor, xarray.DataArray or Recording
            ``(trial, time)`` or ``(neuron, trial, time)``; of labelled data, ``unit`` is the axis of neurons. Trials
            are never joined.
        events : array_like of bool, or list, optional
            Where events may begin: ``(n_kernels, trial, time)``, or ``(trial, time)`` for all kernels; or for each
            kernel a list over trials of bins; or an array ``(n_events, 3)``: trial, kernel and bin, as
            ``event_times_`` is. All neurons share them.

        Returns
        -------
        DUNL
            Itself.

        Raises
        ------
        InputError
            Values that the link does not allow, NaN, fewer than 10 trials, kernels longer than trials, a neuron that
            never changes, or events outside of trials.
        OptionError
            A parameter that is out of range.
        """
        model, random = self._model(), generator(self.seed)
        data = observations(counts, model.link, model.kernel_length, _FEWEST_TRIALS)
        scale = noise_level(data.values) if model.link.name == "gaussian" else torch.ones(len(data.values)).double()
        values = data.values / scale[:, None, None]
        support = None if events is None else event_mask(events, model.n_kernels, *values.shape[1:])
        if support is None:
            fit = fit_without_events(values, model, random)
        else:
            fit = fit_with_events(values, support, model, random)
        self.split_half_ = self._agreement(values, support, model, random)
        self._data, self._fitted, self._scale = data, fit, scale
        codes = self._codes(values, support, model)
        return self._keep(counts, events, codes, support, model)

    def transform(self, counts: Any, events: Any = None) -> Floats:
        """Return codes of other trials of the same neurons, ``([n_neurons,] n_trials, n_kernels, n_times)``.

        Parameters
        ----------
        counts, events
            As in `fit`; events may be given or not, whatever was the case there.

        Raises
        ------
        InputError
            Data as `fit` refuses them, or not fitted.
        """
        data, values, support, model = self._new(counts, events)
        return data.shaped(self._in_units(self._codes(values, support, model)))

    def score(self, counts: Any, events: Any = None, seed: SeedLike = 0) -> float:
        """Return how much better hidden bins of other trials are predicted than by constant rates.

        Parameters
        ----------
        counts, events
            As in `fit`.
        seed : int or numpy.random.Generator
            Draws the bins to hide.

        Returns
        -------
        float
            Nats per spike; of Gaussian signals, per value.
        """
        _, values, support, model = self._new(counts, events)
        decode = model.decode if support is None else model.decode_at(support, self._fitted.prior)
        return masked_score(values, self._fitted.kernels, model.link, decode, generator(seed)).constant

    def estimate(self, counts: Any, events: Any = None) -> DUNLResult:
        """Fit, and return all that was found as a result."""
        return self.fit(counts, events).result_

    def _model(self) -> Model:
        link = link_of(self.link)
        for name in ("per_neuron", "grouped", "nonnegative", "progress"):
            check_option(name, getattr(self, name), (True, False))
        for name in ("sparsity", "smoothness", "incoherence"):
            number(name, getattr(self, name), 0, _MOST_PENALTY, closed="both")
        n_iterations = whole("n_iterations", self.n_iterations)
        training = Training(
            whole("n_steps", self.n_steps, 0),
            number("learning_rate", self.learning_rate, 0, 1),
            n_iterations,
            int(number("n_differentiated", whole("n_differentiated", self.n_differentiated), 1, n_iterations, "both")),
            self.sparsity,
            self.smoothness,
            self.incoherence,
        )
        return Model(
            whole("n_kernels", self.n_kernels),
            whole("kernel_length", self.kernel_length, 3),
            link,
            self.per_neuron,
            self.grouped,
            self.nonnegative,
            whole("n_restarts", self.n_restarts),
            training,
            self.progress,
        )

    def _agreement(
        self, values: torch.Tensor, support: torch.Tensor | None, model: Model, random: np.random.Generator
    ) -> float:
        quiet = model._replace(progress=False)

        def fit_half(trials: npt.NDArray[np.intp], its_own: np.random.Generator) -> Floats:
            half = values[:, torch.from_numpy(trials)]
            if support is None:
                return starting_kernels(half, quiet, its_own).shapes.numpy()
            return known_kernels(half, support[torch.from_numpy(trials)], quiet)[0].shapes.numpy()

        return halves_cosine(values.shape[1], fit_half, random, support is not None)

    def _codes(self, values: torch.Tensor, support: torch.Tensor | None, model: Model) -> torch.Tensor:
        kernels, prior = self._fitted.kernels, self._fitted.prior
        if support is None:
            return model.decode(values, kernels, thorough=True)
        return codes_at_events(values, support, kernels, model.link, model.nonnegative, prior=prior)[0]

    def _in_units(self, codes: torch.Tensor) -> torch.Tensor:
        return codes * self._scale[:, None, None, None]

    def _new(self, counts: Any, events: Any) -> tuple[Observations, torch.Tensor, torch.Tensor | None, Model]:
        if not hasattr(self, "_fitted"):
            raise InputError("DUNL has not been fitted", fix="call .fit(counts) first")
        model = self._model()
        data = observations(counts, model.link, model.kernel_length, 1)
        if len(data.values) != len(self._scale):
            raise InputError(
                "these are other neurons", expected=f"{len(self._scale)} neurons", got=f"{len(data.values)}"
            )
        support = None if events is None else event_mask(events, model.n_kernels, *data.values.shape[1:])
        values = data.values / self._scale[:, None, None]
        if values.abs().max() > _FARTHEST:
            raise InputError(
                "these values are far from all that was fitted",
                expected=f"at most {_FARTHEST:g} times the noise",
                got=f"{float(values.abs().max()):.2g} times",
                fix="pass them in the units of the data that were fitted",
            )
        return data, values, support, model

    def _keep(self, counts: Any, events: Any, codes: torch.Tensor, support: torch.Tensor | None, model: Model) -> DUNL:
        fit, data = self._fitted, self._data
        codes = self._in_units(codes)
        self.kernels_ = fit.kernels.shapes.numpy().copy()
        if model.per_neuron and data.one_neuron:
            self.kernels_ = self.kernels_[0] if self.kernels_.ndim == 3 else self.kernels_
        self.codes_ = data.shaped(codes)
        self.baseline_ = data.shaped(fit.kernels.baseline * self._scale)
        self.score_ = fit.score.constant
        self.reliable_ = min(fit.score.constant, fit.score.slow) > 0 and self.split_half_ >= _LEAST_AGREEMENT
        at = codes.any(0) if support is None else support
        trial, kernel, bins = (part.numpy() for part in at.nonzero(as_tuple=True))
        self.event_times_ = np.stack([trial, kernel, bins], axis=1)
        own = {name: value for name, value in self.get_params().items() if name not in ("seed", "progress")}
        self.result_ = DUNLResult(
            _dataset(self, codes[:, trial, kernel, bins].T.numpy()),
            "Kernels and events",
            attributes={
                "link": self.link,
                "events_known": support is not None,
                "n_trials": data.values.shape[1],
                "score": self.score_,
                "score_over_drift": fit.score.slow,
                "score_error": _or_none(fit.score.constant_error),
                "score_over_drift_error": _or_none(fit.score.slow_error),
                "split_half": self.split_half_,
                "reliable": self.reliable_,
                "start_score": fit.start_score,
                "trained_score": fit.trained_score,
                "trained": fit.trained,
            },
            provenance=Provenance.record(
                self.seed, arguments={**own, "counts": data.values.numpy(), "events": self.event_times_}
            ),
            citations=("tolooshams2025", "beck2009"),
            warnings=_warnings(self, fit, support),
        )
        return self


def _dataset(found: DUNL, amplitudes: Floats) -> xr.Dataset:
    data = found._data
    name, units = _SCALES[found.link]
    per_neuron = found.kernels_.ndim == 3
    width, time_units = (data.bin_width, "s") if data.bin_width else (1.0, "bins")
    alone = data.one_neuron
    variables: dict[str, Any] = {
        "shape": (("neuron", "kernel", "lag") if per_neuron else ("kernel", "lag"), found.kernels_, name, units),
        "baseline": (() if alone else "neuron", found.baseline_, "drive without events", units),
        "event_trial": ("event", found.event_times_[:, 0], "trial", ""),
        "event_kernel": ("event", found.event_times_[:, 1], "kernel", ""),
        "event_bin": ("event", found.event_times_[:, 2], "bin in which the event begins", "bins"),
        "amplitude": ("event" if alone else ("event", "neuron"), amplitudes[:, 0] if alone else amplitudes, "", units),
    }
    dataset = xr.Dataset(
        {
            key: (dims, values, {"long_name": long_name or key, **({"units": unit} if unit else {})})
            for key, (dims, values, long_name, unit) in variables.items()
        },
        {
            "kernel": np.arange(found.n_kernels),
            "lag": ("lag", width * np.arange(found.kernel_length), {"units": time_units}),
        },
    )
    return dataset if data.neurons is None else dataset.assign_coords(neuron=data.neurons)


def _or_none(error: float) -> float | None:
    return error if np.isfinite(error) else None


def _warnings(found: DUNL, fit: Fit, support: torch.Tensor | None) -> tuple[str, ...]:
    told = []
    if found.score_ <= 0:
        told.append(
            f"events predict hidden bins no better than constant rates do ({found.score_:.2g}): there may be none"
        )
    elif fit.score.slow <= 0:
        told.append(
            f"events predict hidden bins no better than a slow drift does ({fit.score.slow:.2g}): there may be none"
        )
    if found.split_half_ < _LEAST_AGREEMENT:
        told.append(
            f"kernels of two halves of the trials agree by {found.split_half_:.2f} only, less than {_LEAST_AGREEMENT}: "
            "do not interpret their shapes"
        )
    if support is not None and found.n_kernels > 1 and bool((support == support[:, :1]).all()):
        told.append("all kernels have the same events: they are determined only up to mixing with each other")
    if found.link == "gaussian":
        told.append("scores take the noise for white: smooth noise is predicted from neighbouring bins too")
    return tuple(told)
