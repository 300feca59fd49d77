"""What activation patching found: the metric at every place, and what fraction of the difference it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neuros_mechint.causal.partners import difference_between
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.plotting import draw
from neuros_mechint.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def as_picture(values: xr.DataArray) -> xr.DataArray:
    """Return values ``(site, ...)`` in at most two dimensions; the first ones become rows, named by all of them.

    Examples
    --------
    >>> by_head = xr.DataArray(np.zeros((1, 2, 3)), {"site": ["z"], "head": [0, 1]}, ("site", "head", "position"))
    >>> as_picture(by_head)["place"].values.tolist()
    ['z, head 0', 'z, head 1']
    """
    picture = values.squeeze([axis for axis in values.dims[1:] if values.sizes[axis] == 1])
    if picture.ndim <= 2:
        return picture
    rows = picture.dims[:-1]
    places = picture.stack(place=rows).transpose("place", ...)
    names = [
        ", ".join(str(entry) if axis == "site" else f"{axis} {entry}" for axis, entry in zip(rows, place, strict=True))
        for place in places["place"].values
    ]
    return places.drop_vars(["place", *rows]).assign_coords(place=names)


class PatchingEffects(Result):
    """The metric after patching, for each site and index.

    ``data`` holds ``metric`` over ``(site, ...)``, ``per_sample`` over ``(site, ..., sample)`` and the two baselines
    ``clean`` and ``corrupted`` over ``(sample,)``.
    """

    @property
    def values(self) -> xr.DataArray:
        """Mean metric after patching, ``(site, ...)``."""
        return self.data["metric"]

    @property
    def clean(self) -> float:
        """Mean metric of the clean run."""
        return float(self.data["clean"].mean())

    @property
    def corrupted(self) -> float:
        """Mean metric of the corrupted run."""
        return float(self.data["corrupted"].mean())

    def normalized(self) -> xr.DataArray:
        """Return ``(patched - corrupted) / (clean - corrupted)``: 0 changes nothing, 1 restores the clean run.

        Raises
        ------
        InputError
            Clean and corrupted hardly differ in the metric, so that the ratio would be noise.
        """
        normalized = (self.values - self.corrupted) / difference_between(self.clean, self.corrupted)
        return normalized.assign_attrs(units="fraction of the difference", long_name="effect")

    def _draw(self, ax: Axes) -> None:
        try:
            shown = self.normalized()
        except InputError:
            shown = self.values
        draw(as_picture(shown).to_dataset(name="effect"), ax)

    def _summary_lines(self) -> list[str]:
        """Return the baselines and the largest effects."""
        difference = self.clean - self.corrupted
        changes = (self.values - self.corrupted).stack(place=self.values.dims)
        order = np.argsort(-np.abs(np.nan_to_num(changes.values)))[:5]
        lines = [
            f"run that was patched from: {self.clean:.4g}",
            f"run that was patched into: {self.corrupted:.4g}",
            "largest changes of the metric, and what part of the difference they are:",
        ]
        for one in order:
            entries = zip(self.values.dims, np.atleast_1d(changes["place"].values[one]), strict=True)
            place = ", ".join(str(entry) if axis == "site" else f"{axis} {entry}" for axis, entry in entries)
            change = float(changes.values[one])
            share = f" ({change / difference:.1%})" if difference else ""
            lines.append(f"  {place}: {change:+.4g}{share}")
        return lines
