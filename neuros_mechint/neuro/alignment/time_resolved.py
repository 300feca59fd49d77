"""When a brain holds what a model represents: alignment at each time from the stimulus, tested over all times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, whole
from neuros_mechint.core.parallel import parallel_map
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.core.statistics.sign_flips import sign_patterns
from neuros_mechint.neuro.alignment.clusters import ClusterTest, cluster_test
from neuros_mechint.neuro.alignment.rsa.compare import check_varied, similarities
from neuros_mechint.neuro.alignment.rsa.inference.permutation import null_scores
from neuros_mechint.neuro.alignment.rsa.rdm import compute_rdm
from neuros_mechint.neuro.alignment.rsa.rsa import RSA
from neuros_mechint.neuro.alignment.rsa.stack import CONDITION_AXES, RDMStack, rdm_stack
from neuros_mechint.neuro.alignment.samples import Labels, label_order, samples
from neuros_mechint.neuro.alignment.time_ceilings import encoding_ceiling, rdm_ceiling, rdms_at_each_time
from neuros_mechint.neuro.alignment.time_courses import TimeCourse, time_courses
from neuros_mechint.neuro.alignment.time_results import TimeResolvedAlignment

_OVER = ("stimuli", "subjects")
_PAIRS_AT_ONCE = 2**25


def time_resolved_alignment(
    model: Any,
    recording: Any,
    method: Any = None,
    *,
    window: float | None = None,
    step: float | None = None,
    over: str = "stimuli",
    n_permutations: int = 1000,
    seed: SeedLike = 0,
    n_jobs: int | None = None,
) -> TimeResolvedAlignment:
    """Score a model against responses at each time, and find the times at which it explains them.

    Stimuli (or subjects) are rearranged in the same way at all times; clusters of times whose scores are higher than
    those of rearranged data are compared with the largest cluster of each rearrangement, wherever that is.

    Parameters
    ----------
    model : array_like, torch.Tensor, xarray.DataArray, RDMStack
        Features of the stimuli ``(n_stimuli, ...)``, or, for RSA, one RDM. Labelled ones are joined by label.
    recording : Recording, xarray.DataArray, or mapping or sequence of these
        One subject, or several as ``{name: recording}``: axes ``stimulus`` (or trials with that coordinate), ``time``,
        ``unit``, and maybe ``repetition``, over which the mean is taken. Times are relative to the stimulus.
    method : RSA, or an estimator with ``score(X, Y)``
        Default: `RSA()`. With encoding models and CCA the score is held out; every rearrangement is scored anew, which
        takes ``n_permutations`` times as long as the scores themselves.
    window : float, optional
        Seconds over which responses are averaged; must be a multiple of the bins. Default: one bin.
    step : float, optional
        Seconds between windows. Default: one bin.
    over : {"stimuli", "subjects"}
        To what the test generalises: the labels of stimuli are permuted, or the scores of subjects change their sign,
        which needs a score that is zero by chance, and at least five subjects for any p below 0.05.
    n_permutations : int
        Where there are fewer rearrangements, all of them are tried.
    seed : int or numpy.random.Generator
    n_jobs : int, optional
        Workers for methods other than RSA; see `parallel_map`.

    Returns
    -------
    TimeResolvedAlignment
        ``.values``, ``.clusters``, ``.significant``, and where it is known the ceiling. Of RSA, lower and upper: of
        several subjects as in `noise_ceiling`; of one subject with repetitions, the square root of the reliability of
        its RDM, that is split-half, extrapolated as if all noise of a dissimilarity fell with the number of repetitions
        (lower) or with its square (upper). Of encoding models, with repetitions: the mean over units of the reliability
        (r2) or of its square root (correlation); see `split_half`.

    Raises
    ------
    InputError
        Other stimuli on both sides, axes that do not fit, values that are missing, patterns that have no RDM at some
        time, or one subject where ``over="subjects"``.

    References
    ----------
    Maris and Oostenveld 2007, doi:10.1016/j.jneumeth.2007.03.024; Cichy, Pantazis and Oliva 2014, Resolving human
    object recognition in space and time, doi:10.1038/nn.3635

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> features = random.normal(size=(16, 4))
    >>> responses = random.normal(size=(16, 12, 4))
    >>> responses[:, 5:9] += 2 * features[:, None]
    >>> recording = nm.Recording(responses, sampling_rate=100.0)
    >>> result = nm.time_resolved_alignment(features, recording, n_permutations=200)
    >>> result.clusters[result.clusters.p < 0.05][["onset", "offset"]].round(2).values.tolist()
    [[0.05, 0.08]]
    """
    check_option("over", over, _OVER)
    n_permutations = whole("n_permutations", n_permutations)
    method = RSA() if method is None else method
    courses = time_courses(recording, window, step)
    if over == "subjects" and len(courses) < 2:
        raise InputError("one subject says nothing about others", expected="several recordings", got=f"{len(courses)}")
    draws = int(generator(seed).integers(2**62))  # one seed, so that all times and subjects are rearranged alike
    n_scored = n_permutations if over == "stimuli" else 0
    if isinstance(method, RSA):
        scores, pairs = _rdm_scores(model, courses, method, n_scored, draws)
        ceiling = rdm_ceiling(courses, pairs, method, draws)
    else:
        scores = _estimator_scores(model, courses, method, n_scored, draws, n_jobs)
        ceiling = encoding_ceiling(courses, method, draws)
    null = scores.mean(1) if over == "stimuli" else _flipped(scores[0], n_permutations, draws)
    arguments = {"method": repr(method), "over": over, "window": window, "step": step}
    record = Provenance.record(seed, arguments={**arguments, "n_permutations": n_permutations})
    return _result(courses, scores[0], null, ceiling, arguments, record)


def _rdm_scores(
    model: Any, courses: dict[str, TimeCourse], method: RSA, n_permutations: int, draws: int
) -> tuple[Floats, Floats]:
    """Return scores ``(1 + n_permutations, n_subjects, n_times)`` and RDMs ``(n_subjects, n_times, n_pairs)``."""
    first = next(iter(courses.values()))
    reference = _model_rdm(model, method, first.labels, first.values.shape[2])
    check_varied(reference, method.compare, "the model")
    pairs = np.stack([rdms_at_each_time(course.mean, method, course.times) for course in courses.values()])
    flat = pairs.reshape(-1, pairs.shape[-1])
    if not n_permutations:
        return similarities(flat, reference, method.compare).reshape(1, *pairs.shape[:2]), pairs
    at_once = max(1, _PAIRS_AT_ONCE // pairs.shape[-1])
    parts = [
        null_scores(flat[start : start + at_once], reference, method.compare, n_permutations, generator(draws))
        for start in range(0, len(flat), at_once)
    ]
    return np.concatenate(parts, axis=1).reshape(-1, *pairs.shape[:2]), pairs


def _model_rdm(model: Any, method: RSA, labels: Labels | None, n_stimuli: int) -> Floats:
    """Return the RDM of the model ``(1, n_pairs)``, its conditions in the order of the recording."""
    if _is_rdm(model):
        stack = rdm_stack(model, "model")
    else:
        features = samples(model, "model")
        pairs = rdm_stack(compute_rdm(features.values, method=method.rdm), "the RDM of the model").pairs
        stack = RDMStack(pairs, len(features.values), features.labels)
    if len(stack) != 1:
        raise InputError("several models at once", expected="one RDM or one set of features", got=f"{len(stack)} RDMs")
    order = label_order(labels, stack.conditions, (n_stimuli, stack.n_conditions), ("recording", "model"))
    return stack.pairs if order is None else stack.take(order).pairs


def _is_rdm(model: Any) -> bool:
    if isinstance(model, RDMStack) or type(model).__module__.startswith("rsatoolbox"):
        return True
    if isinstance(model, xr.DataArray):
        return set(CONDITION_AXES) <= set(model.dims)
    values = np.asarray(model)
    if values.ndim not in (2, 3) or values.shape[-1] != values.shape[-2]:
        return False
    mirrored = np.swapaxes(values, -1, -2)
    return bool(np.allclose(values, mirrored) and not np.diagonal(values, axis1=-2, axis2=-1).any())


def _estimator_scores(
    model: Any, courses: dict[str, TimeCourse], method: Any, n_permutations: int, draws: int, n_jobs: int | None
) -> Floats:
    """Return scores ``(1 + n_permutations, n_subjects, n_times)`` of any estimator."""
    if not callable(getattr(method, "score", None)):
        raise InputError("this is no method of alignment", expected="RSA, or an estimator with score(X, Y)", got=method)
    if isinstance(model, RDMStack) or (isinstance(model, xr.DataArray) and _is_rdm(model)):
        raise InputError("an RDM has no features", expected=f"features, for {method!r}", got="an RDM", fix="use RSA")
    first = next(iter(courses.values()))
    features = samples(model, "model")
    sizes = (first.values.shape[2], len(features.values))
    order = label_order(first.labels, features.labels, sizes, ("recording", "model"))
    x = features.values if order is None else features.values[order]
    random = generator(draws)
    orders = [np.arange(len(x)), *(random.permutation(len(x)) for _ in range(n_permutations))]
    targets = [patterns for course in courses.values() for patterns in course.mean]

    def score(patterns: Floats) -> list[float]:
        return [float(method.score(x[rows], patterns)) for rows in orders]

    found = parallel_map(score, targets, n_jobs, progress=True, description="times")
    return np.array(found).T.reshape(len(orders), len(courses), -1)


def _flipped(scores: Floats, n_permutations: int, draws: int) -> Floats:
    """Return mean scores ``(n_arrangements, n_times)`` of subjects ``(n_subjects, n_times)`` with signs flipped."""
    patterns = np.concatenate(list(sign_patterns(len(scores), n_permutations, draws)))
    if len(patterns) < 2 ** len(scores):  # drawn ones
        patterns = np.concatenate([np.ones((1, len(scores))), patterns])
    return patterns @ scores / len(scores)


def _result(
    courses: dict[str, TimeCourse],
    subject_scores: Floats,
    null: Floats,
    ceiling: dict[str, Floats] | None,
    arguments: dict[str, Any],
    record: Provenance,
) -> TimeResolvedAlignment:
    first = next(iter(courses.values()))
    test = cluster_test(null)
    p = np.full(len(first.times), np.nan)
    for start, stop, value in zip(test.starts, test.stops, test.p, strict=True):
        p[start:stop] = value
    units = "s" if first.in_seconds else "bins"
    label = f"score, {str(arguments['method']).partition('(')[0]}"
    variables: dict[str, Any] = {
        "score": ("time", null[0], {"long_name": label}),
        "threshold": ("time", test.threshold, {"long_name": "95% of rearranged data, each time alone"}),
        "p": ("time", p, {"long_name": "p of the cluster"}),
        "subject_score": (("subject", "time"), subject_scores, {"long_name": label}),
        **_clusters(test, first.times, units),
    }
    coords: dict[str, Any] = {
        "time": ("time", first.times, {"units": units, "long_name": "time from the stimulus"}),
        "subject": list(courses),
    }
    if ceiling is not None:
        variables["ceiling"] = (("bound", "time"), np.stack(list(ceiling.values())), {"long_name": "noise ceiling"})
        coords["bound"] = list(ceiling)
    return TimeResolvedAlignment(
        xr.Dataset(variables, coords),
        "Alignment over time",
        attributes={**arguments, "n_arrangements": len(null), "n_stimuli": first.values.shape[2]},
        provenance=record,
        citations=("maris2007", "cichy2014"),
        warnings=_warnings(len(null), list(courses), str(arguments["over"])),
    )


def _clusters(test: ClusterTest, times: Floats, units: str) -> dict[str, Any]:
    if not test.starts.size:
        return {}
    return {
        "onset": ("cluster", times[test.starts], {"units": units}),
        "offset": ("cluster", times[test.stops - 1], {"units": units}),
        "mass": ("cluster", test.masses, {"long_name": "sum of standardised scores"}),
        "cluster_p": ("cluster", test.p, {"long_name": "p of the cluster"}),
    }


def _warnings(n_arrangements: int, subjects: Sequence[str], over: str) -> tuple[str, ...]:
    texts: list[str] = []
    if 1 / n_arrangements > SIGNIFICANT:
        texts.append(
            f"with {n_arrangements} arrangements no p can be below {1 / n_arrangements:.2g}: "
            + ("more subjects, or over='stimuli'" if over == "subjects" else "more permutations or stimuli")
        )
    if over == "stimuli" and len(subjects) > 1:
        texts.append("the test is about other stimuli, shown to these subjects: it says nothing about other subjects")
    return tuple(texts)
