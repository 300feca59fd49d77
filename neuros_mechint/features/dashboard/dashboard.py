"""One page per feature: where it fires most, how often and how much, what it does to the output, what is like it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.dictionary import Dictionary, check_dictionary, fingerprint_dictionary
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, SiteError
from neuros_mechint.core.labels import LabelledTensors
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike
from neuros_mechint.features.dashboard.codes import Codes
from neuros_mechint.features.dashboard.logits import logit_effects
from neuros_mechint.features.dashboard.results import FeatureDashboard
from neuros_mechint.features.dashboard.statistics import N_BINS, Details, Survey, details, survey
from neuros_mechint.features.dashboard.tokens import Tokens, windows
from neuros_mechint.features.effects import checked_features, own_site
from neuros_mechint.features.evaluation.measures import decoder_of, unit_rows

CITATIONS = ("bricken2023", "neuronpedia2023")
_N_FEATURES = 10
_N_NEIGHBOURS = 5
_Variables = dict[str, tuple[tuple[str, ...], Any, dict[str, str]]]


def feature_dashboard(
    model: Adapter,
    sae: Dictionary,
    inputs: Any,
    features: Sequence[int] | None = None,
    site: str | None = None,
    n_examples: int = 10,
    n_logits: int = 10,
    context: int = 12,
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> FeatureDashboard:
    """Show what features are about: top examples, activations, effects on the logits, and features like them.

    The model runs once. With ``batch_size`` its activations go through a temporary folder, and never lie in memory
    all together (those of a network that takes time first do); the features of all observations never do.

    Parameters
    ----------
    model : Adapter
        From ``nm.adapt``.
    sae : Dictionary
        A fitted `neuros_mechint.SparseAutoencoder`, a SAELens SAE, or anything that encodes and decodes.
    inputs : inputs of the model
        Padding, false in their attention mask, is left out.
    features : sequence of int, optional
        Which features; the ten with the largest mean activation by default.
    site : str, optional
        Where the dictionary belongs; its own ``site`` by default.
    n_examples : int
        How many of the largest activations to show; no two are of one place.
    n_logits : int
        How many outputs to show that a feature raises most, and lowers most.
    context : int
        Tokens shown on either side of an example.
    batch_size : int, optional
        Samples per call of the model; the result does not depend on it.
    seed : int or numpy.random.Generator
        Permutes the observations, for the correlation that chance gives.

    Returns
    -------
    FeatureDashboard
        Its ``warnings`` say what this model or dictionary has not: logits, or directions.

    Raises
    ------
    InputError, OptionError, SiteError
        No site, no inputs, features that do not exist, or a dictionary of another width.

    References
    ----------
    Bricken et al. 2023, https://transformer-circuits.pub/2023/monosemantic-features/index.html; Lin 2023,
    https://www.neuronpedia.org

    Examples
    --------
    >>> import torch
    >>> import neuros_mechint as nm
    >>> class Units:  # a dictionary whose features are the units
    ...     decoder = torch.eye(64)
    ...     def encode(self, x):
    ...         return torch.relu(x)
    ...     def decode(self, features):
    ...         return features
    >>> model = nm.adapt(nm.load_model("induction"))
    >>> tokens = torch.randint(1, 64, (20, 12), generator=torch.Generator().manual_seed(0))
    >>> dashboard = feature_dashboard(model, Units(), tokens, features=[3, 5], site="blocks.1.resid_post")
    >>> dashboard.data["raised"].shape, dashboard.data["activation_neighbour"].shape
    ((2, 10), (2, 5))
    """
    _check_counts(n_examples, n_logits, context)
    sae = check_dictionary(sae)
    place = own_site(sae) if site is None else site
    splice: Any = getattr(model, "with_sae", None)
    if splice is not None and "[" not in place:
        splice(sae, place)  # raises where the width differs, warns where it was made for another model or site
    with tempfile.TemporaryDirectory() as folder:
        activations = _captured(model, inputs, place, batch_size, Path(folder) / "store")
        name = next(iter(activations))
        tokens = Tokens.of(model, inputs, name)
        mask = activations.attention_mask if activations.attention_mask is not None else tokens.attention_mask
        codes = Codes(activations, name, sae, mask)
        found = survey(codes)
        chosen = _chosen(found, features)
        more = details(codes, found, chosen, n_examples, seed)
        variables = _activity(codes, found, more, chosen) | _words(codes, tokens, more, chosen, context)
    neighbours, notes = _neighbours(sae, more, chosen, codes.n_features)
    logits, silent = _logits(model, sae, inputs, name, chosen, n_logits, tokens)
    never = [str(feature) for feature in chosen if not found.fired[feature]]
    notes += [f"features that never fire on these inputs: {', '.join(never)}"] if never else []
    variables |= logits | neighbours
    coords: dict[str, Any] = {"feature": ("feature", chosen, {"long_name": "feature"})}
    if "token" in variables:
        coords["offset"] = ("offset", np.arange(-context, context + 1), {"long_name": "tokens from the example"})
    facts = {
        "site": name,
        "n_observations": found.n_observations,
        "n_samples": codes.shape[0],
        "n_positions": codes.shape[1] if "token" in variables else 1,
        "n_features": codes.n_features,
        "words": tokens.are_words,
    }
    arguments = {"site": name, "features": features, "n_examples": n_examples, "n_logits": n_logits, "context": context}
    return FeatureDashboard(
        xr.Dataset(variables, coords),
        f"Features at {name}",
        attributes=facts,
        provenance=Provenance.record(
            seed=seed,
            model=model.fingerprint(),
            arguments={**arguments, "sae": fingerprint_dictionary(sae, codes.width)},
        ),
        citations=CITATIONS,
        warnings=tuple([*notes, *silent]),
    )


def _label(name: str, units: str = "") -> dict[str, str]:
    return {"units": units, "long_name": name}


def _check_counts(n_examples: int, n_logits: int, context: int) -> None:
    wrong = [
        f"{name}={value}"
        for name, value, least in (("n_examples", n_examples, 1), ("n_logits", n_logits, 1), ("context", context, 0))
        if value < least
    ]
    if wrong:
        raise OptionError("out of range", expected="n_examples >= 1, n_logits >= 1, context >= 0", got=", ".join(wrong))


def _captured(model: Adapter, inputs: Any, site: str, batch_size: int | None, store: Path) -> LabelledTensors:
    prepare: Any = getattr(model, "prepared", None)
    # a recording is in memory as it is, and a store takes activations sample by sample
    in_order = prepare is None or not prepare(inputs, [])[0].sample_axis
    streamed = batch_size is not None and "intervene" in model.capabilities and in_order
    activations = model.capture(inputs, site, batch_size=batch_size, to=store if streamed else None)
    if len(activations) != 1:
        raise SiteError(f"{site!r} is not one site", expected="one name", got=", ".join(list(activations)[:4]))
    return activations


def _chosen(found: Survey, features: Sequence[int] | None) -> list[int]:
    n_features = len(found.fired)
    if features is None:
        order = np.argsort(-found.mean, kind="stable")
        active = [int(one) for one in order if found.fired[one]]
        if not active:
            raise InputError("no feature fires on these inputs", fix="give other inputs, or train the dictionary")
        return active[:_N_FEATURES]
    return checked_features(features, n_features)


def _activity(codes: Codes, found: Survey, more: Details, chosen: list[int]) -> _Variables:
    """Return examples and histograms as labelled variables, the examples first."""
    variables: _Variables = {"activation": (("feature", "example"), more.top, _label("activation"))}
    for number, axis in enumerate(codes.axes):
        note = {"long_name": f"{axis} of the example"}
        variables[axis] = (("feature", "example"), more.places[..., number], note)
    density = found.fired[chosen] / found.n_observations
    maximum = np.where(found.fired[chosen] > 0, found.highest[chosen], 0.0)
    centres = (more.edges[:, :-1] + more.edges[:, 1:]) / 2
    return variables | {
        "density": (("feature",), density, _label("share of observations in which it fires", "fraction")),
        "maximum": (("feature",), maximum, _label("largest activation")),
        "count": (("feature", "bin"), more.counts, _label("number of observations", "observations")),
        "bin_centre": (("feature", "bin"), centres, _label("activation, where it is not zero")),
    }


def _words(codes: Codes, tokens: Tokens, more: Details, chosen: list[int], context: int) -> _Variables:
    """Return the tokens around the examples and the activations there, where the inputs are tokens."""
    if not tokens.fit(codes):
        return {}
    words, values = windows(tokens, codes, chosen, more.places, context)
    dims = ("feature", "example", "offset")
    return {"token": (dims, words, {"long_name": "token"}), "token_activation": (dims, values, _label("activation"))}


def _neighbours(sae: Any, more: Details, chosen: list[int], n_features: int) -> tuple[_Variables, list[str]]:
    """Return the features most like the chosen ones, and what could not be said."""
    dims = ("feature", "neighbour")
    number, correlation = _nearest(more.correlation, chosen)
    cosine = np.where(number >= 0, np.take_along_axis(more.cosine, np.maximum(number, 0), 1), np.nan)
    variables: _Variables = {
        "activation_neighbour": (dims, number, {"long_name": "feature that fires with it"}),
        "activation_correlation": (dims, correlation, _label("correlation of activations")),
        "activation_cosine": (dims, cosine, _label("cosine of activations")),
        "correlation_by_chance": (("feature",), more.chance, _label("largest correlation, observations permuted")),
    }
    try:
        decoder = decoder_of(sae)
    except InputError as error:
        return variables, [f"no neighbours by direction: {error.problem}"]
    if len(decoder) != n_features:
        return variables, [f"no neighbours by direction: {len(decoder)} directions for {n_features} features"]
    unit = unit_rows(decoder)
    similarity = (unit[chosen] @ unit.T).numpy()
    similarity[:, ~(decoder.norm(dim=1) > 0).numpy()] = np.nan
    number, cosine = _nearest(similarity, chosen)
    variables["decoder_neighbour"] = (dims, number, {"long_name": "feature whose direction is nearest"})
    variables["decoder_cosine"] = (dims, cosine, _label("cosine of decoder directions"))
    return variables, []


def _nearest(similarity: np.ndarray, chosen: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the most similar others and how similar they are; -1 and NaN where there are none."""
    others = np.where(np.isnan(similarity), -np.inf, similarity)
    others[range(len(chosen)), chosen] = -np.inf
    order = np.argsort(-others, axis=1, kind="stable")[:, : min(_N_NEIGHBOURS, max(1, others.shape[1] - 1))]
    values = np.take_along_axis(others, order, 1)
    return np.where(np.isinf(values), -1, order), np.where(np.isinf(values), np.nan, values)


