"""Steering: add a direction to the activation, and see how the output follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from neuros_mechint.causal.counterfactuals.dose_results import DoseResponse
from neuros_mechint.causal.counterfactuals.doses import EditsAtDose, dose_response
from neuros_mechint.causal.counterfactuals.one_site import single_site
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.directions import along_features, check_width, one_direction
from neuros_mechint.core.edits import Add
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.random import SeedLike, generator, torch_generator


def mean_difference_direction(acts: Any, labels: Any) -> torch.Tensor:
    """Return the difference between the mean activations of two classes.

    Adding it moves the one class onto the other; projecting it out leaves no difference between the means, so that
    no straight line of least squares tells the classes apart.

    Parameters
    ----------
    acts : array of shape (n_samples, n_units)
        Activations, e.g. ``model.capture(inputs, site).matrix(site)``.
    labels : array of shape (n_samples,)
        Two different values, such as booleans, numbers or names.

    Returns
    -------
    torch.Tensor of shape (n_units,)
        Mean of the class whose label sorts last (``True``, 1) minus that of the other.

    Raises
    ------
    InputError
        Not two classes, other lengths, numbers that are not finite, or means that do not differ.

    References
    ----------
    Belrose et al. 2023, LEACE: Perfect linear concept erasure in closed form, doi:10.48550/arXiv.2306.03819;
    Rimsky et al. 2024, Steering Llama 2 via contrastive activation addition, doi:10.48550/arXiv.2312.06681

    Examples
    --------
    >>> mean_difference_direction([[0.0, 1.0], [0.0, 3.0], [5.0, 2.0]], [False, False, True])
    tensor([5., 0.])
    """
    import numpy as np

    if isinstance(acts, Mapping):
        raise InputError(
            "activations of several sites have no single direction",
            expected="(n_samples, n_units)",
            got=type(acts).__name__,
            fix="pick one site: acts.matrix(name), or acts[name] of one position",
        )
    matrix = torch.as_tensor(acts).detach().cpu()
    matrix = matrix if matrix.is_floating_point() else matrix.float()
    names = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if matrix.ndim != 2 or names.shape != tuple(matrix.shape[:1]):
        raise InputError(
            "activations and labels do not fit",
            expected="activations (n_samples, n_units) and one label per sample",
            got=f"shapes {tuple(matrix.shape)} and {tuple(names.shape)}",
            fix="pick one position or time: model.capture(inputs, 'site[position=-1]')",
        )
    classes = np.unique(names)
    if classes.size != 2:
        raise InputError(
            "a difference needs two classes", expected="two different labels", got=f"{classes.size} labels"
        )
    if not bool(torch.isfinite(matrix).all()):
        raise InputError("the activations are not finite")
    wide, first = matrix.double(), torch.as_tensor(names == classes[0])
    difference = wide[~first].mean(0) - wide[first].mean(0)
    if not bool(difference.any()):
        raise InputError("the means of the two classes do not differ, so there is no direction between them")
    return difference.to(matrix.dtype)


def steer(
    model: Adapter,
    inputs: Any,
    site: str,
    direction: Any,
    coefficients: Sequence[float],
    metric: Metric,
    *,
    n_controls: int = 19,
    engine: str = "auto",
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> DoseResponse:
    """Add ``coefficient * direction`` to the activation at a site, for every coefficient.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``; anything that can intervene.
    inputs : inputs of the model
    site : str
        Name of one site, maybe with an index such as ``"blocks.1.resid_post[position=-1]"``.
    direction : array of shape (n_units,)
        Used in its own length.
    coefficients : sequence of float
        At least two different ones; 0 leaves the model as it is.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar.
    n_controls : int
        How many random directions of the same length to compare with. The smallest p they allow is
        ``1 / (n_controls + 1)``.
    engine, batch_size
        See `neuros_mechint.causal.interventions.measure`.
    seed : int or numpy.random.Generator
        Draws random directions, bootstrap samples and signs.

    Returns
    -------
    DoseResponse

    Raises
    ------
    InputError
        A direction of another width than the site, of length zero or not finite, or coefficients that give no curve.
    SiteError, CapabilityError, OptionError

    References
    ----------
    Turner et al. 2023, Steering language models with activation engineering, doi:10.48550/arXiv.2308.10248

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 1, bias=False)))
    >>> curve = steer(model, torch.randn(4, 2), "0", [1.0, 0.0], [-1, 0, 1], lambda output: output[:, 0])
    >>> abs(curve.attributes["slope"] - model.module[1].weight[0, 0].item()) < 1e-6
    True
    """
    n_controls = whole("n_controls", n_controls, least=0)
    who = f"steering at {site!r}"
    vector = one_direction(direction, who)
    place = single_site(model, inputs, site, batch_size)
    check_width(vector, place.n_features(who), who)
    rng = generator(seed)
    noise = torch.randn(n_controls, vector.numel(), generator=torch_generator(rng)).to(vector)
    others = noise / noise.norm(dim=1, keepdim=True) * vector.norm()

    def adding(one: torch.Tensor) -> EditsAtDose:
        shaped = along_features(one, place.dims, who)
        return lambda coefficient: Add(place.name, shaped, scale=coefficient)

    curve = dose_response(
        model,
        inputs,
        adding(vector),
        coefficients,
        metric,
        controls=[adding(other) for other in others],
        dose_name=f"coefficient on a direction of length {float(vector.norm()):.3g}",
        title=f"Steering at {place.name}",
        engine=engine,
        batch_size=batch_size,
        seed=rng,
    )
    return replace(curve, provenance=curve.provenance.with_seed(seed))
