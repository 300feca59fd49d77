"""Attention patterns as graphs: their box dimension for each head, beside random patterns of the same size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, SiteError, number, whole
from neuros_mechint.core.labels import LabelledTensors, rows_kept
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import bootstrap_ci, coverage
from neuros_mechint.core.statistics.certainty import many_sign_flip_p, out_of_reach
from neuros_mechint.core.statistics.means import mean_of_defined
from neuros_mechint.core.statistics.p_values import adjust_p
from neuros_mechint.neuro.fractals.graphs.dimension import GraphFractalDimension
from neuros_mechint.neuro.fractals.probes.attention_results import AttentionFractality
from neuros_mechint.neuro.fractals.probes.site_values import sites_of

PATTERN_AXES = ("sample", "head", "query", "key")
_FEWEST_POSITIONS = 8
_ONE_DECADE = 10
_SMALLEST_BOX = 2


class HeadGraphs(NamedTuple):
    """What was measured of every head in every sample, each ``(n_heads, n_samples)``.

    Parameters
    ----------
    dimension, control : numpy.ndarray
        Of the pattern, and the mean of random ones.
    power_law : numpy.ndarray
        1 where a power law describes the number of boxes better than an exponential one, 0 where not.
    diameter : numpy.ndarray
    """

    dimension: Floats
    control: Floats
    power_law: Floats
    diameter: Floats


def attention_fractality(
    source: Any,
    sites: str | Iterable[str] = "*pattern",
    *,
    inputs: Any = None,
    threshold: float | None = 0.1,
    metric: GraphFractalDimension | None = None,
    n_controls: int = 2,
    level: float = 0.95,
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> AttentionFractality:
    r"""Return the box dimension of the attention graph of each head, and of random patterns of the same size.

    Positions are nodes. Each query is joined with every key that takes at least ``threshold`` of its attention to other
    positions, and with the one that takes most, so that graphs of causal heads are connected. A control moves the
    weights of each query to random keys among those that it may see (earlier ones, where attention is causal): as many
    edges of the same weights, to no particular place.

    Parameters
    ----------
    source : Activations, ActivationStore or Adapter
        Holds attention patterns ``(sample, head, query, key)``; a model from ``nm.adapt`` is run on ``inputs``.
    sites : str or iterable of str
        Names or patterns. ``"*pattern[query=1:, key=1:]"`` of a model leaves out the first token, to which many heads
        attend from everywhere: all positions are then two steps apart, and there is no dimension.
    inputs : inputs of the model, optional
    threshold : float, optional
        A share, up to 1. None: all weights, for a ``metric`` with a threshold or with lengths of its own.
    metric : GraphFractalDimension, optional
        By default in hops.
    n_controls : int
        Random patterns for each head and sample.
    level : float
        Coverage of the intervals.
    batch_size : int, optional
    seed : int or numpy.random.Generator
        Draws controls, bootstrap samples and signs.

    Returns
    -------
    AttentionFractality
        Intervals and tests over samples, corrected over all heads by Holm's method. **A dimension needs room**: a
        graph of a hundred positions is a few steps wide, and a slope over a factor of three or five in size is no
        proof of self-similarity. ``power_law`` says how often a power law is at least better than an exponential one.

    Raises
    ------
    InputError
        No attention patterns, weights that are not finite or are negative, or fewer than eight positions.
    SiteError, OptionError

    References
    ----------
    Song, Havlin and Makse 2005, Self-similarity of complex networks, doi:10.1038/nature03248

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> previous = torch.ones(39).diag(-1).repeat(2, 1, 1, 1)  # each query attends to the position before it
    >>> acts = nm.Activations({"pattern": previous}, {"pattern": ("sample", "head", "query", "key")})
    >>> found = attention_fractality(acts, n_controls=0)
    >>> found.values.values.round(1).tolist(), found.data["diameter"].values.tolist()
    ([[1.0]], [[39.0]])
    """
    threshold = None if threshold is None else number("threshold", threshold, 0, 1)
    n_controls, level = whole("n_controls", n_controls, 0), coverage(level)
    metric = GraphFractalDimension() if metric is None else metric
    if not isinstance(metric, GraphFractalDimension):
        raise InputError("this metric is of no graph", expected="nm.GraphFractalDimension(...)", got=repr(metric)[:60])
    activations, names = sites_of(source, sites, inputs, batch_size)
    rng = generator(seed)
    found = {
        site: _heads(site, activations, threshold, metric, n_controls, rng)
        for site in progress_bar(names, description="attention graphs")
    }
    data, warnings = _labelled(found, level, int(rng.integers(2**31)))
    if not n_controls:
        data = data.drop_vars(["control", "p", "p_adjusted"])
    arguments = {"sites": names, "threshold": threshold, "metric": repr(metric), "n_controls": n_controls}
    return AttentionFractality(
        data,
        "Box dimension of attention graphs",
        attributes={"threshold": threshold, "metric": repr(metric), "level": level, "n_controls": n_controls},
        provenance=Provenance.record(seed, arguments=arguments),
        citations=("song2005",),
        warnings=warnings,
    )


def _heads(
    site: str,
    activations: LabelledTensors,
    threshold: float | None,
    metric: GraphFractalDimension,
    n_controls: int,
    rng: np.random.Generator,
) -> HeadGraphs:
    """Return what is measured of every head at a site."""
    patterns, kept = _patterns(site, activations)
    causal = bool((np.triu(patterns, 1) == 0).all())
    measured: list[Floats] = []
    for sample, positions in enumerate(kept):
        own = patterns[sample][:, positions][:, :, positions]
        drawn = [_at_random_keys(own, causal, rng) for _ in range(n_controls)]
        graphs = np.stack([_graph(one, threshold, metric.lengths == "inverse") for one in (own, *drawn)])
        result = metric.estimate(graphs)
        dimension = result.data["dimension"].values
        better = np.where(np.isfinite(dimension[0]), np.asarray(result.is_fractal)[0], np.nan)
        diameter = np.reshape(result.attributes["diameter"], dimension.shape)[0]
        control = mean_of_defined(dimension[1:], 0) if n_controls else np.full(len(own), np.nan)
        measured.append(np.stack([dimension[0], control, better, diameter]))
    return HeadGraphs(*np.stack(measured, axis=-1))


def _patterns(site: str, activations: LabelledTensors) -> tuple[Floats, list[npt.NDArray[np.intp]]]:
    """Return attention ``(sample, head, query, key)``, and which positions of each sample are no padding."""
    dims = activations.dims(site)
    if not {"query", "key"} <= set(dims) or set(dims) - set(PATTERN_AXES):
        raise SiteError(
            f"site {site!r} holds no attention pattern", expected=f"axes {', '.join(PATTERN_AXES)}", got=", ".join(dims)
        )
    tensor = activations[site].detach()
    if tuple(dims) != tuple(axis for axis in PATTERN_AXES if axis in dims):
        tensor = tensor.permute([dims.index(axis) for axis in PATTERN_AXES if axis in dims])
    mask = rows_kept(site, dims, activations[site].shape, activations.attention_mask)
    for place, axis in enumerate(("sample", "head")):
        tensor = tensor if axis in dims else tensor.unsqueeze(place)
    values = tensor.double().cpu().numpy()
    n_samples, _, n_queries, n_positions = values.shape
    if n_queries != n_positions or n_positions < _FEWEST_POSITIONS:
        raise InputError(
            f"the attention at {site!r} makes no graph",
            expected=f"the same {_FEWEST_POSITIONS} or more positions as queries and keys",
            got=f"{n_queries} queries, {n_positions} keys",
        )
    if not np.isfinite(values).all() or (values < 0).any():
        raise InputError(f"the attention at {site!r} is no pattern", expected="weights of at least 0, all finite")
    kept = np.ones((n_samples, n_positions), bool) if mask is None else mask.cpu().numpy().reshape(n_samples, -1)
    if kept.sum(1).min() < _FEWEST_POSITIONS:
        raise InputError(
            "a sample is too short for a graph", expected=f"{_FEWEST_POSITIONS} positions", got=int(kept.sum(1).min())
        )
    return values, [np.flatnonzero(row) for row in kept]


def _graph(pattern: Floats, threshold: float | None, weighted: bool) -> Floats:
    """Return symmetric weights ``(head, position, position)`` of the edges that are kept."""
    weights = pattern * ~np.eye(pattern.shape[-1], dtype=bool)
    if threshold is not None:
        shares = weights / np.maximum(weights.sum(-1, keepdims=True), np.finfo(float).tiny)
        edges = ((shares >= threshold) | (shares == shares.max(-1, keepdims=True))) & (weights > 0)
        weights = np.where(edges, weights, 0.0) if weighted else edges.astype(float)
    return np.maximum(weights, weights.swapaxes(-1, -2))


def _at_random_keys(pattern: Floats, causal: bool, rng: np.random.Generator) -> Floats:
    """Return a pattern with the weights of each query on other keys: those it may see, itself left out."""
    shuffled = np.zeros_like(pattern)
    n_positions = pattern.shape[-1]
    for query in range(n_positions):
        others = np.flatnonzero(np.arange(query if causal else n_positions) != query)
        shuffled[:, query, others] = rng.permuted(pattern[:, query, others], axis=-1)
    return shuffled


def _labelled(found: dict[str, HeadGraphs], level: float, seed: int) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Return what was measured with labels, and what to warn of; heads that a site lacks are NaN."""
    n_heads = max(len(one.dimension) for one in found.values())
    n_samples = {one.dimension.shape[1] for one in found.values()}
    if len(n_samples) > 1:
        raise InputError("sites have different numbers of samples", got=sorted(n_samples))
    per = {
        name: np.stack([_padded(getattr(one, name), n_heads) for one in found.values()]) for name in HeadGraphs._fields
    }
    shape = per["dimension"].shape[:2]
    low, high = (np.full(shape, np.nan) for _ in range(2))
    for place in np.ndindex(shape):
        own = per["dimension"][place][np.isfinite(per["dimension"][place])]
        if own.size > 1:
            low[place], high[place] = bootstrap_ci(own, level, seed=seed)
    change = per["dimension"] - per["control"]
    p = many_sign_flip_p(change.reshape(-1, change.shape[-1]), seed).reshape(shape)
    texts = {
        "dimension": (mean_of_defined(per["dimension"], 2), "box dimension"),
        "low": (low, "lower limit"),
        "high": (high, "upper limit"),
        "control": (mean_of_defined(per["control"], 2), "box dimension of random patterns"),
        "p": (p, "sign-flip p of the difference from random patterns"),
        "p_adjusted": (adjust_p(p), "p after Holm's correction"),
        "power_law": (mean_of_defined(per["power_law"], 2), "share of samples with a power law"),
        "diameter": (mean_of_defined(per["diameter"], 2), "diameter of the graph"),
    }
    variables: dict[str, Any] = {
        name: (("site", "head"), values, {"long_name": text}) for name, (values, text) in texts.items()
    }
    variables["per_sample"] = (("site", "head", "sample"), per["dimension"], {"long_name": "box dimension"})
    data = xr.Dataset(variables, {"site": list(found), "head": np.arange(n_heads)})
    return data, (*_warnings(found), *out_of_reach(int(np.isfinite(p).sum()), n_samples.pop()))


