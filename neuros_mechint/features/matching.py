"""Match the features of two dictionaries one to one, beside what dictionaries that share nothing would give."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr
from matplotlib.ticker import MaxNLocator

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.dictionary import as_taken_by, check_dictionary, fingerprint_dictionary, site_of
from neuros_mechint.core.errors import InputError, OptionError, check_option
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label
from neuros_mechint.core.labels import LabelledTensors
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator, torch_generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, p_of_draws
from neuros_mechint.features.evaluation.measures import decoder_of, unit_rows
from neuros_mechint.features.observations import only_site, row_batches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES = {"decoder": "cosine of decoder directions", "activation": "correlation of activations"}
_NULLS = {
    "decoder": "random directions",
    "activation": "features of random directions of the same inputs, as rarely active",
}
_MOST_LINES = 8
_TITLE_WIDTH = 64  # characters


class FeatureMatching(Result):
    """Which feature of one dictionary is which of another.

    ``data`` holds, over ``(feature,)`` of the first dictionary, ``similarity`` to its ``partner`` in the second (NaN
    and -1 where it has none), ``p`` against the largest similarity in each draw of the null, and ``above_chance``;
    and ``null_mean`` and ``null_largest`` over ``(draw,)``, the mean and largest similarity of matched pairs without
    anything in common.
    """

    @property
    def matched(self) -> pd.DataFrame:
        """The pairs that are more alike than chance, the most alike first."""
        table = self.to_dataframe()
        kept: pd.DataFrame = table.loc[table["above_chance"]]
        return kept.sort_values("similarity", ascending=False, ignore_index=True)

    @property
    def _threshold(self) -> float:
        return float(np.quantile(self.data["null_largest"].values, 1 - SIGNIFICANT))

    def _draw(self, ax: Axes) -> None:
        ax.set_title(textwrap.fill(self.title, _TITLE_WIDTH))
        values = self.main.values[np.isfinite(self.main.values)]
        null = self.data["null_largest"].values
        edges = np.linspace(min(values.min(), null.min(), 0.0), max(values.max(), null.max(), 1.0), 31)
        ax.hist(values, bins=edges, color=PALETTE[0], label="matched pairs")
        ax.axvline(self._threshold, color=MUTED_INK, linestyle=":", label="largest by chance, 95% of draws")
        ax.axvline(float(self.data["null_mean"].mean()), color=MUTED_INK, linewidth=0.8, label="mean by chance")
        ax.set_xlabel(axis_label(self.main))
        ax.set_ylabel("pairs of features")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3)

    def _summary_lines(self) -> list[str]:
        """Return how many features are matched, what chance gives, and the pairs that are most alike."""
        matched = self.matched
        lines = [
            f"{len(matched)} of {self.main.size} features matched above chance "
            f"({self.attributes['null']}, p <= {SIGNIFICANT} for all pairs together)",
            f"mean {_NAMES[self.attributes['by']]} of matched pairs: {float(self.main.mean()):.3f}, "
            f"by chance {float(self.data['null_mean'].mean()):.3f}, and in 5% of draws one above {self._threshold:.3f}",
        ]
        lines += [
            f"  feature {row['feature']} - feature {row['partner']}: {row['similarity']:.3f}"
            for row in matched.head(_MOST_LINES).to_dict("records")
        ]
        if len(matched) > _MOST_LINES:
            lines.append(f"  and {len(matched) - _MOST_LINES} more, in .matched")
        return lines


def match_features(
    a: Any, b: Any, *, by: str = "decoder", activations: Any = None, n_null: int = 99, seed: SeedLike = 0
) -> FeatureMatching:
    """Match the features of two dictionaries one to one so that the sum of similarities is largest.

    Parameters
    ----------
    a, b : SparseAutoencoder, SAELens SAE or other dictionary of features
        Two seeds, sizes or architectures at one site, or two sites, layers or models.
    by : {"decoder", "activation"}
        ``decoder`` compares directions (cosine), in one space; ``activation`` compares what the features do on the same
        observations (Pearson correlation), whatever the spaces.
    activations : array (n_observations, n_inputs), pair of arrays, Activations or ActivationStore
        For ``by="activation"``: of one site for both dictionaries; a pair, one for each, row by row of the same
        observations; or activations that hold the site of each dictionary. Arrays may have several axes of
        observations, ``(n_samples, n_positions, n_inputs)``.
    n_null : int
        Draws of the null: for ``decoder``, directions drawn at random with the covariance of those of ``b``; for
        ``activation``, features that read random directions of what ``b`` reads, in the same observations, each
        active as rarely as one of ``b``: any two dictionaries of the same inputs are alike to some degree, and
        neighbouring observations too. p is at least ``1 / (n_null + 1)``.
    seed : int or numpy.random.Generator
        Draws the null.

    Returns
    -------
    FeatureMatching

    Raises
    ------
    InputError
        Inputs of different width for ``decoder``; no activations, or of different numbers of observations, for
        ``activation``; or no feature that is active.
    OptionError
        Unknown ``by``, or fewer than 19 draws.

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
    >>> matching = nm.match_features(Directions(rows), Directions(rows[[2, 0, 1, 4, 3]]))
    >>> matching.data["partner"].values.tolist()
    [1, 2, 0, 4, 3]
    """
    check_options(by, n_null)
    a, b = check_dictionary(a), check_dictionary(b)
    if by == "decoder":
        first, second = directions_of(a), directions_of(b)
        check_one_space([(_name(a), first), (_name(b), second)])
    else:
        first, second = _activity_of_both(a, b, activations)
    data = match_vectors(first, second, by, n_null, generator(seed))
    notes = [
        f"{n_dead} features of the {name} dictionary have no {what}, and no partner"
        for name, n_dead in (("first", first.n_dead), ("second", second.n_dead))
        if n_dead
        for what in ("direction" if by == "decoder" else "activation that varies",)
    ]
    sizes = [len(first.vectors), len(second.vectors)]
    return FeatureMatching(
        data,
        f"{sizes[0]} features of {_name(a)} matched with {sizes[1]} of {_name(b)}",
        attributes={"by": by, "null": _NULLS[by], "n_features": sizes, "n_null": n_null},
        provenance=Provenance.record(
            seed=seed, arguments={"a": fingerprint_dictionary(a, None), "b": fingerprint_dictionary(b, None), "by": by}
        ),
        citations=("song2025", "leask2025"),
        warnings=tuple(notes),
    )


def check_options(by: str, n_null: int) -> None:
    """Raise `OptionError` for a way to compare that does not exist, or too few draws of the null."""
    check_option("by", by, tuple(_NAMES))
    if n_null < 19:
        raise OptionError("too few draws to reach p <= 0.05", expected="n_null >= 19", got=n_null)


def _name(sae: Any) -> str:
    return str(site_of(sae) or type(sae).__name__)


@dataclass(frozen=True)
class FeatureVectors:
    """What features are compared by, and what features that know nothing are made of.

    Parameters
    ----------
    vectors : torch.Tensor of shape (n_features, n)
        Of length one, or zero: directions, or centred activations over n observations.
    inputs : torch.Tensor of shape (n, n_inputs), optional
        The centred activations that were encoded.
    density : torch.Tensor of shape (n_features,), optional
        Share of the observations in which each feature is active.
    """

    vectors: torch.Tensor
    inputs: torch.Tensor | None = None
    density: torch.Tensor | None = None

    @property
    def alive(self) -> npt.NDArray[np.bool_]:
        """Which features have a direction, or an activation that varies."""
        return self.vectors.norm(dim=1).numpy() > 0

    @property
    def n_dead(self) -> int:
        """How many have not."""
        return int((~self.alive).sum())


def directions_of(sae: Any) -> FeatureVectors:
    """Return the directions of the features of a dictionary."""
    return FeatureVectors(unit_rows(decoder_of(sae)))


def check_one_space(named: Sequence[tuple[str, FeatureVectors]]) -> None:
    """Raise `InputError` where directions, each with the name of its dictionary, are of different widths."""
    widths = [(name, one.vectors.shape[1]) for name, one in named]
    if len({width for _, width in widths}) > 1:
        raise InputError(
            "directions in different spaces cannot be compared",
            expected="dictionaries of inputs of one width",
            got=", ".join(f"{width} at {name}" for name, width in widths),
            fix='by="activation", with activations of all sites on the same observations',
        )


def _activity_of_both(a: Any, b: Any, activations: Any) -> tuple[FeatureVectors, FeatureVectors]:
    if activations is None:
        raise InputError(
            "matching by activation needs activations",
            expected="activations=, rows that both dictionaries encode, or a pair of such rows",
            got="activations=None",
        )
    pair = activations if isinstance(activations, tuple | list) else (activations, activations)
    if len(pair) != 2:
        raise InputError("activations are one array or a pair", expected="2 arrays", got=f"{len(pair)}")
    first, second = (activity_of(sae, given, site_of(sae)) for sae, given in zip((a, b), pair, strict=True))
    check_same_observations(first, second)
    return first, second


def check_same_observations(first: FeatureVectors, second: FeatureVectors) -> None:
    """Raise `InputError` where two dictionaries encoded different numbers of observations."""
    if first.vectors.shape[1] != second.vectors.shape[1]:
        raise InputError(
            "the two dictionaries see different observations",
            expected="rows of the same observations in the same order",
            got=f"{first.vectors.shape[1]} and {second.vectors.shape[1]} rows",
        )


@torch.no_grad()
def activity_of(sae: Any, activations: Any, site: str | None) -> FeatureVectors:
    """Return the activations of the features of a dictionary, centred and of length one.

    Raises
    ------
    InputError, SiteError
        No activations that it takes, or none of its features varies.
    """
    site = only_site(activations, site) if isinstance(activations, LabelledTensors) else None
    inputs: list[torch.Tensor] = []
    encoded: list[torch.Tensor] = []
    for batch in row_batches(_flat(activations), site):
        try:
            encoded.append(sae.encode(as_taken_by(sae, batch)).double().cpu())
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"a dictionary does not take activations of {batch.shape[1]} units: {error}",
                fix="pass a pair of activations, one for each dictionary",
            ) from error
        inputs.append(batch.float().cpu())
    rows, codes = torch.cat(inputs), torch.cat(encoded).T
    # a constant feature must not leave rounding of its mean behind, which would then be scaled to length one
    varies = codes.amax(1) > codes.amin(1)
    if not varies.any():
        raise InputError(
            "no feature of a dictionary varies over these observations",
            fix="check that the activations are those of its site, and that its features are not dead",
        )
    centred = torch.where(varies[:, None], codes - codes.mean(1, keepdim=True), torch.zeros_like(codes))
    return FeatureVectors(unit_rows(centred), rows - rows.mean(0), (codes != 0).double().mean(1))


def _flat(activations: Any) -> Any:
    """Return an array of samples and positions as rows; anything else as it is."""
    shape = () if isinstance(activations, LabelledTensors) else np.shape(activations)
    if len(shape) < 3:
        return activations
    array = activations if isinstance(activations, torch.Tensor) else np.asarray(activations)
    return array.reshape(-1, shape[-1])


def match_vectors(
    first: FeatureVectors, second: FeatureVectors, by: str, n_null: int, random: np.random.Generator
) -> xr.Dataset:
    """Return the data of a `FeatureMatching`.

    Raises
    ------
    InputError
        No pair of features that are both alive.
    """
    similarity = _similarity(first.vectors, second.vectors)
    rows, columns = _matched(similarity)
    kept = first.alive[rows] & second.alive[columns]
    if not kept.any():
        raise InputError("no feature of one dictionary has a direction", expected="decoders that are not zero")
    null_mean, null_largest = _null(first, second, n_null, random)
    return _labelled(similarity, rows[kept], columns[kept], null_mean, null_largest, by)


def _similarity(first: torch.Tensor, second: torch.Tensor) -> Floats:
    return (first @ second.T).numpy()


def _matched(similarity: Floats) -> tuple[np.ndarray, np.ndarray]:
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(similarity, maximize=True)


def _null(
    first: FeatureVectors, second: FeatureVectors, n_null: int, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the mean and the largest similarity of matched pairs in each draw of the null."""
    draws = torch_generator(random)
    mean, largest = np.zeros(n_null), np.zeros(n_null)
    for draw in progress_bar(range(n_null), description="unrelated features"):
        similarity = _similarity(first.vectors, _unrelated(second, draws))
        pairs = similarity[_matched(similarity)]
        mean[draw], largest[draw] = pairs.mean(), pairs.max()
    return mean, largest


