"""A dictionary of features spliced into an activation: what it explains, what it leaves, and edits of either.

The activation ``x`` becomes ``decode(features) + error`` with ``error = x - decode(encode(x))``. Without edits the
model computes what it computes without the dictionary; an edit of the features leaves the error as it was
(Marks et al. 2024, https://doi.org/10.48550/arXiv.2403.19647).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import torch

from neuros_mechint.core.dictionary import (
    Dictionary,
    as_taken_by,
    check_dictionary,
    fingerprint_dictionary,
    n_features,
    site_of,
    taken_apart,
)
from neuros_mechint.core.directions import feature_axis
from neuros_mechint.core.site_names import DICTIONARY_PARTS, dictionary_site, part_of_dictionary
from neuros_mechint.core.sites import Site, SiteTable

VisitPart = Callable[[str, torch.Tensor, tuple[str, ...]], torch.Tensor]
"""``visit(part, values, dims) -> values``, edited or the same object."""


@dataclass(frozen=True)
class Splice:
    """Which part of which dictionary.

    Parameters
    ----------
    dictionary : Dictionary
        Encodes and decodes.
    part : {"features", "error", "reconstruction"}
    """

    dictionary: Dictionary = field(compare=False)
    part: str


def spliced(
    values: torch.Tensor, dims: tuple[str, ...], dictionary: Dictionary, parts: Collection[str], visit: VisitPart
) -> torch.Tensor:
    """Take an activation apart, let the parts be read and edited, and return what they add up to.

    Parameters
    ----------
    values : torch.Tensor
        The activation.
    dims : tuple of str
        Names of its axes.
    dictionary : Dictionary
        Applied along the axis of units or channels; heads and their units are taken together.
    parts : collection of str
        Which parts to visit.
    visit : callable
        Reads and edits one part.

    Returns
    -------
    torch.Tensor
        The same object where no part was edited.
    """
    axis, own_dims = _axis_of_inputs(dims)
    wide = as_taken_by(dictionary, _inputs_last(values, dims, axis))
    features, reconstruction = taken_apart(dictionary, wide)

    def inputs_first(last: torch.Tensor) -> torch.Tensor:
        return last.movedim(-1, axis).reshape(values.shape).to(values)

    change: torch.Tensor | None = None
    rebuilt = reconstruction
    if "features" in parts:
        placed = features.movedim(-1, axis)
        edited = visit("features", placed, own_dims)
        if edited is not placed:
            rebuilt = dictionary.decode(as_taken_by(dictionary, edited.movedim(axis, -1)))
            change = inputs_first(rebuilt - reconstruction)
    for part in ("reconstruction", "error"):
        if part in parts:
            whole = inputs_first(rebuilt if part == "reconstruction" else wide - reconstruction)
            edited = visit(part, whole, dims)
            if edited is not whole:
                change = edited - whole if change is None else change + (edited - whole)
    return values if change is None else values + change


def _axis_of_inputs(dims: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """Return where the features come to lie, and the names of the axes once they are there."""
    axis = feature_axis(dims, "a dictionary")
    if axis and dims[axis - 1].endswith("head"):
        return axis - 1, (*dims[: axis - 1], "feature", *dims[axis + 1 :])
    return axis, (*dims[:axis], "feature", *dims[axis + 1 :])


def _inputs_last(values: torch.Tensor, dims: tuple[str, ...], axis: int) -> torch.Tensor:
    joined = values.flatten(axis, axis + 1) if dims[axis].endswith("head") else values
    return joined.movedim(axis, -1)


def width_of(site: Site) -> int | None:
    """Return how many inputs a dictionary has at a site, where the table of sites says so."""
    if not site.dims:
        return None
    axis, _ = _axis_of_inputs(site.dims)
    sizes = site.shape[axis : axis + 2] if site.dims[axis].endswith("head") else site.shape[axis : axis + 1]
    return math.prod(size for size in sizes if size is not None) if None not in sizes else None


def host_patterns(wanted: Sequence[str], hosts: Collection[str]) -> list[str]:
    """Return the names to look up so that the sites of dictionaries among ``wanted`` can be told."""
    names: list[str] = []
    for name in wanted:
        matching = [host for host in hosts if any(fnmatchcase(one, name) for one in _names(host))]
        # a module of the model's own may be called "sae" too
        names += matching if matching and part_of_dictionary(name) else [name, *matching]
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Spliced:
    """A dictionary at a site of a model.

    Parameters
    ----------
    dictionary : Dictionary
    n_features : int or None
        ``None`` where the width of the site is not known before it runs.
    fingerprint : str
        Identity of the dictionary and its place.
    """

    dictionary: Dictionary
    n_features: int | None
    fingerprint: str


def splice(dictionary: Any, site: Site, fingerprint_model: Callable[[], str]) -> Spliced:
    """Check that a dictionary fits a site, and warn where it was made for another one.

    Parameters
    ----------
    dictionary : Dictionary
    site : Site
    fingerprint_model : callable
        Gives the identity of the model, which takes time: asked for where the dictionary knows its own.

    Raises
    ------
    InputError
        No dictionary, one of another width, or one whose features of a row depend on other rows.
    """
    dictionary = check_dictionary(dictionary)
    width = width_of(site)
    number = n_features(dictionary, width) if width is not None else None
    made_for = getattr(dictionary, "model_fingerprint", None), site_of(dictionary)
    if made_for[0] is not None and made_for[0] != fingerprint_model():
        warnings.warn("this dictionary was trained on another model, or on other weights of this one", stacklevel=3)
    if made_for[1] is not None and made_for[1] != site.name:
        warnings.warn(f"this dictionary was trained at {made_for[1]!r}, not at {site.name!r}", stacklevel=3)
    return Spliced(dictionary, number, f"with {fingerprint_dictionary(dictionary, width)} at {site.name}")


def with_dictionaries(table: SiteTable, dictionaries: Mapping[str, Spliced]) -> SiteTable:
    """Return a table of sites that also lists the parts of the dictionaries, after the sites they are spliced into.

    Parameters
    ----------
    table : SiteTable
    dictionaries : mapping of str to Spliced
        By site.
    """
    sites: list[Site] = []
    for site in table.values():
        sites.append(site)
        if site.name not in dictionaries:
            continue
        number = dictionaries[site.name].n_features
        for part in DICTIONARY_PARTS:
            name, native = dictionary_site(site.name, part), f"{part} of the dictionary at {site.native}"
            placed = replace(site, name=name, native=native)
            sites.append(_of_features(placed, number) if part == "features" else placed)
    return SiteTable(sites, table.withheld, table.title, table.note)


def _of_features(site: Site, number: int | None) -> Site:
    """Return a site with the axis of features in place of that of its units."""
    if not site.dims:
        return replace(site, heads=None)
    axis, dims = _axis_of_inputs(site.dims)
    after = axis + 1 + (len(site.dims) - len(dims))
    return replace(site, heads=None, dims=dims, shape=(*site.shape[:axis], number, *site.shape[after:]))


def _names(host: str) -> list[str]:
    return [dictionary_site(host, part) for part in DICTIONARY_PARTS]
