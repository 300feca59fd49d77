"""What a section of a report shows, each with its form in HTML, Markdown and JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from urllib.parse import quote

from markupsafe import Markup

from neuros_mechint.report.explorer import Explorer
from neuros_mechint.report.figures import Drawing
from neuros_mechint.report.tables import table_markup, table_to_json, table_to_markdown
from neuros_mechint.report.text import (
    inline_to_markdown,
    plain_to_markdown,
    render_inline,
    render_text,
    text_to_markdown,
)

if TYPE_CHECKING:
    import pandas as pd


class Files:
    """Image files that lie beside a Markdown text.

    Parameters
    ----------
    folder : str
        Name of their folder, seen from the text.

    Examples
    --------
    >>> files = Files("my page_files")
    >>> files.add("figure-1.png", b"...")
    'my%20page_files/figure-1.png'
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.contents: dict[str, bytes] = {}

    def add(self, name: str, content: bytes) -> str:
        """Keep a file and return the address that leads to it."""
        self.contents[name] = content
        return quote(f"{self.folder}/{name}")


class Body(Protocol):
    """What a section shows."""

    kind: ClassVar[str]
    """``text``, ``figure`` or ``table``; figures and tables are numbered and have captions."""

    def html(self, title: str) -> Markup:
        """Return the body as HTML; ``title`` is that of its section."""
        ...

    def markdown(self, name: str, files: Files | None) -> str:
        """Return the body in Markdown; ``files`` takes figures, which are told in words without it."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        ...


@dataclass(frozen=True)
class Words:
    """Paragraphs and lists, see `neuros_mechint.report.text`."""

    text: str
    kind: ClassVar[str] = "text"

    def html(self, title: str) -> Markup:
        """Return paragraphs and lists."""
        return render_text(self.text)

    def markdown(self, name: str, files: Files | None) -> str:
        """Return paragraphs and lists."""
        return text_to_markdown(self.text)

    def to_json(self) -> dict[str, Any]:
        """Return the text as it was written."""
        return {"text": self.text}


@dataclass(frozen=True)
class Picture:
    """One or two drawings.

    Parameters
    ----------
    drawings : sequence of (Drawing, Explorer or None)
    description : str
        What a screen reader says.
    in_page_colours : bool
        See `Drawing.markup`.
    note : str
        What to know about the drawing.
    """

    drawings: Sequence[tuple[Drawing, Explorer | None]]
    description: str
    in_page_colours: bool
    note: str = ""
    kind: ClassVar[str] = "figure"

    def html(self, title: str) -> Markup:
        """Return the drawings, explorable where they can be."""
        parts: list[Markup] = []
        for drawing, explorer in self.drawings:
            drawn = drawing.markup(self.description, in_page_colours=self.in_page_colours)
            parts.append(explorer.around(drawn) if explorer else drawn)
        if self.note:
            parts.append(Markup('<p class="note">{}</p>').format(self.note))
        return Markup("\n").join(parts)

    def markdown(self, name: str, files: Files | None) -> str:
        """Return links to image files, or the description."""
        if files is None:
            return f"*Figure: {plain_to_markdown(self.description)}*"
        parts: list[str] = []
        for index, (drawing, explorer) in enumerate(self.drawings):
            own = name if not index else f"{name}-{index + 1}"
            address = files.add(own + drawing.suffix, drawing.file())
            parts.append(f"![{plain_to_markdown(self.description)}]({address})")
            if explorer and explorer.drawn:
                parts.append(plain_to_markdown(explorer.drawn))
        if self.note:
            parts.append(plain_to_markdown(self.note))
        return "\n\n".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the description and the drawings."""
        images = [drawing.content for drawing, _ in self.drawings]
        texts = [image if isinstance(image, str) else base64.b64encode(image).decode() for image in images]
        return {"description": self.description, "images": texts}


@dataclass(frozen=True)
class Chart:
    """A plotly figure, and the picture that stands for it where there is no script."""

    figure: Any
    picture: Picture | None = None
    kind: ClassVar[str] = "figure"

    def html(self, title: str) -> Markup:
        """Return a place in which the script of the page draws the figure."""
        figure = self.figure.to_json()
        return Markup('<div class="paper"><div class="plotly-figure" data-figure="{}"></div></div>').format(figure)

    def markdown(self, name: str, files: Files | None) -> str:
        """Return the picture."""
        if self.picture is not None:
            return self.picture.markdown(name, files)
        return "*An interactive figure, which only the HTML page shows.*"

    def to_json(self) -> dict[str, Any]:
        """Return plotly's own description of the figure."""
        return {"plotly": self.figure.to_json()}


