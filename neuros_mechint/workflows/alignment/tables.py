"""Responses and stimuli from tables: .csv and .npz files, and DataFrames whose rows are stimuli."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.recordings.frames import FRAME_DIMS, labelled_frame
from neuros_mechint.neuro.alignment.rsa.stack import CONDITION_AXES
from neuros_mechint.neuro.alignment.samples import SAMPLE_AXES

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""By the ending of a file; a .csv whose first line has semicolons and no comma is separated by these."""


_CORNERS = ("", *SAMPLE_AXES)


def read_table(path: Path) -> xr.DataArray:
    """Return a .csv or .tsv file, rows stimuli, as `table_of` returns a DataFrame.

    The first row names the units, if it holds a word. The first column names the stimuli, if it holds a word, or is
    called ``stimulus`` or nothing.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    StorageError
        No table, rows of different lengths, or a cell that is no number.
    """
    import pandas as pd

    cells = _cells(path)
    header = _header(cells)
    rows = cells if header is None else cells[1:]
    first = [row[0] for row in rows]
    named = not all(map(_is_number, first)) or (header is not None and header[0] in _CORNERS)
    start = int(named)
    skipped = len(cells) - len(rows)
    values = [
        [_number(path, row[column], skipped + place, column) for column in range(start, len(row))]
        for place, row in enumerate(rows)
    ]
    return table_of(pd.DataFrame(values, _names(first if named else []), _names(header[start:] if header else [])))


def _names(cells: list[str]) -> list[str] | None:
    """Return names, unless there are none or they only count, as pandas writes a table without names."""
    return None if cells == [str(one) for one in range(len(cells))] else cells


def table_of(frame: pd.DataFrame) -> xr.DataArray:
    """Return responses as a labelled array.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows are stimuli, named by the index or by a column ``stimulus``; columns are units. A stimulus that comes
        several times was shown so often. A table that is square with zeros on its diagonal holds dissimilarities.

    Returns
    -------
    xarray.DataArray
        ``(stimulus, unit)``; ``(trial, unit)`` where stimuli come several times; or dissimilarities.

    Raises
    ------
    InputError
        Other columns that are no numbers, or labels of several levels.

    Examples
    --------
    >>> import pandas as pd
    >>> found = table_of(pd.DataFrame({"stimulus": ["face", "car", "face"], "v1": [1.0, 2.0, 3.0]}))
    >>> found.dims, found.stimulus.values.tolist()
    (('trial', 'unit'), ['face', 'car', 'face'])
    """
    shown_by, *others = FRAME_DIMS[0], *(name for name in SAMPLE_AXES[1:] if name in frame.columns)
    if others:
        raise InputError(
            f"the table has a column {others[0]!r}, which is no unit",
            expected=f"columns of units, and one called {shown_by!r} for the names of stimuli",
            fix=f"frame.drop(columns={others[0]!r})",
        )
    array = labelled_frame(frame.set_index(shown_by) if shown_by in frame.columns else frame)
    square = array.shape[0] == array.shape[1] and not np.diagonal(array.values).any()
    if square and np.allclose(array.values, array.values.T):
        labels = array.coords["stimulus"].values if "stimulus" in array.coords else None
        coords = {} if labels is None else dict.fromkeys(CONDITION_AXES, labels)
        return xr.DataArray(array.values, coords, CONDITION_AXES)
    if "stimulus" not in array.coords or array.indexes["stimulus"].is_unique:
        return array
    shown = array.coords["stimulus"].values
    return array.drop_vars("stimulus").rename(stimulus="trial").assign_coords(stimulus=("trial", shown))


def read_archive(path: Path) -> Any:
    """Return the array of a .npz file that holds one.

    Raises
    ------
    StorageError
        No such file, several arrays, or none that is of numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            named = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise StorageError(f"{path} cannot be read", expected="a file that numpy.savez wrote", got=error) from error
    if len(named) == 1:
        return next(iter(named.values()))
    raise StorageError(
        f"{path} holds {len(named)} arrays, and nothing says which one is meant",
        expected="one array",
        got=", ".join(f"{name} {one.shape}" for name, one in named.items()) or "none",
        fix=f"numpy.save('{path.stem}.npy', numpy.load('{path.name}')['{next(iter(named), 'name')}'])",
    )


def _cells(path: Path) -> list[list[str]]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        separator = SEPARATORS[path.suffix.lower()]
        if separator == "," and lines and "," not in lines[0] and ";" in lines[0]:
            separator = ";"
        cells = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, strict=True)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StorageError(f"{path} cannot be read", expected="a table in UTF-8", got=error) from error
    lengths = sorted({len(row) for row in cells})
    if len(lengths) != 1:
        raise StorageError(
            f"{path} is no table",
            expected="rows of one length, one for each stimulus",
            got=f"rows of {lengths[0]} to {lengths[-1]} cells" if lengths else "an empty file",
        )
    return cells


def _header(cells: list[list[str]]) -> list[str] | None:
    """Return the first row if it holds names: a word after its first cell, or numbers that count the columns."""
    first = cells[0]
    words = any(one and not _is_number(one) for one in first[1:])
    counts = first == [str(one) for one in range(len(first))]
    corner = first[0] in _CORNERS and all(one.isdigit() for one in first[1:])
    # a table of one unit: a word above numbers
    above = len(first) == 1 and len(cells) > 1 and not _is_number(first[0])
    return first if words or counts or corner or above else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: Path, cell: str, row: int, column: int) -> float:
    if _is_number(cell):
        return float(cell)
    raise StorageError(
        f"{path} has a cell that is no number",
        expected="a number for each stimulus (row) and unit (column), with a point before decimals; names of stimuli "
        "in the first column only, names of units in the first row only",
        got=f"{cell!r} in row {row + 1}, column {column + 1}",
    )
