"""Which layer of a model is like which region of a brain, and how alike it is on stimuli that did not choose it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.parallel import parallel_map
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.alignment.layer_region_data import Region, in_order_of, regions_of, site_blocks, site_names
from neuros_mechint.neuro.alignment.layer_region_results import LayerRegionMap
from neuros_mechint.neuro.alignment.linear.encoding import EncodingModel
from neuros_mechint.neuro.alignment.linear.estimator import check_method, with_fixed_seed
from neuros_mechint.neuro.alignment.linear.held_out import Splits, check_test_rows, folds, inner_folds, rows_of
from neuros_mechint.neuro.alignment.linear.ridge import RidgeEncoding
from neuros_mechint.neuro.alignment.reliability import split_half
from neuros_mechint.neuro.alignment.rsa.rsa import RSA
from neuros_mechint.neuro.alignment.samples import Samples
from neuros_mechint.neuro.alignment.time_ceilings import best_score, rdm_ceiling, rdms_at_each_time

_INNER_FOLDS = 3
_FEWEST_PER_FOLD = 4
_N_SPLITS = 50
_BOUNDS = ("lower", "upper")
_CITATIONS = ("yamins2014", "varma2006")


@dataclass(frozen=True)
class _Plan:
    """What all layers and regions have in common: the method, and the stimuli to choose and to judge on."""

    method: Any
    splits: Splits
    inner: list[Splits]

    @property
    def fits(self) -> bool:
        """Whether the method is fitted, so that its score is held out by itself."""
        return "cv" in inspect.signature(self.method.score).parameters


@dataclass(frozen=True)
class _Cell:
    """Scores of one layer and one region: with all stimuli, and ``(n_folds,)`` held out and to choose by."""

    score: float
    held_out: Floats
    choice: Floats
    warnings: list[str] = field(default_factory=list)


def layer_region_map(
    model: Any,
    recording: Any,
    inputs: Any = None,
    *,
    sites: str | Sequence[str] | None = None,
    stimuli: Sequence[Any] | None = None,
    method: Any = None,
    cv: Any = 5,
    groups: Sequence[Any] | None = None,
    batch_size: int | None = None,
    n_jobs: int | None = None,
    seed: SeedLike = 0,
) -> LayerRegionMap:
    """Score every site of a model against every region of a recording, and choose a layer for each region.

    The layer is chosen in the training part of each fold and judged on the stimuli left out, which had no say in the
    choice: the best of many scores is too high, the more so the more layers there are. A model runs for a few sites at
    a time, as many as fit in 256 MB, so that memory does not grow with their number.

    Parameters
    ----------
    model : Adapter, Activations, ActivationStore, or mapping of str to array_like
        With one row per stimulus at every site: for sequences choose a position, as in
        ``sites="blocks.*.resid_post[position=-1]"``.
    recording : Recording, xarray.DataArray, or mapping of str to these or to arrays
        Regions are those of the coordinate ``region``, or the names of the mapping; without either it is one region.
        ``(stimulus, unit)``, and maybe ``repetition``, or trials with the coordinate ``stimulus``. Where units have the
        coordinate ``subject``, each subject is scored alone and the mean is taken.
    inputs : inputs of the model, optional
        One for each stimulus.
    sites : str or sequence of str, optional
        Names or patterns. Default: all.
    stimuli : sequence, optional
        Label of each input, or row of the activations: rows are joined to a labelled recording by label, and by
        position only where neither side has labels.
    method : estimator with ``score(X, Y)``
        Default: `RidgeEncoding()`. `PLS`, `CCA`, `CKA`, `RSA` or your own. One whose ``score`` takes ``cv`` is fitted.
    cv, groups
        See `neuros_mechint.neuro.alignment.linear.held_out.folds`. Within the training part of a fold, methods that
        are fitted are scored in 3 folds to choose a layer; others need at least 4 stimuli in each fold.
    batch_size : int, optional
        Samples per call of the model.
    n_jobs : int or None
        Layers and regions scored at the same time, see `parallel_map`.
    seed : int or numpy.random.Generator
        Deals stimuli out to folds, and repetitions to halves.

    Returns
    -------
    LayerRegionMap
        ``.data["score"]`` is, of methods that are fitted, the mean over folds of the held-out score, otherwise the
        score with all stimuli. Ceilings of RSA are those of `noise_ceiling` with several subjects, or from repetitions
        of one (see `time_resolved_alignment`). Of encoding models, from repetitions, means over units: upper is the
        reliability (r2) or its root (correlation), what a perfect model reaches; lower what the mean of one half of the
        repetitions tells of the other (the squared correlation, or the correlation). Others have none.

    Raises
    ------
    InputError
        Other stimuli, labels on one side only, an axis that is neither stimuli nor features, a layer or region that
        does not vary, more folds than stimuli or groups, or a model without inputs.
    SiteError
        A site that is not there.

    References
    ----------
    Yamins et al. 2014, Performance-optimized hierarchical models predict neural responses in higher visual cortex,
    doi:10.1073/pnas.1403112111; Varma and Simon 2006, Bias in error estimation when using cross-validation for model
    selection, doi:10.1186/1471-2105-7-91

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> layers = {f"layer {k}": random.normal(size=(60, 5)) for k in range(3)}
    >>> regions = {"early": layers["layer 0"][:, :3], "late": layers["layer 2"] @ random.normal(size=(5, 4))}
    >>> result = nm.layer_region_map(layers, regions)
    >>> result.best_layer()[["region", "layer", "share"]].values.tolist()
    [['early', 'layer 0', 1.0], ['late', 'layer 2', 1.0]]
    """
    regions = regions_of(recording)
    names = site_names(model, sites)
    draws = int(generator(seed).integers(2**62))
    method = RidgeEncoding() if method is None else with_fixed_seed(method)
    plan = _plan(method, regions[0].n_stimuli, cv, groups, draws)
    cells: list[list[_Cell]] = []
    for block in site_blocks(model, names, inputs, stimuli, batch_size):
        work = [(name, place) for name in block for place in range(len(regions))]
        found = parallel_map(
            partial(_scored, plan, block, regions), work, n_jobs, progress=True, description="layers x regions"
        )
        cells += [found[start : start + len(regions)] for start in range(0, len(found), len(regions))]
    ceilings = np.array([_ceiling(region, method, draws) for region in regions]).T
    fingerprint = None if inputs is None else model.fingerprint()
    arguments = {"method": repr(method), "sites": names, "regions": [region.name for region in regions], "cv": str(cv)}
    record = Provenance.record(seed, fingerprint, arguments)
    return _result(cells, ceilings, names, regions, plan, record)


def _plan(method: Any, n_stimuli: int, cv: Any, groups: Sequence[Any] | None, draws: int) -> _Plan:
    check_method(method)
    splits = folds(n_stimuli, cv, groups, draws)
    inner = [inner_folds(len(train), _INNER_FOLDS, rows_of(groups, train), draws) for train, _ in splits]
    plan = _Plan(method, splits, inner)
    if not plan.fits:
        check_test_rows(splits, _FEWEST_PER_FOLD, f"a score of {type(method).__name__}")
    return plan


def _scored(plan: _Plan, sites: Mapping[str, Samples], regions: Sequence[Region], work: tuple[str, int]) -> _Cell:
    """Return the scores of one layer and one region, and what the method warned of."""
    name, region = work[0], regions[work[1]]
    x = in_order_of(region, name, sites[name])
    try:
        with _collected() as texts:
            found = [_scored_subject(plan, x, y) for y in region.patterns]
    except InputError as error:
        error.add_note(f"at site {name!r} and region {region.name!r}")
        raise
    score = float(np.mean([one[0] for one in found]))
    held_out, choice = np.mean([one[1] for one in found], axis=0), np.mean([one[2] for one in found], axis=0)
    return _Cell(score, held_out, choice, [f"{region.name}: {text}" for text in texts])


def _scored_subject(plan: _Plan, x: Floats, y: Floats) -> tuple[float, Floats, Floats]:
    method = plan.method
    if plan.fits:
        held_out = [method.score(x, y, cv=[split]) for split in plan.splits]
        choice = [
            method.score(x[train], y[train], cv=inner)
            for (train, _), inner in zip(plan.splits, plan.inner, strict=True)
        ]
        return float(np.mean(held_out)), np.array(held_out, dtype=float), np.array(choice, dtype=float)
    held_out = [method.score(x[test], y[test]) for _, test in plan.splits]
    choice = [method.score(x[train], y[train]) for train, _ in plan.splits]
    return float(method.score(x, y)), np.array(held_out, dtype=float), np.array(choice, dtype=float)


@contextmanager
def _collected() -> Iterator[list[str]]:
    """Collect the warnings of methods, which would otherwise come once for every layer, region and fold."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    texts += dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, UserWarning))


