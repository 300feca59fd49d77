"""Whether measures name the same layer, by more than other stimuli would change."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import adjust_p
from neuros_mechint.neuro.alignment.layer_region_results import LayerRegionMap
from neuros_mechint.neuro.alignment.linear.cca import CCA
from neuros_mechint.neuro.alignment.linear.ridge import RidgeEncoding
from neuros_mechint.neuro.alignment.rsa.compare import compare_rdms
from neuros_mechint.neuro.alignment.rsa.stack import rdm_stack, square, vectors
from neuros_mechint.workflows.alignment.brain_data import BrainData
from neuros_mechint.workflows.alignment.measures import CANONICAL, REGRESSION, by_rsa
from neuros_mechint.workflows.alignment.results import ChanceLevel, LayerCorrelations, LayerGeometry, MeasureAgreement
from neuros_mechint.workflows.alignment.steps import recorded_components

_HALVES = 100
_MOST_FOLDS = 5
_FEWEST_PER_FOLD = 3


class Measure(NamedTuple):
    """A measure of how like a recording layers are.

    Parameters
    ----------
    scores : numpy.ndarray of shape (n_sites,)
        With all stimuli; NaN where a layer has none.
    of_part : callable
        ``of_part(site, rows)`` returns the score of a layer on some stimuli.
    """

    scores: Floats
    of_part: Callable[[int, Any], float]

    @property
    def best(self) -> int:
        """Position of the layer with the highest score."""
        return int(np.nanargmax(self.scores))


def compare_measures(
    layers: LayerGeometry, brain: BrainData, found: Mapping[str, Result], compare: str, seed: SeedLike, progress: bool
) -> MeasureAgreement:
    """Return which layer each measure finds best, and whether any two disagree.

    Two measures disagree if each is surely higher in its own best layer than in that of the other. How sure that is
    tell random halves of the stimuli: the spread of a difference over halves is its standard error with all stimuli (a
    jackknife that leaves out half). Of one-sided t tests p is multiplied by the number of layers that could have been
    best instead, and adjusted for the pairs of measures by Holm's method.

    Parameters
    ----------
    layers : LayerGeometry
        With a second dissimilarity.
    brain : BrainData
        With responses.
    found : mapping of str to Result
        What the steps ``chance``, ``correlations`` and ``encoding`` found, as far as they apply.
    compare : str
        See `compare_rdms`.
    seed : int or numpy.random.Generator
    progress : bool

    Returns
    -------
    MeasureAgreement

    Raises
    ------
    InputError
        One measure only.
    """
    measures = _measures(layers, brain, found, compare)
    if len(measures) < 2:
        raise InputError("there is one measure only, which agrees with itself", expected="two", got=", ".join(measures))
    names, sites = list(measures), layers.data["site"].values
    best = [one.best for one in measures.values()]
    parts = _scores_of_halves(measures, sorted(set(best)), brain.n_stimuli, seed, progress)
    shape = len(names), len(names)
    difference, error = np.full(shape, np.nan), np.full(shape, np.nan)
    for row, measure in enumerate(measures.values()):
        for column, other in enumerate(best):
            if other == best[row]:
                continue
            difference[row, column] = measure.scores[best[row]] - measure.scores[other]
            error[row, column] = (parts[row][best[row]] - parts[row][other]).std(ddof=1)
    p = adjust_p(np.fmin(stats.t.sf(difference / error, brain.n_stimuli - 1) * (len(sites) - 1), 1))
    data = xr.Dataset(
        {
            "score": (("measure", "site"), np.stack([one.scores for one in measures.values()]), {"long_name": "score"}),
            "best": ("measure", sites[best], {"long_name": "layer of the highest score"}),
            "difference": (("measure", "other_measure"), difference, {"long_name": "more than in the other's best"}),
            "error": (("measure", "other_measure"), error, {"long_name": "its standard error"}),
            "p": (("measure", "other_measure"), p, {"long_name": "p of the difference, times layers"}),
        },
        {"measure": names, "other_measure": names, "site": sites},
    )
    result = MeasureAgreement(
        data,
        "Which layer each measure finds",
        attributes={"n_halves": _HALVES, "compare": compare},
        provenance=Provenance.record(seed, arguments={"measures": names, "compare": compare}),
        citations=("kriegeskorte2008",),
    )
    return result.with_warning()


def _measures(layers: LayerGeometry, brain: BrainData, found: Mapping[str, Result], compare: str) -> dict[str, Measure]:
    chance, correlations, encoding = (found.get(name) for name in ("chance", "correlations", "encoding"))
    assert isinstance(chance, ChanceLevel)
    measures = {by_rsa(layers.distance): _rsa(layers.data["dissimilarity"].values, brain.rdms, compare)}
    if brain.other is not None and layers.other is not None:
        own = layers.data["other_dissimilarity"].values
        measures[by_rsa(layers.other)] = _rsa(own, brain.other.rdms, compare)
    responses = np.asarray(brain.responses)
    if isinstance(correlations, LayerCorrelations):
        n_principal, n_components = (correlations.attributes[name] for name in ("n_principal", "n_components"))
        recorded = recorded_components(responses, n_principal)
        measures[CANONICAL] = _fitted(
            lambda site: CCA(min(n_components, layers.components(site, n_principal).shape[1])),
            {site: layers.components(site, n_principal) for site in layers.rdms},
            recorded,
            correlations.data["score"].values,
        )
    if isinstance(encoding, LayerRegionMap):
        measures[REGRESSION] = _fitted(
            lambda _: RidgeEncoding(metric="correlation"),
            {site: layers.components(site, layers.data.sizes["component"]) for site in layers.rdms},
            responses,
            encoding.data["score"].values[:, 0],
        )
    return measures


def _rsa(own: Floats, recorded: Any, compare: str) -> Measure:
    theirs = square(rdm_stack(recorded).pairs)

    def of_part(site: int, rows: Any) -> float:
        mine = square(own[site])[rows][:, rows]
        return float(np.mean(compare_rdms(vectors(mine)[None], vectors(theirs[:, rows][:, :, rows]), compare)))

    every = np.arange(theirs.shape[-1])
    unknown = np.isnan(own).any(1)
    scores = [np.nan if none else of_part(site, every) for site, none in enumerate(np.atleast_1d(unknown))]
    return Measure(np.array(scores), of_part)


def _fitted(
    method: Callable[[str], Any], components: Mapping[str, Floats], recorded: Floats, scores: Floats
) -> Measure:
    names = list(components)

    def of_part(site: int, rows: Any) -> float:
        n_folds = min(_MOST_FOLDS, len(rows) // _FEWEST_PER_FOLD)
        return method(names[site]).score(components[names[site]][rows], recorded[rows], cv=n_folds)

    return Measure(np.asarray(scores, dtype=float), of_part)


def _scores_of_halves(
    measures: Mapping[str, Measure], sites: list[int], n_stimuli: int, seed: SeedLike, progress: bool
) -> list[dict[int, Floats]]:
    """Return by measure and layer its scores on halves of the stimuli, the same for all; NaN where they are too few."""
    scores = [{site: np.full(_HALVES, np.nan) for site in sites} for _ in measures]
    if len(sites) < 2:
        return scores
    random = generator(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a method says of half the stimuli, it has said of all
        for half in progress_bar(range(_HALVES), description="halves of the stimuli", enabled=progress):
            rows = np.sort(random.permutation(n_stimuli)[: n_stimuli // 2])
            for measure, of_measure in zip(measures.values(), scores, strict=True):
                for site in sites:
                    of_measure[site][half] = _score_or_nan(measure, site, rows)
    return scores


def _score_or_nan(measure: Measure, site: int, rows: Any) -> float:
    try:
        return measure.of_part(site, rows)
    except InputError:
        return np.nan
