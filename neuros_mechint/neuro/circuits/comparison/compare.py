"""How alike two circuits are, beside circuits with the same weights in other places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, number, whole
from neuros_mechint.core.figures.colours import MUTED_INK, PALE, PALETTE
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.correlations import column_correlations
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.neuro.alignment.linear.cka import CKA
from neuros_mechint.neuro.circuits.comparison.matching import best_matching
from neuros_mechint.neuro.circuits.comparison.roles import roles
from neuros_mechint.neuro.circuits.wiring import Wiring, as_wiring, refuse_in_parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEASURES = {
    "weight correlation": "correlation of weights",
    "shared edges": "connections that both have, of one sign, of all that either has",
    "role similarity": "CKA of the roles of nodes",
    "spectral similarity": "1 less the distance between spectra",
}
_FEWEST_NODES = 4
_DENSE = 0.9
_PARTS = "the same parts would by themselves make circuits more alike than rearranged ones"


class CircuitComparison(Result):
    """Likeness of two circuits, 1 where they are equal, beside rearranged circuits.

    ``data`` holds over ``(measure,)``: ``similarity``, ``null_mean`` and ``null_sd`` of rearranged circuits, and ``p``
    (one-sided: as alike or more); these are NaN where rearranging cannot change a measure, so that it has no null.
    Over ``(node,)``: ``partner``, the node of the second circuit. ``attributes["edit_distance"]`` counts connections to
    add, to remove, or to change in sign.
    """

    @property
    def edit_distance(self) -> int:
        """Connections to add, to remove or to change in sign, with nodes matched as they are."""
        return int(self.attributes["edit_distance"])

    @property
    def partners(self) -> dict[str, str]:
        """Node of the second circuit for each of the first."""
        return dict(zip(self.data["node"].values.tolist(), self.data["partner"].values.tolist(), strict=True))

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 2.8

    def _draw(self, ax: Axes) -> None:
        places = np.arange(self.data.sizes["measure"])[::-1]
        ax.barh(places, self.data["similarity"], color=PALETTE[0], height=0.5, label="the two circuits")
        spread = {"fmt": "o", "color": PALE, "markeredgecolor": MUTED_INK, "ecolor": MUTED_INK, "capsize": 3}
        ax.errorbar(self.data["null_mean"], places, xerr=2 * self.data["null_sd"], label="rearranged, ± 2 sd", **spread)
        ax.set_yticks(places, [f"{name}{self._doubt(name)}" for name in self.data["measure"].values])
        ax.axvline(0, color=MUTED_INK, linewidth=0.8)
        ax.set_xlabel("similarity (1: equal)")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

    def _summary_lines(self) -> Iterator[str]:
        attributes = self.attributes
        (n_first, n_second), (e_first, e_second) = attributes["n_nodes"], attributes["n_edges"]
        how = "nodes of the same name" if attributes["match"] == "names" else "nodes matched by their weights"
        yield f"{n_first} and {n_second} nodes, {e_first} and {e_second} connections; {how}"
        bound = "" if attributes["match"] == "names" else "at most "
        yield f"edit distance: {bound}{self.edit_distance} connections to add, remove or change in sign"
        for name in self.data["measure"].values:
            row = self.data.sel(measure=name)
            mean, sd, p = (float(row[column]) for column in ("null_mean", "null_sd", "p"))
            beside = self._doubt(name).replace("\n", " ") or f", rearranged {mean:.3g} ± {sd:.2g} (p = {p:.2g})"
            yield f"{name} {float(row['similarity']):.3g}{beside}"

    def _doubt(self, measure: str) -> str:
        """Return what is missing beside a measure, in brackets, or nothing."""
        row = self.data.sel(measure=measure)
        if np.isnan(float(row["similarity"])):
            return "\n(not defined)"
        return "\n(no null)" if np.isnan(float(row["p"])) else ""


def compare_circuits(
    first: Any,
    second: Any,
    match: str = "names",
    threshold: float = 0.0,
    n_permutations: int = 199,
    seed: SeedLike = 0,
    progress: bool = True,
) -> CircuitComparison:
    """Compare two circuits: their connections, the roles of their nodes, and their spectra.

    Each measure stands beside the same of circuits whose weights are those of the second in other places: nodes are
    renamed at random (``match="names"``), or weights between nodes are shuffled, and matched again (``match="best"``),
    since the best of all matchings is alike also where circuits have nothing in common. The spectrum does not know of
    names: with ``match="names"`` it has no p.

    Read ``weight correlation`` where weights were fitted or trained, and strengths count; ``shared edges`` and the edit
    distance where connections are there or not, or where a threshold has a meaning; ``role similarity`` where nodes do
    like things without being joined to the same nodes; ``spectral similarity`` where circuits may differ by a change of
    basis, and with little weight, since circuits of other wiring can have one spectrum.

    Parameters
    ----------
    first, second : array_like, torch.Tensor, xarray.DataArray, networkx.DiGraph, a fitted latent circuit or a circuit
        ``(target, source)``; see `neuros_mechint.neuro.circuits.wiring.as_wiring`.
    match : {"names", "best"}
        Nodes of the same name are the same; or the matching in which weights are most alike, by which a circuit of
        fewer nodes is filled up with nodes that nothing joins.
    threshold : float
        Weights up to it count as no connection in the edit distance and the shared edges. Connections are the same
        where they have the same sign: of circuits in which all nodes are joined these two compare signs, and nothing
        else, and a warning says so.
    n_permutations : int
        Rearranged circuits.
    seed : int or numpy.random.Generator
    progress : bool

    Returns
    -------
    CircuitComparison

    Raises
    ------
    InputError
        No connectivity; fewer than four nodes; other names in one than in the other; a circuit in parts that nothing
        joins, single nodes aside.
    OptionError
        A parameter out of range.

    References
    ----------
    Vogelstein et al. 2015, Fast approximate quadratic programming for graph matching,
    doi:10.1371/journal.pone.0121002; Kornblith et al. 2019, Similarity of neural network representations revisited,
    doi:10.48550/arXiv.1905.00414

    Examples
    --------
    >>> weights = np.random.default_rng(0).normal(size=(8, 8))
    >>> order = [3, 1, 0, 5, 7, 4, 2, 6]
    >>> found = compare_circuits(weights, weights[np.ix_(order, order)], match="best", n_permutations=19)
    >>> found.edit_distance, found.partners["3"], float(found.data["p"].max())
    (0, '0', 0.05)
    """
    check_option("match", match, ("names", "best"))
    threshold = number("threshold", threshold, 0, float("inf"), closed="left")
    n_permutations = whole("n_permutations", n_permutations, least=19)
    random = generator(seed)
    one, two = _circuit(first, "the first circuit"), _circuit(second, "the second circuit")
    own, other = one.weights, _arranged(one, two) if match == "names" else two.weights
    own, other = _filled(own, len(other)), _filled(other, len(own))
    order: npt.NDArray[np.int64] = np.arange(len(own))
    if match == "best":
        order = best_matching(own, other, random)
    other = other[np.ix_(order, order)]
    found = _similarities(own, other, threshold)
    nulls = np.array(
        [
            _similarities(own, rearranged, threshold)
            for rearranged in progress_bar(
                _rearranged(own, other, match, n_permutations, random), n_permutations, "rearranged circuits", progress
            )
        ]
    )
    p = p_of_draws(found, nulls, size=1.0)
    if match == "names":  # the spectrum is the same in any order
        spectral = list(_MEASURES).index("spectral similarity")
        p[spectral] = nulls[:, spectral] = np.nan
    names = one.names if match == "names" else _filled_names(one.names, len(own))
    partners = names if match == "names" else tuple(_filled_names(two.names, len(own))[place] for place in order)
    return CircuitComparison(
        _table(found, nulls, p, names, partners),
        "Comparison of two circuits",
        attributes={
            "match": match,
            "threshold": threshold,
            "n_nodes": [one.n_nodes, two.n_nodes],
            "n_edges": [int(_edges(weights, threshold).astype(bool).sum()) for weights in (own, other)],
            "edit_distance": int((_edges(own, threshold) != _edges(other, threshold)).sum()),
            "n_permutations": n_permutations,
        },
        provenance=Provenance.record(seed, arguments={"first": one.weights, "second": two.weights, "match": match}),
        citations=("vogelstein2015", "kornblith2019"),
        warnings=_warnings(one, two, threshold),
    )


def _warnings(one: Wiring, two: Wiring, threshold: float) -> tuple[str, ...]:
    joined = [float((np.abs(wiring.weights) > threshold).mean()) for wiring in (one, two)]
    if min(joined) < _DENSE:
        return ()
    return (
        f"{joined[0]:.0%} and {joined[1]:.0%} of all pairs are connected: shared edges and edit distance compare the "
        "signs of weights, and hardly who is joined to whom; threshold= leaves weak ones out",
    )


def _circuit(connectivity: Any, name: str) -> Wiring:
    wiring = as_wiring(connectivity)
    if wiring.n_nodes < _FEWEST_NODES:
        raise InputError(f"{name} is too small", expected=f"at least {_FEWEST_NODES} nodes", got=f"{wiring.n_nodes}")
    refuse_in_parts(wiring, _PARTS, name)
    return wiring


def _arranged(one: Wiring, two: Wiring) -> Floats:
    """Return the weights of the second circuit in the order of the names of the first."""
    if set(one.names) != set(two.names):
        only = sorted(set(one.names) ^ set(two.names))
        raise InputError(
            "the circuits have nodes of different names",
            expected="the same names in both",
            got=f"in one only: {', '.join(only[:8])}{' ...' if len(only) > 8 else ''}",
            fix="match='best' matches nodes by their weights",
        )
    order = [two.names.index(name) for name in one.names]
    return two.weights[np.ix_(order, order)]


def _filled(weights: Floats, n_nodes: int) -> Floats:
    missing = max(n_nodes - len(weights), 0)
    return np.pad(weights, ((0, missing), (0, missing)))


def _filled_names(names: tuple[str, ...], n_nodes: int) -> tuple[str, ...]:
    return names + tuple(f"none {index}" for index in range(1, n_nodes - len(names) + 1))


def _edges(weights: Floats, threshold: float) -> npt.NDArray[np.int64]:
    return np.where(np.abs(weights) > threshold, np.sign(weights), 0).astype(np.int64)


def _similarities(own: Floats, other: Floats, threshold: float) -> Floats:
    """Return the measures in the order of ``_MEASURES``."""
    a, b = _edges(own, threshold), _edges(other, threshold)
    either = ((a != 0) | (b != 0)).sum()
    shared = ((a == b) & (a != 0)).sum() / either if either else np.nan
    alike = column_correlations(own.ravel(), other.ravel()).item()
    return np.array([alike, shared, _cka(roles(own), roles(other)), 1 - _spectral(own, other)])


def _cka(own: Floats, other: Floats) -> float:
    if not own.any() or not other.any():
        return float("nan")
    return float(CKA().score(own, other))


def _spectral(own: Floats, other: Floats) -> float:
    """Return the mean difference between singular values in order, in units of their root mean square."""
    values = [np.linalg.svd(weights, compute_uv=False) for weights in (own, other)]
    one, two = (each / (np.sqrt((each**2).mean()) or 1.0) for each in values)
    return float(np.abs(one - two).mean())


def _rearranged(
    own: Floats, other: Floats, match: str, n_permutations: int, random: np.random.Generator
) -> Iterator[Floats]:
    n_nodes = len(other)
    off = ~np.eye(n_nodes, dtype=bool)
    for _ in range(n_permutations):
        if match == "names":
            order = random.permutation(n_nodes)
            yield other[np.ix_(order, order)]
        else:
            shuffled = other.copy()
            shuffled[off] = random.permutation(other[off])
            order = best_matching(own, shuffled, random)
            yield shuffled[np.ix_(order, order)]


def _table(found: Floats, nulls: Floats, p: Floats, names: tuple[str, ...], partners: tuple[str, ...]) -> xr.Dataset:
    columns = {
        "similarity": (found, "similarity"),
        "null_mean": (nulls.mean(0), "mean of rearranged circuits"),
        "null_sd": (nulls.std(0, ddof=1), "standard deviation of rearranged circuits"),
        "p": (p, "p, one-sided"),
    }
    variables: dict[str, Any] = {
        name: ("measure", values, {"long_name": long_name, "units": "1"})
        for name, (values, long_name) in columns.items()
    }
    variables["partner"] = ("node", np.array(partners, dtype=str), {"long_name": "node of the second circuit"})
    coordinates = {"measure": list(_MEASURES), "node": list(names), "meaning": ("measure", list(_MEASURES.values()))}
    return xr.Dataset(variables, coordinates)
