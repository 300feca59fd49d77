"""Evaluate one sparse autoencoder: sparsity, reconstruction, dead features, truth, and what the model makes of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from matplotlib.ticker import MaxNLocator

from neuros_mechint.adapters.splice import spliced
from neuros_mechint.causal.interventions import check_can_intervene, measure
from neuros_mechint.core.adapter import Adapter, Metric
from neuros_mechint.core.dictionary import fingerprint_dictionary, site_of
from neuros_mechint.core.edits import Replace, Zero
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE
from neuros_mechint.core.labels import LabelledTensors, counts_observations
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.certainty import ROUNDING
from neuros_mechint.features.evaluation.measures import (
    Counts,
    against_truth,
    count,
    count_variables,
    decoder_of,
    truth_variables,
)
from neuros_mechint.features.observations import data_fingerprint

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

_RUNS = ("clean", "reconstruction", "zero", "mean")
_ABLATIONS = ("zero", "mean")


class SAEEvaluation(Result):
    """How well a sparse autoencoder does on activations it was not fitted on.

    ``data`` holds ``density`` over ``(feature,)``, the share of observations in which each feature is active; the
    numbers ``l0``, ``explained_variance`` and ``dead_fraction``; with a true dictionary ``mcc``, ``mcc_chance`` and
    ``mcc_chance_largest``, the mean and the largest of draws of random directions, ``mean_max_cosine`` and
    ``max_cosine`` over ``(true_feature,)``; with a model ``loss_recovered`` over ``(ablation,)`` and ``metric`` over
    ``(run, sample)``.
    """

    def __getitem__(self, name: str) -> float:
        """Return one of the numbers, e.g. ``evaluation["l0"]``."""
        if name not in self.data.data_vars or self.data[name].ndim:
            numbers = [str(one) for one, array in self.data.data_vars.items() if not array.ndim]
            raise InputError(f"no number {name!r}", expected=f"one of {', '.join(numbers)}")
        return float(self.data[name])

    def _draw(self, ax: Axes) -> None:
        density = self.main.values
        alive = density[density > 0]
        low = np.floor(np.log10(alive.min())) if alive.size else -1.0
        ax.hist(alive, bins=np.logspace(low, 0, 25).tolist(), color=PALETTE[0])
        ax.set_xscale("log")
        ax.set_xlabel("share of observations in which a feature is active")
        ax.set_ylabel("features")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
        ax.set_title(
            f"{density.size - alive.size} of {density.size} dead", loc="right", fontsize=8, fontweight="normal",
            color=MUTED_INK,
        )  # fmt: skip

    def _summary_lines(self) -> list[str]:
        """Return the numbers."""
        lines: list[str] = []
        for name, array in self.data.data_vars.items():
            if not array.ndim:
                lines.append(f"  {array.attrs.get('long_name', name)}: {float(array):.4g}")
        if "loss_recovered" in self.data:
            lines += [
                f"  loss recovered, from {ablation} ablation: {float(value):.4g}"
                for ablation, value in zip(_ABLATIONS, self.data["loss_recovered"].values, strict=True)
            ]
        return lines


@dataclass(frozen=True)
class Recovered:
    """The metric in each run, ``(run, sample)``, and the share of the loss that the reconstruction recovers."""

    metric: np.ndarray
    share: np.ndarray
    notes: tuple[str, ...]


def evaluate_sae(
    sae: Any,
    activations: Any,
    *,
    site: str | None = None,
    model: Adapter | None = None,
    inputs: Any = None,
    metric: Metric | None = None,
    truth: Any = None,
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> SAEEvaluation:
    """Evaluate a sparse autoencoder on activations that it was not fitted on.

    Parameters
    ----------
    sae : SparseAutoencoder, SAELens SAE or other dictionary of features
        Encodes and decodes.
    activations : array of shape (n_observations, n_inputs), Activations or ActivationStore
        Held out: of other inputs than those it was fitted on.
    site : str, optional
        Which site of activations, and where to put the reconstruction; by default the site the autoencoder was
        fitted at.
    model, inputs, metric : optional, together
        An adapter, inputs that were held out too, and a metric with one value per sample: measure how much of what an
        ablation of the site costs the reconstruction recovers.
    truth : array of shape (n_true, n_inputs), optional
        The directions that made the activations, where they are known.
    batch_size : int, optional
        Samples per call of the model.
    seed : int or numpy.random.Generator
        Draws the random dictionaries that ``mcc`` is compared with.

    Returns
    -------
    SAEEvaluation

    Raises
    ------
    InputError
        Activations of another width, constant or not finite; only some of ``model``, ``inputs`` and ``metric``; or a
        metric that ablating the site does not change, so that there is nothing to recover.

    References
    ----------
    Gao et al. 2024, doi:10.48550/arXiv.2406.04093; Karvonen et al. 2025, SAEBench, doi:10.48550/arXiv.2503.09532

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> class Signs(torch.nn.Module):  # each input twice: its positive and its negative part
    ...     W_dec = torch.cat([torch.eye(3), -torch.eye(3)])
    ...     def encode(self, x):
    ...         return torch.relu(x @ self.W_dec.T)
    ...     def decode(self, feature_acts):
    ...         return feature_acts @ self.W_dec
    >>> rows = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    >>> evaluation = nm.evaluate_sae(Signs(), rows, truth=torch.eye(3))
    >>> evaluation["l0"], evaluation["explained_variance"], round(evaluation["mcc"], 6)
    (3.0, 1.0, 1.0)
    """
    site = site if site is not None else site_of(sae)
    given = {"model": model, "inputs": inputs, "metric": metric}
    missing = [name for name, value in given.items() if value is None]
    if missing and len(missing) < len(given):
        raise InputError(
            "loss recovered needs a model, inputs and a metric", expected="all three", got=f"no {', '.join(missing)}"
        )
    counts = count(sae, activations, site)
    data = count_variables(counts)
    notes = [*_seen_before(sae, activations, site), *_about(counts)]
    coords: dict[str, Any] = {"feature": np.arange(counts.density.size)}
    if truth is not None:
        decoder = decoder_of(sae)
        found = against_truth(decoder, truth, seed=seed)
        data |= truth_variables(found)
        coords["true_feature"] = np.arange(found.max_cosine.size)
        if len(decoder) < found.max_cosine.size:
            notes.append(
                f"mcc leaves out {found.max_cosine.size - len(decoder)} true directions, for the dictionary has only "
                f"{len(decoder)} features: read mean_max_cosine"
            )
    if model is not None and metric is not None:
        recovered = loss_recovered(sae, model, inputs, metric, site, batch_size)
        data |= {
            "loss_recovered": ("ablation", recovered.share, {"units": "fraction", "long_name": "loss recovered"}),
            "metric": (("run", "sample"), recovered.metric, {"long_name": "metric"}),
        }
        coords |= {"ablation": list(_ABLATIONS), "run": list(_RUNS)}
        notes += recovered.notes
    for text in notes:
        warnings.warn(text, stacklevel=2)
    return SAEEvaluation(
        xr.Dataset(data, coords),
        f"Sparse autoencoder on {counts.n_observations} observations" + (f" of {site}" if site else ""),
        attributes={"n_observations": counts.n_observations, "site": site, "truth_known": truth is not None},
        provenance=_provenance(sae, given, site, seed),
        citations=("gao2024", "karvonen2025"),
        warnings=tuple(notes),
    )


def _provenance(sae: Any, given: Mapping[str, Any], site: str | None, seed: SeedLike) -> Provenance:
    model = given["model"]
    arguments = {"sae": fingerprint_dictionary(sae, None), "site": site, "metric": given["metric"]}
    return Provenance.record(seed=seed, model=None if model is None else model.fingerprint(), arguments=arguments)


def _about(counts: Counts) -> list[str]:
    """Return what the reader must know of the numbers."""
    n_features = counts.density.size
    if not counts.density.any():
        return ["no feature is active in any observation: the reconstruction is a constant"]
    notes: list[str] = []
    if counts.n_observations < 10 * n_features and counts.dead_fraction > 0:
        notes.append(
            f"dead_fraction is of {counts.n_observations} observations for {n_features} features: "
            "rare features may look dead"
        )
    if counts.l0 > counts.n_inputs:
        notes.append(
            f"on average {counts.l0:.1f} features are active for {counts.n_inputs} inputs: this is no sparse code"
        )
    return notes


def _seen_before(sae: Any, activations: Any, site: str | None) -> list[str]:
    """Return a note where the autoencoder is known to have been fitted on these activations."""
    fitted_on = getattr(sae, "data_fingerprint_", None)
    if fitted_on is None or fitted_on != data_fingerprint(activations, site):
        return []
    return ["these are the activations it was fitted on: the numbers are too good, evaluate on held-out ones"]


def loss_recovered(
    sae: Any, model: Adapter, inputs: Any, metric: Metric, site: str | None, batch_size: int | None = None
) -> Recovered:
    """Return the share of what ablation costs that the reconstruction recovers, for zero and mean ablation.

    Raises
    ------
    InputError
        No site, or a metric that neither ablation changes.
    """
    check_can_intervene(model, metric)
    if site is None:
        raise InputError(
            "where does the reconstruction belong?", expected="site=, a site of the model", got="site=None"
        )
    captured = model.capture(inputs, site, batch_size=batch_size)
    values, dims = captured[site], captured.dims(site)
    interventions = [
        [Replace(site, _reconstruction(sae, values, dims))],
        [Zero(site)],
        [Replace(site, _mean(captured, site))],
    ]
    measured = measure(model, inputs, interventions, metric, batch_size=batch_size, description="loss recovered")
    runs = np.concatenate([measured.baseline.numpy()[None], measured.values.numpy()])
    clean, rebuilt, *ablated = runs.mean(1)
    cost = clean - np.array(ablated)
    moved = np.abs(cost) > ROUNDING * max(float(np.abs(runs).max()), 1e-12)
    if not moved.any():
        raise InputError(
            f"ablating {site!r} does not change the metric, so there is nothing to recover",
            expected="a metric that depends on the site",
            got=f"clean {clean:.6g}, zero {ablated[0]:.6g}, mean {ablated[1]:.6g}",
            fix="choose a metric that depends on this site, or inputs on which the model needs it",
        )
    share = np.where(moved, (rebuilt - np.array(ablated)) / np.where(moved, cost, 1.0), np.nan)
    notes = [
        f"loss_recovered is not defined for {name} ablation, which leaves the metric as it is"
        for name, changes in zip(_ABLATIONS, moved, strict=True)
        if not changes
    ]
    return Recovered(runs, share, (*notes, *_uncertain(runs, moved)))


def _uncertain(runs: np.ndarray, moved: np.ndarray) -> list[str]:
    """Return a note for each ablation whose cost is not clear of the spread over samples."""
    n_samples = runs.shape[1]
    if n_samples < 2:
        return ["loss_recovered is of a single value of the metric: its uncertainty is unknown"]
    cost = runs[0] - runs[2:]
    standard_error = cost.std(1, ddof=1) / np.sqrt(n_samples)
    return [
        f"what {name} ablation costs is within two standard errors of zero: loss_recovered is unreliable"
        for name, mean, error, changes in zip(_ABLATIONS, cost.mean(1), standard_error, moved, strict=True)
        if changes and abs(mean) < 2 * error
    ]


def _reconstruction(sae: Any, values: torch.Tensor, dims: tuple[str, ...]) -> torch.Tensor:
    import torch

    kept: list[torch.Tensor] = []

    def keep(_: str, part: torch.Tensor, __: tuple[str, ...]) -> torch.Tensor:
        kept.append(part)
        return part

    with torch.no_grad():
        spliced(values, dims, sae, ["reconstruction"], keep)
    return kept[0]


def _mean(captured: LabelledTensors, site: str) -> torch.Tensor:
    """Return the site with its mean over observations, padded ones left out, at every observation."""
    values, dims = captured[site], captured.dims(site)
    mean = captured.matrix(site).mean(0)

    shape = [1 if counts_observations(name) else size for name, size in zip(dims, values.shape, strict=True)]
    return mean.reshape(shape).expand_as(values)
