"""Train autoencoders whose sparsity follows from a penalty, until one has the L0 that is asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.features.evaluation.measures import count
from neuros_mechint.features.observations import only_site

if TYPE_CHECKING:
    from neuros_mechint.features.sparse_autoencoder import SparseAutoencoder

PENALISED = ("standard", "gated", "jumprelu")
# The largest factor by which the coefficient changes while the target is not yet between two L0s.
_FIRST_STEP = 4.0
# So many steps in a row may L0 go the wrong way, or stay where it is, within this share of itself.
_MOST_WRONG_STEPS = 2
_MOST_IDLE_STEPS = 4
_IDLE = 0.01


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
        Which site of activations, where there are several.
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
        No coefficient found: the error lists what was tried. The search gives up early where
        a larger coefficient twice makes L0 larger, or never smaller, as in trainings that are too short.
    OptionError
        An architecture without a penalty, or a target that cannot be reached.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> nm.matched_l0("topk", 4, None, None, n_features=16)
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.OptionError: the L0 of 'topk' is what k says, so there is nothing to search
      expected: one of 'standard', 'gated', 'jumprelu'
      to fix:   SparseAutoencoder(16, 'topk', k=4)
    """
    _check_penalised(architecture, target, n_features)
    target = number("target", target, 0, n_features, closed="neither")
    tolerance = number("tolerance", tolerance, 0, 1, closed="neither")
    max_trainings, start = whole("max_trainings", max_trainings), number("start", start, 0, math.inf)
    from neuros_mechint.features.sparse_autoencoder import SparseAutoencoder

    site = only_site(activations, site)
    only_site(held_out, site)  # an unknown one is found before, not after, an hour of training

    def train(coefficient: float) -> tuple[SparseAutoencoder, float]:
        sae = SparseAutoencoder(n_features, architecture, sparsity=coefficient, **settings).fit(activations, site=site)
        return sae, count(sae, held_out, site).l0

    return search_coefficient(train, target, tolerance, start, max_trainings)


def _check_penalised(architecture: str, target: float, n_features: int) -> None:
    if architecture in ("topk", "batchtopk", "matching_pursuit", "matryoshka"):
        expected = "one of " + ", ".join(map(repr, PENALISED))
        call = f"SparseAutoencoder({n_features}, {architecture!r}, k={target})"
        if architecture == "matryoshka":
            call = f"HierarchicalSAE(widths=[..., {n_features}], k={target})"
        raise OptionError(
            f"the L0 of {architecture!r} is what k says, so there is nothing to search", expected=expected, fix=call
        )
    check_option("architecture", architecture, PENALISED)


def search_coefficient(
    train: Callable[[float], tuple[Any, float]], target: float, tolerance: float, start: float, max_trainings: int
) -> Any:
    """Return what ``train(coefficient)`` gives where its L0, which falls with the coefficient, is near the target.

    Raises
    ------
    InputError
        None found, or L0 does not fall as the coefficient grows.

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
        if too_dense is None or too_sparse is None:
            _check_direction(tried, target)
        if too_dense is None:
            coefficient /= _FIRST_STEP
        elif too_sparse is None:
            coefficient *= _FIRST_STEP
        else:
            coefficient = math.sqrt(too_dense * too_sparse)
    raise InputError(
        f"no coefficient found at which L0 is {target:g}",
        expected=f"L0 within {tolerance:.0%} of {target:g}",
        got=_listed(tried),
        fix="train for longer, so that L0 settles: epochs=; or allow a larger tolerance or more trainings",
    )


def _check_direction(tried: Sequence[tuple[float, float]], target: float) -> None:
    """Raise where the last steps, each by a factor of four, did not move L0 as a penalty must."""
    rises = [
        (after - before) / max(before, after, 1e-12) * (1 if coefficient > previous else -1)
        for (previous, before), (coefficient, after) in itertools.pairwise(tried)
    ]
    wrong, idle = rises[-_MOST_WRONG_STEPS:], rises[-_MOST_IDLE_STEPS:]
    if len(wrong) == _MOST_WRONG_STEPS and min(wrong) > _IDLE:
        problem, more = "L0 grows with the penalty", ""
    elif len(idle) == _MOST_IDLE_STEPS and min(idle) > -_IDLE:
        problem, more = "L0 does not fall as the penalty grows", "; or begin elsewhere: start="
    else:
        return
    raise InputError(
        f"{problem}, so that the search does not lead to {target:g}",
        expected="an L0 that falls as the coefficient grows",
        got=_listed(tried),
        fix=f"train for longer, so that the penalty can do its work: epochs={more}",
    )


def _listed(tried: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"L0 {l0:.3g} at coefficient {coefficient:.3g}" for coefficient, l0 in tried)
