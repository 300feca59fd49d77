"""What every evaluation is made of: codes counted batch by batch, decoders beside the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.dictionary import as_taken_by, check_dictionary, n_features, taken_apart
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.random import SeedLike, torch_generator
from neuros_mechint.features.observations import row_batches

# Below this share of the squared mean the variance of float32 activations is rounding.
_CONSTANT = 1e-10


@dataclass(frozen=True)
class Counts:
    """What a dictionary does with rows that it was not fitted on.

    Parameters
    ----------
    density : numpy.ndarray of shape (n_features,)
        Share of the observations in which each feature is not zero.
    l0 : float
        Mean number of features per observation.
    explained_variance : float
        As SAELens defines it, over all observations and inputs together.
    n_observations, n_inputs : int
    """

    density: Floats
    l0: float
    explained_variance: float
    n_observations: int
    n_inputs: int

    @property
    def dead_fraction(self) -> float:
        """Share of the features that are zero in every observation."""
        return float((self.density == 0).mean())


@torch.no_grad()
def count(sae: Any, activations: Any, site: str | None = None) -> Counts:
    """Return L0, explained variance and density of a dictionary on activations, by SAELens's calculators.

    Parameters
    ----------
    sae : dictionary of features
    activations : array of shape (n_observations, n_inputs), Activations or ActivationStore
    site : str, optional
        Which site of Activations or a store.

    Raises
    ------
    InputError
        No dictionary, one whose codes of a row depend on other rows, activations of another width, constant, or not
        finite.
    """
    from sae_lens.evals import ExplainedVarianceCalculator
    from sae_lens.synthetic.evals import L0Calculator

    sae = check_dictionary(sae)
    explained, sparsity = ExplainedVarianceCalculator(), L0Calculator()
    active: torch.Tensor | None = None
    origin, unit = torch.zeros(1), 1.0
    for batch in row_batches(activations, site):
        rows = as_taken_by(sae, batch)
        if active is None:
            n_features(sae, rows.shape[1])  # raises where widths differ or rows help each other
            origin, unit = origin_and_unit(rows)
        codes, rebuilt = taken_apart(sae, rows.clone())  # what the dictionary does to it is its own affair
        if not torch.isfinite(rebuilt).all():
            raise InputError("what the dictionary reconstructs is not finite", fix="check its weights")
        explained.add_batch((rebuilt.double() - origin) / unit, (rows.double() - origin) / unit)
        sparsity.add_batch(codes)
        fired = (codes != 0).sum(0).cpu()
        active = fired if active is None else active + fired
    if active is None or explained.sum_x is None or explained.num_samples < 2:
        raise InputError("too few observations", expected="at least two", got=explained.num_samples)
    mean_square = explained.sum_squared_norm / explained.num_samples
    mean = explained.sum_x / explained.num_samples
    size = float((mean + origin / unit).square().sum())
    if mean_square - float(mean.square().sum()) <= _CONSTANT * max(size, mean_square):
        raise InputError(
            "the activations are constant, so there is no variance to explain",
            expected="observations that differ",
            fix="check the site and that the inputs differ",
        )
    return Counts(
        active.double().numpy() / explained.num_samples,
        sparsity.compute(),
        explained.compute(),
        explained.num_samples,
        mean.numel(),
    )


def origin_and_unit(rows: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the mean of rows and the size of their differences, in which shares of variance lose no digits.

    Shares depend on neither, but sums of squares around zero do on a large mean, and fixed tolerances on units.
    """
    exact = rows.double()
    origin = exact.mean(0)
    spread = float((exact - origin).square().mean().sqrt())
    return origin, spread or 1.0


def decoder_of(sae: Any) -> torch.Tensor:
    """Return the directions of the features, ``(n_features, n_inputs)``, in double precision on the CPU.

    Raises
    ------
    InputError
        The object has neither ``decoder`` nor SAELens's ``W_dec``, or they are no matrix of finite numbers.
    """
    matrix = getattr(sae, "decoder", None)
    if matrix is None or isinstance(matrix, torch.nn.Module):
        matrix = getattr(sae, "W_dec", None)
    if matrix is None:
        raise InputError(
            "this dictionary shows no decoder",
            expected="decoder or W_dec, (n_features, n_inputs)",
            got=type(sae).__name__,
            fix='give the directions themselves; match_features(by="activation") needs none',
        )
    return directions(matrix, "the decoder")


