"""Do-interventions: set chosen variables of a model, and measure the effect on the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.causal.interventions import Measurements, measure
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Edit, Replace
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.colours import PALE
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.certainty import with_statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Interventions = Mapping[str, Any] | Edit | Sequence[Edit]
CITATIONS = ("pearl2009", "vig2020")


class DoEffect(Result):
    """The effect of one intervention on the metric.

    ``data`` holds ``effect``, the mean difference, its bootstrap interval ``low`` and ``high`` and its sign-flip ``p``;
    and over ``(sample,)`` the difference ``per_sample`` and the metric in the two worlds, ``treated`` and ``control``.
    """

    @property
    def value(self) -> float:
        """Mean effect over samples."""
        return float(self.data["effect"])

    def _draw(self, ax: Axes) -> None:
        control, treated = self.data["control"].values, self.data["treated"].values
        for before, after in zip(control, treated, strict=True):
            ax.plot([0, 1], [before, after], color=PALE, linewidth=0.8)
        ax.plot([0, 1], [control.mean(), treated.mean()], color=PALETTE[0], marker="o", label="mean")
        ax.set_xticks([0, 1], [self.attributes["control"], self.attributes["treated"]])
        ax.set_xlim(-0.3, 1.3)
        ax.set_ylabel(axis_label(self.data["treated"]))
        ax.grid(axis="y")
        interval = f" [{float(self.data['low']):.3g}, {float(self.data['high']):.3g}]" if self._has_interval else ""
        ax.set_title(f"effect {self.value:.3g}{interval}", loc="right", fontsize=8, color=MUTED_INK)

    @property
    def _has_interval(self) -> bool:
        return bool(np.isfinite(self.data["low"]))

    def _summary_lines(self) -> list[str]:
        """Return the effect with its interval."""
        units = self.main.attrs["units"]
        lines = [f"effect: {self.value:+.4g} {units}"]
        if self._has_interval:
            low, high, p = (float(self.data[name]) for name in ("low", "high", "p"))
            lines[-1] += f", 95% interval [{low:+.4g}, {high:+.4g}], p = {p:.2g}, {self.data.sizes['sample']} samples"
        return lines


def do(
    model: Adapter,
    inputs: Any,
    interventions: Interventions,
    metric: Metric,
    *,
    engine: str = "auto",
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> DoEffect:
    """Set variables of a model to given values, and compare the metric with that of the untouched model.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    inputs : inputs of the model
    interventions : mapping of str to array, or edits
        ``{site: value}``: every site, maybe with an index, is held at its value, all in one run. A value has the shape
        of the selected block or broadcasts to it. Or any edits, such as `SetComponent` or `Project`.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar.
    engine, batch_size
        See `neuros_mechint.causal.interventions.measure`.
    seed : int or numpy.random.Generator
        Draws bootstrap samples and signs.

    Returns
    -------
    DoEffect
        With one sample only (or a scalar metric) its interval and p are NaN, and a warning says so.

    Raises
    ------
    InputError, SiteError, CapabilityError, OptionError

    References
    ----------
    Pearl 2009, Causality, doi:10.1017/CBO9780511803161

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 1, bias=False)))
    >>> held = do(model, torch.ones(4, 2), {"0[unit=0]": 3.0}, lambda output: output[:, 0])
    >>> weight = model.module[1].weight[0, 0].item()
    >>> abs(held.value - 2 * weight) < 1e-6  # from 1 to 3
    True
    """
    edits, names = _as_edits(interventions)
    measured = measure(model, inputs, [edits], metric, engine=engine, batch_size=batch_size, description="do")
    labels = {"treated": "do", "control": "as it is"}
    title = f"Effect of do({', '.join(names)})"
    return _effect(model, metric, measured, measured.values[0], measured.baseline, title, labels, seed)


def ate(
    model: Adapter,
    inputs: Any,
    site: str | Callable[[Any], Edit | Sequence[Edit]],
    treated: Any,
    control: Any,
    metric: Metric,
    *,
    engine: str = "auto",
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> DoEffect:
    """Return the average treatment effect: the mean difference between two do-interventions on one variable.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    inputs : inputs of the model
        At least two samples, over which the effect is averaged.
    site : str or callable
        The variable: a site, maybe with an index; or ``value -> edits``, e.g.
        ``lambda value: nm.SetComponent("blocks.1.resid_post", direction, value)``.
    treated, control : float or array
        The two values it is set to.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values.
    engine, batch_size
        See `neuros_mechint.causal.interventions.measure`.
    seed : int or numpy.random.Generator
        Draws bootstrap samples and signs.

    Returns
    -------
    DoEffect
        ``effect`` is the mean of ``treated - control``.

    Raises
    ------
    InputError
        Also with a single sample, or a metric that gives one number for all: then there is no interval.
    SiteError, CapabilityError, OptionError

    References
    ----------
    Pearl 2009, Causality, doi:10.1017/CBO9780511803161

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 1, bias=False)))
    >>> effect = ate(model, torch.randn(4, 2), "0[unit=0]", 1.0, 0.0, lambda output: output[:, 0])
    >>> abs(effect.value - model.module[1].weight[0, 0].item()) < 1e-6
    True
    """
    make = site if callable(site) else lambda value: Replace(site, value)
    name = site if isinstance(site, str) else "variable"
    worlds = [as_list(make(_checked_value(name, value))) for value in (treated, control)]
    measured = measure(model, inputs, worlds, metric, engine=engine, batch_size=batch_size, description="do")
    if measured.values.shape[1] < 2:
        raise InputError(
            "one sample has no average",
            expected="at least two samples, and a metric with one value per sample",
            got=f"{measured.values.shape[1]} value of the metric",
            fix="give more inputs, or use nm.do for a single one",
        )
    labels = {"treated": f"do({name} = {_text(treated)})", "control": f"do({name} = {_text(control)})"}
    title = f"Average treatment effect of {name}"
    return _effect(model, metric, measured, measured.values[0], measured.values[1], title, labels, seed)


def as_list(edits: Edit | Sequence[Edit]) -> list[Edit]:
    """Return one edit or several as a list; raise `InputError` on anything else."""
    several = [edits] if isinstance(edits, Edit) else list(edits) if isinstance(edits, Sequence) else None
    if several is None or not all(isinstance(edit, Edit) for edit in several):
        raise InputError("these are no edits", expected="edits such as nm.Zero(site), or a sequence of them", got=edits)
    return several


def _as_edits(interventions: Interventions) -> tuple[list[Edit], list[str]]:
    if isinstance(interventions, Mapping):
        edits: list[Edit] = [Replace(site, _checked_value(site, value)) for site, value in interventions.items()]
        names = [f"{site} = {_text(value)}" for site, value in interventions.items()]
    else:
        edits = as_list(interventions)
        names = [f"{type(edit).__name__} at {getattr(edit, 'site', edit)}" for edit in edits]
    if not edits:
        raise InputError("nothing to set", expected="a mapping such as {'blocks.0.z[head=1]': 0.0}, or edits")
    return edits, names


def _checked_value(name: str, value: Any) -> torch.Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the value of {name} is no number", expected="a number or an array", got=repr(value)
        ) from error
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"the value of {name} is not finite", got=_text(value))
    return tensor


def _text(value: Any) -> str:
    tensor = torch.as_tensor(value)
    return f"{tensor.item():.4g}" if tensor.numel() == 1 else f"array {tuple(tensor.shape)}"


def _effect(
    model: Adapter,
    metric: Metric,
    measured: Measurements,
    treated: torch.Tensor,
    control: torch.Tensor,
    title: str,
    labels: Mapping[str, str],
    seed: SeedLike,
) -> DoEffect:
    own_seed = int(generator(seed).integers(2**31))
    per_sample = xr.DataArray((treated - control).numpy(), dims="sample")
    found, warnings = with_statistics(per_sample, control.numpy(), "none", own_seed)
    data = xr.Dataset(
        {name: found[name] for name in ("effect", "low", "high", "p")}
        | {
            "per_sample": per_sample,
            "treated": ("sample", treated.numpy()),
            "control": ("sample", control.numpy()),
        }
    )
    units = getattr(metric, "units", "metric")
    for name in ("effect", "low", "high", "per_sample"):
        data[name].attrs.update(units=units, long_name="effect on the metric")
    for name in ("treated", "control"):
        data[name].attrs.update(units=units, long_name="metric")
    provenance = Provenance.record(seed=seed, model=model.fingerprint(), arguments={"metric": metric, **labels})
    attributes = {**labels, "engine": measured.engine, "engine_notes": list(measured.notes)}
    return DoEffect(data, title, attributes, provenance, CITATIONS, warnings)
