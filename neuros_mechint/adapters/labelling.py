"""Labels of captured activations, where the model knows them: times in seconds, synapses, stimuli."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.sites import SiteReference

Labels = Mapping[str, Sequence[Any]]
"""Of the entries along axes of a whole site."""


def labelled(activations: Activations, labels_of: Callable[[str], Labels]) -> Activations:
    """Return activations with the labels of their sites along axes on which all of them agree.

    Parameters
    ----------
    activations : Activations
        Of whole sites, or of parts that their names tell.
    labels_of : callable
        ``labels_of(name)`` gives the labels of a whole site.

    Examples
    --------
    >>> import torch
    >>> part = Activations({"E.v[time=2:4]": torch.zeros(1, 2)}, {"E.v[time=2:4]": ("trial", "time")})
    >>> labelled(part, lambda name: {"time": [0.0, 0.1, 0.2, 0.3]}).coords
    {'time': [0.2, 0.3]}
    """
    found: dict[str, list[list[Any]]] = {}
    for name in activations:
        reference = SiteReference.parse(name)
        for axis, labels in labels_of(reference.name).items():
            if axis in activations.dims(name):
                found.setdefault(axis, []).append(_picked(list(labels), reference.index.get(axis, slice(None))))
    agreed = {axis: of[0] for axis, of in found.items() if all(one == of[0] for one in of)}
    return activations.with_labels(**agreed) if agreed else activations


def _picked(labels: list[Any], index: Any) -> list[Any]:
    return [labels[one] for one in index] if isinstance(index, tuple) else labels[index]
