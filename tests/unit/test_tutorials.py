"""The ten notebooks are one course: each has the same parts, is stored as it ran, and names the papers it stands on."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import neuros_mechint as nm

TUTORIALS = Path(__file__).resolve().parents[2] / "tutorials"
NAMES = [
    "01_introduction_and_quickstart",
    "02_sparse_autoencoders",
    "03_causal_interventions",
    "04_fractal_analysis",
    "05_brain_alignment",
    "06_dynamical_systems",
    "07_circuit_extraction",
    "08_biophysical_modeling",
    "09_information_theory",
    "10_advanced_topics",
]
FOUNDING = {
    "02": ["Towards Monosemanticity"],
    "03": ["A Mathematical Framework for Transformer Circuits"],
    "04": ["Higuchi 1988", "Peng et al. 1994"],
    "05": ["Kriegeskorte, Mur & Bandettini 2008", "Hotelling 1936"],
    "06": ["Sussillo & Barak 2013"],
    "07": ["Langdon & Engel 2025"],
    "08": ["Izhikevich 2003", "Hodgkin & Huxley 1952"],
    "09": ["Tishby & Zaslavsky 2015"],
}


LONGEST_CELL = 40


@cache
def cells(name: str) -> list[dict[str, Any]]:
    return json.loads((TUTORIALS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def text_of(name: str, kind: str) -> str:
    return "\n\n".join("".join(cell["source"]) for cell in cells(name) if cell["cell_type"] == kind)


def without_magic(code: str) -> str:
    """Code as Python reads it: without what only notebooks know."""
    return re.sub(r"^(\s*)%\w.*$", r"\1pass", code, flags=re.MULTILINE)


def not_public(code: str) -> list[str]:
    """What code takes from the package by another way than ``import neuros_mechint as nm`` and ``nm.NAME``."""
    found = []
    for node in ast.walk(ast.parse(without_magic(code))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("neuros_mechint.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "neuros_mechint":
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found + names_unknown(code)


def names_unknown(text: str) -> list[str]:
    """The ``nm.NAME``, and ``nm.errors.NAME``, in code or prose that do not exist."""
    used = set(re.findall(r"\bnm\.(\w+)", text)) - {"__version__"}
    errors = set(re.findall(r"\bnm\.errors\.(\w+)", text))
    return sorted(used - set(dir(nm))) + sorted(name for name in errors if not hasattr(nm.errors, name))


def test_all_ten_are_there() -> None:
    assert sorted(path.stem for path in TUTORIALS.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_has_the_parts_of_the_course(name: str) -> None:
    prose = text_of(name, "markdown")
    for part in ("**What you will be able to do", "**You need**", "**Time**", "## Why", "$$", "## Exercises"):
        assert part in prose, part
    assert "real case" in prose
    assert "<details><summary>Solution" in prose
    assert "change me" in text_of(name, "code")
    assert "## Change the code" in prose


@pytest.mark.parametrize("name", NAMES)
def test_what_the_text_states_is_asserted_and_drawn(name: str) -> None:
    assert len(re.findall(r"^\s*assert ", text_of(name, "code"), re.MULTILINE)) >= 10
    outputs = [output for cell in cells(name) if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert not any(output["output_type"] == "error" for output in outputs)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_printed_in_one_go_is_one_text(name: str) -> None:
    """How it came in pieces depends on how busy the machine was: two runs would not be the same file."""
    for cell in cells(name):
        streams = [output.get("name") for output in cell.get("outputs", ())]
        assert not any(one is not None and one == other for one, other in pairwise(streams))


@pytest.mark.parametrize("name", NAMES)
def test_papers_are_named_and_can_be_opened(name: str) -> None:
    references = text_of(name, "markdown").rpartition("## References")[2]
    assert "](https://doi.org/10." in references
    assert not re.search(r"(?<![\[/.])(doi:10\.|arXiv:)", references)
    for paper in FOUNDING.get(name[:2], []):
        assert paper in references


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_uses_nothing_but_public_names(name: str) -> None:
    code = text_of(name, "code")
    assert "import neuros_mechint as nm\n" in code
    assert not_public(code) == []
    assert names_unknown(text_of(name, "markdown")) == []


@pytest.mark.parametrize(
    "code",
    [
        "from neuros_mechint.core.statistics.bootstrap import interval_warning",
        "import neuros_mechint.datasets.event_trains as event_trains",
        "try:\n    import neuros_mechint\nexcept ImportError:\n    %pip install it\nfrom neuros_mechint import adapt",
        "nm.interval_warning(4)",
        "nm.errors.NoSuchError",
    ],
)
def test_what_is_not_public_is_noticed(code: str) -> None:
    assert len(not_public(code)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_takes_in_a_cell_at_once(name: str) -> None:
    lengths = {place: len(cell["source"]) for place, cell in enumerate(cells(name)) if cell["cell_type"] == "code"}
    assert {place: lines for place, lines in lengths.items() if lines > LONGEST_CELL} == {}


@pytest.mark.parametrize("name", NAMES)
def test_all_figures_have_the_look_of_the_package(name: str) -> None:
    code = text_of(name, "code")
    assert "nm.use_style()" in code
    assert not re.findall(r"plt\.rc\w*", code)


def test_the_first_has_a_glossary() -> None:
    glossary = text_of(NAMES[0], "markdown").partition("## Glossary")[2]
    for term in ("site", "patching", "circuit", "noise ceiling", "fixed point", "Dale's law", "nat", "null"):
        assert f"**{term}**" in glossary
