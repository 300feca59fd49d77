"""Judge whether a circuit is enough, whether it is needed, and whether random circuits of its size are as good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.causal.circuits.discovery import check_names
from neuros_mechint.causal.circuits.edges import Kept, largest_first
from neuros_mechint.causal.circuits.problem import Problem, circuit_problem
from neuros_mechint.causal.circuits.results import Circuit
from neuros_mechint.causal.circuits.verdict import Faithfulness, reasons_to_reject
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, number, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import times_drawn
from neuros_mechint.core.statistics.p_values import p_of_draws

MIB_FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the Mechanistic Interpretability Benchmark."""
_N_RESAMPLES = 2000


def faithfulness(
    circuit: Circuit,
    model: Adapter,
    metric: Metric,
    clean: Any,
    corrupted: Any = None,
    *,
    n_null: int = 99,
    fractions: Sequence[float] = MIB_FRACTIONS,
    alpha: float = 0.05,
    seed: SeedLike = 0,
) -> Faithfulness:
    """Judge a circuit on inputs that it was not found on, against random circuits of the same size.

    ``f = (m(circuit) - m(empty)) / (m(full) - m(empty))``, with means of the metric over the samples, is how much of
    the behaviour the circuit restores on its own (sufficiency); ``(m(full) - m(rest)) / (m(full) - m(empty))`` how
    much is lost when its edges alone are ablated (necessity). Random circuits are joined from random paths between
    input and output, so that they too lead somewhere.

    Parameters
    ----------
    circuit : Circuit
        From `discover_circuit` or `minimal_circuit`.
    model, metric
        As there; the metric made for these inputs.
    clean, corrupted : inputs of the model
        Not those that the circuit was found on.
    n_null : int
        Number of random circuits.
    fractions : sequence of float
        Parts of all edges, increasing, at which the curve of the best ``int(fraction * n)`` edges is measured.
    alpha : float
        Level of the tests.
    seed : int or numpy.random.Generator
        Draws the random circuits.

    Returns
    -------
    Faithfulness

    Raises
    ------
    InputError, OptionError, SiteError, CapabilityError

    References
    ----------
    Mueller et al. 2025, MIB: A mechanistic interpretability benchmark, doi:10.48550/arXiv.2504.13151; Wang et al.
    2022, Interpretability in the Wild, doi:10.48550/arXiv.2211.00593

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> from neuros_mechint.datasets.tasks import repeated_tokens
    >>> model = nm.adapt(nm.load_model("induction"))
    >>> def task(seed):
    ...     trials = repeated_tokens(24, n_tokens=24, lag=8, seed=seed)
    ...     other = repeated_tokens(24, n_tokens=24, lag=8, seed=seed + 100)
    ...     return nm.log_probability(trials.targets[:, -1]), trials.inputs, other.inputs
    >>> circuit = nm.discover_circuit(model, *task(seed=0), n_edges=20)
    >>> verdict = faithfulness(circuit, model, *task(seed=1), n_null=19)
    >>> verdict.accepted
    True
    """
    fractions = _checked(n_null, fractions, alpha)
    problem = problem_of(circuit, model, metric, clean, corrupted)
    random = generator(seed)
    kept = problem.connected(circuit.kept)
    drawn = [problem.random(int(kept.sum()), random) for _ in range(n_null)]
    curve = _curve(circuit.scores.values, fractions, random)
    asked = [kept, ~kept, *drawn, *(~one for one in drawn), *curve]
    values = problem.runner.values(asked)
    restored = problem.faithfulness(values)
    split = 2 + n_null, 2 + 2 * n_null
    judged = Judged(
        problem, values[:2], restored[2 : split[0]], 1 - restored[split[0] : split[1]], restored[split[1] :]
    )
    found = judged.numbers(kept, np.asarray(fractions), curve)
    return _result(circuit, judged, found, fractions, alpha, model, seed)


