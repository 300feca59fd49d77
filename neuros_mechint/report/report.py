"""Report: results, figures, tables and words, and the files that tell them."""

from __future__ import annotations

import os
import sys
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.optional import soft_import
from neuros_mechint.core.paths import path_to_write
from neuros_mechint.core.result import Result
from neuros_mechint.core.result_files import write_atomically
from neuros_mechint.report import documents
from neuros_mechint.report.bodies import Body, Chart, Files, Grid, Picture, Words
from neuros_mechint.report.comparison import Shown, how_many_differ, number_table, origin_table, runs_of
from neuros_mechint.report.drawing import body_of, side_by_side
from neuros_mechint.report.figures import figure_drawing
from neuros_mechint.report.sections import Document, Section, document

if TYPE_CHECKING:
    import pandas as pd

_MAYBE_NOT_THE_SAME = "Titles or captions of the runs differ: these may not be the same quantity in each."


class Report:
    """A page that tells what was found: results with figures, captions, warnings, sources and provenance.

    Parameters
    ----------
    title : str
    subtitle : str
        One or two sentences under the title.
    interactive : bool
        Draw results with plotly where they can be (needs the ``viz`` extra; the page grows by 5 MB). Values of heat
        maps can be read, and heads of attention chosen, without it.

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
    >>> folder = Path(tempfile.mkdtemp())
    >>> [report.save(folder / name).name for name in ("page.html", "page.md", "page.json")]
    ['page.html', 'page.md', 'page.json']
    """

    def __init__(self, title: str, subtitle: str = "", *, interactive: bool = False) -> None:
        if interactive:
            soft_import("plotly", "interactive reports", extra="viz")
        self.title = title
        self.subtitle = subtitle
        self.interactive = interactive
        self._sections: list[Section] = []
        self._path: Path | None = None

    @classmethod
    def compare(cls, runs: Mapping[str, Any], title: str = "Comparison of runs", subtitle: str = "") -> Report:
        """Return a report in which the same results of several runs stand beside each other.

        For each result: the figures of all runs, on the same scales; their key numbers and differences from the first
        run; and what differs in how they were made. What only some of the runs have is said.

        Parameters
        ----------
        runs : mapping of str to results
            By name of the run: results by name, a list of results, what a workflow returned, or the path of a folder of
            saved results, of a saved result, or of a report saved as ``.json``.
        title, subtitle : str

        Returns
        -------
        Report

        Raises
        ------
        InputError
            If there are fewer than two runs, or one of them is not made of results.
        StorageError
            If a file is missing or damaged.

        Examples
        --------
        >>> import xarray as xr
        >>> first, second = (Result(xr.Dataset({"effect": value}), "Effect") for value in (0.5, 0.75))
        >>> report = Report.compare({"seed 0": [first], "seed 1": [second]})
        >>> [section.title for section in report.sections if section.title]
        ['What is compared', 'Effect']
        """
        told = runs_of(runs)
        shared = list(told.shared())
        report = cls(title, subtitle)
        heading, differences = "What is compared", told.differences()
        if differences is not None:
            report.add_table(differences, heading, "Inputs and arguments of the runs that differ.")
            heading = ""
        report.add_table(told.overview(), heading, f"Which run has which results.{_not_alike(shared)}")
        for shown in shared:
            report._compared(shown, told.made_alike())
        return report

    @property
    def sections(self) -> tuple[Section, ...]:
        """What was added so far, in order."""
        return tuple(self._sections)

    def add(self, result: Result, title: str | None = None, caption: str | None = None) -> Report:
        """Add a result: its figure, findings, warnings, data, sources and provenance.

        A result that gives ``report_blocks`` is shown as these. One that gives ``report_sections`` is made of others:
        it is told in words, and each of them has a section of its own after it. A figure that the class of the result
        fails to draw is a warning of the page.

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
            self._append(title or result.title, Words(caption or ""), results={"": result})
            for part, heading, words in sections:
                self.add(part, heading, words)
            return self
        body, problem = body_of(result, self._next_anchor(), interactive=self.interactive)
        return self._append(title or result.title, body, caption or "", {"": result}, problem)

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
        if isinstance(figure, Figure):
            text = description or caption or title or "figure"
            body = Picture([(figure_drawing(figure, self._next_anchor()), None)], text, in_page_colours=False)
        elif hasattr(figure, "to_plotly_json"):
            body = Chart(figure)
        else:
            raise InputError(
                "this is not a figure",
                expected="a matplotlib or plotly figure",
                got=type(figure).__name__,
                fix="pass ax.figure for matplotlib axes" if hasattr(figure, "figure") else None,
            )
        return self._append(title, body, caption)

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
        return self._append(title, Words(text))

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
        return self._append(title, Grid(table.copy()), caption)

    def to_html(self) -> str:
        """Return the whole page.

        Returns
        -------
        str
            HTML that loads nothing from anywhere.
        """
        return documents.to_html(self._document())

    def to_markdown(self) -> str:
        """Return the report in Markdown, its figures told in words; `save` writes them beside the text.

        Returns
        -------
        str
        """
        return documents.to_markdown(self._document())

    def to_json(self) -> str:
        """Return the report as JSON: every number of every result, provenance, warnings and sources.

        Returns
        -------
        str
            `compare` reads the results from a file of it.
        """
        return documents.to_json(self._document())

    def save(self, path: str | Path) -> Path:
        """Write the report to a file, in one step.

        Parameters
        ----------
        path : str or pathlib.Path
            Ends in ``.html``, the page; ``.md``, Markdown with its figures in the folder ``NAME_files`` beside it; or
            ``.json``, all numbers. ``~`` is the home folder.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        OptionError
            If the name ends in anything else.
        StorageError
            If the file cannot be written.
        """
        path = path_to_write(path)
        suffix = path.suffix.lower()
        if suffix == ".html":
            text = self.to_html()
        elif suffix == ".json":
            text = self.to_json()
        elif suffix == ".md":
            files = Files(f"{path.stem}_files")
            text = documents.to_markdown(self._document(), files)
            for name, content in files.contents.items():
                write_atomically(path.parent / files.folder / name, partial(_write_bytes, content))
        else:
            raise OptionError("unknown kind of file", expected=".html, .md or .json", got=path.name)
        # names of files may hold what UTF-8 cannot
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))
        if suffix == ".html":
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

    def _document(self) -> Document:
        return document(self.title, self.subtitle, self._sections)

    def _next_anchor(self) -> str:
        return f"section-{len(self._sections) + 1}"

    def _compared(self, shown: Shown, made_alike: str) -> None:
        """Add a result that several runs have."""
        body, problem = side_by_side(shown.results, self._next_anchor(), shown.own)
        caption = f"{shown.title}. {_MAYBE_NOT_THE_SAME}" if shown.own else ""
        self._append(shown.title, body, caption, shown.results, problem)
        numbers = number_table(shown.results)
        self.add_table(numbers, caption=f"{shown.title}: key numbers of each run; {how_many_differ(numbers)}.")
        origins = origin_table(shown.results)
        if origins is None:
            self.add_text(made_alike)
        else:
            self.add_table(origins, caption=f"{shown.title}: what differs in how the runs were made.")

    def _append(
        self,
        title: str,
        body: Body,
        caption: str = "",
        results: Mapping[str, Result] | None = None,
        problem: str = "",
    ) -> Report:
        number = None if body.kind == "text" else 1 + sum(section.kind == body.kind for section in self._sections)
        self._sections.append(Section(title, self._next_anchor(), body, caption, number, results or {}, problem))
        self._path = None  # what was saved before is no longer the whole report
        return self


def _not_alike(shared: Sequence[Shown]) -> str:
    """Return which results the runs call by other titles or captions."""
    titles = [f"*{shown.title}*" for shown in shared if shown.own]
    return f" Titles or captions differ between the runs, see there: {', '.join(titles)}." if titles else ""


def _write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _may_open_browser(environment: Mapping[str, str]) -> bool:
    if environment.get("CI") or environment.get("NEUROS_MECHINT_NO_BROWSER"):
        return False
    needs_display = sys.platform.startswith("linux")
    return not needs_display or bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
