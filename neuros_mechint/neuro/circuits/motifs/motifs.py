"""Motifs: triads that are more, or less, common in a circuit than in random graphs of the same degrees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, number, whole
from neuros_mechint.core.figures.colours import MUTED_INK, PALE, PALETTE
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, adjust_p, share_as_far
from neuros_mechint.neuro.circuits.motifs.counts import MEANINGS, triad_classes, triad_counts
from neuros_mechint.neuro.circuits.motifs.nulls import switched
from neuros_mechint.neuro.circuits.wiring import as_wiring, refuse_in_parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_DRAWN = 16
_FEWEST_EDGES = 10
_RARE = 5.0
_MISSING = 0.05  # share of connections of one sign below which signed triads are in effect those of the other
_PARTS = "random graphs of the same degrees join them, beside which closed triads within a part seem too common"


class Motifs(Result):
    """Triads of a circuit beside those of random graphs of the same degrees.

    ``data`` holds over ``(triad,)``: ``z``, ``count``, ``expected`` and ``sd`` of random graphs, ``p`` (two-sided) and
    ``p_corrected``. Of its coordinates ``edges`` shows one triad of each kind, ``class`` is its code without signs (by
    Holland and Leinhardt), and ``meaning`` that code in words.
    """

    @property
    def z(self) -> xr.DataArray:
        """Count less its mean in random graphs, in standard deviations of these."""
        return self.data["z"]

    @property
    def found(self) -> list[str]:
        """Triads whose corrected p is below 0.05, the most unlikely first."""
        chosen = self.data.where(self.data["p_corrected"] <= SIGNIFICANT, drop=True)
        order = np.argsort(-np.abs(chosen["z"].values), kind="stable")
        return [str(name) for name in chosen["triad"].values[order]]

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches: one row for each triad that is drawn."""
        return 6.6, round(1.5 + 0.27 * min(self.data.sizes["triad"], _MOST_DRAWN), 1)

    def _drawn(self) -> xr.Dataset:
        strength = self.data["z"].fillna(0).values
        kept = np.sort(np.argsort(-np.abs(strength), kind="stable")[:_MOST_DRAWN])
        return self.data.isel(triad=kept[::-1])

    def _draw(self, ax: Axes) -> None:
        shown = self._drawn()
        significant = (shown["p_corrected"] <= SIGNIFICANT).values
        places = np.arange(shown.sizes["triad"])
        ax.barh(places, shown["z"].fillna(0), color=[PALETTE[1] if one else PALE for one in significant], height=0.7)
        signed = self.attributes["signed"]
        labels = (
            shown["edges"].values
            if signed
            else [
                f"{meaning}  {name}"
                for meaning, name in zip(shown["meaning"].values, shown["class"].values, strict=True)
            ]
        )
        ax.set_yticks(places, labels)
        ax.axvline(0, color=MUTED_INK, linewidth=0.8)
        arrows = "\n→ excites, ⊣ inhibits" if signed else ""
        ax.set_xlabel(f"z: count beside that of random graphs (sd){arrows}")
        ax.set_title(f"{self.title}: orange, p <= {SIGNIFICANT:g} corrected")

    def _summary_lines(self) -> Iterator[str]:
        attributes = self.attributes
        signs = f" ({attributes['n_excitatory']} →, {attributes['n_inhibitory']} ⊣)" if attributes["signed"] else ""
        alone = f"; {attributes['n_alone']} nodes without any take no part" if attributes["n_alone"] else ""
        yield f"{attributes['n_nodes']} nodes, {attributes['n_edges']} connections between them{signs}{alone}"
        kept = "excitatory (→) and inhibitory (⊣)" if attributes["signed"] else "incoming and outgoing"
        yield f"beside {attributes['n_null']} random graphs in which every node keeps its {kept} connections:"
        if not self.found:
            yield f"none detected: no corrected p is at most {SIGNIFICANT:g}, which is no proof that there are none"
            nearest = np.lexsort((-np.abs(self.z.fillna(0).values), self.data["p"].values))[0]
            yield f"nearest to it, {self._line(str(self.data['triad'].values[nearest]))}"
        for name in self.found[:_MOST_DRAWN]:
            yield self._line(name)

    def _line(self, name: str) -> str:
        row = self.data.sel(triad=name)
        label = row["edges"].item() if self.attributes["signed"] else f"{name}, {row['edges'].item()}"
        return (
            f"{row['meaning'].item()} ({label}): {int(row['count'])}, expected {float(row['expected']):.4g} ± "
            f"{float(row['sd']):.3g}; z = {float(row['z']):.1f}, corrected p = {float(row['p_corrected']):.2g}"
        )


