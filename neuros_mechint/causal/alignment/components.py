"""Parts of a model to take out, and random parts of the same size and kind beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from neuros_mechint.causal.partners import check_partners
from neuros_mechint.core.ablations import Mean, Resample
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.edits import Edit, Replace, Zero
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.site_names import part_of_dictionary
from neuros_mechint.core.sites import Index, SiteReference

ABLATIONS = ("zero", "mean", "resample", "patch")
_N_DRAWS = 5
_MOST_TRIES = 50
_COUNTED = ("unit", "channel", "head", "kv_head", "feature")
"""Axes whose entries are parts of the model; others (position, time) say where in the input."""


@dataclass(frozen=True)
class Ablation:
    """How parts are taken out.

    Parameters
    ----------
    kind : {"zero", "mean", "resample", "patch"}
    activations : Activations, optional
        What takes the place of the activations, whole sites.
    seed : int
        Of ``resample``.
    """

    kind: str
    activations: Any
    seed: int

    def edits(self, site: str) -> list[Edit]:
        """Return the edit that takes a part out; of ``resample`` several, to be averaged over."""
        if self.kind == "zero":
            return [Zero(site)]
        if self.kind == "mean":
            return [Mean(site, self.activations)]
        if self.kind == "resample":
            return [Resample(site, self.activations, seed=self.seed + draw) for draw in range(_N_DRAWS)]
        reference = SiteReference.parse(site)
        values, dims = self.activations[reference.name], self.activations.dims(reference.name)
        selection = reference.locate(dims, values.shape)
        assert selection is not None  # the whole site is there
        return [Replace(site, selection.pick(values))]


def ablation_of(
    model: Adapter, inputs: Any, source: Any, names: Sequence[str], kind: str, batch_size: int | None, seed: int
) -> Ablation:
    """Return how to take parts out of sites, with the activations that it needs.

    Raises
    ------
    OptionError, InputError
        An unknown kind, or ``patch`` without partners of the inputs.
    """
    check_option("ablation", kind, ABLATIONS)
    if (kind == "patch") and source is None:
        raise InputError("nothing to patch from", expected="source=..., one input for each of the inputs")
    if kind == "patch":
        check_partners(model, inputs, source)
    if kind == "zero":
        return Ablation(kind, None, seed)
    bases = list(dict.fromkeys(SiteReference.parse(name).name for name in names))
    return Ablation(kind, model.capture(inputs if source is None else source, bases, batch_size=batch_size), seed)


def component_names(model: Adapter, ablate: str | Sequence[str]) -> list[str]:
    """Return the parts by name, patterns resolved.

    Raises
    ------
    InputError, SiteError
        None, one named twice, or a site that is not there.
    """
    given = [ablate] if isinstance(ablate, str) else [str(one) for one in ablate]
    parts = (one.partition("[") for one in given)
    names = [name + mark + index for base, mark, index in parts for name in model.sites(base)]
    if not names or len(set(names)) < len(names):
        raise InputError(
            "no parts to take out" if not names else "a part is named twice",
            expected='different sites, such as "blocks.1.z[head=2]"',
            got=given,
        )
    return names


def random_parts(
    model: Adapter, inputs: Any, name: str, n_controls: int, batch_size: int | None, seed: int
) -> list[str]:
    """Return up to ``n_controls`` different parts of the same site, with as many entries and none in common.

    Only features that are active on the inputs stand in for features: those that are silent have no effect by
    construction. Empty where the part is a whole site, or leaves fewer entries than it has.
    """
    reference = SiteReference.parse(name)
    counted = [axis for axis in reference.index if axis in _COUNTED]
    if len(counted) != 1 or not n_controls:
        return []
    axis = counted[0]
    captured: Any = model.capture(inputs, reference.name, batch_size=batch_size)
    values, dims = captured[reference.name], captured.dims(reference.name)
    axis_number = dims.index(axis)
    selection = reference.locate(dims, values.shape)
    assert selection is not None
    own = set(np.arange(values.shape[axis_number])[selection.here[axis_number]].tolist())
    others = [entry for entry in range(values.shape[axis_number]) if entry not in own]
    if part_of_dictionary(reference.name):
        active = (values != 0).movedim(axis_number, -1).flatten(0, -2).any(0)
        others = [entry for entry in others if bool(active[entry])]
    chosen = _sets(others, len(own), n_controls, seed)
    single = isinstance(reference.index[axis], int)
    indices: list[Index] = [one[0] if single else one for one in chosen]
    return [str(SiteReference(reference.name, {**reference.index, axis: index})) for index in indices]


def _sets(entries: Sequence[int], size: int, count: int, seed: int) -> list[tuple[int, ...]]:
    """Return different sets of entries: all there are, or so many drawn ones."""
    if math.comb(len(entries), size) <= count:
        return list(combinations(entries, size))
    random = np.random.default_rng(seed)
    drawn: dict[tuple[int, ...], None] = {}
    for _ in range(_MOST_TRIES * count):
        drawn[tuple(sorted(random.choice(entries, size, replace=False).tolist()))] = None
        if len(drawn) == count:
            break
    return list(drawn)
