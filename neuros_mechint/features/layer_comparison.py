"""Compare the dictionaries of many layers: which share of the features of one has a partner in the other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.dictionary import check_dictionary, fingerprint_dictionary
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.plotting import INK, heat_map
from neuros_mechint.core.labels import LabelledTensors
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.features.matching import (
    FeatureVectors,
    activity_of,
    check_one_space,
    check_options,
    check_same_observations,
    directions_of,
    match_vectors,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LINES = 15
_MOST_ANNOTATED = 12
_MOST_CHARACTERS = 40  # of names side by side
_SIMILARITY = {"decoder": "cosine", "activation": "correlation"}


class LayerComparison(Result):
    """How much of each dictionary is found in each other one.

    ``data`` holds, over ``(site, other)``: ``share``, the share of the features of ``site`` that are matched above
    chance in ``other``; ``similarity``, the mean similarity of those pairs (NaN where there is none);
    ``mean_similarity`` of all pairs, and ``null_mean``, the same by chance. A dictionary is not compared with itself.
    """

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        n_sites = self.main.shape[0]
        return float(np.clip(3.6 + 0.75 * n_sites, 5, 9)), float(np.clip(1.8 + 0.55 * n_sites, 3, 8))

    def _draw(self, ax: Axes) -> None:
        image = heat_map(self.main, ax)
        image.set_clim(0, 1)
        turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        if sum(len(str(name)) for name in self.data["other"].values) > _MOST_CHARACTERS:
            for label in ax.get_xticklabels():
                label.set(**turned)
        if self.main.shape[0] > _MOST_ANNOTATED:
            return
        share, similarity = self.main.values, self.data["similarity"].values
        for row, column in zip(*np.nonzero(np.isfinite(share)), strict=True):
            red, green, blue, _ = image.cmap(image.norm(share[row, column]))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            colour = "white" if dark else INK
            ax.text(column, row, f"{share[row, column]:.0%}", ha="center", va="bottom", fontsize=9, color=colour)
            if np.isfinite(similarity[row, column]):
                ax.text(column, row, f"{similarity[row, column]:.2f}", ha="center", va="top", fontsize=7, color=colour)
        ax.set_title(f"{self.title}\nin small: mean {_SIMILARITY[self.attributes['by']]} of these pairs")

    def _summary_lines(self) -> list[str]:
        """Return one line per pair of sites, the most alike first."""
        names = [str(name) for name in self.data["site"].values]
        share, similarity = self.main.values, self.data["similarity"].values
        pairs = sorted(
            itertools.combinations(range(len(names)), 2), key=lambda pair: -(share[pair] + share[pair[::-1]])
        )
        lines = [
            "matched above chance, in each direction; mean similarity of these pairs, and of all pairs beside chance:",
        ]
        for one, other in pairs[:_MOST_LINES]:
            alike = "none" if np.isnan(similarity[one, other]) else f"{similarity[one, other]:.2f}"
            mean, chance = (float(self.data[name][one, other]) for name in ("mean_similarity", "null_mean"))
            lines.append(
                f"  {names[one]} - {names[other]}: {share[one, other]:.0%} and {share[other, one]:.0%}; {alike}, "
                f"all {mean:.2f}, by chance {chance:.2f}"
            )
        if len(pairs) > _MOST_LINES:
            lines.append(f"  and {len(pairs) - _MOST_LINES} pairs that are less alike")
        return lines


def compare_layers(
    saes: Mapping[str, Any], *, by: str = "decoder", activations: Any = None, n_null: int = 99, seed: SeedLike = 0
) -> LayerComparison:
    """Match the features of every two of several dictionaries, as `match_features` does for two.

    Parameters
    ----------
    saes : mapping of str to SparseAutoencoder, SAELens SAE or other dictionary
        By site, two or more, such as `fit_layers` returns.
    by : {"decoder", "activation"}
        ``decoder`` compares directions, where all sites are one space, as a residual stream is; ``activation``
        compares what the features do on the same observations, whatever the spaces.
    activations : Activations, ActivationStore or mapping of str to array, optional
        For ``by="activation"``: the activations of every site on the same inputs.
    n_null : int
        Draws of the null for each pair.
    seed : int or numpy.random.Generator
        Draws the nulls.

    Returns
    -------
    LayerComparison

    Raises
    ------
    InputError
        Fewer than two dictionaries, inputs of different widths for ``decoder``, or activations that are missing or of
        different observations for ``activation``.
    OptionError
        Unknown ``by``, or fewer than 19 draws.
    SiteError
        Activations without one of the sites.

    References
    ----------
    Song et al. 2025, doi:10.48550/arXiv.2505.20254; Leask et al. 2025, doi:10.48550/arXiv.2502.04878

    Examples
    --------
    >>> import torch, neuros_mechint as nm
    >>> class Directions(torch.nn.Module):
    ...     def __init__(self, rows):
    ...         super().__init__()
    ...         self.W_dec = rows
    ...     def encode(self, x):
    ...         return torch.relu(x @ self.W_dec.T)
    ...     def decode(self, feature_acts):
    ...         return feature_acts @ self.W_dec
    >>> rows = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    >>> found = nm.compare_layers({"early": Directions(rows), "late": Directions(rows[[2, 0, 1, 4, 3]])})
    >>> found.main.sel(site="early", other="late").item()
    1.0
    """
    check_options(by, n_null)
    if not isinstance(saes, Mapping) or len(saes) < 2:
        got = str(len(saes)) if isinstance(saes, Mapping) else type(saes).__name__
        raise InputError("nothing to compare", expected="two dictionaries or more, {site: sae, ...}", got=got)
    saes = {site: check_dictionary(sae) for site, sae in saes.items()}
    vectors = _directions(saes) if by == "decoder" else _activities(saes, activations)
    random = generator(seed)
    data = _empty(list(saes))
    pairs = list(itertools.combinations(saes, 2))
    for one, other in progress_bar(pairs, description="pairs of sites"):
        found = match_vectors(vectors[one], vectors[other], by, n_null, random)
        _fill(data, one, other, found, len(vectors[other].vectors))
    prints = {str(site): fingerprint_dictionary(sae, None) for site, sae in saes.items()}
    return LayerComparison(
        data,
        f"Features shared by {len(saes)} sites, by {by}",
        attributes={
            "by": by,
            "n_null": n_null,
            "n_features": {str(site): len(one.vectors) for site, one in vectors.items()},
        },
        provenance=Provenance.record(seed=seed, arguments={"saes": prints, "by": by, "n_null": n_null}),
        citations=("song2025", "leask2025"),
        warnings=tuple(
            f"{one.n_dead} features of {site} are dead, and have no partner"
            for site, one in vectors.items()
            if one.n_dead
        ),
    )


def _directions(saes: Mapping[str, Any]) -> dict[str, FeatureVectors]:
    vectors = {site: directions_of(sae) for site, sae in saes.items()}
    check_one_space(list(vectors.items()))
    return vectors


def _activities(saes: Mapping[str, Any], activations: Any) -> dict[str, FeatureVectors]:
    if not isinstance(activations, Mapping):
        raise InputError(
            "comparing by activation needs the activations of every site",
            expected="activations=, Activations, an ActivationStore or {site: array}",
            got=type(activations).__name__,
            fix="model.capture(inputs, list(saes))",
        )
    vectors: dict[str, FeatureVectors] = {}
    for site, sae in saes.items():
        if not isinstance(activations, LabelledTensors) and site not in activations:
            raise InputError(
                f"no activations of {site!r}", expected=", ".join(map(str, saes)), got=", ".join(map(str, activations))
            )
        given = activations if isinstance(activations, LabelledTensors) else activations[site]
        vectors[site] = activity_of(sae, given, site)
        check_same_observations(next(iter(vectors.values())), vectors[site])
    return vectors


def _empty(sites: list[str]) -> xr.Dataset:
    labels = {
        "share": ("fraction", "features matched above chance"),
        "similarity": ("", "mean similarity of pairs above chance"),
        "mean_similarity": ("", "mean similarity of matched pairs"),
        "null_mean": ("", "mean similarity of matched pairs by chance"),
    }
    missing = np.full((len(sites), len(sites)), np.nan)
    return xr.Dataset(
        {
            name: (("site", "other"), missing.copy(), {"units": units, "long_name": long_name})
            for name, (units, long_name) in labels.items()
        },
        {
            "site": ("site", sites, {"long_name": "features of"}),
            "other": ("other", sites, {"long_name": "matched in"}),
        },
    )


def _fill(data: xr.Dataset, one: str, other: str, found: xr.Dataset, n_other: int) -> None:
    above = found["above_chance"].values
    similarity = found["similarity"].values
    both = ({"site": one, "other": other}, {"site": other, "other": one})
    for place in both:
        data["similarity"].loc[place] = similarity[above].mean() if above.any() else np.nan
        data["mean_similarity"].loc[place] = np.nanmean(similarity)
        data["null_mean"].loc[place] = found["null_mean"].values.mean()
    data["share"].loc[both[0]] = above.mean()
    data["share"].loc[both[1]] = above.sum() / n_other
