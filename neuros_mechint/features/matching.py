"""Match the features of two dictionaries one to one, beside what dictionaries that share nothing would give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr
from matplotlib.ticker import MaxNLocator

from neuros_mechint.core.dictionary import as_taken_by, check_dictionary, fingerprint_dictionary
from neuros_mechint.core.errors import InputError, OptionError, check_option
from neuros_mechint.core.labels import LabelledTensors
from neuros_mechint.core.plotting import MUTED_INK, PALETTE, axis_label
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator, torch_generator
from neuros_mechint.core.result import Result
from neuros_mechint.features.evaluation.measures import decoder_of
from neuros_mechint.features.observations import row_batches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]
_NAMES = {"decoder": "cosine of decoder directions", "activation": "correlation of activations"}
_NULLS = {"decoder": "random directions", "activation": "permuted observations"}
_SIGNIFICANT = 0.05


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

    def _draw(self, ax: Axes) -> None:
        values = self.main.values[np.isfinite(self.main.values)]
        null = self.data["null_largest"].values
        edges = np.linspace(min(values.min(), null.min(), 0.0), max(values.max(), null.max(), 1.0), 31)
        ax.hist(values, bins=edges, color=PALETTE[0], label="matched pairs")
        threshold = float(np.quantile(null, 1 - _SIGNIFICANT))
        ax.axvline(threshold, color=MUTED_INK, linestyle=":", label="largest of unrelated pairs, 95% of draws")
        ax.axvline(
            float(self.data["null_mean"].mean()), color=MUTED_INK, linewidth=0.8, label="mean of unrelated pairs"
        )
        ax.set_xlabel(axis_label(self.main))
        ax.set_ylabel("pairs of features")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)

    def summary(self) -> str:
        """Return how many features are matched, and what chance gives."""
        above = int(self.data["above_chance"].sum())
        lines = [
            self.title,
            f"  {above} of {self.main.size} features matched above chance "
            f"({self.attributes['null']}, p <= {_SIGNIFICANT})",
            f"  mean {_NAMES[self.attributes['by']]} of matched pairs: {float(self.main.mean()):.3f}, "
            f"by chance {float(self.data['null_mean'].mean()):.3f}",
        ]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])


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
        observations; or activations that hold the site of each dictionary.
    n_null : int
        Draws of the null: for ``decoder``, directions drawn at random with the covariance of those of ``b``; for
        ``activation``, the observations of ``b`` permuted. p is at least ``1 / (n_null + 1)``.
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
    check_option("by", by, tuple(_NAMES))
    if n_null < 19:
        raise OptionError("too few draws to reach p < 0.05", expected="n_null >= 19", got=n_null)
    check_dictionary(a)
    check_dictionary(b)
    if by == "decoder":
        first, second = _unit_decoders(a, b)
    else:
        first, second = _standard_codes(a, b, activations)
    similarity = _similarity(first, second)
    usable = first.norm(dim=1).numpy() > 0, second.norm(dim=1).numpy() > 0
    rows, columns = _matched(similarity)
    kept = usable[0][rows] & usable[1][columns]
    if not kept.any():
        raise InputError("no feature of one dictionary has a direction", expected="decoders that are not zero")
    rows, columns = rows[kept], columns[kept]
    null_mean, null_largest = _null(first, second, by, n_null, generator(seed))
    data = _labelled(similarity, rows, columns, null_mean, null_largest, by)
    notes = [
        f"{int((~alive).sum())} features of the {name} dictionary have no {what}, and no partner"
        for name, alive in zip(("first", "second"), usable, strict=True)
        if not alive.all()
        for what in ("direction" if by == "decoder" else "activation that varies",)
    ]
    return FeatureMatching(
        data,
        f"Features matched by {_NAMES[by]}",
        attributes={"by": by, "null": _NULLS[by], "n_features": [len(first), len(second)], "n_null": n_null},
        provenance=Provenance.record(
            seed=seed, arguments={"a": fingerprint_dictionary(a, None), "b": fingerprint_dictionary(b, None), "by": by}
        ),
        citations=("song2025", "leask2025"),
        warnings=tuple(notes),
    )


def _unit_decoders(a: Any, b: Any) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = decoder_of(a), decoder_of(b)
    if first.shape[1] != second.shape[1]:
        raise InputError(
            "directions in different spaces cannot be compared",
            expected="two dictionaries of inputs of one width",
            got=f"{first.shape[1]} and {second.shape[1]} inputs",
            fix='by="activation", with activations of both sites on the same observations',
        )
    return _unit(first), _unit(second)


def _unit(rows: torch.Tensor) -> torch.Tensor:
    """Return rows of length one; those without a length stay zero."""
    norm = rows.norm(dim=1, keepdim=True)
    return torch.where(norm > 0, rows / norm.clamp(min=torch.finfo(rows.dtype).tiny), torch.zeros_like(rows))


def _standard_codes(a: Any, b: Any, activations: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes by feature ``(n_features, n_observations)``, centred and of length one."""
    if activations is None:
        raise InputError(
            "matching by activation needs activations",
            expected="activations=, rows that both dictionaries encode, or a pair of such rows",
            got="activations=None",
        )
    pair = activations if isinstance(activations, tuple | list) else (activations, activations)
    if len(pair) != 2:
        raise InputError("activations are one array or a pair", expected="2 arrays", got=f"{len(pair)}")
    codes = [_codes(one, given) for one, given in zip((a, b), pair, strict=True)]
    if codes[0].shape[1] != codes[1].shape[1]:
        raise InputError(
            "the two dictionaries see different observations",
            expected="rows of the same observations in the same order",
            got=f"{codes[0].shape[1]} and {codes[1].shape[1]} rows",
        )
    return codes[0], codes[1]


