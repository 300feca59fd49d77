"""What features do: the metric when one feature is removed or scaled, and the rest of the activation is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.causal.ablation.results import AblationEffects
from neuros_mechint.causal.interventions import Measurements, check_can_intervene, measure
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.dictionary import Dictionary, as_taken_by, check_dictionary, site_of
from neuros_mechint.core.edits import Edit, Scale, Zero
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, check_option, whole
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.site_names import dictionary_site
from neuros_mechint.core.statistics.certainty import ROUNDING, with_statistics
from neuros_mechint.core.statistics.p_values import CORRECTIONS, p_of_draws

CITATIONS = ("marks2024sparse", "heimersheim2024")


class FeatureEffects(AblationEffects):
    """How the metric changes when each feature is scaled, the error of the dictionary kept.

    ``data`` holds what `AblationEffects` holds, over ``(site, feature)``, and ``activity``, the mean of the feature;
    ``magnitude``, the mean length of what the edit takes from the activation; ``p_matched``, the share of features of
    like magnitude whose effect is as large for its magnitude; ``share``, the effect as part of that of all features;
    and over ``(sample,)`` the metric with the error alone (``error_only``) and without it (``without_error``).
    """

    def _summary_lines(self) -> list[str]:
        """Return the largest effects, and what the dictionary as a whole does."""
        means = {name: float(self.data[name].mean()) for name in ("baseline", "error_only", "without_error")}
        facts = (
            f"metric: {means['baseline']:.4g} as the model is, {means['error_only']:.4g} without any feature, "
            f"{means['without_error']:.4g} without the error of the dictionary"
        )
        silent = f"{self.attributes['n_silent']} features are silent on these inputs and have no effect"
        return [*super()._summary_lines(), facts, silent]


def feature_effects(
    model: Adapter,
    sae: Dictionary,
    inputs: Any,
    metric: Metric,
    site: str | None = None,
    features: Sequence[int] | None = None,
    factor: float = 0.0,
    n_matched: int = 20,
    correction: str = "holm",
    batch_size: int | None = None,
    engine: str = "auto",
    seed: SeedLike = 0,
) -> FeatureEffects:
    """Return how much each feature matters to a metric: its activation is scaled, and the error is kept.

    An active feature need not matter: what follows the site may not read it. Each effect is therefore measured, and
    compared with those of other features whose removal takes as much from the activation.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``.
    sae : Dictionary
        A fitted `neuros_mechint.SparseAutoencoder`, a SAELens SAE, or anything that encodes and decodes.
    inputs : inputs of the model
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values or a scalar.
    site : str, optional
        Where the dictionary belongs; its own ``site`` by default.
    features : sequence of int, optional
        Which features; all that are active on these inputs by default.
    factor : float
        What a feature is multiplied by: 0 removes it, 2 doubles it.
    n_matched : int
        How many features of like magnitude to compare each one with.
    correction : {"holm", "fdr", "none"}
        How p values are adjusted for the number of features.
    batch_size : int, optional
        Samples per call of the model.
    engine : {"auto", "loop", "batched", "suffix"}
        See `neuros_mechint.causal.interventions.measure`.
    seed : int or numpy.random.Generator
        Draws bootstrap samples and signs.

    Returns
    -------
    FeatureEffects

    Raises
    ------
    InputError, OptionError, SiteError, CapabilityError
        No site, features that do not exist or are all silent, a dictionary of another width.

    References
    ----------
    Marks et al. 2024, Sparse feature circuits, doi:10.48550/arXiv.2403.19647

    Examples
    --------
    >>> class Signs:  # a dictionary of two units: how far each is above zero, and below
    ...     def encode(self, x):
    ...         return torch.relu(torch.cat([x, -x], -1))
    ...     def decode(self, features):
    ...         return features[..., :2] - features[..., 2:]
    >>> import neuros_mechint as nm
    >>> network = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 1, bias=False))
    >>> network[1].weight.data = torch.tensor([[3.0, 0.0]])  # the second unit is not read
    >>> x = torch.tensor([[1.0, 5.0], [2.0, 7.0]])
    >>> effects = feature_effects(nm.adapt(network), Signs(), x, lambda output: output[:, 0], site="0")
    >>> effects.values.sel(site="0", feature=[0, 1]).values.tolist()
    [-4.5, 0.0]
    """
    check_can_intervene(model, metric, inputs)
    check_option("correction", correction, CORRECTIONS)
    if not isinstance(factor, (int, float, np.number)) or factor == 1.0 or not np.isfinite(factor):
        raise OptionError("this factor changes nothing", expected="a finite number other than 1", got=factor)
    n_matched = whole("n_matched", n_matched)
    sae = check_dictionary(sae)
    spliced, site = _with_dictionary(model, sae, site)
    name = dictionary_site(site, "features")
    activity = spliced.capture(inputs, name, batch_size=batch_size).matrix(name).double().cpu()
    chosen = _chosen(activity, features)
    everything = [[Zero(name)], [Zero(dictionary_site(site, "error"))]]
    single: list[list[Edit]] = [[Scale(f"{name}[feature={feature}]", factor)] for feature in chosen]
    measured = measure(
        spliced,
        inputs,
        [*everything, *single],
        metric,
        engine=engine,
        batch_size=batch_size,
        description="scale features",
    )
    magnitude = abs(factor - 1) * _magnitudes(sae, activity, chosen)
    labels = {"units": getattr(metric, "units", "metric"), "long_name": f"change of the metric, feature x {factor:g}"}
    data, warnings = _statistics(site, chosen, measured, correction, int(generator(seed).integers(2**31)))
    data["activity"] = ("feature", activity.mean(0)[chosen].numpy(), {"long_name": "mean activation"})
    data["magnitude"] = ("feature", magnitude, {"long_name": "mean length of what the edit takes away"})
    matched = _as_large_among_matched(data["effect"].values[0], magnitude, n_matched)
    data["p_matched"] = (("site", "feature"), matched[None], {"long_name": "share of matched features as large"})
    for variable in ("effect", "per_sample", "low", "high"):
        data[variable].attrs.update(labels)
    arguments = {"site": site, "factor": factor, "correction": correction, "n_matched": n_matched, "metric": metric}
    facts = {
        "correction": correction,
        "factor": factor,
        "engine": measured.engine,
        "engine_notes": list(measured.notes),
    }
    return FeatureEffects(
        data,
        f"Effects of features at {site}",
        attributes={**facts, "n_silent": int((activity == 0).all(0).sum())},
        provenance=Provenance.record(seed=seed, model=spliced.fingerprint(), arguments=arguments),
        citations=CITATIONS,
        warnings=warnings,
    )


def own_site(sae: Any) -> str:
    """Return the site at which a dictionary was trained, or raise `InputError` where it knows of none."""
    site = site_of(sae)
    if site is None:
        raise InputError("where does this dictionary belong?", expected='a site, such as "blocks.3.resid_post"')
    return site


def _with_dictionary(model: Adapter, sae: Dictionary, site: str | None) -> tuple[Any, str]:
    site = own_site(sae) if site is None else site
    splice: Any = getattr(model, "with_sae", None)
    if splice is None:
        raise CapabilityError(f"a dictionary cannot be spliced into {model!r}", expected="a model built on torch")
    return splice(sae, site), site


def _chosen(activity: torch.Tensor, features: Sequence[int] | None) -> list[int]:
    """Return the features to measure; those that are silent have no effect by construction."""
    active = (activity != 0).any(0)
    if features is None:
        found = active.nonzero()[:, 0].tolist()
        if not found:
            raise InputError("no feature is active on these inputs", fix="give other inputs, or train the dictionary")
        return found
    return checked_features(features, len(active))


def checked_features(features: Sequence[int], n_features: int) -> list[int]:
    """Return the numbers of some features, or raise `InputError` unless they are different ones that exist."""
    given = list(features) if np.ndim(features) == 1 else []
    integers = all(isinstance(one, (int, np.integer)) and not isinstance(one, bool) for one in given)
    if not given or not integers or len(set(given)) < len(given) or not all(0 <= one < n_features for one in given):
        raise InputError(
            "these are no features of the dictionary",
            expected=f"different whole numbers from 0 to {n_features - 1}, at least one",
            got=repr(features)[:80],
        )
    return [int(one) for one in given]


def _magnitudes(sae: Dictionary, activity: torch.Tensor, chosen: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the mean length of what each feature adds to the activation: its mean size times its decoder row's."""
    one = as_taken_by(sae, torch.eye(activity.shape[-1])[list(chosen)])
    with torch.no_grad():
        rows = (sae.decode(one) - sae.decode(torch.zeros_like(one))).double()
    return (activity.abs().mean(0)[list(chosen)] * rows.norm(dim=-1).to(activity)).numpy()