def _warnings(found: dict[str, HeadGraphs]) -> tuple[str, ...]:
    texts: list[str] = []
    dimension, power_law, diameter = (
        np.concatenate([getattr(one, name).ravel() for one in found.values()])
        for name in ("dimension", "power_law", "diameter")
    )
    undefined = int(np.isnan(dimension).sum())
    if undefined:
        texts.append(f"{undefined} of {dimension.size} graphs are at most two steps wide and have no dimension")
    narrow = np.median(diameter)
    if narrow + 1 < _ONE_DECADE * _SMALLEST_BOX:
        texts.append(
            f"half of the graphs are at most {narrow:.4g} wide: their dimension is a slope over less than a decade of "
            "sizes, which shows no self-similarity; longer sequences are needed"
        )
    exponential = int((power_law == 0).sum())
    if exponential:
        texts.append(
            f"of {exponential} of {dimension.size} graphs the number of boxes falls exponentially rather than as a "
            "power of their size: they are no fractals"
        )
    if dimension.size == sum(len(one.dimension) for one in found.values()):
        texts.append("one sample only: no intervals and no tests")
    return tuple(texts)


def _padded(values: Floats, n_heads: int) -> Floats:
    return np.pad(values, ((0, n_heads - len(values)), (0, 0)), constant_values=np.nan)
