"""Results that bring their own page: blocks of HTML, tables and drawings, each under a heading that opens it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from neuros_mechint.core.figures.plotting import style
from neuros_mechint.report.figures import figure_markup
from neuros_mechint.report.tables import table_markup

_FIGURE = (6.6, 2.6)


def blocks_markup(blocks: Iterable[tuple[str, Sequence[Any]]], identifier: str) -> Markup:
    """Return blocks as HTML that a reader opens one by one; the first is open.

    Parameters
    ----------
    blocks : iterable of (str, sequence)
        Heading, and what is below it: HTML (`markupsafe.Markup`, which vouches for itself), a pandas.DataFrame, or a
        callable that draws on matplotlib axes. A Result offers them as ``report_blocks()``.
    identifier : str
        Unique in the page.

    Returns
    -------
    markupsafe.Markup

    Examples
    --------
    >>> print(blocks_markup([("<one>", [Markup("<b>1</b>")])], "section-1"))
    <details class="block" open><summary>&lt;one&gt;</summary><b>1</b></details>
    """
    block = Markup('<details class="block"{}><summary>{}</summary>{}</details>')
    shown: list[Markup] = []
    for number, (heading, items) in enumerate(blocks):
        names = (f"{identifier}-{number}-{place}" for place in range(len(items)))
        body = Markup("\n").join(_shown(item, name, heading) for item, name in zip(items, names, strict=True))
        shown.append(block.format(Markup("" if number else " open"), heading, body))
    return Markup("\n").join(shown)


def _shown(item: Any, identifier: str, description: str) -> Markup:
    if isinstance(item, Markup):
        return item
    if hasattr(item, "itertuples"):
        return table_markup(item)
    with style():
        figure = Figure(figsize=_FIGURE, layout="constrained")
        item(figure.subplots())
    return figure_markup(figure, identifier, description, in_page_colours=True)
