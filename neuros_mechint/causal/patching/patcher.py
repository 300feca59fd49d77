"""Activation patching: put activations of a clean run into a corrupted run, and see what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr

from neuros_mechint.adapters.base import BaseAdapter
from neuros_mechint.causal.interventions import ENGINES, Measurements, check_can_intervene, measure
from neuros_mechint.causal.metrics import check_dependence, metric_values
from neuros_mechint.causal.partners import check_partners, difference_warnings
from neuros_mechint.causal.patching.effects import PatchingEffects
from neuros_mechint.causal.patching.prescreen import prescreen
from neuros_mechint.causal.places import as_array, patch, places_at
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Replace
from neuros_mechint.core.errors import InputError, OptionError, check_option
from neuros_mechint.core.provenance import Provenance

CITATIONS = ("meng2022rome", "wang2022ioi", "heimersheim2024")


class ActivationPatcher:
    """Patch activations of a clean run into a corrupted run, and measure the output.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar, e.g. from `logit_difference`. It is given what the
        model itself returns: for TransformerLens and most plain modules the logits, for HuggingFace models an object
        with ``.logits``.

    References
    ----------
    Vig et al. 2020, doi:10.48550/arXiv.2004.12265; Meng et al. 2022, doi:10.48550/arXiv.2202.05262; Heimersheim and
    Nanda 2024, How to use and interpret activation patching, doi:10.48550/arXiv.2404.15255

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)))
    >>> patcher = ActivationPatcher(model, lambda output: output[:, 0])
    >>> effects = patcher.sweep(torch.ones(1, 2), torch.zeros(1, 2), sites=["0", "1"], by=())
    >>> effects.normalized().round(3).values
    array([1., 1.])
    """

    def __init__(self, model: Adapter, metric: Metric) -> None:
        check_can_intervene(model, metric)
        self.model = model
        self.metric = metric

    def sweep(
        self,
        clean: Any,
        corrupted: Any,
        sites: Any,
        by: Sequence[str] = ("position",),
        batch_size: int | None = None,
        engine: str = "auto",
        verify: int | None = None,
        n_jobs: int | None = None,
    ) -> PatchingEffects:
        """Patch one place at a time.

        Parameters
        ----------
        clean, corrupted : inputs of the model
            Of the same shape; sample ``i`` of the one is the partner of sample ``i`` of the other. Swapped, the
            corrupted activations go into the clean run, which asks what breaks (noising) rather than what restores.
        sites : str or iterable of str
            Names or patterns.
        by : sequence of str
            Axes to take apart: ``("position",)``, ``("head",)``, ``("unit",)``, several, or ``()`` for whole sites.
        batch_size : int, optional
            Samples per call of the model.
        engine : {"auto", "loop", "batched", "suffix", "attribution"}
            How to compute it, see `neuros_mechint.causal.interventions.measure`: all but the last give the same
            numbers. ``attribution`` estimates every effect from one gradient and measures only the largest.
        verify : int, optional
            With ``engine="attribution"``: how many places to measure, 16 by default.
        n_jobs : int or None
            Batches of samples patched at the same time, so give ``batch_size`` too: the numbers are those of the same
            batches one after the other. See `neuros_mechint.core.parallel.parallel_map`.

        Returns
        -------
        PatchingEffects
            With ``engine="attribution"``, ``data["exact"]`` says which places were measured.

        Raises
        ------
        InputError, SiteError, CapabilityError, OptionError
        """
        by = (by,) if isinstance(by, str) else tuple(by)
        check_option("engine", engine, (*ENGINES, "attribution"))
        if verify is not None and engine != "attribution":
            raise OptionError("`verify` belongs to engine='attribution'", got=f"engine={engine!r}")
        baselines = self._baselines(clean, corrupted, sites, batch_size)
        places = places_at(baselines.activations, by)
        title = f"Activation patching by {' and '.join(by)}" if by else "Activation patching"
        if engine == "attribution":
            n_verified = 16 if verify is None else verify
            measured, verified, warnings = prescreen(
                self.model, self.metric, corrupted, baselines.activations, places, n_verified, batch_size
            )
            exact = as_array(places, verified[:, None], by).isel(sample=0, drop=True) == 1
            per_sample = as_array(places, measured.values, by)
            return self._effects(per_sample, measured, baselines, f"{title} (estimated)", by, exact, warnings)
        edits = [[patch(place, baselines.activations)] for place in places]
        measured = measure(
            self.model,
            corrupted,
            edits,
            self.metric,
            engine=engine,
            batch_size=batch_size,
            n_jobs=n_jobs,
            description="patch",
        )
        return self._effects(as_array(places, measured.values, by), measured, baselines, title, by)

    def joint(self, clean: Any, corrupted: Any, sites: Any, batch_size: int | None = None) -> PatchingEffects:
        """Patch all ``sites`` at once: parts that stand in for each other show up only this way.

        Parameters
        ----------
        clean, corrupted : inputs of the model
            As in `sweep`.
        sites : str or iterable of str
            Names, patterns or indexed names such as ``"blocks.1.z[head=2]"``.
        batch_size : int, optional
            Samples per call of the model.

        Returns
        -------
        PatchingEffects
            With one entry along ``site``.
        """
        baselines = self._baselines(clean, corrupted, sites, batch_size)
        edits = [Replace(site, values) for site, values in baselines.activations.items()]
        measured = measure(self.model, corrupted, [edits], self.metric, batch_size=batch_size)
        label = " + ".join(baselines.activations)
        per_sample = xr.DataArray(measured.values.numpy(), dims=("site", "sample"), coords={"site": [label]})
        return self._effects(per_sample, measured, baselines, "Joint activation patching", ())

    def _baselines(self, clean: Any, corrupted: Any, sites: Any, batch_size: int | None) -> _Baselines:
        check_partners(self.model, clean, corrupted)
        observe = self.model.observe if isinstance(self.model, BaseAdapter) else self.model.run
        run = observe(clean, capture=sites, batch_size=batch_size)
        if not len(run.activations):
            raise InputError("no sites to patch", expected="at least one name or pattern, see `model.sites()`")
        return _Baselines(run.activations, metric_values(self.metric, run.output), run.output)

    def _effects(
        self,
        per_sample: xr.DataArray,
        measured: Measurements,
        baselines: _Baselines,
        title: str,
        by: tuple[str, ...],
        exact: xr.DataArray | None = None,
        warnings: tuple[str, ...] = (),
    ) -> PatchingEffects:
        if bool((measured.values == baselines.clean).all()):  # nothing ever changed it: is it a metric at all?
            check_dependence(self.metric, baselines.output)
        units = getattr(self.metric, "units", "metric")
        labels = {"units": units, "long_name": "metric after patching"}
        variables: dict[str, Any] = {
            "metric": (per_sample.dims[:-1], per_sample.values.mean(-1), labels),
            "per_sample": (per_sample.dims, per_sample.values, labels),
            "clean": ("sample", baselines.clean.numpy()),
            "corrupted": ("sample", measured.baseline.numpy()),
        }
        if exact is not None:
            variables["exact"] = exact
        arguments = {"metric": self.metric, "sites": list(per_sample["site"].values), "by": list(by)}
        provenance = Provenance.record(model=self.model.fingerprint(), arguments=arguments)
        attributes = {"by": list(by), "engine": measured.engine, "engine_notes": list(measured.notes)}
        warnings = (*warnings, *difference_warnings(baselines.clean, measured.baseline))
        data = xr.Dataset(variables, coords=per_sample.coords)
        return PatchingEffects(data, title, attributes, provenance, CITATIONS, warnings)


@dataclass(frozen=True)
class _Baselines:
    """Clean activations, the metric of the clean run per sample, and its output."""

    activations: Activations
    clean: torch.Tensor
    output: Any
