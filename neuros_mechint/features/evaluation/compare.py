"""Compare sparse autoencoders, at matched sparsity only: more active features always explain more variance."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.dictionary import fingerprint_dictionary
from neuros_mechint.core.errors import InputError, OptionError, check_option
from neuros_mechint.core.plotting import PALETTE, axis_label
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

    from neuros_mechint.features.sparse_autoencoder import SparseAutoencoder

PENALISED = ("standard", "gated", "jumprelu")
# The largest factor by which the coefficient changes while the target is not yet between two L0s.
_FIRST_STEP = 4.0


class SAEComparison(Result):
    """Sparse autoencoders beside each other on the same held-out activations.

    ``data`` holds, over ``(sae,)``: ``rank`` (1 is best; NaN where L0 is not matched), ``l0``, ``explained_variance``,
    ``dead_fraction``, and with a true dictionary ``mcc``, ``mcc_chance`` and ``mean_max_cosine``.
    """

    @property
    def matched(self) -> bool:
        """Whether the autoencoders are equally sparse, so that they can be ranked."""
        return bool(np.isfinite(self.main.values).all())

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 3.6

    def _draw(self, ax: Axes) -> None:
        l0, score = self.data["l0"].values, self.data[self.attributes["ranked_by"]]
        for index, name in enumerate(self.data["sae"].values):
            colour = PALETTE[index % len(PALETTE)]
            ax.scatter(l0[index], score.values[index], color=colour, s=45, label=str(name), zorder=3)
        ax.set_xscale("log")
        ax.set_xlabel(axis_label(self.data["l0"]))
        ax.set_ylabel(axis_label(score))
        ax.grid(axis="both")
        for set_formatter in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
            set_formatter("{x:g}")  # L0 is read as a number, not as a power of ten
        title = None if self.matched else "L0 not matched:\nno ranking"
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title=title)


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
    features mean. `matched_l0` trains an autoencoder of a given L0.

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
    site = site if site is not None else getattr(next(iter(saes.values())), "site", None)
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
    rank, notes = _ranked(columns[ranked_by][1], columns["l0"][1], max_l0_ratio)
    for text in notes:
        warnings.warn(text, stacklevel=2)
    variables = {"rank": ("sae", rank, {"long_name": f"rank by {ranked_by}"})} | columns
    prints = {name: fingerprint_dictionary(sae, None) for name, sae in saes.items()}
    return SAEComparison(
        xr.Dataset(variables, {"sae": list(saes)}),
        f"Sparse autoencoders on {next(iter(counts.values())).n_observations} observations",
        attributes={"ranked_by": ranked_by, "max_l0_ratio": max_l0_ratio, "site": site},
        provenance=Provenance.record(seed=seed, arguments={"saes": prints, "site": site}),
        citations=("gao2024", "karvonen2025"),
        warnings=tuple(notes),
    )


def _ranked(score: np.ndarray, l0: np.ndarray, max_ratio: float) -> tuple[np.ndarray, list[str]]:
    """Return ranks, 1 for the highest score, or NaN and the reason where L0 differs."""
    if l0.min() <= 0:
        return np.full(score.shape, np.nan), ["not ranked: one has no active feature"]
    ratio = l0.max() / l0.min()
    if ratio > max_ratio:
        return np.full(score.shape, np.nan), [
            f"not ranked: L0 differs by a factor of {ratio:.2f}, from {l0.min():.3g} to {l0.max():.3g}, and at most "
            f"{max_ratio:g} can be compared; train at one L0 with matched_l0"
        ]
    return 1.0 + (score[:, None] < score).sum(1), []


def matched_l0(
    architecture: str,
    target: float,
    activations: Any,
    held_out: Any,
    *,
    n_features: int,
    site: str | None = None,
    tolerance: float = 0.04,
    start: float = 1.0,
    max_trainings: int = 12,
    **settings: Any,
) -> SparseAutoencoder:
    """Train autoencoders of a penalised architecture until one has a given L0 on held-out activations.

    The sparsity coefficient is stepped until the target lies between two L0s, and then halved in on, on a logarithmic
    scale. Architectures with ``k`` have their L0 by construction.

    Parameters
    ----------
    architecture : {"standard", "gated", "jumprelu"}
        One whose L0 follows from a penalty.
    target : float
        Features active per observation, for example the ``k`` of a TopK autoencoder.
    activations, held_out : array of shape (n_observations, n_inputs), Activations or ActivationStore
        What it is fitted on, and what its L0 is measured on.
    n_features : int
        Size of the dictionary.
    site : str, optional
        Which site of activations.
    tolerance : float
        How far L0 may be from the target, as a fraction of it. Two that are each within 0.04 differ by a factor of
        less than 1.1, which is what `compare_saes` allows.
    start : float
        The coefficient to begin with.
    max_trainings : int
        When to give up.
    **settings
        For `SparseAutoencoder`.

    Returns
    -------
    SparseAutoencoder
        Fitted.

    Raises
    ------
    InputError
        A target out of range, or no coefficient found: the error lists what was tried.
    OptionError
        An architecture without a penalty.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> nm.matched_l0("topk", 4, None, None, n_features=16)
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.OptionError: unknown architecture 'topk'
      expected: one of 'standard', 'gated', 'jumprelu'
    """
    check_option("architecture", architecture, PENALISED)
    if not 0 < target < n_features:
        raise InputError("no such L0", expected=f"between 0 and {n_features} features", got=target)
    if not 0 < tolerance < 1 or max_trainings < 1 or start <= 0:
        raise OptionError(
            "the search cannot begin",
            expected="tolerance between 0 and 1, start > 0, max_trainings >= 1",
            got=f"tolerance={tolerance}, start={start}, max_trainings={max_trainings}",
        )
    from neuros_mechint.features.sparse_autoencoder import SparseAutoencoder

    def train(coefficient: float) -> tuple[SparseAutoencoder, float]:
        sae = SparseAutoencoder(n_features, architecture, sparsity=coefficient, **settings).fit(activations, site=site)
        return sae, count(sae, held_out, site).l0

    return search_coefficient(train, target, tolerance, start, max_trainings)


def search_coefficient(
    train: Callable[[float], tuple[Any, float]], target: float, tolerance: float, start: float, max_trainings: int
) -> Any:
    """Return what ``train(coefficient)`` gives where its L0, which falls with the coefficient, is near the target.

    Examples
    --------
    >>> found = search_coefficient(lambda c: (c, 10 / c), target=2, tolerance=0.01, start=1.0, max_trainings=20)
    >>> bool(abs(10 / found - 2) <= 0.02)
    True
    """
    tried: list[tuple[float, float]] = []
    too_dense: float | None = None
    too_sparse: float | None = None
    coefficient = start
    for _ in range(max_trainings):
        sae, l0 = train(coefficient)
        tried.append((coefficient, l0))
        if abs(l0 - target) <= tolerance * target:
            return sae
        if l0 > target:
            too_dense = coefficient
        else:
            too_sparse = coefficient
        if too_dense is None:
            coefficient /= _FIRST_STEP
        elif too_sparse is None:
            coefficient *= _FIRST_STEP
        else:
            coefficient = math.sqrt(too_dense * too_sparse)
    raise InputError(
        f"no coefficient found at which L0 is {target:g}",
        expected=f"L0 within {tolerance:.0%} of {target:g}",
        got=", ".join(f"{l0:.3g} at {coefficient:.3g}" for coefficient, l0 in tried),
        fix="train for longer, so that L0 settles; allow a larger tolerance or more trainings",
    )
