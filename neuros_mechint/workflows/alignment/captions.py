"""What stands under the figures of comparing a model with a recording."""

from __future__ import annotations

from neuros_mechint.workflows.alignment.results import LayerGeometry

_P_OF_RSA = (
    "The p of a layer asks whether its score would differ from zero with other stimuli than these (and, of several "
    "subjects, in others than these), adjusted for the number of layers; it is not the p of shuffled stimuli."
)
_P_OF_CHANCE = (
    "Its p asks whether these stimuli are matched at all: how often the best of all layers is as good when each "
    "stimulus is taken for another."
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
    by, ceilings = layers.distance, n_rdms > 1
    in_parts = "the layers chosen without what they are judged on"
    return {
        "layers": f"Dissimilarities ({by}) of all pairs of stimuli in each layer, by their rank.",
        "choice": _joined(
            f"How like the recording each layer is, by RSA ({by}).",
            _BAND if ceilings else "",
            _RING,
            "" if ceilings else _ONE_MEASUREMENT,
        ),
        "rsa": _joined(
            f"The same ({by}) with 95% intervals{'' if ceilings else ' over stimuli'}.",
            _AGAINST_CEILINGS if ceilings else "",
            _P_OF_RSA,
        ),
        "chance": f"What the same layers score ({by}) when the stimuli of the recording are shuffled: a negative "
        f"control. {_P_OF_CHANCE}",
        "correlations": "Held-out correlation of the directions that layer and recording share.",
        "encoding": "How well each layer predicts the responses to stimuli that were left out.",
        "measures": "The score of every layer by every measure; a star marks the best layer of each. Measures have "
        "different scales: compare where they are highest, not how high.",
        "complexity": "Whether signals of the model are as complex in time as those of the recording.",
        "in_short": f"By RSA ({by}): the best layer, what 95% of shuffled stimuli stay below there, "
        + (f"{in_parts}, and the noise ceiling." if ceilings else f"and {in_parts}."),
    }


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))