def _unrelated(features: FeatureVectors, draws: torch.Generator) -> torch.Tensor:
    """Return as many features that know nothing: of the same space, or of the same inputs and as rarely active."""
    vectors, inputs, density = features.vectors, features.inputs, features.density
    if inputs is None or density is None:
        # Gaussian mixtures of the directions: random, but as much of one cone or subspace as they are
        mix = torch.randn(len(vectors), len(vectors), generator=draws, dtype=vectors.dtype)
        return unit_rows(mix @ vectors)
    projected = torch.randn(len(vectors), inputs.shape[1], generator=draws) @ inputs.T
    n_silent = ((1 - density) * len(inputs)).round().long().clamp(max=len(inputs))
    # what is above the last of the silent observations is active; nothing is silent where none is
    threshold = projected.sort(dim=1).values.gather(1, (n_silent - 1).clamp(min=0)[:, None])
    active = torch.relu(projected - threshold).double()
    return unit_rows(active - active.mean(1, keepdim=True))


def _labelled(
    similarity: Floats, rows: np.ndarray, columns: np.ndarray, null_mean: Floats, null_largest: Floats, by: str
) -> xr.Dataset:
    n_features = len(similarity)
    values, partner, p = np.full(n_features, np.nan), np.full(n_features, -1), np.full(n_features, np.nan)
    values[rows], partner[rows] = similarity[rows, columns], columns
    p[rows] = p_of_draws(values[rows], null_largest[:, None])
    name = _NAMES[by]
    return xr.Dataset(
        {
            "similarity": ("feature", values, {"units": "", "long_name": name}),
            "partner": ("feature", partner, {"long_name": "matched feature of the second dictionary"}),
            "p": ("feature", p, {"long_name": "p value, for all pairs together"}),
            "above_chance": ("feature", p <= SIGNIFICANT),
            "null_mean": ("draw", null_mean, {"units": "", "long_name": f"mean {name} by chance"}),
            "null_largest": ("draw", null_largest, {"units": "", "long_name": f"largest {name} by chance"}),
        },
        {"feature": np.arange(n_features)},
    )
