"""The steps of comparing a model with a recording: each a function of arrays or a model that returns one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, SiteError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.p_values import adjust_p, p_of_draws
from neuros_mechint.neuro.alignment.linear.cca import CCA
from neuros_mechint.neuro.alignment.linear.held_out import folds
from neuros_mechint.neuro.alignment.rsa.ceilings import noise_ceiling
from neuros_mechint.neuro.alignment.rsa.compare import compare_rdms
from neuros_mechint.neuro.alignment.rsa.inference.result import RSAEvaluation
from neuros_mechint.neuro.alignment.rsa.rdm import compute_rdm
from neuros_mechint.neuro.alignment.rsa.rsa import RSA
from neuros_mechint.neuro.alignment.rsa.stack import rdm_stack, square, vectors
from neuros_mechint.workflows.alignment.brain_data import BrainData
from neuros_mechint.workflows.alignment.measures import distance, other_rdm
from neuros_mechint.workflows.alignment.order import order_check, with_doubt
from neuros_mechint.workflows.alignment.results import ChanceLevel, LayerChoice, LayerCorrelations, LayerGeometry

_BYTES_AT_ONCE = 2**30
_FEWEST_SITES = 4
_MOST_COMPONENTS = 50
_STIMULI_PER_COMPONENT = 8
_MOST_CCA_COMPONENTS = 20
_CANONICAL = 3
_FEWEST_PER_FOLD = 8
_N_FOLDS = 5
_ROUNDING = 1e-6  # of single and double precision, relative to the largest value; of half precision its own


def main_sites(model: Any) -> list[str]:
    """Return the layers of a model: the residual stream, or else its outermost modules.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> main_sites(nm.adapt(nm.load_model("induction")))
    ['blocks.0.resid_pre', 'blocks.0.resid_post', 'blocks.1.resid_post']
    """
    names = list(model.sites())
    stream = [name for name in names if name == "blocks.0.resid_pre" or name.endswith(".resid_post")]
    if stream:
        return stream
    depth = 0
    while True:
        chosen = [
            name for name in names if sum(other != name and name.startswith(f"{other}.") for other in names) <= depth
        ]
        # leave out containers whose parts are there already
        chosen = [name for name in chosen if not depth or not any(one.startswith(f"{name}.") for one in chosen)]
        if len(chosen) >= _FEWEST_SITES or len(chosen) == len(names) or depth == 3:
            return chosen
        depth += 1


def layer_geometry(
    model: Any,
    inputs: Any,
    sites: Sequence[str],
    rdm: str = "correlation",
    batch_size: int | None = None,
    progress: bool = True,
    centred: bool = False,
    other: BrainData | None = None,
) -> LayerGeometry:
    """Return how each layer tells the stimuli apart, and its principal components.

    Of sequences the last position that is no padding counts, unless ``sites`` choose another; of time the mean.
    Layers that do not tell stimuli apart are left out, with a warning. Where units are ``centred``, their mean over
    stimuli is taken out first, which changes correlation distances only. With ``other``, what the recording is by the
    other dissimilarity, layers get that too.

    Raises
    ------
    InputError
        No layer tells the stimuli apart.
    """
    rdms: dict[str, Floats] = {}
    others: dict[str, Floats | None] = {}
    scores: dict[str, Floats] = {}
    silent: list[str] = []
    for block in progress_bar(_blocks(model, inputs, sites), description="layers", enabled=progress):
        captured = model.capture(inputs, block, batch_size=batch_size)
        for name in captured:
            values = one_row_each(captured, name)
            pairs = _pairs(values, rdm, centred)
            if pairs is None:
                silent.append(str(name))
                continue
            rdms[str(name)], scores[str(name)] = pairs, principal_components(values, _MOST_COMPONENTS)
            others[str(name)] = None if other is None else _pairs(values, other_rdm(rdm), other.centred)
    if not rdms:
        raise InputError(
            "no layer tells these stimuli apart",
            expected="stimuli that differ, and for rdm='correlation' layers of at least 2 units",
            got=", ".join(silent[:5]) or "no site",
        )
    attributes = {"rdm": rdm, "centred": centred, "reduced": "the last position that is no padding; over time the mean"}
    data = _of_layers(rdms, scores, rdm)
    if other is not None and any(one is not None for one in others.values()):
        attributes["other_distance"] = distance(other_rdm(rdm), other.centred)
        none = np.full(data.sizes["pair"], np.nan)
        stacked = np.stack([none if one is None else one for one in others.values()])
        label = {"long_name": f"dissimilarity, {other_rdm(rdm)}"}
        data = data.assign(other_dissimilarity=(("site", "pair"), stacked, label))
    texts = (f"left out, because stimuli are alike there or have no {rdm}: {', '.join(silent)}",) if silent else ()
    return LayerGeometry(
        data,
        "How each layer tells stimuli apart",
        attributes=attributes,
        provenance=Provenance.record(model=model.fingerprint(), arguments={"inputs": inputs, "sites": list(sites)}),
        citations=("kriegeskorte2008",),
        warnings=texts,
    )


def _of_layers(rdms: dict[str, Floats], scores: dict[str, Floats], rdm: str) -> xr.Dataset:
    width = max(one.shape[1] for one in scores.values())
    padded = [np.pad(one, ((0, 0), (0, width - one.shape[1])), constant_values=np.nan) for one in scores.values()]
    return xr.Dataset(
        {
            "dissimilarity": (("site", "pair"), np.stack(list(rdms.values())), {"long_name": f"dissimilarity, {rdm}"}),
            "component": (("site", "stimulus", "component"), np.stack(padded), {"long_name": "principal component"}),
        },
        {"site": list(rdms)},
    )


def one_row_each(captured: Any, site: str) -> torch.Tensor:
    """Return what a site holds for each stimulus, ``(n_stimuli, n_features)``: last position, mean over time."""
    values, dims = captured[site], list(captured.dims(site))
    if "position" in dims:
        axis, mask = dims.index("position"), captured.attention_mask
        moved = values.movedim(axis, 1)
        last = torch.full((len(moved),), -1) if mask is None else _last_kept(mask)
        values = moved[torch.arange(len(moved)), last.to(moved.device)]
        dims.remove("position")
    if "time" in dims:
        finer = torch.promote_types(values.dtype, torch.float32)
        values = values.mean(dims.index("time"), dtype=finer)
    return values.flatten(1).cpu()


def principal_components(values: torch.Tensor, most: int) -> Floats:
    """Return the principal components of rows, ``(n_rows, n_components)``, largest first, from their inner products.

    Examples
    --------
    >>> principal_components(torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), 5).shape
    (3, 1)
    """
    centred = values.double().numpy()
    centred = centred - centred.mean(0)
    sizes, vectors_ = np.linalg.eigh(centred @ centred.T)
    kept = sizes > 1e-10 * max(float(sizes[-1]), np.finfo(float).tiny)
    scores = (vectors_[:, kept] * np.sqrt(sizes[kept]))[:, ::-1][:, :most]
    return scores * np.where(scores[np.abs(scores).argmax(0), range(scores.shape[1])] < 0, -1.0, 1.0)


def recorded_components(responses: Any, most: int) -> Floats:
    """Return the principal components of responses, as `principal_components`."""
    return principal_components(torch.tensor(np.asarray(responses), dtype=torch.float64), most)  # a copy: read-only


def evaluate_layers(
    layers: LayerGeometry, rdms: Any, counted: str, compare: str, n_resamples: int, seed: SeedLike
) -> RSAEvaluation:
    """Return how like the recording each layer is, and how surely, with both noise ceilings.

    Of several subjects the statement is about other subjects and other stimuli; of repetitions, or one recording, about
    other stimuli.
    """
    both = counted == "subject"
    found = RSA(compare=compare).evaluate(
        layers.rdms,
        rdm_stack(rdms).pairs,
        inference="dual" if both else "bootstrap",
        over="both" if both else "conditions",
        n_resamples=n_resamples,
        seed=seed,
    )
    count = f"{len(layers.rdms)} layers" if len(layers.rdms) > 1 else "one layer"
    called = {"model": "layer", "other_model": "other layer"}
    named = {axis: found.data[axis].assign_attrs(long_name=name) for axis, name in called.items()}
    title = f"Similarity of {count} to the recording, by {layers.distance}"
    return replace(found, data=found.data.assign_coords(named), title=title)


def chance_level(
    layers: LayerGeometry, brain: BrainData, compare: str, n_resamples: int, seed: SeedLike
) -> ChanceLevel:
    """Return how like the recording layers are when its stimuli are shuffled, all layers by the same shuffle."""
    rdms = brain.rdms
    result = RSA(compare=compare).evaluate(
        layers.rdms, rdm_stack(rdms).pairs, "permutation", "conditions", n_resamples, seed, correction="none"
    )
    drawn = result.data["permuted_score"].values[1:]
    score = result.data["score"].values
    p = p_of_draws(score, drawn.max(1)[:, None])
    order = order_check(layers, rdms, n_resamples, seed)
    label = {"long_name": f"similarity, {compare}"}
    data = xr.Dataset(
        {
            "score": ("site", score, label),
            "typical": ("site", np.median(drawn, axis=0), label),
            "high": ("site", np.quantile(drawn, 0.95, axis=0), label),
            "p": ("site", p, {"long_name": "p, of the best of all layers with shuffled stimuli"}),
            "order": ("site", order.layers, {"long_name": "correlation with the distance of stimuli in their order"}),
            "order_p": ("site", order.layer_p, {"long_name": "p of that correlation with shuffled stimuli"}),
        },
        {"site": list(layers.rdms)},
    )
    attributes = {"best_p": float(p.min()), "n_resamples": n_resamples, "shown_at_random": brain.shown_at_random}
    attributes |= {"order_of_recording": order.recording, "order_of_recording_p": order.recording_p}
    attributes |= {"compare": compare, "distance": layers.distance}
    found = ChanceLevel(data, "The same with shuffled stimuli", attributes, result.provenance, result.citations)
    return with_doubt(found, found, found.best)


def choose_layer(layers: LayerGeometry, rdms: Any, counted: str, compare: str, seed: SeedLike) -> LayerChoice:
    """Return which layer is best in all subjects (or repetitions) but one, and its score in that one.

    Of one recording the layer is chosen on some stimuli and judged on others.

    Raises
    ------
    InputError
        One recording of too few stimuli for two parts.
    """
    recorded = rdm_stack(rdms).pairs
    names, own = list(layers.rdms), np.stack(list(layers.rdms.values()))
    if len(recorded) > 1:
        scores = np.asarray(compare_rdms(own, recorded, compare))
        others = [np.delete(scores, one, 1).mean(1) for one in range(scores.shape[1])]
        labels = list(rdm_stack(rdms).names or range(len(recorded)))
    else:
        scores, others = _by_stimuli(square(own), square(recorded[0]), compare, seed)
        labels, counted = list(range(scores.shape[1])), "part of the stimuli"
    chosen = [int(one.argmax()) for one in others]
    bounds = _ceilings(recorded, compare)
    label = {"long_name": f"similarity, {compare}"}
    data = xr.Dataset(
        {
            "score": (("site", "left_out"), scores, label),
            "chosen": ("left_out", [names[one] for one in chosen], {"long_name": "layer chosen"}),
            "held_out_score": ("left_out", scores[chosen, range(len(chosen))], label),
            "lower_ceiling": bounds[0],
            "upper_ceiling": bounds[1],
        },
        {"site": names, "left_out": [str(one) for one in labels]},
    )
    return LayerChoice(
        data,
        "Layer by layer, and which one is chosen" if len(names) > 1 else f"The layer in each {counted}",
        attributes={"counted": counted, "compare": compare, "distance": layers.distance},
        provenance=Provenance.record(seed, arguments={"recorded": recorded, "compare": compare}),
        citations=("nili2014", "varma2006"),
    )


def correlate_layers(
    layers: LayerGeometry,
    responses: Any,
    n_resamples: int,
    seed: SeedLike,
    progress: bool = True,
) -> LayerCorrelations:
    """Return held-out canonical correlations of principal components of each layer with those of the responses.

    Raises
    ------
    InputError
        Too few stimuli, or responses that do not vary.
    """
    values = np.asarray(responses)
    n_principal = int(np.clip(len(values) // _STIMULI_PER_COMPONENT, 1, _MOST_CCA_COMPONENTS))
    recorded = recorded_components(values, n_principal)
    if not recorded.shape[1]:
        raise InputError("the responses are the same to all stimuli", expected="responses that vary")
    draws = generator(seed)
    found: list[tuple[float, float]] = []
    n_components = _CANONICAL
    for site in progress_bar(list(layers.rdms), description="canonical correlations", enabled=progress):
        components = layers.components(site, n_principal)
        n_components = min(_CANONICAL, components.shape[1], recorded.shape[1])
        cca = CCA(n_components)
        score = cca.score(components, recorded, seed=int(draws.integers(2**31)))
        test = cca.permutation_test(components, recorded, n_resamples, int(draws.integers(2**31)))
        found.append((score, float(test.p[0])))
    score, p = np.array(found).T
    data = xr.Dataset(
        {
            "score": ("site", score, {"long_name": "canonical correlation, held out"}),
            "p": ("site", p, {"long_name": "p with shuffled stimuli"}),
            "p_adjusted": ("site", adjust_p(p), {"long_name": "p after Holm's correction"}),
        },
        {"site": list(layers.rdms)},
    )
    return LayerCorrelations(
        data,
        "Canonical correlations",
        attributes={"n_principal": n_principal, "n_components": n_components},
        provenance=Provenance.record(seed, arguments={"responses": values, "n_resamples": n_resamples}),
        citations=("hotelling1936", "winkler2020"),
    )


def sites_in_time(model: Any, inputs: Any, sites: Sequence[str]) -> list[str]:
    """Return the sites that have an axis of time or of positions, seen on the first two stimuli."""
    captured = model.capture(inputs[:2], list(sites))
    return [str(name) for name in captured if {"time", "position"} & set(captured.dims(name))]


def _blocks(model: Any, inputs: Any, sites: Sequence[str]) -> list[list[str]]:
    """Return sites in groups that fit in memory together, by their size for one stimulus."""
    names = [name for pattern in sites for name in _matching(model, pattern)]
    names = list(dict.fromkeys(names))
    if not names:
        raise SiteError("no sites to compare", expected="names or patterns of model.sites()")
    one = model.capture(inputs[:1], names)
    blocks: list[list[str]] = [[]]
    used = 0
    for name in one:
        size = one[name].numel() * one[name].element_size() * len(inputs)
        if blocks[-1] and used + size > _BYTES_AT_ONCE:
            blocks.append([])
            used = 0
        blocks[-1].append(str(name))
        used += size
    return blocks


def _matching(model: Any, pattern: str) -> list[str]:
    base, mark, index = pattern.partition("[")
    return [f"{name}{mark}{index}" for name in model.sites(base)]


def _pairs(values: torch.Tensor, rdm: str, centred: bool) -> Floats | None:
    """Return the dissimilarities of rows, or None where these are alike up to rounding, or have none."""
    rounding = max(_ROUNDING, torch.finfo(values.dtype).eps) if values.is_floating_point() else _ROUNDING
    values = values.double()
    if float((values - values[:1]).abs().max()) <= rounding * float(values.abs().max()):
        return None
    try:
        return rdm_stack(compute_rdm(values - values.mean(0) if centred else values, method=rdm)).pairs[0]
    except InputError:
        return None


def _last_kept(mask: torch.Tensor) -> torch.Tensor:
    """Return the last position of each row that is no padding."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask.bool(), positions, -1).amax(1)


def _by_stimuli(own: Floats, recorded: Floats, compare: str, seed: SeedLike) -> tuple[Floats, list[Floats]]:
    """Return scores ``(n_sites, n_folds)`` on the stimuli of each fold, and for each those on all other stimuli."""
    n_folds = min(_N_FOLDS, len(recorded) // _FEWEST_PER_FOLD)
    if n_folds < 2:
        raise InputError(
            "too few stimuli to choose a layer on some and judge it on others",
            expected=f"at least {2 * _FEWEST_PER_FOLD} stimuli, or several subjects or repetitions",
            got=len(recorded),
        )

    def scored(rows: Any) -> Floats:
        parts = vectors(own[:, rows][:, :, rows]), vectors(recorded[rows][:, rows])
        return np.asarray(compare_rdms(parts[0], parts[1][None], compare))[:, 0]

    splits = folds(len(recorded), n_folds, None, seed)
    return np.stack([scored(test) for _, test in splits], axis=1), [scored(train) for train, _ in splits]


def _ceilings(recorded: Floats, compare: str) -> tuple[float, float]:
    if len(recorded) < 2:
        return np.nan, np.nan
    found = noise_ceiling(recorded, compare)
    return found.lower, found.upper
