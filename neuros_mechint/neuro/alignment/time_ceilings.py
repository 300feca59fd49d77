"""How well a perfect model could do at each time, from repetitions or from several subjects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.alignment.linear.encoding import EncodingModel
from neuros_mechint.neuro.alignment.reliability import halves, spearman_brown, split_half
from neuros_mechint.neuro.alignment.rsa.compare import check_varied, similarities
from neuros_mechint.neuro.alignment.rsa.inference.general import subject_ceilings
from neuros_mechint.neuro.alignment.rsa.rdm import compute_rdm
from neuros_mechint.neuro.alignment.rsa.rsa import RSA
from neuros_mechint.neuro.alignment.rsa.stack import rdm_stack
from neuros_mechint.neuro.alignment.time_courses import TimeCourse

_N_SPLITS = 20


def rdms_at_each_time(patterns: Floats, method: RSA, times: Floats) -> Floats:
    """Return the RDM at each time, ``(n_times, n_pairs)``.

    Parameters
    ----------
    patterns : numpy.ndarray of shape (n_times, n_stimuli, n_units)
    method : RSA
    times : numpy.ndarray of shape (n_times,)
        For errors.

    Examples
    --------
    >>> patterns = np.random.default_rng(0).normal(size=(2, 4, 3))
    >>> rdms_at_each_time(patterns, RSA(), np.array([0.1, 0.2])).shape
    (2, 6)
    """
    found = []
    for time, one in zip(times, patterns, strict=True):
        try:
            rdm = rdm_stack(compute_rdm(one, method=method.rdm), "the RDM of the recording").pairs
            check_varied(rdm, method.compare, "the recording")
        except InputError as error:
            error.add_note(f"at time {time:g}")
            raise
        found.append(rdm[0])
    return np.stack(found)


def rdm_ceiling(
    courses: Mapping[str, TimeCourse], pairs: Floats, method: RSA, seed: SeedLike
) -> dict[str, Floats] | None:
    """Return lower and upper ceilings of RSA at each time: of several subjects, or from repetitions of one.

    Parameters
    ----------
    courses : mapping of str to TimeCourse
    pairs : numpy.ndarray of shape (n_subjects, n_times, n_pairs)
        Their RDMs.
    method : RSA
    seed : int or numpy.random.Generator
    """
    if len(courses) > 1:
        lower, upper = np.stack([subject_ceilings(one, method.compare).mean(1) for one in pairs.swapaxes(0, 1)]).T
        return {"lower": lower, "upper": upper}
    (course,) = courses.values()
    n_repetitions = len(course.values)
    if n_repetitions < 2:
        return None
    half = n_repetitions // 2
    found = []
    for first, second in halves(n_repetitions, half, _N_SPLITS, seed):
        one, other = (
            rdms_at_each_time(course.values[chosen].mean(0), method, course.times) for chosen in (first, second)
        )
        found.append([similarities(a[None], b[None], method.compare).item() for a, b in zip(one, other, strict=True)])
    correlation, factor = np.clip(np.mean(found, axis=0), 0, 1), n_repetitions / half
    # noise of a dissimilarity falls as 1 / n where it is multiplied with signal, as 1 / n^2 where with noise
    return {
        "lower": np.sqrt(spearman_brown(correlation, factor)),
        "upper": np.sqrt(spearman_brown(correlation, factor**2)),
    }


def encoding_ceiling(courses: Mapping[str, TimeCourse], method: Any, seed: int) -> dict[str, Floats] | None:
    """Return the ceiling of an encoding model at each time, or None where it is not known.

    Units that are constant at a time do not count. Reliabilities that chance makes negative count as they are, so that
    units of noise have a ceiling of 0 on average; only their mean is kept from being negative.

    Examples
    --------
    >>> encoding_ceiling({}, "no encoding model", seed=0) is None
    True
    """
    if not isinstance(method, EncodingModel) or any(len(course.values) < 2 for course in courses.values()):
        return None
    found = []
    for course in courses.values():
        responses = course.values.swapaxes(1, 2)  # (repetition, stimulus, time, unit)
        flat = split_half(responses.reshape(*responses.shape[:2], -1), _N_SPLITS, seed).values
        reliability = flat.reshape(responses.shape[2:])
        defined = np.isfinite(reliability)
        found.append(np.where(defined, reliability, 0).sum(1) / np.maximum(defined.sum(1), 1))
    return {"mean over units": best_score(np.mean(found, axis=0), method.metric)}


def best_score(reliability: Any, metric: str) -> Any:
    """Return what a perfect encoding model scores on means of so much reliability, averaged over units.

    Examples
    --------
    >>> best_score(np.array([0.64, -0.1]), "correlation").tolist()
    [0.8, 0.0]
    """
    highest = np.maximum(reliability, 0)
    return highest if metric == "r2" else np.sqrt(highest)
