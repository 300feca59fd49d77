"""Entropy production from recorded trajectories, by six estimators, each against trajectories run backwards."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, number
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.dynamics.trajectories import trajectories
from neuros_mechint.neuro.information.energy.density.blocks import integrated_correlation_time
from neuros_mechint.neuro.information.entropy_production import gaussian, states
from neuros_mechint.neuro.information.entropy_production.results import NAMES, EntropyProduction
from neuros_mechint.neuro.information.entropy_production.stretches import Judged, Sums, cut, judge
from neuros_mechint.neuro.information.estimate import n_draws
from neuros_mechint.neuro.information.recorded import refuse_few
from neuros_mechint.neuro.information.transfer.stationarity import changes_over_time
from neuros_mechint.neuro.information.variables import Whole

METHODS = tuple(NAMES)
_FEWEST_STEPS = 200
_MOST_STATES, _MOST_STATES_OF_WORDS, _MOST_UNITS_OF_CURRENTS = 200, 20, 12
_MEMORIES, _SAMPLES_OF_MEMORY = 3, 1000
_FEWEST_PER_PAIR = 10
_WEAK_NOISE, _LEAST_EIGENVALUE = 1e-3, 1e-10
_FEWEST_ONE_WAY = 6  # of so many that could run either way all run one way by chance in 3%
_CITATIONS = {
    "markov": ("schnakenberg1976", "seifert2012"),
    "words": ("roldan2010",),
    "linear": ("seifert2012",),
    "gaussian": ("roldan2010",),
    "tur": ("horowitz2017", "otsubo2020"),
    "neural": ("kim2020neep",),
}


class _Problem(NamedTuple):
    """Sums over stretches, how they make an estimate, what the states are, and what to warn of."""

    sums: Sums
    estimate: Callable[[Floats], float]
    sizes: str
    cautions: tuple[str, ...]


def entropy_production(
    x: Any,
    method: str = "tur",
    dt: float | None = None,
    level: float = 0.95,
    n_permutations: int = 200,
    seed: SeedLike = 0,
    progress: bool = True,
) -> EntropyProduction:
    """Return how fast a stationary process produces entropy: how much likelier it is forwards than backwards, per time.

    Parameters
    ----------
    x : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
        Trajectories ``(time,)``, ``(time, unit)`` or ``(trial, time, unit)``; a list holds trials ``(time, unit)``.
    method : {"tur", "markov", "words", "linear", "gaussian", "neural"}
        Of one unit that holds whole numbers, the states, or of continuous units: ``tur``, a lower bound by the
        thermodynamic uncertainty relation, from the current that fluctuates least; it takes the least for granted, and
        often finds much less than there is. Of states: ``markov``, from steps between states (exact if each state is
        all that the future depends on); ``words``, from words of three successively visited states, a lower bound that
        also sees order which single steps do not show. Of continuous units: ``linear``, from the drift and diffusion
        of a linear process; ``gaussian``, from normal pairs of successive states, less where samples are far apart;
        ``neural``, a lower bound by a network, on held-out stretches, for processes that are not linear (Kim et al.
        2020).
    dt : float, optional
        Time between samples; by default that of a recording with a known sampling rate, in seconds, otherwise 1. The
        estimate is that of the sampled process, less than the true one where much happens between samples; for states
        choose it much shorter than they last.
    level : float
        Coverage of the interval.
    n_permutations : int
        How often to run a random half of the stretches backwards, for p. 0 makes no test.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    EntropyProduction
        With ``.value`` in nats per unit of time (of ``dt``), ``.error``, ``.interval``, ``.p`` and ``.warnings``.

    Raises
    ------
    InputError
        Values that are missing, fewer than 200 steps, states that are not whole numbers, one state only, too many
        states or units for the method, or data that are no linear process (``linear``).
    OptionError
        Unknown method, or an option out of range.

    References
    ----------
    Seifert 2012, Stochastic thermodynamics, fluctuation theorems and molecular machines,
    doi:10.1088/0034-4885/75/12/126001; Roldan and Parrondo 2010, doi:10.1103/PhysRevLett.105.150607; Horowitz and
    Gingrich 2017, doi:10.1103/PhysRevE.96.020103; Kim et al. 2020, doi:10.1103/PhysRevLett.125.140604

    Examples
    --------
    A ring of three states that turns four times as often one way: (.4 - .1) log(.4 / .1) nats per step.

    >>> import numpy as np
    >>> turns = np.random.default_rng(1).choice([1, -1, 0], p=[0.4, 0.1, 0.5], size=20_000)
    >>> found = entropy_production(np.cumsum(turns) % 3, "markov")
    >>> low, high = found.interval
    >>> bool(low < 0.3 * np.log(4) < high), found.p < 0.01
    (True, True)
    """
    check_option("method", method, METHODS)
    level, random = coverage(level), generator(seed)
    n_permutations = n_draws("n_permutations", n_permutations)
    arguments = {"x": x, "method": method, "dt": dt, "level": level, "n_permutations": n_permutations}
    provenance = Provenance.record(seed, arguments=arguments)
    trials, rate, _ = trajectories(x)
    dt = number("dt", 1 / (rate or 1.0) if dt is None else dt, 0, np.inf, closed="neither")
    n_steps = sum(len(trial) - 1 for trial in trials)
    refuse_few(n_steps, _FEWEST_STEPS, trials, "too few steps")
    stretches = cut(trials)
    if _are_states(trials, method):
        problem = _of_states(stretches, method, dt)
    else:
        problem = _of_units(stretches, method, dt, random, progress)
    found = judge(problem.sums, problem.estimate, n_permutations, random)
    cautions = (*problem.cautions, *_of_time(trials, n_steps / len(stretches)))
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    return EntropyProduction(
        _data(found, len(problem.sums.forward), level),
        "Entropy production",
        attributes={
            "method": method,
            "level": level,
            "dt": dt,
            "n_steps": n_steps,
            "n_stretches": len(stretches),
            "sizes": problem.sizes,
            "bias": found.bias,
            "p": found.p,
        },
        provenance=provenance,
        citations=_CITATIONS[method],
        warnings=cautions,
    )


def _are_states(trials: tuple[Floats, ...], method: str) -> bool:
    """Return whether trials hold the numbers of states, or say why a method that needs them cannot go on."""
    found = trials[0].shape[1] == 1 and all((trial == np.round(trial)).all() for trial in trials)
    if method in ("markov", "words") and not found:
        raise InputError(
            f"{method!r} counts states, and these are none",
            expected="one unit of whole numbers, the states",
            got=f"{trials[0].shape[1]} units" if trials[0].shape[1] > 1 else "numbers that are not whole",
            fix="sort the values into states first, or pass a method for continuous units: 'linear', 'gaussian', "
            "'tur', 'neural'",
        )
    return found and method in ("markov", "words", "tur")


def _of_states(stretches: list[Floats], method: str, dt: float) -> _Problem:
    names, joined = np.unique(np.concatenate(stretches)[:, 0], return_inverse=True)
    n_states = len(names)
    most = _MOST_STATES_OF_WORDS if method == "words" else _MOST_STATES
    if not 2 <= n_states <= most:
        raise InputError(
            "the number of states does not fit",
            expected=f"2 to {most} for {method!r}",
            got=n_states,
            fix="join states that are alike" if n_states > most else "record until it leaves this state",
        )
    sizes = f"{n_states} states"
    codes: list[Whole] = np.split(joined.ravel(), np.cumsum([len(one) for one in stretches])[:-1])
    if method == "tur":
        sums = states.pair_sums(codes, n_states)
        return _Problem(sums, lambda total: states.state_current(total, n_states, dt), sizes, ())
    steps = states.count_steps(codes, n_states)
    counts = steps.forward.sum(0)[:-1].reshape(n_states, -1)
    cautions = (*_one_way(counts, names), *_rare_pairs(counts))
    if method == "words":
        words = states.count_words(codes, n_states)
        return _Problem(words, lambda total: states.words_divergence(total, n_states) / dt, sizes, cautions)
    return _Problem(steps, lambda total: states.steps_divergence(total, n_states) / dt, sizes, cautions)


def _one_way(counts: Floats, names: Floats) -> tuple[str, ...]:
    """Return what to warn of where a step that happens is never seen to happen backwards."""
    apart = ~np.eye(len(counts), dtype=bool)
    one_way = np.argwhere((counts >= _FEWEST_ONE_WAY) & (counts.T == 0) & apart)
    if not len(one_way):
        return ()
    first, second = names[one_way[counts[tuple(one_way.T)].argmax()]]
    share = counts[tuple(one_way.T)].sum() / counts[apart].sum()
    return (
        f"{100 * share:.2g}% of the changes of state never run backwards, such as those from {first:g} to {second:g}: "
        "if they cannot, entropy production is infinite; half a return was counted, and the value grows with the "
        'recording. Join states, record longer, or go by method="tur", which stays finite',
    )


def _rare_pairs(counts: Floats) -> tuple[str, ...]:
    """Return what to warn of where each pair of states is seen too seldom for its bias to be known."""
    both = np.triu(counts + counts.T, 1)
    n_pairs, n_moves = int((both > 0).sum()), int(both.sum())
    if n_moves >= _FEWEST_PER_PAIR * n_pairs:
        return ()
    return (
        f"{n_moves} changes of state are few for the {n_pairs} pairs of states that they join: chance looks like "
        "entropy production, of which not all was taken off; join states, or go by p",
    )


def _of_units(stretches: list[Floats], method: str, dt: float, random: np.random.Generator, progress: bool) -> _Problem:
    joined = np.concatenate(stretches)
    n_units, spread = joined.shape[1], joined.std(0)
    if (spread < 1e-12 * np.maximum(np.abs(joined).max(0), 1e-300)).any():
        raise InputError("some units are constant", expected="units that vary", got=f"unit {int(spread.argmin())}")
    if n_units == 1:
        raise InputError(
            "one continuous unit shows no circulation",
            expected="at least two units, or states",
            got="one",
            fix="pass several units, or sort its values into states and pass method='words'",
        )
    if method in ("linear", "gaussian"):
        _refuse_copies(joined)
    centred = [(values - joined.mean(0)) / spread for values in stretches]
    sizes = f"{n_units} units"
    if method == "neural":
        from neuros_mechint.neuro.information.entropy_production import neural

        sums = neural.trained_sums(centred, random, progress)
        return _Problem(sums, lambda total: neural.bound_per_time(total, dt), sizes, ())
    if method == "tur":
        if n_units > _MOST_UNITS_OF_CURRENTS:
            raise InputError("too many units", expected=f"at most {_MOST_UNITS_OF_CURRENTS}", got=n_units)
        sums = gaussian.current_sums(centred)
        return _Problem(sums, lambda total: gaussian.best_current(total, n_units, dt), sizes, ())
    sums = gaussian.covariance_sums(centred)
    cautions = _without_noise(gaussian.weakest_noise(sums.forward.sum(0), n_units))
    if method == "gaussian":
        return _Problem(sums, lambda total: gaussian.pair_divergence(total, n_units, dt), sizes, cautions)
    return _Problem(sums, lambda total: gaussian.linear_process(total, n_units, dt).production, sizes, cautions)


def _refuse_copies(joined: Floats) -> None:
    least = float(np.linalg.eigvalsh(np.corrcoef(joined.T))[0])
    if least < _LEAST_EIGENVALUE:
        raise InputError(
            "some units follow from others: their correlations have no inverse",
            expected="units none of which is a linear function of the others, and many more steps than units",
            got=f"{joined.shape[1]} units, {len(joined)} states, least eigenvalue {least:.2g}",
            fix="leave out units that follow from others, or take their first principal components",
        )


def _without_noise(weakest: float) -> tuple[str, ...]:
    """Return what to warn of where noise hardly drives some direction, given the share of its variance there."""
    if weakest > _WEAK_NOISE:
        return ()
    return (
        f"noise hardly drives some direction of these units (its variance there is {weakest:.2g} of that in another): "
        "if none does, entropy production is infinite, and the value says how finely it was sampled; leave out units "
        'that follow from others, or go by method="tur", which stays finite',
    )


def _of_time(trials: tuple[Floats, ...], n_steps: float) -> tuple[str, ...]:
    """Return what to warn of where stretches are short against the memory, or the process is not stationary."""
    short = _short_stretches(trials, n_steps)
    if short:  # what remembers for long always seems to change
        return short
    # wandering is a long memory, of which stretches have told
    changes = [what for what in changes_over_time(trials) if what in ("mean", "variance")]
    if not changes:
        return ()
    return (
        f"the process is not alike all along ({' and '.join(changes)}): what drifts looks irreversible; take stretches "
        "that are, or take the drift out",
    )


def _short_stretches(trials: tuple[Floats, ...], n_steps: float) -> tuple[str, ...]:
    # samples that are a thousandth of a stretch apart tell as well whether it is longer than the memory
    apart = max(1, int(n_steps) // _SAMPLES_OF_MEMORY)
    memory = apart * integrated_correlation_time([trial[::apart] for trial in trials])
    if n_steps >= _MEMORIES * memory:
        return ()
    return (
        f"stretches of {n_steps:.0f} steps are not much longer than the memory of {memory:.0f}: interval and p may be "
        "too small; record longer",
    )


def _data(found: Judged, n_stretches: int, level: float) -> xr.Dataset:
    reach = t_reach(found.error, n_stretches - 1, level)
    units = {"units": "nats per unit of time"}
    data: dict[str, Any] = {
        "production": ((), found.value, units | {"long_name": "entropy production"}),
        "error": ((), found.error, units | {"long_name": "standard error"}),
        "low": ((), found.value - reach, units | {"long_name": "lower end of the interval"}),
        "high": ((), found.value + reach, units | {"long_name": "upper end of the interval"}),
    }
    if found.p is not None:
        data["reversed"] = ("draw", found.drawn, units | {"long_name": "entropy production, stretches reversed"})
    return xr.Dataset(data)