def _ceiling(region: Region, method: Any, draws: int) -> tuple[float, float]:
    """Return lower and upper ceilings; NaN where they are not known."""
    if isinstance(method, RSA):
        courses = region.courses
        pairs = np.stack([rdms_at_each_time(course.mean, method, course.times) for course in courses.values()])
        bounds = rdm_ceiling(courses, pairs, method, draws)
        return (np.nan, np.nan) if bounds is None else (float(bounds["lower"][0]), float(bounds["upper"][0]))
    repeated = all(len(course.values) > 1 for course in region.courses.values())
    if not isinstance(method, EncodingModel) or not repeated:
        return np.nan, np.nan
    both = [_encoding_bounds(course.values[:, 0], method.metric, draws) for course in region.courses.values()]
    lower, upper = np.mean(both, axis=0)
    return float(lower), float(upper)


def _encoding_bounds(responses: Floats, metric: str, draws: int) -> tuple[float, float]:
    """Return means over units of what one half of the repetitions tells of the other, and of what is reliable."""
    found = split_half(responses, _N_SPLITS, draws).data
    # units that do not vary are not scored either; negative values of noise count, or their mean would not be 0
    half, reliability = (np.nanmean(found[name].values) for name in ("half_correlation", "reliability"))
    lower = best_score(half, "r2")
    return float(lower**2 if metric == "r2" else lower), float(best_score(reliability, metric))


