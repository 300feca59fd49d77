"""Places in a model: one entry of a site along chosen axes, such as one head or one position."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.edits import Replace
from neuros_mechint.core.errors import SiteError
from neuros_mechint.core.sites import SiteReference, axis_meant


@dataclass(frozen=True)
class Place:
    """One entry of a site.

    Parameters
    ----------
    site : str
        Name of the site as it was captured, maybe with an index.
    entries : mapping of str to int
        Which entry along which axis.

    Examples
    --------
    >>> Place("blocks.0.z", {"head": 2}).name
    'blocks.0.z[head=2]'
    """

    site: str
    entries: Mapping[str, int]

    @property
    def name(self) -> str:
        """The name of this place alone."""
        reference = SiteReference.parse(self.site)
        return str(SiteReference(reference.name, {**reference.index, **self.entries}))


def places_at(activations: Activations, by: Sequence[str]) -> list[Place]:
    """Return every entry of the captured sites along the axes ``by``, the last axis fastest.

    Parameters
    ----------
    activations : Activations
    by : sequence of str
        Axes to take apart; none at all gives each site as a whole.

    Raises
    ------
    SiteError
        A site has no such axis, or is already indexed along it.

    Examples
    --------
    >>> heads = Activations({"z": torch.zeros(1, 5, 2, 3)}, {"z": ("sample", "position", "head", "unit")})
    >>> [place.name for place in places_at(heads, ["head"])]
    ['z[head=0]', 'z[head=1]']
    """
    if len(set(by)) < len(by):
        raise SiteError("`by` names an axis twice", got=tuple(by), fix="name each axis once")
    places: list[Place] = []
    for site in activations:
        axes = [_axis(activations, site, name) for name in by]
        indexed = [name for name in by if name in SiteReference.parse(site).index]
        if indexed:
            raise SiteError(
                f"site {site!r} is already indexed along {indexed[0]!r}, by which it is to be taken apart",
                fix=f"give {SiteReference.parse(site).name!r}, or leave {indexed[0]!r} out of `by`",
            )
        sizes = [range(activations[site].shape[axis]) for axis in axes]
        places += [Place(site, dict(zip(by, entries, strict=True))) for entries in itertools.product(*sizes)]
    return places


def patch(place: Place, activations: Activations) -> Replace:
    """Return the edit that puts captured activations at one place."""
    values = activations[place.site]
    axes = [(_axis(activations, place.site, name), entry) for name, entry in place.entries.items()]
    for axis, entry in sorted(axes, reverse=True):
        values = values.select(axis, entry)
    return Replace(place.name, values)


def as_array(places: Sequence[Place], values: torch.Tensor, by: Sequence[str]) -> xr.DataArray:
    """Return values ``(n_places, n_samples)`` labelled ``(site, *by, sample)``.

    Sites with fewer entries along an axis than others get NaN for those they lack.

    Examples
    --------
    >>> places = [Place("a", {"head": 0}), Place("a", {"head": 1}), Place("b", {"head": 0})]
    >>> as_array(places, torch.ones(3, 4), ["head"]).sizes["head"]
    2
    """
    sites = list(dict.fromkeys(place.site for place in places))
    rank = {site: index for index, site in enumerate(sites)}
    entries = np.array([[rank[place.site], *place.entries.values()] for place in places])
    labelled = np.full((*entries.max(0) + 1, values.shape[1]), np.nan)
    labelled[tuple(entries.T)] = values.double().numpy()
    coords: dict[str, Any] = {name: np.arange(size) for name, size in zip(by, labelled.shape[1:-1], strict=True)}
    return xr.DataArray(labelled, dims=("site", *by, "sample"), coords={"site": sites, **coords})


def _axis(activations: Activations, site: str, name: str) -> int:
    """Return which axis of a site ``name`` is."""
    dims = activations.dims(site)
    name = axis_meant(name, dims)
    if name not in dims or name == "sample":
        raise SiteError(
            f"site {site!r} cannot be taken apart by {name!r}",
            expected="one of " + ", ".join(axis for axis in dims if axis != "sample"),
            fix="give `by`, for example by=() for the site as a whole",
        )
    return dims.index(name)
