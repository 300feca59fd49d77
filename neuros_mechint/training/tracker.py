"""One object that looks at a network at chosen steps of its training, whatever loop trains it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, SiteError, whole
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.training.callbacks import huggingface_callback, lightning_callback
from neuros_mechint.training.continuation import doubt_of_continuation
from neuros_mechint.training.metrics import METRICS, SIMILARITY, Before, Look, as_number, chosen
from neuros_mechint.training.norms import by_layer
from neuros_mechint.training.objective import Loss, Objective, own_loss
from neuros_mechint.training.record import TrainingRecord, training_record
from neuros_mechint.training.schedule import as_schedule
from neuros_mechint.training.similarity import FEWEST_ROWS, kept_rows, kernel_vector
from neuros_mechint.training.state import State, changed_names, read_state, write_state
from neuros_mechint.training.undisturbed import undisturbed

_RESIDUAL_STREAM = "blocks.*.resid_post"


class MetaDynamicsTracker:
    """Follow how a network changes while it is trained.

    At the steps of a schedule the tracker runs a fixed probe through the network, in eval mode, and measures. Weights,
    gradients, buffers, train and eval flags and random states are afterwards what they were: training goes on as if
    nobody had looked.

    Parameters
    ----------
    model : torch.nn.Module or Adapter
        The network that is trained; anything that `neuros_mechint.adapt` takes and torch trains.
    inputs : tensor, tuple or dict
        The probe: a batch of independent samples, at least 4, the same at every look.
    targets : tensor, tuple or dict, optional
        What the loss compares with, one row per sample.
    loss : callable, optional
        ``loss(output, targets)`` or, without targets, ``loss(output)``: the mean over samples. By default the output's
        own field ``loss`` where it has one (HuggingFace models, given ``labels``); else no metric of the loss is
        measured.
    sites : str or sequence of str, optional
        Where activations are read; by default the residual stream after each block, or else each layer's output, or
        the states of a bare recurrent module.
    metrics : sequence of str, optional
        Of ``loss``, ``gradient_norm``, ``noise_scale``, ``weight_norm``, ``learning_speed``, ``activation_norm``,
        ``participation_ratio``, ``cka``, ``sharpness`` and ``learning_coefficient``; by default all but the last two,
        which cost as much as hundreds of steps of training.
    extra : mapping of str to callable, optional
        Metrics of one's own, or of this library: ``function(adapter, inputs)`` gives a number.
    schedule : "log", int or iterable of int
        When to look: six steps per tenfold (two up to step 10), every so many steps, or these steps.
    seed : int or numpy.random.Generator
        Chooses observations for CKA, and draws for ``sharpness`` and ``learning_coefficient``.

    Raises
    ------
    InputError, OptionError, SiteError, CapabilityError
        A probe that the model does not take, unknown metrics or sites, or a model that torch does not train.

    References
    ----------
    McCandlish et al. 2018, An empirical model of large-batch training, doi:10.48550/arXiv.1812.06162; Kornblith et al.
    2019, Similarity of neural network representations revisited, doi:10.48550/arXiv.1905.00414; Gao et al. 2017, A
    theory of multineuronal dimensionality, dynamics and measurement, doi:10.1101/214262

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> x = torch.randn(64, 3)
    >>> y = x[:, :1] * x[:, 1:2]
    >>> tracker = MetaDynamicsTracker(model, x, y, torch.nn.functional.mse_loss, schedule=50)
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    >>> for step in range(201):
    ...     _ = tracker.update(step)
    ...     optimizer.zero_grad()
    ...     torch.nn.functional.mse_loss(model(x), y).backward()
    ...     _ = optimizer.step()
    >>> record = tracker.record()
    >>> record.steps, record["cka_initial"].dims, bool(record["loss"][-1] < record["loss"][0])
    ([0, 50, 100, 150, 200], ('step', 'site'), True)
    """

    def __init__(
        self,
        model: Any,
        inputs: Any,
        targets: Any = None,
        loss: Loss | None = None,
        sites: str | Sequence[str] | None = None,
        metrics: Iterable[str] | None = None,
        extra: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        schedule: Any = "log",
        seed: SeedLike = 0,
    ) -> None:
        begin = time.perf_counter()
        self.schedule = schedule
        self._latest_due = as_schedule(schedule)
        self._inputs = inputs
        self._extra = dict(extra or {})
        self._objective = Objective(model, inputs, targets, loss)
        self.adapter = self._objective.adapter
        self.layers = by_layer(list(self._objective.named))
        with undisturbed(self._objective.module):
            output = self.adapter.run(self._inputs).output  # says what is wrong where the model does not take them
            self.metrics = chosen(metrics, self._extra, loss is not None or own_loss(output) is not None)
            self.sites = self._found_sites(sites)
            rows = {site: len(x) for site, x in self._activations().items()} if self._reads_sites() else {}
        short = [site for site, count in rows.items() if count < FEWEST_ROWS]
        if short and SIMILARITY in self.metrics:
            raise InputError(
                "the probe has too few samples",
                expected=f"at least {FEWEST_ROWS} observations at each site",
                got=f"{rows[short[0]]} at {short[0]!r}",
            )
        self._structure = _structure(self._objective)
        self._state = State.empty(int(generator(seed).integers(2**62)), [*self.metrics, *self._extra])
        self._rows = {site: kept_rows(count, seed=self._state.seed) for site, count in rows.items()}
        self._seen: int | None = None
        self._left = time.perf_counter()
        self._state.looking += self._left - begin

    def update(self, step: int, always: bool = False) -> bool:
        """Look, if it is time to: at each step of the schedule, or at the first one after it.

        Parameters
        ----------
        step : int
            How many updates of the weights there have been: 0 before the first, and never less than before.
        always : bool
            Look whatever the schedule says, as at the end of a training.

        Returns
        -------
        bool
            Whether the tracker looked.

        Raises
        ------
        InputError
            A step that has passed, as in a second training.
        SiteError
            The model is no longer built as it was.
        """
        step = whole("step", step, 0)
        self._check_order(step)
        self._check_continuation(step)
        looked = self._state.steps[-1] if self._state.steps else -1
        due = step > looked and (always or self._latest_due(step) > looked)
        now = self._time(settled=due)
        if self._seen is not None:
            self._state.training += now - self._left
        self._seen, self._left = step, now
        if due:
            try:
                self._look(step)
            finally:
                self._left = self._time(settled=True)
                self._state.looking += self._left - now
        return due

    def record(self) -> TrainingRecord:
        """Return what has been measured so far.

        Raises
        ------
        InputError
            The tracker has not looked yet.
        """
        state = self._state
        if not state.steps:
            raise InputError(
                "the tracker has not looked yet", fix="call update(step) in the loop, with a step that the schedule has"
            )
        values = {name: state.values[name] for name in state.values if name != SIMILARITY}
        arguments = {"inputs": self._inputs, "metrics": self.metrics, "extra": list(self._extra)}
        return training_record(
            state.steps,
            values,
            np.array(state.kernels) if SIMILARITY in self.metrics else None,
            list(self.layers),
            self.sites,
            Provenance.record(state.seed, self.adapter.fingerprint(), arguments | {"schedule": self.schedule}),
            {"looking_seconds": state.looking, "training_seconds": state.training},
            state.warnings,
        )

    def save(self, path: str | PathLike[str]) -> Path:
        """Write what has been measured, so that `load` can go on from there; the file is complete or not there.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        unchanged = _structure(self._objective) == self._structure
        if unchanged:  # what was measured can also be kept of a model changed since
            self._objective.renew()
        return write_state(Path(path), self._state, self._description(), self._seen, self._objective.weights)

    def load(self, path: str | PathLike[str]) -> MetaDynamicsTracker:
        """Go on from what `save` wrote, in a tracker made with the same arguments on the same kind of model.

        Save and load together with the weights: the tracker compares with the weights at its last look. Where training
        goes on from others, the next `update` warns, and so does the record: at the step of the file from any others,
        at a later one from weights that have nothing in common with these.

        Returns
        -------
        MetaDynamicsTracker
            This one.

        Raises
        ------
        StorageError
            The file is missing or damaged, or of another tracker.
        """
        self._state, self._seen = read_state(Path(path), self._description(), self._objective.weights)
        self._rows = {site: kept_rows(len(x), seed=self._state.seed) for site, x in self._quiet_activations().items()}
        self._left = time.perf_counter()
        return self

    def huggingface_callback(self) -> Any:
        """Return a callback for ``transformers.Trainer(callbacks=[...])``.

        It looks before the first step, after the last, and in between as the schedule says. The state is kept in each
        checkpoint, as ``meta_dynamics.nc``: a training that goes on from one goes on with its record.
        """
        return huggingface_callback(self)

    def lightning_callback(self) -> Any:
        """Return a callback for loops like Lightning's, with its state in ``state_dict``."""
        return lightning_callback(self)

    def __repr__(self) -> str:
        """Return what is tracked, and how often the tracker has looked."""
        looks = len(self._state.steps)
        return f"MetaDynamicsTracker({self.adapter!r}, {len(self.sites)} sites, {looks} look{'s' * (looks != 1)})"

    # -- looking -------------------------------------------------------------------------------------------------

    def _look(self, step: int) -> None:
        self._check_structure()
        self._objective.renew()
        state = self._state
        with undisturbed(self._objective.module, strangers=bool(self._extra)):
            before = None if state.weights is None else Before(state.steps[-1], state.weights)
            activations = self._activations() if self._reads_sites() else {}
            look = Look(
                self._objective,
                activations,
                self.layers,
                before,
                step,
                np.random.default_rng([state.seed, step]),  # the same whether training was interrupted or not
                self.metrics,
            )
            measured = {name: METRICS[name].measure(look) for name in self.metrics if name in METRICS}
            for name, function in self._extra.items():
                measured[name] = as_number(name, self._called(name, function))
        if SIMILARITY in self.metrics:
            state.kernels.append(self._kernels(activations))
        for name, value in measured.items():
            state.values[name].append(value)
        if "learning_speed" in self.metrics:
            state.weights = [weight.detach().clone() for weight in self._objective.weights]
        state.steps.append(step)
        self._warn_of(measured, step)

    def _called(self, name: str, function: Callable[[Any, Any], Any]) -> Any:
        try:
            return function(self.adapter, self._inputs)
        except Exception as error:
            error.add_note(f"in the metric {name!r}, which was called with the adapter and the inputs of the probe")
            raise

    def _kernels(self, activations: Mapping[str, Floats]) -> Any:
        vectors = [kernel_vector(x[self._rows[site]]) for site, x in activations.items()]
        longest = max(len(vector) for vector in vectors)
        # sites may differ in observations; zeros add nothing to a product
        padded = [np.pad(vector, (0, longest - len(vector))) for vector in vectors]
        return np.array(padded, dtype=np.float32)

    def _activations(self) -> dict[str, Floats]:
        # not `capture`, which also hashes all weights
        captured = self.adapter.observe(self._inputs, capture=self.sites).activations
        return {name: as_numpy(captured.matrix(name)).astype(float) for name in captured}

    def _quiet_activations(self) -> dict[str, Floats]:
        with undisturbed(self._objective.module):
            return self._activations() if self._reads_sites() else {}

    def _reads_sites(self) -> bool:
        return SIMILARITY in self.metrics or any(METRICS[name].scope == "site" for name in self.metrics)

    def _found_sites(self, sites: str | Sequence[str] | None) -> list[str]:
        if not self._reads_sites():
            return []
        if sites is not None:
            return list(self.adapter.capture(self._inputs, sites))
        if self._can_read(_RESIDUAL_STREAM):
            return list(self.adapter.capture(self._inputs, _RESIDUAL_STREAM))
        outputs = [layer for layer in self.layers if _is_module(self._objective.module, layer)]
        if not self._can_read(outputs):
            outputs = [layer for layer in outputs if self._can_read(layer)]  # without those that did not run
        outputs = outputs or list(self.adapter.sites())  # of a bare recurrent module, its states
        if outputs:
            return list(self.adapter.capture(self._inputs, outputs))
        raise InputError(
            "no layers were found to read",
            expected="modules with weights inside the model, that run on the probe",
            fix="name sites=, see nm.adapt(model).sites(); put a model of one layer into torch.nn.Sequential; or name "
            "metrics= that read none, such as loss and weight_norm",
        )

    def _can_read(self, sites: str | list[str]) -> bool:
        try:
            self.adapter.capture(self._inputs, sites)
        except (SiteError, InputError):
            return False
        return True

    def _check_order(self, step: int) -> None:
        if self._seen is not None and step < self._seen:
            raise InputError(
                "the tracker has been further in this training",
                expected=f"a step of at least {self._seen}",
                got=step,
                fix="make a new tracker for another training; to go on with an interrupted one, load what was saved "
                "together with the weights",
            )

    def _check_continuation(self, step: int) -> None:
        """Warn, once after a record was loaded, where the weights are not those it goes on with."""
        state, seen = self._state, self._seen
        if state.sample is None or seen is None:
            return
        self._check_structure()
        self._objective.renew()
        doubt = doubt_of_continuation(state.sample, self._objective.weights, later=step > seen)
        state.sample = None
        if doubt and state.steps:
            state.warnings.append(doubt)
            warnings.warn(doubt, UserWarning, stacklevel=3)

    def _check_structure(self) -> None:
        now = _structure(self._objective)
        if now == self._structure:
            return
        changed = changed_names(now, self._structure)
        raise SiteError(
            "the model is no longer built as it was when the tracker was made",
            expected="the same modules, and weights of the same shapes, trained as before",
            got="changes at " + ", ".join(changed[:5]),
            fix="make a new tracker for the changed model",
        )

    def _warn_of(self, measured: Mapping[str, Any], step: int) -> None:
        own = [name for name in measured if name in self._extra or name == "loss"]
        for name in own:
            told = any(text.startswith(f"{name} was") for text in self._state.warnings)
            if not math.isfinite(measured[name]) and not told:
                text = f"{name} was {measured[name]} at step {step}"
                self._state.warnings.append(text)
                warnings.warn(text, UserWarning, stacklevel=4)

    def _time(self, settled: bool) -> float:
        """Return the time, after a GPU has done what it was given where that must be ``settled``."""
        device = self._objective.weights[0].device
        if settled and device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def _description(self) -> dict[str, Any]:
        return {
            "metrics": [*self.metrics, *self._extra],
            "sites": self.sites,
            "layers": list(self.layers),
            "probe": self._objective.batch.fingerprint(),
            "targets": self._objective.targets_fingerprint(),
            "model": self._structure,
        }


def _is_module(module: torch.nn.Module, path: str) -> bool:
    try:
        return not isinstance(module.get_submodule(path), torch.nn.ModuleList)
    except AttributeError:
        return False


def _structure(objective: Objective) -> dict[str, str]:
    """Return what each module is, and the shape of each weight and whether it is trained, by name."""
    found = {path: type(part).__name__ for path, part in objective.module.named_modules() if path}
    weights = objective.module.named_parameters()
    return found | {name: f"{tuple(weight.shape)} {weight.requires_grad}" for name, weight in weights}
