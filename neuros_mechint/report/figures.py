"""Figures as text that a page can hold: vector graphics where they are small, pixels where they are not."""

from __future__ import annotations

import base64
import io
import re
import warnings
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from markupsafe import Markup
from matplotlib.figure import Figure

from neuros_mechint.core.figures.colours import GRID, INK, MUTED_INK
from neuros_mechint.core.figures.style import style

if TYPE_CHECKING:
    from neuros_mechint.core.result import Result

# Characters beyond which vector graphics (thousands of points) are slower and larger than pixels.
_LARGEST_SVG = 300_000
_LONGEST_LABEL = 160
_PAGE_COLOURS = {INK: "--figure-ink", MUTED_INK: "--figure-muted", GRID: "--figure-grid"}


@dataclass(frozen=True)
class Drawing:
    """A figure as it is written to files: SVG, or PNG where the SVG would be large.

    Parameters
    ----------
    content : str or bytes
        The ``<svg>`` element, or the PNG.
    width : int
        In pixels, as meant to be seen.
    """

    content: str | bytes
    width: int

    @property
    def suffix(self) -> str:
        """``.svg`` or ``.png``."""
        return ".svg" if isinstance(self.content, str) else ".png"

    def markup(self, description: str, *, in_page_colours: bool) -> Markup:
        """Return the drawing as HTML.

        Parameters
        ----------
        description : str
            What a screen reader says.
        in_page_colours : bool
            Draw on the page itself, light or dark, instead of on white paper; for figures in the package's style.

        Returns
        -------
        markupsafe.Markup
        """
        if isinstance(self.content, bytes):
            data = base64.b64encode(self.content).decode()
            return Markup('<div class="paper"><img width="{}" alt="{}" src="data:image/png;base64,{}"></div>').format(
                self.width, description, data
            )
        svg = self.content.replace("<svg", f'<svg role="img" aria-label="{escape(description, quote=True)}"', 1)
        if not in_page_colours:
            return Markup('<div class="paper">{}</div>').format(Markup(svg))
        for colour, variable in _PAGE_COLOURS.items():
            svg = svg.replace(colour, f"var({variable}, {colour})")
        return Markup(svg)

    def file(self) -> bytes:
        """Return the content of an image file, on white paper."""
        if isinstance(self.content, bytes):
            return self.content
        head, closed, rest = self.content.partition(">")
        return f'{head}{closed}<rect width="100%" height="100%" fill="#ffffff"/>{rest}'.encode()


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
            # some add a word of the findings
            if result.title and axes.get_title(loc=location).startswith(result.title):
                axes.set_title("", loc=location)
        for drawn in figure.axes:
            drawn.set(xlabel=_shortened(drawn.get_xlabel()), ylabel=_shortened(drawn.get_ylabel()))
    return figure


def figure_drawing(figure: Figure, identifier: str) -> Drawing:
    """Return a matplotlib figure as one ``<svg>`` element for a page that may hold many, or as PNG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    identifier : str
        Put before every id inside, so that two figures of a page cannot meet.

    Returns
    -------
    Drawing
        Text stays text; an SVG has a ``viewBox`` and no size of its own beyond its natural width.
    """
    width = round(figure.get_figwidth() * 100)
    svg = _svg(figure, identifier)
    if len(re.sub(r"base64,[^\"]*", "", svg)) > _LARGEST_SVG:
        return Drawing(figure_to_png(figure), width)
    return Drawing(svg, width)


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[:_LONGEST_LABEL]} …"


def _svg(figure: Figure, identifier: str) -> str:
    stream = io.StringIO()
    with style(), warnings.catch_warnings():
        # The reader's browser has fonts of its own, and what is too long for a figure is seen to be so.
        warnings.filterwarnings("ignore", r"Glyph \d+|constrained_layout not applied")
        # The metadata block would name outside addresses and the time, which differs at every run.
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=nothing, transparent=True)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{identifier}-', svg)
    svg = re.sub(r'((?:xlink:)?href=")#', rf"\g<1>#{identifier}-", svg)
    return svg.replace("url(#", f"url(#{identifier}-")


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