def directions(matrix: Any, what: str) -> torch.Tensor:
    """Return a matrix of directions in double precision, or raise `InputError` that names it as ``what``."""
    tensor = matrix.detach() if isinstance(matrix, torch.Tensor) else torch.as_tensor(np.asarray(matrix))
    tensor = tensor.double().cpu()
    if tensor.ndim != 2 or not tensor.numel() or not torch.isfinite(tensor).all():
        raise InputError(
            f"{what} is no matrix of directions",
            expected="finite numbers of shape (n_features, n_inputs)",
            got=f"shape {tuple(tensor.shape)}",
        )
    return tensor


def unit_rows(matrix: torch.Tensor) -> torch.Tensor:
    """Return rows of length one; those without a length stay zero."""
    lengths = matrix.norm(dim=1, keepdim=True)
    return torch.where(lengths > 0, matrix / lengths.clamp(min=torch.finfo(matrix.dtype).tiny), 0)


@dataclass(frozen=True)
class AgainstTruth:
    """How well the directions of a dictionary recover those that made the data.

    Parameters
    ----------
    mcc : float
        Mean absolute cosine of the best one-to-one matching (SAELens).
    mcc_chance : float
        The same of random directions, as many, the mean over draws.
    mcc_chance_largest : float
        The largest of those draws: with 20 of them, a dictionary that knows nothing is above it once in 21 times.
    max_cosine : numpy.ndarray of shape (n_true,)
        Largest absolute cosine of each true direction with any feature.
    """

    mcc: float
    mcc_chance: float
    mcc_chance_largest: float
    max_cosine: Floats


def against_truth(decoder: torch.Tensor, truth: Any, n_draws: int = 20, seed: SeedLike = 0) -> AgainstTruth:
    """Return how well a decoder ``(n_features, n_inputs)`` recovers the true directions ``(n_true, n_inputs)``.

    Raises
    ------
    InputError
        True directions of another width, or zero.
    """
    from sae_lens.synthetic import mean_correlation_coefficient
    from sae_lens.util import cosine_similarities

    true = directions(truth, "the true dictionary")
    if true.shape[1] != decoder.shape[1]:
        raise InputError(
            "the true dictionary is of another width",
            expected=f"(n_true, {decoder.shape[1]})",
            got=f"shape {tuple(true.shape)}",
            fix="one true direction per row: transpose it?",
        )
    if (true.norm(dim=1) == 0).any():
        raise InputError("a true direction is zero", expected="directions", fix="leave it out")
    true, decoder = unit_rows(true), unit_rows(decoder)  # SAELens compares lengths with fixed tolerances
    random = torch_generator(seed)
    draws = (torch.randn(decoder.shape, generator=random, dtype=torch.float64) for _ in range(n_draws))
    chance = [mean_correlation_coefficient(draw, true) for draw in draws]
    return AgainstTruth(
        mean_correlation_coefficient(decoder, true),
        float(np.mean(chance)),
        max(chance),
        cosine_similarities(true, decoder).abs().amax(1).cpu().numpy(),
    )


def count_variables(counts: Counts) -> dict[str, Any]:
    """Return what was counted as labelled variables ``(axes, value, attributes)``."""

    def share(name: str) -> dict[str, str]:
        return {"units": "fraction", "long_name": name}

    return {
        "density": ("feature", counts.density, share("density of the feature")),
        "l0": ((), counts.l0, {"units": "features per observation", "long_name": "L0"}),
        "explained_variance": ((), counts.explained_variance, share("variance explained")),
        "dead_fraction": ((), counts.dead_fraction, share("share of features that is dead")),
    }


def truth_variables(found: AgainstTruth) -> dict[str, Any]:
    """Return the recovery of the truth as labelled variables ``(axes, value, attributes)``."""
    one = {"units": ""}
    name = "largest cosine with any feature"
    return {
        "mcc": ((), found.mcc, {**one, "long_name": "mean cosine with the truth (MCC)"}),
        "mcc_chance": ((), found.mcc_chance, {**one, "long_name": "MCC of random directions"}),
        "mcc_chance_largest": (
            (),
            found.mcc_chance_largest,
            {**one, "long_name": "largest MCC of a draw of random directions"},
        ),
        "mean_max_cosine": ((), found.max_cosine.mean(), {**one, "long_name": f"mean {name}"}),
        "max_cosine": ("true_feature", found.max_cosine, {**one, "long_name": name}),
    }
