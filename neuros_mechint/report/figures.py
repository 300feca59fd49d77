"""Figures as text that a page can hold: vector graphics where they are small, pixels where they are not."""

from __future__ import annotations

import base64
import io
import re
from html import escape
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from matplotlib.figure import Figure

from neuros_mechint.core.figures.colours import GRID, INK, MUTED_INK
from neuros_mechint.core.figures.plotting import style

if TYPE_CHECKING:
    from neuros_mechint.core.result import Result

# Characters beyond which vector graphics (thousands of points) are slower and larger than pixels.
_LARGEST_SVG = 300_000
# Named one by one, because plotly's own set has a button that uploads the data.
_PLOTLY_BUTTONS = [["toImage", "zoom2d", "pan2d", "resetScale2d"]]
_PAGE_COLOURS = {INK: "--figure-ink", MUTED_INK: "--figure-muted", GRID: "--figure-grid"}


def draw_result(result: Result) -> Figure:
    """Draw a result on a figure that pyplot does not know, without the title the page already shows.

    Parameters
    ----------
    result : Result

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the result cannot be drawn.
    """
    with style():
        figure = Figure(figsize=result.figure_size, layout="constrained")
        axes = result.plot(figure.subplots())
        for location in ("left", "center", "right"):
            if axes.get_title(loc=location) == result.title:
                axes.set_title("", loc=location)
    return figure


def figure_markup(figure: Figure, identifier: str, description: str, *, in_page_colours: bool) -> Markup:
    """Return a matplotlib figure as HTML: inline SVG, or a PNG image where the SVG would be large.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    identifier : str
        Unique in the page.
    description : str
        What a screen reader says.
    in_page_colours : bool
        Draw on the page itself, light or dark, instead of on white paper; for figures in the package's style.

    Returns
    -------
    markupsafe.Markup
    """
    svg = figure_to_svg(figure, identifier, description)
    if len(re.sub(r"base64,[^\"]*", "", svg)) > _LARGEST_SVG:
        return _png_markup(figure, description)
    if not in_page_colours:
        return Markup('<div class="paper">{}</div>').format(Markup(svg))
    for colour, variable in _PAGE_COLOURS.items():
        svg = svg.replace(colour, f"var({variable}, {colour})")
    return Markup(svg)


def interactive_markup(figure: Any, identifier: str) -> Markup:
    """Return a plotly figure as HTML for a page that holds plotly's script already.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    identifier : str
        Unique in the page.

    Returns
    -------
    markupsafe.Markup
    """
    html = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"{identifier}-plotly",
        config={"displaylogo": False, "responsive": True, "modeBarButtons": _PLOTLY_BUTTONS},
    )
    return Markup('<div class="paper">{}</div>').format(Markup(html))


def _png_markup(figure: Figure, description: str) -> Markup:
    data = base64.b64encode(figure_to_png(figure)).decode()
    width = round(figure.get_figwidth() * 100)
    return Markup('<div class="paper"><img width="{}" alt="{}" src="data:image/png;base64,{}"></div>').format(
        width, description, data
    )


def figure_to_svg(figure: Figure, identifier: str, description: str) -> str:
    """Return a figure as one ``<svg>`` element for a page that may hold many.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    identifier : str
        Put before every id inside, so that two figures of a page cannot meet.
    description : str
        What a screen reader says.

    Returns
    -------
    str
        Text stays text; the element has a ``viewBox`` and no size of its own beyond its natural width.
    """
    stream = io.StringIO()
    with style():
        # The metadata block would name outside addresses and the time, which differs at every run.
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=nothing, transparent=True)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{identifier}-', svg)
    svg = re.sub(r'((?:xlink:)?href=")#', rf"\g<1>#{identifier}-", svg)
    svg = svg.replace("url(#", f"url(#{identifier}-")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description, quote=True)}"', 1)


def figure_to_png(figure: Figure, scale: float = 2.0) -> bytes:
    """Return a figure as PNG at ``scale`` times 100 dots per inch.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> figure_to_png(Figure(figsize=(1, 1)))[1:4]
    b'PNG'
    """
    stream = io.BytesIO()
    with style():
        figure.savefig(stream, format="png", dpi=100 * scale)
    return stream.getvalue()
