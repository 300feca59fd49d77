"""The steps of understanding a transformer: each a function of a model and prompts that returns one result."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.causal.metrics import check_dependence, metric_values
from neuros_mechint.causal.patching.patcher import ActivationPatcher, PatchingEffects
from neuros_mechint.core.adapter import Metric
from neuros_mechint.core.errors import CapabilityError, InputError, SiteError
from neuros_mechint.core.figures.plotting import INK, MUTED_INK, PALETTE
from neuros_mechint.core.outputs import logits_of
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.certainty import without_rounding
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.core.statistics.sign_flips import sign_flip_p
from neuros_mechint.features.effects import FeatureEffects, feature_effects
from neuros_mechint.features.evaluation.evaluate import SAEEvaluation, evaluate_sae
from neuros_mechint.features.sparse_autoencoder import SparseAutoencoder
from neuros_mechint.workflows.heads import head_name
from neuros_mechint.workflows.understanding.prompts import PromptPairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REDUNDANT = 2.0
"""Parts stand in for each other where together they do more than this many times the sum of each alone."""

FIRST, SECOND = "first half", "second half"
"""Of the pairs: what parts are looked for on, and what they are judged on."""

NOISING, DENOISING = "noising (corrupted into clean)", "denoising (clean into corrupted)"
"""The two directions of patching, in the words of Heimersheim and Nanda 2024, doi:10.48550/arXiv.2404.15255."""

_STRONG = 0.5  # of the difference between clean and corrupted
_EPOCHS = 6
_MOST_EFFECTS = 64
_ROWS_PER_FEATURE = 10
_ENOUGH_ROWS = 2000


class Behaviour(Result):
    """What the metric is of clean and of corrupted prompts.

    ``data`` holds ``clean`` and ``corrupted`` over ``(pair,)``; ``attributes`` their mean ``difference`` and its ``p``.
    """

    @property
    def is_there(self) -> bool:
        """Whether the two differ by more than chance."""
        return bool(self.attributes["p"] <= SIGNIFICANT)

    @property
    def halves(self) -> tuple[xr.Dataset, xr.Dataset]:
        """The half of the pairs that parts are looked for on, and the half that they are judged on."""
        half = self.data.sizes["pair"] // 2
        return self.data.isel(pair=slice(half)), self.data.isel(pair=slice(half, None))

    def _draw(self, ax: Axes) -> None:
        both = np.stack([self.data["clean"].values, self.data["corrupted"].values])
        places = np.linspace(-0.12, 0.12, both.shape[1])
        for row, values in enumerate(both):
            ax.plot(row + places, values, "o", color=PALETTE[row], alpha=0.6, markersize=4)
            ax.plot([row - 0.25, row + 0.25], [values.mean()] * 2, color=INK, linewidth=2)
            ax.annotate(f"mean {values.mean():.3g}", (row + 0.28, values.mean()), va="center", fontsize=9)
        ax.set_xticks([0, 1], ["clean", "corrupted"])
        ax.set_xlim(-0.6, 1.7)
        ax.set_xlabel("prompts")
        ax.set_ylabel(str(self.data["clean"].attrs["units"]))
        ax.grid(axis="y")

    def _summary_lines(self) -> Iterator[str]:
        found, units = self.attributes, self.data["clean"].attrs["units"]
        told = "differ" if self.is_there else "do not differ by more than chance: there is no behaviour to explain"
        yield (
            f"all pairs: {_means(self.data)} {units}; they {told} "
            f"(difference {found['difference']:.4g}, p = {found['p']:.2g})"
        )
        first, second = self.halves
        yield f"{FIRST}: {_means(first)}: what heads, positions and the circuit are looked for on"
        yield f"{SECOND}: {_means(second)}: what features and the circuit are judged on"
        yield f"prompts: {found['prompts']}"


def _means(pairs: xr.Dataset) -> str:
    clean, corrupted = (float(pairs[name].mean()) for name in ("clean", "corrupted"))
    return f"{pairs.sizes['pair']} pairs, {clean:.4g} clean, {corrupted:.4g} corrupted"


class TogetherAndAlone(Result):
    """What is lost when parts of a layer are exchanged one at a time, and when all are at once.

    ``data`` holds over ``(site,)``: ``together``, the effect of the whole site; ``largest_alone`` and ``sum_alone`` of
    its heads, NaN where it has none; and ``head``, which head has the largest, -1 where there is none.
    """

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return min(6.0 + 0.4 * self.data.sizes["site"], 13.0), 3.6

    @property
    def redundant(self) -> list[str]:
        """Sites whose heads do little one at a time and much at once."""
        together, alone = np.abs(self.data["together"].values), np.abs(self.data["sum_alone"].values)
        chosen = (together >= _STRONG) & (together > REDUNDANT * alone) & self.attributes["normalized"]
        return [str(site) for site in self.data["site"].values[chosen]]

    def _draw(self, ax: Axes) -> None:
        places = np.arange(self.data.sizes["site"])
        for shift, name, colour in ((-0.2, "largest_alone", PALETTE[1]), (0.2, "together", PALETTE[0])):
            values = self.data[name]
            ax.bar(
                places + shift, np.nan_to_num(values.values), width=0.38, color=colour, label=values.attrs["long_name"]
            )
        ax.axhline(0, color=MUTED_INK, linewidth=0.8)
        if self.attributes["normalized"]:
            ax.axhline(1, color=MUTED_INK, linewidth=0.8, linestyle="--")
        few = places.size <= 12
        ax.set_xticks(
            places,
            list(self.data["site"].values),
            rotation=0 if places.size <= 4 else 60,
            ha="center" if places.size <= 4 else "right",
            fontsize=9 if few else 7,
        )
        ax.set_xlabel("site")
        ax.set_ylabel(f"effect ({self.data['together'].attrs['units']})")
        ax.grid(axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))

    def _summary_lines(self) -> Iterator[str]:
        order = np.argsort(-np.abs(self.data["together"].values), kind="stable")
        for one in order[:8]:
            site = self.data.isel(site=int(one))
            name, head = str(site["site"].item()), int(site["head"])
            text = f"{name}: {self._told(site['together'])} with all of it exchanged"
            if head >= 0:
                text += f", at most {self._told(site['largest_alone'])} with one head ({head_name(name, head)})"
            yield text + (": its heads stand in for each other" if name in self.redundant else "")

    def _told(self, effect: xr.DataArray) -> str:
        return (
            f"{float(effect):.1%}" if self.attributes["normalized"] else f"{float(effect):.3g} {effect.attrs['units']}"
        )


def behaviour_of(model: Any, pairs: PromptPairs, seed: SeedLike = 0, batch_size: int | None = None) -> Behaviour:
    """Return what the metric is of clean and of corrupted prompts, and whether the two differ.

    Raises
    ------
    InputError
        A metric that does not depend on the output, that is the same for all prompts, or gives no value for each.
    """
    runs = [model.run(inputs, batch_size=batch_size).output for inputs in (pairs.clean, pairs.corrupted)]
    check_dependence(pairs.metric, runs[0])
    clean, corrupted = (metric_values(pairs.metric, output).numpy() for output in runs)
    if clean.shape != (len(pairs),):
        raise InputError(
            "the metric does not give one value for each prompt",
            expected=f"({len(pairs)},)",
            got=clean.shape,
            fix="leave out the mean over prompts: how sure an effect is shows in how it varies",
        )
    if np.array_equal(clean, corrupted):
        raise InputError(
            "the metric is the same for every clean prompt and its corrupted partner",
            expected="a corruption that can change the answer, and a metric that would show it",
            got=f"{clean[:3].tolist()} and so on for both",
        )
    units = str(getattr(pairs.metric, "units", "metric"))
    labels = {"units": units, "long_name": "metric"}
    return Behaviour(
        xr.Dataset({"clean": ("pair", clean, labels), "corrupted": ("pair", corrupted, labels)}),
        "The behaviour",
        attributes={
            "difference": float((clean - corrupted).mean()),
            "p": float(sign_flip_p(clean - corrupted, seed=seed)),
            "prompts": pairs.told,
        },
        provenance=Provenance.record(seed, model.fingerprint(), {"metric": pairs.metric}),
    )


class DrawnVocabulary:
    """A model of tokens as one of the few tokens that were drawn: what `induction_check` asks for.

    Parameters
    ----------
    model : Adapter
    ids : torch.Tensor of shape (n_tokens,)
        The model's own id of each.
    """

    def __init__(self, model: Any, ids: torch.Tensor) -> None:
        self.model, self.ids = model, ids

    def run(self, tokens: torch.Tensor) -> Any:
        """Return a run whose output are the logits of the tokens that were drawn."""
        run = self.model.run(self.ids[tokens])
        return type(run)(logits_of(run.output)[..., self.ids.to(logits_of(run.output).device)], run.activations)

    def capture(self, tokens: torch.Tensor, sites: Any) -> Any:
        """Return activations."""
        return self.model.capture(self.ids[tokens], sites)

    def fingerprint(self) -> str:
        """Return that of the model."""
        return self.model.fingerprint()


def effects_by_position(model: Any, pairs: PromptPairs, batch_size: int | None = None) -> PatchingEffects:
    """Return what each position of the residual stream of the clean run brings back, before and after each layer."""
    sites = [*_matching(model, "blocks.0.resid_pre"), *_matching(model, "blocks.*.resid_post")]
    return _patched(model, pairs.metric, pairs.clean, pairs.corrupted, sites, "position", DENOISING, batch_size)


def effects_by_head(model: Any, pairs: PromptPairs, batch_size: int | None = None) -> PatchingEffects:
    """Return what is lost without each head: its part of the corrupted run is put into the clean run."""
    sites = _matching(model, "blocks.*.z")
    return _patched(model, pairs.metric, pairs.corrupted, pairs.clean, sites, "head", NOISING, batch_size)


def heads_that_restore(model: Any, pairs: PromptPairs, batch_size: int | None = None) -> PatchingEffects:
    """Return what each head brings back alone: its part of the clean run is put into the corrupted run."""
    sites = _matching(model, "blocks.*.z")
    return _patched(model, pairs.metric, pairs.clean, pairs.corrupted, sites, "head", DENOISING, batch_size)


def _patched(
    model: Any, metric: Metric, source: Any, target: Any, sites: list[str], by: str, way: str, batch_size: int | None
) -> PatchingEffects:
    if not sites:
        raise no_transformer(model)
    effects = ActivationPatcher(model, metric).sweep(source, target, sites, by=(by,), batch_size=batch_size)
    return replace(effects, title=f"{effects.title}: {way}")


def together_and_alone(
    model: Any, pairs: PromptPairs, heads: PatchingEffects, batch_size: int | None = None
) -> TogetherAndAlone:
    """Return what is lost without all heads of a layer at once, and without its MLP, beside each head alone."""
    sites = [str(site) for site in heads.values["site"].values]
    names = [*sites, *_matching(model, "blocks.*.mlp_out")]
    patcher = ActivationPatcher(model, pairs.metric)
    together = patcher.sweep(pairs.corrupted, pairs.clean, names, by=(), batch_size=batch_size)
    try:
        whole, alone = together.normalized(), heads.normalized()
        units, normalized = "fraction of the difference", True
    except InputError:  # nothing to be a fraction of
        whole, alone = (one.corrupted - one.values for one in (together, heads))
        units, normalized = str(together.values.attrs["units"]), False
    order = [str(site) for site in model.sites() if str(site) in names]
    alone, whole = alone.reindex(site=order), whole.sel(site=order)
    has_heads = alone.notnull().any("head")
    leader = np.where(has_heads, np.abs(alone.fillna(0).values).argmax(1), -1)
    largest = alone.isel(head=xr.DataArray(leader, dims="site")).where(has_heads)
    attrs = {"units": units}
    data = xr.Dataset(
        {
            "together": ("site", whole.values, attrs | {"long_name": "all at once"}),
            "largest_alone": ("site", largest.values, attrs | {"long_name": "largest of one head"}),
            "sum_alone": (
                "site",
                alone.sum("head", min_count=1).values,
                attrs | {"long_name": "sum over heads, one at a time"},
            ),
            "head": ("site", leader, {"long_name": "head with the largest"}),
        },
        {"site": order},
    )
    return TogetherAndAlone(
        data,
        "Each head alone, and all heads of a layer at once: noising",
        attributes={"normalized": normalized},
        provenance=together.provenance,
        citations=together.citations,
        warnings=together.warnings,
    )


def middle_site(model: Any) -> str:
    """Return the residual stream after the middle layer.

    Raises
    ------
    InputError
        No transformer.
    """
    sites = _matching(model, "blocks.*.resid_post")
    if not sites:
        raise no_transformer(model)
    return sites[(len(sites) - 1) // 2]


def fit_autoencoder(
    model: Any,
    site: str,
    inputs: Any,
    n_features: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
) -> SparseAutoencoder:
    """Train a sparse autoencoder on what a site holds for these inputs.

    Parameters
    ----------
    model : Adapter
    site : str
    inputs : inputs of the model
    n_features : int, optional
        By default three for each unit, or fewer where there is not a tenth of an observation for each.
    seed : int
    batch_size : int, optional
    progress : bool

    Returns
    -------
    SparseAutoencoder
    """
    activations = model.capture(inputs, site, batch_size=batch_size)
    n_rows, width = activations.matrix(site).shape
    if n_rows < _ENOUGH_ROWS:
        warnings.warn(
            f"the autoencoder is trained on {n_rows} observations, which are few: give a corpus of more",
            stacklevel=2,
        )
    size = min(3 * width, max(8, n_rows // _ROWS_PER_FEATURE)) if n_features is None else n_features
    k = min(32, max(1, size // 48))
    return SparseAutoencoder(size, k=k, epochs=_EPOCHS, seed=seed, progress=progress).fit(activations, site)


def judge_autoencoder(
    sae: SparseAutoencoder, model: Any, pairs: PromptPairs, held_out: Any, batch_size: int | None = None
) -> SAEEvaluation:
    """Return how well an autoencoder does on other inputs and, where the site matters there, on the clean prompts."""
    activations = model.capture(held_out, sae.site, batch_size=batch_size)
    given = {"model": model, "inputs": pairs.clean, "metric": pairs.metric}
    try:
        return evaluate_sae(sae, activations, batch_size=batch_size, **given)
    except InputError as error:
        warnings.warn(f"the loss recovered by features is not known: {error.problem}", stacklevel=2)
        return evaluate_sae(sae, activations, batch_size=batch_size)


def effects_of_features(
    sae: SparseAutoencoder, model: Any, pairs: PromptPairs, seed: SeedLike = 0, batch_size: int | None = None
) -> FeatureEffects:
    """Return what the metric of the clean prompts loses without each feature, of those that add most to the site."""
    activations = model.capture(pairs.clean, sae.site, batch_size=batch_size).matrix(str(sae.site)).cpu()
    size = sae.encode(activations).mean(0) * sae.decoder.norm(dim=-1)
    order = torch.argsort(size, descending=True, stable=True)[: min(_MOST_EFFECTS, int((size > 0).sum()))]
    features = sorted(order.tolist()) or None
    return feature_effects(model, sae, pairs.clean, pairs.metric, features=features, seed=seed, batch_size=batch_size)


def caption_of_features(effects: FeatureEffects) -> str:
    """Return what the figure of features shows, and why intervals without 0 stand beside a p that is not small."""
    data = effects.data.isel(site=0)
    n_features, n_prompts = data.sizes["feature"], data.sizes["sample"]
    told = (
        f"What the metric of the clean prompts of the {SECOND} of the pairs loses without one feature, which is set to "
        "zero (ablation), the rest of the activation kept. An interval is of the mean over "
        "prompts like these, of one feature alone; p asks whether the change keeps its sign from prompt to prompt, "
        f"adjusted for all {n_features} features that were tested."
    )
    changes = data["per_sample"].transpose("feature", "sample").values
    size = float(max(np.abs(data["baseline"].values).max(), np.abs(changes).max()))
    low, high = (without_rounding(data[name].values, size) for name in ("low", "high"))
    apart = ((low > 0) | (high < 0)) & (data["p_adjusted"].values > SIGNIFICANT)
    if not apart.any():
        return told
    typical = int(np.median((without_rounding(changes, size) != 0).sum(1)[apart]))
    few = typical < n_prompts and 2.0 ** (1 - typical) * n_features > SIGNIFICANT  # no p can be small
    reason = (
        f"it matters to few prompts (typically {typical} of {n_prompts}), which lose alike and are too few for a test "
        f"of {n_features} features"
        if few
        else f"it matters more to some prompts than to others, and a test of {n_features} features asks for more"
    )
    n_apart = int(apart.sum())
    which = "1 feature here" if n_apart == 1 else f"each of {n_apart} features here"
    return f"{told} Where an interval leaves out 0 and p is large, as for {which}, {reason}."


def no_transformer(model: Any) -> Exception:
    """Return the error for a model without the sites of a transformer."""
    withheld = getattr(model.sites(), "withheld", {})
    reasons = [f"{name}: {why}" for name, why in withheld.items() if name.startswith("blocks.")][:2]
    if reasons:
        return SiteError(
            "this model's attention or residual stream could not be proven",
            expected="blocks.*.resid_post and blocks.*.z among its sites",
            got="; ".join(reasons),
        )
    return CapabilityError(
        "this is no transformer",
        expected="a model with blocks.*.resid_post and blocks.*.z among its sites",
        got=", ".join(list(model.sites())[:6]) or "no sites",
        fix="for recurrent models see neuros-mechint dynamics; ActivationPatcher and SparseAutoencoder take any site",
    )


def _matching(model: Any, pattern: str) -> list[str]:
    try:
        return list(model.sites(pattern))
    except SiteError:
        return []
