"""What an analysis of dynamics found, in words: a few sentences on each step, then what is to be doubted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from neuros_mechint.core.arrays import Ints
from neuros_mechint.core.composite import CompositeResult
from neuros_mechint.core.result import Result
from neuros_mechint.neuro.circuits.latent.validation import PCAComparison
from neuros_mechint.neuro.dynamics.fixed_points.results import FixedPoints
from neuros_mechint.neuro.information.energy.results import DensityLandscape
from neuros_mechint.workflows.dynamics.network_circuit import NetworkCircuit
from neuros_mechint.workflows.runs.in_short import InShort, short_reason, told_in_short

_MOST_CONTINUA_TOLD, _MOST_DOUBTS_TOLD, _MOST_MINIMA_TOLD = 2, 2, 4


def in_short(results: Mapping[str, Result], left_out: Mapping[str, str], fingerprint: str) -> InShort:
    """Return what the steps found, in words, with the doubts of each, and how many fixed points are of which kind.

    Parameters
    ----------
    results : mapping of str to Result
        The steps of `neuros_mechint.workflows.dynamics.analyze.analyze_dynamics`.
    left_out : mapping of str to str
        Steps that do not apply, and why.
    fingerprint : str
        Of the model.

    Returns
    -------
    InShort
    """
    points = results["fixed_points"]
    assert isinstance(points, FixedPoints)
    sentences = [
        *_on_points(points),
        *_on_settling(results.get("lyapunov_and_cycles")),
        *_on_circuit(results.get("latent_circuit"), left_out),
        *_on_landscape(results.get("energy_landscape"), points, left_out),
    ]
    for name, found in results.items():
        new = [text for text in _doubts(found) if not any(text in one for one in sentences)]
        sentences += [f"Doubt ({name.replace('_', ' ')}): {text}" for text in new[:_MOST_DOUBTS_TOLD]]
        if len(new) > _MOST_DOUBTS_TOLD:
            sentences[-1] += f"; and {len(new) - _MOST_DOUBTS_TOLD} more, told with the result"
    kinds = Counter(points.stability)
    about = {"long_name": "fixed points", "units": "number"}
    counts = {kind: float(number) for kind, number in sorted(kinds.items())} or {"none": 0.0}
    return told_in_short("number", counts, about, sentences, fingerprint, ("sussillo2013",))


def stable_in_minima(points: FixedPoints, landscape: DensityLandscape) -> Ints:
    """Return how many stable fixed points lie in the valley of each minimum of a landscape, ``(n_minima,)``.

    Parameters
    ----------
    points : FixedPoints
    landscape : DensityLandscape
        Of states of the same system.
    """
    data = landscape.data
    stable = points.states[np.array(points.stability) == "stable"]
    places = (stable - data["centre"].values) @ data["direction"].values.T
    axes = [data[name].values for name in data["energy"].dims]
    cells = [np.abs(axis[:, None] - places[:, one]).argmin(0) for one, axis in enumerate(axes)]
    within = np.all([(axis[0] <= places[:, one]) & (places[:, one] <= axis[-1]) for one, axis in enumerate(axes)], 0)
    basins = data["basin"].values[tuple(cells)][within]
    return np.bincount(basins[basins >= 0], minlength=landscape.n_minima)


def _on_points(points: FixedPoints) -> Iterator[str]:
    told = points.findings
    yield told[0]
    if points.attributes["everywhere"]:
        yield told[1]
    yield from (text for text in told if text.startswith(("index sum", "no index sum")))
    yield from (one.told() for one in points.continua[:_MOST_CONTINUA_TOLD])


def _on_settling(found: Result | None) -> Iterator[str]:
    parts = found.parts if isinstance(found, CompositeResult) else {}
    if "limit_cycle" in parts:
        yield f"From the last state of the first trajectory, with the inputs held: {parts['limit_cycle'].findings[0]}"
    if "lyapunov_spectrum" in parts:
        yield f"Lyapunov exponents: {'; '.join(parts['lyapunov_spectrum'].findings[:2])}"


def _on_circuit(found: Result | None, left_out: Mapping[str, str]) -> Iterator[str]:
    if not isinstance(found, NetworkCircuit):
        yield f"No latent circuit: {short_reason(left_out['latent_circuit'])}"
        return
    if "perturbation" in found.parts:
        yield f"Latent circuit, changes of the network: {found.parts['perturbation'].findings[0]}"
    scores = found.parts["pca"]
    assert isinstance(scores, PCAComparison)
    of_activity, of_outputs = (
        f"{float(scores.data[kind].sel(model='circuit').mean()):.2f} of the {kind} "
        f"(linear dynamics of as many components: {float(scores.data[kind].sel(model='linear').mean()):.2f})"
        for kind in ("activity", "outputs")
    )
    yield f"Latent circuit, on trials it was not fitted to: R2 {of_activity}, {of_outputs}"


def _on_landscape(found: Result | None, points: FixedPoints, left_out: Mapping[str, str]) -> Iterator[str]:
    if not isinstance(found, DensityLandscape):
        yield f"No landscape: {short_reason(left_out['energy_landscape'])}"
        return
    n_stable = points.stability.count("stable")
    minima = f"{found.n_minima} {'minima' if found.n_minima > 1 else 'minimum'}"
    told = f"Landscape of the states that were visited: {minima}"
    inside = stable_in_minima(points, found)
    if n_stable:
        told += f", {(inside > 0).sum()} with {inside.sum()} of the {n_stable} stable fixed point{'s' * (n_stable > 1)}"
        if not inside.all():
            told += "; in others states dwell or pass while they are driven, and the model would not rest"
    yield told
    most = np.argsort(-found.occupancy, kind="stable")[:_MOST_MINIMA_TOLD]
    if n_stable and len(most) > 1:
        yield "Share of the time in minima, and stable fixed points there: " + ", ".join(
            f"minimum {one} {found.occupancy[one]:.0%} ({inside[one] or 'none'})" for one in most
        )
    yield from (text for text in found.findings if text.startswith("detailed balance"))


def _doubts(found: Result) -> list[str]:
    """Return the warnings of a result and its parts, to the first semicolon: the rest is told beside the result."""
    parts = found.parts.values() if isinstance(found, CompositeResult) else ()
    return list(dict.fromkeys(text.split("; ")[0] for one in (found, *parts) for text in one.warnings))
