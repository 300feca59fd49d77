"""One evaluation: what is observed, what resamples or permutations say, and what to be careful about."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, check_option, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.alignment.rsa.compare import check_varied, similarities
from neuros_mechint.neuro.alignment.rsa.inference.bootstrap import KINDS, Evaluations, bootstrap
from neuros_mechint.neuro.alignment.rsa.inference.cautions import cautions
from neuros_mechint.neuro.alignment.rsa.inference.draws import draw
from neuros_mechint.neuro.alignment.rsa.inference.entrants import Entrant
from neuros_mechint.neuro.alignment.rsa.inference.folds import bootstrap_fitted, observed_fitted
from neuros_mechint.neuro.alignment.rsa.inference.general import subject_ceilings
from neuros_mechint.neuro.alignment.rsa.inference.permutation import null_scores, permutation_p
from neuros_mechint.neuro.alignment.rsa.inference.result import RSAEvaluation
from neuros_mechint.neuro.alignment.rsa.inference.tables import (
    Findings,
    Observed,
    dataset,
    from_bootstrap,
    from_permutation,
)
from neuros_mechint.neuro.alignment.rsa.stack import RDMStack

INFERENCES = ("bootstrap", "dual", "permutation")
OVER = ("both", "conditions", "subjects")
CORRECTIONS = ("fdr", "holm", "none")
_CITATIONS = {
    "bootstrap": ("kriegeskorte2008", "nili2014", "schutt2023"),
    "dual": ("kriegeskorte2008", "nili2014", "schutt2023"),
    "permutation": ("kriegeskorte2008", "nili2014", "phipson2010"),
}


def check_setting(inference: str, over: str, n_resamples: int, correction: str) -> None:
    """Raise `OptionError` for a setting that does not exist or makes no sense."""
    check_option("inference", inference, INFERENCES)
    check_option("over", over, OVER)
    check_option("correction", correction, CORRECTIONS)
    whole("n_resamples", n_resamples)
    if inference == "dual" and over != "both":
        raise OptionError(
            "a dual bootstrap resamples subjects and conditions",
            expected="over='both'",
            got=f"over={over!r}",
            fix=f"use inference='bootstrap' with over={over!r}",
        )
    if n_resamples < 2:
        raise OptionError("too few resamples", expected="at least 2, better 1000", got=n_resamples)


def evaluate(
    models: list[Entrant],
    data: RDMStack,
    compare: str,
    inference: str,
    over: str,
    n_resamples: int,
    seed: SeedLike,
    correction: str,
    n_jobs: int | None,
) -> RSAEvaluation:
    """Return the evaluation; see `RSA.evaluate`."""
    _check_subjects(data, over)
    check_varied(data.pairs, compare, "data")
    for entrant in models:
        check_varied(entrant.stack.pairs, compare, f"model {entrant.name!r}")
    provenance = Provenance.record(
        seed=seed,
        arguments={
            "models": {entrant.name: entrant.stack.pairs for entrant in models},
            "data": data.pairs,
            "compare": compare,
            "inference": inference,
            "over": over,
            "n_resamples": n_resamples,
            "correction": correction,
        },
    )
    random = generator(seed)
    permuted = inference == "permutation"
    run = _permuted if permuted else _resampled
    observed, found, details, degenerate = run(models, data, compare, inference, over, n_resamples, random, n_jobs)
    names = [entrant.name for entrant in models]
    table = dataset(observed, found, names, correction, compare)
    if "subject" in table.dims and data.names is not None:
        table = table.assign_coords(subject=list(data.names))
    shape = {"n_subjects": len(data), "n_conditions": data.n_conditions}
    return RSAEvaluation(
        table.assign(details),
        f"Similarity of {len(models)} {'model' if len(models) == 1 else 'models'} to the data",
        attributes={
            "compare": compare,
            "inference": inference,
            "over": over,
            "test": _test(inference, over),
            "correction": correction,
            "n_resamples": n_resamples,
            **shape,
            **degenerate,
        },
        provenance=provenance,
        citations=_CITATIONS[inference],
        warnings=cautions(inference, over, compare, n_resamples, degenerate["n_degenerate"], data),
    )


def _check_subjects(data: RDMStack, over: str) -> None:
    if len(data) < 2 and over != "conditions":
        raise InputError(
            "one subject cannot tell what holds in others",
            expected="RDMs of at least two subjects, (n_subjects, n, n)",
            got=f"{len(data)} RDM, and over={over!r}",
            fix="pass over='conditions', or one RDM for each subject",
        )


def _resampled(
    models: list[Entrant], data: RDMStack, compare: str, inference: str, over: str, n_resamples: int,
    random: np.random.Generator, n_jobs: int | None,
) -> tuple[Observed, Findings, dict[str, xr.Variable], dict[str, int]]:  # fmt: skip
    drawn = draw(over, n_resamples, data.n_conditions, len(data), random)
    dual = inference == "dual"
    if all(entrant.kind == "fixed" for entrant in models):
        pairs = np.concatenate([entrant.stack.pairs for entrant in models])
        observed = observe(pairs, data.pairs, compare)
        outcome = bootstrap(pairs, data.pairs, drawn, compare, dual, n_jobs)
    else:
        observed = observed_fitted(models, data, compare, random)
        outcome = bootstrap_fitted(models, data, drawn, compare, dual, random)
    found = from_bootstrap(observed, outcome, over, len(data), data.n_conditions)
    missing = np.any(np.isnan(outcome.scores), axis=(0, 1))
    no_ceiling = np.any(np.isnan(outcome.ceilings), axis=(0, 1, 3)) if len(data) > 1 else np.zeros(0)
    degenerate = {"n_degenerate": int(np.any(missing, axis=1).sum()), "n_degenerate_ceilings": int(no_ceiling.sum())}
    return observed, found, _resamples(outcome, missing, over), degenerate


def _resamples(outcome: Evaluations, missing: np.ndarray, over: str) -> dict[str, xr.Variable]:
    axes = ("drawn", "repeat", "resample")
    kinds = KINDS if len(outcome.scores) > 1 else (over,)
    return {
        "n_dropped": xr.Variable("model", missing.sum(0), {"long_name": "degenerate resamples"}),
        "resampled_score": xr.Variable((*axes, "model"), outcome.scores, {"long_name": "score in a resample"}),
        "resampled_ceiling": xr.Variable((*axes, "bound"), outcome.ceilings, {"long_name": "ceiling in a resample"}),
        "drawn": xr.Variable("drawn", list(kinds)),
        "bound": xr.Variable("bound", ["lower", "upper"]),
    }


def observe(models: Floats, data: Floats, compare: str) -> Observed:
    """Return the scores of fixed models ``(n_models, n_pairs)`` and the ceilings of data ``(n_subjects, n_pairs)``."""
    by_subject = similarities(models, data, compare)
    limits = subject_ceilings(data, compare) if len(data) > 1 else np.full((2, 1), np.nan)
    return Observed(by_subject.mean(1), limits.mean(1), by_subject, limits)


def _permuted(
    models: list[Entrant], data: RDMStack, compare: str, inference: str, over: str, n_resamples: int,
    random: np.random.Generator, n_jobs: int | None,
) -> tuple[Observed, Findings, dict[str, xr.Variable], dict[str, int]]:  # fmt: skip
    fitted = [entrant.name for entrant in models if entrant.kind != "fixed"]
    if fitted:
        raise CapabilityError(
            "models that are fitted have no exact test here",
            expected="fixed models, one RDM each",
            got=f"to be fitted: {', '.join(fitted)}",
            fix="use inference='dual' or 'bootstrap', which fit them anew in every resample, on other conditions",
        )
    pairs = np.concatenate([entrant.stack.pairs for entrant in models])
    observed = observe(pairs, data.pairs, compare)
    p_conditions, details = None, {}
    if over != "subjects":
        scores = null_scores(pairs, data.pairs, compare, n_resamples, random, n_jobs)
        p_conditions = permutation_p(scores)
        details["permuted_score"] = xr.Variable(("permutation", "model"), scores, {"long_name": "score, permuted"})
        details["p_conditions"] = xr.Variable("model", p_conditions, {"long_name": "p over conditions, two-sided"})
    found = from_permutation(observed, p_conditions, over, n_resamples, int(random.integers(2**32)))
    return observed, found, details, {"n_degenerate": 0, "n_degenerate_ceilings": 0}


def _test(inference: str, over: str) -> str:
    what = {"both": "subjects and conditions", "conditions": "conditions", "subjects": "subjects"}[over]
    if inference == "permutation":
        return {
            "both": "exact tests: the larger p of permuted conditions and of subjects that change their sign",
            "conditions": "exact test: permuted conditions",
            "subjects": "exact test: subjects that change their sign",
        }[over]
    return f"{'dual ' if inference == 'dual' else ''}bootstrap of {what}, t tests"