@dataclass(frozen=True)
class Judged:
    """What was measured of one circuit.

    Parameters
    ----------
    problem : Problem
    values : torch.Tensor of shape (2, n_samples)
        The metric of the circuit, and of all but the circuit.
    random_sufficiency, random_necessity : numpy.ndarray of shape (n_null,)
    curve : numpy.ndarray of shape (n_fractions,)
    """

    problem: Problem
    values: torch.Tensor
    random_sufficiency: Floats
    random_necessity: Floats
    curve: Floats

    def numbers(self, kept: Kept, fractions: Floats, curve: Sequence[Kept]) -> dict[str, float]:
        """Return all findings that are single numbers."""
        sufficiency, rest = (float(one) for one in self.problem.faithfulness(self.values))
        necessity = 1 - rest
        found = {
            "sufficiency": sufficiency,
            "necessity": necessity,
            "p_sufficiency": _p(closeness(self.random_sufficiency), closeness(sufficiency)),
            "p_necessity": _p(self.random_necessity, necessity),
            "p": _p(joint(self.random_sufficiency, self.random_necessity), joint(sufficiency, necessity)),
            "p_behaviour": self.problem.p,
            "full": float(self.problem.full.mean()),
            "empty": float(self.problem.empty.mean()),
            "n_kept": int(kept.sum()),
        }
        found |= dict(zip(("cpr", "cmd"), areas(fractions, self.curve), strict=True))
        counts, first = np.unique([one.sum() for one in curve], return_index=True)
        unique = areas(counts / len(kept), self.curve[first])
        return found | dict(zip(("cpr_unique", "cmd_unique"), unique, strict=True))

    def intervals(self, random: np.random.Generator) -> Floats:
        """Return 95 % intervals of sufficiency and necessity over samples, ``(2, 2)``: bootstrap of the ratio."""
        full, empty, (own, rest) = self.problem.full.numpy(), self.problem.empty.numpy(), self.values.numpy()
        n_samples = full.size
        if n_samples < 2:
            return np.full((2, 2), np.nan)
        counts = times_drawn(n_samples, _N_RESAMPLES, random)
        whole = counts @ (full - empty)
        parts = np.stack([counts @ (own - empty), counts @ (full - rest)])
        return np.quantile(parts[:, whole != 0] / whole[whole != 0], [0.025, 0.975], axis=1).T


def areas(fractions: Floats, restored: Floats) -> tuple[float, float]:
    """Return the area under the curve (CPR, more is better) and between it and 1 (CMD, less is better).

    Examples
    --------
    >>> areas(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]))
    (0.75, 0.25)
    """
    return float(np.trapezoid(restored, fractions)), float(np.trapezoid(np.abs(1 - restored), fractions))


def closeness(sufficiency: Any) -> Any:
    """Return 1 for a circuit that restores the metric, less for one that falls short or overshoots."""
    return 1 - np.abs(1 - sufficiency)


def joint(sufficiency: Any, necessity: Any) -> Any:
    """Return what a circuit is worth: as much as its weaker side.

    Examples
    --------
    >>> float(joint(0.9, 0.2))
    0.2
    """
    return np.minimum(closeness(sufficiency), necessity)


def problem_of(circuit: Circuit, model: Adapter, metric: Metric, clean: Any, corrupted: Any) -> Problem:
    """Prepare a model for being run as a circuit that was found before.

    Raises
    ------
    InputError, SiteError
        No circuit, or one whose edges this model does not have.
    """
    if not isinstance(circuit, Circuit):
        raise InputError("this is no circuit", expected="the result of discover_circuit", got=type(circuit).__name__)
    nodes = None
    if circuit.level == "node":
        names = [str(name) for name in circuit.data["node"].values]
        nodes = {name: circuit.attributes["nodes"][name]["site"] for name in names}
    problem = circuit_problem(model, metric, clean, corrupted, circuit.attributes["ablation"], nodes)
    names = [str(name) for name in circuit.data[circuit.level].values]
    if circuit.level == problem.level:
        check_names(names, problem)
    if names != problem.runner.names:
        raise InputError(
            "this circuit belongs to another model",
            expected=f"{len(problem.runner.names)} {problem.level}s: {', '.join(problem.runner.names[:3])}, ...",
            got=f"{len(names)} {circuit.level}s: {', '.join(names[:3])}, ...",
        )
    return problem


