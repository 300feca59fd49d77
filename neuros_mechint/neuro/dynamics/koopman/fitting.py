"""From trials to a linear model, by any of the methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.dynamics.koopman import pydmd_methods
from neuros_mechint.neuro.dynamics.koopman.forecast import LinearModel
from neuros_mechint.neuro.dynamics.koopman.observables import Observables
from neuros_mechint.neuro.dynamics.koopman.regression import ReducedOperator, factor_pairs, reduced_operator


class FitSettings(NamedTuple):
    """How to fit.

    Parameters
    ----------
    method : str
    rank : int, "optimal" or None
    delays : int
    regression : str
    dt : float
    """

    method: str
    rank: int | str | None
    delays: int
    regression: str
    dt: float


def fit_model(
    trials: Sequence[Floats], inputs: Sequence[Floats] | None, observables: Observables, settings: FitSettings
) -> tuple[LinearModel, ReducedOperator]:
    """Return linear dynamics of the observations of trials, and the factors from which errors follow.

    Parameters
    ----------
    trials : sequence of numpy.ndarray of shape (n_times, n_units)
    inputs : sequence of numpy.ndarray of shape (n_times, n_inputs), optional
        For ``dmdc``.
    observables : Observables
    settings : FitSettings

    Examples
    --------
    >>> trial = 0.5 ** np.arange(6.0)[:, None]
    >>> settings = FitSettings("dmd", None, 1, "least_squares", 1.0)
    >>> fit_model([trial], None, Observables(), settings)[0].step.tolist()
    [[0.5]]
    """
    if settings.method in pydmd_methods.METHODS:
        return _by_pydmd(trials, inputs, observables, settings)
    before, after, states = observables.pairs(trials)
    has_dictionary = observables.dictionary is not None
    scale = _sizes(before) if has_dictionary else np.ones(before.shape[1])
    before, after = before / scale, after / scale
    reduced = reduced_operator(torch.from_numpy(before), torch.from_numpy(after), settings.rank, settings.regression)
    directions = reduced.encode.numpy()
    if has_dictionary:
        decode = np.linalg.lstsq(before @ directions, states, rcond=None)[0].astype(np.float64)
    else:  # orthonormal directions of the states themselves give them back
        decode = directions[-states.shape[1] :].T
    encode = directions / scale[:, None]
    model = LinearModel(observables, encode, reduced.step.numpy(), np.ascontiguousarray(decode))
    return model, reduced._replace(encode=torch.from_numpy(encode))


def _sizes(features: Floats) -> Floats:
    sizes = np.sqrt((features**2).mean(0))
    return np.where(sizes > 0, sizes, 1.0)


def _by_pydmd(
    trials: Sequence[Floats], inputs: Sequence[Floats] | None, observables: Observables, settings: FitSettings
) -> tuple[LinearModel, ReducedOperator]:
    before, after, _ = observables.pairs(trials)
    n_units, driven = trials[0].shape[1], None
    if inputs is not None:
        driven = np.concatenate([one[observables.delays - 1 : -1] for one in inputs])
        fitted = pydmd_methods.dmd_with_inputs(before, after, driven, settings.rank, n_units)
    elif settings.method == "havok":
        fitted = pydmd_methods.havok(trials[0], settings.delays, settings.rank, settings.dt)
        driven = fitted["forcing"][:-1]
    else:
        observed = np.concatenate([before, after[-1:]])
        fitted = pydmd_methods.optimised_dmd(observed, settings.rank, settings.dt, n_units)
    encode, step, decode = (np.ascontiguousarray(fitted[name]) for name in ("encode", "step", "decode"))
    model = LinearModel(observables, encode, step, decode, fitted.get("drive"))
    now, later = before @ encode, after @ encode
    if driven is not None and model.drive is not None:
        later = later - driven @ model.drive
    blocks = factor_pairs(torch.from_numpy(now), torch.from_numpy(later))
    sizes = torch.linalg.svdvals(torch.from_numpy(before))
    return model, ReducedOperator(torch.from_numpy(encode), torch.from_numpy(step), *blocks, sizes, len(before))
