"""Tables as HTML that a reader can sort, as Markdown and as JSON; numbers aligned, cut where they grow too long."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from neuros_mechint.core.formatting import format_value
from neuros_mechint.report.text import plain_to_markdown

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 200
_LONG_NAME = 20
"""Characters of the name of a column beyond which it is broken into lines."""


def table_markup(table: pd.DataFrame, title: str = "") -> Markup:
    """Return a table as HTML; an index that has a name is its first column.

    Cells of numbers that are shown rounded hold their value for sorting.

    Parameters
    ----------
    table : pandas.DataFrame
        Of more than 200 rows the first 200 are shown, and the page says so.
    title : str
        What a screen reader calls the table.

    Returns
    -------
    markupsafe.Markup

    Examples
    --------
    >>> import pandas as pd
    >>> "<td>0.5</td>" in table_markup(pd.DataFrame({"effect": [0.5]}))
    True
    """
    table = _with_index(table)
    shown = table.head(_MOST_ROWS)
    numeric = _numeric(table)
    head = _row([_th(str(name), is_number) for name, is_number in zip(table.columns, numeric, strict=True)])
    rows = shown.itertuples(index=False, name=None)
    body = Markup("\n").join(_row([_td(*cell) for cell in zip(row, numeric, strict=True)]) for row in rows)
    caption = Markup('<caption class="unseen">{}</caption>').format(title) if title else Markup("")
    html = Markup('<div class="table"><table>{}<thead>{}</thead><tbody>{}</tbody></table></div>').format(
        caption, head, body
    )
    if len(shown) == len(table):
        return html
    return html + Markup('<p class="note">{}</p>').format(_cut(len(table)))


def table_to_markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown, as long as it is shown in a page.

    Examples
    --------
    >>> import pandas as pd
    >>> print(table_to_markdown(pd.DataFrame({"head": ["0.1"], "effect": [0.5]})))
    | head | effect |
    | :--- | ---: |
    | 0.1 | 0.5 |
    """
    table = _with_index(table)
    shown = table.head(_MOST_ROWS)
    rows = [
        [plain_to_markdown(name) for name in table.columns],
        ["---:" if is_number else ":---" for is_number in _numeric(table)],
        *([plain_to_markdown(cell_text(value)) for value in row] for row in shown.itertuples(index=False, name=None)),
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    if len(shown) < len(table):
        lines += ["", _cut(len(table))]
    return "\n".join(lines)


def table_to_json(table: pd.DataFrame) -> dict[str, Any]:
    """Return all of a table as JSON can hold it: numbers as numbers, what is missing or not finite as null.

    Examples
    --------
    >>> import pandas as pd
    >>> table_to_json(pd.DataFrame({"head": ["0.1"], "effect": [float("nan")]}))
    {'columns': ['head', 'effect'], 'rows': [['0.1', None]]}
    """
    table = _with_index(table)
    rows = [[_plain(value) for value in row] for row in table.itertuples(index=False, name=None)]
    return {"columns": [str(name) for name in table.columns], "rows": rows}


def cell_text(value: object) -> str:
    """Return what a cell shows.

    Examples
    --------
    >>> cell_text(-0.123456), cell_text(float("nan")), cell_text("a-b")
    ('−0.1235', '–', 'a-b')
    """
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return "–"
    return format_value(value).replace("-", "−") if isinstance(value, (float, int)) else format_value(value)


def _with_index(table: pd.DataFrame) -> pd.DataFrame:
    named = any(name is not None for name in table.index.names)
    return table.reset_index(allow_duplicates=True) if named else table  # an index may be named as a column


def _numeric(table: pd.DataFrame) -> list[bool]:
    return [dtype.kind in "iufc" for dtype in table.dtypes]


def _row(cells: list[Markup]) -> Markup:
    return Markup("<tr>{}</tr>").format(Markup("").join(cells))


def _th(name: str, is_number: bool) -> Markup:
    classes = " ".join(filter(None, ("" if is_number else "text", "long" if len(name) > _LONG_NAME else "")))
    return Markup('<th scope="col"{}>{}</th>').format(Markup(f' class="{classes}"') if classes else "", name)


def _td(value: object, is_number: bool) -> Markup:
    text = cell_text(value)
    if not is_number:
        return Markup('<td class="text">{}</td>').format(text)
    if isinstance(value, (float, np.floating)) and math.isfinite(value) and float(format_value(value)) != value:
        return Markup('<td data-value="{}">{}</td>').format(repr(float(value)), text)
    return Markup("<td>{}</td>").format(text)


def _cut(n_rows: int) -> str:
    return f"The first {_MOST_ROWS} of {n_rows:,} rows."


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return format_value(value)
