"""The pages of the documentation that scripts make: complete, linked, and with nothing typed that a file knows."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import _benchmark_page
import _markdown
import _notebooks
import _reference
import markdown
import pytest
import record_benchmarks
import status
import yaml
from record_benchmarks import benchmarks, versions

ROOT = Path(__file__).resolve().parents[2]
PIXEL = base64.b64encode(b"not really a picture").decode()


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    specification = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(hooks: ModuleType) -> dict[str, str]:
    return {page: text for page, text in hooks.pages().items() if isinstance(text, str)}


# -- the reference -------------------------------------------------------------------------------------------------


def test_every_public_name_stands_on_one_page_with_its_summary(pages: dict[str, str]) -> None:
    for name in _reference.public_names():
        directive = f"::: {name.path}\n"
        holding = [page for page, text in pages.items() if directive in text]
        assert holding == [_reference.places()[name.name].partition("#")[0]], name
        assert name.summary, name
        assert f"| [`{name.name}`](" in pages["reference/index.md"]


def test_rooms_have_pages_of_their_own(pages: dict[str, str]) -> None:
    assert _reference.places()["HiguchiFractalDimension"].startswith("reference/neuro/fractals.md#")
    assert _reference.places()["to_brian2"].startswith("reference/adapters/brian2.md#")
    assert _reference.places()["adapt"].startswith("reference/adapters/index.md#")
    assert all(len(names) <= 60 for names in _reference.rooms().values()), "a page that is slow to load: split the room"


def test_methods_are_joined_with_their_cards(pages: dict[str, str]) -> None:
    assert "[Mutual information](../../methods/mutual-information.md)" in pages["reference/neuro/information.md"]
    covered = {name for card in status.read_cards() for name in card.covers} & _reference.places().keys()
    links = sum(text.count("Method card, with") for page, text in pages.items() if page.startswith("reference/"))
    assert links == len(covered)


def test_what_methods_return_is_described_beside_them(pages: dict[str, str]) -> None:
    assert _reference.places()["FixedPoints"].startswith("reference/neuro/dynamics.md#")
    assert f"::: {_reference.PACKAGE}.causal.patching.effects.PatchingEffects\n" in pages["reference/causal/index.md"]
    shown = re.findall(r"^::: (\S+)$", "\n".join(pages.values()), flags=re.MULTILINE)
    assert len(shown) == len(set(shown))
    assert len(shown) > len(_reference.public_names()) + 50


def test_names_in_the_text_become_links(hooks: ModuleType) -> None:
    linked = "<p><code>CKA</code> <code>nm.CKA</code></p>"
    other = "<code>cka</code><pre><code>CKA</code></pre><h2><code>CKA</code></h2><a href='x'><code>CKA</code></a>"
    found = hooks.CODE.findall(linked + other)
    assert [name for _, _, name in found if name in _reference.places()] == ["CKA", "CKA"]


# -- navigation ----------------------------------------------------------------------------------------------------


def targets(entry: object) -> list[str]:
    """Pages in a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in targets(part)]  # type: ignore[union-attr]


def test_the_navigation_has_every_page_once(hooks: ModuleType, pages: dict[str, str]) -> None:
    listed = targets(hooks.navigation())
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted(pages.keys() | written)


def test_links_between_files_are_links_between_pages(pages: dict[str, str]) -> None:
    assert "](methods/cka.md)" in pages["status.md"]
    assert "](../adapters/support.md)" not in pages["adapters/index.md"]
    assert "](support.md)" in pages["adapters/index.md"]
    assert not [page for page, text in pages.items() if re.search(r"\]\([^)h]*\.ipynb\)", text)]


