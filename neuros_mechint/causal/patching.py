"""Activation patching: put activations of a clean run into a corrupted run, and see what comes back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Replace
from neuros_mechint.core.errors import CapabilityError, InputError, SiteError
from neuros_mechint.core.plotting import draw
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.core.sites import SiteReference, axis_meant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CITATIONS = ("meng2022rome", "wang2022ioi", "heimersheim2024")
_SMALLEST_RELATIVE_DENOMINATOR = 1e-4


class PatchingEffects(Result):
    """The metric after patching, for each site and index.

    ``data`` holds ``metric`` over ``(site, ...)``, ``per_sample`` over ``(site, ..., sample)`` and the two baselines
    ``clean`` and ``corrupted`` over ``(sample,)``.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean metric after patching, ``(site, ...)``."""
        return self.data["metric"]

    @property
    def clean(self) -> float:
        """Mean metric of the clean run."""
        return float(self.data["clean"].mean())

    @property
    def corrupted(self) -> float:
        """Mean metric of the corrupted run."""
        return float(self.data["corrupted"].mean())

    def normalized(self) -> xr.DataArray:
        """Return ``(patched - corrupted) / (clean - corrupted)``: 0 changes nothing, 1 restores the clean run.

        Raises
        ------
        InputError
            Clean and corrupted hardly differ in the metric, so that the ratio would be noise.
        """
        difference = self.clean - self.corrupted
        scale = max(abs(self.clean), abs(self.corrupted))
        if abs(difference) <= _SMALLEST_RELATIVE_DENOMINATOR * scale or difference == 0:
            raise InputError(
                "clean and corrupted hardly differ in the metric, so effects cannot be normalized",
                expected="a clear difference between the two baselines",
                got=f"clean {self.clean:.6g}, corrupted {self.corrupted:.6g}",
                fix="choose a corruption that changes the answer, or read `.values`",
            )
        normalized = (self.values - self.corrupted) / difference
        return normalized.assign_attrs(units="fraction of the difference", long_name="effect")

    def _draw(self, ax: Axes) -> None:
        try:
            shown = self.normalized()
        except InputError:
            shown = self.values
        draw(shown.squeeze([axis for axis in shown.dims[1:] if shown.sizes[axis] == 1]).to_dataset(name="effect"), ax)

    def summary(self) -> str:
        """Return the baselines and the largest effects as text."""
        difference = self.clean - self.corrupted
        changes = (self.values - self.corrupted).stack(place=self.values.dims)
        order = np.argsort(-np.abs(np.nan_to_num(changes.values)))[:5]
        lines = [
            self.title,
            f"run that was patched from: {self.clean:.4g}",
            f"run that was patched into: {self.corrupted:.4g}",
            "largest changes of the metric, and what part of the difference they are:",
        ]
        for one in order:
            place = ", ".join(str(part) for part in np.atleast_1d(changes["place"].values[one]))
            change = float(changes.values[one])
            share = f" ({change / difference:.1%})" if difference else ""
            lines.append(f"  {place}: {change:+.4g}{share}")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])


class ActivationPatcher:
    """Patch activations of a clean run into a corrupted run, and measure the output.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar, e.g. from `logit_difference`.

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
        if not isinstance(model, Adapter):
            raise InputError("the model is no adapter", expected="nm.adapt(model)", got=type(model).__name__)
        if "intervene" not in model.capabilities:
            raise CapabilityError(f"{model!r} cannot be edited, so nothing can be patched into it")
        if not callable(metric):
            raise InputError("the metric cannot be called", expected="metric(output)", got=type(metric).__name__)
        self.model = model
        self.metric = metric

    def sweep(
        self,
        clean: Any,
        corrupted: Any,
        sites: Any,
        by: Sequence[str] = ("position",),
        batch_size: int | None = None,
    ) -> PatchingEffects:
        """Patch one place at a time.

        Parameters
        ----------
        clean, corrupted : inputs of the model
            Of the same shape; sample ``i`` of the one is the partner of sample ``i`` of the other.
        sites : str or iterable of str
            Names or patterns.
        by : sequence of str
            Axes to take apart: ``("position",)``, ``("head",)``, ``("unit",)``, several, or ``()`` for whole sites.
        batch_size : int, optional
            Samples per call of the model.

        Returns
        -------
        PatchingEffects

        Raises
        ------
        InputError, SiteError, CapabilityError
        """
        if isinstance(by, str):
            by = (by,)
        baselines = self._baselines(clean, corrupted, sites, batch_size)
        places = [(site, place) for site in baselines.activations for place in _places(baselines.activations, site, by)]
        values: dict[str, list[torch.Tensor]] = {}
        for site, place in progress_bar(places, description="patch"):
            edit = _patch(site, place, baselines.activations)
            values.setdefault(site, []).append(self._measure(corrupted, [edit], batch_size))
        arrays = [
            _as_array(site, measured, baselines.activations, by, sample=baselines.corrupted.shape[0])
            for site, measured in values.items()
        ]
        per_sample = xr.concat(arrays, dim="site", join="outer").transpose("site", *by, "sample")
        title = f"Activation patching by {' and '.join(by)}" if by else "Activation patching"
        return self._effects(per_sample, baselines, title, list(by))

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
        measured = self._measure(corrupted, edits, batch_size)
        label = " + ".join(baselines.activations)
        per_sample = xr.DataArray(measured.numpy()[None], dims=("site", "sample"), coords={"site": [label]})
        return self._effects(per_sample, baselines, "Joint activation patching", [])

    def _baselines(self, clean: Any, corrupted: Any, sites: Any, batch_size: int | None) -> _Baselines:
        run = self.model.run(clean, capture=sites, batch_size=batch_size)
        if not len(run.activations):
            raise InputError("no sites to patch", expected="at least one name or pattern, see `model.sites()`")
        other = self.model.run(corrupted, capture=list(run.activations), batch_size=batch_size)
        for site, values in run.activations.items():
            if other.activations[site].shape != values.shape:
                raise InputError(
                    "clean and corrupted inputs are not partners",
                    expected=f"activations of shape {tuple(values.shape)} at {site!r}, as in the clean run",
                    got=tuple(other.activations[site].shape),
                    fix="give as many samples, of the same length",
                )
        return _Baselines(run.activations, self._value(run.output), self._value(other.output))

    def _measure(self, corrupted: Any, edits: Sequence[Replace], batch_size: int | None) -> torch.Tensor:
        return self._value(self.model.run(corrupted, edits=edits, batch_size=batch_size).output)

    def _value(self, output: Any) -> torch.Tensor:
        """Return the metric as ``(sample,)``, or ``(1,)`` for a scalar."""
        with torch.no_grad():
            value = torch.as_tensor(self.metric(output)).detach().double().cpu()
        if value.ndim > 1:
            raise InputError("the metric has too many axes", expected="(batch,) or a scalar", got=tuple(value.shape))
        if not bool(torch.isfinite(value).all()):
            raise InputError("the metric is not finite", got=str(value.tolist()[:8]))
        return value.reshape(-1)

    def _effects(self, per_sample: xr.DataArray, baselines: _Baselines, title: str, by: list[str]) -> PatchingEffects:
        units = getattr(self.metric, "units", "metric")
        metric = per_sample.mean("sample").assign_attrs(units=units, long_name="metric after patching")
        data = xr.Dataset(
            {
                "metric": metric,
                "per_sample": per_sample.assign_attrs(units=units, long_name="metric after patching"),
                "clean": ("sample", baselines.clean.numpy()),
                "corrupted": ("sample", baselines.corrupted.numpy()),
            }
        )
        # its fields one by one, so that a tensor of tokens is recorded as its shape and hash
        metric_arguments = dict(vars(self.metric)) if hasattr(self.metric, "__dict__") else {}
        name = getattr(self.metric, "__qualname__", type(self.metric).__qualname__)
        arguments = {"metric": name, **metric_arguments, "sites": list(per_sample["site"].values), "by": by}
        provenance = Provenance.record(model=self.model.fingerprint(), arguments=arguments)
        return PatchingEffects(data, title, {"by": by}, provenance, CITATIONS, _warnings(baselines))


