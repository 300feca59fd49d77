"""README's ten lines and the tour run as they stand, one after the other, and find what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.pages import anchor_of, code_of

ROOT = Path(__file__).resolve().parents[2]


def run_the_code_of(page: str, names: dict[str, Any]) -> dict[str, Any]:
    """Return the names that the Python blocks of a page leave, begun with some."""
    text, names = (ROOT / page).read_text(encoding="utf-8"), dict(names)
    exec(
        compile("\n".join(code_of(text)), f"<{page}>", "exec"), names
    )  # no file: nnsight parses those where it was imported
    return names


@pytest.fixture(scope="module")
def ten_lines() -> dict[str, Any]:
    """Names that README's ten lines leave."""
    return run_the_code_of("README.md", {})


def test_one_head_brings_part_of_the_answer_back(ten_lines):
    assert 0.1 < float(ten_lines["effects"].normalized().max()) <= 1.2


def test_the_tour_runs_and_its_autoencoder_knows_more_than_it_leaves_out(ten_lines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    means = run_the_code_of("docs/tour.md", ten_lines)["found"].data.mean("sample")
    error, features = (abs(float(means["baseline"] - means[name])) for name in ("without_error", "error_only"))
    assert error < features
    assert (tmp_path / "features.html").stat().st_size > 10_000
    assert (tmp_path / "effects.png").read_bytes()[1:4] == b"PNG"


def test_the_readme_leads_to_every_section_of_the_tour():
    readme, tour = ((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/tour.md"))
    headings = re.findall(r"^## (.+)$", tour, flags=re.MULTILINE)
    assert len(headings) == 10
    for heading in headings:
        assert f"docs/tour.md#{anchor_of(heading)})" in readme
