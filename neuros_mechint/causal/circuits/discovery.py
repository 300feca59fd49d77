"""Find circuits: choose edges by their effects, or prune them away."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.causal.circuits.edges import Kept, largest_first
from neuros_mechint.causal.circuits.problem import Problem, circuit_problem
from neuros_mechint.causal.circuits.pruning import prune
from neuros_mechint.causal.circuits.results import Circuit
from neuros_mechint.causal.circuits.running import EdgeCircuits
from neuros_mechint.causal.circuits.verdict import ONE_VALUE
from neuros_mechint.causal.paths.analyzer import PathAnalyzer
from neuros_mechint.causal.paths.effects import EdgeEffects
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.errors import InputError, OptionError, SiteError, check_option, near_names, number, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator

METHODS = ("top", "greedy", "pruning")
_THRESHOLD = 0.01
_RESTORED = 0.9
_CHANCE = 0.05
_CITATIONS = {"top": ("syed2023", "hanna2024"), "greedy": ("hanna2024",), "pruning": ("conmy2023",)}


def discover_circuit(
    model: Adapter,
    metric: Metric,
    clean: Any,
    corrupted: Any = None,
    method: str = "top",
    *,
    n_edges: int | None = None,
    fraction: float | None = None,
    threshold: float | None = None,
    scores: EdgeEffects | Mapping[str, float] | None = None,
    edge_method: str = "auto",
    ablation: str = "resample",
    nodes: Sequence[str] | Mapping[str, str] | None = None,
    seed: SeedLike = 0,
) -> Circuit:
    """Find a small part of a model that may do what the metric measures.

    A transformer is cut at the edges between its heads and MLPs; recurrent models, and those for which ``nodes`` are
    given, at nodes. The circuit is a hypothesis: `faithfulness` judges it, on other inputs.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar, e.g. from `logit_difference`.
    clean, corrupted : inputs of the model
        Of the same shape, sample by sample.
    method : {"top", "greedy", "pruning"}
        ``top``: the edges with the largest effects of either sign. ``greedy``: the same, grown backwards from the
        output, so that every edge leads there. ``pruning``: go through all edges from the output to the input and
        remove each that hardly changes the metric of the circuit left so far.
    n_edges, fraction : int or float, optional
        How many edges (or nodes) ``top`` and ``greedy`` choose: a number, or a part of all.
    threshold : float, optional
        Or: the least effect, as a part of what the metric differs between the model and the empty circuit. Without
        any of the three, ``top`` and ``greedy`` search for a size that restores 0.9 of that, and ``pruning`` takes
        0.01.
    scores : EdgeEffects or mapping of str to float, optional
        Effects of edges that are known already, on these inputs.
    edge_method : {"auto", "exact", "eap", "eap-ig"}
        How `PathAnalyzer` finds the effects of edges.
    ablation : {"resample", "zero", "mean"}
        What edges outside of the circuit carry.
    nodes : sequence of str or mapping of str to str, optional
        Sites that are the nodes, in order of execution, or names and their sites.
    seed : int or numpy.random.Generator
        Orders edges with equal effects.

    Returns
    -------
    Circuit

    Raises
    ------
    InputError, OptionError, SiteError, CapabilityError

    References
    ----------
    Conmy et al. 2023, Towards automated circuit discovery, doi:10.48550/arXiv.2304.14997; Syed et al. 2023,
    Attribution patching outperforms automated circuit discovery, doi:10.48550/arXiv.2310.10348; Hanna et al. 2024,
    Have faith in faithfulness, doi:10.48550/arXiv.2403.17806

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(nm.load_model("induction"))
    >>> clean = torch.tensor([[0, 17, 42, 8, 5, 23, 11, 17, 42, 8], [0, 9, 31, 2, 50, 7, 12, 9, 31, 2]])
    >>> corrupted = clean.clone()
    >>> corrupted[:, 3] = torch.tensor([30, 60])
    >>> metric = nm.log_probability(torch.tensor([5, 50]))
    >>> circuit = nm.discover_circuit(model, metric, clean, corrupted, n_edges=20)
    >>> circuit.level, circuit.size, "a0.h0" in circuit.nodes
    ('edge', 20, True)
    """
    check_option("method", method, METHODS)
    _check_sizes(method, n_edges, fraction, threshold)
    problem = circuit_problem(model, metric, clean, corrupted, ablation, nodes)
    random = generator(seed)
    found_by = method
    if method == "pruning":
        threshold = _THRESHOLD if threshold is None else threshold
        chosen, score = prune(problem, threshold * abs(problem.difference))
    else:
        score, found_by = _scores(problem, model, metric, clean, corrupted, scores, edge_method, ablation)
        chosen = _chosen(problem, method, score, _size(len(score), n_edges, fraction), threshold, random)
    kept = problem.connected(chosen)
    settings = {
        "method": method,
        "scores": found_by,
        "ablation": ablation,
        "n_edges": n_edges,
        "fraction": fraction,
        "threshold": threshold,
        "dropped": int(chosen.sum() - kept.sum()),
    }
    provenance = Provenance.record(seed=seed, model=model.fingerprint(), arguments=settings)
    return circuit_result(problem, kept, score, settings, provenance, getattr(metric, "units", "metric"))


def circuit_result(
    problem: Problem,
    kept: Kept,
    score: npt.NDArray[np.float64],
    settings: Mapping[str, Any],
    provenance: Provenance,
    units: str,
    earlier: Mapping[str, Any] | None = None,
) -> Circuit:
    """Put a circuit and how it was found together; ``earlier`` is the discovery that this one went on from."""
    wiring, level = problem.wiring, problem.level
    data: dict[str, Any] = {
        "score": (level, score, {"units": units, "long_name": "effect"}),
        "kept": (level, kept, {"long_name": "in the circuit"}),
    }
    coords: dict[str, Any] = {level: problem.runner.names}
    depths = [node.depth for node in wiring.nodes if node.depth is not None]
    parts = {one.name: list(one.nodes) for one in wiring.receivers if not one.is_response}
    if isinstance(problem.runner, EdgeCircuits):
        pairs = problem.runner.edges.pairs
        coords |= {"sender": (level, [one for one, _ in pairs]), "receiver": (level, [one for _, one in pairs])}
    described = {one.name: {"kind": one.kind, "depth": one.depth, "site": one.site} for one in wiring.nodes}
    described[wiring.output] = {"kind": "output", "depth": max(depths) + 1 if depths else None}
    restored = float(problem.faithfulness(problem.runner.values([kept]))[0])
    before = earlier or {"samples": [], "p": 0.0}
    discovery = {
        "n_samples": problem.full.numel(),
        "samples": list(dict.fromkeys([*before["samples"], *problem.samples])),
        "full": float(problem.full.mean()),
        "empty": float(problem.empty.mean()),
        "p": max(problem.p, before["p"]),
        "faithfulness": restored,
    }
    attributes = {"level": level, **settings, "nodes": described, "parts": parts, "discovery": discovery}
    title = f"Circuit of {int(kept.sum())} {level}s ({settings['method']}, {settings['ablation']})"
    return Circuit(
        xr.Dataset(data, coords),
        title,
        attributes,
        provenance,
        _CITATIONS[str(settings["method"]).partition(",")[0]],
        (*problem.warnings, *_warnings(kept, settings, discovery)),
    )


def _warnings(kept: Kept, settings: Mapping[str, Any], discovery: Mapping[str, Any]) -> Iterator[str]:
    if settings["dropped"]:
        yield f"{settings['dropped']} of the chosen edges lead nowhere in this circuit and were dropped"
    if not kept.any():
        yield "this circuit is empty"
    if discovery["n_samples"] < 2:
        yield ONE_VALUE
    elif discovery["p"] > _CHANCE:
        yield (
            f"over the samples, the metric of the whole model and the empty circuit differ no more than by chance "
            f"(p = {discovery['p']:.2g}): there may be no behaviour to explain"
        )


def _check_sizes(method: str, n_edges: int | None, fraction: float | None, threshold: float | None) -> None:
    given = {"n_edges": n_edges, "fraction": fraction, "threshold": threshold}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        raise OptionError("one size is enough", expected="n_edges, fraction or threshold", got=", ".join(given))
    if method == "pruning" and (n_edges is not None or fraction is not None):
        raise OptionError("pruning has no fixed size", expected="threshold", got=", ".join(given))
    if threshold is not None:
        number("threshold", threshold, 0, math.inf, closed="neither")
    if fraction is not None:
        number("fraction", fraction, 0, 1)
    if n_edges is not None:
        whole("n_edges", n_edges, least=0)


def _size(total: int, n_edges: int | None, fraction: float | None) -> int | None:
    if n_edges is None and fraction is None:
        return None
    size = n_edges if n_edges is not None else round((fraction or 0) * total)
    if not 0 < size <= total:
        raise OptionError(f"there is no circuit of {size} parts", expected=f"between 1 and {total}", got=size)
    return size


def _scores(
    problem: Problem,
    model: Adapter,
    metric: Metric,
    clean: Any,
    corrupted: Any,
    scores: EdgeEffects | Mapping[str, float] | None,
    edge_method: str,
    ablation: str,
) -> tuple[npt.NDArray[np.float64], str]:
    """Return the score of every edge or node, and where it comes from."""
    if scores is None and problem.level == "node":
        everything = np.ones(len(problem.runner.names), dtype=bool)
        values = problem.runner.values(list(everything ^ np.eye(len(everything), dtype=bool)))
        return (problem.full.mean() - values.mean(1)).numpy(), "exact"
    if scores is None:
        scores = PathAnalyzer(model, metric).edges(clean, corrupted, edge_method, ablation)
    if not isinstance(scores, (EdgeEffects, Mapping)):
        raise InputError("these are no scores", expected="EdgeEffects, or a number by name", got=type(scores).__name__)
    source = str(scores.attributes["method"]) if isinstance(scores, EdgeEffects) else "given"
    values = scores.values if isinstance(scores, EdgeEffects) else None
    known = dict(zip(values["edge"].values.tolist(), values.values.tolist(), strict=True)) if values is not None else {}
    known = known if isinstance(scores, EdgeEffects) else dict(scores)
    check_names(known, problem)
    array = np.array([float(known.get(name, 0.0)) for name in problem.runner.names])
    if not np.isfinite(array).all():
        raise InputError("scores are not finite", got=f"{int((~np.isfinite(array)).sum())} of {array.size}")
    return array, source


def check_names(names: Mapping[str, Any] | Sequence[str], problem: Problem) -> None:
    """Raise `SiteError` for edges or nodes that this model does not have."""
    there = set(problem.runner.names)
    for name in names:
        if name not in there:
            near = near_names(str(name), problem.runner.names)
            raise SiteError(
                f"this model has no {problem.level} {name!r}",
                expected=f"{problem.level}s such as " + ", ".join(problem.runner.names[:5]),
                fix="did you mean " + " or ".join(map(repr, near)) + "?" if near else None,
            )


def _chosen(
    problem: Problem,
    method: str,
    score: npt.NDArray[np.float64],
    size: int | None,
    threshold: float | None,
    random: np.random.Generator,
) -> Kept:
    """Return the edges of largest score: so many, all that reach the threshold, or enough to be faithful."""
    if method == "greedy" and not isinstance(problem.runner, EdgeCircuits):
        raise OptionError("greedy grows along edges, and this model is cut at nodes", expected="top or pruning")
    strength = np.abs(score)
    order = largest_first(score, random)

    def best(n_edges: int, least: float = 0.0) -> Kept:
        if method == "greedy" and isinstance(problem.runner, EdgeCircuits):
            return problem.runner.edges.greedy(strength, n_edges, least)
        kept = np.zeros(len(score), dtype=bool)
        kept[list(order[:n_edges])] = True
        return kept & (strength >= least)

    if threshold is not None:
        return best(len(score), threshold * abs(problem.difference))
    return best(size) if size is not None else _enough(problem, best)


def _enough(problem: Problem, best: Callable[[int], Kept]) -> Kept:
    """Return a circuit that restores enough: sizes are doubled until one does, then halved in on from below."""
    total = len(problem.runner.names)

    def restores(size: int) -> bool:
        restored = problem.faithfulness(problem.runner.values([best(size)]))
        return bool(abs(1 - restored[0]) <= 1 - _RESTORED)

    low, high = 0, 1
    while high < total and not restores(high):
        low, high = high, min(2 * high, total)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if restores(middle) else (middle, high)
    return best(high)
