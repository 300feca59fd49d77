"""Attribution patching: estimate every effect from one gradient, and measure only the largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neuros_mechint.adapters.base import BaseAdapter
from neuros_mechint.causal.interventions import Measurements, check_differentiable, measure
from neuros_mechint.causal.metrics import metric_values
from neuros_mechint.causal.places import Place, patch
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.errors import whole
from neuros_mechint.core.sites import axis_meant

_MOST_CHECKED = 6
_TOLERATED = 0.5
"""Largest error of a site's summed estimates, as a fraction of the largest effect of a site."""


def prescreen(
    model: Adapter,
    metric: Metric,
    corrupted: Any,
    clean: Activations,
    places: Sequence[Place],
    n_verified: int,
    batch_size: int | None = None,
) -> tuple[Measurements, torch.Tensor, tuple[str, ...]]:
    """Return the estimated metric at every place, measured where its estimated change is largest.

    The estimate is the first order of the effect, ``gradient . (clean - corrupted)``, with the gradient taken in the
    corrupted run.

    Parameters
    ----------
    model : Adapter
        With gradients.
    metric : callable
    corrupted : inputs of the model
    clean : Activations
        The activations to patch in.
    places : sequence of Place
        Where.
    n_verified : int
        How many places to measure.
    batch_size : int, optional
        Samples per call of the model.

    Returns
    -------
    measurements : Measurements
    verified : torch.Tensor of shape (n_places,)
        1 where the effect was measured, 0 where it is an estimate.
    warnings : tuple of str
        That these are estimates, and at which sites they are not to be trusted.

    Raises
    ------
    CapabilityError
        The model has no gradients.

    References
    ----------
    Nanda 2023, Attribution patching; Kramar et al. 2024, AtP*, doi:10.48550/arXiv.2403.00745
    """
    n_verified = whole("verify", n_verified, least=0)
    check_differentiable(model, "use another engine, such as 'auto'")
    observe = model.observe if isinstance(model, BaseAdapter) else model.run
    run = observe(corrupted, capture=list(clean), batch_size=batch_size)
    baseline = metric_values(metric, run.output)
    slopes = model.gradients(corrupted, list(clean), metric, batch_size=batch_size)
    first_order = {site: (slopes[site] * (clean[site] - run.activations[site])).double().cpu() for site in clean}
    changes = torch.stack([_share(first_order[place.site], clean.dims(place.site), place) for place in places])
    if baseline.numel() == 1:  # a scalar metric: its samples' shares add up
        changes = changes.sum(1, keepdim=True)
    values = baseline + changes
    largest = changes.mean(1).abs().argsort(descending=True)[:n_verified].tolist()
    verified = torch.zeros(len(places))
    verified[largest] = 1
    totals = {site: first_order[site].flatten(1).sum(1) for site in clean}
    moved = {site: float((clean[site] - run.activations[site]).norm() / clean[site].norm()) for site in clean}
    # where much changes and little is expected of it, the estimate is most suspicious
    suspects = sorted(totals, key=lambda site: float(totals[site].abs().mean()) / (moved[site] + 1e-12))[:_MOST_CHECKED]
    measured_places = [*(places[index] for index in largest), *(Place(site, {}) for site in suspects)]
    edits = [[patch(place, clean)] for place in measured_places]
    measured = measure(model, corrupted, edits, metric, batch_size=batch_size, description="verify")
    values[largest] = measured.values[: len(largest)]
    together = measured.values[len(largest) :] - measured.baseline
    note = f"estimated from a gradient, except {len(largest)} places with the largest estimates, which were measured"
    warnings = (note, *_saturated({site: totals[site] for site in suspects}, together))
    return Measurements(values, baseline, "attribution", measured.notes), verified, warnings


def _saturated(totals: Mapping[str, torch.Tensor], together: torch.Tensor) -> tuple[str, ...]:
    """Point out sites that change the metric much more, or less, than their estimates add up to.

    Parameters
    ----------
    totals : mapping of str to torch.Tensor of shape (n_samples,)
        The summed estimates of each site.
    together : torch.Tensor of shape (n_sites, n_samples)
        The change of the metric when each site is patched as a whole.
    """
    exact, scalar = together.mean(1), together.shape[1] == 1  # of a scalar metric, samples' shares add up
    summed = torch.stack([total.sum() if scalar else total.mean() for total in totals.values()])
    wrong = (exact - summed).abs() > _TOLERATED * exact.abs().max()
    return tuple(
        f"estimated effects are not to be trusted at {site}: they add up to {float(estimate):.3g}, but the site as a "
        f"whole changes the metric by {float(change):.3g} (saturation, or places that stand in for each other)"
        for site, estimate, change, is_wrong in zip(totals, summed, exact, wrong.tolist(), strict=True)
        if is_wrong
    )


def _share(first_order: torch.Tensor, dims: Sequence[str], place: Place) -> torch.Tensor:
    """Return what one place contributes, per sample."""
    axes = [(dims.index(axis_meant(name, dims)), entry) for name, entry in place.entries.items()]
    for axis, entry in sorted(axes, reverse=True):
        first_order = first_order.select(axis, entry)
    return first_order.flatten(1).sum(1) if first_order.ndim > 1 else first_order