@torch.no_grad()
def _codes(sae: Any, activations: Any) -> torch.Tensor:
    site = getattr(sae, "site", None) if isinstance(activations, LabelledTensors) else None
    encoded: list[torch.Tensor] = []
    for batch in row_batches(activations, site):
        try:
            encoded.append(sae.encode(as_taken_by(sae, batch)).double().cpu())
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"a dictionary does not take activations of {batch.shape[1]} units: {error}",
                fix="pass a pair of activations, one for each dictionary",
            ) from error
    codes = torch.cat(encoded).T
    # a constant feature must not leave rounding of its mean behind, which would then be scaled to length one
    varies = codes.amax(1) > codes.amin(1)
    if not varies.any():
        raise InputError(
            "no feature of a dictionary varies over these observations",
            fix="check that the activations are those of its site, and that its features are not dead",
        )
    return _unit(torch.where(varies[:, None], codes - codes.mean(1, keepdim=True), torch.zeros_like(codes)))


def _similarity(first: torch.Tensor, second: torch.Tensor) -> Floats:
    return (first @ second.T).numpy()


def _matched(similarity: Floats) -> tuple[np.ndarray, np.ndarray]:
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(similarity, maximize=True)


def _null(
    first: torch.Tensor, second: torch.Tensor, by: str, n_null: int, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the mean and the largest similarity of matched pairs in each draw of the null."""
    draws = torch_generator(random)
    mean, largest = np.zeros(n_null), np.zeros(n_null)
    for draw in range(n_null):
        if by == "decoder":
            # Gaussian mixtures of the directions: random, but as much of one cone or subspace as they are
            mix = torch.randn(len(second), len(second), generator=draws, dtype=second.dtype)
            unrelated = _unit(mix @ second)
        else:
            unrelated = second[:, torch.randperm(second.shape[1], generator=draws)]
        similarity = _similarity(first, unrelated)
        pairs = similarity[_matched(similarity)]
        mean[draw], largest[draw] = pairs.mean(), pairs.max()
    return mean, largest


def _labelled(
    similarity: Floats, rows: np.ndarray, columns: np.ndarray, null_mean: Floats, null_largest: Floats, by: str
) -> xr.Dataset:
    n_features = len(similarity)
    values, partner, p = np.full(n_features, np.nan), np.full(n_features, -1), np.full(n_features, np.nan)
    values[rows], partner[rows] = similarity[rows, columns], columns
    p[rows] = (1 + (null_largest[:, None] >= values[rows]).sum(0)) / (1 + len(null_largest))
    name = _NAMES[by]
    return xr.Dataset(
        {
            "similarity": ("feature", values, {"units": "", "long_name": name}),
            "partner": ("feature", partner, {"long_name": "matched feature of the second dictionary"}),
            "p": ("feature", p, {"long_name": "p value, for all pairs together"}),
            "above_chance": ("feature", p <= _SIGNIFICANT),
            "null_mean": ("draw", null_mean, {"units": "", "long_name": f"mean {name} by chance"}),
            "null_largest": ("draw", null_largest, {"units": "", "long_name": f"largest {name} by chance"}),
        },
        {"feature": np.arange(n_features)},
    )
