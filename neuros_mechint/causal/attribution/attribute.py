"""Attribute a metric, or one unit, to the model's input or to any site."""

from __future__ import annotations

from typing import Any

import torch
import xarray as xr

from neuros_mechint.causal.attribution.deeplift import known_to_deeplift, suspects, torch_module
from neuros_mechint.causal.attribution.methods import METHODS, Setting
from neuros_mechint.causal.attribution.place import INPUT, Place, SiteFunction, Unit, find_place
from neuros_mechint.causal.attribution.result import Attribution
from neuros_mechint.causal.interventions import check_can_intervene, check_differentiable
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.errors import CapabilityError, InputError, check_option, whole
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.core.optional import soft_import
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator

TOLERANCE = 0.01
"""Attributions that miss more than this fraction of the metric's difference are not called complete."""
_ROUNDING = 1e-5
"""Rounding errors allowed for, as a fraction of the numbers involved; captum's own steps are in single precision."""


def attribute(
    model: Adapter,
    inputs: Any,
    metric: Metric | None = None,
    method: str = "integrated_gradients",
    at: str | None = None,
    target: str | None = None,
    baseline: Any = 0.0,
    n_steps: int = 50,
    seed: SeedLike = 0,
) -> Attribution:
    """Return how much each entry of the input, or of a site, contributes to a metric or to one unit.

    The computation is captum's (extra ``attribution``). That the attributions of a sample add up to the metric of the
    input minus that of the baseline is checked, and what is missing is part of the result.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``, with gradients.
    inputs : inputs of the model
        Token ids have no gradient: give ``at`` with them.
    metric : callable, optional
        ``metric(output)`` gives ``(n_samples,)`` values or a scalar. Each value must depend on its own sample only.
    method : {"integrated_gradients", "deeplift", "gradient_shap", "input_x_gradient"}
        ``input_x_gradient`` is (input - baseline) times the gradient at the input: quick, complete for linear models
        only. ``deeplift`` (rescale rule) needs a torch module whose nonlinearities are modules that run once.
    at : str, optional
        Site to attribute to, e.g. ``"embed"`` or ``"blocks.1.z[head=2]"``; everything else keeps the value that the
        input gives it. Without it, the input of the model.
    target : str, optional
        Instead of a metric: one unit, e.g. ``"blocks.1.post[unit=7, position=-1]"``.
    baseline : float, array or Activations
        What the activation is compared with: a number, an array that broadcasts to it, or activations of other
        inputs. ``gradient_shap`` draws from all samples of the baseline, of which there may be any number.
    n_steps : int
        Points on the path of ``integrated_gradients``, or random draws of ``gradient_shap``.
    seed : int or numpy.random.Generator
        For ``gradient_shap``.

    Returns
    -------
    Attribution
        ``attribution`` over ``(sample, ...)``, the axes of the site.

    Raises
    ------
    OptionError
        Unknown method.
    InputError
        A baseline of another shape, whole numbers without ``at``, a metric that does not depend on the site, fewer
        than one step.
    SiteError
        Unknown site, or several.
    CapabilityError
        A model without gradients, or one that DeepLIFT cannot treat.
    MissingDependencyError
        captum is not installed.

    References
    ----------
    Sundararajan et al. 2017, doi:10.48550/arXiv.1703.01365; Shrikumar et al. 2017, doi:10.48550/arXiv.1704.02685;
    Lundberg and Lee 2017, doi:10.48550/arXiv.1705.07874; Erion et al. 2021, doi:10.1038/s42256-021-00343-w;
    Kokhlikyan et al. 2020, doi:10.48550/arXiv.2009.07896

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> linear = torch.nn.Linear(3, 1, bias=False)
    >>> _ = linear.weight.data.copy_(torch.tensor([[1.0, -2.0, 0.0]]))
    >>> result = nm.attribute(nm.adapt(linear), torch.ones(1, 3), lambda output: output[:, 0])
    >>> result.values.values.round(4)
    array([[ 1., -2.,  0.]], dtype=float32)
    >>> result.complete
    True
    """
    check_option("method", method, METHODS)
    measured = _measured(metric, target)
    check_can_intervene(model, measured, inputs)
    check_differentiable(model)
    n_steps = whole("n_steps", n_steps)
    source = generator(seed)
    captum = soft_import("captum.attr", "feature attribution", "attribution")
    if method == "deeplift":
        torch_module(model)
    place = find_place(model, inputs, at)
    random = METHODS[method].random
    against = _baseline(baseline, place, random)
    function = SiteFunction(model, inputs, place, measured)
    arguments = {"metric": metric, "method": method, "at": at, "target": target, "baseline": baseline}
    arguments["n_steps"] = n_steps
    provenance = Provenance.record(seed=seed if random else None, model=model.fingerprint(), arguments=arguments)
    with torch.inference_mode(False), torch.enable_grad():  # whatever mode the caller is in
        setting = Setting(captum, function, place.values.clone(), against.clone(), n_steps, source)
        attribution, error = METHODS[method].run(setting)
    compared = against.unsqueeze(1).expand(-1, *place.values.shape) if random else against[None]
    values, at_baselines = function.values(compared)
    data = _dataset(place, attribution, values, at_baselines.mean(0), getattr(measured, "units", "metric"))
    if error is not None:
        labels = {"units": data["attribution"].attrs["units"], "long_name": "standard error over random draws"}
        data["standard_error"] = (place.samples_first, as_numpy(error), labels)
    _check_responds(function, data)
    warnings = _completeness(data, method, model)
    attributes = {
        "method": method,
        "site": place.name,
        "target": target,
        "n_steps": n_steps,
        "tolerance": TOLERANCE,
        "complete": not warnings,
        "captum": soft_import("captum", "feature attribution", "attribution").__version__,
    }
    return Attribution(data, _title(method, place, target), attributes, provenance, METHODS[method].citations, warnings)


