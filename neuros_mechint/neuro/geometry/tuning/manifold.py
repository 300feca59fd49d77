"""The tuning manifold: where mean responses go as a variable changes, how fast, and how well it can be read out."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.core.statistics.standard_errors import jackknife_error, t_reach
from neuros_mechint.neuro.alignment.linear.held_out import Splits, folds
from neuros_mechint.neuro.alignment.samples import samples
from neuros_mechint.neuro.geometry.arguments import refuse_extremes
from neuros_mechint.neuro.geometry.linear import participation
from neuros_mechint.neuro.geometry.tuning.basis import MOST_TERMS, Basis, best_terms, explained
from neuros_mechint.neuro.geometry.tuning.results import TuningManifold

_FEWEST_TRIALS = 40
_FEWEST_PERMUTATIONS = 19
_N_GRID = 120
_N_GROUPS = 10
_N_HALVES = 20
_TRIALS_PER_UNIT = 2
_MANY_ROUNDS = 2


class _HeldOut(NamedTuple):
    """Predictions of trials by fits to the others, and where each fold's noise puts them on the manifold."""

    predicted: Floats
    mean: Floats
    decoded: Floats | None
    terms: list[int]


def tuning_manifold(
    X: Any,
    stimulus: Any,
    period: float | None = 2 * np.pi,
    cv: int = 5,
    n_permutations: int = 19,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> TuningManifold:
    r"""Return how mean responses follow a variable: tuning curves, the curve they draw in state space, and its readout.

    Tuning curves are sums of waves (on a circle) or cubic splines (on a line), of as many terms as predict other trials
    best. Everything is judged on trials, or halves of trials, that were not fitted.

    Parameters
    ----------
    X : array_like, torch.Tensor, xarray.DataArray or Recording, (n_trials, n_units)
    stimulus : array_like of shape (n_trials,)
        The variable in each trial: a direction, a place, a time.
    period : float, optional
        Length of the circle, in units of the stimulus: 360 for degrees; None for a line.
    cv : int
        Folds of trials.
    n_permutations : int
        How often values of the variable are shuffled over trials, at least 19.
    level : float
        Coverage of the interval of the mean explained variance, jackknifed over trials.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    TuningManifold
        With ``.r2`` of each unit, ``.mean_r2``, ``.interval``, ``.p``, ``.curves``, ``.speed`` (root of the linear
        Fisher information), ``.dimension`` (of the variances that halves of the trials share) and ``.decoding_error``.

    Raises
    ------
    InputError
        Fewer than 40 trials, values that are missing, a variable that does not vary or fit the trials, or units that
        are all constant.

    References
    ----------
    Kriegeskorte and Wei 2021, Neural tuning and representational geometry, doi:10.1038/s41583-021-00502-3; Stringer et
    al. 2019, High-dimensional geometry of population responses in visual cortex, doi:10.1038/s41586-019-1346-5

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> heading, preferred = random.uniform(0, 2 * np.pi, 300), np.linspace(0, 2 * np.pi, 12, endpoint=False)
    >>> responses = np.cos(heading[:, None] - preferred) + random.normal(size=(300, 12))
    >>> found = tuning_manifold(responses, heading)
    >>> round(found.mean_r2, 1), round(found.dimension)  # a third of the variance, a circle in a plane
    (0.3, 2)
    """
    level, random = coverage(level), generator(seed)
    n_permutations = whole("n_permutations", n_permutations, _FEWEST_PERMUTATIONS)
    responses, at, basis = _checked(X, stimulus, period)
    splits = folds(len(at), cv, None, random)
    found = _held_out(responses, at, basis, splits, random, decode=True)
    drawn = np.array(
        [
            float(
                np.nanmean(
                    _r2(responses, _held_out(responses, random.permutation(at), basis, splits, random, found.terms))
                )
            )
            for _ in progress_bar(range(n_permutations), description="shuffled trials", enabled=progress)
        ]
    )
    chosen = basis._replace(n_terms=int(np.median(found.terms)))
    speed, spectrum = _speed_and_spectrum(responses, at, chosen, random)
    rounds = np.ptp(real_array(stimulus, "stimulus")) / period if period else 0.0
    cautions = _cautions(responses, found, rounds)
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    arguments = {
        "X": X,
        "stimulus": stimulus,
        "period": period,
        "cv": cv,
        "n_permutations": n_permutations,
        "level": level,
    }
    return TuningManifold(
        _dataset(responses, at, chosen, found, (speed, spectrum, drawn), level, random),
        "Tuning manifold",
        attributes={
            "level": level,
            "circular": basis.circular,
            "length": basis.high - basis.low,
            "n_terms": chosen.n_terms,
            "n_trials": len(at),
            "n_units": responses.shape[1],
        },
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("kriegeskorte2021", "stringer2019"),
        warnings=cautions,
    )


def _checked(X: Any, stimulus: Any, period: float | None) -> tuple[Floats, Floats, Basis]:
    responses, at = refuse_extremes(samples(X).values, "X"), real_array(stimulus, "stimulus")
    if at.shape != (len(responses),):
        raise InputError(
            "stimulus does not fit the trials", expected=f"{len(responses)} values", got=f"shape {at.shape}"
        )
    if len(at) < _FEWEST_TRIALS:
        raise InputError("too few trials for tuning curves", expected=f"at least {_FEWEST_TRIALS}", got=len(at))
    if not np.ptp(responses, axis=0).any():
        raise InputError("no unit varies", expected="responses that differ between trials", got="constants")
    if period is None:
        low, high = float(at.min()), float(at.max())
    else:
        low, high = 0.0, float(number("period", period, 0, np.inf, "neither"))
        at = at % high
    if len(np.unique(at)) < 4:
        raise InputError("stimulus has too few values", expected="at least 4", got=f"{len(np.unique(at))}")
    most = min(MOST_TERMS, (len(np.unique(at)) - 1) // 2 if period is not None else len(np.unique(at)) - 3)
    return responses, at, Basis(low, high, period is not None, max(1, most))


def _held_out(
    responses: Floats,
    at: Floats,
    basis: Basis,
    splits: Splits,
    random: np.random.Generator,
    terms: list[int] | None = None,
    decode: bool = False,
) -> _HeldOut:
    predicted, mean, decoded = np.empty_like(responses), np.empty_like(responses), np.empty(len(at))
    used = []
    for index, (train, test) in enumerate(splits):
        fold = random.permutation(len(train)) % 3
        n_terms = terms[index] if terms else min(basis.n_terms, best_terms(basis, at[train], responses[train], fold))
        used.append(n_terms)
        fitted = basis._replace(n_terms=n_terms)
        weights = fitted.fit(at[train], responses[train])
        predicted[test], mean[test] = fitted(at[test]) @ weights, responses[train].mean(0)
        if decode:
            precision = _precision(responses[train] - fitted(at[train]) @ weights, weights.shape[0])
            decoded[test] = _most_likely(responses[test], fitted, weights, precision)
    return _HeldOut(predicted, mean, decoded if decode else None, used)


def _r2(responses: Floats, found: _HeldOut) -> Floats:
    return explained(responses, found.predicted, found.mean)


def _precision(residuals: Floats, n_functions: int) -> Floats:
    """Return the inverse of the covariance of noise, unbiased for normal noise; of few trials, without covariances."""
    degrees, n_units = len(residuals) - n_functions, residuals.shape[1]
    noise = residuals.T @ residuals / degrees
    variances = np.diag(noise)
    floor = 1e-9 * variances.max() if variances.max() > 0 else 1.0
    if degrees < _TRIALS_PER_UNIT * n_units:
        return np.diag(1 / np.maximum(variances, floor))
    noise[np.diag_indices(n_units)] = np.maximum(variances, floor)
    return np.linalg.pinv(noise, hermitian=True) * (degrees - n_units - 1) / degrees


def _most_likely(responses: Floats, basis: Basis, weights: Floats, precision: Floats) -> Floats:
    """Return the value of the variable whose mean response is nearest, in units of noise."""
    grid = basis.grid(_N_GRID)
    means = basis(grid) @ weights
    likelihood = responses @ precision @ means.T - (means @ precision * means).sum(1) / 2
    return grid[likelihood.argmax(1)]


def _speed_and_spectrum(
    responses: Floats, at: Floats, basis: Basis, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return squared speed along the manifold and variances along its axes, as halves of the trials agree on them."""
    grid = basis.grid(_N_GRID)
    slopes, curves = basis.slopes(grid), basis(grid)
    whole_fit = basis.fit(at, responses)
    precision = _precision(responses - basis(at) @ whole_fit, len(whole_fit))
    speeds, spectra = [], []
    for _ in range(_N_HALVES):
        half = random.permutation(len(at)) % 2 == 0
        one, other = basis.fit(at[half], responses[half]), basis.fit(at[~half], responses[~half])
        speeds.append((slopes @ one @ precision * (slopes @ other)).sum(1))
        first, second = (curves @ weights - (curves @ weights).mean(0) for weights in (one, other))
        axes = np.linalg.svd(first, full_matrices=False)[2][: curves.shape[1] - 1]
        spectra.append(((first @ axes.T) * (second @ axes.T)).mean(0))
    return np.mean(speeds, axis=0), np.mean(spectra, axis=0)


def _cautions(responses: Floats, found: _HeldOut, rounds: float) -> tuple[str, ...]:
    cautions = []
    if rounds > _MANY_ROUNDS:
        cautions.append(
            f"the stimulus goes round the circle {rounds:.1f} times, and counts modulo the period: of degrees pass "
            "period=360, of values along a line period=None"
        )
    n_trials, n_units = responses.shape
    constant = int((np.ptp(responses, axis=0) == 0).sum())
    if constant:
        cautions.append(f"{constant} of {n_units} units never vary: they have no explained variance")
    if n_trials < _TRIALS_PER_UNIT * n_units + 2 * MOST_TERMS:
        cautions.append(
            f"{n_trials} trials are few for the noise covariance of {n_units} units: speed and decoding take the noise "
            "of units for independent, and speed is wrong where it is not"
        )
    if max(found.terms) == MOST_TERMS:
        cautions.append(
            f"tuning may be finer than the {MOST_TERMS} terms that are tried: too much of it counts as noise"
        )
    return tuple(cautions)


def _dataset(
    responses: Floats,
    at: Floats,
    basis: Basis,
    found: _HeldOut,
    about: tuple[Floats, Floats, Floats],
    level: float,
    random: np.random.Generator,
) -> xr.Dataset:
    speed, spectrum, drawn = about
    r2 = _r2(responses, found)
    mean = float(np.nanmean(r2))
    group = random.permutation(len(at)) % _N_GROUPS
    kept = (group != one for one in range(_N_GROUPS))
    without = [np.nanmean(explained(responses[k], found.predicted[k], found.mean[k])) for k in kept]
    reach = t_reach(float(jackknife_error(without)), _N_GROUPS - 1, level)
    grid = basis.grid(_N_GRID)
    curves = basis(grid) @ basis.fit(at, responses)
    errors = found.decoded - at if found.decoded is not None else np.full(len(at), np.nan)
    chance = random.permutation(at) - at
    return xr.Dataset(
        {
            "r2": ("unit", r2, {"long_name": "explained variance of held-out trials"}),
            "mean_r2": ((), mean, {"long_name": "mean explained variance"}),
            "low": ((), mean - reach),
            "high": ((), mean + reach),
            "p": ((), p_of_draws(mean, drawn).item(), {"long_name": "p against shuffled trials"}),
            "shuffled_r2": ("permutation", drawn, {"long_name": "mean explained variance, shuffled"}),
            "curve": (("value", "unit"), curves, {"long_name": "mean response"}),
            "speed": (
                "value",
                np.sqrt(speed.clip(0)),
                {"long_name": "speed", "units": "noise sd per unit of stimulus"},
            ),
            "spectrum": ("axis", spectrum, {"long_name": "variance that halves of the trials share"}),
            "dimension": (
                (),
                participation(spectrum.clip(0)),
                {"long_name": "participation ratio of the shared variances"},
            ),
            "decoded": ("trial", np.full(len(at), np.nan) if found.decoded is None else found.decoded),
            "stimulus": ("trial", at),
            "decoding_error": ((), _median(errors, basis), {"long_name": "median error of held-out trials"}),
            "chance_error": ((), _median(chance, basis), {"long_name": "median error of shuffled trials"}),
        },
        coords={"value": ("value", grid, {"long_name": "stimulus"})},
    )


def _median(errors: Floats, basis: Basis) -> float:
    length = basis.high - basis.low
    around = (errors + length / 2) % length - length / 2 if basis.circular else errors
    return float(np.median(np.abs(around)))
