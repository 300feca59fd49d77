"""Dose-response: the metric as an intervention grows stronger, beside random interventions of the same size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.causal.counterfactuals.do import as_list
from neuros_mechint.causal.counterfactuals.dose_results import DoseResponse, curve_summary
from neuros_mechint.causal.interventions import measure
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Edit, Scale
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import bootstrap_ci
from neuros_mechint.core.statistics.certainty import control_p, with_statistics

EditsAtDose = Callable[[float], Edit | Sequence[Edit]]
"""``edits(dose)``: what is done to the model at that dose; ``()`` for nothing."""


def dose_response(
    model: Adapter,
    inputs: Any,
    edits: EditsAtDose | str,
    doses: Sequence[float],
    metric: Metric,
    *,
    controls: Sequence[EditsAtDose] = (),
    dose_name: str | None = None,
    title: str | None = None,
    engine: str = "auto",
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> DoseResponse:
    """Measure the metric at every dose of an intervention.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    inputs : inputs of the model
    edits : callable or str
        ``edits(dose)`` returns the edits at a dose: steering by ``lambda c: nm.Add(site, direction, scale=c)``,
        stimulating a population by ``lambda c: nm.Add("hidden[unit=(3, 7)]", c)``. The name of a site stands for
        scaling its activation by the dose: 1 leaves it as it is, 0 silences it.
    doses : sequence of float
        At least two different ones; the curve is in ascending order.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar.
    controls : sequence of callables
        Of the same form as ``edits``: random interventions of the same size, one for each random draw.
    dose_name : str, optional
        What the dose is, for figures.
    title : str, optional
    engine, batch_size
        See `neuros_mechint.causal.interventions.measure`.
    seed : int or numpy.random.Generator
        Draws bootstrap samples and signs.

    Returns
    -------
    DoseResponse
        With one sample only (or a scalar metric) there are no intervals and tests, and a warning says so.

    Raises
    ------
    InputError
        Fewer than two doses, the same dose twice, or one that is not finite.
    SiteError, CapabilityError, OptionError

    References
    ----------
    Turner et al. 2023, Steering language models with activation engineering, doi:10.48550/arXiv.2308.10248

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 1, bias=False)))
    >>> curve = dose_response(model, torch.ones(4, 2), "0", [0, 0.5, 1], lambda output: output[:, 0])
    >>> full = model.module[1].weight.sum().item()
    >>> np.allclose(curve.values, [0, full / 2, full])
    True
    """
    ordered = checked_doses(doses)
    dose_name = dose_name or (f"factor on {edits}" if isinstance(edits, str) else "dose")
    make: EditsAtDose = (lambda dose: Scale(edits, dose)) if isinstance(edits, str) else edits
    if not callable(make) or not all(callable(control) for control in controls):
        raise InputError("edits and controls must be callable", expected="edits(dose) -> edits, or a site")
    curves = [make, *controls]
    interventions = [as_list(curve(dose)) for curve in curves for dose in ordered.tolist()]
    measured = measure(
        model, inputs, interventions, metric, engine=engine, batch_size=batch_size, description="dose-response"
    )
    values = measured.values.numpy().reshape(len(curves), ordered.size, -1)
    labels = {"units": getattr(metric, "units", "metric"), "long_name": "response"}
    random = generator(seed)
    data, told, warnings = labelled_curve(ordered, values, measured.baseline.numpy(), labels, dose_name, random)
    at_last_dose = edits if isinstance(edits, str) else interventions[ordered.size - 1]
    arguments = {"metric": metric, "edits": at_last_dose, "doses": ordered.tolist(), "n_controls": len(controls)}
    provenance = Provenance.record(seed=seed, model=model.fingerprint(), arguments=arguments)
    attributes = {
        **told,
        "engine": measured.engine,
        "engine_notes": list(measured.notes),
    }
    heading = title or (f"Dose-response of {edits}" if isinstance(edits, str) else "Dose-response")
    return DoseResponse(data, heading, attributes, provenance, ("turner2023",), warnings)


def checked_doses(doses: Any) -> np.ndarray:
    """Return doses in ascending order.

    Raises
    ------
    InputError
        Fewer than two, the same one twice, or one that is not finite.

    Examples
    --------
    >>> checked_doses([1, 0]).tolist()
    [0.0, 1.0]
    """
    try:
        array = np.asarray(doses, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError("doses are no numbers", expected="a sequence of numbers", got=repr(doses)[:60]) from error
    if array.ndim != 1 or array.size < 2 or not np.isfinite(array).all() or np.unique(array).size < array.size:
        raise InputError(
            "these doses give no curve",
            expected="two or more different, finite numbers",
            got=str(array.tolist())[:80],
        )
    return np.sort(array)


def labelled_curve(
    doses: np.ndarray,
    values: np.ndarray,
    baseline: np.ndarray,
    labels: Mapping[str, str],
    dose_name: str,
    random: np.random.Generator,
) -> tuple[xr.Dataset, dict[str, Any], tuple[str, ...]]:
    """Return the data of a `DoseResponse`, its summary as attributes, and what to warn of.

    Parameters
    ----------
    doses : numpy.ndarray of shape (n_doses,)
        Ascending.
    values : numpy.ndarray of shape (1 + n_controls, n_doses, n_samples)
        Of the intervention, then of the controls.
    baseline : numpy.ndarray of shape (n_samples,)
        Without any.
    labels : mapping
        ``long_name`` and ``units`` of the values.
    dose_name : str
    random : numpy.random.Generator
        Draws bootstrap samples and signs.
    """
    seed, own = int(random.integers(2**31)), values[0]
    change = xr.DataArray(own - baseline, dims=("dose", "sample"))
    statistics, warnings = with_statistics(change, baseline, "holm", seed)
    low, high = bootstrap_ci(own, seed=seed) if own.shape[1] > 1 else np.full((2, own.shape[0]), np.nan)
    variables: dict[str, Any] = {
        "response": ("dose", own.mean(-1), labels),
        "low": ("dose", low, labels),
        "high": ("dose", high, labels),
        "p": ("dose", statistics["p"].values, {"long_name": "sign-flip p of the change"}),
        "p_adjusted": ("dose", statistics["p_adjusted"].values, {"long_name": "p after Holm's correction"}),
        "per_sample": (("dose", "sample"), own, labels),
        "baseline": ("sample", baseline, labels),
    }
    if len(values) > 1:
        control = values[1:].mean(-1)
        variables["control"] = (("control", "dose"), control, {**labels, "long_name": "response to random controls"})
        p = control_p(own.mean(-1) - baseline.mean(), control - baseline.mean())
        variables["p_control"] = ("dose", p, {"long_name": "share of controls that change as much"})
    coordinate = xr.DataArray(doses, dims="dose", attrs={"long_name": dose_name})
    data = xr.Dataset(variables, coords={"dose": coordinate})
    told = {**curve_summary(doses, own, seed), **_against_controls(data), "dose_name": dose_name}
    return data, told, warnings


def _against_controls(data: xr.Dataset) -> dict[str, float]:
    """Return the p value of the largest change at any dose, which has been picked in the controls as well."""
    if "control" not in data:
        return {}
    baseline = float(data["baseline"].mean())
    own, others = (np.abs(data[name].values - baseline).max(-1) for name in ("response", "control"))
    return {"p_control": float(control_p(own, others))}
