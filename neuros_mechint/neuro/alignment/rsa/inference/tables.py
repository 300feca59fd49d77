"""From resamples to statements: standard errors, intervals, and tests against zero, other models and the ceilings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.p_values import adjust_p
from neuros_mechint.core.statistics.sign_flips import sign_flip_p
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.alignment.rsa.inference.bootstrap import KINDS, Evaluations

LEVEL = 0.95
_SMALLEST_ERROR = float(np.sqrt(np.finfo(np.float64).eps))
"""What a standard error is at least, so that models that never differ are not divided by rounding errors."""

CEILINGS = ("lower_ceiling", "upper_ceiling")


@dataclass(frozen=True)
class Observed:
    """What the data say as they are.

    Parameters
    ----------
    scores : numpy.ndarray of shape (n_models,)
    ceilings : numpy.ndarray of shape (2,)
        Lower and upper; NaN for one subject.
    by_subject : numpy.ndarray of shape (n_models, n_subjects), optional
        Absent for models that are fitted to several subjects at once.
    ceilings_by_subject : numpy.ndarray of shape (2, n_subjects), optional
    """

    scores: Floats
    ceilings: Floats
    by_subject: Floats | None = None
    ceilings_by_subject: Floats | None = None


@dataclass(frozen=True)
class Tested:
    """A quantity with its interval and its two-sided p value against zero; NaN where nothing can be said."""

    value: Floats
    error: Floats
    low: Floats
    high: Floats
    p: Floats


@dataclass(frozen=True)
class Findings:
    """Everything that is tested: models ``(n_models,)``, pairs ``(n_models, n_models)``, and the two ceilings."""

    models: Tested
    differences: Tested
    from_ceilings: tuple[Tested, Tested]


def from_bootstrap(observed: Observed, drawn: Evaluations, over: str, n_subjects: int, n_conditions: int) -> Findings:
    """Return t intervals and tests whose standard errors are those of the resamples.

    The standard error of a bootstrap of n subjects or conditions is ``sqrt((n - 1) / n)`` of what it should be, which
    is made good; where both are drawn n is the smaller number, and a dual bootstrap combines three variances.

    References
    ----------
    Schütt et al. 2023, Statistical inference on representational geometries, doi:10.7554/eLife.82566
    """
    sizes = (n_subjects, n_conditions)
    dof = {"subjects": n_subjects, "conditions": n_conditions}.get(over, min(sizes)) - 1

    def tested(value: Floats, resampled: Floats) -> Tested:
        return _t_test(value, np.sqrt(variance(resampled, over, *sizes)), dof)

    scores = drawn.scores
    columns = [
        tested(observed.scores - observed.scores[model], scores - scores[..., [model]])
        for model in range(scores.shape[-1])
    ]
    pairs = Tested(*(np.stack([getattr(one, name) for one in columns], axis=1) for name in Tested.__annotations__))
    ceilings = [
        tested(observed.scores - observed.ceilings[bound], scores - drawn.limits[..., [bound]]) for bound in (0, 1)
    ]
    return Findings(tested(observed.scores, scores), pairs, (ceilings[0], ceilings[1]))


def variance(resampled: Floats, over: str, n_subjects: int, n_conditions: int) -> Floats:
    """Return the variance of an estimate from that of its resamples.

    Parameters
    ----------
    resampled : numpy.ndarray of shape (n_kinds, n_repeats, n_resamples, ...)
        See `Evaluations`. With several repeats of a cross-validation, the part of the variance that comes from the
        choice of folds is taken out.
    over : {"subjects", "conditions", "both"}
    n_subjects, n_conditions : int
    """
    n_repeats = resampled.shape[1]
    found = _spread(resampled.mean(1))
    if n_repeats > 1:
        single = np.mean([_spread(resampled[:, repeat]) for repeat in range(n_repeats)], axis=0)
        found = np.maximum((n_repeats * found - single) / (n_repeats - 1), 0)
    if len(resampled) == len(KINDS):
        return _dual(found, n_subjects, n_conditions)
    size = {"subjects": n_subjects, "conditions": n_conditions}.get(over, min(n_subjects, n_conditions))
    return found[0] * size / (size - 1)


def _dual(found: Floats, n_subjects: int, n_conditions: int) -> Floats:
    """Return the variance over subjects and conditions: drawing both counts the noise of measurement three times."""
    both, subjects, conditions = found
    of_subjects, of_conditions = n_subjects / (n_subjects - 1), n_conditions / (n_conditions - 1)
    excess = of_subjects * of_conditions * (both - subjects - conditions)
    combined = of_subjects * subjects + of_conditions * conditions - excess
    least = np.maximum(of_subjects * subjects, of_conditions * conditions)
    return np.minimum(np.maximum(combined, least), both)


def _spread(resampled: Floats) -> Floats:
    """Return the variance over those resamples ``(n_kinds, n_resamples, ...)`` that are defined; NaN of one."""
    there = ~np.isnan(resampled)
    number = there.sum(1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, resampled, 0.0).sum(1) / number
        return (np.where(there, resampled - mean[:, None], 0.0) ** 2).sum(1) / np.where(number > 1, number - 1, np.nan)


def _t_test(value: Floats, error: Floats, dof: int) -> Tested:
    from scipy.stats import t

    reach = t_reach(error, dof, LEVEL)
    p = 2 * t.sf(np.abs(value) / np.maximum(error, _SMALLEST_ERROR), dof)
    return Tested(value, error, value - reach, value + reach, p)


def from_permutation(
    observed: Observed, p_conditions: Floats | None, over: str, n_resamples: int, seed: int
) -> Findings:
    """Return exact p values: of permuted conditions, of subjects that change their sign, or the larger of both.

    Differences between models and from the ceilings are tested over subjects only: conditions that change labels
    say that nothing at all is alike. Where a statement should hold for other conditions too they are left out, as
    they differ for these conditions even if they do not for all (with 20 subjects and 24 conditions in a quarter of
    the cases). Intervals are t intervals of the mean over subjects, and are given for these only.

    Parameters
    ----------
    observed : Observed
    p_conditions : numpy.ndarray of shape (n_models,), optional
        Where conditions were permuted.
    over : {"subjects", "conditions", "both"}
    n_resamples : int
        Most patterns of signs to try.
    seed : int
        Draws them where there are more: the same for everything, so that it can be compared.
    """
    by_subject, limits = observed.by_subject, observed.ceilings_by_subject
    if over == "conditions" or by_subject is None or limits is None:
        return _untested(observed, p_conditions)
    if p_conditions is not None:
        return _untested(observed, np.maximum(sign_flip_p(by_subject, n_resamples, seed), p_conditions))

    def tested(values: Floats) -> Tested:
        n_subjects = values.shape[-1]
        error = values.std(-1, ddof=1) / np.sqrt(n_subjects)
        found = _t_test(values.mean(-1), error, n_subjects - 1)
        return Tested(found.value, error, found.low, found.high, sign_flip_p(values, n_resamples, seed))

    differences = tested(by_subject[:, None] - by_subject[None])
    return Findings(tested(by_subject), differences, (tested(by_subject - limits[0]), tested(by_subject - limits[1])))


def _untested(observed: Observed, p_conditions: Floats | None) -> Findings:
    def only(value: Floats, p: Floats | None = None) -> Tested:
        nothing = np.full_like(value, np.nan)
        return Tested(value, nothing, nothing, nothing, nothing if p is None else p)

    scores = observed.scores
    lower, upper = (only(scores - limit) for limit in observed.ceilings)
    return Findings(only(scores, p_conditions), only(scores[:, None] - scores[None]), (lower, upper))


def dataset(observed: Observed, found: Findings, names: Sequence[str], correction: str, measure: str) -> xr.Dataset:
    """Return the findings under the names that `RSAEvaluation` documents."""
    models, pairs = ("model",), ("model", "other_model")
    variables = {
        "score": (models, found.models.value, {"long_name": f"similarity to the data, {measure}"}),
        **_columns(found.models, "", models, correction),
        "difference": (pairs, found.differences.value, {"long_name": "score minus score of the other model"}),
        **_columns(found.differences, "difference_", pairs, correction),
    }
    for name, value, tested in zip(CEILINGS, observed.ceilings, found.from_ceilings, strict=True):
        bound = name.partition("_")[0]
        variables[name] = ((), value, {"long_name": f"{bound} noise ceiling"})
        variables[f"from_{name}"] = (models, tested.value, {"long_name": f"score minus {bound} noise ceiling"})
        variables |= _columns(tested, f"from_{name}_", models, correction)
    if observed.by_subject is not None:
        variables["subject_score"] = (
            ("subject", "model"),
            observed.by_subject.T,
            {"long_name": "score in one subject"},
        )
    coords = {"model": list(names), "other_model": list(names)}
    return xr.Dataset(variables, coords)


def _columns(tested: Tested, prefix: str, dims: tuple[str, ...], correction: str) -> dict[str, tuple]:
    p = np.array(tested.p)
    if p.ndim == 2:
        np.fill_diagonal(p, np.nan)  # a model against itself
    adjusted = _adjusted(p, correction)
    entries = {
        "error": (tested.error, "standard error"),
        "low": (tested.low, f"lower end of the {LEVEL:.0%} interval"),
        "high": (tested.high, f"upper end of the {LEVEL:.0%} interval"),
        "p": (p, "p, two-sided"),
        "p_adjusted": (adjusted, f"p, two-sided, adjusted ({correction})"),
    }
    return {prefix + name: (dims, values, {"long_name": text}) for name, (values, text) in entries.items()}


def _adjusted(p: Floats, correction: str) -> Floats:
    """Return adjusted p values; of a square of pairs each pair counts once."""
    if p.ndim == 1:
        return adjust_p(p, correction)
    upper = np.triu_indices(len(p), 1)
    adjusted = np.full_like(p, np.nan)
    adjusted[upper] = adjust_p(p[upper], correction)
    adjusted.T[upper] = adjusted[upper]
    return adjusted