def test_links_of_written_pages_lead_somewhere(hooks: ModuleType) -> None:
    course = (ROOT / "tutorials" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.md"):
        source, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        for _, words, target in hooks.MARKDOWN_LINK.findall(text):
            on_the_map = f"({Path(target).name})" in course  # test_tutorials.py demands all that are
            assert on_the_map or (path.parent / target.partition("#")[0]).exists(), f"{source}: {words}"
        assert f"](../{'../' * source.count('/')}" not in hooks.relinked(text, source), "a link out of the site"


# -- tutorials -----------------------------------------------------------------------------------------------------


def notebook(folder: Path, *cells: dict) -> Path:
    path = folder / "01_example.ipynb"
    path.write_text(json.dumps({"cells": list(cells)}))
    return path


def test_a_notebook_becomes_a_page_with_its_outputs(tmp_path: Path) -> None:
    badge = "[![Open in Colab](https://example.org/badge.svg)](https://example.org/colab)\n\n# 01 · Title\n\nWords."
    outputs = [
        {"output_type": "stream", "text": ["a < b\n", "\x1b[31mred\x1b[0m\n"]},
        {"output_type": "display_data", "data": {"image/png": PIXEL, "text/plain": ["<Figure>"]}},
        {"output_type": "execute_result", "data": {"text/html": ["<style>p {}</style><table></table>"]}},
    ]
    hidden = "<details><summary>Solution</summary>\n\n**Yes.**\n</details>"
    path = notebook(
        tmp_path,
        {"cell_type": "markdown", "source": badge},
        {"cell_type": "code", "source": ["x = 1\n", "x"], "outputs": outputs},
        {"cell_type": "markdown", "source": hidden},
    )
    text, figures = _notebooks.page(path)
    assert text.startswith("# 01 · Title\n\n[Open in Colab](https://example.org/colab)")
    assert "```python\nx = 1\nx\n```" in text
    assert '<pre class="output">a &lt; b\nred</pre>' in text
    assert "<style" not in text
    assert "badge.svg" not in text
    (name,) = figures
    assert f"]({name})" in text
    assert figures[name] == b"not really a picture"
    assert "<strong>Yes.</strong>" in markdown.markdown(text, extensions=["md_in_html", "fenced_code"])
    assert _notebooks.title(path) == "01 · Title"


def test_a_notebook_without_a_title_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a line '# title'"):
        _notebooks.title(notebook(tmp_path, {"cell_type": "markdown", "source": "Words"}))


def test_all_tutorials_are_pages_and_on_the_map(pages: dict[str, str]) -> None:
    names = [path.stem for path in _notebooks.notebooks()]
    assert names
    for name in names:
        assert f"({name}.md)" in pages["tutorials/index.md"], f"add {name} to tutorials/README.md"
        assert pages[f"tutorials/{name}.md"].startswith("# ")


# -- mathematics and papers ----------------------------------------------------------------------------------------


def drawn(text: str) -> str:
    arithmatex = {"pymdownx.arithmatex": {"generic": True}}
    html = markdown.markdown(text, extensions=["pymdownx.arithmatex", _markdown.Pages()], extension_configs=arithmatex)
    return _markdown.with_mathml(html)


def test_mathematics_of_cards_and_of_docstrings_becomes_mathml() -> None:
    for text in ("The $x^2$.", "The :math:`x^2`."):
        assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"><mrow><msup>' in drawn(text)
    for text in ("$$\nx^2\n$$", ".. math:: x^2 +\n    y\n\nwith"):
        assert 'display="block"' in drawn(text)
    assert "with" in drawn(".. math:: x^2\n\nwith")
    assert "arithmatex" not in drawn("The $x < y$.")


def test_addresses_of_papers_become_links() -> None:
    html = drawn("Higuchi 1988 (doi:10.1016/0167-2789(88)90081-4), and doi:10.1234/a_b_c. `doi:10.1/x`")
    assert 'href="https://doi.org/10.1016/0167-2789(88)90081-4"' in html
    assert '<a href="https://doi.org/10.1234/a_b_c">doi:10.1234/a_b_c</a>.' in html
    assert html.count("<a ") == 2


# -- benchmarks ----------------------------------------------------------------------------------------------------


def test_every_measurement_is_on_the_page_with_its_machine(pages: dict[str, str]) -> None:
    history = _benchmark_page.RESULTS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d{4}-\d\d-\d\d \| (.+?) \| .* \| (.+) \|$", history, flags=re.MULTILINE)
    page = pages["benchmarks.md"]
    assert len(rows) > 50
    assert all(f"| {work} |" in page and machine in page for work, machine in rows)


def test_what_a_benchmark_printed_is_shown_with_date_machine_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"benchmark": "energy", "date": "2026-01-02", "machine": "x86_64, 2 cores, load 0", "python": "3.11.1",
              "versions": {"numpy": "2.0"}, "seconds": 7,
              "output": ["one thread", "| work | ratio |", "|---|---|", "| Ising | 5.2 |", "done <"]}  # fmt: skip
    (tmp_path / "energy.json").write_text(json.dumps(record))
    monkeypatch.setattr(_benchmark_page, "RECORDED", tmp_path)
    page = _benchmark_page.page()
    assert "### energy\n\nEnergy landscapes:" in page
    assert "*2026-01-02 · x86_64, 2 cores, load 0 · Python 3.11.1 · numpy 2.0 · 7 s*" in page
    assert "| work | ratio |\n|---|---|\n| Ising | 5.2 |" in page
    assert "done &lt;" in page


def test_versions_are_those_of_what_a_benchmark_imports() -> None:
    found = versions(benchmarks()["fractals"])
    assert {"torch", "numpy", "antropy", "nolds", "neuros-mechint"} <= set(found)
    assert "mkdocs" not in found


def test_without_names_benchmarks_that_lack_a_library_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench_here.py").write_text("import json\nprint('| ran |')")
    (tmp_path / "bench_there.py").write_text("import no_such_library, bench_here")
    monkeypatch.setattr(record_benchmarks, "BENCHMARKS", tmp_path)
    monkeypatch.setattr(record_benchmarks, "RECORDED", tmp_path / "recorded")
    monkeypatch.setattr("sys.argv", ["record_benchmarks.py"])
    assert record_benchmarks.main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "== here", "| ran |", "== there", "left out: not installed: no_such_library",
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "recorded").iterdir()] == ["here.json"]


# -- habits --------------------------------------------------------------------------------------------------------


def test_commit_hooks_need_no_network_and_name_what_exists() -> None:
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (local,) = configuration["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        assert hook["language"] in ("system", "pygrep"), hook["id"]
        missing = [
            path for path in re.findall(r"(?:scripts|tests)/\S+\.py", hook["entry"]) if not (ROOT / path).exists()
        ]
        assert not missing
