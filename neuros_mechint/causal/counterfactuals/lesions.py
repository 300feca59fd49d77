"""Virtual lesions: silence units of a population, more and more of them, beside random units of the same number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neuros_mechint.causal.counterfactuals.dose_results import DoseResponse
from neuros_mechint.causal.counterfactuals.doses import EditsAtDose, dose_response
from neuros_mechint.causal.counterfactuals.one_site import SitePlace, single_site
from neuros_mechint.core.ablations import Mean
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.edits import Edit, Zero
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.sites import SiteReference

METHODS = ("zero", "mean")


def lesion(
    model: Adapter,
    inputs: Any,
    site: str,
    units: Sequence[int] | float | None,
    metric: Metric,
    *,
    doses: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    method: str = "zero",
    n_controls: int = 19,
    engine: str = "auto",
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> DoseResponse:
    """Silence a part of a population, and compare with random parts of the same size.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    inputs : inputs of the model
    site : str
        Name of one site with an axis ``unit`` (or ``channel``), maybe indexed along other axes.
    units : sequence of int, float or None
        The units to silence, in this order as the dose grows; or which fraction of all units to draw at random;
        or ``None`` for all units in random order.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar.
    doses : sequence of float
        Fractions of ``units`` that are silenced, from 0 to 1 (rounded to whole units).
    method : {"zero", "mean"}
        What takes the place of an activity: zero, or its mean over the inputs (and time or positions).
    n_controls : int
        How many random lesions to compare with, drawn from all units of the site. The smallest p they allow is
        ``1 / (n_controls + 1)``.
    engine, batch_size
        See `neuros_mechint.causal.interventions.measure`.
    seed : int or numpy.random.Generator
        Draws units, bootstrap samples and signs.

    Returns
    -------
    DoseResponse
        ``attributes["units"]`` lists the units.

    Raises
    ------
    InputError
        Units that do not exist or are named twice, or doses outside 0 to 1.
    SiteError, CapabilityError, OptionError

    References
    ----------
    Morcos et al. 2018, On the importance of single directions for generalization, doi:10.48550/arXiv.1803.06959

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(8, 1, bias=False)))
    >>> curve = lesion(model, torch.ones(4, 8), "0", [2, 5], lambda output: output[:, 0], n_controls=3)
    >>> lost = model.module[1].weight[0, [2, 5]].sum().item()
    >>> bool(abs(curve.change()[-1] + lost) < 1e-6)
    True
    """
    check_option("method", method, METHODS)
    n_controls = whole("n_controls", n_controls, least=0)
    _check_fractions(doses)
    place = single_site(model, inputs, site, batch_size)
    n_units = place.n_features(f"a lesion at {site!r}")
    rng = generator(seed)
    chosen = _chosen(units, n_units, rng)
    reference = model.capture(inputs, place.reference.name, batch_size=batch_size) if method == "mean" else None
    controls = [rng.permutation(n_units)[: len(chosen)].tolist() for _ in range(n_controls)]
    curve = dose_response(
        model,
        inputs,
        _silencing(place, chosen, reference),
        doses,
        metric,
        controls=[_silencing(place, control, reference) for control in controls],
        dose_name=f"fraction of {len(chosen)} units silenced",
        title=f"Lesion of {len(chosen)} of {n_units} units of {place.name} ({method})",
        engine=engine,
        batch_size=batch_size,
        seed=rng,
    )
    attributes = {**curve.attributes, "units": chosen, "n_units": n_units, "method": method}
    provenance = curve.provenance.with_seed(seed)
    return DoseResponse(curve.data, curve.title, attributes, provenance, ("morcos2018",), curve.warnings)


def _silencing(place: SitePlace, units: Sequence[int], reference: Any) -> EditsAtDose:
    axis = place.dims[place.features("a lesion")]

    def edits(dose: float) -> list[Edit]:
        silenced = tuple(units[: round(dose * len(units))])
        if not silenced:
            return []
        here = str(SiteReference(place.reference.name, {**place.reference.index, axis: silenced}))
        return [Zero(here) if reference is None else Mean(here, reference)]

    return edits


def _chosen(units: Sequence[int] | float | None, n_units: int, rng: np.random.Generator) -> list[int]:
    if units is None:
        return rng.permutation(n_units).tolist()
    if isinstance(units, float):
        if not 0 < units <= 1 or not round(units * n_units):
            raise InputError(
                "this fraction holds no unit", expected=f"between {1 / n_units:.3g} and 1", got=f"{units} of {n_units}"
            )
        return rng.permutation(n_units)[: round(units * n_units)].tolist()
    try:
        indices = np.asarray(units)
        whole = indices.ndim == 1 and indices.size > 0 and indices.dtype.kind in "iu"
    except (TypeError, ValueError):
        whole, indices = False, np.zeros(0)
    if not whole or not ((indices >= 0) & (indices < n_units)).all() or np.unique(indices).size < indices.size:
        raise InputError(
            "these are no units of the site",
            expected=f"different whole numbers from 0 to {n_units - 1}, a fraction, or None for all",
            got=repr(units)[:80],
        )
    return [int(index) for index in indices]


def _check_fractions(doses: Any) -> None:
    try:
        fractions = np.asarray(doses, dtype=float)
    except (TypeError, ValueError):
        fractions = np.array([np.nan])
    if not ((fractions >= 0) & (fractions <= 1)).all():
        raise OptionError("doses of a lesion are fractions", expected="numbers from 0 to 1", got=repr(doses)[:80])
