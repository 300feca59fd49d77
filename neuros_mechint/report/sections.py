"""The parts of a report, and what they add up to: the sections, warnings and sources that every file tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from neuros_mechint.core.citations import Citation, cite
from neuros_mechint.core.result import Result
from neuros_mechint.report.bodies import Body
from neuros_mechint.report.results import attempt, findings_of


@dataclass(frozen=True)
class Section:
    """One part of a report, already drawn.

    Parameters
    ----------
    title : str
        Empty for a continuation of the section before.
    anchor : str
        Its id in the page.
    body : Body
        Text, figure or table, see `neuros_mechint.report.bodies`.
    caption : str
        Below the body.
    number : int or None
        Number of the figure or table.
    results : mapping of str to Result
        What this section shows, by name of the run; the name is empty where there is one run only.
    problem : str
        What could not be shown.
    """

    title: str
    anchor: str
    body: Body
    caption: str = ""
    number: int | None = None
    results: Mapping[str, Result] = field(default_factory=dict)
    problem: str = ""

    @property
    def kind(self) -> str:
        """``text``, ``figure`` or ``table``."""
        return self.body.kind

    @property
    def result(self) -> Result | None:
        """The result this section shows, the first of several runs."""
        return next(iter(self.results.values()), None)

    @property
    def findings(self) -> dict[str, list[tuple[str, str]]]:
        """What was found, as (name, value), in each run; the name is empty where a class says it in a sentence."""
        told = {run: attempt("the findings", lambda one=one: findings_of(one)) for run, one in self.results.items()}
        return {run: [("", problem)] if found is None else found for run, (found, problem) in told.items()}


class Warned(NamedTuple):
    """A warning, the section that it is about, and the runs that give it where there are several."""

    section: Section
    text: str
    runs: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where to look, in words."""
        runs = f"({', '.join(self.runs)})" if self.runs else ""
        return " ".join(filter(None, (self.section.title, runs))) or "where"


class Document(NamedTuple):
    """All that a report tells, whichever kind of file it is written to."""

    title: str
    subtitle: str
    created: datetime
    sections: Sequence[Section]
    warnings: list[Warned]
    references: list[Citation]

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each reference by its key."""
        return {reference.key: number for number, reference in enumerate(self.references, start=1)}


def document(title: str, subtitle: str, sections: Sequence[Section]) -> Document:
    """Return all that a report tells, with its warnings and sources collected from the sections."""
    warnings: list[Warned] = []
    keys: dict[str, None] = {}
    for section in sections:
        told: dict[str, list[str]] = {section.problem: []} if section.problem else {}
        for run, result in section.results.items():
            for text in result.warnings:
                told.setdefault(text, []).append(run)
            keys |= dict.fromkeys(result.citations)
        warnings += [Warned(section, text, tuple(filter(None, runs))) for text, runs in told.items()]
    created = datetime.now(UTC).replace(microsecond=0)
    return Document(title, subtitle, created, sections, warnings, [cite(key) for key in keys])