@dataclass(frozen=True)
class Grid:
    """A table."""

    table: pd.DataFrame
    kind: ClassVar[str] = "table"

    def html(self, title: str) -> Markup:
        """Return a table that can be sorted."""
        return table_markup(self.table, title)

    def markdown(self, name: str, files: Files | None) -> str:
        """Return a table."""
        return table_to_markdown(self.table)

    def to_json(self) -> dict[str, Any]:
        """Return all rows."""
        return table_to_json(self.table)


@dataclass(frozen=True)
class Raw:
    """HTML of a result's own."""

    markup: Markup
    kind: ClassVar[str] = "text"

    def html(self, title: str) -> Markup:
        """Return it as it is."""
        return self.markup

    def markdown(self, name: str, files: Files | None) -> str:
        """Return its text."""
        return plain_to_markdown(self.markup.striptags())

    def to_json(self) -> dict[str, Any]:
        """Return its text."""
        return {"text": self.markup.striptags()}


@dataclass(frozen=True)
class Blocks:
    """Bodies under headings that a reader opens one by one; the first is open.

    Examples
    --------
    >>> print(Blocks([("<one>", [Raw(Markup("<b>1</b>"))])]).html(""))
    <details class="block" open><summary>&lt;one&gt;</summary><b>1</b></details>
    """

    blocks: Sequence[tuple[str, Sequence[Body]]]
    kind: ClassVar[str] = "figure"

    def html(self, title: str) -> Markup:
        """Return headings that open what is below them."""
        block = Markup('<details class="block"{}><summary>{}</summary>{}</details>')
        return Markup("\n").join(
            block.format(Markup("" if number else " open"), heading, Markup("\n").join(b.html(heading) for b in bodies))
            for number, (heading, bodies) in enumerate(self.blocks)
        )

    def markdown(self, name: str, files: Files | None) -> str:
        """Return everything under headings."""
        parts: list[str] = []
        for number, (heading, bodies) in enumerate(self.blocks):
            parts.append(f"**{plain_to_markdown(heading)}**")
            parts += [body.markdown(f"{name}-{number}-{place}", files) for place, body in enumerate(bodies)]
        return "\n\n".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the bodies by heading."""
        told = [{"heading": heading, "bodies": [body.to_json() for body in bodies]} for heading, bodies in self.blocks]
        return {"blocks": told}


@dataclass(frozen=True)
class SideBySide:
    """The same of several runs.

    Parameters
    ----------
    bodies : mapping of str to Body
        By name of the run.
    own : mapping of str to str
        By name of the run, what only that run says; stands above its body.
    """

    bodies: Mapping[str, Body]
    own: Mapping[str, str] = field(default_factory=dict)
    kind: ClassVar[str] = "figure"

    def html(self, title: str) -> Markup:
        """Return columns, which stand one below the other where the page is narrow."""
        columns = (
            Markup('<div class="run"><p class="run-name">{}</p>{}{}</div>').format(
                run, self._said(run), body.html(f"{title}, {run}")
            )
            for run, body in self.bodies.items()
        )
        return Markup('<div class="runs">{}</div>').format(Markup("\n").join(columns))

    def markdown(self, name: str, files: Files | None) -> str:
        """Return one below the other."""
        return "\n\n".join(
            "\n\n".join(
                filter(
                    None,
                    (
                        f"**{plain_to_markdown(run)}**",
                        inline_to_markdown(self.own.get(run, "")),
                        body.markdown(f"{name}-{number}", files),
                    ),
                )
            )
            for number, (run, body) in enumerate(self.bodies.items(), start=1)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the bodies by run."""
        return {"runs": {run: body.to_json() for run, body in self.bodies.items()}}

    def _said(self, run: str) -> Markup:
        return (
            Markup('<p class="note" dir="auto">{}</p>').format(render_inline(self.own[run]))
            if run in self.own
            else Markup()
        )
