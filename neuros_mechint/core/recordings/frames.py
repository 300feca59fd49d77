"""Tables of responses: a pandas DataFrame with its rows and columns as labels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FRAME_DIMS = ("stimulus", "unit")


def is_frame(values: Any) -> TypeGuard[pd.DataFrame]:
    """Return whether values are a pandas DataFrame, without importing pandas where nobody has.

    Examples
    --------
    >>> is_frame([[1.0]])
    False
    """
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(values, pandas.DataFrame)


def labelled_frame(frame: pd.DataFrame, dims: Sequence[str] = FRAME_DIMS) -> xr.DataArray:
    """Return a table as a labelled array: its index names the rows, its columns the entries of the other axis.

    Parameters
    ----------
    frame : pandas.DataFrame
        Of numbers only. An index or columns that count from 0, as pandas makes them by itself, name nothing.
    dims : sequence of str
        Of rows and columns.

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    InputError
        Columns that are no numbers, labels of several levels, or not two dims.

    Examples
    --------
    >>> import pandas as pd
    >>> labelled_frame(pd.DataFrame({"a": [1.0, 2.0]}, index=["face", "house"])).stimulus.values.tolist()
    ['face', 'house']
    """
    if isinstance(dims, str) or len(dims) != 2:
        raise InputError("a table has two axes", expected="dims of rows and columns", got=repr(dims))
    wrong = [str(name) for name, kind in frame.dtypes.items() if getattr(kind, "kind", "O") not in "biuf"]
    if wrong:
        raise InputError(
            "the table has columns that are no numbers",
            expected="numbers, with the names of rows in the index",
            got=f"columns {', '.join(wrong[:5])}" + (f", ... ({len(wrong)} in all)" if len(wrong) > 5 else ""),
            fix=f"frame.set_index({wrong[0]!r}), if this column names the rows; else leave it out",
        )
    values = frame.to_numpy(dtype=float, na_value=np.nan) if frame.isna().any(axis=None) else frame.to_numpy()
    coords = {axis: _labels(index, axis) for axis, index in zip(dims, (frame.index, frame.columns), strict=True)}
    return xr.DataArray(values, {axis: one for axis, one in coords.items() if one is not None}, tuple(dims))


def _labels(index: pd.Index, axis: str) -> npt.NDArray[Any] | None:
    if index.nlevels > 1:
        raise InputError(
            f"the {axis} labels of the table have {index.nlevels} levels",
            expected="one label for each",
            got=", ".join(map(str, index.names)),
            fix="an xarray.DataArray holds several coordinates along one axis",
        )
    found = index.to_list()
    if found == list(range(len(found))):
        return None
    return np.array([str(one) for one in found]) if any(isinstance(one, str) for one in found) else index.to_numpy()
