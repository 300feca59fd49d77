"""Attributions as a result: labelled, checked for completeness, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.plotting import bars, draw, figure_size
from neuros_mechint.core.formatting import format_value
from neuros_mechint.core.result import Result
from neuros_mechint.core.sites import axis_meant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BARS = 60
_SUMMED_FIRST = ("unit", "feature", "channel", "key")
"""Axes summed over where there are too many to draw: attributions add up."""
_HORIZONTAL = ("position", "time", "query", "width")


class Attribution(Result):
    """How much each entry of a site contributes to a metric, per sample.

    ``data`` holds ``attribution`` over ``(sample, ...)``; over ``(sample,)``, or as single numbers where the metric is
    one number for all samples, ``metric``, ``metric_at_baseline``, the ``residual``, which is the difference of these
    two minus the sum of the attributions, and ``relative_residual``, its size as a fraction of the difference (NaN
    where that is 0). Methods with random draws add ``standard_error``, shaped like the attributions.
    """

    @property
    def values(self) -> xr.DataArray:
        """Attributions, ``(sample, ...)``."""
        return self.data["attribution"]

    @property
    def complete(self) -> bool:
        """Whether the attributions of every sample add up to the difference of the metric, within the tolerance."""
        return bool(self.attributes["complete"])

    def by(self, *axes: str) -> xr.DataArray:
        """Return attributions summed over all axes but the samples and ``axes``: they add up to the same total.

        Parameters
        ----------
        *axes : str
            Axes to keep, e.g. ``"position"``.

        Returns
        -------
        xarray.DataArray
            ``(sample, *axes)``.

        Raises
        ------
        InputError
            An axis that the attributions do not have.
        """
        dims = [str(axis) for axis in self.values.dims]
        kept = ["sample", *(axis_meant(axis, dims) for axis in axes if axis != "sample")]
        if missing := [axis for axis in kept if axis not in dims]:
            raise InputError(f"no axis {missing[0]!r}", expected="some of " + ", ".join(dims))
        return self.values.sum([axis for axis in dims if axis not in kept], keep_attrs=True).transpose(*kept)

    def for_sample(self, sample: int) -> Attribution:
        """Return the attributions of one sample, which are drawn with their signs.

        Raises
        ------
        InputError
            There is no such sample.
        """
        n_samples = self.values.sizes["sample"]
        if not -n_samples <= sample < n_samples:
            raise InputError("no such sample", expected=f"between {-n_samples} and {n_samples - 1}", got=sample)
        one = self.data.isel(sample=[sample])
        title = f"{self.title}, sample {one['sample'].item()}"
        return Attribution(one, title, self.attributes, self.provenance, self.citations, self.warnings)

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the drawing."""
        return figure_size(self._shown().to_dataset(name="attribution"))

    def _shown(self) -> xr.DataArray:
        """Return what is drawn: at most two axes, signed for one sample and the mean absolute value for several."""
        shown = self.values
        long = [axis for axis in shown.dims if axis != "sample" and shown.sizes[axis] > 1]
        summed = [axis for axis in _SUMMED_FIRST if axis in long] + [a for a in long[::-1] if a not in _SUMMED_FIRST]
        summed = summed[: max(0, len(long) - 2)]
        shown = shown.sum(summed, keep_attrs=True)
        name = f"attribution summed over {' and '.join(map(str, summed))}" if summed else "attribution"
        if shown.sizes["sample"] > 1:
            shown, name = abs(shown).mean("sample", keep_attrs=True), f"mean absolute {name}"
        else:
            shown = shown.isel(sample=0, drop=True)
        single = [axis for axis in shown.dims if shown.sizes[axis] == 1][: max(0, shown.ndim - 1)]
        shown = shown.squeeze(single, drop=True)
        if shown.ndim == 2 and shown.dims[0] in _HORIZONTAL and shown.dims[1] not in _HORIZONTAL:
            shown = shown.T
        return shown.assign_attrs(long_name=name)

    def _draw(self, ax: Axes) -> None:
        shown = self._shown()
        if shown.ndim == 1 and shown.size <= _MOST_BARS:
            bars(shown, ax)
        else:
            draw(shown.to_dataset(name="attribution"), ax)

    def _summary_lines(self) -> list[str]:
        """Return the metric, how complete the attributions are, and the largest of them."""
        data = self.data
        units = str(self.values.attrs.get("units", ""))
        lines = [
            f"metric of the input: {format_value(float(data['metric'].mean()))} {units}".rstrip(),
            f"metric of the baseline: {format_value(float(data['metric_at_baseline'].mean()))} {units}".rstrip(),
            f"missing from the difference, at most: {float(abs(data['residual']).max()):.2g}"
            f" ({float(data['relative_residual'].max()):.2g} of it)",
            "largest mean absolute attributions:",
        ]
        mean = abs(self.values).mean("sample")
        flat = mean.stack(place=mean.dims) if mean.ndim else mean.expand_dims(place=["all"])
        for entry in np.argsort(-flat.values, kind="stable")[:5]:
            labels = np.atleast_1d(np.asarray(flat["place"].values[entry], dtype=object))
            place = ", ".join(f"{axis}={label}" for axis, label in zip(mean.dims, labels, strict=False))
            lines.append(f"  {place or 'site'}: {float(flat.values[entry]):.4g}")
        return lines