def _curve(scores: Floats, fractions: Sequence[float], random: np.random.Generator) -> list[Kept]:
    order = largest_first(scores, random)
    curve = []
    for fraction in fractions:
        kept = np.zeros(len(scores), dtype=bool)
        kept[list(order[: int(fraction * len(scores))])] = True
        curve.append(kept)
    return curve


def _p(random: Floats, own: float) -> float:
    return p_of_draws(own, random, size=1.0).item()


def _checked(n_null: int, fractions: Sequence[float], alpha: float) -> list[float]:
    number("alpha", alpha, 0, 1, closed="neither")
    if whole("n_null", n_null) + 1 < 1 / alpha:
        raise OptionError(
            f"too few random circuits to accept any at level {alpha:g}",
            expected=f"n_null >= {int(np.ceil(1 / alpha)) - 1}",
            got=repr(n_null),
        )
    values = [float(one) for one in fractions]
    if len(values) < 2 or not all(0 < one <= 1 for one in values) or any(np.diff(values) <= 0):
        raise OptionError("fractions are no grid", expected="increasing numbers in (0, 1]", got=values)
    return values


def _result(
    circuit: Circuit,
    judged: Judged,
    found: Mapping[str, float],
    fractions: Sequence[float],
    alpha: float,
    model: Adapter,
    seed: SeedLike,
) -> Faithfulness:
    problem, discovery = judged.problem, circuit.attributes["discovery"]
    known = set(discovery["samples"])
    shared = sum(sample in known for sample in problem.samples)
    reasons = reasons_to_reject(found, discovery, shared, problem.full.numel(), alpha)
    fingerprint = model.fingerprint()
    warnings = [*problem.warnings, *(f"rejected: {reason}" for reason in reasons)]
    if shared:
        warnings.append(f"{shared} of {problem.full.numel()} samples are among those the circuit was found on")
    if circuit.provenance.model != fingerprint:
        warnings.append("this is another model than the circuit was found in")
    low, high = judged.intervals(generator(0)).T
    whole = {"long_name": "faithfulness", "units": "fraction of the difference"}
    metric = {"long_name": "metric", "units": str(circuit.scores.attrs.get("units", ""))}
    counts = [int(fraction * circuit.scores.size) for fraction in fractions]
    samples = torch.stack([problem.full, problem.empty, *judged.values]).numpy()
    data = xr.Dataset(
        {
            "faithfulness": ("fraction", judged.curve, whole),
            "n_edges": ("fraction", counts, {"long_name": f"number of {circuit.level}s"}),
            "random_sufficiency": ("random", judged.random_sufficiency, whole),
            "random_necessity": ("random", judged.random_necessity, {**whole, "long_name": "necessity"}),
            "low": ("measure", low, whole),
            "high": ("measure", high, whole),
            "per_sample": (("run", "sample"), samples, metric),
        },
        coords={
            "fraction": ("fraction", list(fractions), {"long_name": f"fraction of all {circuit.level}s"}),
            "measure": ["sufficiency", "necessity"],
            "run": ["full", "empty", "circuit", "rest"],
        },
    )
    sizes = {"n_null": len(judged.random_sufficiency), "n_samples": problem.full.numel()}
    found_on = {"n_samples_found_on": discovery["n_samples"], "n_samples_shared": shared}
    settings = {"alpha": alpha, "ablation": circuit.attributes["ablation"], **sizes, **found_on}
    attributes = {**found, "accepted": not reasons, "level": circuit.level, "n_total": circuit.scores.size, **settings}
    provenance = Provenance.record(
        seed=seed, model=fingerprint, arguments={**settings, "fractions": list(fractions), "circuit": circuit.title}
    )
    title = f"Faithfulness of a circuit of {circuit.size} {circuit.level}s"
    return Faithfulness(data, title, attributes, provenance, ("mueller2025mib", "wang2022ioi"), tuple(warnings))
