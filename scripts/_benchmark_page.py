"""The page of benchmark results, of what the benchmarks printed and of the record of earlier measurements."""

from __future__ import annotations

import ast
import html
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from record_benchmarks import BENCHMARKS, RECORDED, benchmarks

RESULTS = BENCHMARKS / "RESULTS.md"
INTRODUCTION = """\
*As printed* is what `scripts/record_benchmarks.py` kept of the last recorded runs; *Measured so far* is
`benchmarks/RESULTS.md`, entered from such runs when each method was finished. This page is made of both, and holds no
number of its own.

Every benchmark runs this library and a peer in one process, on the same task, and first checks that both give the same
answer. Ratios are the peer's time over ours: above 1 this library is faster."""
COLUMNS = ("benchmark", "size", "peer", "ratio", "same answer within")


def page() -> str:
    """Return the page."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDED.glob("*.json"))]
    parts = [
        "# Benchmarks",
        INTRODUCTION,
    ]
    if records:
        parts += ["## As printed", *(part for record in records for part in _recorded(record))]
    parts += ["## Measured so far", *_measured()]
    return "\n\n".join(parts) + "\n"


def _recorded(record: dict[str, Any]) -> Iterator[str]:
    """Yield one benchmark: what it is, where it ran, what it printed."""
    yield f"### {record['benchmark'].replace('_', ' ')}"
    script = benchmarks().get(record["benchmark"])
    if script:
        docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
        yield docstring.split("\n\n")[0]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    yield f"*{record['date']} · {record['machine']} · Python {record['python']} · {versions} · {record['seconds']} s*"
    for is_table, lines in itertools.groupby(record["output"], key=lambda line: line.startswith("|")):
        block = [line for line in lines if line.strip()]
        if block:
            yield _table(block) if is_table else f'<pre class="output">{html.escape(chr(10).join(block))}</pre>'


def _table(lines: list[str]) -> str:
    """Return printed rows as a table; a first row with a number in its second cell is no heading."""
    rows = [line for line in lines if not re.fullmatch(r"[|\s:-]+", line)]
    width = max(len(_cells(row)) for row in rows)
    first = _cells(rows[0])
    heading = first if not any(re.search(r"\d", cell) for cell in first[1:]) else [""] * width
    body = rows[1:] if heading is first else rows
    padded = [cells + [""] * (width - len(cells)) for cells in (heading, *map(_cells, body))]
    written = [f"| {' | '.join(cells)} |" for cells in padded]
    return "\n".join([written[0], "|---" * width + "|", *written[1:]])


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def _measured() -> Iterator[str]:
    """Yield the record of measurements, those of one day and machine under one heading, and its remarks."""
    _, *blocks = RESULTS.read_text(encoding="utf-8").split("\n\n")
    for block in blocks:
        if not block.startswith("| date | benchmark"):
            yield block.strip()
            continue
        heading, _, *rows = block.strip().splitlines()
        names = _cells(heading)
        entries = [dict(zip(names, _cells(row), strict=True)) for row in rows]
        for (date, machine), group in itertools.groupby(entries, key=lambda one: (one["date"], one[names[-1]])):
            rows = [f"| {' | '.join(entry[column] for column in COLUMNS)} |" for entry in group]
            yield f"**{date}** · {machine}"
            yield "\n".join([f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *rows])
