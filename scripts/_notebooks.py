"""Pages of the tutorials: a stored notebook as Markdown with its outputs, never run here."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "tutorials"
BADGE = re.compile(r"^\[!\[Open in Colab\]\([^)]*\)\]\((?P<address>[^)]*)\)$", flags=re.MULTILINE)
TITLE = re.compile(r"^# (.+)$", flags=re.MULTILINE)
TERMINAL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
STYLE = re.compile(r"<style.*?</style>", flags=re.DOTALL)
LONG_OUTPUT = 40  # lines


def notebooks() -> list[Path]:
    """Return the notebooks of the course in their order."""
    return sorted(TUTORIALS.glob("[0-9][0-9]_*.ipynb"))


def title(notebook: Path) -> str:
    """Return what the notebook calls itself."""
    found = TITLE.search("\n".join(_source(cell) for cell in _cells(notebook)))
    if found is None:
        raise ValueError(f"{notebook}: expected a line '# title' in one of its cells")
    return found[1]


def page(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its figures by the file name that the Markdown gives them."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for number, cell in enumerate(_cells(notebook)):
        if cell["cell_type"] == "markdown":
            parts.append(_prose(_source(cell), notebook))
            continue
        parts.append(_fenced(_source(cell), "python"))
        for output in cell.get("outputs", []):
            parts += _output(output, f"{notebook.stem}-{number}", figures)
    return "\n\n".join(part for part in parts if part) + "\n", figures


def _cells(notebook: Path) -> list[dict[str, Any]]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _prose(text: str, notebook: Path) -> str:
    """Return a cell of text; the badge, a picture from elsewhere, becomes words, and hidden solutions stay Markdown."""
    badge = BADGE.search(text)
    if badge:
        heading, _, rest = BADGE.sub("", text).strip().partition("\n")
        links = f"[Open in Colab]({badge['address']}) · `tutorials/{notebook.name}`, with its stored outputs"
        text = f"{heading}\n\n{links}\n{rest}"
    return text.replace("<details>", '<details markdown="1">')


def _output(output: dict[str, Any], name: str, figures: dict[str, bytes]) -> Iterator[str]:
    """Yield the Markdown of one output; figures are added to ``figures``."""
    if output["output_type"] == "stream":
        yield _text("".join(output["text"]))
        return
    data = output.get("data", {})
    if "image/png" in data:
        file = f"{name}-{len(figures)}.png"
        figures[file] = base64.b64decode("".join(data["image/png"]))
        yield f"![Figure drawn by the code above]({file})"
    elif "text/html" in data:
        yield f'<div class="output">{STYLE.sub("", "".join(data["text/html"])).strip()}</div>'
    elif "text/plain" in data:
        yield _text("".join(data["text/plain"]))


def _text(text: str) -> str:
    """Return printed text; long ones are folded."""
    text = TERMINAL.sub("", text).strip("\n")
    if not text.strip():
        return ""
    if text.count("\n") < LONG_OUTPUT:
        return f'<pre class="output">{html.escape(text)}</pre>'
    return f'<details><summary>Output</summary><pre class="output">{html.escape(text)}</pre></details>'


def _fenced(code: str, language: str) -> str:
    fence = "```" if "```" not in code else "````"
    return f"{fence}{language}\n{code}\n{fence}" if code.strip() else ""
