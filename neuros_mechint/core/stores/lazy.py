"""Arrays that are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing


class LazyArray(BackendArray):
    """An array that reads only what is asked for, in the form xarray takes from its file formats.

    Parameters
    ----------
    shape : tuple of int
        Shape of the whole array.
    dtype : numpy.dtype
        Type of what ``read`` returns.
    read : callable
        ``read(key)`` returns the selection; ``key`` has one int, slice or index array per axis, each applied
        to its own axis.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        read: Callable[[tuple[Any, ...]], npt.NDArray[Any]],
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._read = read

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def labelled(self, name: str, dims: Sequence[str], attributes: Mapping[str, str]) -> xr.DataArray:
        """Return this array with labels, still unread."""
        lazy = indexing.LazilyIndexedArray(self)
        return xr.DataArray(xr.Variable(dims, lazy, dict(attributes)), name=name)