def network_motifs(
    connectivity: Any,
    signed: bool = False,
    threshold: float = 0.0,
    n_null: int = 1000,
    correction: str = "holm",
    seed: SeedLike = 0,
    progress: bool = True,
) -> Motifs:
    r"""Count the triads of a circuit, and compare with random graphs in which every node keeps its degrees.

    That none is found does not mean that none is there: connections that make a triad also raise the degrees of its
    nodes, which random graphs keep, so that many of the planted triads are expected in these too. Where 40 feed-forward
    loops were planted among 40 nodes about 15 are in excess, and they are mostly missed.

    Parameters
    ----------
    connectivity : array_like, torch.Tensor, xarray.DataArray, networkx.DiGraph, a fitted latent circuit or a circuit
        ``(target, source)``; see `neuros_mechint.neuro.circuits.wiring.as_wiring`. Connections of a node to itself are
        left out.
    signed : bool
        Tell excitatory from inhibitory connections, by their sign; random graphs keep the degrees of each kind.
    threshold : float
        Weights no larger than this count as no connection, whatever their sign; where one sign is weaker, few of its
        connections remain, and a warning says so. Fitted weights are hardly ever zero: without a threshold
        every node of a fitted circuit is joined to every other, and there are no motifs to find.
    n_null : int
        Random graphs. The smallest p is 1 / (n_null + 1): for one triad to survive correction take at least 20 for
        each triad that is tested, 260 without signs and 1,200 with them; a warning tells the number.
    correction : {"holm", "fdr", "none"}
        Of p values for the number of triads.
    seed : int or numpy.random.Generator
    progress : bool

    Returns
    -------
    Motifs

    Raises
    ------
    InputError
        No connectivity; fewer than three nodes; fewer than ten connections; all nodes joined; or nodes in parts that
        nothing joins, since random graphs would join them. Nodes without any connection may be among them.
    OptionError
        Unknown correction, or a parameter out of range.

    References
    ----------
    Milo et al. 2002, Network motifs: simple building blocks of complex networks, doi:10.1126/science.298.5594.824

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> network_motifs(rng.random((30, 30)) < 0.1, n_null=99).found
    []
    """
    check_option("signed", signed, (True, False))
    threshold = number("threshold", threshold, 0, float("inf"), closed="left")
    n_null = whole("n_null", n_null, least=19)
    adjust_p([1.0], correction)
    wiring = as_wiring(connectivity)
    weights = np.where(np.abs(wiring.weights) > threshold, wiring.weights, 0.0)
    np.fill_diagonal(weights, 0)
    _check_size(weights)
    n_alone = refuse_in_parts(wiring, _PARTS, threshold=threshold)
    # from here on from row to column, as graphs are written
    states = np.where(weights.T > 0, 1, 2 if signed else 1) * (weights.T != 0)
    n_states = 3 if signed else 2
    count = triad_counts(states, n_states)
    graphs = switched(states, n_null, generator(seed), progress)
    nulls = np.array([triad_counts(graph, n_states) for graph in graphs], dtype=np.float64)
    data = _table(count, nulls, n_states, correction)
    return Motifs(
        data,
        "Signed motifs" if signed else "Motifs",
        attributes={
            "n_nodes": len(weights),
            "n_edges": int(np.count_nonzero(weights)),
            "n_excitatory": int((weights > 0).sum()),
            "n_inhibitory": int((weights < 0).sum()),
            "n_alone": n_alone,
            "signed": signed,
            "threshold": threshold,
            "n_null": n_null,
            "correction": correction,
        },
        provenance=Provenance.record(seed, arguments={"connectivity": wiring.weights, "threshold": threshold}),
        citations=("milo2002", "maslov2002"),
        warnings=_sign_warnings(wiring.weights, weights, signed) + _warnings(data, n_null, correction),
    )


