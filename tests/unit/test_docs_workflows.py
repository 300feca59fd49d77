"""The page of the four workflows: its commands and calls are those that exist, and it is two clicks from the README."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer.main

import neuros_mechint as nm
from neuros_mechint.cli import app
from neuros_mechint.workflows.understanding.prompts import WrittenPrompts, open_prompts
from tests.pages import anchor_of, code_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "workflows.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^neuros-mechint (\S+)(.*)$", PAGE, flags=re.MULTILINE)


def calls() -> Iterator[ast.Call]:
    """Calls of this package in the Python snippets."""
    for snippet in code_of(PAGE):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("nm."):
                yield node


@pytest.mark.parametrize(("command", "arguments"), COMMANDS)
def test_commands_exist_and_take_what_the_page_gives_them(command: str, arguments: str) -> None:
    known = typer.main.get_group(app).commands
    known[command].make_context(command, arguments.split())


def test_all_four_are_there_as_command_and_as_function() -> None:
    assert {command for command, _ in COMMANDS} == {
        "understand",
        "align",
        "train-bio",
        "dynamics",
        "reproduce",
        "report",
    }
    called = {ast.unparse(call.func) for call in calls()}
    assert {"nm.understand", "nm.align", "nm.biological_training", "nm.analyze_dynamics"} <= called


def test_calls_fit_the_signatures() -> None:
    for call in calls():
        function = getattr(nm, ast.unparse(call.func).removeprefix("nm."))
        inspect.signature(function).bind(*call.args, **{str(one.arg): one.value for one in call.keywords})


@pytest.mark.parametrize("heading", re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE)[:4])
def test_the_table_leads_to_each(heading: str) -> None:
    assert f"](#{anchor_of(heading)})" in PAGE


def test_the_file_of_prompts_is_one(tmp_path: Path) -> None:
    """Pairs of as many words that differ in one, which a model with a tokenizer takes, with answers of one token."""
    (block,) = re.findall(r"^```json.*?\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    path = tmp_path / "prompts.json"
    path.write_text(block, encoding="utf-8")
    written = open_prompts(path).value
    assert isinstance(written, WrittenPrompts)
    for pair in zip(written.clean, written.corrupted, written.correct, written.wrong, strict=True):
        clean, corrupted, correct, wrong = (text.split() for text in pair)
        assert [one for one, other in zip(clean, corrupted, strict=True) if one != other] == wrong
        assert [one for one in clean if clean.count(one) == 1 and one[0].isupper()][-1:] == correct
    known = sorted({word for text in written.clean + written.corrupted for word in text.split()})

    def tokenizer(texts: Any, **_: Any) -> dict[str, Any]:
        rows = [[known.index(word) for word in text.split()] for text in ([texts] if isinstance(texts, str) else texts)]
        return {"input_ids": rows[0] if isinstance(texts, str) else torch.tensor(rows)}

    def prepared(texts: Any, _: Any) -> list[Any]:
        return [SimpleNamespace(args=(), kwargs=tokenizer(texts))]

    pairs = written.of(SimpleNamespace(tokenizer=tokenizer, prepared=prepared))
    first, second = pairs.halves()
    assert len(first) == len(second)
    assert pairs.metric(torch.eye(len(known))[pairs.metric.correct][:, None].expand(-1, 13, -1)).tolist() == [1.0] * 4


def test_entries_of_the_file_of_prompts_are_told() -> None:
    for entry in ("clean", "corrupted", "correct", "wrong"):
        assert f"| `{entry}` |" in PAGE


def test_the_readme_leads_to_the_page() -> None:
    assert "](docs/workflows.md" in (ROOT / "README.md").read_text(encoding="utf-8")