def _highest(scores: Floats) -> Floats:
    """Return the highest score of each region, of the layers that have one."""
    known = np.where(np.isnan(scores), -np.inf, scores).max(0)
    return np.where(np.isinf(known), np.nan, known)


def _result(
    cells: list[list[_Cell]],
    ceilings: Floats,
    names: list[str],
    regions: list[Region],
    plan: _Plan,
    record: Provenance,
) -> LayerRegionMap:
    score = np.array([[cell.score for cell in row] for row in cells])
    held_out, choice = (
        np.array([[getattr(cell, which) for cell in row] for row in cells]) for which in ("held_out", "choice")
    )
    best = np.where(np.isnan(choice), -np.inf, choice).argmax(0)  # (region, fold)
    nested = np.take_along_axis(held_out, best[None], axis=0)[0].mean(1)
    metric = getattr(plan.method, "metric", None)
    label = f"{'score' if metric is None else metric}, {type(plan.method).__name__}"
    per_fold = ("site", "region", "fold")
    data = xr.Dataset(
        {
            "score": (("site", "region"), score, {"long_name": label}),
            "fold_score": (per_fold, held_out, {"long_name": f"{label}, held out"}),
            "choice_score": (per_fold, choice, {"long_name": f"{label}, to choose by"}),
            "chosen": (("region", "fold"), np.array(names)[best], {"long_name": "layer chosen"}),
            "nested_score": ("region", nested, {"long_name": f"{label}, of the layers chosen, held out"}),
            "naive_score": ("region", _highest(held_out.mean(2)), {"long_name": f"{label}, highest of all layers"}),
            "ceiling": (("bound", "region"), ceilings, {"long_name": "noise ceiling"}),
        },
        {"site": names, "region": [region.name for region in regions], "bound": list(_BOUNDS)},
    )
    found = list(dict.fromkeys(text for row in cells for cell in row for text in cell.warnings))
    unknown = int(np.isnan(choice).any(2).sum())
    if unknown:
        found.append(f"scores of {unknown} of {choice[..., 0].size} layers and regions are NaN: these are never chosen")
    for text in found:
        warnings.warn(text, UserWarning, stacklevel=3)
    return LayerRegionMap(
        data,
        f"Layers and regions, {type(plan.method).__name__}",
        attributes={"method": repr(plan.method), "n_stimuli": regions[0].n_stimuli},
        provenance=record,
        citations=_CITATIONS,
        warnings=tuple(found),
    )