def _check_size(weights: Floats) -> None:
    n_nodes, n_edges = len(weights), int(np.count_nonzero(weights))
    if n_nodes < 3 or n_edges < _FEWEST_EDGES:
        raise InputError(
            "this circuit is too small for motifs",
            expected=f"at least 3 nodes and {_FEWEST_EDGES} connections between them",
            got=f"{n_nodes} nodes, {n_edges} connections",
            fix="a lower threshold, where there is one",
        )
    if n_edges == n_nodes * (n_nodes - 1):
        raise InputError(
            "every node is joined to every other: there is only one such graph",
            expected="some connections that are zero",
            got=f"{n_edges} connections between {n_nodes} nodes",
            fix="pass threshold=: weights up to it count as none",
        )


def _table(count: npt.NDArray[np.int64], nulls: Floats, n_states: int, correction: str) -> xr.Dataset:
    kinds = triad_classes(n_states)
    there = kinds.connected & ((count > 0) | nulls.any(0))
    count, nulls = count[there], nulls[:, there]
    expected, sd = nulls.mean(0), nulls.std(0, ddof=1)
    away = nulls - expected
    p, _ = share_as_far(count - expected, np.abs(expected) + count, [away.T], exact=False)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(sd > 0, (count - expected) / sd, np.where(count == expected, 0.0, np.nan))
    names, edges = (np.array(values, dtype=str)[there] for values in (kinds.names, kinds.edges))
    columns = {
        "z": (z, "z", "standard deviations"),
        "count": (count, "number of triads", "1"),
        "expected": (expected, "mean number in random graphs", "1"),
        "sd": (sd, "standard deviation in random graphs", "1"),
        "p": (p, "p, two-sided", "1"),
        "p_corrected": (adjust_p(p, correction), f"p, corrected ({correction})", "1"),
    }
    variables = {
        name: ("triad", values, {"long_name": long_name, "units": units})
        for name, (values, long_name, units) in columns.items()
    }
    coordinates = {"edges": edges, "class": names, "meaning": np.array([MEANINGS[name] for name in names], dtype=str)}
    label = edges if n_states > 2 else names
    return xr.Dataset(variables, {"triad": label} | {name: ("triad", values) for name, values in coordinates.items()})


def _sign_warnings(given: Floats, kept: Floats, signed: bool) -> tuple[str, ...]:
    """Say where hardly any connection of one sign is left."""
    if not signed:
        return ()
    counts = {"excitatory": int((kept > 0).sum()), "inhibitory": int((kept < 0).sum())}
    fewer, more = sorted(counts, key=lambda kind: counts[kind])
    if counts[fewer] >= max(_FEWEST_EDGES, _MISSING * sum(counts.values())):
        return ()
    between = ~np.eye(len(given), dtype=bool)
    before = {"excitatory": int((given > 0)[between].sum()), "inhibitory": int((given < 0)[between].sum())}
    lost = f", of {before[fewer]} and {before[more]}: set the weak ones of each sign to zero instead of threshold="
    return (
        f"{counts[fewer]} {fewer} and {counts[more]} {more} connections are left{lost if counts != before else ''}; "
        f"these are in effect the triads of {more} connections alone",
    )


def _warnings(data: xr.Dataset, n_null: int, correction: str) -> tuple[str, ...]:
    found = []
    rare = data["triad"].values[(data["expected"] < _RARE).values & (data["p_corrected"] <= SIGNIFICANT).values]
    if rare.size:
        found.append(
            f"of {', '.join(map(str, rare))} fewer than {_RARE:g} are expected: their numbers are far from normal, "
            "read p and not z"
        )
    n_tests = 1 if correction == "none" else data.sizes["triad"]
    least, needed = 1 / (n_null + 1), round(n_tests / SIGNIFICANT)
    if n_null < needed:
        corrected = f", or {min(1.0, least * n_tests):.2g} corrected for {n_tests} triads" if n_tests > 1 else ""
        alone = " where no other triad stands out" if correction == "fdr" else ""
        found.append(
            f"with {n_null} random graphs no p is below {least:.2g}{corrected}: none can fall below "
            f"{SIGNIFICANT:g}{alone}; n_null={needed} would do"
        )
    return tuple(found)
