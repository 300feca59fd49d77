"""A report as a file: one HTML page that loads nothing, Markdown, or JSON."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from neuros_mechint.core.optional import soft_import
from neuros_mechint.core.result import Result
from neuros_mechint.report.bodies import Files
from neuros_mechint.report.results import data_of, origin_of
from neuros_mechint.report.saved import FORMAT, VERSION, result_to_json
from neuros_mechint.report.sections import Document, Section
from neuros_mechint.report.tables import table_markup
from neuros_mechint.report.text import inline_to_markdown, plain_to_markdown, render_inline

_TEMPLATES = Path(__file__).with_name("templates")


def to_html(document: Document) -> str:
    """Return one page that loads nothing from anywhere and runs no script but its own."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = render_inline
    bodies = {section.anchor: section.body.html(section.title or section.caption) for section in document.sections}
    scripts = [(_TEMPLATES / "page.js").read_text(encoding="utf-8")]
    if any('class="plotly-figure"' in body for body in bodies.values()):
        scripts.insert(0, soft_import("plotly.offline", "interactive reports", extra="viz").get_plotlyjs())
    return environment.get_template("report.html").render(
        document=document,
        bodies=bodies,
        numbers=document.numbers,
        style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        allowed_scripts=[_hash(script) for script in scripts],
        table_of=lambda result: table_markup(data_of(result), f"Data: {result.title}"),
        origin_of=origin_of,
    )


def to_markdown(document: Document, files: Files | None = None) -> str:
    """Return the report in Markdown; ``files`` takes the figures, which are told in words without it."""
    return "\n\n".join(filter(None, _markdown_parts(document, files))) + "\n"


def to_json(document: Document) -> str:
    """Return the report as JSON: every number of every result, and everything around them."""
    told = {
        "format": FORMAT,
        "version": VERSION,
        "title": document.title,
        "subtitle": document.subtitle,
        "created": document.created.isoformat(),
        "warnings": [
            {"section": warned.section.title, "runs": list(warned.runs), "text": warned.text}
            for warned in document.warnings
        ],
        "sections": [_section_to_json(section) for section in document.sections],
        "references": [
            {"key": one.key, "reference": one.reference, "link": one.link, "bibtex": one.bibtex}
            for one in document.references
        ],
    }
    return json.dumps(told, ensure_ascii=False, allow_nan=False)


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _section_to_json(section: Section) -> dict[str, Any]:
    results = [
        {"run": run, **result_to_json(result), "findings": section.findings[run]}
        for run, result in section.results.items()
    ]
    about = {"title": section.title, "kind": section.kind, "number": section.number, "caption": section.caption}
    # Figures of results can be drawn again from their numbers.
    return {**about, "results": results} if results else {**about, "body": section.body.to_json()}


def _markdown_parts(document: Document, files: Files | None) -> Iterator[str]:
    yield f"# {plain_to_markdown(document.title)}"
    yield inline_to_markdown(document.subtitle)
    yield f"{document.created:%Y-%m-%d %H:%M} UTC, neuros-mechint report"
    if document.warnings:
        yield "## Warnings"
        yield "\n".join(
            f"- **{plain_to_markdown(one.place)}:** {plain_to_markdown(one.text)}" for one in document.warnings
        )
    numbers = document.numbers
    for section in document.sections:
        yield from _section_parts(section, numbers, files)
    if document.references:
        yield "## References"
        yield "\n".join(
            f"{number}. {plain_to_markdown(one.reference)} {f'<{one.link}>' if one.link else ''}".rstrip()
            for number, one in enumerate(document.references, start=1)
        )
        yield "```bibtex\n" + "\n\n".join(one.bibtex for one in document.references) + "\n```"


def _section_parts(section: Section, numbers: dict[str, int], files: Files | None) -> Iterator[str]:
    yield f"## {plain_to_markdown(section.title)}" if section.title else ""
    yield section.body.markdown(section.anchor, files)
    if section.number is not None:
        caption = inline_to_markdown(section.caption or section.title)
        yield f"**{section.kind.capitalize()} {section.number}.** {caption}"
    if section.problem:
        yield f"**Warning.** {plain_to_markdown(section.problem)}"
    for run, result in section.results.items():
        yield f"**{plain_to_markdown(run)}**" if run else ""
        yield from _result_parts(result, section.findings[run], numbers)


def _result_parts(result: Result, findings: list[tuple[str, str]], numbers: dict[str, int]) -> Iterator[str]:
    for text in dict.fromkeys(result.warnings):
        yield f"**Warning.** {plain_to_markdown(text)}"
    yield "\n".join(_item(name, value) for name, value in findings)
    if result.citations:
        yield "Method: " + ", ".join(f"\\[{numbers[key]}\\]" for key in result.citations)
    yield "Provenance:\n\n" + "\n".join(_item(name, value) for name, value in origin_of(result))


def _item(name: str, value: str) -> str:
    return f"- {plain_to_markdown(name)}: {plain_to_markdown(value)}" if name else f"- {plain_to_markdown(value)}"
