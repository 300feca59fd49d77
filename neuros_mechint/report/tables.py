"""Tables as HTML, numbers aligned, cut where they grow too long for a page and saying so."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from neuros_mechint.core.formatting import format_value

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 200


def table_markup(table: pd.DataFrame) -> Markup:
    """Return a table as HTML; an index that has a name is its first column.

    Parameters
    ----------
    table : pandas.DataFrame
        Of more than 200 rows the first 200 are shown, and the page says so.

    Returns
    -------
    markupsafe.Markup

    Examples
    --------
    >>> import pandas as pd
    >>> "<td>0.5</td>" in table_markup(pd.DataFrame({"effect": [0.5]}))
    True
    """
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    shown = table.head(_MOST_ROWS)
    numeric = [table[name].dtype.kind in "iufc" for name in table.columns]
    head = _row("th", [str(name) for name in table.columns], numeric)
    cells = [[_cell(value) for value in row] for row in shown.itertuples(index=False, name=None)]
    body = Markup("\n").join(_row("td", row, numeric) for row in cells)
    html = Markup('<div class="table"><table><thead>{}</thead><tbody>{}</tbody></table></div>').format(head, body)
    if len(shown) == len(table):
        return html
    return html + Markup('<p class="note">The first {} of {:,} rows.</p>').format(len(shown), len(table))


def _row(tag: str, cells: list[str], numeric: list[bool]) -> Markup:
    number, text = Markup(f"<{tag}>{{}}</{tag}>"), Markup(f'<{tag} class="text">{{}}</{tag}>')
    kinds = (number if is_number else text for is_number in numeric)
    row = Markup("").join(kind.format(cell) for kind, cell in zip(kinds, cells, strict=True))
    return Markup("<tr>{}</tr>").format(row)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return "–"
    return format_value(value).replace("-", "−") if isinstance(value, (float, int)) else format_value(value)
