"""Rows of the tables in an NWB file: chosen by id, mask or query, with their columns as labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.recordings.conditions import fulfils

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Rows:
    """The chosen rows of an NWB table.

    Parameters
    ----------
    positions : numpy.ndarray
        ``(n_rows,)`` where they stand in the table.
    columns : pandas.DataFrame
        Their columns with one value per row, ``id`` included.
    """

    positions: npt.NDArray[np.int64]
    columns: pd.DataFrame

    def labels(self) -> dict[str, npt.NDArray[Any]]:
        """Return the columns that can be labels: numbers, booleans and text (missing text is empty)."""
        arrays = {str(name): _as_label(column) for name, column in self.columns.items()}
        return {name: values for name, values in arrays.items() if values is not None}


def select_rows(table: Any, rows: Any, name: str) -> Rows:
    """Return the chosen rows of an NWB table.

    Parameters
    ----------
    table : hdmf.common.DynamicTable
        Units, trials or electrodes.
    rows : None, ids, boolean mask or str
        All rows; those with these ids, in this order; those that are True; those that a query finds (`fulfils`).
    name : str
        What the rows are, for messages.

    Returns
    -------
    Rows

    Raises
    ------
    InputError
        If ids are unknown or repeated, a mask has the wrong length, a query fails, or no row is left.
    """
    columns = _flat_columns(table)
    if rows is None:
        positions = np.arange(len(columns))
    elif isinstance(rows, str):
        positions = _query(columns, rows, name)
    else:
        positions = _mask_or_ids(columns["id"].to_numpy(), np.atleast_1d(np.asarray(rows)), name)
    if not positions.size:
        raise InputError(f"no {name} are left", expected="at least one row", got=f"{name}={rows!r}")
    return Rows(positions.astype(np.int64), columns.iloc[positions])


def _flat_columns(table: Any) -> pd.DataFrame:
    """Return the columns with one value per row; spike times and waveforms would fill the memory."""
    ragged = {
        name
        for name in table.colnames
        if type(table[name]).__name__ in ("VectorIndex", "DynamicTableRegion") or np.ndim(table[name].data) > 1
    }
    return table.to_dataframe(exclude=ragged).reset_index()


def _query(columns: pd.DataFrame, query: str, name: str) -> npt.NDArray[np.int64]:
    try:
        return np.flatnonzero(fulfils(query, Rows(np.arange(len(columns)), columns).labels()))
    except InputError as error:
        error.add_note(f"in the query for {name}")
        raise


def _mask_or_ids(ids: npt.NDArray[Any], rows: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    if rows.dtype == bool:
        if rows.shape != ids.shape:
            raise InputError(f"the mask does not fit the {name}", expected=ids.shape, got=rows.shape)
        return np.flatnonzero(rows)
    place = {identity: position for position, identity in enumerate(ids.tolist())}
    wanted = rows.ravel().tolist()
    unknown = [identity for identity in wanted if identity not in place]
    if unknown or len(set(wanted)) < len(wanted):
        raise InputError(
            f"the ids are not those of {name}",
            expected=f"different ids among {ids[:8].tolist()}" + (" and more" if ids.size > 8 else ""),
            got=f"unknown: {unknown[:8]}" if unknown else "repeated ids",
        )
    return np.array([place[identity] for identity in wanted], dtype=np.int64)


def _as_label(column: pd.Series) -> npt.NDArray[Any] | None:
    if column.dtype.kind in "biuf":
        return column.to_numpy()
    missing = column.isna().to_numpy()
    texts = ["" if absent else value for value, absent in zip(column, missing, strict=True)]
    return np.array(texts) if all(isinstance(text, str) for text in texts) else None