class _Baselines:
    """Clean activations, and the metric of both runs per sample."""

    def __init__(self, activations: Activations, clean: torch.Tensor, corrupted: torch.Tensor) -> None:
        self.activations, self.clean, self.corrupted = activations, clean, corrupted


def _warnings(baselines: _Baselines) -> tuple[str, ...]:
    """Warn where the two runs differ less than their differences vary: fractions of that difference are noise."""
    paired = baselines.clean - baselines.corrupted
    if paired.numel() < 2:
        return ()
    mean, error = float(paired.mean()), float(paired.std() / paired.numel() ** 0.5)
    if abs(mean) >= 2 * error:
        return ()
    return (
        f"the two runs differ by {mean:.3g} with a standard error of {error:.3g} over {paired.numel()} samples: "
        "normalized effects are not to be trusted",
    )


def _axis(activations: Activations, site: str, name: str) -> int:
    """Return which axis of a site ``name`` is."""
    dims = activations.dims(site)
    name = axis_meant(name, dims)
    if name not in dims or name == "sample":
        raise SiteError(
            f"site {site!r} cannot be taken apart by {name!r}",
            expected="one of " + ", ".join(axis for axis in dims if axis != "sample"),
            fix="give `by`, for example by=() for the site as a whole",
        )
    return dims.index(name)


def _places(activations: Activations, site: str, by: Sequence[str]) -> list[dict[str, int]]:
    sizes = [activations[site].shape[_axis(activations, site, name)] for name in by]
    return [dict(zip(by, entries, strict=True)) for entries in itertools.product(*map(range, sizes))]


def _patch(site: str, place: dict[str, int], activations: Activations) -> Replace:
    reference = SiteReference.parse(site)
    if twice := [name for name in place if name in reference.index]:
        raise SiteError(
            f"site {site!r} is already indexed along {twice[0]!r}, by which it is to be taken apart",
            fix=f"sweep {reference.name!r} and select from the result, or leave {twice[0]!r} out of `by`",
        )
    values = activations[site]
    for name, entry in sorted(place.items(), key=lambda item: -_axis(activations, site, item[0])):
        values = values.select(_axis(activations, site, name), entry)
    return Replace(str(SiteReference(reference.name, {**reference.index, **place})), values)


def _as_array(
    site: str, measured: list[torch.Tensor], activations: Activations, by: Sequence[str], sample: int
) -> xr.DataArray:
    sizes = [activations[site].shape[_axis(activations, site, name)] for name in by]
    values = torch.stack(measured).reshape(*sizes, sample).numpy()
    coords = {name: np.arange(size) for name, size in zip(by, sizes, strict=True)}
    return xr.DataArray(values, dims=(*by, "sample"), coords=coords).expand_dims(site=[site])
