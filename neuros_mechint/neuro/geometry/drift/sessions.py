"""Sessions of the same conditions, and what lies between the mean responses of two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.neuro.geometry.arguments import CONDITIONS, REPEATS, UNITS, by_axes

_FEWEST_REPEATS = 4
_FEWEST_CONDITIONS = 3
N_SPLITS = 10
_AXES = (REPEATS, CONDITIONS, UNITS)


class Parts(NamedTuple):
    """Mean squared distance of conditions between two sessions, and the parts that alignment takes away.

    All without the part of noise; together ``translation``, ``rotation``, ``scaling`` and ``residual`` are ``total``.
    """

    total: float
    translation: float
    rotation: float
    scaling: float
    residual: float


def checked_sessions(given: Any, same_units: bool) -> list[Floats]:
    """Return sessions as arrays of repeats, conditions and units, or say what is wrong with them.

    Parameters
    ----------
    given : array_like of shape (n_sessions, n_repeats, n_conditions, n_units), or a list of sessions
    same_units : bool
        Where not, sessions of fewer units get silent ones.

    Raises
    ------
    InputError
        Fewer than two sessions, four repeats or three conditions; other conditions or, where they are the same, units;
        or a session without differences between conditions.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> [each.shape for each in checked_sessions(random.normal(size=(2, 4, 5, 6)), same_units=True)]
    [(4, 5, 6), (4, 5, 6)]
    """
    if isinstance(given, list | tuple):
        found = [by_axes(each, _AXES, "a session") for each in given]
    else:
        together = by_axes(given, (("session", "day"), *_AXES), "sessions")
        found = list(together) if together.ndim else [together]
    if len(found) < 2 or any(each.ndim != 3 for each in found):
        raise InputError(
            "these are no sessions",
            expected="at least two of (n_repeats, n_conditions, n_units)",
            got=f"{len(found)} of shapes {[each.shape for each in found][:4]}",
        )
    if len({each.shape[1] for each in found}) > 1 or (same_units and len({each.shape[2] for each in found}) > 1):
        raise InputError(
            "sessions do not fit each other",
            expected="the same conditions" + (" and units" if same_units else ""),
            got=f"shapes {[each.shape for each in found][:4]}",
            fix="keep what all sessions have; for other units in each session pass same_units=False",
        )
    fewest, n_conditions = min(len(each) for each in found), found[0].shape[1]
    if fewest < _FEWEST_REPEATS or n_conditions < _FEWEST_CONDITIONS:
        raise InputError(
            "too few repeats or conditions",
            expected=f"at least {_FEWEST_REPEATS} repeats, half to align on, of {_FEWEST_CONDITIONS} conditions",
            got=f"{fewest} repeats of {n_conditions} conditions",
        )
    for number, each in enumerate(found):
        if not np.ptp(each.mean(0), axis=0).any():
            raise InputError(f"session {number} does not differ between conditions", expected="responses that vary")
    n_units = max(each.shape[2] for each in found)
    return [np.pad(each, ((0, 0), (0, 0), (0, n_units - each.shape[2]))) for each in found]


def noise_power(session: Floats) -> float:
    """Return the variance over repeats, summed over units and averaged over conditions.

    Examples
    --------
    >>> noise_power(np.array([[[1.0]], [[3.0]]]))
    2.0
    """
    return float(session.var(0, ddof=1).sum(-1).mean())


def signal_power(session: Floats) -> float:
    """Return the variance of mean responses over conditions, summed over units, without the part of noise.

    Examples
    --------
    >>> signal_power(np.array([[[1.0], [3.0]], [[1.0], [3.0]]]))
    1.0
    """
    means = session.mean(0)
    n_repeats, n_conditions = session.shape[:2]
    return float(means.var(0).sum()) - noise_power(session) / n_repeats * (1 - 1 / n_conditions)


def distance(first: Floats, second: Floats) -> float:
    """Return the mean squared distance between the mean responses of two sessions, without the part of noise.

    Examples
    --------
    >>> distance(np.zeros((2, 3, 1)), np.ones((2, 3, 1)))
    1.0
    """
    apart = ((first.mean(0) - second.mean(0)) ** 2).sum(-1).mean()
    return float(apart) - noise_power(first) / len(first) - noise_power(second) / len(second)


def split_repeats(session: Floats, random: np.random.Generator) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return which repeats to align on and which to judge on.

    Examples
    --------
    >>> learned, judged = split_repeats(np.zeros((5, 3, 2)), np.random.default_rng(0))
    >>> len(learned), len(judged)
    (2, 3)
    """
    order = random.permutation(len(session))
    return order[: len(session) // 2], order[len(session) // 2 :]


def turn(first: Floats, second: Floats) -> Floats:
    """Return the orthogonal matrix that brings mean responses, ``(n_conditions, n_units)``, nearest to others.

    `Procrustes` of the alignment room drops directions along which nothing varied, and the noise that lies there; here
    the sum of the noise has to stay what it was.

    Examples
    --------
    >>> turn(np.eye(2), np.eye(2)[::-1]).round(2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    from scipy.linalg import orthogonal_procrustes

    return np.asarray(orthogonal_procrustes(first, second)[0], dtype=np.float64)


def parts(first: Floats, second: Floats, splits: Sequence[Any]) -> Parts:
    """Return what lies between two sessions, step by step: shifted, turned, scaled, and left.

    Means, sizes and the turn come from half of the repeats; distances from the others.

    Parameters
    ----------
    first, second : numpy.ndarray of shape (n_repeats, n_conditions, n_units)
    splits : sequence of ((learned, judged), (learned, judged))
        Rows of both sessions, see `split_repeats`.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> first = random.normal(size=(1, 20, 5)) + 0.1 * random.normal(size=(8, 20, 5))
    >>> splits = [(split_repeats(first, random), split_repeats(first, random)) for _ in range(4)]
    >>> found = parts(first, first + 1, splits)
    >>> round(found.translation, 1), round(found.residual, 1)
    (5.0, 0.0)
    """
    return Parts(*np.mean([_parts(first, second, split) for split in splits], axis=0).tolist())


def _parts(first: Floats, second: Floats, split: Any) -> Parts:
    (learned_first, judged_first), (learned_second, judged_second) = split
    x, y = first[judged_first], second[judged_second]
    model_x, model_y = first[learned_first], second[learned_second]
    middle_x, middle_y = (model.mean((0, 1)) for model in (model_x, model_y))
    # one number, from the repeats that are not judged on; noise is not part of the size
    size = np.sqrt(max(signal_power(model_y), 0) / signal_power(model_x)) if signal_power(model_x) > 0 else 1.0
    rotation = turn(model_x.mean(0) - middle_x, model_y.mean(0) - middle_y)
    total = distance(x, y)
    shifted = distance(x - middle_x + middle_y, y)
    turned = distance((x - middle_x) @ rotation + middle_y, y)
    scaled = distance(size * (x - middle_x) @ rotation + middle_y, y)
    return Parts(total, total - shifted, shifted - turned, turned - scaled, scaled)


def p_of_independent_repeats(session: Floats, random: np.random.Generator, n_draws: int = 199) -> float:
    """Return p of the hypothesis that what changes from repeat to repeat is not shared by the conditions.

    Two sums over the conditions of a repeat are compared with those of repeats dealt anew within each condition: of
    how far responses are from their mean, and of how much longer they are than it. The smaller p counts, twice.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> alone = random.normal(size=(8, 10, 5)) + 3 * random.normal(size=(10, 5))
    >>> p_of_independent_repeats(alone, random) > 0.05
    True
    >>> p_of_independent_repeats(alone * random.normal(1, 0.3, size=(8, 1, 1)), random) <= 0.01
    True
    """
    errors = session - session.mean(0)
    pattern = session.mean(0) - session.mean((0, 1))

    def sizes(of: Floats) -> tuple[float, float]:
        return float((of.sum(1) ** 2).sum()), float(((of * pattern).sum((1, 2)) ** 2).sum())

    dealt = []
    for _ in range(n_draws):
        order = np.argsort(random.random(errors.shape[:2]), axis=0)
        dealt.append(sizes(np.take_along_axis(errors, order[..., None], axis=0)))
    return min(1.0, 2 * float(np.min(p_of_draws(np.array(sizes(errors)), np.array(dealt)))))


def shuffled_between(first: Floats, second: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return two sessions to which the repeats of each condition were dealt at random: without drift they are alike.

    Examples
    --------
    >>> first, second = shuffled_between(np.zeros((4, 3, 1)), np.ones((5, 3, 1)), np.random.default_rng(0))
    >>> first.shape, float(first.sum() + second.sum())
    ((4, 3, 1), 15.0)
    """
    joined = np.concatenate([first, second])
    order = np.argsort(random.random(joined.shape[:2]), axis=0)
    dealt = np.take_along_axis(joined, order[..., None], axis=0)
    return dealt[: len(first)], dealt[len(first) :]


def turned_only(first: Floats, second: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return two sessions of one geometry, shifted, scaled and turned as those given are, with trials of their noise.

    Examples
    --------
    >>> first = np.random.default_rng(0).normal(size=(4, 3, 2))
    >>> [each.shape for each in turned_only(first, first, np.random.default_rng(1))]
    [(4, 3, 2), (4, 3, 2)]
    """
    x, y = first.mean(0), second.mean(0)
    middle_x, middle_y = x.mean(0), y.mean(0)
    size = np.sqrt(max(signal_power(second), 0) / signal_power(first)) if signal_power(first) > 0 else 1.0
    rotation = turn(x - middle_x, y - middle_y)
    # what both have in common once they are aligned, along each axis of the size that repeats agree on
    common = _of_signal((size * (x - middle_x) @ rotation + y - middle_y) / 2, second, random)
    back = common @ rotation.T / size if size > 0 else 0 * common
    return _with_noise(back + middle_x, first, random), _with_noise(common + middle_y, second, random)


def _of_signal(means: Floats, session: Floats, random: np.random.Generator) -> Floats:
    """Return means whose principal components have the variance that two halves of the repeats share (cvPCA)."""
    variances = []
    for _ in range(N_SPLITS):
        one, other = (session[rows].mean(0) for rows in split_repeats(session, random))
        axes = np.linalg.svd(one - one.mean(0), full_matrices=False)[2]
        variances.append((((one - one.mean(0)) @ axes.T) * ((other - other.mean(0)) @ axes.T)).mean(0))
    kept = np.mean(variances, axis=0).clip(0)
    left, _, right = np.linalg.svd(means - means.mean(0), full_matrices=False)
    return left * np.sqrt(kept * len(means)) @ right


def _with_noise(means: Floats, session: Floats, random: np.random.Generator) -> Floats:
    """Return means with deviations of the trials of a session, drawn with their signs at random."""
    n_repeats = len(session)
    deviations = (session - session.mean(0)) * np.sqrt(n_repeats / (n_repeats - 1))
    rows = random.integers(n_repeats, size=session.shape[:2])
    drawn = np.take_along_axis(deviations, rows[..., None], axis=0)
    return means + drawn * random.choice([-1.0, 1.0], size=session.shape[:2])[..., None]
