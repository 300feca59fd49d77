"""Brain recordings: sites that can be read, and nothing to edit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from neuros_mechint.adapters.base import BaseAdapter, Dims, Edits, Tensors
from neuros_mechint.adapters.batches import Batch, check_batch_size
from neuros_mechint.adapters.labelling import Labels
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.core.fingerprint import fingerprint_array
from neuros_mechint.core.sites import Site, SiteTable

if TYPE_CHECKING:
    import xarray as xr

    from neuros_mechint.core.recordings.recording import Recording


class RecordingAdapter(BaseAdapter):
    """Adapter for a `Recording`: the site ``data``, and ``region.NAME`` for each region of its units.

    ``capture(None, ...)`` returns every observation; a list of labels of the first axis picks some of them.

    Parameters
    ----------
    recording : Recording
        Used as it is.

    Examples
    --------
    >>> import numpy as np, neuros_mechint as nm
    >>> recording = nm.Recording(np.zeros((3, 2)), dims=("stimulus", "unit"))
    >>> RecordingAdapter(recording).capture(None, "data")["data"].shape
    torch.Size([3, 2])
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def __repr__(self) -> str:
        sizes = " x ".join(f"{axis}={size}" for axis, size in self._data.sizes.items())
        return f"RecordingAdapter({sizes})"

    @property
    def _data(self) -> xr.DataArray:
        return self.recording.xarray()

    @property
    def capabilities(self) -> frozenset[str]:
        """Capture; and time where the recording has it."""
        return frozenset({"capture"} | ({"time"} if "time" in self._data.dims else set[str]()))

    def fingerprint(self) -> str:
        """Return a hash of the recorded values."""
        return fingerprint_array(self._data)

    def _prepare(self, inputs: Any) -> Batch:
        data = self._data
        axis = str(data.dims[0])
        if inputs is not None:
            labels = [inputs] if isinstance(inputs, str) or not isinstance(inputs, Iterable) else list(inputs)
            known: list[Any] = list(data[axis].values) if axis in data.coords else list(range(data.sizes[axis]))
            missing = [label for label in labels if label not in known]
            if missing or not labels:
                raise InputError(
                    f"the recording has no such {axis}",
                    expected=f"None for all, or labels of its axis {axis!r}",
                    got=", ".join(map(repr, missing[:5])) or "an empty list",
                )
            data = data.isel({axis: [known.index(label) for label in labels]})
        return Batch((data,), {}, data.shape[0], 0, 0, data.shape[0])

    def _table(self, wanted: Sequence[str], batch: Batch | None) -> SiteTable:
        dims = tuple(str(axis) for axis in self._data.dims)
        names = ["data", *(f"region.{region}" for region in self.recording.regions)]
        sites = []
        for order, name in enumerate(names):
            shape = tuple(self._pick(self._data, name).shape)
            sites.append(Site(name, "Recording.data", dims, shape, order=order, check="recorded"))
        return SiteTable(sites, title=f"sites of {self!r}")

    def _execute(self, batch: Batch, edits: Edits, capture: Sequence[str]) -> tuple[Any, Tensors, Dims]:
        (data,) = batch.args
        tensors = {name: torch.from_numpy(self._pick(data, name).values.copy()) for name in capture}
        return data, tensors, dict.fromkeys(capture, tuple(str(axis) for axis in data.dims))

    def _pick(self, data: xr.DataArray, name: str) -> xr.DataArray:
        if name == "data":
            return data
        return data.isel(unit=data["region"].values == name.removeprefix("region."))

    def _progress(self, batch: Batch, batch_size: int | None, description: str) -> Iterable[Batch]:
        check_batch_size(batch_size)
        return [batch]  # the data are in memory already

    def _labels(self, name: str, batch: Batch) -> Labels:
        (data,) = batch.args
        return {str(axis): list(data[axis].values) for axis in data.dims if axis in data.coords and axis != "unit"}

    def _cannot(self, capability: str) -> CapabilityError:
        return CapabilityError(
            f"a recording has been made already: it can be read, but it offers no {capability!r}",
            expected="a model that runs",
            fix="edit a model of the recorded system, or select part of the recording with Recording.select",
        )
