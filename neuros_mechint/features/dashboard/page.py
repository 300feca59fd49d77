"""Dashboards as HTML that needs neither scripts nor style sheets, in light and in dark surroundings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

_MARK = "255, 149, 0"
_STRONGEST = 0.5
"""Opacity of the colour behind a token that fires most: text stays readable on it in black and in white."""
_INVISIBLE = str.maketrans({"\n": "↵", "\r": "↵", "\t": "⇥"})


def token_strip(
    tokens: Sequence[str], values: Sequence[float], example: int, largest: float, *, words: bool = True
) -> Markup:
    """Return tokens in a row, coloured by how much the feature fires at each.

    Parameters
    ----------
    tokens : sequence of str
    values : sequence of float
        Activation at each token.
    example : int
        Which one the example is about: it is underlined.
    largest : float
        Activation that gets the full colour.
    words : bool
        False puts spaces between tokens, which words bring with them.

    Returns
    -------
    markupsafe.Markup

    Examples
    --------
    >>> strip = token_strip(["a", " <b>"], [0.0, 2.0], 1, 2.0)
    >>> "rgba(255, 149, 0, 0.50)" in strip, "&lt;b&gt;" in strip
    (True, True)
    """
    pieces: list[Markup] = []
    for place, (token, value) in enumerate(zip(tokens, values, strict=True)):
        style = f"background:rgba({_MARK}, {_STRONGEST * min(value / largest, 1.0):.2f})" if value > 0 < largest else ""
        if place == example:
            style += ";text-decoration:underline;font-weight:600"
        piece = Markup('<span title="{}" style="{}">{}</span>') if style else Markup("{2}")
        pieces.append(piece.format(f"{value:.4g}", style.lstrip(";"), str(token).translate(_INVISIBLE)))
    row = Markup('<span style="white-space:pre-wrap;overflow-wrap:anywhere">{}</span>')
    return row.format(Markup("" if words else " ").join(pieces))


def strips(rows: Sequence[tuple[float, Markup]]) -> Markup:
    """Return token strips one below the other, with the activation before each."""
    line = Markup(
        '<div style="display:flex;gap:0.9em;padding:0.2em 0;line-height:1.55;text-align:left">'
        '<span style="min-width:4em;text-align:right;opacity:0.7;font-variant-numeric:tabular-nums">{}</span>'
        "<div>{}</div></div>"
    )
    return Markup("<div>{}</div>").format(Markup("").join(line.format(f"{value:.3g}", strip) for value, strip in rows))


def histogram_drawing(centres: np.ndarray, counts: np.ndarray, description: str) -> Markup:
    """Return a histogram as a small vector drawing in the colour of the text around it."""
    shown = np.isfinite(centres)
    if not shown.any() or not counts[shown].max():
        return Markup("")
    heights = 60 * counts[shown] / counts[shown].max()
    width = 300 / len(heights)
    bars = Markup("").join(
        Markup('<rect x="{}" y="{}" width="{}" height="{}"/>').format(
            f"{index * width:.1f}", f"{62 - height:.1f}", f"{0.9 * width:.1f}", f"{height:.1f}"
        )
        for index, height in enumerate(heights)
    )
    ends = Markup(
        '<text y="76" font-size="10">{}</text><text x="300" y="76" font-size="10" text-anchor="end">{}</text>'
    )
    labels = ends.format(f"{centres[shown][0]:.3g}", f"{centres[shown][-1]:.3g}")
    return Markup(
        '<svg role="img" aria-label="{}" viewBox="0 0 300 80" width="300" height="80" fill="currentColor">{}{}</svg>'
    ).format(description, bars, labels)
