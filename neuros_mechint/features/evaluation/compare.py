"""Compare sparse autoencoders, at matched sparsity only: more active features always explain more variance."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.dictionary import fingerprint_dictionary, site_of
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.result import Result
from neuros_mechint.features.evaluation.measures import (
    against_truth,
    count,
    count_variables,
    decoder_of,
    truth_variables,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
_MOST_NAMED = 3
_SCORES = {"mcc": "MCC", "explained_variance": "variance explained"}


class SAEComparison(Result):
    """Sparse autoencoders beside each other on the same held-out activations.

    ``data`` holds, over ``(sae,)``: ``rank`` (1 is best; NaN where L0 is not matched, and for those that are no nearer
    to the truth than chance), ``l0``, ``explained_variance``, ``dead_fraction``, and with a true dictionary ``mcc``,
    ``mcc_chance`` and ``mcc_chance_largest``, the mean and the largest of random directions, and ``mean_max_cosine``.
    """

    @property
    def matched(self) -> bool:
        """Whether the autoencoders are equally sparse, so that they can be ranked."""
        return bool(self.attributes["l0_matched"])

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.6

    def _draw(self, ax: Axes) -> None:
        l0, score = self.data["l0"].values, self.data[self.attributes["ranked_by"]]
        rank = self.main.values
        for index, name in enumerate(self.data["sae"].values):
            colour = PALETTE[index % len(PALETTE)]
            label = f"{rank[index]:.0f}. {name}" if np.isfinite(rank[index]) else str(name)
            ax.scatter(l0[index], score.values[index], color=colour, s=45, label=label, zorder=3)
        if "mcc_chance_largest" in self.data:
            ax.axhline(
                float(self.data["mcc_chance_largest"].max()), color=MUTED_INK, linestyle=":", linewidth=0.9,
                label="random directions",
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_xlabel(axis_label(self.data["l0"]))
        ax.set_ylabel(axis_label(score))
        ax.grid(axis="both")
        alive = l0[l0 > 0]
        if not alive.size or alive.max() < 2 * alive.min():  # a logarithmic axis needs a range to have ticks in
            ax.set_xscale("linear")
            ax.set_xlim(0, 1.5 * max(l0.max(), 1.0))
        else:
            for set_formatter in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
                set_formatter("{x:g}")  # L0 is read as a number, not as a power of ten
        title = f"rank by {_SCORES[self.attributes['ranked_by']]}" if self.matched else "L0 not matched:\nno ranking"
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title=title)

    def _summary_lines(self) -> list[str]:
        """Return one line per autoencoder, the best first, and why any is not ranked."""
        table = self.to_dataframe().sort_values(["rank", self.attributes["ranked_by"]], ascending=[True, False])
        score = _SCORES[self.attributes["ranked_by"]]
        lines = [f"ranked by {score}, 1 is best" if self.matched else "not ranked: L0 is not matched"]
        for row in table.to_dict("records"):
            place = f"{row['rank']:.0f}." if np.isfinite(row["rank"]) else "-"
            truth = f"MCC {row['mcc']:.3f} (by chance {row['mcc_chance']:.3f}), " if "mcc" in row else ""
            lines.append(
                f"  {place} {row['sae']}: {truth}variance explained {row['explained_variance']:.3f}, "
                f"L0 {row['l0']:.3g}, {row['dead_fraction']:.0%} dead"
            )
        return lines


def compare_saes(
    saes: Mapping[str, Any],
    activations: Any,
    *,
    site: str | None = None,
    truth: Any = None,
    max_l0_ratio: float = 1.1,
    seed: SeedLike = 0,
) -> SAEComparison:
    """Compare sparse autoencoders on held-out activations, and rank them only where they are equally sparse.

    They are ranked by MCC where the truth is known, else by explained variance. Where the L0 of the densest is more
    than ``max_l0_ratio`` times that of the sparsest, none is ranked: a dense code explains more variance whatever its
    features mean. `matched_l0` trains an autoencoder of a given L0. Where the truth is known, one whose MCC is not
    above that of 20 draws of random directions has found nothing, and has no rank.

    Parameters
    ----------
    saes : mapping of str to SparseAutoencoder, SAELens SAE or other dictionary
        By name, two or more.
    activations : array of shape (n_observations, n_inputs), Activations or ActivationStore
        The same held-out activations for all.
    site : str, optional
        Which site of activations; by default the one the first was fitted at.
    truth : array of shape (n_true, n_inputs), optional
        The directions that made the activations, where they are known.
    max_l0_ratio : float
        How far L0 may differ, at least 1.
    seed : int or numpy.random.Generator
        Draws the random dictionaries that MCC is compared with.

    Returns
    -------
    SAEComparison

    Raises
    ------
    InputError
        Fewer than two autoencoders, or what `evaluate_sae` raises.
    OptionError
        A ratio below 1.

    References
    ----------
    Gao et al. 2024, doi:10.48550/arXiv.2406.04093; Karvonen et al. 2025, SAEBench, doi:10.48550/arXiv.2503.09532

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> class Kept(torch.nn.Module):  # keeps some of the inputs, each as a feature
    ...     def __init__(self, kept):
    ...         super().__init__()
    ...         self.W_dec = torch.eye(4)[kept]
    ...     def encode(self, x):
    ...         return x @ self.W_dec.T
    ...     def decode(self, feature_acts):
    ...         return feature_acts @ self.W_dec
    >>> rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 3.0, 1.0, 1.0])
    >>> comparison = nm.compare_saes({"small": Kept([2, 3]), "large": Kept([0, 1])}, rows)
    >>> comparison.data["rank"].values.tolist()
    [2.0, 1.0]
    """
    if not isinstance(saes, Mapping) or len(saes) < 2:
        got = f"{len(saes)}" if isinstance(saes, Mapping) else type(saes).__name__
        raise InputError("nothing to compare", expected='two autoencoders or more, {"name": sae, ...}', got=got)
    if not max_l0_ratio >= 1:
        raise OptionError("max_l0_ratio is too small", expected="at least 1", got=max_l0_ratio)
    site = site if site is not None else site_of(next(iter(saes.values())))
    counts = {name: count(sae, activations, site) for name, sae in saes.items()}
    described = [count_variables(one) for one in counts.values()]
    if truth is not None:
        found = [against_truth(decoder_of(sae), truth, seed=seed) for sae in saes.values()]
        described = [one | truth_variables(recovered) for one, recovered in zip(described, found, strict=True)]
    columns = {
        name: ("sae", np.array([one[name][1] for one in described], dtype=float), attributes)
        for name, (axes, _, attributes) in described[0].items()
        if axes == ()
    }
    ranked_by = "explained_variance" if truth is None else "mcc"
    score, l0 = columns[ranked_by][1], columns["l0"][1]
    chance = np.full(score.shape, -np.inf) if truth is None else columns["mcc_chance_largest"][1]
    unequal = _not_matched(l0, max_l0_ratio)
    notes, l0_matched = [*unequal, *_not_above_chance(list(saes), score, chance)], not unequal
    rank = _ranked(score, l0_matched & (score > chance))
    for text in notes:
        warnings.warn(text, stacklevel=2)
    variables = {"rank": ("sae", rank, {"long_name": f"rank by {ranked_by}"})} | columns
    prints = {name: fingerprint_dictionary(sae, None) for name, sae in saes.items()}
    return SAEComparison(
        xr.Dataset(variables, {"sae": list(saes)}),
        f"{_names(list(saes))} on {next(iter(counts.values())).n_observations} observations"
        + (f" of {site}" if site else ""),
        attributes={"ranked_by": ranked_by, "max_l0_ratio": max_l0_ratio, "site": site, "l0_matched": l0_matched},
        provenance=Provenance.record(seed=seed, arguments={"saes": prints, "site": site}),
        citations=("gao2024", "karvonen2025"),
        warnings=tuple(notes),
    )


def _names(names: list[Any]) -> str:
    if len(names) > _MOST_NAMED:
        return f"{len(names)} sparse autoencoders"
    return "Sparse autoencoders " + ", ".join(map(str, names[:-1])) + f" and {names[-1]}"


def _ranked(score: np.ndarray, fit_for_it: np.ndarray) -> np.ndarray:
    """Return ranks, 1 for the highest score, or NaN for those that are not fit to be ranked."""
    better = (score[:, None] < score) & fit_for_it
    return np.where(fit_for_it, 1.0 + better.sum(1), np.nan)


def _not_matched(l0: np.ndarray, max_ratio: float) -> list[str]:
    """Return why none can be ranked, if so."""
    if l0.min() <= 0:
        return ["not ranked: one has no active feature"]
    ratio = l0.max() / l0.min()
    if ratio <= max_ratio:
        return []
    return [
        f"not ranked: L0 differs by a factor of {ratio:.2f}, from {l0.min():.3g} to {l0.max():.3g}, and at most "
        f"{max_ratio:g} can be compared; train at one L0 with matched_l0"
    ]


def _not_above_chance(names: list[Any], mcc: np.ndarray, chance: np.ndarray) -> list[str]:
    """Return which have found nothing of the truth."""
    return [
        f"{name} is not ranked: its MCC of {value:.3f} is not above {largest:.3f}, the largest of 20 draws of random "
        "directions"
        for name, value, largest in zip(names, mcc, chance, strict=True)
        if value <= largest
    ]
