"""Conformance of what only some models can: gradients, single steps, generation; and of leaving no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from neuros_mechint.adapters.conformance.probe import (
    NotApplicableError,
    Probe,
    demand,
    demand_equal,
    demand_error,
    output_differs,
    tensors_in,
)
from neuros_mechint.core.adapter import Metric
from neuros_mechint.core.edits import Add, Apply, Zero
from neuros_mechint.core.errors import CapabilityError

_GRADIENT_SITES = 6
_STEPS = (3.0, 1.0, 0.3, 0.1)
"""In units of ``eps ** (1/3)``, the best step for smooth functions. Kinks such as ReLU's want smaller ones."""


def gradients_are_derivatives(probe: Probe) -> str:
    """Check that gradients agree with central finite differences through Add edits along random directions."""
    metric = _random_metric(probe)
    floating = [site for site in probe.sites if probe.activations[site.name].is_floating_point()]
    checked = floating[:: max(1, len(floating) // _GRADIENT_SITES)]
    gradients = probe.adapter.gradients(probe.inputs, [site.name for site in checked], metric)
    magnitude = float(
        torch.cat([t.double().flatten() for _, t in tensors_in(probe.base.output) if t.is_floating_point()]).norm()
    )
    sizes = [_check_gradient(probe, site.name, gradients[site.name].double(), metric, magnitude) for site in checked]
    demand(any(sizes), "all gradients are zero")
    return f"{len(checked)} sites"


def _check_gradient(probe: Probe, name: str, gradient: torch.Tensor, metric: Metric, magnitude: float) -> float:
    """Return the typical slope along a random direction; raise where the gradient is not the derivative."""
    value = probe.activations[name]
    demand(gradient.shape == value.shape, f"the gradient at {name} has another shape than the site")
    demand(bool(torch.isfinite(gradient).all()), f"the gradient at {name} is not finite")
    direction = probe.noise(value)
    claimed = float((gradient * direction.double()).sum())
    size = float(gradient.norm() * direction.double().norm()) / gradient.numel() ** 0.5
    eps = torch.finfo(value.dtype).eps
    slopes = {step: _slope(probe, name, direction, step, metric) for step in (unit * eps ** (1 / 3) for unit in _STEPS)}
    # what curvature and kinks may make, and what rounding of the output makes when it is divided by the step
    allowed = {step: 4 * eps ** (1 / 3) * size + 2 * eps * magnitude / step for step in slopes}
    demand(
        any(abs(slope - claimed) <= allowed[step] for step, slope in slopes.items()),
        f"the gradient at {name} says {claimed:.4g} along a random direction, finite differences {slopes}",
    )
    return size


def _slope(probe: Probe, name: str, direction: torch.Tensor, step: float, metric: Metric) -> float:
    ends = [float(metric(probe.run(Add(name, direction, scale=sign * step)).output)) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


def _random_metric(probe: Probe) -> Metric:
    """Return a weighted sum of every number in the output: it depends on all of them, and differently."""
    generator = torch.Generator().manual_seed(1)
    weights = {
        place: torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
        for place, tensor in tensors_in(probe.base.output)
        if tensor.is_floating_point()
    }

    def metric(output: Any) -> torch.Tensor:
        found = dict(tensors_in(output, detach=False))
        return torch.stack([(found[place].double() * weight).sum() for place, weight in weights.items()]).sum()

    return metric


def steps_follow_captures(probe: Probe) -> str:
    """Check that ``step``, iterated from the first captured state, gives the captured states that follow.

    The state is that of the sites with a time axis, side by side: hidden states of every layer, then cell states.
    """
    names = [name for name in probe.table if "time" in probe.activations.dims(name)]
    if not names:
        raise NotApplicableError("no site has a time axis")
    names.sort(key=lambda name: name.endswith("cell"))
    states = torch.cat([probe.activations[name] for name in names], dim=-1)
    inputs = _step_inputs(probe, states.shape[0], states.shape[1])
    state, n_steps = states[:, 0], states.shape[1]
    for time in range(1, n_steps):
        state = probe.adapter.step(state, None if inputs is None else inputs[:, time])  # type: ignore[attr-defined]
        demand_equal(state, states[:, time], f"the state after step {time}")
    if n_steps > 1:
        one = probe.adapter.step(states[0, 0], None if inputs is None else inputs[0, 1])  # type: ignore[attr-defined]
        demand_equal(one, states[0, 1], "a step of a single state without a batch axis")
    return f"{n_steps - 1} steps of {', '.join(names)}"


def _step_inputs(probe: Probe, n_samples: int, n_times: int) -> torch.Tensor | None:
    """Return the inputs as (sample, time, n_inputs), or ``None`` for a model that runs by itself."""
    given = [torch.as_tensor(tensor) for _, tensor in tensors_in(probe.inputs)]
    sequences = [tensor for tensor in given if tensor.ndim == 3 and {n_samples, n_times} == set(tensor.shape[:2])]
    if not sequences:
        return None
    return sequences[0] if sequences[0].shape[:2] == (n_samples, n_times) else sequences[0].transpose(0, 1)


def generation_takes_edits(probe: Probe) -> str:
    """Check that ``generate`` under an identity edit gives what it gives without edits."""
    generate = probe.adapter.generate  # type: ignore[attr-defined]
    plain = generate(probe.inputs, max_new_tokens=4)
    for site in probe.sites:
        same = generate(probe.inputs, edits=[Apply(site.name, torch.clone)], max_new_tokens=4)
        demand(not output_differs(same, plain), f"an identity edit at {site.name} changed the generated tokens")
    return f"{len(probe.sites)} sites"


def missing_capabilities_are_named(probe: Probe) -> str:
    """Check that what the model cannot do raises CapabilityError and does not half-work."""
    name = probe.sites[0].name
    has = probe.adapter.capabilities
    calls: dict[str, Callable[[], Any]] = {
        "intervene": lambda: probe.run(Zero(name)),
        "gradient": lambda: probe.adapter.gradients(probe.inputs, name, _random_metric(probe)),
        "generate": lambda: probe.adapter.generate(probe.inputs),  # type: ignore[attr-defined]
        "step": lambda: probe.adapter.step(torch.zeros(1, 1)),  # type: ignore[attr-defined]
    }
    absent = [
        capability
        for capability in calls
        if capability not in has and (capability not in ("generate", "step") or hasattr(probe.adapter, capability))
    ]
    if not absent:
        raise NotApplicableError("it has them all")
    for capability in absent:
        demand_error(CapabilityError, calls[capability], f"{capability!r}, which is not among the capabilities,")
    return ", ".join(absent)


def leaves_no_trace(probe: Probe) -> str:
    """Check that no call changes the inputs, the random state or the gradient mode."""
    inputs = {place: tensor.clone() for place, tensor in tensors_in(probe.inputs)}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    gradients_on = torch.is_grad_enabled()
    probe.run(capture="*")
    if "intervene" in probe.adapter.capabilities:
        probe.run(Zero("*"), capture="*")
    if "gradient" in probe.adapter.capabilities:
        probe.adapter.gradients(probe.inputs, probe.sites[0].name, _random_metric(probe))
    for place, tensor in tensors_in(probe.inputs):
        demand(torch.equal(tensor, inputs[place]), f"the caller's {place.replace('output', 'inputs', 1)} was changed")
    demand(torch.equal(torch.get_rng_state(), torch_state), "torch's global random state moved")
    demand(_same_state(np.random.get_state(), numpy_state), "numpy's global random state moved")  # noqa: NPY002
    demand(torch.is_grad_enabled() == gradients_on, "torch's gradient mode changed")
    return ""


def _same_state(one: Any, other: Any) -> bool:
    return all(np.array_equal(left, right) for left, right in zip(one, other, strict=True))
