"""Transfer entropy: what the past of one series tells of the next value of another, beside that one's own past."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, p_of_draws
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.dynamics.trajectories import Trajectories
from neuros_mechint.neuro.information.dependence.conditional import bins_of_tables
from neuros_mechint.neuro.information.dependence.methods import CITATIONS, Question, check_method, combined
from neuros_mechint.neuro.information.dependence.results import TransferEntropy, as_variables, beside_null
from neuros_mechint.neuro.information.estimate import n_draws
from neuros_mechint.neuro.information.estimators.binned import bins_by_rank
from neuros_mechint.neuro.information.transfer.histories import circular_shifts, past, same_labels, same_times, series
from neuros_mechint.neuro.information.transfer.stationarity import changes_over_time
from neuros_mechint.neuro.information.variables import FEWEST_SAMPLES, Whole, continuous, few_values

_GRANGER = {"gaussian": ("barnett2009",)}
_CALLED = ("the source's past", "the target", "what is given")


def transfer_entropy(
    source: Any,
    target: Any,
    *,
    source_history: int = 1,
    target_history: int = 1,
    delay: int = 1,
    condition: Any = None,
    condition_history: int = 1,
    method: str = "ksg",
    n_neighbors: int | None = None,
    n_bins: int | None = None,
    n_permutations: int = 200,
    level: float = 0.95,
    seed: SeedLike = 0,
    progress: bool = True,
) -> TransferEntropy:
    r"""Return how many nats the past of a source tells of a target's next value that the target's own past does not.

    :math:`I(Y_t; X_{t-d}, \dots, X_{t-d-l+1} \mid Y_{t-1}, \dots, Y_{t-m}, C_{t-1}, \dots, C_{t-c})`: a conditional
    mutual information. It takes for granted that the series are alike all along, and that the target's own past is
    long enough: what a longer one would tell is counted as the source's.

    Parameters
    ----------
    source, target : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of trials
        ``(time,)``, ``(time, 1)``, ``(trial, time)`` or ``(trial, time, unit)`` of the same times; a list holds trials
        ``(time,)`` or ``(time, unit)``, labelled data need an axis ``time``. An array of two axes holds trials, for a
        series has one unit as a rule (of `EnergyLandscape` and `entropy_production` it holds units). No past reaches
        into the trial before.
    source_history, target_history : int
        Samples of each past, :math:`l` and :math:`m`.
    delay : int
        Samples from the source to the target, :math:`d`.
    condition : like source, optional
        Other series whose past is known too: what drives both. Two drivers of one trial are two of its units:
        ``np.stack([first, second], axis=-1)[None]``.
    condition_history : int
        Samples of it, :math:`c`.
    method : {"ksg", "gaussian", "binned", "mixed"}
        See `conditional_mutual_information`. ``gaussian`` is half of Granger's causality (Barnett et al. 2009).
        ``binned`` takes whole numbers of few values as they are (spikes in short bins), and sorts others into bins.
    n_neighbors : int, optional
        Of ``ksg`` and ``mixed``; 3 by default.
    n_bins : int, optional
        Of ``binned``.
    n_permutations : int
        The source shifted around a circle, each trial by a time of its own: it keeps its own past and loses its times.
        They give p, and the mean that is taken off in ``.effective`` (Marschinski and Kantz 2002). With them the
        series are run backwards as well, ``.reversed``: transfer turns round then, while two views of one process, one
        noisier than the other, look as before (Haufe et al. 2013), which is warned of. 0 makes none.
    level : float
        Coverage of the interval, which comes from ten stretches of the recording, and holds no bias.
    seed : int or numpy.random.Generator
        Of the shifts.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    TransferEntropy
        With ``.value`` in nats, ``.effective``, ``.p``, ``.null``, ``.reversed``, ``.interval`` and ``.warnings``.

    Raises
    ------
    InputError
        Values that are missing, constant series, repeated samples (``ksg``), different times, or fewer than 50 times
        with a whole past.
    OptionError
        Unknown method, or an option that the method does not have.

    References
    ----------
    Schreiber 2000, Measuring Information Transfer, doi:10.1103/PhysRevLett.85.461; Barnett et al. 2009, Granger
    Causality and Transfer Entropy Are Equivalent for Gaussian Variables, doi:10.1103/PhysRevLett.103.238701;
    Marschinski and Kantz 2002, doi:10.1140/epjb/e2002-00379-2; Haufe et al. 2013, A critical assessment of connectivity
    measures for EEG data, doi:10.1016/j.neuroimage.2012.09.036

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(2, 1001))
    >>> source, target = noise[0], noise[1] + np.roll(noise[0], 1)  # follows the source by one sample
    >>> found = transfer_entropy(source[1:], target[1:], method="gaussian")
    >>> round(found.value, 1), found.p < 0.01  # half of log 2
    (0.3, True)
    """
    neighbors = check_method(method, n_neighbors, n_bins)
    lags = _Lags(
        whole("delay", delay),
        whole("source_history", source_history),
        whole("target_history", target_history),
        whole("condition_history", condition_history),
    )
    level, random, n_permutations = coverage(level), generator(seed), n_draws("n_permutations", n_permutations)
    settings = lags._asdict() | {"method": method, "n_neighbors": n_neighbors, "n_bins": n_bins, "level": level}
    data = {"source": source, "target": target, "condition": condition}
    provenance = Provenance.record(seed, arguments=data | settings | {"n_permutations": n_permutations})
    given = [(name, x) for name, x in data.items() if name != "condition" or x is not None]
    named = [(name, series(x, name)) for name, x in given]
    same_times(named)
    same_labels(given)
    question, cautions = _question(named, lags, method, neighbors, n_bins)
    value = question.estimator(*question.variables)
    error, degrees = question.sampling_error(None)
    found = as_variables("transfer entropy", value, error, t_reach(error, degrees, level))
    if n_permutations:
        rows = [length - lags.span for length in named[0][1].lengths]
        null = question.of_draws(circular_shifts(rows, lags.span + 1, n_permutations, random), progress)
        tested, caution = _tested(value, null, question, _backwards(named, lags, question, n_bins))
        found |= tested
        cautions += caution
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    return TransferEntropy(
        xr.Dataset(found),
        "Transfer entropy",
        attributes={
            "name": "transfer entropy",
            "method": method,
            "level": level,
            "n_samples": len(question.y),
            "sizes": f"{len(named[0][1].trials)} trial{'s'[: len(named[0][1].trials) > 1]}",
            "most": None,
            "embedding": lags.described(named),
        },
        provenance=provenance,
        citations=("schreiber2000", "marschinski2002", "haufe2013", *CITATIONS[method], *_GRANGER.get(method, ())),
        warnings=tuple(cautions),
    )


class _Lags(NamedTuple):
    """Samples of each past."""

    delay: int
    source_history: int
    target_history: int
    condition_history: int

    @property
    def span(self) -> int:
        """Samples before a time that has a whole past."""
        return max(self.delay + self.source_history - 1, self.target_history, self.condition_history)

    def described(self, named: list[tuple[str, Trajectories]]) -> str:
        """Return what was asked, in words."""
        rates = [found.sampling_rate for _, found in named if found.sampling_rate]
        seconds = f" ({1000 * self.delay / rates[0]:.4g} ms)" if rates else ""
        given = f", {_samples(self.condition_history)} of the condition" if len(named) > 2 else ""
        return (
            f"{_samples(self.source_history)} of the source at delay {self.delay}{seconds}, given "
            f"{_samples(self.target_history)} of the target's past{given}"
        )


def _samples(n: int) -> str:
    return f"{n} sample{'s'[: n > 1]}"


def _question(
    named: list[tuple[str, Trajectories]], lags: _Lags, method: str, n_neighbors: int, n_bins: int | None
) -> tuple[Question, list[str]]:
    """Return what is to be estimated, and what its reader must know."""
    _check_lengths(named, lags)
    variables, cautions = _variables(named, lags, method, n_bins)
    question = Question(*variables, method, n_neighbors, _CALLED)
    return question, [*_of_time(named), *cautions, *question.cautions()]


def _variables(
    named: list[tuple[str, Trajectories]], lags: _Lags, method: str, n_bins: int | None
) -> tuple[tuple[Any, Any, Any], list[str]]:
    return _coded(named, lags, n_bins) if method == "binned" else (_numbers(named, lags), [])


def _backwards(named: list[tuple[str, Trajectories]], lags: _Lags, question: Question, n_bins: int | None) -> Question:
    """Return the question about the series run backwards, with its rows in the order of time."""
    backwards = [(name, one._replace(trials=tuple(trial[::-1] for trial in one.trials))) for name, one in named]
    ends = np.cumsum([length - lags.span for length in named[0][1].lengths])
    order = np.concatenate([np.arange(end - 1, start - 1, -1) for start, end in pairwise([0, *ends])])
    variables, _ = _variables(backwards, lags, question.method, n_bins)
    return question._replace(**{name: one[order] for name, one in zip("xyz", variables, strict=True)})


def _tested(
    value: float, null: Floats, question: Question, backwards: Question
) -> tuple[dict[str, tuple[Any, ...]], list[str]]:
    """Return what surrogates and the series run backwards show, and what to warn of where those show as much."""
    seen = question.estimator(*backwards.variables)
    error, degrees = question.error_above(backwards)
    texts = {
        "effective": (value - float(null.mean()), "estimate less the mean of the surrogates"),
        "reversed": (seen, "estimate of the series reversed in time"),
        "reversed_error": (error, "standard error of the difference from that"),
    }
    found = {name: ((), number, {"long_name": text, "units": "nats"}) for name, (number, text) in texts.items()}
    found |= beside_null(value, null)
    turns = value - seen > t_reach(error, degrees, 1 - 2 * SIGNIFICANT)  # of one side
    if turns or p_of_draws(value, null) > SIGNIFICANT:
        return found, []
    return found, [
        f"run backwards, the series show {seen:.3g} nats, not clearly less than {value:.3g}: two views of one process, "
        "one noisier than the other, look like this without any transfer, and so do series that drive each other alike"
    ]


def _check_lengths(named: list[tuple[str, Trajectories]], lags: _Lags) -> None:
    lengths = named[0][1].lengths
    rows = [length - lags.span for length in lengths]
    if min(rows) < 2:
        raise InputError(
            "a trial is too short for these histories",
            expected=f"at least {lags.span + 2} times in each trial",
            got=f"{min(lengths)}",
            fix="leave it out, or take shorter histories; an array (trial, time) has time last",
        )
    if sum(rows) < FEWEST_SAMPLES:
        raise InputError(
            "too few times to estimate information",
            expected=f"at least {FEWEST_SAMPLES} with a whole past of {_samples(lags.span)}",
            got=sum(rows),
        )


def _of_time(named: list[tuple[str, Trajectories]]) -> list[str]:
    found = [(name, changes_over_time(one.trials)) for name, one in named]
    return [
        f"{name} is not alike all along ({' and '.join(changes)}): shared drifts look like transfer, and p is too "
        "small; take stretches that are, or differences"
        for name, changes in found
        if changes
    ]


def _embedded(trials: dict[str, Any], lags: _Lags) -> tuple[Any, Any, list[Any]]:
    """Return the source's past, the target's next value, and the pasts that are given."""
    first = lags.span
    given = [past(trials["target"], 1, lags.target_history, first)]
    if "condition" in trials:
        given.append(past(trials["condition"], 1, lags.condition_history, first))
    return past(trials["source"], lags.delay, lags.source_history, first), past(trials["target"], 0, 1, first), given


def _numbers(named: list[tuple[str, Trajectories]], lags: _Lags) -> tuple[Any, Any, Any]:
    source, target, given = _embedded({name: one.trials for name, one in named}, lags)
    x, y, z = continuous(list(zip(_CALLED, (source, target, np.hstack(given)), strict=True)))
    return x, y, z


def _coded(
    named: list[tuple[str, Trajectories]], lags: _Lags, n_bins: int | None
) -> tuple[tuple[Whole, Whole, Whole], list[str]]:
    """Return codes of the histories, each unit's values as they are where they are few, otherwise in bins."""
    histories = {"source": lags.source_history, "target": lags.target_history + 1, "condition": lags.condition_history}
    n_values, sorted_ones, n_columns = 1, [], 0
    for name, one in named:
        for column in one.joined().T:
            kinds = few_values(column, name)
            if kinds is None:
                n_columns += histories[name]
                sorted_ones.append(name)
            else:
                n_values *= len(kinds.values) ** histories[name]
    n_samples = sum(named[0][1].lengths)
    bins = bins_of_tables(n_samples, n_columns, n_values) if n_bins is None else whole("n_bins", n_bins, 2)
    trials = {name: _codes(one, name, bins) for name, one in named}
    source, target, given = _embedded(trials, lags)
    n_rows = len(target)
    codes = (combined([*source.T], n_rows), combined([*target.T], n_rows), combined([*np.hstack(given).T], n_rows))
    if not sorted_ones:
        return codes, []
    return codes, [
        f"{' and '.join(dict.fromkeys(sorted_ones))} sorted into {bins} bins: a binned past tells less than the past, "
        "and what it leaves open within a bin counts as transfer"
    ]


def _codes(one: Trajectories, name: str, n_bins: int) -> list[Whole]:
    joined = one.joined()
    columns = []
    for column, values in zip(continuous([(name, joined)])[0].T, joined.T, strict=True):
        kinds = few_values(values, name)
        columns.append(bins_by_rank(column, n_bins) if kinds is None else kinds.codes)
    return np.split(np.stack(columns, axis=1), np.cumsum(one.lengths)[:-1])
