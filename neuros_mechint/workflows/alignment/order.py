"""Whether stimuli that stand beside each other are alike, in a recording and in a layer: then drift looks like a match.

A recording drifts, and stimuli such as the frames of a film change slowly. Both make neighbours alike, and shuffling
stimuli destroys that likeness, so that a test by shuffling finds a match where there is none.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.neuro.alignment.rsa.inference.permutation import null_scores
from neuros_mechint.neuro.alignment.rsa.stack import rdm_stack, vectors
from neuros_mechint.workflows.alignment.results import ChanceLevel, LayerGeometry

Doubted = TypeVar("Doubted", bound=Result)
OF_ORDER = (
    "stimuli that stand beside each other are alike, in the recording and in the layer: if this is the order in which "
    "they were shown, drift of the recording alone gives such a score. Show them in random order to tell the two "
    "apart; of a recording where they were, say so: attrs={'shown_in': 'random order'}"
)
"""What is said where both a recording and a layer follow the order."""


def shown_at_random(attributes: Mapping[Hashable, Any]) -> bool:
    """Return whether the attributes of a recording say that its stimuli were shown in random order.

    Its own order is then one of bookkeeping, by category say, and no drift follows it.
    """
    return attributes.get("shown_in") == "random order"


def with_doubt(found: Doubted, chance: ChanceLevel, layer: str) -> Doubted:
    """Return a result about a layer with the doubt that drift alone may have made it."""
    return replace(found, warnings=(*found.warnings, OF_ORDER)) if chance.doubted(layer) else found


class OrderCheck(NamedTuple):
    """How far dissimilarities follow the distance of stimuli in their order.

    Parameters
    ----------
    layers, layer_p : numpy.ndarray of shape (n_layers,)
        Rank correlation of each layer's dissimilarities with that distance, and how often it is as high in other
        orders.
    recording, recording_p : float
        The same of the recording, the mean over subjects or repetitions.
    """

    layers: Floats
    layer_p: Floats
    recording: float
    recording_p: float


def order_check(layers: LayerGeometry, rdms: Any, n_resamples: int, seed: SeedLike) -> OrderCheck:
    """Return how far dissimilarities of layers and of a recording follow the distance of stimuli in their order.

    No test is offered that is right in spite of it: of independent random walks, shifts of the order along a circle
    call two of three alike, and distance in order as a nuisance most.
    """
    stack = rdm_stack(rdms)
    places = np.arange(stack.n_conditions)
    distance = vectors(np.abs(np.subtract.outer(places, places)).astype(float))[None]
    asked = np.stack([*layers.rdms.values(), stack.pairs.mean(0)])
    score, *drawn = null_scores(asked, distance, "spearman", n_resamples, generator(seed))
    p = p_of_draws(score, drawn)
    return OrderCheck(score[:-1], p[:-1], float(score[-1]), float(p[-1]))
