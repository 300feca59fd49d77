"""What stands under the figures of comparing a model with a recording."""

from __future__ import annotations

from neuros_mechint.workflows.alignment.results import LayerGeometry

_P_OF_RSA = (
    "The p of a layer asks whether its score would differ from zero with other stimuli than these (and, of several "
    "subjects, in others than these), adjusted for the number of layers (fdr, by Benjamini and Hochberg's method); it "
    "is not the p of shuffled stimuli."
)
_P_OF_CORRELATIONS = (
    "The p of a layer asks how often its first pair of directions correlates as much with shuffled stimuli, adjusted "
    "for the number of layers by Holm's method."
)
_NO_INTERVAL = "Scores have no interval here: that one layer is a little higher than the next is not tested."
_COLUMNS_OF_CHANCE = (
    "In the table, typical is the median score with shuffled stimuli, and high the score that 95% of them stay below. "
    "The column order is the rank correlation of a layer's dissimilarities with how far apart stimuli stand in the "
    "order of the recording, and order_p how often it is as high in other orders: where it is small, and in the "
    "recording too, drift alone can look like a match."
)
_BAND = "The band is the noise ceiling: what a perfect model would reach at least (lower) and at most (upper)."
_RING = "A ring marks layers that were chosen, without the part they are judged on."
_ONE_MEASUREMENT = "There is one measurement, so that it is not known what a perfect model would reach."
_AGAINST_CEILINGS = (
    "A score is to be read against both ceilings: far below the upper one there is more to explain, and above the "
    "lower one a model does as well as other brains."
)


def captions(layers: LayerGeometry, n_rdms: int) -> dict[str, str]:
    """Return the captions of all steps, by step.

    Parameters
    ----------
    layers : LayerGeometry
        How many there are, and their dissimilarity, is told.
    n_rdms : int
        How many matrices the recording has: of one there is no noise ceiling.
    """
    by, ceilings, alone = layers.distance, n_rdms > 1, len(layers.rdms) == 1
    each, best = ("the", "it") if alone else ("each", "the best of all layers")
    return {
        "layers": f"Dissimilarities ({by}) of all pairs of stimuli in {each} layer, by their rank.",
        "choice": _joined(
            f"How like the recording {each} layer is, by RSA ({by}).",
            _BAND if ceilings else "",
            "" if alone else _RING,
            "" if ceilings else _ONE_MEASUREMENT,
        ),
        "rsa": _joined(
            f"The same ({by}) with 95% intervals{'' if ceilings else ' over stimuli'}.",
            _AGAINST_CEILINGS if ceilings else "",
            _P_OF_RSA,
        ),
        "chance": f"Scores ({by}) when the stimuli of the recording are shuffled: a negative control. Its p asks "
        f"whether these stimuli are matched at all: how often {best} is as good when each stimulus is taken for "
        f"another. {_COLUMNS_OF_CHANCE}",
        "correlations": _joined(
            "Held-out correlation of the directions that layer and recording share.",
            _P_OF_CORRELATIONS,
            "" if alone else _NO_INTERVAL,
        ),
        "encoding": f"How well {each} layer predicts the responses to stimuli that were left out.",
        "measures": "The score of every layer by every measure; a star marks the best layer of each. Measures have "
        "different scales: compare where they are highest, not how high.",
        "complexity": "Whether signals of the model are as complex in time as those of the recording.",
        "in_short": _in_short(by, ceilings, alone),
    }


def _in_short(by: str, ceilings: bool, alone: bool) -> str:
    shown = [f"the {'' if alone else 'best '}layer", "what 95% of shuffled stimuli stay below there"]
    shown += [] if alone else ["the layers chosen without what they are judged on"]
    shown += ["the noise ceiling"] if ceilings else []
    *first, last = shown
    return f"By RSA ({by}): {', '.join(first)}, and {last}."


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))
