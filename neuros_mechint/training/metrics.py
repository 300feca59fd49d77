"""What a tracker can measure by name: of the whole run, of each layer of weights, of each site of activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import OptionError, check_option
from neuros_mechint.core.result_files import check_storable
from neuros_mechint.training.learning_coefficient import chains_around, settings_for
from neuros_mechint.training.noise_scale import PARTS, Parts, part_gradients, scale_of, signal_and_noise
from neuros_mechint.training.norms import layer_norms, learning_speed, squared_lengths
from neuros_mechint.training.objective import Objective
from neuros_mechint.training.sharpness import top_curvature
from neuros_mechint.training.similarity import kept_rows

_MOST_OBSERVATIONS = 1024


class Before(NamedTuple):
    """The look before: its step and a copy of the weights."""

    step: int
    weights: list[torch.Tensor]


class Look:
    """One look at a network; what several metrics need is computed once.

    Parameters
    ----------
    objective : Objective
    activations : mapping of str to numpy.ndarray of shape (n_observations, n_features)
    layers : mapping of str to sequence of int
        Which weights belong to each.
    before : Before or None
    step : int
    random : numpy.random.Generator
        For what draws.
    metrics : collection of str
        What will be measured: whether gradients are needed, and of parts of the probe, for their noise.
    """

    def __init__(
        self,
        objective: Objective,
        activations: Mapping[str, Floats],
        layers: Mapping[str, Sequence[int]],
        before: Before | None,
        step: int,
        random: np.random.Generator,
        metrics: Collection[str],
    ) -> None:
        self.objective = objective
        self.activations = activations
        self.layers = layers
        self.before = before
        self.step = step
        self.random = random
        self._n_parts = min(PARTS, objective.n_samples) if "noise_scale" in metrics else 1
        self._needs_gradient = self._n_parts > 1 or "gradient_norm" in metrics

    @cached_property
    def parts(self) -> Parts:
        """Loss and gradients."""
        return part_gradients(self.objective, self._n_parts)

    @cached_property
    def loss(self) -> float:
        """Mean loss over the probe."""
        return self.parts.loss if self._needs_gradient else float(self.objective.value().detach())

    def of_sites(self, function: Callable[[Floats], float]) -> Floats:
        """Return a number for each site; NaN where activations are not finite or do not vary."""
        return np.array([function(x) if varies(x) else math.nan for x in self.activations.values()])


def varies(x: Floats) -> bool:
    """Return whether observations are finite and not all equal.

    Examples
    --------
    >>> varies(np.ones((3, 2))), varies(np.eye(2))
    (False, True)
    """
    return bool(np.isfinite(x).all() and (x != x[0]).any())


class Metric(NamedTuple):
    """A metric that has a name.

    Parameters
    ----------
    scope : {"run", "layer", "site"}
        Of what there is one number.
    long_name, units : str
    measure : callable
        ``measure(look)`` gives a number, or an array with one for each layer or site.
    needs_loss : bool
    """

    scope: str
    long_name: str
    units: str
    measure: Callable[[Look], Any]
    needs_loss: bool = False


def _gradient_norm(look: Look) -> float:
    return math.sqrt(squared_lengths(look.parts.total).sum())


def _noise_scale(look: Look) -> float:
    parts = look.parts
    if len(parts.sizes) < 2 or not np.isfinite(parts.squares).all():
        return math.nan
    return float(scale_of(*signal_and_noise(squared_lengths(parts.total).sum(), parts.squares, parts.sizes)))


def _weight_norm(look: Look) -> Floats:
    return layer_norms(look.objective.weights, look.layers)


def _learning_speed(look: Look) -> Floats:
    if look.before is None:
        return np.full(len(look.layers), np.nan)
    return learning_speed(look.before.weights, look.objective.weights, look.layers, look.step - look.before.step)


def _activation_norm(look: Look) -> Floats:
    return np.array([float(np.sqrt((x**2).sum(1).mean())) for x in look.activations.values()])


def _participation_ratio(x: Floats) -> float:
    """Return what `neuros_mechint.intrinsic_dimension` calls so, without the eigenvectors that its error needs."""
    x = x[kept_rows(len(x), _MOST_OBSERVATIONS)]
    x = x - x.mean(0)
    x /= np.abs(x).max()
    covariance = x.T @ x if len(x) > x.shape[1] else x @ x.T
    return float(np.trace(covariance) ** 2 / (covariance**2).sum())


def _sharpness(look: Look) -> float:
    return top_curvature(look.objective, look.random).value if math.isfinite(look.loss) else math.nan


def _learning_coefficient(look: Look) -> float:
    if not math.isfinite(look.loss):
        return math.nan
    settings, _ = settings_for(look.objective, None, 1.0, 200, None, None)
    return float(chains_around(look.objective, settings, 2, look.random).values.mean())


METRICS: Mapping[str, Metric] = {
    "loss": Metric("run", "loss on the probe", "", lambda look: look.loss, needs_loss=True),
    "gradient_norm": Metric("run", "length of the gradient", "", _gradient_norm, needs_loss=True),
    "noise_scale": Metric("run", "gradient noise scale", "samples", _noise_scale, needs_loss=True),
    "weight_norm": Metric(
        "layer", "length of the weights", "", lambda look: layer_norms(look.objective.weights, look.layers)
    ),
    "learning_speed": Metric("layer", "relative change of the weights", "1/step", _learning_speed),
    "activation_norm": Metric("site", "root mean squared length of activations", "", _activation_norm),
    "participation_ratio": Metric(
        "site", "participation ratio", "dimensions", lambda look: look.of_sites(_participation_ratio)
    ),
    "sharpness": Metric("run", "largest eigenvalue of the Hessian", "", _sharpness, needs_loss=True),
    "learning_coefficient": Metric("run", "local learning coefficient", "", _learning_coefficient, needs_loss=True),
}
SIMILARITY = "cka"
"""The metric that compares looks with each other: computed when a record is made."""
NAMES = (*METRICS, SIMILARITY)

TAKEN = ("step", "layer", "site", "other_step", "cka_initial", "cka_previous", "cka_final")
"""Names that a record gives to other things."""
COSTLY = ("sharpness", "learning_coefficient")
"""What is measured only where it is asked for: many gradients a look."""


def chosen(names: Iterable[str] | None, extra: Mapping[str, Any], has_loss: bool) -> tuple[str, ...]:
    """Return the names of the metrics to measure, or say what is wrong with them.

    Raises
    ------
    OptionError
        An unknown name, one that is needed twice, a metric of one's own that cannot be called, or nothing to measure.
    InputError
        A name that files cannot hold.

    Examples
    --------
    >>> chosen(None, {}, has_loss=False)
    ('weight_norm', 'learning_speed', 'activation_norm', 'participation_ratio', 'cka')
    >>> chosen(["los"], {}, has_loss=True)
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.OptionError: unknown metric 'los'
      expected: one of 'loss', 'gradient_norm', 'noise_scale', 'weight_norm', 'learning_speed', 'activation_norm',
      'participation_ratio', 'sharpness', 'learning_coefficient', 'cka'
      to fix:   did you mean 'loss'?
    """
    if names is None:
        names = [name for name in NAMES if name not in COSTLY and (has_loss or not _needs_loss(name))]
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        check_option("metric", name, NAMES)
        if _needs_loss(name) and not has_loss:
            raise OptionError(
                f"{name!r} needs a loss", expected="loss=, with targets=, or a model whose output holds a loss"
            )
    for name, function in extra.items():
        if not callable(function) or not isinstance(name, str) or name in (*NAMES, *TAKEN):
            raise OptionError(
                f"{name!r} is no metric of one's own",
                expected="a name that is not taken, and a function of the adapter and the inputs that gives a number",
                got=f"{type(function).__name__}; taken are {', '.join((*NAMES, *TAKEN))}",
            )
        check_storable(xr.Dataset({name: 0.0}))  # now, not when hours of training are saved
    if len(set(names)) < len(names) or not (names or extra):
        raise OptionError("metrics are named twice" if names else "there is nothing to measure", got=names)
    return names


def _needs_loss(name: str) -> bool:
    return name in METRICS and METRICS[name].needs_loss


def as_number(name: str, value: Any) -> float:
    """Return what a metric of one's own gave as a number; NaN and infinity pass.

    Raises
    ------
    OptionError
        It is none.

    Examples
    --------
    >>> as_number("score", torch.tensor([0.5]))
    0.5
    """
    try:
        array: npt.NDArray[Any] = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        if array.size == 1 and array.dtype.kind in "biuf":
            return float(array.item())
    except (TypeError, ValueError):
        pass
    raise OptionError(f"the metric {name!r} gave no number", expected="one real number", got=repr(value)[:80])