def _logits(
    model: Adapter, sae: Any, inputs: Any, site: str, chosen: list[int], n_logits: int, tokens: Tokens
) -> tuple[_Variables, list[str]]:
    """Return the outputs that features raise and lower, and why not where they cannot be told."""
    try:
        effects = logit_effects(model, inputs, site, decoder_of(sae)[chosen]).cpu().numpy()
    except (CapabilityError, SiteError, InputError) as error:
        return {}, [f"no effects on the logits: {error.problem}"]
    order = np.argsort(-effects, axis=1, kind="stable")
    kept = min(n_logits, effects.shape[1])
    variables: _Variables = {}
    for name, columns in (("raised", order[:, :kept]), ("lowered", order[:, ::-1][:, :kept])):
        words = np.array([[tokens.word(int(one)) for one in row] for row in columns])
        dims = ("feature", "rank")
        variables[name] = (dims, words, {"long_name": f"output {name} most"})
        variables[f"{name}_unit"] = (dims, columns, {"long_name": f"number of the output {name} most"})
        variables[f"{name}_by"] = (
            dims,
            np.take_along_axis(effects, columns, 1),
            _label("effect on the logit", "logits"),
        )
    edges = [np.histogram_bin_edges(row, N_BINS) for row in effects]
    counts = np.stack([np.histogram(row, edge)[0] for row, edge in zip(effects, edges, strict=True)])
    centres = np.stack([(edge[:-1] + edge[1:]) / 2 for edge in edges])
    variables["logit_count"] = (("feature", "logit_bin"), counts, _label("number of outputs", "outputs"))
    variables["logit_bin_centre"] = (("feature", "logit_bin"), centres, _label("effect on the logit", "logits"))
    return variables, []
