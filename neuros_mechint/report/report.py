"""Report: one self-contained HTML page out of results, figures, tables and words."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from neuros_mechint.core.citations import bibliography, cite
from neuros_mechint.core.errors import CapabilityError, FigureError, InputError
from neuros_mechint.core.formatting import format_value
from neuros_mechint.core.optional import soft_import
from neuros_mechint.core.result import Result
from neuros_mechint.core.result_files import write_atomically
from neuros_mechint.report.blocks import blocks_markup
from neuros_mechint.report.figures import draw_result, figure_markup, interactive_markup
from neuros_mechint.report.tables import table_markup
from neuros_mechint.report.text import render_inline, render_text

if TYPE_CHECKING:
    import pandas as pd

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Section:
    """One part of a report, already drawn.

    Parameters
    ----------
    title : str
        Empty for a continuation of the section before.
    anchor : str
        Its id in the page.
    body : markupsafe.Markup
        Figure, table or text as HTML.
    caption : str
        Below the body.
    kind : {"text", "figure", "table"}
        What the body is.
    number : int or None
        Number of the figure or table.
    result : Result or None
        The result this section shows.
    """

    title: str
    anchor: str
    body: Markup
    caption: str = ""
    kind: str = "text"
    number: int | None = None
    result: Result | None = None

    @property
    def findings(self) -> list[tuple[str, str]]:
        """The lines of the result's summary as (name, value); the name is empty where a line has none."""
        if self.result is None:
            return []
        lines = "\n".join(self.result.findings).splitlines()
        parts = [line.partition(": ") for line in lines if line.strip()]
        return [(name, value) if colon else ("", name) for name, colon, value in parts]

    @property
    def table(self) -> Markup:
        """The data of the result as an HTML table."""
        return table_markup(self.result.to_dataframe()) if self.result is not None else Markup("")

    @property
    def origin(self) -> list[tuple[str, str]]:
        """The provenance of the result as (name, value)."""
        if self.result is None:
            return []
        record = self.result.provenance
        rows = [
            ("recorded", record.timestamp),
            ("seed", "none" if record.seed is None else str(record.seed)),
            ("model fingerprint", record.model or "none"),
            *((f"argument {name}", _argument_text(value)) for name, value in record.arguments.items()),
            ("packages", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
            ("platform", f"Python {record.python}, {record.platform}"),
        ]
        return [(name, value) for name, value in rows if value]


class Report:
    """A page that tells what was found: results with figures, captions, warnings, sources and provenance.

    Parameters
    ----------
    title : str
    subtitle : str
        One or two sentences under the title.
    interactive : bool
        Draw results with plotly where they can be (needs the ``viz`` extra; the page grows by 5 MB).

    Raises
    ------
    MissingDependencyError
        If ``interactive`` and plotly is not installed.

    Examples
    --------
    >>> import xarray as xr
    >>> effect = Result(xr.Dataset({"effect": ("position", [0.0, 0.9])}), "Effect of each position")
    >>> report = Report("How it copies", "Patching, one position at a time")
    >>> report.add_text("The *second* position matters.").add(effect)
    <Report 'How it copies': 2 sections>
    >>> report.save(Path(tempfile.mkdtemp()) / "report.html").name
    'report.html'
    """

    def __init__(self, title: str, subtitle: str = "", *, interactive: bool = False) -> None:
        if interactive:
            soft_import("plotly", "interactive reports", extra="viz")
        self.title = title
        self.subtitle = subtitle
        self.interactive = interactive
        self._sections: list[Section] = []
        self._has_plotly = False
        self._path: Path | None = None

    @property
    def sections(self) -> tuple[Section, ...]:
        """What was added so far, in order."""
        return tuple(self._sections)

    def add(self, result: Result, title: str | None = None, caption: str | None = None) -> Report:
        """Add a result: its figure, findings, warnings, data, sources and provenance.

        A result that gives ``report_blocks`` is shown as these, see `neuros_mechint.report.blocks`. One that gives
        ``report_sections`` is made of others: it is told in words, and each of them has a section of its own after it.

        Parameters
        ----------
        result : Result
        title : str, optional
            Instead of the result's own title.
        caption : str, optional
            Below the figure; says what to see in it.

        Returns
        -------
        Report
            Itself, so that calls can be chained.

        Raises
        ------
        InputError
            If ``result`` is not a Result.
        """
        if not isinstance(result, Result):
            raise InputError(
                "only a Result can be added like this",
                expected="neuros_mechint Result",
                got=type(result).__name__,
                fix="use add_figure, add_table or add_text for other things",
            )
        sections = list(result.report_sections())
        if sections:
            self._append(title or result.title, render_text(caption or ""), "", "text", result)
            for part, heading, words in sections:
                self.add(part, heading, words)
            return self
        description = " ".join(". ".join(line.rstrip(".") for line in result.summary().splitlines()).split())
        try:
            body, kind = self._draw(result, description), "figure"
        except FigureError as error:
            # A result of many dimensions is still worth its findings and its table.
            body, kind = render_text(f"No figure: {error.problem}."), "text"
        return self._append(title or result.title, body, caption or "", kind, result)

    def add_figure(self, figure: Any, title: str = "", caption: str = "", *, description: str | None = None) -> Report:
        """Add a matplotlib figure, or a plotly figure, which makes the page interactive.

        Parameters
        ----------
        figure : matplotlib.figure.Figure or plotly.graph_objects.Figure
        title, caption : str
        description : str, optional
            What a screen reader says; the caption or the title without it.

        Returns
        -------
        Report

        Raises
        ------
        InputError
            If ``figure`` is neither.
        """
        identifier = self._next_anchor()
        if isinstance(figure, Figure):
            text = description or caption or title or "figure"
            body = figure_markup(figure, identifier, text, in_page_colours=False)
        elif hasattr(figure, "to_plotly_json"):
            body = self._interactive(figure, identifier)
        else:
            raise InputError(
                "this is not a figure",
                expected="a matplotlib or plotly figure",
                got=type(figure).__name__,
                fix="pass ax.figure for matplotlib axes" if hasattr(figure, "figure") else None,
            )
        return self._append(title, body, caption, "figure")

    def add_text(self, text: str, title: str = "") -> Report:
        """Add paragraphs, parted by empty lines; see `render_text` for emphasis, code and lists.

        Parameters
        ----------
        text : str
        title : str

        Returns
        -------
        Report
        """
        return self._append(title, render_text(text), "", "text")

    def add_table(self, table: pd.DataFrame, title: str = "", caption: str = "") -> Report:
        """Add a table.

        Parameters
        ----------
        table : pandas.DataFrame
            Of more than 200 rows the first 200 are shown, and the page says so.
        title, caption : str

        Returns
        -------
        Report

        Raises
        ------
        InputError
            If ``table`` is not a DataFrame.
        """
        if not hasattr(table, "itertuples"):
            raise InputError("this is not a table", expected="pandas.DataFrame", got=type(table).__name__)
        return self._append(title, table_markup(table), caption, "table")

    def to_html(self) -> str:
        """Return the whole page.

        Returns
        -------
        str
            HTML that loads nothing from anywhere.
        """
        keys = list(dict.fromkeys(key for s in self._sections if s.result for key in s.result.citations))
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["inline"] = render_inline
        return environment.get_template("report.html").render(
            report=self,
            style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
            plotly=_plotly_script() if self._has_plotly else None,
            created=datetime.now(UTC),
            references=[cite(key) for key in keys],
            reference_numbers={key: number for number, key in enumerate(keys, start=1)},
            bibtex=bibliography(keys),
        )

    def save(self, path: str | Path) -> Path:
        """Write the page to one HTML file, in one step.

        Parameters
        ----------
        path : str or pathlib.Path

        Returns
        -------
        pathlib.Path

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        path = Path(path)
        page = self.to_html()
        write_atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
        self._path = path
        return path

    def open(self) -> bool:
        """Open the page in the browser; one that was never saved is saved to a temporary folder first.

        Returns
        -------
        bool
            False where no browser was opened: under continuous integration (``CI`` is set), where
            ``NEUROS_MECHINT_NO_BROWSER`` is set, or without a display.
        """
        if self._path is None:
            self.save(Path(tempfile.mkdtemp(prefix="neuros-mechint-")) / "report.html")
        if self._path is None or not _may_open_browser(os.environ):
            return False
        return webbrowser.open(self._path.resolve().as_uri())

    def __repr__(self) -> str:
        """Return title and number of sections."""
        plural = "" if len(self._sections) == 1 else "s"
        return f"<Report {self.title!r}: {len(self._sections)} section{plural}>"

    def _repr_html_(self) -> str:
        frame = "width:100%;height:640px;border:1px solid #8885;border-radius:8px"
        page = escape(self.to_html())
        return f'<iframe title="{escape(self.title)}" style="{frame}" srcdoc="{page}"></iframe>'

    def _draw(self, result: Result, description: str) -> Markup:
        identifier = self._next_anchor()
        blocks = list(result.report_blocks())
        if blocks:
            return blocks_markup(blocks, identifier)
        if self.interactive:
            # Classes with a drawing of their own, and single numbers, have only the static figure.
            with contextlib.suppress(CapabilityError, FigureError):
                return self._interactive(result.plot_interactive().update_layout(title=None), identifier)
        return figure_markup(draw_result(result), identifier, description, in_page_colours=True)

    def _interactive(self, figure: Any, identifier: str) -> Markup:
        self._has_plotly = True
        return interactive_markup(figure, identifier)

    def _next_anchor(self) -> str:
        return f"section-{len(self._sections) + 1}"

    def _append(self, title: str, body: Markup, caption: str, kind: str, result: Result | None = None) -> Report:
        number = None if kind == "text" else 1 + sum(section.kind == kind for section in self._sections)
        self._sections.append(Section(title, self._next_anchor(), body, caption, kind, number, result))
        self._path = None  # what was saved before is no longer the whole report
        return self


def _argument_text(value: Any) -> str:
    if isinstance(value, Mapping) and "shape" in value and "dtype" in value:
        shape = " × ".join(map(str, value["shape"])) or "scalar"
        return f"{value['dtype']} array, {shape}" + (f", hash {value['hash']}" if "hash" in value else "")
    return format_value(value)


def _plotly_script() -> Markup:
    return Markup(soft_import("plotly.offline", "interactive reports", extra="viz").get_plotlyjs())


def _may_open_browser(environment: Mapping[str, str]) -> bool:
    if environment.get("CI") or environment.get("NEUROS_MECHINT_NO_BROWSER"):
        return False
    needs_display = sys.platform.startswith("linux")
    return not needs_display or bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