def _statistics(
    site: str, chosen: Sequence[int], measured: Measurements, correction: str, seed: int
) -> tuple[xr.Dataset, tuple[str, ...]]:
    error_only, without_error, *_ = measured.values
    change = (measured.values[2:] - measured.baseline).numpy()
    coords = {"site": [site], "feature": list(chosen)}
    per_sample = xr.DataArray(change[None], dims=("site", "feature", "sample"), coords=coords)
    arrays, warnings = with_statistics(per_sample, measured.baseline.numpy(), correction, seed)
    data = xr.Dataset({**arrays, "per_sample": per_sample})
    for name, values in (
        ("baseline", measured.baseline),
        ("error_only", error_only),
        ("without_error", without_error),
    ):
        data[name] = ("sample", values.numpy())
    all_features = float((error_only - measured.baseline).mean())
    all_error = float((without_error - measured.baseline).mean())
    if abs(all_error) > abs(all_features):
        warnings = (
            *warnings,
            f"the error of the dictionary does more ({all_error:.4g}) than its features together "
            f"({all_features:.4g}): train it longer or on more data before you read single features",
        )
    size = float(measured.baseline.abs().mean()) + abs(all_features)
    share = data["effect"] / all_features if abs(all_features) > ROUNDING * size else data["effect"] * np.nan
    data["share"] = share.assign_attrs(long_name="part of the effect of all features")
    if abs(all_features) <= ROUNDING * size:
        warnings = (*warnings, "removing every feature does not move the metric: no share of it can be given")
    return data, warnings


def _as_large_among_matched(
    effect: npt.NDArray[np.float64], magnitude: npt.NDArray[np.float64], n_matched: int
) -> npt.NDArray[np.float64]:
    """Return, for each feature, ``(b + 1) / (n + 1)`` of the n others nearest in magnitude, b of which act as much.

    Each acts as much as its effect is for its magnitude: the largest features have neighbours on one side alone,
    and would otherwise win for their size.
    """
    n_matched = min(n_matched, len(effect) - 1)
    if n_matched < 1:
        return np.full(len(effect), np.nan)
    distance = np.abs(np.log(magnitude + np.finfo(float).tiny)[:, None] - np.log(magnitude + np.finfo(float).tiny))
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :n_matched]
    strength = np.abs(effect) / np.maximum(magnitude, np.finfo(float).tiny)
    return p_of_draws(strength, strength[nearest].T)
