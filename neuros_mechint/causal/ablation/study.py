"""Ablate every part of a model in turn, in groups, and one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.causal.ablation.results import AblationCurve, AblationEffects
from neuros_mechint.causal.interventions import Measurements, check_can_intervene, measure
from neuros_mechint.causal.places import Place, as_array, places_at
from neuros_mechint.core.ablations import Mean, Resample
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Edit, Zero
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.sites import SiteReference
from neuros_mechint.core.statistics.bootstrap import bootstrap_ci
from neuros_mechint.core.statistics.certainty import with_statistics
from neuros_mechint.core.statistics.p_values import CORRECTIONS

METHODS = ("zero", "mean", "position_mean", "resample")
CITATIONS = ("wang2022ioi", "heimersheim2024")


class AblationStudy:
    """Ablate parts of a model and measure what it loses, with intervals and tests over examples.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values, e.g. from `logit_difference`, or a scalar.
    method : {"zero", "mean", "position_mean", "resample"}
        What takes the place of an activation: zero; its mean over reference inputs and positions; its mean over
        reference inputs at each position; or the activation of another reference input.
    correction : {"holm", "fdr", "none"}
        How p values are adjusted for the number of parts.
    n_draws : int
        With ``resample``: how many times other inputs are drawn; effects are averaged over draws.
    seed : int or numpy.random.Generator
        Draws inputs, bootstrap samples, signs and random orders.

    Raises
    ------
    OptionError
        Unknown method or correction.

    References
    ----------
    Wang et al. 2022, Interpretability in the wild, doi:10.48550/arXiv.2211.00593

    Examples
    --------
    >>> import numpy as np, torch
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Linear(2, 1, bias=False))
    >>> study = AblationStudy(model, lambda output: output[:, 0], method="zero")
    >>> effects = study.leave_one_out(torch.ones(4, 2), ":in", by=("unit",))
    >>> weights = model.module.weight.detach()[0].numpy()
    >>> np.allclose(effects.values.sel(site=":in"), -weights)
    True
    """

    def __init__(
        self,
        model: Adapter,
        metric: Metric,
        method: str = "zero",
        correction: str = "holm",
        n_draws: int = 5,
        seed: SeedLike = 0,
    ) -> None:
        check_can_intervene(model, metric)
        check_option("method", method, METHODS)
        check_option("correction", correction, CORRECTIONS)
        n_draws = whole("n_draws", n_draws)
        self.model, self.metric = model, metric
        self.method, self.correction, self.n_draws = method, correction, n_draws
        self.seed = seed
        self._seed = int(generator(seed).integers(2**31))

    def leave_one_out(
        self,
        inputs: Any,
        sites: Any,
        by: Sequence[str] = (),
        reference: Any = None,
        batch_size: int | None = None,
        engine: str = "auto",
    ) -> AblationEffects:
        """Ablate one part at a time.

        Parameters
        ----------
        inputs : inputs of the model
        sites : str or iterable of str
            Names or patterns.
        by : sequence of str
            Axes to take apart: ``("head",)``, ``("unit",)`` for neurons, several, or ``()`` for whole sites.
        reference : inputs of the model, optional
            Where means and other inputs come from; ``inputs`` themselves by default.
        batch_size : int, optional
            Samples per call of the model.
        engine : {"auto", "loop", "batched", "suffix"}
            See `neuros_mechint.causal.interventions.measure`.

        Returns
        -------
        AblationEffects

        Raises
        ------
        InputError, SiteError, CapabilityError, OptionError
        """
        by = (by,) if isinstance(by, str) else tuple(by)
        captured = self.model.capture(inputs, sites, batch_size=batch_size)
        assert isinstance(captured, Activations)
        places = places_at(captured, by)
        groups = [[place.name] for place in places]
        measured = self._measure(inputs, groups, reference, batch_size, engine)
        per_sample = as_array(places, measured.values - measured.baseline, by)
        title = f"Ablation by {' and '.join(by)}" if by else "Ablation of single sites"
        return self._effects(per_sample, measured, title, {"by": list(by)})

    def group(
        self,
        inputs: Any,
        groups: Mapping[str, Any],
        reference: Any = None,
        batch_size: int | None = None,
        engine: str = "auto",
    ) -> AblationEffects:
        """Ablate all parts of a group at once: parts that stand in for each other show up only this way.

        Parameters
        ----------
        inputs : inputs of the model
        groups : mapping of str to str or iterable of str
            Sites of each group: names, patterns or indexed names, e.g. ``{"layer 1": "blocks.1.z"}``.
        reference, batch_size, engine
            As in `leave_one_out`.

        Returns
        -------
        AblationEffects
            With one entry along ``site`` for each group.
        """
        if not groups:
            raise InputError("no groups to ablate", expected="a mapping such as {'layer 1': 'blocks.1.z'}")
        members = {name: [sites] if isinstance(sites, str) else list(sites) for name, sites in groups.items()}
        empty = [name for name, sites in members.items() if not sites]
        if empty:
            raise InputError(f"group {empty[0]!r} has no sites", expected="at least one name or pattern")
        measured = self._measure(inputs, list(members.values()), reference, batch_size, engine)
        rows = [Place(name, {}) for name in members]
        per_sample = as_array(rows, measured.values - measured.baseline, ())
        return self._effects(per_sample, measured, "Ablation of groups", {"groups": members})

    def cumulative(
        self,
        inputs: Any,
        order: AblationEffects | Sequence[str],
        n_steps: int | None = None,
        n_null: int = 5,
        reference: Any = None,
        batch_size: int | None = None,
        engine: str = "auto",
    ) -> AblationCurve:
        """Ablate parts one after the other, without giving any back.

        Parameters
        ----------
        inputs : inputs of the model
            Better not those on which ``order`` was found: a ranking looks better on its own data.
        order : AblationEffects or sequence of str
            Effects of single parts, which are then ablated from the largest on, or their names in order.
        n_steps : int, optional
            How many parts to ablate; all of them by default.
        n_null : int
            How many random orders to compare with.
        reference, batch_size, engine
            As in `leave_one_out`.

        Returns
        -------
        AblationCurve
        """
        names = _ranked_names(order) if isinstance(order, AblationEffects) else [str(name) for name in order]
        if not names:
            raise InputError("no parts to ablate", expected="effects, or at least one name")
        n_steps = len(names) if n_steps is None else n_steps
        if not 0 < n_steps <= len(names):
            raise OptionError("n_steps out of range", expected=f"between 1 and {len(names)}", got=n_steps)
        rng = generator(self._seed)
        orders = [names, *(list(rng.permutation(names)) for _ in range(n_null))]
        groups = [[str(name) for name in one[:count]] for one in orders for count in range(n_steps + 1)]
        measured = self._measure(inputs, groups, reference, batch_size, engine)
        values = measured.values.numpy().reshape(len(orders), n_steps + 1, -1)
        return self._curve(values, ["", *names[:n_steps]], measured)

    # -- how -----------------------------------------------------------------------------------------------------

    def _measure(
        self, inputs: Any, groups: Sequence[Sequence[str]], reference: Any, batch_size: int | None, engine: str
    ) -> Measurements:
        """Measure each group of sites ablated; resampling is repeated, and averaged over its draws."""
        activations = self._activations(inputs if reference is None else reference, groups, batch_size)
        draws = self.n_draws if self.method == "resample" else 1
        interventions = [
            [self._edit(site, activations, draw) for site in group] for draw in range(draws) for group in groups
        ]
        measured = measure(
            self.model,
            inputs,
            interventions,
            self.metric,
            engine=engine,
            batch_size=batch_size,
            description="ablate",
        )
        mean = measured.values.reshape(draws, len(groups), -1).mean(0)
        return Measurements(mean, measured.baseline, measured.engine, measured.notes)

    def _activations(self, source: Any, groups: Sequence[Sequence[str]], batch_size: int | None) -> Any:
        """Return what replaces the activations at all sites of the groups; zero needs nothing."""
        names = list(dict.fromkeys(SiteReference.parse(site).name for group in groups for site in group))
        if self.method == "zero" or not names:
            return None
        return self.model.capture(source, names, batch_size=batch_size)

    def _edit(self, site: str, activations: Any, draw: int) -> Edit:
        if self.method == "zero":
            return Zero(site)
        if self.method == "resample":
            return Resample(site, activations, seed=self._seed + draw)
        return Mean(site, activations) if self.method == "mean" else Mean(site, activations, over=("sample",))

    # -- what came out -------------------------------------------------------------------------------------------

    def _effects(
        self, per_sample: xr.DataArray, measured: Measurements, title: str, attributes: Mapping[str, Any]
    ) -> AblationEffects:
        labels = {"units": getattr(self.metric, "units", "metric"), "long_name": "change of the metric when ablated"}
        arrays, warnings = with_statistics(per_sample, measured.baseline.numpy(), self.correction, self._seed)
        data = xr.Dataset({**arrays, "per_sample": per_sample, "baseline": ("sample", measured.baseline.numpy())})
        for name in ("effect", "per_sample", "low", "high"):
            data[name].attrs.update(labels)
        return AblationEffects(
            data, f"{title} ({self.method})", **self._context(measured, attributes), warnings=warnings
        )

    def _curve(self, values: np.ndarray, parts: list[str], measured: Measurements) -> AblationCurve:
        labels = {"units": getattr(self.metric, "units", "metric"), "long_name": "metric"}
        own = values[0]
        several = own.shape[1] > 1
        low, high = bootstrap_ci(own, seed=self._seed) if several else np.full((2, own.shape[0]), np.nan)
        count = xr.DataArray(np.arange(own.shape[0]), dims="n_ablated", attrs={"long_name": "parts ablated"})
        data = xr.Dataset(
            {
                "metric": ("n_ablated", own.mean(-1), labels),
                "low": ("n_ablated", low, labels),
                "high": ("n_ablated", high, labels),
                "random": (("order", "n_ablated"), values[1:].mean(-1), labels),
                "per_sample": (("n_ablated", "sample"), own, labels),
                "part": ("n_ablated", parts),
            },
            coords={"n_ablated": count},
        )
        return AblationCurve(data, f"Parts ablated one after the other ({self.method})", **self._context(measured, {}))

    def _context(self, measured: Measurements, attributes: Mapping[str, Any]) -> dict[str, Any]:
        settings = {"method": self.method, "correction": self.correction, **attributes}
        engine = {"engine": measured.engine, "engine_notes": list(measured.notes)}
        arguments = {"metric": self.metric, **settings}
        provenance = Provenance.record(seed=self.seed, model=self.model.fingerprint(), arguments=arguments)
        return {"attributes": {**settings, **engine}, "provenance": provenance, "citations": CITATIONS}


def _ranked_names(effects: AblationEffects) -> list[str]:
    table = effects.ranked()
    axes = [str(dim) for dim in effects.values.dims if dim != "site"]
    rows = table.to_dict("records")
    return [Place(str(row["site"]), {axis: int(row[axis]) for axis in axes}).name for row in rows]
