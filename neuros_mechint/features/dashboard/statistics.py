"""What is kept of the features while they stream by: counts, extremes, the largest, histograms, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.random import SeedLike, torch_generator
from neuros_mechint.features.dashboard.codes import Codes, Places

N_BINS = 50
"""As many as SAEDashboard draws."""
N_NULL = 19
"""Permutations: the largest correlation of so many is exceeded by chance with probability 1 / 20."""


@dataclass(frozen=True)
class Survey:
    """One pass over all features.

    Parameters
    ----------
    n_observations : int
    fired : numpy.ndarray of shape (n_features,)
        In how many observations each feature is not zero.
    mean : numpy.ndarray of shape (n_features,)
    lowest, highest : numpy.ndarray of shape (n_features,)
        Of the activations that are not zero; infinite where there are none.
    """

    n_observations: int
    fired: npt.NDArray[np.int64]
    mean: Floats
    lowest: Floats
    highest: Floats

    @property
    def varies(self) -> npt.NDArray[np.bool_]:
        """Which features are not constant."""
        always = self.fired == self.n_observations
        return (self.fired > 0) & ~(always & (self.lowest == self.highest))


def survey(codes: Codes) -> Survey:
    """Return counts, means and extremes of all features.

    Raises
    ------
    InputError
        Nothing but padding.
    """
    n_observations, n = 0, codes.n_features
    fired, total = torch.zeros(n, dtype=torch.int64), torch.zeros(n, dtype=torch.float64)
    lowest, highest = torch.full_like(total, torch.inf), torch.full_like(total, -torch.inf)
    for block, _ in progress_bar(codes.blocks(), description="features"):
        active = block != 0
        n_observations += len(block)
        fired += torch.count_nonzero(block, 0)
        total += block.sum(0, dtype=torch.float64)
        lowest = torch.minimum(lowest, torch.where(active, block, torch.inf).amin(0))
        highest = torch.maximum(highest, torch.where(active, block, -torch.inf).amax(0))
    if not n_observations:
        raise InputError("there is nothing to show", expected="positions that are no padding")
    mean = total / n_observations
    return Survey(n_observations, fired.numpy(), mean.numpy(), lowest.numpy(), highest.numpy())


@dataclass(frozen=True)
class Details:
    """A second pass, over the chosen features.

    Parameters
    ----------
    top : numpy.ndarray of shape (n_chosen, n_examples)
        Largest activations that are not zero, in falling order; NaN where there are no more.
    places : numpy.ndarray of shape (n_chosen, n_examples, n_axes)
        Where; -1 where there are no more.
    edges, counts : numpy.ndarray of shape (n_chosen, N_BINS + 1) and (n_chosen, N_BINS)
        Histogram of the activations that are not zero; NaN and 0 where there are none.
    correlation, cosine : numpy.ndarray of shape (n_chosen, n_features)
        Of the activations with those of every feature; NaN where one is constant.
    chance : numpy.ndarray of shape (n_chosen,)
        Largest correlation with another feature in `N_NULL` permutations of the observations.
    """

    top: Floats
    places: Places
    edges: Floats
    counts: npt.NDArray[np.int64]
    correlation: Floats
    cosine: Floats
    chance: Floats


def details(codes: Codes, found: Survey, chosen: Sequence[int], n_examples: int, seed: SeedLike) -> Details:
    """Return examples, histograms and correlations of chosen features."""
    columns = list(chosen)
    top = np.full((len(columns), n_examples), np.nan)
    places = np.full((len(columns), n_examples, len(codes.axes)), -1)
    edges = np.stack([_edges(found.lowest[one], found.highest[one]) for one in columns])
    counts = np.zeros((len(columns), N_BINS), dtype=np.int64)
    together = _Correlations(columns, torch.from_numpy(found.mean), seed)
    for block, here in progress_bar(codes.blocks(), description="examples"):
        values = block[:, columns].double().numpy()
        for index in range(len(columns)):
            active = np.flatnonzero(values[:, index])
            if len(active):
                own = values[active, index]
                counts[index] += np.histogram(own, edges[index])[0]
                top[index], places[index] = _largest(top[index], places[index], own, here[active])
        together.add(block)
    correlation, cosine, chance = together.finish(found)
    return Details(top, places, edges, counts, correlation, cosine, chance)


def _edges(lowest: float, highest: float) -> Floats:
    if not np.isfinite(lowest):
        return np.full(N_BINS + 1, np.nan)
    if lowest == highest:
        lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    return np.linspace(lowest, highest, N_BINS + 1)


def _largest(top: Floats, places: Places, values: Floats, here: Places) -> tuple[Floats, Places]:
    """Return the largest of those known and those new; among equals the earlier ones stay."""
    if len(values) > len(top):
        best = np.argsort(-values, kind="stable")[: len(top)]
        values, here = values[best], here[best]
    everything = np.concatenate([np.where(np.isnan(top), -np.inf, top), values])
    order = np.argsort(-everything, kind="stable")[: len(top)]
    kept = everything[order]
    return np.where(np.isinf(kept), np.nan, kept), np.concatenate([places, here])[order]


class _Correlations:
    """Sums of products of chosen features with all features, as they are and with the observations permuted."""

    def __init__(self, chosen: list[int], mean: torch.Tensor, seed: SeedLike) -> None:
        self._chosen, self._mean = chosen, mean
        self._random = torch_generator(seed)
        self._products = torch.zeros(len(chosen), len(mean), dtype=torch.float64)
        self._permuted = torch.zeros(N_NULL * len(chosen), len(mean), dtype=torch.float64)
        self._squares = torch.zeros_like(mean)

    def add(self, block: torch.Tensor) -> None:
        centred = block.double() - self._mean  # small sums of products of what is centred: no digits are lost
        self._squares += centred.square().sum(0)
        own = centred[:, self._chosen]
        self._products += own.T @ centred
        orders = [torch.randperm(len(own), generator=self._random) for _ in range(N_NULL)]
        permuted = torch.cat([own[order] for order in orders], dim=1)
        self._permuted += permuted.T.float() @ centred.float()  # one product: a thin one for each draw takes longer

    def finish(self, found: Survey) -> tuple[Floats, Floats, Floats]:
        varies = torch.from_numpy(found.varies)
        length = torch.where(varies, self._squares, torch.nan).sqrt()
        scale = length[self._chosen][:, None] * length
        second = self._squares + found.n_observations * self._mean.square()
        raw = self._products + found.n_observations * self._mean[self._chosen][:, None] * self._mean
        cosine = raw / (second[self._chosen][:, None] * second).sqrt()
        null = self._permuted.view(N_NULL, *self._products.shape) / scale
        null[:, range(len(self._chosen)), self._chosen] = torch.nan
        chance = torch.where(null.isnan(), -torch.inf, null).amax((0, 2))
        return (self._products / scale).numpy(), cosine.numpy(), torch.where(chance.isinf(), torch.nan, chance).numpy()
