"""Which features of an earlier site act through which features of a later one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.causal.interventions import Measurements, measure
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.dictionary import Dictionary
from neuros_mechint.core.edits import Edit, Replace, Scale
from neuros_mechint.core.errors import InputError, check_option, whole
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.site_names import dictionary_site
from neuros_mechint.core.statistics.certainty import with_statistics
from neuros_mechint.core.statistics.p_values import CORRECTIONS
from neuros_mechint.features.effects import feature_effects, own_site

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd


class FeatureCircuit(Result):
    """Effects on a metric that earlier features have through single later ones.

    ``data`` holds ``effect`` over ``(earlier, later)``: the mean change of the metric where the later feature alone
    takes the value it has once the earlier one is removed; its bootstrap interval ``low`` and ``high``, its sign-flip
    ``p`` and ``p_adjusted``; ``response``, the mean change of the later feature; and over ``(earlier,)`` the effect
    ``total`` of removing the feature, and ``through_features``, what of it passes through all later features
    with the error of the later dictionary kept.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean change of the metric, ``(earlier, later)``."""
        return self.data["effect"]

    def ranked(self) -> pd.DataFrame:
        """Return a table of the edges, the largest absolute effect first."""
        table = self.data[["effect", "low", "high", "p_adjusted", "response"]].to_dataframe().reset_index()
        return table.sort_values("effect", key=abs, ascending=False, ignore_index=True)

    def _summary_lines(self) -> list[str]:
        """Return the largest edges, and how much of the effects passes through later features."""
        total, through = (float(np.abs(self.data[name]).sum()) for name in ("total", "through_features"))
        lines = [f"largest of {self.values.size} edges, 95% interval, p after correction:"]
        for row in self.ranked().head(8).to_dict("records"):
            interval = f"{row['effect']:+.4g} [{row['low']:+.4g}, {row['high']:+.4g}], p = {row['p_adjusted']:.2g}"
            lines.append(f"  {row['earlier']:.0f} -> {row['later']:.0f}: {interval}")
        lines.append(
            f"effects of the earlier features: {total:.4g}, through all later features at once, those without an edge "
            f"here among them: {through:.4g} (absolute sums)"
        )
        return lines

    def to_networkx(self, level: float = 0.05) -> nx.DiGraph:
        """Return the edges whose adjusted p is below ``level``, from ``("earlier", i)`` to ``("later", j)``."""
        import networkx as nx

        graph = nx.DiGraph()
        graph.add_nodes_from(("earlier", int(one)) for one in self.data["earlier"].values)
        graph.add_nodes_from(("later", int(one)) for one in self.data["later"].values)
        for row in self.data[["effect", "p_adjusted"]].to_dataframe().reset_index().to_dict("records"):
            if row["p_adjusted"] < level:
                graph.add_edge(("earlier", int(row["earlier"])), ("later", int(row["later"])), effect=row["effect"])
        return graph


def feature_circuit(
    model: Adapter,
    earlier: Dictionary | tuple[Dictionary, str],
    later: Dictionary | tuple[Dictionary, str],
    inputs: Any,
    metric: Metric,
    n_features: int = 10,
    correction: str = "holm",
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> FeatureCircuit:
    """Measure through which later features the most important earlier features act, exactly.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``.
    earlier, later : Dictionary, or tuple of (Dictionary, str)
        Two dictionaries, or dictionaries with their sites; the second site must come after the first.
    inputs : inputs of the model
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values.
    n_features : int
        How many features of each site to take: those with the largest effects, see `feature_effects`.
    correction : {"holm", "fdr", "none"}
        How p values are adjusted for the number of edges.
    batch_size : int, optional
        Samples per call of the model.
    seed : int or numpy.random.Generator
        Draws bootstrap samples and signs.

    Returns
    -------
    FeatureCircuit
        Each edge changes one later feature alone; ``through_features`` changes all of them at once, so that edges do
        not add up to it where later features act together.

    Raises
    ------
    InputError, OptionError, SiteError, CapabilityError

    References
    ----------
    Marks et al. 2024, Sparse feature circuits, doi:10.48550/arXiv.2403.19647

    Examples
    --------
    >>> class Units:  # each unit that is above zero is a feature
    ...     def encode(self, x):
    ...         return torch.relu(x)
    ...     def decode(self, features):
    ...         return features
    >>> import neuros_mechint as nm
    >>> net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 2, bias=False), torch.nn.Identity())
    >>> net[1].weight.data = torch.tensor([[0.0, 2.0], [1.0, 0.0]])  # crosses over
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> found = feature_circuit(nm.adapt(net), (Units(), "0"), (Units(), "2"), x, lambda y: y.sum(1))
    >>> found.values.sel(earlier=[0, 1], later=[0, 1]).values.tolist()
    [[0.0, -2.0], [-6.0, 0.0]]
    """
    n_features = whole("n_features", n_features)
    check_option("correction", correction, CORRECTIONS)
    pairs = [one if isinstance(one, tuple) else (one, own_site(one)) for one in (earlier, later)]
    sites, chosen, spliced = tuple(site for _, site in pairs), [], model
    for sae, site in pairs:
        effects = feature_effects(model, sae, inputs, metric, site=site, batch_size=batch_size, seed=seed)
        chosen.append(effects.ranked()["feature"].head(n_features).tolist())
        spliced = spliced.with_sae(sae, site)  # type: ignore[attr-defined]  # `feature_effects` has found it there
    sources, targets = (dictionary_site(site, "features") for site in sites)
    removed: list[Edit] = [Scale(f"{sources}[feature={feature}]", 0.0) for feature in chosen[0]]
    clean, *moved = _responses(spliced, inputs, removed, targets, batch_size)
    if all(torch.equal(one[targets], clean[targets]) for one in moved):
        raise InputError(
            f"nothing at {sites[0]!r} moves a feature at {sites[1]!r}",
            expected="the earlier site first",
            fix="swap the two, or take sites further apart",
        )
    axis = clean.dims(targets).index("feature")
    edges: list[list[Edit]] = [
        [Replace(f"{targets}[feature={feature}]", one[targets].select(axis, feature))]
        for one in moved
        for feature in chosen[1]
    ]
    of_nodes: list[list[Edit]] = [*([edit] for edit in removed), *([Replace(targets, one[targets])] for one in moved)]
    measured = measure(spliced, inputs, [*of_nodes, *edges], metric, batch_size=batch_size, description="edges")
    units = getattr(metric, "units", "metric")
    data, warnings = _dataset(measured, chosen, units, correction, int(generator(seed).integers(2**31)))
    change = [(one.matrix(targets) - clean.matrix(targets)).mean(0)[chosen[1]].tolist() for one in moved]
    data["response"] = (("earlier", "later"), change, {"long_name": "change of feature"})
    for name, site in zip(("earlier", "later"), sites, strict=True):
        data[name].attrs["long_name"] = f"feature at {site}"
    arguments = {"earlier": sites[0], "later": sites[1], "n_features": n_features, "metric": metric}
    return FeatureCircuit(
        data,
        f"Features of {sites[0]} acting through features of {sites[1]}",
        attributes={"correction": correction, "engine": measured.engine, "engine_notes": list(measured.notes)},
        provenance=Provenance.record(seed=seed, model=spliced.fingerprint(), arguments=arguments),
        citations=("marks2024sparse",),
        warnings=warnings,
    )


def _dataset(
    measured: Measurements, chosen: Sequence[Sequence[int]], units: str, correction: str, seed: int
) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Return effects with their certainty; measured were: each feature removed, all it moves, each edge alone."""
    n_earlier, n_later = map(len, chosen)
    total, through, single = np.split((measured.values - measured.baseline).numpy(), [n_earlier, 2 * n_earlier])
    coords = {"earlier": chosen[0], "later": chosen[1]}
    per_sample = xr.DataArray(
        single.reshape(n_earlier, n_later, -1), dims=("earlier", "later", "sample"), coords=coords
    )
    arrays, warnings = with_statistics(per_sample, measured.baseline.numpy(), correction, seed)
    data = xr.Dataset({**arrays, "per_sample": per_sample})
    for name in ("effect", "low", "high", "per_sample"):
        data[name].attrs.update(units=units, long_name="change of the metric along the edge")
    for name, values, what in (
        ("total", total, "change of the metric, feature removed"),
        ("through_features", through, "change of the metric through all later features"),
    ):
        data[name] = ("earlier", values.mean(1), {"units": units, "long_name": what})
    return data, warnings


def _responses(
    model: Any, inputs: Any, removed: Sequence[Edit], targets: str, batch_size: int | None
) -> list[Activations]:
    """Return the later features as they are, and once each earlier feature is removed."""
    alternatives: list[list[Edit]] = [[], *([edit] for edit in removed)]
    return [
        model.observe(inputs, edits, targets, batch_size).activations
        for edits in progress_bar(alternatives, description="remove features")
    ]