def _measured(metric: Metric | None, target: str | None) -> Any:
    if (metric is None) == (target is None):
        raise InputError(
            "what is to be attributed?",
            expected="either a metric of the output, or target='SITE[unit=..., ...]', one unit",
            got="both" if target is not None else "neither",
        )
    return metric if target is None else Unit(target)


def _baseline(baseline: Any, place: Place, draws: bool) -> torch.Tensor:
    """Return the baseline with samples first: as many as the inputs, or, to be drawn from, any number."""
    if isinstance(baseline, Activations):
        baseline = baseline[place.name]
    try:
        given = torch.as_tensor(baseline).to(place.values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError("the baseline is no array", expected="numbers", got=type(baseline).__name__) from error
    if not bool(torch.isfinite(given).all()):
        raise InputError("the baseline is not finite", expected="numbers, no NaN or infinity")
    shape = list(place.native(place.values).shape)
    if draws:
        shape[place.sample_axis] = given.shape[place.sample_axis] if given.ndim == len(shape) else 1
    try:
        return given.expand(shape).movedim(place.sample_axis, 0)
    except RuntimeError as error:
        raise InputError(
            "the baseline has another shape than the site",
            expected=f"shape {tuple(shape)} for ({', '.join(place.dims)}), or one that broadcasts to it",
            got=f"shape {tuple(given.shape)}",
        ) from error


def _dataset(
    place: Place, attribution: torch.Tensor, values: torch.Tensor, at_baseline: torch.Tensor, units: str
) -> xr.Dataset:
    """Label the attributions, and say what they miss of the metric's difference."""
    n_samples = len(attribution)
    if values.numel() not in (1, n_samples):
        raise InputError(
            "the metric does not match the samples",
            expected=f"{n_samples} values, one per sample, or a scalar",
            got=f"{values.numel()} values",
        )
    axes = ("sample",) if values.numel() == n_samples else ()
    totals = attribution.double().cpu().reshape(n_samples, -1).sum(1)
    difference = values - at_baseline
    residual = difference - (totals if axes else totals.sum(0, keepdim=True))
    relative = residual.abs() / torch.where(difference == 0, torch.nan, difference.abs())
    labels = {"units": units, "long_name": "attribution"}
    data = xr.Dataset({"attribution": (place.samples_first, as_numpy(attribution), labels)})
    for name, numbers, unit, long_name in (
        ("metric", values, units, "metric of the input"),
        ("metric_at_baseline", at_baseline, units, "metric of the baseline"),
        ("residual", residual, units, "difference of the metric minus the sum of attributions"),
        ("relative_residual", relative, "fraction of the difference", "size of the residual"),
    ):
        data[name] = (axes, numbers.numpy() if axes else numbers.numpy()[0], {"units": unit, "long_name": long_name})
    return data.assign_coords({axis: place.coords[axis] for axis in place.samples_first})


def _check_responds(function: SiteFunction, data: xr.Dataset) -> None:
    if function.responds or bool((data["metric"] != data["metric_at_baseline"]).any()):
        return
    raise InputError(
        f"{function.metric.target if isinstance(function.metric, Unit) else 'the metric'} does not depend on "
        f"{function.place.name!r}: its gradient is 0 wherever it was taken, and the baseline gives the same value",
        expected="a site that lies before what is attributed and that is read, or another baseline",
    )


def _incomplete(data: xr.Dataset) -> xr.DataArray:
    """Return which samples' attributions do not add up, beyond rounding."""
    attribution = data["attribution"]
    over = [axis for axis in attribution.dims if axis not in data["metric"].dims]
    scale = abs(attribution).sum(over) + abs(data["metric"]) + abs(data["metric_at_baseline"])
    allowed = TOLERANCE * abs(data["metric"] - data["metric_at_baseline"]) + _ROUNDING * scale
    return abs(data["residual"]) > allowed


def _completeness(data: xr.Dataset, method: str, model: Adapter) -> tuple[str, ...]:
    """Return a warning where attributions do not add up; DeepLIFT's do by construction, or they are not DeepLIFT's."""
    incomplete = _incomplete(data)
    if not bool(incomplete.any()):
        return ()
    whose = f"{int(incomplete.sum())} of {incomplete.size} samples" if incomplete.dims else "all samples together"
    missed = float(abs(data["residual"]).where(incomplete).max())
    share = float(data["relative_residual"].where(incomplete).max())
    problem = f"the attributions of {whose} miss up to {missed:.2g} ({share:.1%}) of the difference of the metric"
    if method == "deeplift":
        raise CapabilityError(
            f"these are not DeepLIFT's attributions: {problem}, so some nonlinearity was treated as linear",
            expected=f"a model of linear modules and of {known_to_deeplift()}, each run once",
            got=suspects(torch_module(model)),
            fix=METHODS[method].when_incomplete,
        )
    return (f"not complete: {problem}: {METHODS[method].when_incomplete}",)


def _title(method: str, place: Place, target: str | None) -> str:
    where = "the input" if place.name == INPUT else place.name
    return f"{METHODS[method].title} of {target} at {where}" if target else f"{METHODS[method].title} at {where}"
